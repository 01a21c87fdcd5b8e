"""Repair: where store and ledger disagree, the sound copy replaces the other; a take that neither has is made again.

Repair deletes a bad sidecar before its take waits again; otherwise a worker would find the sidecar and regard the take
as done. Repair may be killed after any step: the next repair finds the remaining work, and after a complete repair,
another one finds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

from catalog.keys import take_of_audio
from catalog.messages import now_ms
from catalog.sidecar import AudioFile, Sidecar
from catalog.store import Store
from orchestrator.ledger import Ledger, upkeep
from orchestrator.upkeep.abreast import abreast
from orchestrator.upkeep.survey import IS_GONE, Case, FindingKind, audio_fault, ledgers_copy

_AT_ONCE: Final = 500  # in one transaction
_NOT_OURS_TO_JUDGE: Final = {FindingKind.NEWER_SIDECAR, FindingKind.UNREADABLE_OBJECT}
_MASTER: Final = {FindingKind.MISSING_MASTER, FindingKind.ALTERED_MASTER}
_BROKEN: Final = {
    FindingKind.MISSING_SIDECAR,
    FindingKind.DAMAGED_SIDECAR,
    FindingKind.MISSING_AUDIO,
    FindingKind.ALTERED_AUDIO,
}


class Remedy(StrEnum):
    """The action that a repair takes on a take."""

    RECORD = "record"  # the store's sidecar is sound and the ledger has none
    BELIEVE = "believe"  # the store's sidecar is sound and the ledger's copy another
    RESTORE = "restore"  # the ledger's copy is sound, the store's is not
    MAKE_AGAIN = "make again"  # nothing sound is left
    FORGET_MASTER = "forget master"  # the take is sound, and its master is not
    LEAVE = "leave"  # this program cannot judge it
    RECORD_VERDICT = "record verdict"  # the store has a listener's word that the ledger lacks
    STORE_VERDICT = "store verdict"  # the other way round
    REMOVE_VERDICT = "remove verdict"  # the store's cannot be read, and the ledger has none in its place


MEANING: Final = {
    Remedy.RECORD: "recorded in the ledger from the sidecar",
    Remedy.BELIEVE: "changed in the ledger to match the sidecar",
    Remedy.RESTORE: "with a sidecar written again from the ledger's copy",
    Remedy.MAKE_AGAIN: "to be made again",
    Remedy.FORGET_MASTER: "kept without a master: format and level can no longer change without a GPU",
    Remedy.LEAVE: "left as they are: a newer version wrote them, or the store refuses them",
    Remedy.RECORD_VERDICT: "verdicts recorded in the ledger",
    Remedy.STORE_VERDICT: "verdicts written to the store",
    Remedy.REMOVE_VERDICT: "unreadable verdicts removed from the store",
}


_BELIEVED: Final = {Remedy.BELIEVE, Remedy.FORGET_MASTER}


class RepairStep(NamedTuple):
    """One take and the remedy for it."""

    case: Case
    remedy: Remedy
    sidecar: Sidecar | None = None  # that is believed
    altered: tuple[str, ...] = ()  # keys of audio that is worth nothing


class Repaired(NamedTuple):
    """The sum of a repair that was done, or would be done."""

    remedies: Counter[Remedy]
    waiting: int  # takes that wait again
    catalogs: list[str]  # of these
    dropped: int  # takes that are lost, and that no preset wants any more
    left: int  # orphans: they do no harm, and `tunemill catalog gc` removes them


def repair(
    store: Store, ledger: Ledger, cases: Iterable[Case], *, quick: bool = False, dry_run: bool = False
) -> Iterator[RepairStep | Repaired]:
    """Put right what a survey finds; every step as it is taken, and at last the sum.

    `ledger` must be fenced by the writer's lock. With `dry_run` nothing is written.
    """
    remedies: Counter[Remedy] = Counter()
    waiting = dropped = left = 0
    catalogs: list[str] = []
    stream = iter(cases)
    while chunk := list(islice(stream, _AT_ONCE)):
        left += sum(case.kinds == {FindingKind.ORPHAN_AUDIO} for case in chunk)
        broken = [case for case in chunk if case.kinds != {FindingKind.ORPHAN_AUDIO}]
        steps = list(abreast(lambda case: choose(store, case, quick=quick), broken))
        if steps and not dry_run:
            with ledger.write():
                pass  # nothing is removed on behalf of a writer whose lock has passed to another
            for _ in abreast(lambda step: _mend_store(store, step), steps):
                pass
        for catalog in sorted({step.case.catalog for step in steps}):
            ours = [step for step in steps if step.case.catalog == catalog]
            again = _count_only(ours) if dry_run else _mend_ledger(ledger, catalog, ours)
            waiting, dropped = waiting + again.waiting, dropped + again.dropped
            if again.waiting and catalog not in catalogs:
                catalogs.append(catalog)
        remedies.update(step.remedy for step in steps)
        yield from steps
    yield Repaired(remedies, waiting, catalogs, dropped, left)


def choose(store: Store, case: Case, *, quick: bool) -> RepairStep:
    """Choose the remedy for a take."""
    if case.kinds & _NOT_OURS_TO_JUDGE:
        return RepairStep(case, Remedy.LEAVE)
    if case.sidecar is not None and case.sidecar.master and case.kinds & _MASTER and not case.kinds & _BROKEN:
        master = case.sidecar.master.audio
        altered = [master.key] if FindingKind.ALTERED_MASTER in case.kinds else []
        without = case.sidecar.model_copy(update={"master": None})
        return RepairStep(case, Remedy.FORGET_MASTER, without, tuple(altered))
    if case.sidecar is not None and not case.kinds & _BROKEN:
        remedy = Remedy.BELIEVE if case.filed is not None and case.filed.accepted else Remedy.RECORD
        return RepairStep(case, remedy, case.sidecar)
    copy = ledgers_copy(case.filed) if case.filed is not None and case.filed.accepted else None
    altered = []
    if copy is not None and copy.take_id == case.take_id:
        fault = audio_fault(store, copy.audio, quick=quick)
        if fault is None:
            return RepairStep(case, Remedy.RESTORE, copy)
        altered += _altered(copy.audio, fault)
    if case.sidecar is not None and FindingKind.ALTERED_AUDIO in case.kinds:
        altered += _altered(case.sidecar.audio, "")
    return RepairStep(case, Remedy.MAKE_AGAIN, altered=tuple(dict.fromkeys(altered)))


def _altered(audio: AudioFile, fault: str) -> list[str]:
    return [audio.key] if fault != IS_GONE and take_of_audio(audio.key) else []


def _mend_store(store: Store, step: RepairStep) -> None:
    key = step.case.key
    if step.remedy is Remedy.RESTORE and step.sidecar is not None:
        if FindingKind.MISSING_SIDECAR not in step.case.kinds:
            store.delete(key)
        store.put_if_absent(key, step.sidecar.to_json(), content_type="application/json")
    elif step.remedy is Remedy.FORGET_MASTER and step.sidecar is not None:
        store.delete(key)
        store.put_if_absent(key, step.sidecar.to_json(), content_type="application/json")
        for master in step.altered:
            store.delete(master)
    elif step.remedy is Remedy.MAKE_AGAIN:
        store.delete(key)
        for audio in step.altered:
            store.delete(audio)  # its name promises other bytes


def _mend_ledger(ledger: Ledger, catalog: str, steps: list[RepairStep]) -> upkeep.MadeAgain:
    recorded = [step.sidecar for step in steps if step.remedy is Remedy.RECORD and step.sidecar]
    believed = [step.sidecar for step in steps if step.remedy in _BELIEVED and step.sidecar]
    lost = [step.case.take_id for step in steps if step.remedy is Remedy.MAKE_AGAIN]
    with ledger.write() as connection:
        upkeep.write_unrecorded(connection, recorded)
        for sidecar in believed:
            upkeep.write_other_rendition(connection, sidecar, now_ms())
        return upkeep.make_again(connection, catalog, lost, now_ms())


def _count_only(steps: list[RepairStep]) -> upkeep.MadeAgain:
    lost = [step.case.filed for step in steps if step.remedy is Remedy.MAKE_AGAIN and step.case.filed]
    waiting = sum(filed.current and filed.state in ("accepted", "failed") for filed in lost)
    return upkeep.MadeAgain(waiting, sum(filed.accepted and not filed.current for filed in lost))
