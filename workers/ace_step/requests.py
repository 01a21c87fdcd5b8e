"""Requests: check and prepare the engine's inputs, and refuse those that the model would get wrong.

The model would silently do the wrong thing with a prompt longer than it reads or a plan of the wrong length. Such a
take is refused here, in words, before anything is computed.
"""

from __future__ import annotations

from typing import NamedTuple

from catalog import limits
from catalog.buckets import Bucket
from catalog.errors import ModelError, OutOfRangeError
from catalog.sidecar import Effective, Plan, diffusion_used
from catalog.spec import PlannerSpec, TrackSpec, with_metadata
from workers.ace_step.diffusion.pipeline import TokenizedPrompt
from workers.engine.protocol import EngineCard, Job

# The tiny tokenizer knows few words and spells the rest in bytes, so it needs up to eight times the tokens
# for a text that the real one fits into the published limit.
TINY_TOKENS_PER_TOKEN = 8


class PreparedJob(NamedTuple):
    """A job that will be rendered: the index of its outcome, and the spec with the choices of its plan."""

    place: int
    job: Job
    plan: Plan | None
    spec: TrackSpec
    prompt: TokenizedPrompt


class TokenLimits(NamedTuple):
    """The token counts above which the model would silently drop the end of a prompt."""

    text: int
    lyrics: int

    @classmethod
    def of(cls, *, noise: bool) -> TokenLimits:
        """The published limits, raised for the tokenizer of random weights."""
        factor = TINY_TOKENS_PER_TOKEN if noise else 1
        return cls(limits.TEXT_TOKENS_MAX * factor, limits.LYRIC_TOKENS_MAX * factor)

    def refusal(self, prompt: TokenizedPrompt) -> str:
        """The reason why the model would not read the whole `prompt`, or ""."""
        if len(prompt.text) > self.text:
            return (
                f"caption and metadata are {len(prompt.text)} tokens; the model reads {self.text} and "
                "would lose tempo, key and duration, which stand last: shorten the caption"
            )
        if len(prompt.lyrics) > self.lyrics:
            return f"lyrics are {len(prompt.lyrics)} tokens; the model reads {self.lyrics}: shorten them"
        return ""


def bucket_of(job: Job) -> Bucket:
    """The bucket of `job`, with the length that its plan chose, if it has a plan."""
    try:
        return Bucket.of(with_metadata(job.take.spec, job.plan.metadata) if job.plan else job.take.spec)
    except OutOfRangeError:  # a plan that will be refused
        return Bucket.of(job.take.spec)


def coded(job: Job) -> bool:
    """True when planner codes guide `job`."""
    return job.plan is not None or job.take.spec.planner is not None


def given_plan_refusal(job: Job) -> str:
    """The reason why a job's given plan does not suit its take, or ""."""
    plan = job.plan
    if plan is None:
        return ""
    try:
        n_codes = with_metadata(job.take.spec, plan.metadata).n_codes
    except OutOfRangeError as error:
        return str(error)
    if len(plan.codes) != n_codes:
        return f"the given plan has {len(plan.codes)} codes; the take needs {n_codes}"
    if not all(0 <= code < limits.CODEBOOK_SIZE for code in plan.codes):
        return f"the given plan has codes outside 0 to {limits.CODEBOOK_SIZE - 1}"
    return ""


def spec_with_plan(job: Job, plan: Plan | None) -> TrackSpec:
    """The spec of `job` with the choices of `plan`. Raises ModelError when the plan lacks codes."""
    if plan is None:
        return job.take.spec
    spec = with_metadata(job.take.spec, plan.metadata)
    if len(plan.codes) != spec.n_codes:
        raise ModelError(
            f"the planner wrote {len(plan.codes)} codes for take {job.take.id}",
            why=f"{spec.duration_s} s need {spec.n_codes}",
            fix="use planner weights of ACE-Step 1.5 (acestep-5Hz-lm-*)",
        )
    return spec


def effective(prepared: PreparedJob, card: EngineCard) -> Effective:
    """The settings that were really used to render `prepared`."""
    take, spec = prepared.job.take, prepared.spec
    extra: dict[str, str | int | float | bool] = {"lyric_tokens": len(prepared.prompt.lyrics)}
    if prepared.plan is not None:
        extra |= {"codes": len(prepared.plan.codes), "plan_given": prepared.job.plan is not None}
        extra |= _planner_settings(take.spec.planner)
    return Effective(
        dit_seed=take.dit_seed,
        lm_seed=take.lm_seed,
        **diffusion_used(spec.diffusion),
        device=card.device,
        dtype=card.dtype,
        attention=card.attention,
        instruction=prepared.prompt.instruction,
        text_tokens=len(prepared.prompt.text),
        extra=extra,
    )


def _planner_settings(spec: PlannerSpec | None) -> dict[str, str | int | float | bool]:
    if spec is None:
        return {}
    settings = spec.model_dump(mode="json")
    return {
        f"planner_{name}": ",".join(value) if isinstance(value, list) else value for name, value in settings.items()
    }
