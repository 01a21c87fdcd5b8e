"""The survey: compares the ledger with the store, and reports missing, wrong and surplus objects. It changes nothing.

The store's listing and the ledger's takes are read in the same order, by catalog and take, and compared side by side.
Workers may be running meanwhile. Therefore each apparent fault is examined a second time before it is reported, and
takes on their way are never reported. The survey keeps the names and sizes of one catalog's audio and one folder's
listing in memory: with 100,000 takes, the process peaks at 260 MiB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain, groupby
from typing import Final, NamedTuple

from pydantic import ValidationError

from catalog.artefacts import FOLDER as ARTEFACTS
from catalog.errors import LedgerError, MessageError, StoreError, UnknownNameError
from catalog.keys import take_of_audio_or_master, take_of_sidecar, take_of_verdict
from catalog.messages import now_ms
from catalog.sidecar import AudioFile, NewerSidecarError, Sidecar
from catalog.store import ObjectInfo, Store
from catalog.store.integrity import find_fault
from orchestrator.ledger import Ledger, upkeep
from orchestrator.ledger.upkeep import Filed
from orchestrator.upkeep.abreast import THREADS, abreast
from orchestrator.upkeep.digests import ReadDigests
from orchestrator.upkeep.reading import UnreadableError, ask, read_sidecar
from orchestrator.upkeep.verdicts import VerdictDifferences, compare_verdicts

FRESH_MS: Final = 24 * 3_600_000  # audio of a take on its way is put up to so long before its sidecar


class FindingKind(StrEnum):
    """The kinds of faults that a survey finds."""

    MISSING_SIDECAR = "missing sidecar"
    MISSING_AUDIO = "missing audio"
    ALTERED_AUDIO = "altered audio"
    MISSING_MASTER = "missing master"
    ALTERED_MASTER = "altered master"
    DAMAGED_SIDECAR = "damaged sidecar"
    NEWER_SIDECAR = "newer sidecar"
    UNREADABLE_OBJECT = "unreadable object"
    DIFFERENT_SIDECAR = "different sidecar"
    UNRECORDED_SIDECAR = "unrecorded sidecar"
    ORPHAN_AUDIO = "orphan audio"
    UNSTORED_VERDICT = "unstored verdict"
    UNRECORDED_VERDICT = "unrecorded verdict"
    DAMAGED_VERDICT = "damaged verdict"


MEANING: Final = {
    FindingKind.MISSING_SIDECAR: "the ledger has an accepted take without a sidecar",
    FindingKind.MISSING_AUDIO: "the store lacks the audio that a sidecar names",
    FindingKind.ALTERED_AUDIO: "the size or the checksum differs from the sidecar's",
    FindingKind.MISSING_MASTER: "the master that a sidecar names is not there",
    FindingKind.ALTERED_MASTER: "the size or the checksum of a master is not the sidecar's",
    FindingKind.DAMAGED_SIDECAR: "the sidecar cannot be read, or belongs to another take",
    FindingKind.NEWER_SIDECAR: "a newer version of this program wrote the sidecar; only that version can check it",
    FindingKind.UNREADABLE_OBJECT: "the store refuses to return this object",
    FindingKind.DIFFERENT_SIDECAR: "the ledger's copy differs",
    FindingKind.UNRECORDED_SIDECAR: "the take is not accepted in the ledger",
    FindingKind.ORPHAN_AUDIO: "no sidecar names the audio",
    FindingKind.UNSTORED_VERDICT: "the ledger has a listener's verdict that the store lacks",
    FindingKind.UNRECORDED_VERDICT: "the store has a listener's verdict that the ledger lacks",
    FindingKind.DAMAGED_VERDICT: "the verdict cannot be read, or belongs to another take",
}


class Finding(NamedTuple):
    """One fault that a survey found."""

    kind: FindingKind
    catalog: str
    take_id: str
    key: str
    detail: str


@dataclass(frozen=True, slots=True)
class Case:
    """One take with what is wrong about it; `sidecar` is the store's, where it can be read."""

    catalog: str
    take_id: str
    key: str  # of its sidecar
    filed: Filed | None
    sidecar: Sidecar | None
    findings: tuple[Finding, ...]

    @property
    def kinds(self) -> set[FindingKind]:
        """The kinds of the case's findings."""
        return {finding.kind for finding in self.findings}


@dataclass(slots=True)
class Survey:
    """The count of examined objects so far, and the count of findings."""

    takes: int = 0  # that the ledger has as accepted
    sidecars: int = 0
    audio: int = 0
    on_their_way: int = 0
    counts: Counter[FindingKind] = field(default_factory=Counter)
    catalogs: list[str] = field(default_factory=list)


