"""The plan: the takes of a catalog, compared with the takes that the ledger already has.

Takes are streamed and only counted, so a plan of 100,000 takes stays small; `CatalogPlan.takes()` streams the same
takes again for dispatch. Planning writes nothing and sends nothing.
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
from orchestrator.ledger.due import NOTHING_HELD, DueTake, Held, Refused, due_takes, is_refused
from orchestrator.ledger.slots import DONE, stands_in
from orchestrator.matrix import LoadedCatalog, PlannedTrack, PresetLibrary, expand
from orchestrator.matrix.advice import Advice
from orchestrator.matrix.titles import SharedTitles
from orchestrator.planning.keeping import NONE_UNCHOSEN, KeptTakes, Unchosen
from orchestrator.planning.selection import Places, Selection

_ACCEPTED: Final = "accepted"
_REJECTED: Final = "rejected"
_PENDING: Final = frozenset({"waiting", "sent"})
EVERYTHING: Final = Selection()

KnownTakes = Mapping[tuple[str, int], KnownTake]  # by track key and take number
ShelvedTakes = Mapping[str, str]  # take id -> state, of takes that the catalog had and has changed or dropped
NONE_SHELVED: Final[ShelvedTakes] = MappingProxyType({})
NONE_REFUSED: Final[Refused] = MappingProxyType({})


class Standing(StrEnum):
    """The relation of a planned take to the ledger."""

    NEW = "new"
    CHANGED = "changed"  # its slot held another take
    UNCHANGED = "unchanged"  # accepted or rejected already, and the same take as before
    UNFINISHED = "unfinished"  # known and the same, but not done: waiting, sent, failed or cancelled
    AGAIN = "again"  # new, in the place of a take that was rejected
    TO_FINISH = "to_finish"  # its slot has a take that differs in format, level or tags alone


_MADE: Final = (Standing.UNCHANGED, Standing.TO_FINISH)


class CellName(NamedTuple):
    """The cell of the matrix to which a take belongs."""

    zone: str
    genre: str
    axes: tuple[tuple[str, str], ...] = ()  # further ones with their values, by name

    @classmethod
    def of(cls, track: Track) -> CellName:
        """The cell of `track`."""
        return cls(track.zone, track.genre, tuple(sorted(track.axes.items())))

    @classmethod
    def of_key(cls, key: str) -> CellName:
        """The cell of the track with that key."""
        _, zone, genre, *_ = key.split("/")
        return cls(zone, genre, tuple(sorted(axes_of_key(key).items())))

    def as_plain_values(self) -> dict[str, Any]:
        """The cell as JSON values."""
        return {"zone": self.zone, "genre": self.genre, "axes": dict(self.axes)}


class StandingCounts(NamedTuple):
    """The number of takes in each standing."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    unfinished: int = 0
    again: int = 0
    to_finish: int = 0
    empty: int = 0  # of `unchanged`: rejected, and no other take is made in their place
    spare: int = 0  # of `unchanged`: sound, and others of their tracks were chosen before them
    to_choose_from: int = 0  # of all: more takes of their tracks than the catalog keeps

    @property
    def total(self) -> int:
        """The number of all takes."""
        return self.new + self.changed + self.unchanged + self.unfinished + self.again + self.to_finish

    @property
    def wanted(self) -> int:
        """The number of takes that the catalog is to list."""
        return self.total - self.to_choose_from

    @property
    def kept(self) -> int:
        """The number of takes that the catalog has."""
        return self.unchanged + self.to_finish - self.empty - self.spare

    @property
    def missing(self) -> int:
        """The number of takes that the catalog wants and does not have."""
        return max(0, self.wanted - self.kept)

    @property
    def to_render(self) -> int:
        """The number of takes that a run would send."""
        return self.total - self.unchanged - self.to_finish

    def plus(self, other: StandingCounts) -> StandingCounts:
        """The sum of these counts and `other`."""
        return StandingCounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Changes(NamedTuple):
    """The changes that a run would make to the catalog's listed tracks: counts of accepted takes, by model."""

    replaced: Counter[str]  # their slot gets another take
    retired: Counter[str]  # their slot is no longer planned
    restored: Counter[str]  # made for an earlier version of the catalog, and planned again

    def __bool__(self) -> bool:
        return any(self)

    @property
    def leaving(self) -> Counter[str]:
        """The number of takes that are listed now and would not be listed after the run."""
        return self.replaced + self.retired

    def as_plain_values(self) -> dict[str, dict[str, int]]:
        """The changes as JSON values."""
        return {name: dict(sorted(counts.items())) for name, counts in self._asdict().items()}

    def in_words(self) -> list[str]:
        """One sentence for each kind of change that occurs."""
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
    again: int = 0  # of these: in the place of a take that was rejected

    @property
    def audio_s(self) -> int:
        """The seconds of audio in the bucket."""
        return self.takes * self.bucket.duration_s


