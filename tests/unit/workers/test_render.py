"""One take, start to end, with fakes around it: every way it can end, and what is left behind."""

from __future__ import annotations

import io
import time
from hashlib import sha256

import numpy as np
import pytest
import soundfile

from catalog.errors import StoreError, StoreFullError
from catalog.keys import sidecar_key
from catalog.messages import AttemptMade, RenderMessage
from catalog.retry import Backoff
from catalog.sidecar import Sidecar, StageTimes
from catalog.spec import Bounds, PlannerSpec
from catalog.store import STORE_BACKOFF
from catalog.track import Take
from tests.support.fakes import FakeEngine, FakeRenderer, MemoryStore, a_context, a_plan
from tests.support.makers import a_batch, a_message, a_sidecar, a_take
from workers.render import WorkerContext, render_take
from workers.scheduler.request import TakeFailed, TakeReturned

RECEIPT = "1." + "A" * 22


def send(context: WorkerContext, message: RenderMessage) -> None:
    render_take(message.model_dump(mode="json"), context, shown_id=message.take.id)


def finished(store: MemoryStore, take: Take, *, worker_id: str = "worker-1") -> Sidecar:
    """The sidecar of a take that lies in the store with its audio."""
    body = b"fLaC of an earlier day"
    sidecar = a_sidecar(take, worker_id=worker_id)
    audio = sidecar.audio.model_copy(update={"bytes": len(body), "sha256": sha256(body).hexdigest()})
    sidecar = sidecar.model_copy(update={"audio": audio, "record_id": "record-of-an-earlier-day"})
    store.objects |= {audio.key: body, sidecar_key(take): sidecar.to_json()}
    return sidecar


def test_an_accepted_take_leaves_audio_a_sidecar_that_names_it_and_one_record():
    context, take = a_context(), a_take()
    send(context, a_message(take))
    sidecar = Sidecar.model_validate_json(context.storage.store.objects[sidecar_key(take)])
    body = context.storage.store.objects[sidecar.audio.key]
    samples, rate = soundfile.read(io.BytesIO(body))
    (attempt,) = context.recorder.attempts()
    assert (rate, samples.shape) == (48_000, (480_000, 2))
    assert (sidecar.take, sidecar.audio.bytes, sidecar.gpu) == (take, len(body), "A100")
    assert sidecar.batch.id == "batch-7"
    assert sidecar.times.decode_ms == 5
    assert sidecar.measures.loudness_out_lufs == pytest.approx(-16, abs=0.5)
    assert (attempt.outcome, attempt.adopted, attempt.sidecar, attempt.audio_ms) == ("accepted", False, sidecar, 10_000)
    assert attempt == AttemptMade.of(sidecar)
    assert attempt.record_id == sidecar.record_id != ""
    assert context.in_hand.ids() == []


def test_a_take_is_held_to_what_its_planner_chose_and_filed_under_what_was_asked():
    planner = PlannerSpec(metadata="fill", open=("bpm", "duration"))
    bounds = Bounds(bpm=(70, 90), duration_s=(12, 30))
    take = a_take(duration_s=30, bpm=None, bounds=bounds, planner=planner)
    context = a_context()
    send(context, a_message(take))
    sidecar = Sidecar.model_validate_json(context.storage.store.objects[sidecar_key(take)])
    assert sidecar.take == take
    assert (sidecar.rendered_spec.duration_s, sidecar.rendered_spec.bpm) == (12, 70)
    assert sidecar.audio.n_samples == 12 * 48_000
    assert b"70 BPM" in context.storage.store.objects[sidecar.audio.key]


def test_audio_longer_than_its_planner_chose_is_rejected():
    planner = PlannerSpec(metadata="fill", open=("duration",))
    take = a_take(duration_s=30, bounds=Bounds(duration_s=(12, 30)), planner=planner)
    context = a_context(
        renderer=FakeRenderer(spoil=lambda audio: np.concatenate([audio, audio], axis=1)[:, : 30 * 48_000])
    )
    send(context, a_message(take))
    assert context.recorder.attempts()[0].outcome == "rejected"


REUSING = {"planner": PlannerSpec(reuse=True)}


def test_a_further_take_follows_the_plan_of_the_first_where_the_spec_says_so():
    first, renderer = a_take(**REUSING), FakeRenderer()
    plan = a_plan(first).model_copy(update={"codes": [7]})
    context = a_context(renderer=renderer)
    there = a_sidecar(first).model_copy(update={"plan": plan})
    context.storage.store.objects[sidecar_key(first)] = there.model_dump_json().encode()
    second = a_take(number=2, **REUSING)
    send(context, a_message(second))
    assert renderer.plans == [plan]
    assert Sidecar.model_validate_json(context.storage.store.objects[sidecar_key(second)]).plan == plan