class Surveyor:
    """Compares catalogs, `jobs` objects at once. `quick` reads no audio: sizes come from the listing.

    Audio whose digest `digests` has is not read again.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        quick: bool = False,
        digests: ReadDigests | None = None,
        jobs: int = THREADS,
        on_take: Callable[[], None] = lambda: None,
    ) -> None:
        self.survey = Survey()
        self._store, self._ledger, self._quick, self._on_take = store, ledger, quick, on_take
        self._digests, self._jobs = digests, jobs

    def examine(self, catalog: str | None = None) -> Iterator[Case]:
        """Every take with something wrong, and for orphans a case each; of `catalog` or of all."""
        with self._ledger.read() as connection:
            planned = upkeep.count_accepted(connection, catalog)
        seen: set[str] = set()
        for name, objects in groupby(self._store.list(f"{catalog}/" if catalog else ""), key=_catalog_of):
            if name:
                seen.add(name)
                yield from self._examine(name, objects)
        for name in sorted(planned.keys() - seen):
            yield from self._examine(name, iter(()))

    def examine_verdicts(self) -> tuple[VerdictDifferences, list[Finding]]:
        """The differences between the ledger's and the store's verdicts about the examined catalogs."""
        found = compare_verdicts(self._store, self._ledger, self.survey.catalogs)
        findings = [
            Finding(kind, each.catalog, each.take_id, each.key, f"{each.outcome} at {each.at_ms}")
            for kind, verdicts in (
                (FindingKind.UNSTORED_VERDICT, found.unstored),
                (FindingKind.UNRECORDED_VERDICT, found.unrecorded),
            )
            for each in verdicts
        ]
        unread = ((FindingKind.DAMAGED_VERDICT, found.damaged), (FindingKind.UNREADABLE_OBJECT, found.unread))
        findings += [
            Finding(kind, key.partition("/")[0], str(take_of_verdict(key)), key, "cannot be read")
            for kind, keys in unread
            for key in keys
        ]
        self.survey.counts.update(finding.kind for finding in findings)
        return found, findings

    def _examine(self, catalog: str, objects: Iterator[ObjectInfo]) -> Iterator[Case]:
        """Audio and masters come before sidecars, as `audio` and `masters` sort before `takes`."""
        self.survey.catalogs.append(catalog)
        inspection = _Inspection(self._store, self._ledger, catalog, quick=self._quick, digests=self._digests)
        rest = inspection.take_audio(objects)
        self.survey.audio += len(inspection.audio)
        pairs = _side_by_side(rest, upkeep.filed_takes(self._ledger, catalog))
        for first_look in abreast(inspection.inspect, pairs, self._jobs):
            case = inspection.ask_again(first_look)
            self._count(case)
            self._on_take()
            if case.findings:
                yield case
        for orphan in abreast(inspection.inspect_orphan, inspection.unnamed(), self._jobs):
            if orphan is not None:
                self.survey.counts[FindingKind.ORPHAN_AUDIO] += 1
                yield orphan

    def _count(self, case: Case) -> None:
        survey = self.survey
        survey.takes += bool(case.filed and case.filed.accepted)
        survey.on_their_way += bool(case.filed and case.filed.pending)
        survey.sidecars += bool(case.sidecar or FindingKind.DAMAGED_SIDECAR in case.kinds)
        survey.counts.update(case.kinds)


class _Pair(NamedTuple):
    """A take as the store lists it and as the ledger has it."""

    take_id: str
    listed: ObjectInfo | None
    filed: Filed | None


class _Inspection:
    """One catalog under inspection. What `inspect...` looks at is the store's alone, in many threads at once."""

    def __init__(self, store: Store, ledger: Ledger, catalog: str, *, quick: bool, digests: ReadDigests | None) -> None:
        self._store, self._ledger, self._catalog, self._quick = store, ledger, catalog, quick
        self._digests = digests
        self.audio: dict[str, ObjectInfo] = {}
        self._named: set[str] = set()
        self._unreadable: set[str] = set()  # takes whose sidecar may name any of their audio

    def take_audio(self, objects: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Note the audio that the listing begins with; the rest of it comes back."""
        for info in objects:
            if take_of_sidecar(info.key):
                return chain([info], objects)
            if take_of_audio_or_master(info.key):
                self.audio[info.key] = info
        return iter(())

    def inspect(self, pair: _Pair) -> Case:
        """The case of one take, with its findings."""
        take_id, listed, filed = pair
        key = f"{self._catalog}/takes/{take_id}.json"
        is_expected = filed is not None and filed.accepted
        sidecar, fault = self._read(key, take_id) if listed or is_expected else (None, None)
        findings = [fault] if fault else []
        if sidecar is not None:
            self._named.add(sidecar.audio.key)
            if sidecar.master:
                self._named.add(sidecar.master.audio.key)
            findings += self._compare(sidecar, key, filed)
        elif is_expected and fault is None:
            findings.append(self._finding(FindingKind.MISSING_SIDECAR, take_id, key, "is not there"))
        if sidecar is None and findings:
            self._unreadable.add(take_id)
        return Case(self._catalog, take_id, key, filed, sidecar, tuple(findings))

    def _read(self, key: str, take_id: str) -> tuple[Sidecar | None, Finding | None]:
        """The sidecar, if it can be read; else its fault, if there is a sidecar."""
        try:
            return read_sidecar(self._store, key, take_id), None
        except NewerSidecarError as error:
            return None, self._finding(FindingKind.NEWER_SIDECAR, take_id, key, error.what)
        except MessageError as error:
            return None, self._finding(FindingKind.DAMAGED_SIDECAR, take_id, key, error.what)
        except UnreadableError as error:
            return None, self._finding(FindingKind.UNREADABLE_OBJECT, take_id, key, str(error))

    def ask_again(self, case: Case) -> Case:
        """Ask the ledger again, and drop the findings that a record written since then settles."""
        doubtful = case.kinds & {FindingKind.UNRECORDED_SIDECAR, FindingKind.DIFFERENT_SIDECAR}
        if not doubtful:
            return case
        filed = upkeep.find_filed(self._ledger, case.take_id)
        agrees = filed is not None and (filed.pending or ledgers_copy(filed) == case.sidecar)
        findings = tuple(each for each in case.findings if not (agrees and each.kind in doubtful))
        return replace(case, filed=filed, findings=findings)

    def unnamed(self) -> Iterator[tuple[ObjectInfo, Filed | None]]:
        """The audio that no sidecar named, with its take."""
        for key, info in self.audio.items():
            take_id = str(take_of_audio_or_master(key))
            if key not in self._named and take_id not in self._unreadable:
                yield info, upkeep.find_filed(self._ledger, take_id)

    def inspect_orphan(self, found: tuple[ObjectInfo, Filed | None]) -> Case | None:
        """The case of audio that nothing names; its take may have come to its end since it was listed."""
        info, filed = found
        take_id = str(take_of_audio_or_master(info.key))
        sidecar_key = f"{self._catalog}/takes/{take_id}.json"
        try:
            body = ask(self._store, sidecar_key, lambda: self._store.find(sidecar_key))
        except UnreadableError:
            return None
        if body is not None and info.key.encode() in body:
            return None
        if info.modified_ms > now_ms() - FRESH_MS:
            return None  # its sidecar may be on its way, or a worker that lost a race has just left it
        if self._store.stat(info.key) is None:
            return None
        finding = self._finding(FindingKind.ORPHAN_AUDIO, take_id, info.key, f"{info.size:,} bytes")
        return Case(self._catalog, take_id, sidecar_key, filed, None, (finding,))

    def _compare(self, sidecar: Sidecar, key: str, filed: Filed | None) -> Iterable[Finding]:
        take_id = sidecar.take_id
        yield from self._find_faults(take_id, sidecar.audio, FindingKind.MISSING_AUDIO, FindingKind.ALTERED_AUDIO)
        if sidecar.master:
            kinds = (FindingKind.MISSING_MASTER, FindingKind.ALTERED_MASTER)
            yield from self._find_faults(take_id, sidecar.master.audio, *kinds)
        if filed is None or not (filed.accepted or filed.pending):
            state = f"the take is {filed.state} in the ledger" if filed else "the take is not in the ledger"
            yield self._finding(FindingKind.UNRECORDED_SIDECAR, take_id, key, state)
        elif filed.accepted and ledgers_copy(filed) != sidecar:
            yield self._finding(FindingKind.DIFFERENT_SIDECAR, take_id, key, "the ledger's copy differs")

    def _find_faults(
        self, take_id: str, audio: AudioFile, missing: FindingKind, altered: FindingKind
    ) -> Iterator[Finding]:
        """The faults of one file that a sidecar names."""
        try:
            if fault := ask(self._store, audio.key, lambda: self._fault(audio)):
                yield self._finding(missing if fault == IS_GONE else altered, take_id, audio.key, fault)
        except UnreadableError as error:
            yield self._finding(FindingKind.UNREADABLE_OBJECT, take_id, audio.key, str(error))

    def _fault(self, audio: AudioFile) -> str | None:
        listed = self.audio.get(audio.key)
        if self._quick and listed is not None and listed.size == audio.bytes:
            return None
        if self._quick or self._digests is None or listed is None:
            return audio_fault(self._store, audio, quick=self._quick)
        found = self._digests.find(listed)
        if found is None:
            found = _read_digest(self._store, audio)
            if found is not None:
                self._digests.keep(listed, found)
        return _fault_of(self._store, audio, found)

    def _finding(self, kind: FindingKind, take_id: str, key: str, detail: str) -> Finding:
        return Finding(kind, self._catalog, take_id, key, detail)


IS_GONE: Final = "is not there"


def audio_fault(store: Store, audio: AudioFile, *, quick: bool) -> str | None:
    """The fault of audio, or None; unless `quick`, its bytes are read, and once more before they are called altered."""
    if quick:
        return find_fault(store, audio)
    return _fault_of(store, audio, _read_digest(store, audio))


def _read_digest(store: Store, audio: AudioFile) -> str | None:
    """The digest of the audio's bytes, or None when the audio is missing; a wrong digest is read twice."""
    found = store.sha256_of(audio.key)
    return found if found == audio.sha256 else store.sha256_of(audio.key)


def _fault_of(store: Store, audio: AudioFile, found: str | None) -> str | None:
    if found == audio.sha256:
        return None
    if found is None:
        return IS_GONE
    return find_fault(store, audio) or f"hashes to {found[:16]}... instead of {audio.sha256[:16]}..."


def ledgers_copy(filed: Filed | None) -> Sidecar | None:
    """The sidecar as the ledger has it."""
    try:
        return Sidecar.model_validate(filed.sidecar) if filed and filed.sidecar else None
    except ValidationError:
        return None


def refuse_unknown(store: Store, ledger: Ledger, catalog: str) -> None:
    """Raise UnknownNameError for a catalog that neither the ledger nor the store has."""
    with ledger.read() as connection:
        known = upkeep.count_accepted(connection)
    if catalog in known:
        return
    try:
        there = next(store.list(f"{catalog}/"), None)
    except StoreError as error:
        if "not allowed" not in error.what:
            raise
        there = None
    if there is None:
        raise UnknownNameError(
            f"neither the ledger nor the store has a catalog {catalog!r}",
            why=f"the ledger has: {', '.join(known) or 'none yet'}",
            fix="name one of these catalogs, or leave the name out to check all",
        )


def refuse_empty_store(store: Store, ledger: Ledger, catalog: str | None = None) -> None:
    """Raise StoreError when the store has nothing at all of a catalog with accepted takes: it may be the wrong one."""
    with ledger.read() as connection:
        planned = upkeep.count_accepted(connection, catalog)
    for name, accepted in planned.items():
        if accepted and next(store.list(f"{name}/"), None) is None:
            raise StoreError(
                f"the store has nothing at {store.locate(name)}, and the ledger has {accepted:,} accepted takes there",
                why="this is another store, the store is not mounted, or all its objects are lost",
                fix="correct TUNEMILL_STORE_URL or mount the store; if all objects are lost: `tunemill catalog repair "
                "--all-lost`",
            )


def get_ledger(ledger: Ledger | None) -> Ledger:
    """The ledger, or LedgerError when there is none."""
    if ledger is None:
        raise LedgerError(
            "there is no ledger to compare with",
            why="no ledger was made yet, or TUNEMILL_HOME or TUNEMILL_DATABASE_URL points to another place",
            fix="correct these variables, or make a ledger from the store with `tunemill catalog rebuild`",
        )
    return ledger


def _catalog_of(info: ObjectInfo) -> str:
    catalog, slash, _ = info.key.partition("/")
    return catalog if slash and catalog != ARTEFACTS else ""


def _side_by_side(objects: Iterable[ObjectInfo], filed: Iterator[Filed]) -> Iterator[_Pair]:
    """Pair objects and filed takes in order of takes; a take that is on one side only comes alone."""
    left = next(filed, None)
    for info in objects:
        take_id = take_of_sidecar(info.key)
        if take_id is None:
            continue  # not ours
        while left is not None and left.take_id < take_id:
            yield _Pair(left.take_id, None, left)
            left = next(filed, None)
        if left is not None and left.take_id == take_id:
            yield _Pair(take_id, info, left)
            left = next(filed, None)
        else:
            yield _Pair(take_id, info, None)
    while left is not None:
        yield _Pair(left.take_id, None, left)
        left = next(filed, None)
