"""A listener's verdict lies in the store beside the track: no lost ledger, kill or clock puts rejected music on air."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from catalog.errors import BusyError, MessageError, StoreError
from catalog.messages import AttemptMade
from catalog.sidecar import Sidecar
from catalog.store import Store
from catalog.verdicts import NewerVerdictError, Verdict, VerdictOutcome, parse_verdict
from orchestrator.ledger import Ledger, open_ledger, readings
from orchestrator.ledger.tables import VERDICT
from orchestrator.ledger.verdicts import decide, record_verdicts
from orchestrator.upkeep.rebuild import rebuild
from orchestrator.upkeep.survey import FindingKind, Surveyor
from orchestrator.upkeep.verdicts import repair_verdicts, store_verdicts
from tests.contract.test_upkeep import CATALOG, a_catalog
from tests.support.fakes import MemoryStore


def listed(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return sorted(track.take.id for track in readings.list_tracks(connection, CATALOG))


def judge(
    store: Store, ledger: Ledger, takes: list[str], outcome: VerdictOutcome, *, at_ms: int = 5, dies: str = ""
) -> list[Verdict]:
    """As the commands do it; `dies` names the step before which the process is killed."""
    found = [ledger.find_rendition(take_id) for take_id in takes]
    with ledger.read() as connection:
        decided = decide(connection, [each for each in found if each], outcome, "too loud", at_ms)
    if dies == "store":
        return []
    store_verdicts(store, decided)
    if dies == "ledger":
        return []
    with ledger.write() as connection:
        record_verdicts(connection, decided)
    return decided


def differences(store: Store, ledger: Ledger) -> list[tuple[str, str]]:
    surveyor = Surveyor(store, ledger)
    assert not list(surveyor.examine(CATALOG))
    return sorted((finding.kind, finding.take_id) for finding in surveyor.examine_verdicts()[1])


def mend(store: Store, ledger: Ledger) -> None:
    surveyor = Surveyor(store, ledger)
    list(surveyor.examine(CATALOG))
    with ledger.writer_lock() as lock:
        repair_verdicts(store, ledger.fenced(lock), surveyor.examine_verdicts()[0])


@pytest.fixture
def new_ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'new.sqlite'}")
    yield opened
    opened.close()


def rebuilt(store: Store, new_ledger: Ledger) -> Ledger:
    with new_ledger.writer_lock() as lock:
        rebuild(store, new_ledger.fenced(lock))
    return new_ledger


def verdict_rows(ledger: Ledger) -> list[tuple]:
    columns = [VERDICT.c[name] for name in ("record_id", "take_id", "outcome", "reason", "at_ms")]
    with ledger.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(VERDICT.c.verdict_id))]


def test_rejected_music_stays_off_air_when_the_ledger_is_rebuilt(store, ledger, new_ledger) -> None:
    first, second, *rest = (sidecar.take_id for sidecar in a_catalog(store, ledger))
    judge(store, ledger, [first, second], "rejected", at_ms=5)
    judge(store, ledger, [second], "accepted", at_ms=6)
    assert listed(ledger) == sorted([second, *rest])
    in_slots = ledger.known_takes(CATALOG).values()
    assert sorted(known.take_id for known in in_slots if known.is_listed) == listed(ledger)
    assert differences(store, ledger) == []
    rebuilt(store, new_ledger)
    assert listed(new_ledger) == listed(ledger)
    assert verdict_rows(new_ledger) == verdict_rows(ledger)
    assert differences(store, new_ledger) == []


def test_the_same_verdict_again_changes_nothing(store, ledger) -> None:
    first, *_ = a_catalog(store, ledger)
    assert len(judge(store, ledger, [first.take_id], "rejected")) == 1
    assert judge(store, ledger, [first.take_id], "rejected", at_ms=9) == []
    assert judge(store, ledger, [first.take_id], "accepted", at_ms=1)[0].at_ms > 5  # the clock was set back
    assert first.take_id in listed(ledger)


def test_verdicts_of_the_version_before_are_taken_to_the_store(store, ledger, new_ledger) -> None:
    first, *rest = a_catalog(store, ledger)
    said = {"take_id": first.take_id, "outcome": "rejected", "reason": "hum", "at_ms": 7}
    with ledger.write() as connection:
        connection.execute(insert(VERDICT).values(record_id=AttemptMade.of(first).record_id, **said))
    assert differences(store, ledger) == [(FindingKind.UNSTORED_VERDICT, first.take_id)]
    mend(store, ledger)
    assert differences(store, ledger) == []
    assert listed(rebuilt(store, new_ledger)) == sorted(each.take_id for each in rest)


@pytest.mark.parametrize("step", ["store", "ledger"])
def test_a_kill_between_store_and_ledger_is_mended_by_the_same_command(store, ledger, step) -> None:
    first, *rest = a_catalog(store, ledger)
    judge(store, ledger, [first.take_id], "rejected", dies=step)
    judge(store, ledger, [first.take_id], "rejected", at_ms=8)
    assert listed(ledger) == sorted(each.take_id for each in rest)
    mend(store, ledger)
    assert listed(ledger) == sorted(each.take_id for each in rest)
    assert differences(store, ledger) == []


def test_a_kill_between_store_and_ledger_is_mended_by_a_repair(store, ledger) -> None:
    first, *rest = a_catalog(store, ledger)
    judge(store, ledger, [first.take_id], "rejected", dies="ledger")
    assert differences(store, ledger) == [(FindingKind.UNRECORDED_VERDICT, first.take_id)]
    mend(store, ledger)
    assert listed(ledger) == sorted(each.take_id for each in rest)


def test_a_damaged_verdict_is_written_again_from_the_ledger(ledger) -> None:
    store = MemoryStore()
    first, *_ = a_catalog(store, ledger)
    (verdict,) = judge(store, ledger, [first.take_id], "rejected")
    store.objects[verdict.key] = b"{"
    kinds = {kind for kind, _ in differences(store, ledger)}
    assert kinds == {FindingKind.DAMAGED_VERDICT, FindingKind.UNSTORED_VERDICT}
    mend(store, ledger)
    assert differences(store, ledger) == []
    assert parse_verdict(store.objects[verdict.key], verdict.key) == verdict


def test_only_the_holder_of_the_lock_removes_a_damaged_verdict(ledger) -> None:
    store = MemoryStore()
    first, *_ = a_catalog(store, ledger)
    (verdict,) = judge(store, ledger, [first.take_id], "rejected")
    store.objects[verdict.key] = b"{"
    surveyor = Surveyor(store, ledger)
    list(surveyor.examine(CATALOG))
    with ledger.writer_lock() as stopped:
        fenced = ledger.fenced(stopped)
    with ledger.writer_lock():
        pass
    with pytest.raises(BusyError):
        repair_verdicts(store, fenced, surveyor.examine_verdicts()[0])
    assert store.objects[verdict.key] == b"{"


def test_a_store_that_is_away_decides_nothing(ledger) -> None:
    store = MemoryStore()
    first, *_ = a_catalog(store, ledger)
    store.refuse = -1
    with pytest.raises(StoreError):
        judge(store, ledger, [first.take_id], "rejected")
    assert first.take_id in listed(ledger)


def test_a_forged_verdict_about_another_sound_is_left_out(ledger, new_ledger) -> None:
    store = MemoryStore()
    first, *_ = a_catalog(store, ledger)
    other = {"audio_sha256": "0" * 64, "outcome": "rejected", "at_ms": 1}
    store_verdicts(store, [Verdict(catalog=CATALOG, take_id=first.take_id, **other)])
    assert differences(store, ledger) == []
    assert first.take_id in listed(rebuilt(store, new_ledger))


def test_one_that_was_moved_is_damaged_and_one_of_a_newer_version_is_not() -> None:
    verdict = Verdict(catalog=CATALOG, take_id="0" * 24, audio_sha256="a" * 64, outcome="rejected", at_ms=1)
    assert parse_verdict(verdict.to_json(), verdict.key) == verdict
    with pytest.raises(MessageError, match="another verdict"):
        parse_verdict(verdict.to_json(), verdict.key.replace("0" * 24, "1" * 24))
    for newer in ({"v": 2}, {"outcome": "picked"}, {"stars": 5}):
        with pytest.raises(NewerVerdictError):
            parse_verdict(json.dumps({**verdict.model_dump(), **newer}).encode(), verdict.key)
    with pytest.raises(NewerVerdictError):
        parse_verdict(b'{"v": 2, "decision": "picked"}', verdict.key)
    with pytest.raises(MessageError, match="damaged"):
        parse_verdict(json.dumps({**verdict.model_dump(), "stars": 5, "at_ms": "soon"}).encode(), verdict.key)


def test_verdicts_are_read_and_written_as_they_were() -> None:
    files = sorted((Path(__file__).parents[1] / "support" / "golden" / "verdicts-1").glob("*.json"))
    assert files
    for file in files:
        verdict = parse_verdict(file.read_bytes(), f"mini/verdicts/{file.name}")
        assert verdict.to_json() == file.read_bytes()


outcomes = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["accepted", "rejected"]), st.integers(0, 4)))


@given(said=outcomes, dies=st.lists(st.sampled_from(["", "", "store", "ledger"]), min_size=12, max_size=12))
@settings(max_examples=25)
def test_whatever_was_said_and_killed_a_repair_makes_both_agree(said, dies) -> None:
    """Ledger, store and a rebuilt ledger list the same, whatever order the clock gives."""
    store = MemoryStore()
    ledger, again = open_ledger("sqlite://"), open_ledger("sqlite://")
    try:
        sidecars: list[Sidecar] = a_catalog(store, ledger, 3)
        for (place, outcome, at_ms), step in zip(said, dies, strict=False):
            judge(store, ledger, [sidecars[place].take_id], outcome, at_ms=at_ms, dies=step)
        mend(store, ledger)
        assert differences(store, ledger) == []
        assert listed(rebuilt(store, again)) == listed(ledger)
    finally:
        ledger.close()
        again.close()