@pytest.mark.parametrize("body", [None, b'{"v": 9}'])
def test_a_further_take_whose_first_is_not_there_or_damaged_is_planned_by_the_same_seed(body):
    first, second, renderer = a_take(**REUSING), a_take(number=2, **REUSING), FakeRenderer()
    context = a_context(renderer=renderer)
    if body is not None:
        context.storage.store.objects[sidecar_key(first)] = body
    send(context, a_message(second))
    assert (renderer.plans, context.recorder.attempts()[0].outcome) == ([None], "accepted")
    assert second.lm_seed == first.lm_seed


def test_a_take_in_the_place_of_a_refused_one_has_a_plan_of_its_own():
    first, renderer = a_take(**REUSING), FakeRenderer()
    context = a_context(renderer=renderer)
    there = a_sidecar(first).model_copy(update={"plan": a_plan(first)})
    context.storage.store.objects[sidecar_key(first)] = there.model_dump_json().encode()
    second = first.track.take(2, own_plan=True)
    send(context, a_message(second))
    assert renderer.plans == [None]
    assert second.lm_seed != first.lm_seed


def test_without_that_word_a_further_take_has_a_plan_of_its_own():
    first, second, renderer = a_take(planner=PlannerSpec()), a_take(number=2, planner=PlannerSpec()), FakeRenderer()
    context = a_context(renderer=renderer)
    there = a_sidecar(first).model_copy(update={"plan": a_plan(first)})
    context.storage.store.objects[sidecar_key(first)] = there.model_dump_json().encode()
    send(context, a_message(second))
    assert renderer.plans == [None]


@pytest.mark.parametrize(
    "spoil",
    [lambda audio: audio, lambda audio: audio * np.nan, lambda audio: audio[:, :0]],
    ids=["good", "bad", "none"],
)
def test_audio_is_released_however_the_take_ended(spoil):
    renderer = FakeRenderer(spoil=spoil)
    send(a_context(renderer=renderer), a_message())
    assert len(renderer.released) == 1


def test_a_take_with_a_sidecar_is_done_and_nothing_is_rendered():
    renderer = FakeRenderer()
    context, take = a_context(renderer=renderer), a_take()
    there = finished(context.storage.store, take)
    send(context, a_message(take, run_id="run-2"))
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.adopted, attempt.sidecar, attempt.run_id) == ("accepted", True, there, "run-2")
    assert (attempt.times, attempt.batch, attempt.audio_ms) == (StageTimes(), None, 0)
    assert attempt.record_id != there.record_id
    assert renderer.rendered == 0


def test_a_message_delivered_twice_renders_once():
    renderer = FakeRenderer()
    context = a_context(renderer=renderer)
    send(context, a_message())
    send(context, a_message())
    assert renderer.rendered == 1
    assert [attempt.adopted for attempt in context.recorder.attempts()] == [False, True]


def test_an_order_that_was_carried_out_is_not_carried_out_again_but_a_new_one_is():
    context = a_context()
    for receipt in (RECEIPT, RECEIPT, RECEIPT.replace("1.", "2."), ""):
        render_take(a_message().model_dump(mode="json"), context, receipt=receipt)
    assert [made.receipt for made in context.recorder.attempts()] == [RECEIPT, RECEIPT.replace("1.", "2."), ""]


def test_a_second_message_for_a_take_in_hand_is_dropped():
    renderer = FakeRenderer()
    context = a_context(renderer=renderer)
    context.in_hand.add(a_take().id)
    send(context, a_message())
    assert renderer.rendered == 0
    assert context.recorder.attempts() == []
    assert context.in_hand.ids() == [a_take().id]


def test_the_loser_of_a_race_adopts_the_winners_sidecar_and_deletes_nothing():
    store, take = MemoryStore(), a_take()
    store.on_put = lambda key: finished(store, take, worker_id="worker-2") if "/audio/" in key else None
    context = a_context(store=store)
    send(context, a_message(take))
    (attempt,) = context.recorder.attempts()
    winner = Sidecar.model_validate_json(store.objects[sidecar_key(take)])
    assert (attempt.outcome, attempt.adopted, attempt.sidecar) == ("accepted", True, winner)
    assert (winner.worker_id, winner.record_id == attempt.record_id) == ("worker-2", False)
    assert (attempt.times.decode_ms, attempt.audio_ms) == (5, 10_000)  # the time was used all the same
    assert len([key for key in store.objects if "/audio/" in key]) == 2


