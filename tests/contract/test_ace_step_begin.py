"""The ACE-Step engine in parts: planning by itself, and batches that are decoded beside the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from catalog.buckets import Bucket
from catalog.errors import ModelError, OutOfVram
from catalog.models import DEFAULT_PLANNER, TINY
from catalog.sidecar import Plan
from catalog.spec import Bounds, PlannerSpec
from catalog.tiers import BatchLimit
from catalog.track import Take
from tests.support.ace_step_samples import a_plan, a_take, gap, renditions
from workers.ace_step.assembly import load_engine
from workers.ace_step.diffusion.vae import Decoder
from workers.ace_step.engine import AceStepEngine
from workers.engine.protocol import Job, Refusal, Rendition

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AceStepEngine]:
    threads = torch.get_num_threads()
    home: Path = tmp_path_factory.mktemp("home")
    yield load_engine(TINY.name, weights=None, planner_weights=None, device="cpu", vram_gib=None, home=home)
    torch.set_num_threads(threads)


def _same(one: Rendition, other: Rendition) -> bool:
    return np.array_equal(one.audio, other.audio) and one.plan == other.plan


def test_planning_first_and_rendering_with_the_plans_is_rendering_in_one_go(engine: AceStepEngine):
    takes = [a_take(n, planner=PlannerSpec()) for n in range(3)]
    planned = engine.plan(takes)
    assert planned.plan_ms > 0
    plans = [plan for plan in planned.outcomes if isinstance(plan, Plan)]
    apart = engine.render([Job(take, plan) for take, plan in zip(takes, plans, strict=True)])
    at_once = engine.render([Job(take) for take in takes])
    assert all(_same(one, other) for one, other in zip(renditions(apart), renditions(at_once), strict=True))
    assert apart.times.plan_ms == 0


def test_one_planner_call_takes_lengths_and_settings_of_every_kind(engine: AceStepEngine):
    specs = [PlannerSpec(), PlannerSpec(cfg_scale=1.0), PlannerSpec(temperature=0.5)]
    takes = [a_take(n, planner=spec, duration_s=10 + 3 * n) for n, spec in enumerate(specs)]
    plans = engine.plan(takes).outcomes
    assert [len(plan.codes) for plan in plans if isinstance(plan, Plan)] == [50, 65, 80]


def test_a_take_that_could_not_be_rendered_is_not_planned_and_its_neighbours_are(engine: AceStepEngine):
    planner = PlannerSpec()
    takes = [
        a_take(0, planner=planner, caption="ひ" * 1000),
        a_take(1, planner=planner),
        a_take(2, planner=planner, model="acestep-v15-turbo"),
        a_take(3, planner=planner, caption="calm <|im_end|> piano"),
    ]
    outcomes = engine.plan(takes).outcomes
    assert isinstance(outcomes[1], Plan)
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert [refusal.elsewhere for refusal in refusals] == [False, True, False]
    assert "shorten the caption" in refusals[0].reason
    assert "acestep-v15-turbo" in refusals[1].reason
    assert "<|im_end|>" in refusals[2].reason


def test_a_take_with_a_caption_too_long_is_not_planned_whatever_its_planner_would_choose(engine: AceStepEngine):
    planner = PlannerSpec(metadata="fill", open=("bpm",))
    takes = [
        a_take(n, planner=planner, bpm=None, bounds=Bounds(bpm=(60, 90)), caption=caption)
        for n, caption in enumerate(["calm piano", "ひ" * 1000])
    ]
    planned, refused = engine.plan(takes).outcomes
    assert isinstance(planned, Plan)
    assert isinstance(refused, Refusal)
    assert not refused.elsewhere
    assert "shorten the caption" in refused.reason


def test_how_many_takes_one_planner_call_holds_is_said_with_a_reason(engine: AceStepEngine):
    limit = engine.plan_limit(Bucket.of(a_take(planner=PlannerSpec()).spec))
    assert limit.takes >= 1
    assert limit.reason


def test_without_a_planner_nothing_is_planned(tmp_path: Path):
    bare = load_engine(
        TINY.name,
        weights=None,
        planner_weights=None,
        device="cpu",
        vram_gib=None,
        home=tmp_path,
        planner_wanted=False,
    )
    take = a_take(planner=PlannerSpec())
    assert bare.plan_limit(Bucket.of(take.spec)).takes == 0
    (outcome,) = bare.plan([take]).outcomes
    assert isinstance(outcome, Refusal)
    assert outcome.elsewhere


def test_batches_decode_on_another_thread_while_the_next_ones_begin(engine: AceStepEngine):
    batches = [[Job(a_take(n, duration_s=10 + n)), Job(a_take(n + 4, duration_s=10 + n))] for n in range(2)]
    wanted = [renditions(engine.render(jobs)) for jobs in batches]
    with ThreadPoolExecutor(1) as decoding:
        audio = [decoding.submit(engine.begin(jobs)) for jobs in batches]
        made = [renditions(future.result()) for future in audio]
    assert all(_same(*pair) for one, other in zip(made, wanted, strict=True) for pair in zip(one, other, strict=True))


def test_diffused_batches_may_be_finished_in_any_order(engine: AceStepEngine):
    batches = [[Job(a_take(n)), Job(a_take(n + 1), a_plan(n))] for n in range(2)]
    wanted = [renditions(engine.render(jobs)) for jobs in batches]
    finishes = [engine.begin(jobs) for jobs in batches]
    made = [renditions(finish()) for finish in reversed(finishes)]
    for one, other in zip(reversed(made), wanted, strict=True):
        assert all(_same(*pair) for pair in zip(one, other, strict=True))


def test_every_stage_has_its_time(engine: AceStepEngine):
    times = engine.render([Job(a_take(7, planner=PlannerSpec()))]).times
    assert min(times.plan_ms, times.encode_ms, times.diffuse_ms, times.decode_ms) > 0
    assert times.post_ms == 0


def test_a_decoder_out_of_memory_asks_for_a_smaller_batch(engine: AceStepEngine, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")

    finish = engine.begin([Job(a_take())])
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "wave", full)
        with pytest.raises(OutOfVram, match=r"3\.00 GiB"):
            finish()
    assert renditions(finish())


class ChoosingPlanner:
    """Leaves nothing open: take n gets 10 + n seconds, `short` codes too few."""

    fingerprint = "0" * 64

    def __init__(self, short: int = 0) -> None:
        self.short = short

    def slots(self, duration_s: int) -> BatchLimit:
        return BatchLimit(4, "as many as it is asked for")

    def refusal(self, take: Take) -> str | None:
        return None

    def plan(self, takes: Sequence[Take]) -> list[Plan]:
        return [
            a_plan(n, n_codes=5 * (10 + n) - self.short).model_copy(update={"metadata": {"duration": 10 + n}})
            for n, _ in enumerate(takes)
        ]


def _open_take(n: int) -> Take:
    planner = PlannerSpec(model=DEFAULT_PLANNER, metadata="fill", open=("duration",))
    return a_take(n, duration_s=14, planner=planner, bounds=Bounds(duration_s=(10, 14)))


def test_takes_whose_length_the_planner_chose_come_out_that_long(
    engine: AceStepEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "_planner", ChoosingPlanner())
    together = renditions(engine.render([Job(_open_take(n)) for n in range(3)]))
    assert [rendition.audio.shape[1] // 48_000 for rendition in together] == [10, 11, 12]
    replayed = renditions(engine.render([Job(_open_take(2), together[2].plan)]))
    assert gap(replayed[0], together[2]) < TOLERANCE


def test_a_filled_take_sounds_as_if_all_had_been_given(engine: AceStepEngine):
    plan = a_plan(1, n_codes=55).model_copy(update={"metadata": {"duration": 11}})
    seeds = {"dit_seed": 3, "lm_seed": 4}
    takes = (_open_take(1), a_take(1, duration_s=11, planner=PlannerSpec()))
    chosen, given = (renditions(engine.render([Job(take.model_copy(update=seeds), plan)]))[0] for take in takes)
    assert np.array_equal(chosen.audio, given.audio)


def test_plans_of_one_batch_must_agree_on_the_length(engine: AceStepEngine):
    plans = [a_plan(n, n_codes=50 + 5 * n).model_copy(update={"metadata": {"duration": 10 + n}}) for n in range(2)]
    with pytest.raises(ValueError, match="bucket"):
        engine.begin([Job(_open_take(n), plan) for n, plan in enumerate(plans)])


def test_a_plan_outside_the_bounds_is_refused(engine: AceStepEngine):
    plan = a_plan(n_codes=75).model_copy(update={"metadata": {"duration": 15}})
    (outcome,) = engine.render([Job(_open_take(0), plan)]).outcomes
    assert isinstance(outcome, Refusal)
    assert "15" in outcome.reason


def test_a_planner_that_writes_too_few_codes_is_at_fault(engine: AceStepEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "_planner", ChoosingPlanner(short=1))
    with pytest.raises(ModelError, match="49 codes"):
        engine.render([Job(_open_take(0))])


def test_what_it_holds_is_counted_in_mib(engine: AceStepEngine):
    held = engine.memory()
    assert 100 < held.rss_mib < 100_000
    assert held.device_mib == 0
