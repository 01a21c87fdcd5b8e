"""The plan: the takes that a catalog stands for, compared with those that the ledger already has.

Takes are streamed and only counted, so a plan of 100,000 takes stays small; `CatalogPlan.takes()` streams the same
takes again for dispatch. Nothing is written and nothing is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from catalog.buckets import Bucket
from catalog.track import Take
from orchestrator.ledger import KnownTake
from orchestrator.matrix import LoadedCatalog, PlannedTrack, expand

_DONE: Final = frozenset({"accepted", "rejected"})
_ACCEPTED: Final = "accepted"


KnownTakes = Mapping[tuple[str, int], KnownTake]  # by track key and take number
ShelvedTakes = Mapping[str, str]  # take id -> state, of takes that the catalog had and has changed or dropped
NONE_SHELVED: Final[ShelvedTakes] = MappingProxyType({})


class Standing(StrEnum):
    """The relation of a planned take to the ledger."""

    NEW = "new"
    CHANGED = "changed"  # its slot held another take
    UNCHANGED = "unchanged"  # accepted or rejected already, and the same take as before
    UNFINISHED = "unfinished"  # known and the same, but not done: waiting, sent, failed or cancelled


class ZoneGenre(NamedTuple):
    """The part of the matrix that a take belongs to."""

    zone: str
    genre: str


class StandingCounts(NamedTuple):
    """Takes by standing."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    unfinished: int = 0

    @property
    def total(self) -> int:
        """The number of all takes."""
        return sum(self)

    @property
    def to_render(self) -> int:
        """The number of takes that a run would send."""
        return self.total - self.unchanged

    def plus(self, other: StandingCounts) -> StandingCounts:
        """The sum of both counts."""
        return StandingCounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Changes(NamedTuple):
    """The changes that a run would make to the tracks that the catalog lists now: accepted takes, by model."""

    replaced: Counter[str]  # their slot gets another take
    retired: Counter[str]  # their slot is no longer planned
    restored: Counter[str]  # made for an earlier version of the catalog, and planned again

    def __bool__(self) -> bool:
        return any(self)

    @property
    def leaving(self) -> Counter[str]:
        """Takes that are listed now and would no longer be."""
        return self.replaced + self.retired

    def as_plain_values(self) -> dict[str, dict[str, int]]:
        """For JSON."""
        return {name: dict(sorted(counts.items())) for name, counts in self._asdict().items()}

    def in_words(self) -> list[str]:
        """One sentence for each kind of change that there is."""
        said = (
            (self.replaced, "{} are replaced by others, which are made now or were made earlier"),
            (self.retired, "{} are no longer planned and leave the list; their files stay"),
            (self.restored, "{}, made for an earlier version of the catalog, are taken up again"),
        )
        return [words.format(_accepted_takes(counts)) for counts, words in said if counts]


def _accepted_takes(counts: Counter[str]) -> str:
    listed = ", ".join(f"{count:,} of {model}" for model, count in sorted(counts.items()))
    return f"{counts.total():,} accepted takes ({listed})"


class BucketLoad(NamedTuple):
    """The takes of one bucket that are to be rendered."""

    bucket: Bucket
    takes: int

    @property
    def audio_s(self) -> int:
        """Seconds of audio."""
        return self.takes * self.bucket.duration_s