def test_an_upload_whose_answer_was_lost_is_not_taken_for_somebody_elses():
    store = MemoryStore()
    put = store.put_if_absent

    def put_and_lose_the_answer(key: str, body: bytes, *, content_type: str) -> bool:
        first = put(key, body, content_type=content_type)
        if first:
            raise StoreError("connection reset")
        return first

    store.put_if_absent = put_and_lose_the_answer  # type: ignore[method-assign]
    context = a_context(store=store)
    send(context, a_message())
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.adopted) == ("accepted", False)


def test_audio_that_fails_the_checks_is_rejected_with_all_reasons_and_stored_nowhere():
    context = a_context(renderer=FakeRenderer(spoil=lambda audio: audio[:, :1000] * np.nan))
    send(context, a_message())
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.sidecar, attempt.retry) == ("rejected", None, False)
    assert len(attempt.reasons) == 2
    assert [(flaw.kind, flaw.text) for flaw in attempt.flaws] == [
        ("wrong-length", attempt.reasons[0]),
        ("not-finite", attempt.reasons[1]),
    ]
    assert attempt.batch is not None
    assert context.storage.store.objects == {}


def test_white_noise_is_rejected_from_trained_weights_and_kept_with_a_warning_from_random_ones():
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (2, 480_000)).astype(np.float32)
    for engine, outcome in ((FakeEngine(), "rejected"), (FakeEngine(noise=True), "accepted")):
        context = a_context(renderer=FakeRenderer(engine=engine, spoil=lambda audio: noise))
        send(context, a_message())
        (attempt,) = context.recorder.attempts()
        assert attempt.outcome == outcome
        if attempt.sidecar is not None:
            assert attempt.sidecar.fingerprints.noise
            assert "noise" in " ".join(attempt.sidecar.measures.warnings)
            assert {flaw.kind for flaw in attempt.sidecar.measures.flaws} == {"noise"}


def test_an_offset_is_gone_before_the_end_is_judged_and_the_level_is_set():
    levels = []
    for shift in (0, 0.2):
        context = a_context(renderer=FakeRenderer(spoil=lambda audio, shift=shift: audio + np.float32(shift)))
        send(context, a_message())
        measures = context.recorder.attempts()[0].sidecar.measures
        assert measures.high_pass_hz == (20 if shift else 0)
        levels.append((measures.gain_db, measures.loudness_in_lufs, measures.warnings))
    assert levels[1][:2] == pytest.approx(levels[0][:2], abs=0.3)
    assert levels[1][2] == levels[0][2]


def test_a_refusal_of_the_engine_is_a_rejection():
    context = a_context()
    send(context, a_message(a_take(caption="refuse")))
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.reasons) == ("rejected", ["the fake was told to refuse"])


def test_what_only_this_worker_cannot_render_is_left_to_another():
    context = a_context()
    send(context, a_message(a_take(caption="refuse here")))
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.retry) == ("failed", True)


def test_a_take_that_killed_the_engine_is_a_failure_with_its_company():
    error = TakeFailed("the engine died 3 times", retry=False, batch=a_batch(a_take()))
    context = a_context(renderer=FakeRenderer(error=error))
    send(context, a_message(alone=True))
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.reasons, attempt.retry) == ("failed", ["the engine died 3 times"], False)
    assert attempt.batch == a_batch(a_take())
    assert context.renderer.alone == [True]


def test_a_take_the_stopping_worker_gives_back_leaves_no_record_and_is_held_no_more():
    context = a_context(renderer=FakeRenderer(error=TakeReturned()))
    with pytest.raises(TakeReturned):
        send(context, a_message())
    assert context.recorder.records == []
    assert context.in_hand.ids() == []


def test_a_defect_of_ours_costs_the_take_a_try_and_is_recorded():
    context = a_context(renderer=FakeRenderer(error=ZeroDivisionError("oops")))
    send(context, a_message())
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.reasons, attempt.retry) == ("failed", ["ZeroDivisionError: oops"], True)


@pytest.mark.parametrize("refused", [1, 2])
def test_a_hiccup_of_the_store_is_waited_out(refused):
    context = a_context()
    context.storage.store.refuse = refused
    send(context, a_message())
    assert context.recorder.attempts()[0].outcome == "accepted"