class EmptyPlaces(NamedTuple):
    """The places whose takes were rejected and that get no other take, by the reason for that."""

    out_of_tries: int = 0
    by_engine: int = 0
    by_listener: int = 0

    def in_words(self, tries: int) -> list[str]:
        """One sentence for each reason that occurs."""
        spent = f"every take that `tries: {tries}` allows was rejected"
        said = (
            (self.out_of_tries, f"{spent}; raise `tries`, or give the track another seed, caption or model"),
            (self.by_engine, "the engine refused the track, whatever the take; change what it refused"),
            (self.by_listener, "a listener rejected the take; `tunemill catalog reject TAKE --again` asks for another"),
        )
        return [f"{_places(count)} empty: {words}" for count, words in said if count]


NONE_EMPTY: Final = EmptyPlaces()


def _places(count: int) -> str:
    return "1 place stays" if count == 1 else f"{count:,} places stay"


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
    _held: Held = NOTHING_HELD
    tries: int = 0  # times a place may pass on from a take that was rejected
    duplicates: str = "warn"  # the catalog's choice for takes that sound alike
    keep: int = 0  # the best so many takes of a track are listed; 0: all
    choose_by: tuple[str, ...] = ()  # the scorers that find the best
    unchosen: Unchosen = NONE_UNCHOSEN
    open_lengths: int = 0  # takes to render whose planner chooses the length; they count as long as they may become
    changes: Changes = field(default_factory=lambda: Changes(Counter(), Counter(), Counter()))
    selected: frozenset[str] | None = None  # ids of the takes that the numbers above speak of; None: of all
    planned: int = 0  # takes in the whole plan
    advice: tuple[str, ...] = ()  # on the tracks to render: requests that the model is known to serve badly
    empty: EmptyPlaces = NONE_EMPTY
    others_pending: int = 0  # takes that were not selected, and that an unfinished run waits for
    gone: Mapping[CellName, int] = field(default_factory=dict)  # takes in `dropped` by cell
    remade: frozenset[str] = frozenset()  # takes that are rendered anew though their file alone is to change
    finishing: Mapping[str, str] = field(default_factory=dict)  # takes to finish -> the takes that have their slots
    name_now: str = ""  # the catalog's name for people; `catalog` is the one in the keys of its tracks

    @property
    def counts(self) -> StandingCounts:
        """The counts of all planned takes."""
        return sum_counts(self.cells.values())

    @property
    def to_render(self) -> int:
        """The number of takes that a run would send."""
        return self.counts.to_render

    @property
    def audio_s(self) -> int:
        """The seconds of audio that a run would render."""
        return sum(load.audio_s for load in self.loads)

    def by_zone(self) -> dict[str, StandingCounts]:
        """The counts of each zone, in the catalog's order."""
        return self._by(lambda cell: cell.zone)

    def by_axis(self, axis: str) -> dict[str, StandingCounts]:
        """The counts of each value of a further axis."""
        return self._by(lambda cell: dict(cell.axes).get(axis, ""))

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the further axes."""
        return tuple(sorted({axis for cell in self.cells for axis, _ in cell.axes}))

    def by_genre(self) -> dict[str, StandingCounts]:
        """The counts of each genre, in the catalog's order."""
        return self._by(lambda cell: cell.genre)

    def takes(self) -> Iterator[Take]:
        """Every planned take that is selected, streamed again; unchanged takes are included."""
        return (due.take for due in self.due())

    def due(self, held: Held | None = None) -> Iterator[DueTake]:
        """The same with their places; `held` is what the catalog holds by now, if that has changed."""
        due = stream_due(self._tracks(), self.tries, held or self._held, self.keep)
        return (each for each in due if self.selected is None or each.take.id in self.selected)

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
    refused: Refused = NONE_REFUSED,
    model: str | None = None,
    selection: Selection = EVERYTHING,
) -> CatalogPlan:
    """Compare `catalog` with its takes in the ledger; `model` replaces the catalog's own.

    `refused` are the takes whose place passes to another.

    Raises UnknownNameError when `selection` names what the catalog does not have.
    """
    model, content, titles = model or catalog.model, catalog.preset.content, SharedTitles()
    plan = plan_tracks(
        lambda: expand(catalog, model=model),
        known,
        shelved,
        refused=refused,
        tries=content.tries,
        keep=content.keep or 0,
        catalog=catalog.name,
        title=catalog.title,
        model=model,
        selection=_with_keys(selection, catalog.library),
        titles=titles,
    )
    advice = (*plan.advice, *titles.notes(of_prompts=content.prompts is not None))
    plan = replace(plan, duplicates=content.duplicates, choose_by=content.choose_by)
    return replace(plan, name_now=catalog.preset.name, advice=advice)