@dataclass(frozen=True, slots=True)
class CatalogPlan:
    """A catalog compared with the ledger, in numbers of takes."""

    catalog: str
    title: str
    model: str
    cells: Mapping[ZoneGenre, StandingCounts]
    loads: tuple[BucketLoad, ...]  # to be rendered, in feed order
    dropped: tuple[str, ...]  # ids of takes the ledger has and the catalog no longer plans
    restored: int  # takes made for an earlier version of the catalog, accepted or rejected, which this one plans again
    _tracks: Callable[[], Iterable[PlannedTrack]]
    open_lengths: int = 0  # takes to render whose planner chooses the length; they count as long as they may become
    changes: Changes = field(default_factory=lambda: Changes(Counter(), Counter(), Counter()))

    @property
    def counts(self) -> StandingCounts:
        """All planned takes."""
        return sum_counts(self.cells.values())

    @property
    def to_render(self) -> int:
        """Takes a run would send."""
        return self.counts.to_render

    @property
    def audio_s(self) -> int:
        """Seconds of audio to render."""
        return sum(load.audio_s for load in self.loads)

    def by_zone(self) -> dict[str, StandingCounts]:
        """StandingCounts of each zone, in the catalog's order."""
        return self._by(lambda cell: cell.zone)

    def by_genre(self) -> dict[str, StandingCounts]:
        """StandingCounts of each genre, in the catalog's order."""
        return self._by(lambda cell: cell.genre)

    def takes(self) -> Iterator[Take]:
        """Every planned take, streamed anew; the unchanged ones too."""
        return stream_takes(self._tracks())

    def _by(self, name: Callable[[ZoneGenre], str]) -> dict[str, StandingCounts]:
        sums: dict[str, StandingCounts] = {}
        for cell, counts in self.cells.items():
            sums[name(cell)] = sums.get(name(cell), StandingCounts()).plus(counts)
        return sums


def make_plan(
    catalog: LoadedCatalog, known: KnownTakes, shelved: ShelvedTakes = NONE_SHELVED, *, model: str | None = None
) -> CatalogPlan:
    """Compare `catalog` with its takes in the ledger; `model` replaces the catalog's own."""
    model = model or catalog.model
    return plan_tracks(
        lambda: expand(catalog, model=model), known, shelved, catalog=catalog.name, title=catalog.title, model=model
    )


def plan_tracks(
    tracks: Callable[[], Iterable[PlannedTrack]],
    known: KnownTakes,
    shelved: ShelvedTakes = NONE_SHELVED,
    *,
    catalog: str,
    title: str,
    model: str,
) -> CatalogPlan:
    """The plan of the tracks that `tracks` yields; it is called again for each streaming and must yield the same."""
    tally: dict[ZoneGenre, Counter[Standing]] = {}
    loads: Counter[Bucket] = Counter()
    unseen, restored, open_lengths = dict(known), 0, 0
    changes = Changes(Counter(), Counter(), Counter())
    for take in stream_takes(tracks()):
        entry = unseen.pop((take.track.key, take.number), None)
        standing = _standing(take, entry, shelved)
        if entry is not None and entry.take_id != take.id and entry.is_listed:
            changes.replaced[entry.model] += 1
        tally.setdefault(ZoneGenre(take.track.zone, take.track.genre), Counter())[standing] += 1
        if standing is not Standing.UNCHANGED:
            loads[Bucket.of(take.spec)] += 1
            open_lengths += take.spec.bounds is not None and take.spec.bounds.duration_s is not None
        elif entry is None or entry.take_id != take.id:
            restored += 1
            changes.restored[take.spec.model] += shelved.get(take.id) == _ACCEPTED
    changes.retired.update(entry.model for entry in unseen.values() if entry.is_listed)
    return CatalogPlan(
        catalog=catalog,
        title=title,
        model=model,
        cells={cell: StandingCounts(**{str(name): n for name, n in counts.items()}) for cell, counts in tally.items()},
        loads=tuple(BucketLoad(bucket, loads[bucket]) for bucket in sorted(loads, key=lambda each: each.feed_order)),
        dropped=tuple(sorted(each.take_id for each in unseen.values())),
        restored=restored,
        _tracks=tracks,
        open_lengths=open_lengths,
        changes=Changes(*(+counts for counts in changes)),
    )


def stream_takes(tracks: Iterable[PlannedTrack]) -> Iterator[Take]:
    """Every take of `tracks`, in their order."""
    for planned in tracks:
        for number in range(1, planned.takes + 1):
            yield planned.track.take(number)


def sum_counts(many: Iterable[StandingCounts]) -> StandingCounts:
    """All of `many` together."""
    total = StandingCounts()
    for counts in many:
        total = total.plus(counts)
    return total


def _standing(take: Take, entry: KnownTake | None, shelved: ShelvedTakes) -> Standing:
    state = entry.state if entry is not None and entry.take_id == take.id else shelved.get(take.id)
    if state is None:
        return Standing.NEW if entry is None else Standing.CHANGED
    return Standing.UNCHANGED if state in _DONE else Standing.UNFINISHED
