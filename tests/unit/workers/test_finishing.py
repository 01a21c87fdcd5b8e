"""Finishing: another format, level or bit depth of a stored take, without an engine."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import soundfile

from catalog.errors import StoreError
from catalog.finishing import FinishJob, FinishResult, find_source
from catalog.keys import sidecar_key
from catalog.messages import AttemptMade
from catalog.sidecar import Sidecar, parse_sidecar
from catalog.spec import AudioFormat, MasterSpec
from catalog.store import STORE_BACKOFF
from catalog.track import Take
from tests.support.fakes import MemoryStore, a_context
from tests.support.makers import a_message, a_spec, a_take, refinished
from workers.finishing import finish
from workers.render import render_take
from workers.storage import TakeStorage

RUN = "run-of-finishing"


def rendered(store: MemoryStore, *, keeps_master: bool = True, **master) -> Sidecar:
    """A take that a worker has made."""
    take = a_take(master=MasterSpec(**master))
    take = take.model_copy(update={"track": take.track.model_copy(update={"keeps_master": keeps_master})})
    context = a_context(store=store)
    render_take(a_message(take).model_dump(mode="json"), context, shown_id=take.id)
    return parse_sidecar(store.objects[sidecar_key(take)], take.id)


def finished(store: MemoryStore, stored: Sidecar, take: Take) -> FinishResult:
    return finish(FinishJob(take=take, stored=stored, run_id=RUN), TakeStorage(store, backoff=STORE_BACKOFF))


def samples(store: MemoryStore, sidecar: Sidecar) -> np.ndarray:
    return soundfile.read(io.BytesIO(store.objects[sidecar.audio.key]))[0]


def test_a_lossless_file_from_the_master_of_an_mp3_take_is_what_a_rendering_would_have_given():
    store, fresh = MemoryStore(), MemoryStore()
    stored = rendered(store, format=AudioFormat.MP3)
    result = finished(store, stored, refinished(stored.take, format=AudioFormat.FLAC))
    straight = rendered(fresh, format=AudioFormat.FLAC)
    assert result.sidecar is not None
    assert result.take_id == straight.take_id
    assert np.abs(samples(store, result.sidecar) - samples(fresh, straight)).max() <= 2 * 2.0**-23
    assert result.sidecar.measures.loudness_out_lufs == pytest.approx(straight.measures.loudness_out_lufs, abs=0.01)


def test_the_sidecar_tells_whose_audio_it_is_and_takes_no_workers_time():
    store = MemoryStore()
    stored = rendered(store, loudness_lufs=-16.0)
    take = refinished(stored.take, loudness_lufs=-23.0)
    sidecar = finished(store, stored, take).sidecar
    assert sidecar is not None
    assert parse_sidecar(store.objects[sidecar_key(take)], take.id) == sidecar
    assert (sidecar.take, sidecar.run_id) == (take, RUN)
    assert sidecar.origin is not None
    assert (sidecar.origin.take_id, sidecar.origin.audio_sha256) == (stored.take_id, stored.audio.sha256)
    assert (sidecar.master, sidecar.effective, sidecar.fingerprints) == (
        stored.master,
        stored.effective,
        stored.fingerprints,
    )
    attempt = AttemptMade.of(sidecar)
    assert (attempt.adopted, attempt.times.engine_ms, attempt.audio_ms, attempt.batch) == (True, 0, 0, None)
    assert sidecar.measures.loudness_out_lufs == pytest.approx(-23, abs=0.1)
    assert stored.measures.loudness_out_lufs == pytest.approx(-16, abs=0.5)


def test_what_is_finished_again_still_names_the_rendering():
    store = MemoryStore()
    stored = rendered(store)
    second = finished(store, stored, refinished(stored.take, loudness_lufs=-20.0)).sidecar
    assert second is not None
    third = finished(store, second, refinished(stored.take, format=AudioFormat.OGG)).sidecar
    assert third is not None
    assert third.origin == second.origin
    assert third.master == stored.master


def test_the_same_job_again_changes_nothing():
    store = MemoryStore()
    stored = rendered(store)
    take = refinished(stored.take, format=AudioFormat.WAV)
    first = finished(store, stored, take)
    objects = dict(store.objects)
    assert finished(store, stored, take) == first
    assert store.objects == objects


def test_warnings_of_the_old_file_do_not_stay_with_the_new_one():
    store = MemoryStore()
    stored = rendered(store, loudness_lufs=-8.0)
    assert any("below the target" in text for text in stored.measures.warnings)
    quiet = finished(store, stored, refinished(stored.take, loudness_lufs=-30.0)).sidecar
    assert quiet is not None
    assert not any("below the target" in text for text in quiet.measures.warnings)


def test_a_lossless_file_without_a_master_serves_and_a_lossy_one_does_not():
    store = MemoryStore()
    lossless = rendered(store, keeps_master=False)
    assert lossless.master is None
    assert not any("/masters/" in key for key in store.objects)
    take = refinished(lossless.take, loudness_lufs=-20.0)
    assert finished(store, lossless, take).sidecar is not None
    lossy = rendered(MemoryStore(), keeps_master=False, format=AudioFormat.MP3)
    assert find_source(lossy) is None
    assert "no master" in finished(MemoryStore(), lossy, take).fault


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_master_that_is_gone_or_changed_makes_no_file(harm):
    store = MemoryStore()
    stored = rendered(store)
    assert stored.master is not None
    key = stored.master.audio.key
    if harm == "gone":
        del store.objects[key]
    else:
        store.objects[key] = store.objects[key][:-1] + b"\0"
    take = refinished(stored.take, format=AudioFormat.WAV)
    result = finished(store, stored, take)
    assert result.sidecar is None
    assert key in result.fault
    assert sidecar_key(take) not in store.objects


def test_a_store_that_is_away_is_no_fault_of_the_take():
    store = MemoryStore()
    stored = rendered(store)
    store.refuse = -1
    with pytest.raises(StoreError):
        finish(
            FinishJob(take=refinished(stored.take, format=AudioFormat.WAV), stored=stored, run_id=RUN),
            TakeStorage(store, backoff=a_context().storage._backoff),
        )


def test_an_order_says_nothing_of_masters_unless_the_catalog_keeps_none():
    take = a_take()
    assert "keeps_master" not in json.dumps(a_message(take).model_dump(mode="json"))
    without = take.model_copy(update={"track": take.track.model_copy(update={"keeps_master": False})})
    assert without.id == take.id
    assert a_message(without).model_dump(mode="json")["take"]["track"]["keeps_master"] is False


def test_a_control_side_of_an_earlier_release_gets_only_what_it_can_read():
    store, take = MemoryStore(), a_take()
    context = a_context(store=store)
    render_take(a_message(take).model_dump(mode="json"), context, shown_id=take.id, reads=1)
    written = json.loads(store.objects[sidecar_key(take)])
    first = {"rms_dbfs", "peak_dbfs", "spectral_flatness", "warnings", "gain_db"}
    first |= {"loudness_in_lufs", "loudness_out_lufs", "true_peak_dbtp"}
    assert set(written["measures"]) == first
    assert not {"master", "chroma", "origin"} & set(written)
    assert not any("/masters/" in key for key in store.objects)
    now = MemoryStore()
    assert rendered(now).measures.max_short_term_lufs is not None
    assert len([key for key in now.objects if "/masters/" in key]) == 1


def test_sound_leaves_out_what_only_finishing_needs():
    spec = a_spec()
    assert a_spec(master=MasterSpec(format=AudioFormat.MP3, loudness_lufs=-20)).sound == spec.sound
    assert a_spec(bpm=91).sound != spec.sound
    assert spec.sound == "324ea47fbadaea71193c3e4b74096d62"
