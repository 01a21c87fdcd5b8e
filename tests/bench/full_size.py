"""The stages of a model of the real size, timed on a device and held against what that device can do at best.

A subject is one loaded model; its cells are small measurements in order of weight, so that a budget of time ends with
the least important ones unmeasured. Weights are random: speed does not depend on what they hold.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from catalog.buckets import Bucket
from catalog.errors import OutOfVram
from catalog.limits import CODEBOOK_SIZE
from catalog.sidecar import Plan, StageTimes
from catalog.spec import PlannerSpec
from catalog.track import Take
from tests.bench.checkpoints import Sizes, write_checkpoint
from tests.bench.measuring import Figure, timed
from tests.bench.roofline import Ceilings, Cost, Roofline
from tests.bench.tracks import different_takes
from tests.support.makers import SHA
from workers.ace_step.assembly import load_engine
from workers.ace_step.engine import AceStepEngine
from workers.engine.protocol import BatchResult, Job, Rendition

CAPTION = (
    "warm felt piano over a slow analog pad, brushed drums, upright bass and soft vibraphone, "
    "an unhurried lounge groove for a hotel lobby in the evening"
)
ALL = 0  # in place of a number of takes: as many as one planner call holds
ROUNDS = 2  # that count; before them one that compiles and one that records graphs
WARM_ROUNDS = 2
IN_FLIGHT = 2  # batches that may wait for the decoder, as in a worker


class Goals(NamedTuple):
    """What a GPU should reach; None where nothing is promised, as on a CPU with a reduced model."""

    planner_share: float | None = None  # of its bandwidth bound, all slots full
    diffusion_share: float | None = None  # of the measured matmul peak
    decoder_share: float | None = None
    idle_share: float | None = None  # most time of the lane that no stage accounts for


GPU_GOALS = Goals(0.5, 0.5, 0.3, 0.05)


class Scope(NamedTuple):
    """What is measured of a subject."""

    durations_s: Sequence[int]
    batches: Sequence[int]
    planner_takes: Sequence[int]  # beside as many as one call holds
    flow_takes: int = 0  # ALL: as many as one planner call holds


class Cell(NamedTuple):
    """One measurement."""

    stage: str  # "planner", "render" or "flow", which is both
    name: str
    measure: Callable[[], list[Figure]]


class Subject:
    """One model on one device. `load` is timed, too."""

    def __init__(self, words: str, engine: AceStepEngine, sizes: Sizes, ceilings: Ceilings, goals: Goals) -> None:
        self.words, self.engine, self.sizes = words, engine, sizes
        self.ceilings, self.goals = ceilings, goals
        self.device = torch.device(engine.card.device)
        self.roofline = Roofline(sizes, bytes_per_weight=2 if self.device.type == "cuda" else 4)
        self._used = 0

    def takes(self, number: int, duration_s: int) -> list[Take]:
        """New takes: a planner remembers what it wrote."""
        first, self._used = self._used, self._used + number
        fields = {"caption": CAPTION, "model": self.sizes.model, "planner": PlannerSpec()}
        return different_takes(first, number, duration_s=duration_s, **fields)

    def jobs(self, number: int, duration_s: int) -> list[Job]:
        """New takes with random plans, so that rendering is all that is timed."""
        draw = np.random.default_rng(0)
        return [Job(take, _random_plan(take, draw)) for take in self.takes(number, duration_s)]

    def share(self, cost: Cost, seconds: float) -> float:
        """The least time for `cost` as a share of what it took."""
        return self.ceilings.bound_s(cost) / seconds

    def device_peak_mib(self) -> float:
        """The most memory allocated on the device since the last reset; 0 on the CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else 0.0


def load_subject(
    words: str, sizes: Sizes, scratch: Path, device: str, *, ceilings: Ceilings, goals: Goals
) -> tuple[Subject, list[Figure]]:
    """Write random weights of `sizes`, load them as any others, and delete them again."""
    folder = scratch / sizes.model
    with timed() as writing:
        write_checkpoint(sizes, folder, scratch / "home", device=device)
    if device != "cpu":
        torch.cuda.empty_cache()
    with timed() as loading:
        engine = load_engine(
            sizes.model,
            weights=str(folder),
            planner_weights=None,
            device=device,
            vram_gib=None,
            home=scratch / "home",
            trial=True,  # batches past the published limit are part of the question
        )
    shutil.rmtree(folder)
    figures = [
        Figure(f"{words}: random weights written", writing.seconds, "s"),
        Figure(f"{words}: loaded", loading.seconds, "s"),
    ]
    return Subject(words, engine, sizes, ceilings, goals), figures


