"""The plan: the takes that a catalog stands for, compared with those that the ledger already has.

Takes are streamed and only counted, so a plan of 100,000 takes stays small; `CatalogPlan.takes()` streams the same
takes again for dispatch. Nothing is written and nothing is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from catalog.buckets import Bucket
from catalog.prompt import ESTIMATE, TokenCounter
from catalog.track import Take, Track, axes_of_key
from orchestrator.ledger import KnownTake
from orchestrator.matrix import LoadedCatalog, PlannedTrack, PresetLibrary, expand
from orchestrator.matrix.advice import Advice
from orchestrator.planning.selection import Places, Selection

_DONE: Final = frozenset({"accepted", "rejected"})
_ACCEPTED: Final = "accepted"
_PENDING: Final = frozenset({"waiting", "sent"})
EVERYTHING: Final = Selection()

KnownTakes = Mapping[tuple[str, int], KnownTake]  # by track key and take number
ShelvedTakes = Mapping[str, str]  # take id -> state, of takes that the catalog had and has changed or dropped
NONE_SHELVED: Final[ShelvedTakes] = MappingProxyType({})


class Standing(StrEnum):
    """The relation of a planned take to the ledger."""

    NEW = "new"
    CHANGED = "changed"  # its slot held another take
    UNCHANGED = "unchanged"  # accepted or rejected already, and the same take as before
    UNFINISHED = "unfinished"  # known and the same, but not done: waiting, sent, failed or cancelled


class CellName(NamedTuple):
    """The part of the matrix that a take belongs to."""

    zone: str
    genre: str
    axes: tuple[tuple[str, str], ...] = ()  # further ones with their values, by name

    @classmethod
    def of(cls, track: Track) -> CellName:
        """The cell of `track`."""
        return cls(track.zone, track.genre, tuple(sorted(track.axes.items())))

    @classmethod
    def of_key(cls, key: str) -> CellName:
        """The cell of the track of that key."""
        _, zone, genre, *_ = key.split("/")
        return cls(zone, genre, tuple(sorted(axes_of_key(key).items())))

    def as_plain_values(self) -> dict[str, Any]:
        """For JSON."""
        return {"zone": self.zone, "genre": self.genre, "axes": dict(self.axes)}


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
    cells: Mapping[CellName, StandingCounts]
    loads: tuple[BucketLoad, ...]  # to be rendered, in feed order
    dropped: tuple[str, ...]  # ids of takes the ledger has and the catalog no longer plans
    restored: int  # takes made for an earlier version of the catalog, accepted or rejected, which this one plans again
    _tracks: Callable[[], Iterable[PlannedTrack]]
    open_lengths: int = 0  # takes to render whose planner chooses the length; they count as long as they may become
    changes: Changes = field(default_factory=lambda: Changes(Counter(), Counter(), Counter()))
    selected: frozenset[str] | None = None  # ids of the takes that the numbers above speak of; None: of all
    planned: int = 0  # takes in the whole plan
    advice: tuple[str, ...] = ()  # on the tracks to render: what the model is known to do badly
    others_pending: int = 0  # takes that were not selected, and that an unfinished run waits for
    gone: Mapping[CellName, int] = field(default_factory=dict)  # takes in `dropped` by cell
    name_now: str = ""  # the catalog's name for people; `catalog` is the one in the keys of its tracks

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

    def by_axis(self, axis: str) -> dict[str, StandingCounts]:
        """StandingCounts of each value of a further axis."""
        return self._by(lambda cell: dict(cell.axes).get(axis, ""))

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the further axes."""
        return tuple(sorted({axis for cell in self.cells for axis, _ in cell.axes}))

    def by_genre(self) -> dict[str, StandingCounts]:
        """StandingCounts of each genre, in the catalog's order."""
        return self._by(lambda cell: cell.genre)

    def takes(self) -> Iterator[Take]:
        """Every planned take that is selected, streamed anew; the unchanged ones too."""
        return (take for take in stream_takes(self._tracks()) if self.selected is None or take.id in self.selected)

    def _by(self, name: Callable[[CellName], str]) -> dict[str, StandingCounts]:
        sums: dict[str, StandingCounts] = {}
        for cell, counts in self.cells.items():
            sums[name(cell)] = sums.get(name(cell), StandingCounts()).plus(counts)
        return sums


def make_plan(
    catalog: LoadedCatalog,
    known: KnownTakes,
    shelved: ShelvedTakes = NONE_SHELVED,
    *,
    model: str | None = None,
    selection: Selection = EVERYTHING,
) -> CatalogPlan:
    """Compare `catalog` with its takes in the ledger; `model` replaces the catalog's own.

    Raises UnknownNameError when `selection` names what the catalog does not have.
    """
    model = model or catalog.model
    plan = plan_tracks(
        lambda: expand(catalog, model=model),
        known,
        shelved,
        catalog=catalog.name,
        title=catalog.title,
        model=model,
        selection=_with_keys(selection, catalog.library),
    )
    return replace(plan, name_now=catalog.preset.name)