def _with_keys(selection: Selection, library: PresetLibrary) -> Selection:
    """`selection` with the names in the keys of tracks, where a renamed zone or genre keeps its earlier name."""
    places = selection.places
    zones = [library.zone(name).key if library.holding("zones", name) else name for name in places.zones]
    genres = [library.genre(name).key if library.holding("genres", name) else name for name in places.genres]
    return replace(selection, places=Places(zones, genres, places.axes))


def plan_tracks(  # noqa: PLR0913 - the catalog, what is known of it, and how it is looked at
    tracks: Callable[[], Iterable[PlannedTrack]],
    known: KnownTakes,
    shelved: ShelvedTakes = NONE_SHELVED,
    *,
    refused: Refused = NONE_REFUSED,
    tries: int = 0,
    keep: int = 0,
    catalog: str,
    title: str,
    model: str,
    selection: Selection = EVERYTHING,
    counter: TokenCounter = ESTIMATE,
    titles: SharedTitles | None = None,
) -> CatalogPlan:
    """The plan of the tracks that `tracks` yields; it is called again for each streaming and must yield the same."""
    held = Held.of({slot: entry.sound_id or entry.take_id for slot, entry in known.items()}, refused)
    tally = _Tally(known, shelved, refused, selection, Advice(counter))
    for due in stream_due(tracks(), tries, held, keep):
        tally.add(due)
        if titles is not None and due.take.number == 1:
            titles.see(due.take.track.title)
    tally.end(catalog)
    loads = tally.loads
    return CatalogPlan(
        catalog=catalog,
        title=title,
        model=model,
        cells={
            cell: StandingCounts(**{str(name): n for name, n in each.items()}) for cell, each in tally.cells.items()
        },
        loads=tuple(
            BucketLoad(bucket, loads[bucket], tally.again[bucket])
            for bucket in sorted(loads, key=lambda each: each.feed_order)
        ),
        dropped=tuple(sorted(tally.dropped)),
        restored=tally.restored,
        _tracks=tracks,
        _held=held,
        tries=tries,
        keep=keep,
        unchosen=tally.kept.unchosen,
        open_lengths=tally.open_lengths,
        changes=Changes(*(+counts for counts in tally.changes)),
        selected=frozenset(tally.selected) if selection else None,
        planned=tally.planned,
        empty=EmptyPlaces(**tally.empty),
        others_pending=tally.others_pending,
        gone=tally.gone,
        finishing=tally.finishing,
        advice=tuple(tally.advice.notes()),
        name_now=catalog,
    )


