"""Duplicates: takes of one catalog that sound alike, and what follows from that for the later one.

A pair counts while its catalog lists both tracks. Where the run of the later take asks for it, that take is rejected
and its place passes to another one; the earlier take stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, update

from catalog.track import Take
from catalog.verdicts import Verdict
from orchestrator.ledger import plans
from orchestrator.ledger.choice import note_changed
from orchestrator.ledger.slots import is_listed
from orchestrator.ledger.tables import CHROMA, DUPLICATE, RENDITION, TAKE, RenditionRow, RunRow
from orchestrator.ledger.verdicts import asks_again, decide, record_verdicts

_LATER, _EARLIER = RENDITION.alias("later"), RENDITION.alias("earlier")
_ROWS_AT_ONCE = 500


class DuplicatePair(NamedTuple):
    """Two tracks that a catalog lists and that sound alike."""

    later: Take
    earlier: Take
    share: float  # of their codes that both have
    bit_error_rate: float  # at the best shift in time


class RunDuplicates(NamedTuple):
    """The takes of a run that sound like an earlier one."""

    listed: int = 0  # its catalog lists both
    rejected: int = 0  # another is made in its place


class Uncompared(NamedTuple):
    """A rendition without codes, and the audio that they can be computed from."""

    record_id: str
    take_id: str
    audio_key: str
    sha256: str


def listed_pairs(connection: Connection, catalog: str) -> list[DuplicatePair]:
    """The pairs of a catalog, most alike first."""
    later, earlier = TAKE.alias("later_take"), TAKE.alias("earlier_take")
    query = (
        _both_listed(select(later.c.message, earlier.c.message, DUPLICATE.c.share, DUPLICATE.c.bit_error_rate), catalog)
        .join(later, later.c.take_id == _LATER.c.take_id)
        .join(earlier, earlier.c.take_id == _EARLIER.c.take_id)
        .order_by(DUPLICATE.c.bit_error_rate, DUPLICATE.c.share.desc(), later.c.take_id, earlier.c.take_id)
    )
    return [
        DuplicatePair(Take.model_validate(message), Take.model_validate(other), share, rate)
        for message, other, share, rate in connection.execute(query)
    ]


def same_sounding(connection: Connection, catalog: str) -> dict[str, list[str]]:
    """Id of a listed take -> the ids of the earlier ones that it sounds like."""
    query = _both_listed(select(_LATER.c.take_id, _EARLIER.c.take_id), catalog)
    found: dict[str, list[str]] = {}
    for take_id, earlier_id in connection.execute(query.order_by(_EARLIER.c.created_at_ms, _EARLIER.c.take_id)):
        found.setdefault(take_id, []).append(earlier_id)
    return found


def count_of_run(connection: Connection, run: RunRow) -> RunDuplicates:
    """The takes of a run that sound like an earlier one of its catalog."""
    ours = select(TAKE.c.rendition_id).where(TAKE.c.run_id == run.run_id)
    listed = _both_listed(select(func.count(DUPLICATE.c.later_id.distinct())), run.catalog)
    rejected = select(func.count(DUPLICATE.c.later_id.distinct())).where(asks_again(DUPLICATE.c.later_id))
    queries = (query.where(DUPLICATE.c.later_id.in_(ours)) for query in (listed, rejected))
    return RunDuplicates(*(int(connection.execute(query).scalar_one()) for query in queries))


def uncompared(connection: Connection, catalog: str) -> list[Uncompared]:
    """The listed renditions of a catalog whose sound is not known: their workers computed no codes."""
    query = select(RENDITION.c.record_id, RENDITION.c.take_id, RENDITION.c.audio_key, RENDITION.c.sha256)
    query = query.join(TAKE, TAKE.c.rendition_id == RENDITION.c.record_id)
    query = query.outerjoin(CHROMA, CHROMA.c.record_id == RENDITION.c.record_id)
    # Noise by design sounds alike whatever the take.
    query = query.where(TAKE.c.catalog == catalog, is_listed(), ~RENDITION.c.noise, CHROMA.c.record_id.is_(None))
    return [Uncompared(*row) for row in connection.execute(query.order_by(RENDITION.c.take_id))]


def decide_due(connection: Connection, at_ms: int) -> list[Verdict]:
    """The verdicts that reject the later takes of due pairs, so that each is made again. Nothing is written."""
    due = _both_listed(select(_LATER.c.record_id, _EARLIER.c.record_id, _EARLIER.c.take_id))
    due = due.where(DUPLICATE.c.is_due).order_by(_LATER.c.created_at_ms, _LATER.c.record_id, _EARLIER.c.created_at_ms)
    same_as: dict[str, str] = {}  # record id of a rejected rendition -> the take that it sounds like
    for later_id, earlier_id, take_id in connection.execute(due):
        if earlier_id not in same_as:  # that one leaves the catalog itself
            same_as.setdefault(later_id, take_id)
    verdicts: list[Verdict] = []
    for rendition in _renditions(connection, sorted(same_as)):
        reason = f"same as take {same_as[rendition.record_id]}"
        verdicts += decide(connection, [rendition], "rejected", reason, at_ms, again=True)
    return verdicts


def settle_due(connection: Connection, verdicts: Sequence[Verdict]) -> None:
    """Record what was decided of all due pairs; the places of the rejected takes pass on."""
    record_verdicts(connection, verdicts)
    plans.pass_places_on(connection, [each.take_id for each in verdicts])
    note_changed(connection, [each.take_id for each in verdicts])  # a spare take may have the place
    connection.execute(update(DUPLICATE).where(DUPLICATE.c.is_due).values(is_due=False))


def is_rejection_due(connection: Connection) -> bool:
    """True when the later take of some pair is to be rejected."""
    return connection.execute(select(DUPLICATE.c.later_id).where(DUPLICATE.c.is_due).limit(1)).first() is not None


def _both_listed(query: Select[Any], catalog: str | None = None) -> Select[Any]:
    """`query` over the pairs of which both renditions are listed; of one catalog, or of all."""
    of_catalog: list[ColumnElement[bool]] = [] if catalog is None else [TAKE.c.catalog == catalog]
    listed = select(TAKE.c.rendition_id).where(is_listed(), *of_catalog)
    both = and_(DUPLICATE.c.later_id.in_(listed), DUPLICATE.c.earlier_id.in_(listed))
    return (
        query.select_from(DUPLICATE)
        .join(_LATER, _LATER.c.record_id == DUPLICATE.c.later_id)
        .join(_EARLIER, _EARLIER.c.record_id == DUPLICATE.c.earlier_id)
        .where(both)
    )


def _renditions(connection: Connection, record_ids: Sequence[str]) -> list[RenditionRow]:
    columns = [column for column in RENDITION.c if column is not RENDITION.c.sidecar]
    found: list[RenditionRow] = []
    for at in range(0, len(record_ids), _ROWS_AT_ONCE):
        query = select(*columns).where(RENDITION.c.record_id.in_(record_ids[at : at + _ROWS_AT_ONCE]))
        found += [RenditionRow(**row, sidecar={}) for row in connection.execute(query).mappings()]
    return found
