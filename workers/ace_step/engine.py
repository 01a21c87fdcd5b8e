"""The ACE-Step engine: planner, text, diffusion and decoding behind the Engine protocol.

The engine refuses requests that the model would silently get wrong (a prompt longer than it reads, a plan of the wrong
length), and reports the settings that it really used. Random weights are allowed and labelled: their audio is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import torch

from catalog.buckets import Bucket
from catalog.errors import ModelError, OutOfVram
from catalog.messages import MemoryUse
from catalog.sidecar import Plan, StageTimes
from catalog.spec import TrackSpec
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.ace_step.device.budget import BatchBudget
from workers.ace_step.device.placement import free_cache, is_out_of_memory, memory_use, wait_for
from workers.ace_step.device.stopwatch import Stopwatch
from workers.ace_step.diffusion.pipeline import Pipeline, TokenizedPrompt
from workers.ace_step.planner.prompt import provisional
from workers.ace_step.requests import (
    PreparedJob,
    TokenLimits,
    bucket_of,
    coded,
    effective,
    given_plan_refusal,
    spec_with_plan,
)
from workers.ace_step.tasks import get_diffusion_task
from workers.engine.protocol import BatchResult, EngineCard, Finish, Job, PlanResult, Refusal, Rendition

T = TypeVar("T")


class PlanWriter(Protocol):
    """The part of the planner that the engine uses; `workers.ace_step.planner.planner.Planner` implements it."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the planner's weight files."""

    def slots(self, duration_s: int) -> BatchLimit:
        """The number of takes of up to `duration_s` that the planner plans at once, with the reason."""

    def plan(self, takes: Sequence[Take]) -> list[Plan]:
        """One plan for each take, with exactly the codes that the take needs."""

    def refusal(self, take: Take) -> str | None:
        """The reason why `take` cannot be planned in any batch, or None."""


class _DiffusedBatch(NamedTuple):
    """A batch whose latents are made and not yet decoded."""

    outcomes: list[Rendition | Refusal]  # those that are not refused are still to come
    prepared: list[PreparedJob]
    latents: list[torch.Tensor]  # (latents, width) of each prepared job
    watch: Stopwatch


