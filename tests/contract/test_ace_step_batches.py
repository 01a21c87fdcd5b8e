"""The ACE-Step engine on the tiny checkpoint: what a take sounds like follows from the take alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AceStepPipeline

from catalog.buckets import Bucket
from catalog.errors import OutOfVram
from catalog.models import TINY
from catalog.spec import DiffusionSpec, PlannerSpec
from tests.support.ace_step_samples import a_plan, a_take, gap, renditions
from tests.support.stock_pipeline import render_plainly
from workers.ace_step.assembly import load_engine
from workers.ace_step.diffusion.pipeline import Pipeline
from workers.ace_step.diffusion.sampler import schedule
from workers.ace_step.engine import AceStepEngine
from workers.ace_step.tiny.checkpoint import tiny_checkpoint
from workers.engine.protocol import Job, Refusal

TOLERANCE = 1e-5  # of full scale; measured differences are about 1e-6


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def engine(home: Path) -> Iterator[AceStepEngine]:
    threads = torch.get_num_threads()
    yield load_engine(TINY.name, weights=None, planner_weights=None, device="cpu", vram_gib=None, home=home)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pipeline(home: Path) -> AceStepPipeline:
    pipe = AceStepPipeline.from_pretrained(tiny_checkpoint(home))
    pipe.set_progress_bar_config(disable=True)
    # In memory of their own, as ours: where a file left them they lie across the CPU's words, which changes last bits.
    for module in (pipe.transformer, pipe.condition_encoder, pipe.text_encoder, pipe.vae):
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
    return pipe


def _as_the_pipeline_normalises(audio: np.ndarray) -> torch.Tensor:
    wave = torch.from_numpy(audio)
    peak = wave.abs().amax()
    if peak > 1:
        wave = wave / peak
    return wave * (10.0 ** (-1.0 / 20.0) / wave.abs().amax().clamp(min=1e-6))


@pytest.mark.parametrize(
    ("diffusion", "duration_s"),
    [(DiffusionSpec(), 10), (DiffusionSpec(steps=4, shift=1.0), 10), (DiffusionSpec(), 17)],
    ids=["usual", "few steps", "longer than the window"],
)
@pytest.mark.parametrize("planned", [False, True], ids=["from text", "from codes"])
def test_one_track_is_bitwise_what_the_stock_pipeline_makes(
    engine: AceStepEngine, pipeline: AceStepPipeline, planned: bool, diffusion: DiffusionSpec, duration_s: int
):
    take = a_take(1, diffusion=diffusion, duration_s=duration_s)
    plan = a_plan(n_codes=5 * duration_s) if planned else None
    theirs = render_plainly(pipeline, take, plan.codes if plan else [])
    (ours,) = renditions(engine.render([Job(take, plan)]))
    assert torch.equal(_as_the_pipeline_normalises(ours.audio), theirs)


def _eight_jobs(planned: bool) -> list[Job]:
    return [Job(a_take(n), a_plan(n) if planned else None) for n in range(8)]


@pytest.mark.parametrize("planned", [False, True], ids=["from text", "from codes"])
def test_a_take_sounds_the_same_alone_in_a_batch_of_eight_and_in_another_slot(engine: AceStepEngine, planned: bool):
    jobs = _eight_jobs(planned)
    together = renditions(engine.render(jobs))
    turned = renditions(engine.render(jobs[5:] + jobs[:5]))
    for place in (1, 6):
        (alone,) = renditions(engine.render([jobs[place]]))
        assert gap(alone, together[place]) < TOLERANCE
        assert gap(alone, turned[(place - 5) % 8]) < TOLERANCE


def test_takes_with_and_without_a_plan_share_a_batch(engine: AceStepEngine):
    jobs = [Job(a_take(n), a_plan(n) if n % 2 else None) for n in range(3)]
    together = renditions(engine.render(jobs))
    for job, rendition in zip(jobs, together, strict=True):
        (alone,) = renditions(engine.render([job]))
        assert gap(alone, rendition) < TOLERANCE
    assert [r.plan is None for r in together] == [True, False, True]
    assert together[0].effective.instruction != together[1].effective.instruction


def test_the_planner_does_not_let_neighbours_in_either(engine: AceStepEngine):
    jobs = [Job(a_take(n, planner=PlannerSpec())) for n in range(3)]
    together = renditions(engine.render(jobs))
    (alone,) = renditions(engine.render(jobs[1:2]))
    assert alone.plan is not None
    assert together[1].plan is not None
    assert alone.plan.codes == together[1].plan.codes
    assert gap(alone, together[1]) < TOLERANCE


def test_without_the_mask_neighbours_change_the_music(engine: AceStepEngine, monkeypatch: pytest.MonkeyPatch):
    # The proof that the tests above can fail: diffusers' transformer hears the padding.
    encode = Pipeline.encode
    monkeypatch.setattr(Pipeline, "encode", lambda pipeline, prompts: encode(pipeline, prompts)._replace(keep=None))
    jobs = _eight_jobs(planned=False)[:3]
    (alone,) = renditions(engine.render(jobs[:1]))
    assert gap(alone, renditions(engine.render(jobs))[0]) > 100 * TOLERANCE


def test_a_replay_from_the_stored_plan_is_bitwise_the_first_rendering(engine: AceStepEngine):
    (first,) = renditions(engine.render([Job(a_take(2, planner=PlannerSpec()))]))
    (again,) = renditions(engine.render([Job(a_take(2, planner=PlannerSpec()), first.plan)]))
    assert np.array_equal(first.audio, again.audio)


def test_the_same_batch_twice_is_bitwise_the_same(engine: AceStepEngine):
    first, again = (renditions(engine.render(_eight_jobs(planned=True)[:3])) for _ in range(2))
    assert all(np.array_equal(one.audio, other.audio) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize(
    "changes", [{"bpm": 171}, {"keyscale": "D minor"}, {"timesignature": "6"}, {"language": "fr"}, {"caption": "lo fi"}]
)
def test_all_that_a_take_says_changes_its_sound(engine: AceStepEngine, changes: dict[str, object]):
    seeds = {"dit_seed": 7, "lm_seed": 7}
    one, other = (Job(take.model_copy(update=seeds)) for take in (a_take(0), a_take(0, **changes)))
    first, second = (renditions(engine.render([job]))[0] for job in (one, other))
    assert gap(first, second) > 10 * TOLERANCE


def test_the_seed_and_the_codes_change_the_sound(engine: AceStepEngine):
    take = a_take(0)
    base, reseeded, replanned = renditions(
        engine.render(
            [
                Job(take, a_plan(0)),
                Job(take.model_copy(update={"dit_seed": take.dit_seed + 1}), a_plan(0)),
                Job(take, a_plan(1)),
            ]
        )
    )
    assert gap(base, reseeded) > 0.01
    assert gap(base, replanned) > 100 * TOLERANCE


@pytest.mark.parametrize("duration_s", [10, 11])
def test_a_take_has_exactly_the_samples_it_asked_for(engine: AceStepEngine, duration_s: int):
    (rendition,) = renditions(engine.render([Job(a_take(duration_s=duration_s))]))
    assert rendition.audio.shape == (2, duration_s * 48_000)
    assert rendition.audio.dtype == np.float32
    assert np.isfinite(rendition.audio).all()
    assert 0.02 < np.sqrt(np.mean(rendition.audio**2)) < 0.5


def test_long_takes_are_what_they_are_alone_too(engine: AceStepEngine):
    jobs = [Job(a_take(n, duration_s=28), a_plan(n, n_codes=140) if n else None) for n in range(2)]
    together = renditions(engine.render(jobs))
    for job, rendition in zip(jobs, together, strict=True):
        (alone,) = renditions(engine.render([job]))
        assert alone.audio.shape == (2, 28 * 48_000)
        assert gap(alone, rendition) < TOLERANCE


def test_a_take_of_several_windows_is_decoded_as_in_one_piece(engine: AceStepEngine):
    pipeline = engine._pipeline
    with torch.inference_mode():
        latents = pipeline.noise([3], n_latents=600)[0]
        whole = pipeline.parts.vae.decoder(latents.T[None])[0].numpy()
        assert np.abs(pipeline.decode([latents])[0] - whole).max() < TOLERANCE


def test_what_was_really_used_is_written_down(engine: AceStepEngine):
    take = a_take(3, planner=PlannerSpec(temperature=0.7))
    result = engine.render([Job(take)])
    (rendition,) = renditions(result)
    used = rendition.effective
    assert (used.dit_seed, used.lm_seed, used.steps, used.shift) == (take.dit_seed, take.lm_seed, 8, 3.0)
    assert (used.device, used.dtype) == ("cpu", "float32")
    assert used.attention
    assert used.text_tokens > 20
    assert used.extra["planner_temperature"] == 0.7
    assert used.extra["codes"] == 50
    assert result.times.plan_ms > 0
    assert result.times.decode_ms > 0
    assert result.times.post_ms == 0


def test_random_weights_are_labelled_as_noise(engine: AceStepEngine):
    assert engine.card.fingerprints.noise
    assert any("noise" in note for note in engine.card.notes)
    limit = engine.batch_limit(Bucket.of(a_take().spec))
    assert limit.takes == 8
    assert "random tiny weights" in limit.reason


def test_a_take_that_cannot_be_rendered_is_refused_and_its_neighbours_are_not(engine: AceStepEngine):
    endless = a_take(1, caption="ひ" * 1000)
    singing = a_take(2, lyrics="la " * 12_000)
    result = engine.render([Job(endless), Job(a_take(0)), Job(singing), Job(a_take(4), a_plan(n_codes=49))])
    reasons = [outcome.reason if isinstance(outcome, Refusal) else "" for outcome in result.outcomes]
    assert "shorten the caption" in reasons[0]
    assert reasons[1] == ""
    assert "lyrics" in reasons[2]
    assert "49 codes" in reasons[3]
    assert not any(outcome.elsewhere for outcome in result.outcomes if isinstance(outcome, Refusal))
    (alone,) = renditions(engine.render([Job(a_take(0))]))
    rendered = result.outcomes[1]
    assert not isinstance(rendered, Refusal)
    assert gap(alone, rendered) < TOLERANCE


def test_a_take_for_another_model_is_refused(engine: AceStepEngine):
    (outcome,) = engine.render([Job(a_take(model="acestep-v15-turbo"))]).outcomes
    assert isinstance(outcome, Refusal)
    assert "acestep-v15-turbo" in outcome.reason
    assert outcome.elsewhere


def test_a_task_that_the_engine_does_not_promise_is_refused(engine: AceStepEngine, monkeypatch: pytest.MonkeyPatch):
    guarantees = engine.card.guarantees.model_copy(update={"tasks": ()})
    monkeypatch.setattr(engine, "_card", dataclasses.replace(engine.card, guarantees=guarantees))
    (outcome,) = engine.render([Job(a_take())]).outcomes
    assert isinstance(outcome, Refusal)
    assert "text2music" in outcome.reason
    assert outcome.elsewhere


def test_a_worker_without_a_planner_refuses_takes_that_want_one(home: Path):
    bare = load_engine(
        TINY.name, weights=None, planner_weights=None, device="cpu", vram_gib=None, home=home, planner_wanted=False
    )
    (outcome,) = bare.render([Job(a_take(planner=PlannerSpec()))]).outcomes
    assert isinstance(outcome, Refusal)
    assert "planner" in outcome.reason
    assert outcome.elsewhere
    assert bare.card.fingerprints.planner == ""


def test_takes_of_different_length_never_share_a_call(engine: AceStepEngine):
    with pytest.raises(ValueError, match="bucket"):
        engine.render([Job(a_take(0)), Job(a_take(1, duration_s=11))])


def test_an_empty_batch_is_no_work(engine: AceStepEngine):
    assert engine.render([]).outcomes == []


def test_out_of_memory_asks_for_a_smaller_batch_and_the_engine_goes_on(
    engine: AceStepEngine, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "diffuse", full)
        with pytest.raises(OutOfVram, match=r"2\.00 GiB"):
            engine.render([Job(a_take())])
    assert renditions(engine.render([Job(a_take())]))


@pytest.mark.parametrize(
    ("shift", "published"),
    [
        (1.0, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]),
        (2.0, [1, 0.9333333, 0.8571429, 0.7692308, 0.6666667, 0.5454545, 0.4, 0.2222222, 0]),
        (3.0, [1, 0.9545455, 0.9, 0.8333333, 0.75, 0.6428571, 0.5, 0.3, 0]),
    ],
)
def test_the_turbo_schedules_are_the_published_ones(shift: float, published: list[float]):
    assert schedule(DiffusionSpec(steps=8, shift=shift)).tolist() == pytest.approx(published, abs=1e-6)
