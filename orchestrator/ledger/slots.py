"""The states of a slot: one list of what can have become of a place in a catalog, and what each means for the rest.

A slot is a place in a catalog: a track's key and a take number. What the ledger knows of a take (how far its work has
come, whether its catalog still plans it, what listeners decided) gives the state of the slot as far as that take is
concerned. What follows from a state stands in its row of `STATES`: whether the catalog lists the track, and as what
the books count the time that rendered it. A new state is a new row, and reports follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select

from orchestrator.ledger.observations import Category
from orchestrator.ledger.tables import TAKE
from orchestrator.ledger.verdicts import is_kept

_UNDER_WAY: Final = frozenset({"waiting", "sent"})


class SlotState(StrEnum):
    """The state of a slot, as its take tells."""

    WANTED = "wanted"
    MISSING = "missing"
    KEPT = "kept"
    SPARE = "spare"
    REJECTED = "rejected"
    REPLACED = "replaced"
    RETIRED = "retired"
    REPAIRED = "repaired"


class StateRule(NamedTuple):
    """The meaning and the consequences of a slot's state."""

    meaning: str
    category: Category | None  # of the time that rendered the take; None: no rendition of it counts
    is_listed: bool = False  # the catalog has the track: on lists, in exports, on air


STATES: Final[Mapping[SlotState, StateRule]] = MappingProxyType(
    {
        SlotState.WANTED: StateRule("its take waits or is being rendered", None),
        SlotState.MISSING: StateRule("its take failed or was cancelled, and none is on its way", None),
        SlotState.KEPT: StateRule("its track is in the catalog", Category.ACCEPTED, is_listed=True),
        SlotState.SPARE: StateRule("its take is sound, and others were chosen before it", Category.ACCEPTED),
        SlotState.REJECTED: StateRule("its take failed the checks, or a listener refused it", Category.REJECTED),
        # These were on air once: replacing a track does not make the money for it a waste.
        SlotState.REPLACED: StateRule("another take has the place", Category.ACCEPTED),
        SlotState.RETIRED: StateRule("the catalog no longer plans the place", Category.ACCEPTED),
        SlotState.REPAIRED: StateRule("a mended version of the take has the place", Category.ACCEPTED),
    }
)


class TakeFacts(NamedTuple):
    """The facts about a take that decide the state of its slot."""

    work: str  # how far the take has come: a state of the table `take`
    is_current: bool = True  # the catalog's last plan has this take in the slot
    is_planned: bool = True  # the catalog's last plan has the slot at all
    is_refused: bool = False  # the newest verdict of a listener rejects its rendition
    is_chosen: bool = True  # False: the slot has more sound takes than it keeps, and this is none of those
    is_mended: bool = False  # the take that has its place now was made from this one


class KnownTake(NamedTuple):
    """The take that the ledger has in a slot."""

    take_id: str
    state: str  # of its work
    model: str = ""
    is_refused: bool = False

    @property
    def is_listed(self) -> bool:
        """True when the catalog has the track."""
        return STATES[state_of(TakeFacts(self.state, is_refused=self.is_refused))].is_listed


def known_takes(connection: Connection, catalog: str) -> dict[tuple[str, int], KnownTake]:
    """(track key, take number) -> the current take of the slot."""
    columns = (TAKE.c.track_key, TAKE.c.number, TAKE.c.take_id, TAKE.c.state, TAKE.c.model)
    query = select(*columns, is_kept(TAKE.c.rendition_id)).where(TAKE.c.catalog == catalog, TAKE.c.current)
    return {
        (key, number): KnownTake(take_id, state, model, is_refused=kept is not None and not kept)
        for key, number, take_id, state, model, kept in connection.execute(query)
    }


def takes_by_cell(connection: Connection) -> dict[str, dict[tuple[str, str], int]]:
    """Catalog -> zone and genre -> the number of its takes now."""
    place = (TAKE.c.catalog, TAKE.c.zone, TAKE.c.genre)
    found: dict[str, dict[tuple[str, str], int]] = {}
    for catalog, zone, genre, takes in connection.execute(
        select(*place, func.count()).where(TAKE.c.current).group_by(*place)
    ):
        found.setdefault(catalog, {})[zone, genre] = takes
    return found


def shelved_takes(connection: Connection, catalog: str) -> dict[str, str]:
    """Take id -> state of work of the takes that the catalog had and has changed or dropped since."""
    query = select(TAKE.c.take_id, TAKE.c.state).where(TAKE.c.catalog == catalog, ~TAKE.c.current)
    return dict(connection.execute(query).all())


def state_of(take: TakeFacts) -> SlotState:
    """The state of the slot as far as this take is concerned."""
    if take.work == "rejected" or (take.work == "accepted" and take.is_refused):
        return SlotState.REJECTED
    if not take.is_current:
        if not take.is_planned:
            return SlotState.RETIRED
        return SlotState.REPAIRED if take.is_mended else SlotState.REPLACED
    if take.work in _UNDER_WAY:
        return SlotState.WANTED
    if take.work != "accepted":
        return SlotState.MISSING
    return SlotState.KEPT if take.is_chosen else SlotState.SPARE


def category_of(state: SlotState) -> Category:
    """The category of an accepted rendition's time while its slot is in `state`."""
    return STATES[state].category or Category.LOST


def is_listed() -> ColumnElement[bool]:
    """Of a take's row: its catalog has the track. The same in SQL as `state_of` being a state that is listed."""
    return and_(TAKE.c.current, TAKE.c.state == "accepted", is_kept(TAKE.c.rendition_id))