def test_a_store_that_stays_away_tells_the_worker_and_the_take_is_given_back_untried():
    told: list[StoreError] = []
    renderer = FakeRenderer()
    context = a_context(renderer=renderer, on_trouble=told.append)
    context.storage.store.refuse = -1
    with pytest.raises(TakeReturned):
        send(context, a_message())
    assert context.recorder.records == []
    assert context.in_hand.ids() == []
    assert len(told) == 1
    assert renderer.rendered == 0  # no GPU time for what cannot be kept


@pytest.mark.parametrize("error", [StoreError("no answer"), StoreFullError("disk full")])
def test_a_store_that_fails_after_rendering_is_not_held_against_the_take(error):
    def go_down(key: str) -> None:
        raise error

    told: list[StoreError] = []
    store, renderer = MemoryStore(), FakeRenderer()
    store.on_put = go_down
    context = a_context(renderer=renderer, store=store, on_trouble=told.append)
    with pytest.raises(TakeReturned):
        send(context, a_message())
    assert context.recorder.records == []
    assert (told, renderer.rendered, len(renderer.released)) == ([error], 1, 1)


def test_the_patience_of_one_thread_is_that_of_all():
    context = a_context(backoff=Backoff(first_s=300.0, longest_s=300.0, patience_s=300.0))
    context.storage.store.refuse = -1
    context.storage.gone.set()
    began_s = time.monotonic()
    with pytest.raises(TakeReturned):
        send(context, a_message())
    assert time.monotonic() - began_s < 60


def test_a_call_that_takes_long_to_fail_counts_against_the_patience():
    store, calls = MemoryStore(), []

    def fail_slowly(key: str) -> bytes | None:
        calls.append(key)
        time.sleep(0.02)
        raise StoreError("no answer")

    store.find = fail_slowly  # type: ignore[method-assign]
    store.check = lambda: fail_slowly("probe")  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(TakeReturned):
        send(
            a_context(store=store, backoff=Backoff(0.0001, 0.0001, patience_s=0.01), clock=time.monotonic), a_message()
        )
    assert len(calls) == 3  # the call, the call again, and one look whether the whole store is away


def test_the_waits_for_the_store_grow_to_a_quarter_minute_and_add_up_to_two_minutes():
    waits_s = list(STORE_BACKOFF.waits_s())
    assert waits_s[:6] == [0.5, 1, 2, 4, 8, 15]
    assert (sum(waits_s), max(waits_s)) == (120, 15)


AUDIO, SIDECAR = "/audio/", "/takes/"


@pytest.mark.parametrize("kept", [None, b"", b"fLaC"], ids=["nothing", "empty", "half"])
@pytest.mark.parametrize("times", [1, 99])
def test_what_the_store_did_not_keep_is_written_again_and_never_reported(kept, times):
    store, lies = MemoryStore(), [AUDIO] * times

    def lie(key: str, body: bytes) -> bytes | None:
        return kept if lies and lies[-1] in key and lies.pop() else body

    store.keep = lie
    told: list[StoreError] = []
    context = a_context(store=store, on_trouble=told.append)
    if times == 1:
        send(context, a_message())
        (attempt,) = context.recorder.attempts()
        assert attempt.outcome == "accepted"
        assert len(store.objects[attempt.sidecar.audio.key]) == attempt.sidecar.audio.bytes
        return
    with pytest.raises(TakeReturned):
        send(context, a_message())
    assert context.recorder.records == []
    assert "just after it was written" in told[0].what
    assert not any(SIDECAR in key for key in store.objects)


@pytest.mark.parametrize("kept", [None, b"", b'{"v": 1'], ids=["nothing", "empty", "half"])
@pytest.mark.parametrize("times", [1, 99])
def test_a_sidecar_that_the_store_did_not_keep_is_written_again_and_never_reported(kept, times):
    store, lies = MemoryStore(), [SIDECAR] * times
    store.keep = lambda key, body: kept if lies and lies[-1] in key and lies.pop() else body
    context = a_context(store=store)
    if times == 1:
        send(context, a_message())
        (attempt,) = context.recorder.attempts()
        assert (attempt.outcome, attempt.adopted) == ("accepted", False)
        assert store.objects[sidecar_key(a_take())] == attempt.sidecar.to_json()
        return
    with pytest.raises(TakeReturned):
        send(context, a_message())
    assert context.recorder.records == []
    assert not any(SIDECAR in key for key in store.objects)


