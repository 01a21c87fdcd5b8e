"""Ledger, sidecars and audio: whatever is wrong is found and mended once, on every store and database."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select, update

from catalog.errors import BusyError, LedgerError, StoreError
from catalog.keys import audio_key, sidecar_key
from catalog.messages import AttemptMade, now_ms
from catalog.orders import OrderSigner
from catalog.sidecar import Sidecar
from catalog.store import Store
from catalog.track import Take
from orchestrator.ledger import Ledger, open_ledger, readings
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.tables import ATTEMPT, RENDITION, RUN, TAKE
from orchestrator.upkeep import rebuild as rebuild_module
from orchestrator.upkeep import repair as repair_module
from orchestrator.upkeep import survey as survey_module
from orchestrator.upkeep.reading import ask
from orchestrator.upkeep.rebuild import rebuild
from orchestrator.upkeep.repair import Remedy, Repaired, repair
from orchestrator.upkeep.survey import FindingKind, Surveyor, refuse_empty_store, refuse_unknown
from orchestrator.upkeep.sweep import sweep
from tests.support.fakes import MemoryStore
from tests.support.farm import DOLLAR_AN_HOUR, attempt, takes
from tests.support.makers import a_sidecar, exactly

CATALOG = "spring"


@pytest.fixture(autouse=True)
def _nothing_is_fresh(monkeypatch):
    """What a test writes counts as old; else no orphan would be a finding for a day."""
    monkeypatch.setattr(survey_module, "FRESH_MS", -3_600_000)


def put_take(
    store: Store, take: Take, *, body: bytes = b"", run_id: str = "r", at_ms: int = 1_000, receipt: str = ""
) -> Sidecar:
    """Audio and sidecar as a worker leaves them."""
    body = body or b"fLaC " + take.id.encode()
    digest = sha256(body).hexdigest()
    sidecar = a_sidecar(take, run_id=run_id)
    key = audio_key(take, digest, "flac")
    audio = sidecar.audio.model_copy(update={"key": key, "sha256": digest, "bytes": len(body)})
    record_id = sha256(body + run_id.encode()).hexdigest()[:32]
    sidecar = sidecar.model_copy(update={"audio": audio, "record_id": record_id, "created_at_ms": at_ms})
    sidecar = sidecar.model_copy(update={"receipt": receipt})
    store.put(key, body, content_type="audio/flac", sha256=digest)
    store.put_if_absent(sidecar_key(take), sidecar.to_json(), content_type="application/json")
    return sidecar


def record(ledger: Ledger, *records: AttemptMade) -> None:
    with ledger.write() as connection:
        record_facts(connection, records, lambda machine, at_ms: DOLLAR_AN_HOUR, 3_000)


def a_catalog(store: Store, ledger: Ledger, count: int = 4) -> list[Sidecar]:
    """A catalog that is made and recorded."""
    planned = takes(count)
    run_id = ledger.begin_or_resume_run(CATALOG, "tone", exactly(planned)).run_id
    sidecars = [put_take(store, take, run_id=run_id) for take in planned]
    record(ledger, *map(AttemptMade.of, sidecars))
    with ledger.write() as connection:
        connection.execute(update(RUN).values(state="finished", finished_at_ms=9))
    return sorted(sidecars, key=lambda sidecar: sidecar.take_id)


def examine(store: Store, ledger: Ledger, *, quick: bool = False) -> list[tuple[str, str]]:
    """What is wrong: kind and take, and the counts say the same."""
    surveyor = Surveyor(store, ledger, quick=quick)
    found = [(finding.kind, finding.take_id) for case in surveyor.examine(CATALOG) for finding in case.findings]
    assert len(found) == surveyor.survey.counts.total()
    return sorted(found)


def mend(store: Store, ledger: Ledger, **options: bool) -> Repaired:
    with ledger.writer_lock() as lock:
        *_, done = repair(store, ledger.fenced(lock), Surveyor(store, ledger).examine(CATALOG), **options)
    return done


def states(ledger: Ledger) -> dict[str, tuple[str, bool]]:
    with ledger.read() as connection:
        rows = connection.execute(select(TAKE.c.take_id, TAKE.c.state, TAKE.c.rendition_id))
        return {take_id: (state, rendition_id is not None) for take_id, state, rendition_id in rows}


def set_take(ledger: Ledger, take_id: str, **values) -> None:
    with ledger.write() as connection:
        connection.execute(update(TAKE).where(TAKE.c.take_id == take_id).values(**values))


def overwrite(store: Store, key: str, body: bytes) -> None:
    store.put(key, body, content_type="application/octet-stream", sha256=sha256(body).hexdigest())


def lose_sidecar(store: Store, one: Sidecar) -> None:
    store.delete(sidecar_key(one.take))


def lose_audio(store: Store, one: Sidecar) -> None:
    store.delete(one.audio.key)


def lose_both(store: Store, one: Sidecar) -> None:
    lose_sidecar(store, one)
    lose_audio(store, one)


def cut_audio(store: Store, one: Sidecar) -> None:
    overwrite(store, one.audio.key, b"fLaC")


def flip_a_bit(store: Store, one: Sidecar) -> None:
    body = store.find(one.audio.key)
    overwrite(store, one.audio.key, body[:-1] + bytes([body[-1] ^ 1]))


def garble_sidecar(store: Store, one: Sidecar) -> None:
    overwrite(store, sidecar_key(one.take), b'{"v": 1, ')


def garble_both(store: Store, one: Sidecar) -> None:
    garble_sidecar(store, one)
    flip_a_bit(store, one)


def swap_sidecar(store: Store, one: Sidecar) -> None:
    overwrite(store, sidecar_key(one.take), a_sidecar(takes(99)[-1]).to_json())


def change_sidecar(store: Store, one: Sidecar) -> None:
    overwrite(store, sidecar_key(one.take), one.model_copy(update={"gpu": "another"}).to_json())


def make_otherwise(store: Store, one: Sidecar) -> None:
    """As if made again by somebody whose record was lost."""
    store.delete(sidecar_key(one.take))
    put_take(store, one.take, body=b"fLaC otherwise", run_id=one.run_id)


def make_otherwise_and_lose(store: Store, one: Sidecar) -> None:
    make_otherwise(store, one)
    store.delete(Sidecar.model_validate_json(store.find(sidecar_key(one.take))).audio.key)


DAMAGES = [
    (lose_sidecar, {FindingKind.MISSING_SIDECAR}, Remedy.RESTORE),
    (lose_both, {FindingKind.MISSING_SIDECAR}, Remedy.MAKE_AGAIN),
    (lose_audio, {FindingKind.MISSING_AUDIO}, Remedy.MAKE_AGAIN),
    (cut_audio, {FindingKind.ALTERED_AUDIO}, Remedy.MAKE_AGAIN),
    (flip_a_bit, {FindingKind.ALTERED_AUDIO}, Remedy.MAKE_AGAIN),
    (garble_sidecar, {FindingKind.DAMAGED_SIDECAR}, Remedy.RESTORE),
    (garble_both, {FindingKind.DAMAGED_SIDECAR}, Remedy.MAKE_AGAIN),
    (swap_sidecar, {FindingKind.DAMAGED_SIDECAR}, Remedy.RESTORE),
    (change_sidecar, {FindingKind.DIFFERENT_SIDECAR}, Remedy.BELIEVE),
    (make_otherwise, {FindingKind.DIFFERENT_SIDECAR, FindingKind.ORPHAN_AUDIO}, Remedy.BELIEVE),
    (
        make_otherwise_and_lose,
        {FindingKind.DIFFERENT_SIDECAR, FindingKind.MISSING_AUDIO, FindingKind.ORPHAN_AUDIO},
        Remedy.RESTORE,
    ),
]


def test_a_catalog_as_it_was_made_has_nothing_wrong(store, ledger):
    a_catalog(store, ledger)
    assert examine(store, ledger) == examine(store, ledger, quick=True) == []


@pytest.mark.parametrize(("damage", "kinds", "remedy"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_damage_is_found_and_mended_once(
    store, ledger, damage: Callable[[Store, Sidecar], None], kinds: set[FindingKind], remedy: Remedy
):
    whole, one, *_ = a_catalog(store, ledger)
    damage(store, one)
    expected = sorted((kind, one.take_id) for kind in kinds)
    assert examine(store, ledger) == expected
    silent = {flip_a_bit: {FindingKind.ALTERED_AUDIO}}.get(damage, set())
    assert examine(store, ledger, quick=True) == [each for each in expected if each[0] not in silent]

    before = states(ledger)
    dry = mend(store, ledger, dry_run=True)
    assert states(ledger) == before
    assert examine(store, ledger) == expected
    done = mend(store, ledger)
    assert done == dry
    assert done.remedies == {remedy: 1}
    lost = remedy is Remedy.MAKE_AGAIN
    assert (done.waiting, done.catalogs) == ((1, [CATALOG]) if lost else (0, []))
    assert states(ledger)[one.take_id] == (("waiting", False) if lost else ("accepted", True))
    assert states(ledger)[whole.take_id] == ("accepted", True)
    assert mend(store, ledger).remedies == {}
    if lost:
        assert ledger.unfinished_run(CATALOG) is not None
        record(ledger, AttemptMade.of(put_take(store, one.take, run_id="again")))
        assert states(ledger)[one.take_id] == ("accepted", True)
    orphans = {FindingKind.ORPHAN_AUDIO} & {kind for kind, _ in examine(store, ledger)}
    list(sweep(store, ledger, now_ms() + 60_000))
    assert orphans <= kinds
    assert examine(store, ledger) == []


@pytest.mark.parametrize("change", [(b'"v": 1', b'"v": 2'), (b'"gpu"', b'"colour": "blue", "gpu"')])
def test_what_a_newer_version_wrote_is_named_and_left_and_all_else_goes_on(ledger, change):
    store = MemoryStore()
    one, other, *_ = a_catalog(store, ledger)
    key = sidecar_key(one.take)
    store.objects[key] = store.objects[key].replace(*change)
    lose_sidecar(store, other)
    newer = (FindingKind.NEWER_SIDECAR, one.take_id)
    assert examine(store, ledger) == sorted([newer, (FindingKind.MISSING_SIDECAR, other.take_id)])
    before = store.objects[key]
    done = mend(store, ledger)
    assert done.remedies == {Remedy.LEAVE: 1, Remedy.RESTORE: 1}
    assert states(ledger)[one.take_id] == ("accepted", True)
    assert swept(store, ledger) == []
    assert (store.objects[key], examine(store, ledger)) == (before, [newer])
    found = rebuild(store, None)
    assert (found.takes, found.damaged) == (3, [key])


def test_an_object_that_the_store_refuses_is_named_and_passed_and_a_store_that_is_away_is_not(ledger):
    store = MemoryStore()
    one, other, *_ = a_catalog(store, ledger)
    refused, find, stat = sidecar_key(one.take), store.find, store.sha256_of

    def refusing(answer):
        def ask(key):
            if key in (refused, other.audio.key):
                raise StoreError(f"cannot read {key}", why="access denied")
            return answer(key)

        return ask

    store.find, store.sha256_of = refusing(find), refusing(stat)
    unreadable = [(FindingKind.UNREADABLE_OBJECT, each.take_id) for each in (one, other)]
    assert examine(store, ledger) == sorted(unreadable)
    assert mend(store, ledger).remedies == {Remedy.LEAVE: 2}
    assert rebuild(store, None).damaged == [refused]
    store.refuse = -1
    with pytest.raises(StoreError):
        examine(store, ledger)


def test_a_store_that_is_away_is_not_taken_for_one_that_refuses_an_object():
    store = MemoryStore()
    store.refuse = -1
    with pytest.raises(StoreError):
        ask(store, "spring/takes/1.json", lambda: store.find("spring/takes/1.json"))


@pytest.mark.parametrize("key", ["../../etc/passwd", "spring/audio/spa/ambient/../../x.flac", "spring/takes/1.json"])
def test_a_sidecar_that_names_what_is_no_audio_of_its_take_is_damaged(ledger, key):
    store = MemoryStore()
    one, *_ = a_catalog(store, ledger)
    astray = one.model_copy(update={"audio": one.audio.model_copy(update={"key": key})})
    store.objects[sidecar_key(one.take)] = astray.to_json()
    assert examine(store, ledger) == [(FindingKind.DAMAGED_SIDECAR, one.take_id)]
    assert mend(store, ledger).remedies == {Remedy.RESTORE: 1}
    assert examine(store, ledger) == []


def test_takes_on_their_way_are_no_findings(store, ledger, monkeypatch):
    *_, sent, waiting = a_catalog(store, ledger)
    for one, state in ((sent, "sent"), (waiting, "waiting")):
        set_take(ledger, one.take_id, state=state, rendition_id=None)
    store.delete(sidecar_key(waiting.take))
    monkeypatch.setattr(survey_module, "FRESH_MS", 86_400_000)
    assert examine(store, ledger) == []
    monkeypatch.setattr(survey_module, "FRESH_MS", -3_600_000)
    assert examine(store, ledger) == [(FindingKind.ORPHAN_AUDIO, waiting.take_id)]


def test_a_take_that_ends_while_it_is_looked_at_is_no_finding(ledger):
    store = MemoryStore()
    one, other, *_ = a_catalog(store, ledger)
    body = store.objects.pop(sidecar_key(one.take))
    find = store.find

    def find_late(key: str) -> bytes | None:
        store.objects[sidecar_key(one.take)] = body
        return find(key)

    store.find = find_late
    set_take(ledger, other.take_id, state="failed", rendition_id=None)
    find_filed = survey_module.upkeep.find_filed

    def record_late(of: Ledger, take_id: str):
        record(ledger, AttemptMade.of(other).model_copy(update={"record_id": "late"}))
        set_take(ledger, other.take_id, rendition_id=other.record_id)
        return find_filed(of, take_id)

    survey_module.upkeep.find_filed = record_late
    try:
        assert examine(store, ledger) == []
    finally:
        survey_module.upkeep.find_filed = find_filed


@pytest.mark.parametrize("known", ["failed", "cancelled", "unplanned"])
def test_a_sidecar_that_the_ledger_does_not_have_is_recorded_as_a_rebuild_would(store, ledger, known):
    a_catalog(store, ledger, 2)
    late = takes(3)[2]
    if known != "unplanned":
        ledger.begin_or_resume_run(CATALOG, "tone", exactly(takes(3)))
        set_take(ledger, late.id, state=known)
    sidecar = put_take(store, late, run_id="an-older-run")
    assert examine(store, ledger) == [(FindingKind.UNRECORDED_SIDECAR, late.id)]
    assert mend(store, ledger).remedies == {Remedy.RECORD: 1}
    assert examine(store, ledger) == []
    assert states(ledger)[late.id] == ("accepted", True)
    with ledger.read() as connection:
        row = connection.execute(select(ATTEMPT).where(ATTEMPT.c.record_id == sidecar.record_id)).mappings().one()
    assert (row["take_id"], row["run_id"], row["outcome"]) == (late.id, "an-older-run", "accepted")
    assert ledger.begin_or_resume_run(CATALOG, "tone", exactly(takes(3))).run_id is None


def test_of_a_slot_that_has_a_take_the_unrecorded_one_is_not_current(ledger):
    store = MemoryStore()
    a_catalog(store, ledger, 2)
    older = takes(2, caption="as it was asked for before")[0]
    put_take(store, older)
    mend(store, ledger)
    assert older.id not in {known.take_id for known in ledger.known_takes(CATALOG).values()}
    assert ledger.shelved_takes(CATALOG) == {older.id: "accepted"}


def test_unrecorded_takes_with_nothing_sound_are_cleaned_up(ledger):
    store = MemoryStore()
    a_catalog(store, ledger, 2)
    stranger, failed = takes(4)[2:]
    ledger.begin_or_resume_run(CATALOG, "tone", exactly([*takes(2), failed]))
    record(ledger, attempt(failed, "failed"))
    assert states(ledger)[failed.id] == ("failed", False)
    for take in (stranger, failed):
        lose_audio(store, put_take(store, take))
    done = mend(store, ledger)
    assert (done.remedies, done.waiting) == ({Remedy.MAKE_AGAIN: 2}, 1)
    assert states(ledger)[failed.id] == ("waiting", False)
    assert stranger.id not in states(ledger)
    assert not {sidecar_key(stranger), sidecar_key(failed)} & store.objects.keys()
    assert mend(store, ledger).remedies == {}


def test_a_lost_take_that_the_preset_no_longer_has_is_not_made_again(ledger):
    store = MemoryStore()
    one, *rest = a_catalog(store, ledger)
    ledger.begin_or_resume_run(CATALOG, "tone", exactly([each.take for each in rest]))
    lose_both(store, one)
    done = mend(store, ledger)
    assert (done.waiting, done.dropped) == (0, 1)
    assert states(ledger)[one.take_id] == ("cancelled", False)
    assert ledger.unfinished_run(CATALOG) is None
    assert examine(store, ledger) == []


def test_a_sidecar_goes_before_its_take_waits_and_a_repair_that_was_cut_off_goes_on(ledger, monkeypatch):
    store = MemoryStore()
    sidecars = a_catalog(store, ledger, 6)
    for one in sidecars[:4]:
        lose_audio(store, one)
    expected = examine(store, ledger)
    monkeypatch.setattr(repair_module, "_AT_ONCE", 2)
    delete, left = store.delete, [1]

    def delete_until_cut_off(key: str) -> None:
        assert states(ledger)[key.partition("/takes/")[2][:24]] == ("accepted", True)
        if not left:
            raise StoreError("no answer")
        left.pop()
        delete(key)

    monkeypatch.setattr(repair_module, "abreast", map)  # one after the other, so that it is known which came first
    monkeypatch.setattr(store, "delete", delete_until_cut_off)
    with pytest.raises(StoreError):
        mend(store, ledger)
    monkeypatch.setattr(store, "delete", delete)
    monkeypatch.setattr(repair_module, "_mend_ledger", lambda *_: pytest.fail("cut off before the ledger"))
    with pytest.raises(pytest.fail.Exception):
        mend(store, ledger)
    assert [kind for kind, _ in examine(store, ledger)] == [FindingKind.MISSING_AUDIO] * 2 + [
        FindingKind.MISSING_SIDECAR
    ] * 2
    monkeypatch.undo()
    assert mend(store, ledger).waiting == len(expected) == 4
    assert mend(store, ledger).remedies == {}
    assert sum(state == ("waiting", False) for state in states(ledger).values()) == 4


def test_only_the_holder_of_the_lock_repairs(ledger):
    store = MemoryStore()
    lose_audio(store, a_catalog(store, ledger)[0])
    with ledger.writer_lock() as stopped:
        fenced = ledger.fenced(stopped)
    with ledger.writer_lock():
        pass
    store.delete = lambda key: pytest.fail("something was removed")
    with pytest.raises(BusyError, match="another process writes to the ledger"):
        list(repair(store, fenced, Surveyor(store, ledger).examine(CATALOG)))
    assert set(states(ledger).values()) == {("accepted", True)}


def test_an_empty_store_is_taken_for_the_wrong_one(store, ledger, tmp_path):
    a_catalog(store, ledger)
    refuse_empty_store(store, ledger)
    with pytest.raises(StoreError, match="4 accepted takes") as caught:
        refuse_empty_store(MemoryStore(), ledger, CATALOG)
    assert "TUNEMILL_STORE_URL" in caught.value.fix
    refuse_unknown(store, ledger, CATALOG)
    for name in ("autumn", "../etc", "Spring"):
        with pytest.raises(Exception, match="neither the ledger nor the store"):
            refuse_unknown(store, ledger, name)


# A rebuilt ledger


def facts(ledger: Ledger) -> list[list[dict]]:
    with ledger.read() as connection:
        return [
            [dict(row) for row in connection.execute(select(table).order_by(table.c.record_id)).mappings()]
            for table in (ATTEMPT, RENDITION)
        ]


def test_a_rebuilt_ledger_has_the_rows_of_the_lost_one(store, ledger, database_url, monkeypatch):
    monkeypatch.setattr(rebuild_module, "_AT_ONCE", 3)
    a_catalog(store, ledger, 8)
    put_take(store, takes(9)[8], run_id="later", at_ms=5_000)
    record(ledger, AttemptMade.of(put_take(store, takes(9)[8], run_id="later", at_ms=5_000)))
    fresh = open_ledger(database_url.replace("ledger.sqlite", "fresh.sqlite"))
    with fresh.writer_lock() as lock:
        found = rebuild(store, fresh.fenced(lock))
    assert (found.takes, found.runs, found.catalogs, found.damaged) == (9, 2, [CATALOG], [])
    assert facts(fresh) == facts(ledger)
    assert examine(store, fresh) == []
    assert fresh.begin_or_resume_run(CATALOG, "tone", exactly(takes(9))).run_id is None
    with fresh.read() as connection:
        runs = connection.execute(select(RUN).order_by(RUN.c.finished_at_ms)).mappings().all()
    assert [(run["state"], run["started_at_ms"], run["finished_at_ms"]) for run in runs] == [
        ("finished", 1_000, 1_000),
        ("finished", 5_000, 5_000),
    ]
    with fresh.writer_lock() as lock, pytest.raises(LedgerError, match="has takes already"):
        rebuild(store, fresh.fenced(lock))
    fresh.close()


def test_of_two_takes_of_a_slot_the_newest_is_current(ledger):
    store = MemoryStore()
    old, new = takes(2, caption="old")[0], takes(2, caption="new")[0]
    put_take(store, new, at_ms=2_000)
    put_take(store, old, at_ms=1_000)
    rebuild(store, ledger)
    assert [known.take_id for known in ledger.known_takes(CATALOG).values()] == [new.id]
    assert ledger.shelved_takes(CATALOG) == {old.id: "accepted"}


def test_damaged_sidecars_are_left_out_and_named_and_those_of_an_earlier_version_are_taken(ledger):
    store = MemoryStore()
    one, two, three = (put_take(store, take) for take in takes(3))
    garble_sidecar(store, one)
    overwrite(store, sidecar_key(two.take), two.model_copy(update={"record_id": ""}).to_json())
    assert rebuild(store, None).damaged == [sidecar_key(one.take)]
    assert states(ledger) == {}
    found = rebuild(store, ledger)
    assert (found.takes, found.damaged) == (2, [sidecar_key(one.take)])
    assert states(ledger) == {two.take_id: ("accepted", True), three.take_id: ("accepted", True)}


def test_a_rebuilt_ledger_marks_takes_that_nothing_proves_to_have_been_ordered(store, ledger, monkeypatch):
    signer = OrderSigner(Ed25519PrivateKey.generate())
    before, ordered, planted, copied = takes(4)
    put_take(store, before)
    listed_ms = {info.key: info.modified_ms for info in store.list("")}
    put_take(store, ordered, receipt=signer.receipt_of(ordered.id, max(listed_ms.values()) + 1))
    put_take(store, planted)
    put_take(store, copied, receipt=signer.receipt_of(ordered.id, 1))
    later = store.list

    def list_later(prefix):
        """The clock of a store may be too coarse to tell the first take from the others."""
        infos = list(later(prefix))
        return iter([info._replace(modified_ms=info.modified_ms + 10 * (info.key not in listed_ms)) for info in infos])

    monkeypatch.setattr(store, "list", list_later, raising=False)
    with ledger.writer_lock() as lock:
        found = rebuild(store, ledger.fenced(lock), signer=signer)
    assert sorted(found.unordered) == sorted([planted.id, copied.id])
    with ledger.read() as connection:
        marked = {track.take.id for track in readings.list_tracks(connection) if not track.is_order_known}
    assert marked == {planted.id, copied.id}


def test_a_rebuild_that_is_cut_off_leaves_an_empty_ledger(ledger, monkeypatch):
    store = MemoryStore()
    monkeypatch.setattr(rebuild_module, "_AT_ONCE", 2)
    for take in takes(80):
        put_take(store, take)
    store.refuse = 0
    find, answered = store.find, []

    def find_some(key: str) -> bytes | None:
        answered.append(key)
        if len(answered) > 70:
            store.refuse = -1
        return find(key)

    store.find = find_some
    with pytest.raises(StoreError):
        rebuild(store, ledger)
    assert states(ledger) == {}
    store.find, store.refuse = find, 0
    assert rebuild(store, ledger).takes == 80


# The sweep


def swept(store: Store, ledger: Ledger | None, **options) -> list[tuple[str, str]]:
    return [(each.kind, each.info.key) for each in sweep(store, ledger, now_ms() + 60_000, **options)]


def test_what_nothing_names_is_removed_once_it_is_old(store, ledger):
    one, *_ = a_catalog(store, ledger)
    kept = {info.key for info in store.list("")}
    orphan = audio_key(one.take, "0" * 64, "flac")
    overwrite(store, orphan, b"nobody's")
    overwrite(store, "tunemill-check-0123456789abcdef", b"x")
    expected = [("orphan audio", orphan), ("left-over check", "tunemill-check-0123456789abcdef")]
    assert list(sweep(store, ledger, now_ms() - 60_000)) == []
    assert swept(store, ledger, dry_run=True) == expected
    assert swept(store, ledger) == expected
    assert {info.key for info in store.list("")} == kept
    assert swept(store, ledger) == []


def test_audio_stays_while_anything_may_need_it(ledger):
    store = MemoryStore()
    by_ledger, unreadable, waiting, *_ = a_catalog(store, ledger)
    lose_sidecar(store, by_ledger)
    garble_sidecar(store, unreadable)
    lose_sidecar(store, waiting)
    set_take(ledger, waiting.take_id, state="waiting", rendition_id=None)
    put_take(store, takes(1, catalog="bare")[0])
    store.delete(sidecar_key(takes(1, catalog="bare")[0]))
    notes: list[str] = []
    before = dict(store.objects)
    assert swept(store, ledger, note=notes.append) == []
    assert store.objects == before
    assert notes == ["bare has audio and no sidecar: not changed"]
    assert [key for _, key in swept(store, None)] == sorted([by_ledger.audio.key, waiting.audio.key])


def test_audio_that_was_written_anew_since_it_was_listed_stays(ledger):
    store = MemoryStore()
    one, *_ = a_catalog(store, ledger)
    orphan = audio_key(one.take, "0" * 64, "flac")
    store.objects[orphan] = b"old"
    store.modified_ms = dict.fromkeys(store.objects, 1)
    find = store.find

    def find_and_rewrite(key: str) -> bytes | None:
        store.modified_ms[orphan] = now_ms()
        return find(key)

    store.find = find_and_rewrite
    assert list(sweep(store, ledger, 1_000)) == []
    assert store.objects[orphan] == b"old"
