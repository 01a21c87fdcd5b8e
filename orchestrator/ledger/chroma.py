"""Comparing renditions: each one is held against the others of its catalog, to find those that sound alike.

A rendition is compared once, some time after it was recorded. An index holds a fixed choice of its codes, so the
renditions that have several of them in common are found without a look at the others; only those are compared whole.
A code that many renditions share, such as that of a drone, tells nothing and is not indexed further. All that one call
finds is written in one transaction, so the same pairs are found whatever was interrupted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, func, literal_column, select, update

from catalog.chroma import ChromaCodes, unpack_codes
from catalog.seeds import stable_hash
from catalog.sidecar import Sidecar
from orchestrator.ledger.bulk import chunks, insert_new, insert_rows
from orchestrator.ledger.tables import (
    CHROMA,
    CHROMA_CODE,
    RENDITION,
    RUN,
    TAKE,
    ChromaRow,
    DuplicateRow,
)

AT_ONCE: Final = 100  # renditions in one transaction: a fifth of a second
_INDEXED: Final = 48  # codes of each; copies of real pieces had 5 and more of these in common, shifts of 5 s included
_SCATTER: Final = 0x9E3779B1  # odd, so that no two codes become one (Knuth, volume 3, section 6.4)
_COMMON_LEAST: Final = 2
_HOLDERS_MAX: Final = 64  # of one code
_COMPARED_MAX: Final = 20  # renditions that one is compared with whole: those with most codes in common
# Takes of one track follow one prompt, and an engine may give them the same chords at the same tempo.
_SIBLINGS_BIT_ERROR_RATE_MAX: Final = 0.03

_IS_DUE: Final = CHROMA.c.state == literal_column("'due'")  # as its index says it
_FACTS: Final = (
    *(CHROMA.c.chroma_id, CHROMA.c.record_id, TAKE.c.catalog, TAKE.c.track_key, TAKE.c.number),
    *(RENDITION.c.created_at_ms, RUN.c.duplicates),
    func.coalesce(CHROMA.c.codes, RENDITION.c.sidecar["chroma"].as_string()).label("packed"),
)


class _Rendition(NamedTuple):
    """A rendition with what it is compared by."""

    chroma_id: int
    record_id: str
    catalog: str
    track_key: str
    number: int
    created_at_ms: int
    policy: str  # of the run of its take
    codes: ChromaCodes | None  # None: there is nothing to compare

    @property
    def index_keys(self) -> list[int]:
        """The codes that are indexed, scattered so that a fixed choice of them is the lowest ones of each rendition.

        The hash of the catalog stands in the higher half, and the whole is below 2**63.
        """
        if self.codes is None:
            return []
        scattered = [code * _SCATTER & 0xFFFFFFFF for code in self.codes.distinct]
        high = stable_hash(self.catalog) >> 33 << 32
        return [high | low for low in nsmallest(_INDEXED, scattered)]


def note_renditions(connection: Connection, sidecars: Iterable[tuple[str, Sidecar]]) -> None:
    """Let the renditions be compared that have codes; each comes with its record id."""
    insert_new(connection, ChromaRow, [{"record_id": record_id} for record_id, each in sidecars if each.chroma])


def note_codes(connection: Connection, codes: Iterable[tuple[str, str]]) -> None:
    """Let renditions be compared whose codes were computed later: record id and codes of each."""
    insert_new(connection, ChromaRow, [{"record_id": record_id, "codes": packed} for record_id, packed in codes])


def take_up(connection: Connection, catalog: str) -> None:
    """Let the renditions of `catalog` be compared that were left out by its choice."""
    ours = select(RENDITION.c.record_id).join(TAKE, TAKE.c.take_id == RENDITION.c.take_id)
    left = CHROMA.c.record_id.in_(ours.where(TAKE.c.catalog == catalog)) & (CHROMA.c.state == "left")
    connection.execute(update(CHROMA).where(left).values(state="due"))


def is_comparison_due(connection: Connection) -> bool:
    """True when some rendition is to be compared."""
    return connection.execute(_query(CHROMA.c.chroma_id).where(_IS_DUE).limit(1)).first() is not None


def compare_due(connection: Connection, *, asked_for: str = "") -> int:
    """Compare up to `AT_ONCE` of the renditions that are due, in the order they were recorded; returns their number.

    Those of a run without a check for duplicates are left out, unless somebody has asked for their catalog.
    """
    due = _read(connection, _query(*_FACTS).where(_IS_DUE).order_by(CHROMA.c.chroma_id).limit(AT_ONCE))
    compared = [each for each in due if each.policy != "off" or each.catalog == asked_for]
    _set_state(connection, [each for each in due if each.policy == "off"], "left")
    _set_state(connection, compared, "compared")
    pairs = _candidates(connection, compared)
    found = {each.chroma_id: each for each in compared}
    others = sorted({chroma_id for pair in pairs for chroma_id in pair} - found.keys())
    for at in range(0, len(others), AT_ONCE):
        ours = CHROMA.c.chroma_id.in_(others[at : at + AT_ONCE])
        found |= {each.chroma_id: each for each in _read(connection, _query(*_FACTS).where(ours))}
    rows = [row for one, other in pairs if (row := _duplicate(found[one], found[other])) is not None]
    insert_new(connection, DuplicateRow, rows)
    return len(due)


def _query(*columns: Any) -> Select[Any]:
    return (
        select(*columns)
        .select_from(CHROMA)
        .join(RENDITION, RENDITION.c.record_id == CHROMA.c.record_id)
        .join(TAKE, TAKE.c.take_id == RENDITION.c.take_id)
        .join(RUN, RUN.c.run_id == TAKE.c.run_id)
    )


def _read(connection: Connection, query: Select[Any]) -> list[_Rendition]:
    return [
        _Rendition(
            *(row.chroma_id, row.record_id, row.catalog, row.track_key, row.number),
            created_at_ms=row.created_at_ms,
            policy=row.duplicates,
            codes=unpack_codes(row.packed or ""),
        )
        for row in connection.execute(query)
    ]


def _set_state(connection: Connection, renditions: Sequence[_Rendition], state: str) -> None:
    ours = CHROMA.c.chroma_id.in_([each.chroma_id for each in renditions])
    connection.execute(update(CHROMA).where(ours).values(state=state))


def _candidates(connection: Connection, fresh: Sequence[_Rendition]) -> list[tuple[int, int]]:
    """Pairs of a rendition of `fresh` and an earlier one that have indexed codes in common; indexes `fresh` as well."""
    keys = {each.chroma_id: each.index_keys for each in fresh}
    holders = _holders(connection, sorted({key for of_one in keys.values() for key in of_one}))
    pairs: list[tuple[int, int]] = []
    rows: list[tuple[int, int]] = []
    for chroma_id, of_one in keys.items():
        in_common = Counter(other for key in of_one for other in holders.get(key, ()))
        pairs += [(chroma_id, other) for other, count in in_common.most_common(_COMPARED_MAX) if count >= _COMMON_LEAST]
        for key in of_one:
            there = holders.setdefault(key, [])
            if len(there) < _HOLDERS_MAX:
                there.append(chroma_id)
                rows.append((key, chroma_id))
    insert_rows(connection, CHROMA_CODE, ["code", "chroma_id"], rows)
    return pairs


def _holders(connection: Connection, keys: list[int]) -> dict[int, list[int]]:
    """Index key -> the renditions that have it."""
    found: dict[int, list[int]] = {}
    for chunk in chunks(keys):
        query = select(CHROMA_CODE.c.code, CHROMA_CODE.c.chroma_id).where(CHROMA_CODE.c.code.in_(chunk))
        for key, chroma_id in connection.execute(query):
            found.setdefault(key, []).append(chroma_id)
    return found


def _duplicate(one: _Rendition, other: _Rendition) -> dict[str, Any] | None:
    """The row of two renditions of different places that sound alike; None for others."""
    if one.catalog != other.catalog or one.codes is None or other.codes is None:
        return None
    is_sibling = one.track_key == other.track_key
    if is_sibling and one.number == other.number:
        return None  # two versions of one take, of which the catalog lists one
    likeness = one.codes.likeness(other.codes)
    if not likeness.is_same or (is_sibling and likeness.bit_error_rate > _SIBLINGS_BIT_ERROR_RATE_MAX):
        return None
    earlier, later = sorted((one, other), key=lambda each: (each.created_at_ms, each.record_id))
    return {
        "later_id": later.record_id,
        "earlier_id": earlier.record_id,
        **likeness._asdict(),
        "is_due": later.policy == "reroll",
    }