class AceStepEngine:
    """One ACE-Step model on one device. Not thread-safe, except that a `Finish` may run beside any other method."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        planner: PlanWriter | None,
        planner_name: str = "",  # "": not known, so any that a take names will do
        budget: BatchBudget,
        card: EngineCard,
    ) -> None:
        self._pipeline = pipeline
        self._planner = planner
        self._planner_name = planner_name
        self.budget = budget
        self._placement = budget.placement
        self._card = card
        self._limits = TokenLimits.of(noise=card.fingerprints.noise)

    @property
    def card(self) -> EngineCard:
        """The engine's model, device and guarantees."""
        return self._card

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The limit of one model call for takes of `bucket`, with the reason."""
        return self.budget.batch_limit(bucket)

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        """The limit of one planner call for takes as long as those of `bucket`; 0 without a planner."""
        if self._planner is None:
            return BatchLimit(0, "no planner")
        return self._planner.slots(bucket.duration_s)

    def memory(self) -> MemoryUse:
        """The memory that the process and the device use now."""
        return memory_use(self._placement.device)

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        """Write the plans of `takes`; a take that cannot be planned or rendered here is refused instead.

        Raises OutOfVram when they do not fit, ModelError when the planner's weights are at fault.
        """
        watch = Stopwatch(self._placement.device)
        outcomes = self._within_memory(lambda: self._plans(takes, watch), otherwise=self.forget_shapes)
        return PlanResult(outcomes, watch.spent_ms().get("plan_ms", 0))

    def begin(self, jobs: Sequence[Job]) -> Finish:
        """Render one batch up to its latents; all jobs share a bucket. The result decodes them, on any thread.

        Raises OutOfVram when the batch does not fit, ModelError when codes are asked of a model that reads none.
        """
        if len({bucket_of(job) for job in jobs}) > 1:
            raise ValueError("the jobs of one batch must share a bucket")
        diffused = self._within_memory(lambda: self._diffused(jobs), otherwise=self.forget_shapes)
        # Buffers and graphs that are kept may be in use by the next batch, so a finish leaves them alone.
        free = partial(free_cache, self._placement.device)
        return lambda: self._within_memory(lambda: self._finish(diffused), otherwise=free)

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch completely: `begin` and its finish in one call.

        A take alone and in any batch differ by rounding only (below 1e-5 of full scale in float32).
        """
        return self.begin(jobs)()

    @staticmethod
    def _within_memory(work: Callable[[], T], otherwise: Callable[[], None]) -> T:
        try:
            with torch.inference_mode():
                return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Only out here have the failed frames, and the tensors they held, been let go.
        otherwise()
        raise OutOfVram(reason)

    def _plans(self, takes: Sequence[Take], watch: Stopwatch) -> list[Plan | Refusal]:
        """The plan of each take, in their order, or the reason why there is none."""
        outcomes: list[Plan | Refusal | None] = [self._planning_refusal(take) for take in takes]
        free = [take for take, refusal in zip(takes, outcomes, strict=True) if refusal is None]
        with watch.stage("plan_ms"), self._pipeline.offload.planning:
            plans = iter(self._planner.plan(free) if free and self._planner is not None else [])
        return [next(plans) if outcome is None else outcome for outcome in outcomes]

    def _planning_refusal(self, take: Take) -> Refusal | None:
        """The refusal of a `take` that this engine cannot plan or render, or None."""
        job = Job(take)
        if unable := self._setup_refusal(job):
            return Refusal(unable, elsewhere=True)
        reason = self._planner.refusal(take) if self._planner is not None else None
        reason = reason or self._limits.refusal(self._tokenized(provisional(take.spec), coded=True))
        return Refusal(reason) if reason else None

    def _diffused(self, jobs: Sequence[Job]) -> _DiffusedBatch:
        watch = Stopwatch(self._placement.device)
        outcomes: list[Rendition | Refusal] = [Refusal("not rendered")] * len(jobs)
        prepared: list[PreparedJob] = []
        for place, (job, plan) in enumerate(zip(jobs, self._planned(jobs, watch), strict=True)):
            ready = plan if isinstance(plan, Refusal) else self._prepare(place, job, plan)
            if isinstance(ready, Refusal):
                outcomes[place] = ready
            else:
                prepared.append(ready)
        latents: dict[int, torch.Tensor] = {}
        for group in _alike(prepared):
            rows = self._latents(group, watch)
            latents.update(zip([job.place for job in group], rows, strict=True))
        wait_for(self._placement.device)  # decoding has a stream of its own and must find them there
        return _DiffusedBatch(outcomes, prepared, [latents[job.place] for job in prepared], watch)

    def _planned(self, jobs: Sequence[Job], watch: Stopwatch) -> list[Plan | Refusal | None]:
        """Each job's plan: the one that it brought, a new one, or None where the take uses none."""
        wanting = [job.take for job in jobs if job.plan is None and job.take.spec.planner is not None]
        fresh = iter(self._plans(wanting, watch) if wanting else [])
        return [job.plan if job.plan or job.take.spec.planner is None else next(fresh) for job in jobs]

    def _prepare(self, place: int, job: Job, plan: Plan | None) -> PreparedJob | Refusal:
        if unable := self._setup_refusal(job):
            return Refusal(unable, elsewhere=True)
        if reason := given_plan_refusal(job):
            return Refusal(reason)
        spec = spec_with_plan(job, plan)
        prompt = self._tokenized(spec, coded=coded(job))
        if reason := self._limits.refusal(prompt):
            return Refusal(reason)
        return PreparedJob(place, job, plan, spec, prompt)

    def _tokenized(self, spec: TrackSpec, *, coded: bool) -> TokenizedPrompt:
        """The prompt of `spec`, with the instruction of its task."""
        instruction = get_diffusion_task(spec.task).facts.instruction_for(coded=coded)
        return self._pipeline.tokenize(spec, instruction)

    def _latents(self, jobs: Sequence[PreparedJob], watch: Stopwatch) -> torch.Tensor:
        """Latents (jobs, latents, width) of jobs that share task and bucket."""
        spec = jobs[0].spec
        task = get_diffusion_task(spec.task)
        self._require_memory(len(jobs), spec.duration_s)
        with watch.stage("encode_ms"):
            steps = task.steps(self._pipeline, jobs)
        with watch.stage("diffuse_ms"):
            return self._pipeline.diffuse(task.noise(self._pipeline, jobs), steps, spec.diffusion)

    def _require_memory(self, takes: int, duration_s: float) -> None:
        """Raise OutOfVram before time is spent on a batch that will not fit."""
        try:
            self.budget.require_memory(takes, duration_s)
        except OutOfVram:
            self.forget_shapes()
            self.budget.require_memory(takes, duration_s)

    def forget_shapes(self) -> None:
        """Drop the buffers and graphs of earlier batches."""
        self._pipeline.forget()
        free_cache(self._placement.device)

    def _finish(self, diffused: _DiffusedBatch) -> BatchResult:
        outcomes = list(diffused.outcomes)
        decode = self._pipeline.decode
        with decode.stream(), diffused.watch.stage("decode_ms"):
            decoded = decode(diffused.latents)
        for job, audio in zip(diffused.prepared, decoded, strict=True):
            outcomes[job.place] = Rendition(audio, job.plan, effective(job, self._card))
        return BatchResult(outcomes, StageTimes(**diffused.watch.spent_ms()))

    def _setup_refusal(self, job: Job) -> str:
        """The reason why this worker's configuration cannot render `job`, or "". Raises ModelError."""
        spec = job.take.spec
        if spec.model != self._card.model:
            return f"the take wants {spec.model} and this worker holds {self._card.model}"
        if spec.task not in self._card.guarantees.tasks:
            return f"the take wants {spec.task}, which {self._card.model} does not do"
        if coded(job) and not self._pipeline.parts.reads_codes:
            raise no_code_modules(self._card.model)
        if job.plan is not None or spec.planner is None:
            return ""
        if self._planner is None:
            return "the take wants a planner and this worker was started without one"
        if self._planner_name not in {"", spec.planner.model}:
            return f"the take wants planner {spec.planner.model} and this worker holds {self._planner_name}"
        return ""


def no_code_modules(model: str) -> ModelError:
    """The error for planner codes that the loaded model cannot read."""
    return ModelError(
        f"the weights of {model!r} cannot read planner codes",
        why="audio_tokenizer and audio_token_detokenizer are absent (as in acestep-v15-xl-turbo-diffusers)",
        fix="use weights that have them, such as the original ACE-Step layout, or presets with `planner: false`",
    )


def _alike(jobs: Iterable[PreparedJob]) -> list[list[PreparedJob]]:
    """Groups of jobs that may share a call; after planning, takes of one bucket may differ in length."""
    groups: dict[tuple[str, Bucket], list[PreparedJob]] = {}
    for job in jobs:
        groups.setdefault((job.spec.task, Bucket.of(job.spec)), []).append(job)
    return list(groups.values())
