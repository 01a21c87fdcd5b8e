"""The states of a slot: the list of all states that a place in a catalog can have, and the consequences of each.

A slot is a place in a catalog: a track's key and a take number. The state of a slot follows from the ledger's facts
about its take: how far the work has come, whether the catalog still plans the take, and what listeners decided. Each
row of `STATES` says whether the catalog lists the track, and under which category the books count the time that
rendered it. A new state is a new row, and reports show it without a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from catalog.track import Take
from orchestrator.ledger.bulk import chunks
from orchestrator.ledger.due import Refused, Slot
from orchestrator.ledger.observations import Category
from orchestrator.ledger.tables import ATTEMPT, TAKE
from orchestrator.ledger.verdicts import asks_again, is_kept, is_made_spare

DONE: Final = frozenset({"accepted", "rejected"})  # rendering again would only say the same
_UNDER_WAY: Final = frozenset({"waiting", "sent"})


class SlotState(StrEnum):
    """The state of a slot, as it follows from one take of the slot."""

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
    """The facts about a take from which the state of its slot follows."""

    work: str  # how far the take has come: a state of the table `take`
    is_current: bool = True  # the catalog's last plan has this take in the slot
    is_planned: bool = True  # the catalog's last plan has the slot at all
    is_refused: bool = False  # the newest verdict of a listener rejects its rendition
    is_chosen: bool = True  # False: the slot has more sound takes than it keeps, and this is none of those
    is_mended: bool = False  # the take that has its place now was made from this one


class KnownTake(NamedTuple):
    """The current take of a slot, as the ledger has it."""

    take_id: str
    state: str  # of its work
    model: str = ""
    is_refused: bool = False
    sound_id: str = ""  # the same for takes that differ in finishing alone; "": not known
    is_spare: bool = False

    @property
    def is_listed(self) -> bool:
        """True when the catalog lists the track."""
        facts = TakeFacts(self.state, is_refused=self.is_refused, is_chosen=not self.is_spare)
        return STATES[state_of(facts)].is_listed


def known_takes(connection: Connection, catalog: str) -> dict[tuple[str, int], KnownTake]:
    """(track key, take number) -> the current take of the slot."""
    columns = (TAKE.c.track_key, TAKE.c.number, TAKE.c.take_id, TAKE.c.state, TAKE.c.model, TAKE.c.sound_id)
    query = select(*columns, is_kept(TAKE.c.rendition_id), is_made_spare(TAKE.c.rendition_id))
    query = query.where(TAKE.c.catalog == catalog, TAKE.c.current)
    return {
        (key, number): KnownTake(
            *(take_id, state, model),
            is_refused=kept is not None and not kept and not spare,
            sound_id=sound_id,
            is_spare=bool(spare),
        )
        for key, number, take_id, state, model, sound_id, kept, spare in connection.execute(query)
    }


def stands_in(take: Take, there: KnownTake, own_state: str | None) -> bool:
    """True when the slot of `take` keeps the take that is `there`: it is done, and differs in its finishing alone.

    `own_state` is the state of `take` itself, None when it was never planned: if it was made, it has its slot back.
    A take that was rejected would be rejected again, however it is finished.
    """
    return (
        there.take_id != take.id and there.state in DONE and there.sound_id == take.sound_id and own_state not in DONE
    )


def takes_by_cell(connection: Connection) -> dict[str, dict[tuple[str, str], int]]:
    """Catalog -> zone and genre -> the number of current takes."""
    place = (TAKE.c.catalog, TAKE.c.zone, TAKE.c.genre)
    found: dict[str, dict[tuple[str, str], int]] = {}
    for catalog, zone, genre, takes in connection.execute(
        select(*place, func.count()).where(TAKE.c.current).group_by(*place)
    ):
        found.setdefault(catalog, {})[zone, genre] = takes
    return found


def shelved_takes(connection: Connection, catalog: str) -> dict[str, str]:
    """Take id -> state of work, for the takes that the catalog once had and has since changed or dropped."""
    query = select(TAKE.c.take_id, TAKE.c.state).where(TAKE.c.catalog == catalog, ~TAKE.c.current)
    return dict(connection.execute(query).all())


def refused_takes(connection: Connection, *where: ColumnElement[bool]) -> Refused:
    """The takes whose place passes to another: the checks refused their sound, or a listener asks for another.

    What the engine itself refused, so that there was no sound, it would refuse again whatever the take's number.
    """
    sounded = select(ATTEMPT.c.record_id).where(
        ATTEMPT.c.take_id == TAKE.c.take_id, ATTEMPT.c.outcome == "rejected", ATTEMPT.c.audio_ms > 0
    )
    by_checks = and_(TAKE.c.state == "rejected", sounded.exists())
    by_listener = and_(TAKE.c.state == "accepted", asks_again(TAKE.c.rendition_id))
    columns = (TAKE.c.track_key, TAKE.c.number, TAKE.c.take_id, TAKE.c.sound_id)
    refused: dict[Slot, set[str]] = {}
    for key, number, *names in connection.execute(select(*columns).where(*where, or_(by_checks, by_listener))):
        refused.setdefault((key, number), set()).update(filter(None, names))
    return refused


def count_made_again(connection: Connection, run_id: str) -> int:
    """The rejected takes of a run whose places have passed to other takes, made or still to be made.

    Where the catalog keeps the best of several takes, none is made in the place of one while enough others are good.
    """
    ours = select(TAKE.c.track_key).where(TAKE.c.run_id == run_id, TAKE.c.state == "rejected", TAKE.c.current)
    made_again = 0
    for keys in chunks(sorted(set(connection.execute(ours).scalars()))):
        refused = refused_takes(connection, TAKE.c.track_key.in_(keys), TAKE.c.current)
        columns = (TAKE.c.track_key, TAKE.c.number, TAKE.c.take_id, TAKE.c.run_id, TAKE.c.state)
        query = select(*columns, TAKE.c.wanted, TAKE.c.keep).where(TAKE.c.track_key.in_(keys), TAKE.c.current)
        rows = connection.execute(query.order_by(TAKE.c.track_key, TAKE.c.number))
        for _, track in groupby(rows, key=attrgetter("track_key")):
            takes = list(track)
            further = sum(take.number > take.wanted > 0 for take in takes)
            refused_here = [take for take in takes if take.take_id in refused.get((take.track_key, take.number), ())]
            good = sum(take.state == "accepted" for take in takes if take not in refused_here)
            is_enough = any(0 < take.keep <= good for take in takes)
            passed = refused_here if is_enough else refused_here[:further]  # by number, as places pass on
            made_again += sum(take.run_id == run_id and take.state == "rejected" for take in passed)
    return made_again


def state_of(take: TakeFacts) -> SlotState:
    """The state of the slot, as it follows from this take."""
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
    """SQL condition on a take's row: its catalog lists the track. Equivalent to a listed state by `state_of`."""
    return and_(TAKE.c.current, TAKE.c.state == "accepted", is_kept(TAKE.c.rendition_id))


def is_spare() -> ColumnElement[bool]:
    """SQL condition on a take's row: it is sound and planned, and others of its track were chosen before it."""
    return and_(TAKE.c.current, TAKE.c.state == "accepted", is_made_spare(TAKE.c.rendition_id))