def test_a_sidecar_that_is_said_to_be_there_and_is_not_is_written_again():
    store = MemoryStore()
    put, answers = store.put_if_absent, [False, True]
    store.put_if_absent = lambda key, body, **kind: answers.pop(0) and put(key, body, **kind)  # type: ignore[method-assign]
    context = a_context(store=store)
    send(context, a_message())
    assert context.recorder.attempts()[0].outcome == "accepted"
    assert store.objects[sidecar_key(a_take())]


@pytest.mark.parametrize("damage", ["lost", "short", "changed"])
def test_a_sidecar_whose_audio_is_gone_is_not_adopted_but_healed_by_the_same_audio(damage):
    store, take, renderer = MemoryStore(), a_take(), FakeRenderer()
    send(a_context(store=store), a_message(take))
    before = dict(store.objects)
    key = Sidecar.model_validate_json(before[sidecar_key(take)]).audio.key
    body = before[key]
    store.objects[key] = {"short": body[:-1], "changed": body[:-1] + bytes([body[-1] ^ 1])}.get(damage, b"")
    if damage == "lost":
        del store.objects[key]
    context = a_context(renderer=renderer, store=store)
    send(context, a_message(take))
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.adopted, renderer.rendered) == ("accepted", True, 1)
    assert attempt.times.decode_ms == 5
    assert store.objects == before


def test_a_sidecar_whose_audio_is_gone_and_cannot_be_made_again_fails_the_take_and_names_the_repair():
    store, take = MemoryStore(), a_take()
    del store.objects[finished(store, take).audio.key]
    context = a_context(store=store)
    send(context, a_message(take))
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, attempt.retry, attempt.sidecar) == ("failed", False, None)
    assert "is not there" in attempt.reasons[0]
    assert "tunemill catalog repair" in attempt.reasons[0]
    assert attempt.times.decode_ms == 5


@pytest.mark.parametrize("newer", [{"v": 2}, {"more": 1}])
def test_a_message_of_a_newer_version_goes_back_untried_and_ends_the_worker(newer):
    told = []
    context, message = a_context(on_trouble=told.append), a_message()
    render_take({**message.model_dump(mode="json"), **newer}, context, shown_id=message.take.id)
    assert context.recorder.attempts() == []
    assert [each.take_ids for each in context.recorder.records] == [[message.take.id]]
    assert [error.exit_code for error in told] == [43]


@pytest.mark.parametrize(
    "payload", [{}, {"v": 1}, {"run_id": 5}, [], None, "text", {"v": 1, "take": {}, "run_id": "r"}]
)
def test_a_message_that_names_no_take_is_logged_and_does_not_crash(payload, caplog):
    context = a_context()
    render_take(payload, context)
    assert context.recorder.records == []
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("body", [b'{"v": 9}', b"", b"\xff", a_sidecar(a_take("0002")).to_json()])
def test_a_damaged_sidecar_fails_the_take_in_words_without_rendering(body):
    renderer = FakeRenderer()
    context, take = a_context(renderer=renderer), a_take()
    context.storage.store.objects[sidecar_key(take)] = body
    send(context, a_message(take))
    (attempt,) = context.recorder.attempts()
    assert (attempt.outcome, renderer.rendered) == ("failed", 0)
    assert "cannot be read" in attempt.reasons[0] or "is that of take" in attempt.reasons[0]
    assert ("upgrade this machine" if b'"v": 9' in body else "tunemill catalog repair") in attempt.reasons[0]


class _OneBadObject(MemoryStore):
    """A store that refuses whatever belongs to one take, and works otherwise."""

    def __init__(self, take):
        super().__init__()
        self.bad = take.id

    def find(self, key):
        if self.bad in key:
            raise StoreError(f"{key} is forbidden", why="access denied (403)")
        return super().find(key)


def test_an_object_that_alone_is_refused_costs_its_take_a_try_and_no_worker_its_life():
    told = []
    bad, good = a_take("0001"), a_take("0002")
    context = a_context(store=_OneBadObject(bad), on_trouble=told.append)
    render_take(a_message(bad).model_dump(mode="json"), context)
    render_take(a_message(good).model_dump(mode="json"), context)
    (failed,) = context.recorder.attempts(bad)
    assert (failed.outcome, failed.retry) == ("failed", True)
    assert "refuses it and takes others" in failed.reasons[0]
    assert "access denied (403)" in failed.reasons[0]
    assert [made.outcome for made in context.recorder.attempts(good)] == ["accepted"]
    assert told == []