class _Tally:
    """Counts of takes by standing, in the plan's order."""

    def __init__(
        self,
        known: KnownTakes,
        shelved: ShelvedTakes,
        refused: Refused,
        selection: Selection,
        advice: Advice,
    ) -> None:
        self._unseen, self._shelved, self._refused = dict(known), shelved, refused
        self.advice, self._advised = advice, ""
        self._selection, self._picker = selection, selection.picker()
        self._zones: set[str] = set()
        self._genres: set[str] = set()
        self._axes: dict[str, set[str]] = {}
        self.cells: dict[CellName, Counter[str]] = {}
        self.loads: Counter[Bucket] = Counter()
        self.again: Counter[Bucket] = Counter()  # of the loads: in the place of a take that was rejected
        self.empty: Counter[str] = Counter()
        self.changes = Changes(Counter(), Counter(), Counter())
        self.dropped: list[str] = []
        self.gone: Counter[CellName] = Counter()
        self.selected: set[str] = set()
        self.finishing: dict[str, str] = {}
        self.kept = KeptTakes()
        self.planned = self.restored = self.open_lengths = self.others_pending = 0

    def add(self, due: DueTake) -> None:
        """Count the take, if it is selected; one that has passed its place on is counted with the take that has it."""
        take = due.take
        entry = self._unseen.pop((take.track.key, take.number), None)
        is_same_sound = is_to_keep(take, entry, self._shelved)
        if due.is_passed:
            if not self._selection and not is_same_sound:
                self._note_replaced(take, entry)
            return
        standing = standing_of(take, entry, self._shelved)
        if standing is Standing.NEW and due.is_further:
            standing = Standing.AGAIN
        self.planned += 1
        if self._selection:
            self._note_places(take.track)
            if not self._picker.picks(take, due.place, is_missing=standing not in _MADE):
                self.others_pending += entry is not None and entry.state in _PENDING
                return
            self.selected.add(take.id)
        if not is_same_sound:
            self._note_replaced(take, entry)
        cell = self.cells.setdefault(CellName.of(take.track), Counter())
        cell[standing] += 1
        is_made = standing in _MADE
        cell["to_choose_from"] += self.kept.see(due, entry if is_made else None)
        cell["spare"] += is_made and entry is not None and entry.is_spare
        if standing is Standing.TO_FINISH and entry is not None:
            self.finishing[take.id] = entry.take_id
            return
        if standing is not Standing.UNCHANGED:
            bucket = Bucket.of(take.spec)
            self.loads[bucket] += 1
            self.again[bucket] += standing is Standing.AGAIN
            if take.track.key != self._advised:  # the takes of a track come one after the other
                self._advised = take.track.key
                self.advice.see(take.spec)
            self.open_lengths += take.spec.bounds is not None and take.spec.bounds.duration_s is not None
            return
        if not is_same_sound and (entry is None or entry.take_id != take.id):
            self.restored += 1
            is_other_music = entry is None or entry.sound_id != take.sound_id
            self.changes.restored[take.spec.model] += is_other_music and self._shelved.get(take.id) == _ACCEPTED
        if reason := self._reason_of_empty(take, entry):
            self.empty[reason] += 1
            cell["empty"] += 1

    def end(self, catalog: str) -> None:
        """Count the takes that are no longer planned; a selection leaves these alone, and must have matched a take."""
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

    def _note_replaced(self, take: Take, entry: KnownTake | None) -> None:
        if entry is not None and entry.sound_id != take.sound_id and entry.take_id != take.id and entry.is_listed:
            self.changes.replaced[entry.model] += 1

    def _reason_of_empty(self, take: Take, entry: KnownTake | None) -> str:
        """The field of EmptyPlaces that counts a take that is done; "" for one that the catalog has."""
        if is_refused(take, self._refused):
            return "out_of_tries"
        if entry is not None and (entry.take_id == take.id or is_to_keep(take, entry, self._shelved)):
            return "by_engine" if entry.state == _REJECTED else "by_listener" if entry.is_refused else ""
        return "by_engine" if self._shelved.get(take.id) == _REJECTED else ""

    def _note_places(self, track: Track) -> None:
        self._zones.add(track.zone)
        self._genres.add(track.genre)
        for axis, value in track.axes.items():
            self._axes.setdefault(axis, set()).add(value)


def stream_due(tracks: Iterable[PlannedTrack], tries: int, held: Held, keep: int = 0) -> Iterator[DueTake]:
    """Every take of `tracks` that is due or has passed its place on, in their order."""
    for planned in tracks:
        yield from due_takes(planned.track, planned.takes, tries, held, keep)


def sum_counts(many: Iterable[StandingCounts]) -> StandingCounts:
    """The sum of all counts in `many`."""
    total = StandingCounts()
    for counts in many:
        total = total.plus(counts)
    return total


def is_to_keep(take: Take, entry: KnownTake | None, shelved: ShelvedTakes) -> bool:
    """True when the slot keeps the take that it has, which differs from `take` in its finishing alone."""
    return entry is not None and stands_in(take, entry, shelved.get(take.id))


def standing_of(take: Take, entry: KnownTake | None, shelved: ShelvedTakes) -> Standing:
    """The standing of a planned `take` whose slot has `entry`."""
    if entry is not None and is_to_keep(take, entry, shelved):
        return Standing.TO_FINISH if entry.is_listed else Standing.UNCHANGED
    state = entry.state if entry is not None and entry.take_id == take.id else shelved.get(take.id)
    if state is None:
        return Standing.NEW if entry is None else Standing.CHANGED
    return Standing.UNCHANGED if state in DONE else Standing.UNFINISHED