def cells_of(subject: Subject, scope: Scope) -> Iterator[Cell]:
    """All cells of `subject`: the typical case of each stage first, then everything else."""
    typical_s = min(scope.durations_s, key=lambda each: abs(each - 180))
    typical = min(scope.batches, key=lambda each: abs(each - 8))
    renders = [(each, duration_s) for duration_s in scope.durations_s for each in scope.batches]
    renders.sort(key=lambda cell: (cell != (typical, typical_s), cell[1] != typical_s))
    # Slots are computed whether they are filled or not, so fewer takes are worth a look at one length only.
    planner = [(ALL, typical_s), *((ALL, each) for each in scope.durations_s if each != typical_s)]
    planner += [(each, typical_s) for each in scope.planner_takes if each != ALL]
    yield _plan_cell(subject, *planner[0])
    yield _render_cell(subject, *renders[0])
    yield _flow_cell(subject, scope.flow_takes, typical, typical_s)
    yield from (_render_cell(subject, *cell) for cell in renders[1:])
    for duration_s in scope.durations_s:
        if duration_s != typical_s:
            yield _flow_cell(subject, scope.flow_takes, typical, duration_s)
    yield from (_plan_cell(subject, *cell) for cell in planner[1:])


def _plan_cell(subject: Subject, number: int, duration_s: int) -> Cell:
    name = f"{subject.words}, planner, {number or 'as many as it holds,'} takes of {duration_s} s"
    return Cell("planner", name, lambda: measure_planner(subject, number, duration_s))


def _render_cell(subject: Subject, batch: int, duration_s: int) -> Cell:
    name = f"{subject.words}, {duration_s} s, batch {batch}"
    return Cell("render", name, lambda: measure_render(subject, batch, duration_s))


def _flow_cell(subject: Subject, number: int, batch: int, duration_s: int) -> Cell:
    name = f"{subject.words}, {duration_s} s, planned and rendered in batches of {batch}"
    return Cell("flow", name, lambda: measure_flow(subject, number, batch, duration_s))


# ---------------------------------------------------------------- planner


def measure_planner(subject: Subject, number: int, duration_s: int) -> list[Figure]:
    """One planner call of `number` takes after one that warms up."""
    bucket = Bucket.of(subject.takes(1, duration_s)[0].spec)
    limit = subject.engine.plan_limit(bucket).takes
    number = number or limit
    subject.engine.plan(subject.takes(number, duration_s))
    takes = subject.takes(number, duration_s)
    with timed() as clock:
        plans = subject.engine.plan(takes).outcomes
    assert all(isinstance(plan, Plan) for plan in plans), plans
    seconds, n_codes = clock.seconds, takes[0].spec.n_codes
    cost = subject.roofline.plan(n_codes, rows=2 * number, prompt_tokens=_prompt_tokens(subject, takes[0]))
    words = f"{subject.words}, planner, {number} takes of {duration_s} s"
    goal = subject.goals.planner_share if number == limit else None
    return [
        Figure(f"{words}: codes", number * n_codes / seconds, "codes/s"),
        Figure(f"{words}: time", seconds / number, "s a track"),
        Figure(f"{words}: share of its roofline", subject.share(cost, seconds), "of 1", at_least=goal),
    ]


def _prompt_tokens(subject: Subject, take: Take) -> int:
    planner = subject.engine._planner
    assert planner is not None
    return len(planner.requests([take])[0].conditional)


# ---------------------------------------------------------------- render


