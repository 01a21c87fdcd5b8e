"""Masters, and takes that were finished from them: verify, repair, rebuild and gc know both, on every store."""

from __future__ import annotations

from hashlib import sha256

import pytest
from sqlalchemy import select, update

from catalog.keys import audio_key, master_key, sidecar_key
from catalog.messages import AttemptMade, now_ms
from catalog.sidecar import MasterFile, Origin, Sidecar, StageTimes, parse_sidecar
from catalog.spec import AudioFormat
from catalog.store import Store
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.finishing import read_sidecars, record_finished, takes_without_source, with_origins
from orchestrator.ledger.tables import ATTEMPT, RUN, TAKE
from orchestrator.ledger.upkeep import write_other_rendition
from orchestrator.ledger.verdicts import decide
from orchestrator.upkeep.rebuild import rebuild
from orchestrator.upkeep.repair import Remedy
from orchestrator.upkeep.survey import FindingKind
from orchestrator.upkeep.sweep import sweep
from tests.contract.test_upkeep import CATALOG, _nothing_is_fresh, examine, mend, overwrite, put_take, record  # noqa: F401
from tests.support.farm import takes
from tests.support.makers import exactly, refinished

FINISHING = "finishing-run"


def put_object(store: Store, sidecar: Sidecar, key: str, body: bytes) -> dict:
    """An object of a take, and what its description says."""
    digest = sha256(body).hexdigest()
    store.put(key, body, content_type="audio/flac", sha256=digest)
    return {"key": key, "sha256": digest, "bytes": len(body)}


def with_master(store: Store, sidecar: Sidecar) -> Sidecar:
    """The same take with a master beside it."""
    body = b"fLaC master of " + sidecar.take_id.encode()
    said = put_object(store, sidecar, master_key(sidecar.take, sha256(body).hexdigest(), "flac"), body)
    master = MasterFile(audio=sidecar.audio.model_copy(update=said), gain_db=-1.5)
    changed = sidecar.model_copy(update={"master": master})
    overwrite(store, sidecar_key(sidecar.take), changed.to_json())
    return changed


def finish(store: Store, sidecar: Sidecar) -> Sidecar:
    """The take that a change of format has made of it."""
    take = refinished(sidecar.take, format=AudioFormat.OGG)
    body = b"OggS " + take.id.encode()
    said = put_object(store, sidecar, audio_key(take, sha256(body).hexdigest(), "ogg"), body)
    finished = sidecar.model_copy(
        update={
            "take_id": take.id,
            "take": take,
            "run_id": FINISHING,
            "record_id": sha256(body).hexdigest()[:32],
            "audio": sidecar.audio.model_copy(update=said),
            "times": StageTimes(),
            "created_at_ms": 2_000,
            "origin": Origin(take_id=sidecar.take_id, audio_sha256=sidecar.audio.sha256),
        }
    )
    store.put_if_absent(sidecar_key(take), finished.to_json(), content_type="application/json")
    return finished


@pytest.fixture
def made(store, ledger) -> list[Sidecar]:
    """Four recorded takes with masters."""
    planned = takes(4)
    run_id = ledger.begin_or_resume_run(CATALOG, "tone", exactly(planned)).run_id
    sidecars = [with_master(store, put_take(store, take, run_id=run_id)) for take in planned]
    record(ledger, *map(AttemptMade.of, sidecars))
    with ledger.write() as connection:
        connection.execute(update(RUN).values(state="finished", finished_at_ms=9))
    return sidecars


def file_finished(ledger: Ledger, *sidecars: Sidecar) -> None:
    with ledger.write() as connection:
        record_finished(connection, sidecars)


def listed(ledger: Ledger) -> dict[str, bool]:
    with ledger.read() as connection:
        return dict(connection.execute(select(TAKE.c.take_id, TAKE.c.current)).all())


def test_masters_are_no_orphans_and_nothing_is_wrong(store, ledger, made):
    file_finished(ledger, finish(store, made[0]))
    assert examine(store, ledger) == []
    assert list(sweep(store, ledger, now_ms() + 3_600_000)) == []


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_take_without_its_master_keeps_its_file(store, ledger, made, harm):
    one = made[1]
    key = one.master.audio.key
    store.delete(key) if harm == "gone" else overwrite(store, key, b"fLaC something else")
    kind = FindingKind.MISSING_MASTER if harm == "gone" else FindingKind.ALTERED_MASTER
    assert examine(store, ledger) == [(kind, one.take_id)]
    assert mend(store, ledger).remedies == {Remedy.FORGET_MASTER: 1}
    assert examine(store, ledger) == []
    left = parse_sidecar(store.find(sidecar_key(one.take)), one.take_id)
    assert (left.master, left.audio) == (None, one.audio)
    assert store.find(key) is None
    assert read_sidecars(ledger, [one.take_id]) == {one.take_id: left}


