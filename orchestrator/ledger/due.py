"""Due takes: which takes of a track a catalog is to have, so that every place ends with one good take.

A track has as many places as its catalog wants takes of it, and they begin with the takes 1 to n. A take that was
refused passes its place to the next number that was never used, as often as the catalog's tries allow. What is due
follows from what was planned and refused alone: whatever was killed and whenever, the same numbers are due, none twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Final, NamedTuple, Self

from catalog.track import Take, Track

NUMBER_MAX: Final = 1000  # of a take
Slot = tuple[str, int]  # a track's key and a take number
Refused = Mapping[Slot, Set[str]]  # ids of the takes whose place passes on, and of their sounds


class DueTake(NamedTuple):
    """A take that its catalog is to have, or that had a place before another take."""

    take: Take
    place: int  # the number of the take that had the place first
    wanted: int  # places of the track
    is_passed: bool = False  # it was refused, and a later take has its place or enough others are good
    keep: int = 0  # so many of the track's takes are listed, the best ones; 0: all

    @property
    def is_further(self) -> bool:
        """True when the place was another take's before."""
        return self.place != self.take.number


def is_refused(take: Take, refused: Refused) -> bool:
    """True when the place of `take` passes on: a take of its sound was refused, however it was finished."""
    names = refused.get((take.track.key, take.number))
    return names is not None and not names.isdisjoint((take.id, take.sound_id))


class Held(NamedTuple):
    """The takes that a catalog holds now, as far as they decide what is due."""

    takes: Mapping[Slot, str]  # of the current take its sound's id, or its own
    refused: Refused
    greatest: Mapping[str, int]  # track key -> its greatest number, of tracks that hold more than the first take

    @classmethod
    def of(cls, takes: Mapping[Slot, str], refused: Refused) -> Self:
        """These takes with the greatest number of each track."""
        greatest: dict[str, int] = {}
        for key, number in takes:
            if number > 1:
                greatest[key] = max(number, greatest.get(key, 0))
        return cls(takes, refused, greatest)

    def has_slot(self, take: Take) -> bool:
        """True when some take holds the slot of `take`."""
        return (take.track.key, take.number) in self.takes

    def has(self, take: Take) -> bool:
        """True when `take` holds its slot, or a take of its sound does."""
        return self.takes.get((take.track.key, take.number), "") in (take.id, take.sound_id)


NOTHING_HELD: Final = Held({}, {}, {})


def due_takes(track: Track, wanted: int, tries: int, held: Held, keep: int = 0) -> Iterator[DueTake]:
    """The takes of `track` that are due or were, by number; each of `wanted` places may pass on `tries` times.

    Where the catalog keeps the best `keep` of them, a place passes on only when fewer than those would be good.

    A take that is held in a place stays due when `tries` is lowered. A number that is not held, below a held take that
    took over a place, was refused before the ledger was rebuilt: its place has passed, and it is not made again.
    """
    greatest = _greatest_held(track, wanted, held)
    most = min(max(wanted * (1 + tries), greatest), NUMBER_MAX)
    lost = _count_lost(track, wanted, greatest, held)
    needed = min(keep, wanted) if keep else wanted
    places, bad = list(range(1, wanted + 1)), 0
    for index, place in enumerate(places):  # grows on the way
        take = _take(track, index + 1, wanted, held)
        is_lost = lost > 0 and not held.has_slot(take)
        is_bad = is_lost or is_refused(take, held.refused)
        bad += is_bad
        is_enough = len(places) - bad >= needed
        is_passed = is_bad and (is_enough or len(places) < most)
        if is_bad and len(places) < (greatest if is_enough else most):
            places.append(place)
        if is_lost:
            lost -= 1
        else:
            yield DueTake(take, place, wanted, is_passed, keep)


def _greatest_held(track: Track, wanted: int, held: Held) -> int:
    """The greatest number of a take of this very sound that the catalog holds, `wanted` at the least."""
    for number in range(held.greatest.get(track.key, 0), wanted, -1):
        if held.has(_take(track, number, wanted, held)):
            return number
    return wanted


def _count_lost(track: Track, wanted: int, greatest: int, held: Held) -> int:
    """The takes that passed their places on, as the greatest number proves, less those that are known to have."""
    if greatest == wanted:
        return 0
    known = sum(is_refused(_take(track, number, wanted, held), held.refused) for number in range(1, greatest))
    return max(0, greatest - wanted - known)


def _take(track: Track, number: int, wanted: int, held: Held) -> Take:
    """Take `number`. One that took over a place has a plan of its own, for the shared one may be what was refused.

    A take that is held already stays as it is when the catalog wants more or fewer takes than it did.
    """
    take = track.take(number)
    if number == 1 or not take.follows_first_plan:
        return take
    alone = track.take(number, own_plan=True)
    if held.has(take) or held.has(alone):
        return take if held.has(take) else alone
    return alone if number > wanted else take