def measure_render(subject: Subject, batch: int, duration_s: int) -> list[Figure]:
    """Batches of given plans, one after the other, by stage; one figure alone when the batch does not fit."""
    words = f"{subject.words}, {duration_s} s, batch {batch}"
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(subject.device)
    try:
        with timed() as warming:
            for _ in range(WARM_ROUNDS):
                subject.engine.render(subject.jobs(batch, duration_s))
        results = [subject.engine.render(subject.jobs(batch, duration_s)) for _ in range(ROUNDS)]
    except OutOfVram:
        return [Figure(f"{words}: fits", 0, "of 1")]
    diffuse_s, decode_s = (_stage_s(results, stage) for stage in ("diffuse_ms", "decode_ms"))
    tokens, steps = _tokens(results[0]), subject.jobs(1, duration_s)[0].take.spec.diffusion.steps
    diffusing = subject.roofline.diffuse(duration_s, batch=batch, tokens=tokens, steps=steps)
    diffuse_share = subject.share(diffusing, diffuse_s)
    decode_share = subject.share(subject.roofline.decode(duration_s, batch=batch), decode_s)
    goals = subject.goals if batch >= 8 and duration_s >= 120 else Goals()
    return [
        Figure(f"{words}: encode", _stage_s(results, "encode_ms") / batch, "s a track"),
        Figure(f"{words}: diffuse", diffuse_s / batch, "s a track"),
        Figure(f"{words}: decode", decode_s / batch, "s a track"),
        Figure(f"{words}: diffuse, share of its roofline", diffuse_share, "of 1", at_least=goals.diffusion_share),
        Figure(f"{words}: decode, share of its roofline", decode_share, "of 1", at_least=goals.decoder_share),
        Figure(f"{words}: warm-up", warming.seconds, "s"),
        Figure(f"{words}: peak memory of the device", subject.device_peak_mib(), "MiB"),
    ]


def _stage_s(results: Sequence[BatchResult], stage: str) -> float:
    """Seconds of one stage of one batch; at least a millisecond, which is how finely it is told."""
    return max(1, statistics.median(getattr(result.times, stage) for result in results)) / 1000


def _tokens(result: BatchResult) -> int:
    """Tokens that the longest take of a batch says to the model, its timbre included."""
    said = []
    for outcome in result.outcomes:
        assert isinstance(outcome, Rendition), outcome
        said.append(outcome.effective.text_tokens + int(outcome.effective.extra["lyric_tokens"]) + 1)
    return max(said)


# ---------------------------------------------------------------- both


def measure_flow(subject: Subject, number: int, batch: int, duration_s: int) -> list[Figure]:
    """Plan takes in one call and render them, decoding beside the next batch, as a worker's lane does."""
    bucket = Bucket.of(subject.takes(1, duration_s)[0].spec)
    number = number or subject.engine.plan_limit(bucket).takes
    for _ in range(WARM_ROUNDS):
        _flow(subject, subject.takes(batch, duration_s), batch)
    with timed() as clock:
        flown = _flow(subject, subject.takes(number, duration_s), batch)
    stages_s = sum(each.plan_ms + each.encode_ms + each.diffuse_ms for each in flown.times) / 1000
    words = f"{subject.words}, {duration_s} s, planned and rendered in batches of {batch}"
    idle = max(0.0, 1 - stages_s / flown.lane_s)
    return [
        Figure(f"{words}: rate", 3600 * number / clock.seconds, "tracks/h"),
        Figure(f"{words}: time", clock.seconds / number, "s a track"),
        Figure(f"{words}: lane without a stage on it", idle, "of the time", at_most=subject.goals.idle_share),
    ]


class _Flown(NamedTuple):
    times: list[StageTimes]  # of the planner call and of every batch
    lane_s: float  # until the last batch had its latents; by then a worker has begun with the next takes


def _flow(subject: Subject, takes: list[Take], batch: int) -> _Flown:
    began_s = time.perf_counter()
    planned = subject.engine.plan(takes)
    jobs = [Job(take, plan) for take, plan in zip(takes, planned.outcomes, strict=True) if isinstance(plan, Plan)]
    assert len(jobs) == len(takes), planned.outcomes
    decoding: list[Future[BatchResult]] = []
    with ThreadPoolExecutor(1) as decoder:
        for first in range(0, len(jobs), batch):
            if len(decoding) >= IN_FLIGHT:
                decoding[-IN_FLIGHT].result()
            decoding.append(decoder.submit(subject.engine.begin(jobs[first : first + batch])))
        lane_s = time.perf_counter() - began_s
    return _Flown([StageTimes(plan_ms=planned.plan_ms), *(each.result().times for each in decoding)], lane_s)


def _random_plan(take: Take, draw: np.random.Generator) -> Plan:
    codes = draw.integers(0, CODEBOOK_SIZE, take.spec.n_codes).tolist()
    return Plan(codes=codes, metadata={}, prompt_sha256=SHA, batch_key="bench")