def test_a_master_that_no_sidecar_names_goes(store, ledger, made):
    one = made[2]
    stray = master_key(one.take, "77" * 32, "flac")
    put_object(store, one, stray, b"fLaC of a rendering that lost a race")
    assert examine(store, ledger) == [(FindingKind.ORPHAN_AUDIO, one.take_id)]
    assert [swept.info.key for swept in sweep(store, ledger, now_ms() + 3_600_000)] == [stray]


def test_a_master_stays_for_the_takes_that_were_finished_from_it(store, ledger, made):
    one = made[0]
    file_finished(ledger, finish(store, one))
    overwrite(store, sidecar_key(one.take), one.model_copy(update={"master": None}).to_json())
    with ledger.write() as connection:  # as after the first take was made again
        connection.execute(
            update(TAKE).where(TAKE.c.take_id == one.take_id).values(rendition_id=None, state="cancelled")
        )
    assert list(sweep(store, ledger, now_ms() + 3_600_000)) == []
    assert list(sweep(store, None, now_ms() + 3_600_000)) == []


def test_a_finished_take_has_the_place_and_costs_no_workers_time(store, ledger, made):
    finished = finish(store, made[0])
    file_finished(ledger, finished)
    file_finished(ledger, finished)
    assert listed(ledger) == {
        **{each.take_id: True for each in made[1:]},
        made[0].take_id: False,
        finished.take_id: True,
    }
    with ledger.read() as connection:
        attempts = connection.execute(select(ATTEMPT).where(ATTEMPT.c.take_id == finished.take_id)).mappings().all()
        run = connection.execute(select(RUN.c.state).where(RUN.c.run_id == FINISHING)).scalar_one()
    (attempt,) = attempts
    assert (attempt["adopted"], attempt["batch_id"], attempt["audio_ms"], attempt["diffuse_ms"]) == (True, "", 0, 0)
    assert run == "finished"


def test_a_rebuilt_ledger_says_the_same_of_finished_takes(store, ledger, made, tmp_path):
    file_finished(ledger, finish(store, made[0]))
    again = open_ledger(f"sqlite:///{tmp_path / 'again.sqlite'}")
    with again.writer_lock() as lock:
        rebuild(store, again.fenced(lock))
    assert listed(again) == listed(ledger)
    assert examine(store, again) == []
    with again.read() as connection, ledger.read() as before:
        rows = [
            sorted(each.execute(select(ATTEMPT.c.take_id, ATTEMPT.c.adopted, ATTEMPT.c.audio_ms)).all())
            for each in (connection, before)
        ]
    assert rows[0] == rows[1]
    again.close()


def test_the_ledger_knows_of_which_takes_no_audio_serves(store, ledger, made):
    lossy = made[0].audio.model_copy(update={"format": AudioFormat.MP3})
    without = made[0].model_copy(update={"master": None, "audio": lossy, "record_id": "another"})
    with ledger.write() as connection:
        write_other_rendition(connection, without, 9_000)
    with ledger.read() as connection:
        assert takes_without_source(connection, CATALOG) == {made[0].take_id}
        sounds = dict(connection.execute(select(TAKE.c.take_id, TAKE.c.sound_id)).all())
    assert sounds == {each.take_id: each.take.sound_id for each in made}


def test_a_verdict_on_a_finished_take_is_one_on_the_music_and_so_on_what_it_has_cost(store, ledger, made):
    finished = finish(store, made[0])
    file_finished(ledger, finished)
    heard = ledger.find_rendition(finished.take_id)
    with ledger.read() as connection:
        found = with_origins(connection, [heard])
        decided = decide(connection, found, "rejected", "too loud", 5)
    assert [each.take_id for each in decided] == [finished.take_id, made[0].take_id]
    assert decided[1].audio_sha256 == made[0].audio.sha256
    with ledger.read() as connection:
        assert with_origins(connection, found[1:]) == found[1:]
