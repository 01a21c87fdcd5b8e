"""Changes: the takes that a run would add, replace, retire or restore, one by one, with the fields that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, Final, NamedTuple

from catalog.track import Take
from orchestrator.ledger import KnownTake
from orchestrator.planning.plan import (
    NONE_SHELVED,
    CatalogPlan,
    CellName,
    KnownTakes,
    ShelvedTakes,
    Standing,
    is_to_keep,
    standing_of,
)

ReadTakes = Callable[[Sequence[str]], Mapping[str, Take]]  # takes that the ledger has, by id
_READ_AT_ONCE: Final = 500


class ChangeKind(StrEnum):
    """The effect of a run on a slot."""

    NEW = "new"
    AGAIN = "again"  # the track gets a further take, in the place of one that was rejected
    CHANGED = "changed"  # the slot gets another take
    TO_FINISH = "to finish"  # the slot keeps its music; only its file is to be made anew, without a GPU
    RESTORED = "restored"  # the slot gets a take that was made for an earlier version of the catalog
    RETIRED = "retired"  # the slot is no longer planned, and its take was accepted
    DROPPED = "dropped"  # the slot is no longer planned, and had no accepted take


class Difference(NamedTuple):
    """A field with its value before and after: `master.loudness_lufs`, -16.0, -18.0."""

    field: str
    old: Any
    new: Any


class TakeChange(NamedTuple):
    """The change of one slot."""

    kind: ChangeKind
    take: Take  # that the slot gets; of a slot that is no longer planned the one that it had
    replaced_id: str | None  # the take that the slot had before
    is_leaving: bool  # an accepted track leaves the catalog's list
    differences: tuple[Difference, ...]

    def as_plain_values(self) -> dict[str, Any]:
        """For JSON."""
        track = self.take.track
        return {
            "change": str(self.kind),
            "track": track.key,
            "number": self.take.number,
            **CellName.of(track).as_plain_values(),
            "title": track.title,
            "take_id": self.take.id,
            "replaces": self.replaced_id,
            "accepted_leaves": self.is_leaving,
            "differs": {each.field: [each.old, each.new] for each in self.differences},
        }


def list_changes(
    plan: CatalogPlan, read_takes: ReadTakes, known: KnownTakes, shelved: ShelvedTakes = NONE_SHELVED
) -> Iterator[TakeChange]:
    """The changes of `plan`, in its order; takes that are no longer planned come last.

    `known` and `shelved` are the ledger's takes with which the plan was compared.
    """
    unseen = dict(known)
    changed = _changed(plan, unseen, shelved)
    while some := list(islice(changed, _READ_AT_ONCE)):
        before = read_takes([change.replaced_id for change in some if change.replaced_id])
        for change in some:
            old = before.get(change.replaced_id or "")
            yield change._replace(differences=tuple(differences(old, change.take))) if old else change
    if plan.selected is not None:
        return  # takes that were not selected stay unchanged
    left = iter(unseen.values())
    while entries := list(islice(left, _READ_AT_ONCE)):
        takes = read_takes([entry.take_id for entry in entries])
        for entry in entries:
            kind = ChangeKind.RETIRED if entry.is_listed else ChangeKind.DROPPED
            yield TakeChange(kind, takes[entry.take_id], entry.take_id, entry.is_listed, ())


def _changed(
    plan: CatalogPlan, unseen: dict[tuple[str, int], KnownTake], shelved: ShelvedTakes
) -> Iterator[TakeChange]:
    """The changes of planned slots, without the differing fields; each slot is removed from `unseen`."""
    for due in plan.due():
        take = due.take
        entry = unseen.pop((take.track.key, take.number), None)
        standing = standing_of(take, entry, shelved)
        is_same = entry is not None and entry.take_id == take.id
        if is_same or (entry is None and standing is Standing.UNFINISHED):
            continue
        if is_to_keep(take, entry, shelved):
            if standing is Standing.TO_FINISH:
                yield TakeChange(ChangeKind.TO_FINISH, take, entry and entry.take_id, is_leaving=False, differences=())
            continue
        kind = ChangeKind.CHANGED
        if entry is None:
            kind = ChangeKind.AGAIN if due.is_further else ChangeKind.NEW
        if standing is Standing.UNCHANGED:
            kind = ChangeKind.RESTORED
        yield TakeChange(kind, take, entry and entry.take_id, entry is not None and entry.is_listed, ())


def differences(old: Take, new: Take) -> Iterator[Difference]:
    """The fields that make `new` another take than `old`."""
    before, after = _fields(old), _fields(new)
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield Difference(name, before.get(name), after.get(name))


def in_words(changes: Iterable[Difference], width: int = 32) -> str:
    """`bpm 70 → 72; caption ...felt piano → ...grand piano`: long values from where they begin to differ."""
    return "; ".join(f"{each.field} {' → '.join(_shortened(each.old, each.new, width))}" for each in changes)


def _fields(take: Take) -> dict[str, Any]:
    """Everything that a take's id rests on, by dotted name."""
    flat: dict[str, Any] = {}
    _flatten(take.spec.model_dump(mode="json"), "", flat)
    flat["seed"] = take.track.seed
    return flat


def _flatten(values: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            _flatten(value, f"{prefix}{name}.", flat)
        else:
            flat[f"{prefix}{name}"] = value


def _shortened(old: Any, new: Any, width: int) -> tuple[str, str]:
    texts = [_plain(value) for value in (old, new)]
    if max(map(len, texts)) <= width:
        return texts[0], texts[1]
    same = 0
    while same < min(map(len, texts)) and texts[0][same] == texts[1][same]:
        same += 1
    start = max(0, texts[0].rfind(" ", 0, same) + 1)
    cut = [f"{'...' if start else ''}{text[start:]}" for text in texts]
    first, second = (text if len(text) <= width else f"{text[: width - 3]}..." for text in cut)
    return first, second


def _plain(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
