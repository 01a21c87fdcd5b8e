"""Verdicts in the ledger: the decisions on finished tracks; the newest one on a track counts.

A rejected track stays in the store and in the ledger, is no longer listed in its catalog, and its cost counts as waste.
The same seed would sound the same again, so the take is not rendered anew. A spare take is sound, but its catalog keeps
fewer takes of the track, and others were chosen. The store keeps a copy of each verdict (`catalog.verdicts`), from
which a rebuilt ledger gets its verdicts back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, tuple_

from catalog.verdicts import Verdict, VerdictOutcome
from orchestrator.ledger.machines import mark_makers_unposted
from orchestrator.ledger.tables import RENDITION, TAKE, VERDICT, RenditionRow

_AT_ONCE: Final = 400  # two parameters each; SQLite's oldest limit is 999
_WORD: Final = (VERDICT.c.outcome, VERDICT.c.at_ms, VERDICT.c.again, VERDICT.c.spare, VERDICT.c.picked)
_REJECTS: Final = VERDICT.c.outcome == "rejected"


class Word(NamedTuple):
    """The newest word on a rendition."""

    outcome: str = "accepted"
    at_ms: int = 0
    again: bool = False  # another take is asked for
    spare: bool = False  # others of its track were chosen before it
    picked: bool = False  # a listener has chosen it


def decide(
    connection: Connection,
    renditions: Sequence[RenditionRow],
    outcome: VerdictOutcome,
    reason: str,
    at_ms: int,
    *,
    again: bool = False,
    picked: bool = False,
) -> list[Verdict]:
    """The verdicts that change something: of renditions that do not stand at `outcome` already. Nothing is written.

    With `again` a rejection asks for another take, also one of a rendition that was rejected before without that. With
    `picked` an accepted take is chosen before the others of its track.
    """
    standing = read_standing(connection, [each.record_id for each in renditions])
    catalogs = _catalogs(connection, [each.take_id for each in renditions])
    decided = []
    for each in renditions:
        before = standing.get(each.record_id, Word())
        if before.outcome != outcome or (again and not before.again) or (picked and not before.picked):
            decided.append(
                Verdict(
                    catalog=catalogs[each.take_id],
                    take_id=each.take_id,
                    audio_sha256=each.sha256,
                    outcome=outcome,
                    reason=reason,
                    at_ms=max(at_ms, before.at_ms + 1),  # a clock that was set back does not make it the older one
                    again=again,
                    picked=picked,
                )
            )
    return decided


def record_verdicts(connection: Connection, verdicts: Iterable[Verdict]) -> int:
    """Write the verdicts that are newer than the ledger's for their rendition, and return their number.

    A verdict on a rendition that the ledger does not have is left out. Writing the same verdicts again changes nothing.
    """
    recorded = 0
    ordered = sorted(verdicts, key=lambda each: (each.at_ms, each.key))
    for at in range(0, len(ordered), _AT_ONCE):
        chunk = ordered[at : at + _AT_ONCE]
        named = _record_ids(connection, {each.rendition for each in chunk})
        standing = read_standing(connection, list(named.values()))
        rows: list[dict[str, Any]] = []
        for each in chunk:
            record_id = named.get(each.rendition)
            if record_id is None or each.at_ms <= standing.get(record_id, Word(at_ms=-1)).at_ms:
                continue
            said = Word(each.outcome, each.at_ms, each.again, each.spare, each.picked)
            standing[record_id] = said
            rows.append({"record_id": record_id, "take_id": each.take_id, "reason": each.reason, **said._asdict()})
        if rows:
            connection.execute(insert(VERDICT), rows)
            mark_makers_unposted(connection, [row["take_id"] for row in rows])
        recorded += len(rows)
    return recorded


def read_verdicts(connection: Connection, catalog: str) -> list[Verdict]:
    """Every verdict about a catalog's takes, as the store should have it."""
    columns = (VERDICT.c.outcome, VERDICT.c.reason, *_WORD[1:])
    query = (
        select(VERDICT.c.take_id, RENDITION.c.sha256, *columns)
        .join(RENDITION, RENDITION.c.record_id == VERDICT.c.record_id)
        .join(TAKE, TAKE.c.take_id == VERDICT.c.take_id)
        .where(TAKE.c.catalog == catalog)
        .order_by(VERDICT.c.verdict_id)
    )
    return [
        Verdict(catalog=catalog, audio_sha256=row.pop("sha256"), **row)
        for row in map(dict, connection.execute(query).mappings())
    ]


def unrecorded(connection: Connection, catalog: str, verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts of a catalog that the ledger lacks and that are newer than its own on the same rendition."""
    newest = {each.rendition: each.at_ms for each in read_verdicts(connection, catalog)}
    ahead = [each for each in verdicts if each.at_ms > newest.get(each.rendition, -1)]
    known: set[tuple[str, str]] = set()
    for at in range(0, len(ahead), _AT_ONCE):
        known |= _record_ids(connection, {each.rendition for each in ahead[at : at + _AT_ONCE]}).keys()
    return [each for each in ahead if each.rendition in known]


def is_kept(record_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """SQL condition on a rendition: its newest verdict neither rejects it nor makes it spare."""
    return record_id.not_in(select(VERDICT.c.record_id).where(_is_newest(), or_(_REJECTS, VERDICT.c.spare)))


def is_made_spare(record_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Of a rendition: it is sound, and others of its track were chosen before it."""
    return record_id.in_(select(VERDICT.c.record_id).where(_is_newest(), VERDICT.c.spare))


def asks_again(record_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Of a rendition: a listener has rejected it and asks for another take in its place."""
    return record_id.in_(select(VERDICT.c.record_id).where(_is_newest(), _REJECTS, VERDICT.c.again))


def _is_newest() -> ColumnElement[bool]:
    """Of a verdict: it is the newest on its rendition."""
    return VERDICT.c.verdict_id.in_(select(func.max(VERDICT.c.verdict_id)).group_by(VERDICT.c.record_id))


def _record_ids(connection: Connection, renditions: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The ledger's ids of renditions; of several rows of one sound that which counts for its take."""
    query = (
        select(RENDITION.c.take_id, RENDITION.c.sha256, RENDITION.c.record_id)
        .outerjoin(TAKE, TAKE.c.rendition_id == RENDITION.c.record_id)
        .where(tuple_(RENDITION.c.take_id, RENDITION.c.sha256).in_(sorted(renditions)))
        .order_by(TAKE.c.take_id.is_not(None), RENDITION.c.record_id)
    )
    return {(take_id, sha256): record_id for take_id, sha256, record_id in connection.execute(query)}


def _catalogs(connection: Connection, take_ids: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at in range(0, len(take_ids), _AT_ONCE):
        query = select(TAKE.c.take_id, TAKE.c.catalog).where(TAKE.c.take_id.in_(take_ids[at : at + _AT_ONCE]))
        found |= {row.take_id: row.catalog for row in connection.execute(query)}
    return found


def read_standing(connection: Connection, record_ids: Sequence[str]) -> dict[str, Word]:
    """The newest word on each rendition that there is one on."""
    found: dict[str, Word] = {}
    for at in range(0, len(record_ids), _AT_ONCE):
        query = select(VERDICT.c.record_id, *_WORD)
        query = query.where(VERDICT.c.record_id.in_(record_ids[at : at + _AT_ONCE])).order_by(VERDICT.c.verdict_id)
        found |= {record_id: Word(*said) for record_id, *said in connection.execute(query)}
    return found