def _with_keys(selection: Selection, library: PresetLibrary) -> Selection:
    """`selection` with the names that stand in the keys of tracks: a renamed zone or genre keeps its earlier one."""
    places = selection.places
    zones = [library.zone(name).key if library.holding("zones", name) else name for name in places.zones]
    genres = [library.genre(name).key if library.holding("genres", name) else name for name in places.genres]
    return replace(selection, places=Places(zones, genres, places.axes))


def plan_tracks(  # noqa: PLR0913 - the catalog, what is known of it, and how it is looked at
    tracks: Callable[[], Iterable[PlannedTrack]],
    known: KnownTakes,
    shelved: ShelvedTakes = NONE_SHELVED,
    *,
    catalog: str,
    title: str,
    model: str,
    selection: Selection = EVERYTHING,
    counter: TokenCounter = ESTIMATE,
) -> CatalogPlan:
    """The plan of the tracks that `tracks` yields; it is called again for each streaming and must yield the same."""
    tally = _Tally(known, shelved, selection, Advice(counter))
    for take in stream_takes(tracks()):
        tally.add(take)
    tally.end(catalog)
    loads = tally.loads
    return CatalogPlan(
        catalog=catalog,
        title=title,
        model=model,
        cells={
            cell: StandingCounts(**{str(name): n for name, n in each.items()}) for cell, each in tally.cells.items()
        },
        loads=tuple(BucketLoad(bucket, loads[bucket]) for bucket in sorted(loads, key=lambda each: each.feed_order)),
        dropped=tuple(sorted(tally.dropped)),
        restored=tally.restored,
        _tracks=tracks,
        open_lengths=tally.open_lengths,
        changes=Changes(*(+counts for counts in tally.changes)),
        selected=frozenset(tally.selected) if selection else None,
        planned=tally.planned,
        others_pending=tally.others_pending,
        gone=tally.gone,
        advice=tuple(tally.advice.notes()),
        name_now=catalog,
    )


class _Tally:
    """Counts takes by their standing, in the plan's order."""

    def __init__(self, known: KnownTakes, shelved: ShelvedTakes, selection: Selection, advice: Advice) -> None:
        self._unseen, self._shelved = dict(known), shelved
        self.advice, self._advised = advice, ""
        self._selection, self._picker = selection, selection.picker()
        self._zones: set[str] = set()
        self._genres: set[str] = set()
        self._axes: dict[str, set[str]] = {}
        self.cells: dict[CellName, Counter[Standing]] = {}
        self.loads: Counter[Bucket] = Counter()
        self.changes = Changes(Counter(), Counter(), Counter())
        self.dropped: list[str] = []
        self.gone: Counter[CellName] = Counter()
        self.selected: set[str] = set()
        self.planned = self.restored = self.open_lengths = self.others_pending = 0

    def add(self, take: Take) -> None:
        """Count `take`, if it is selected."""
        entry = self._unseen.pop((take.track.key, take.number), None)
        standing = standing_of(take, entry, self._shelved)
        self.planned += 1
        if self._selection:
            self._note_places(take.track)
            if not self._picker.picks(take, is_missing=standing is not Standing.UNCHANGED):
                self.others_pending += entry is not None and entry.state in _PENDING
                return
            self.selected.add(take.id)
        if entry is not None and entry.take_id != take.id and entry.is_listed:
            self.changes.replaced[entry.model] += 1
        self.cells.setdefault(CellName.of(take.track), Counter())[standing] += 1
        if standing is not Standing.UNCHANGED:
            self.loads[Bucket.of(take.spec)] += 1
            if take.track.key != self._advised:  # the takes of a track come one after the other
                self._advised = take.track.key
                self.advice.see(take.spec)
            self.open_lengths += take.spec.bounds is not None and take.spec.bounds.duration_s is not None
        elif entry is None or entry.take_id != take.id:
            self.restored += 1
            self.changes.restored[take.spec.model] += self._shelved.get(take.id) == _ACCEPTED

    def end(self, catalog: str) -> None:
        """Count the takes that are no longer planned; a selection leaves them as they are, and must have found some."""
        if not self._selection:
            self.dropped.extend(each.take_id for each in self._unseen.values())
            self.gone.update(CellName.of_key(key) for key, _ in self._unseen)
            self.changes.retired.update(entry.model for entry in self._unseen.values() if entry.is_listed)
            return
        self.others_pending += sum(entry.state in _PENDING for entry in self._unseen.values())
        known = Places(self._zones, self._genres, self._axes)
        self._selection.places.check_against(known, f"the catalog {catalog!r}")
        if self._selection.places and not self.selected and self._selection.limit is None:
            raise self._selection.nothing_found(catalog)

    def _note_places(self, track: Track) -> None:
        self._zones.add(track.zone)
        self._genres.add(track.genre)
        for axis, value in track.axes.items():
            self._axes.setdefault(axis, set()).add(value)


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


def standing_of(take: Take, entry: KnownTake | None, shelved: ShelvedTakes) -> Standing:
    """The standing of a planned `take` whose slot has `entry`."""
    state = entry.state if entry is not None and entry.take_id == take.id else shelved.get(take.id)
    if state is None:
        return Standing.NEW if entry is None else Standing.CHANGED
    return Standing.UNCHANGED if state in _DONE else Standing.UNFINISHED
