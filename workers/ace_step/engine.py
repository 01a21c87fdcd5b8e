"""The ACE-Step engine: planner, text, diffusion and decoding behind the Engine protocol.

It refuses what the model would quietly get wrong (a prompt longer than it reads, a plan of the wrong length)
and writes down what was really used. Random weights are allowed and labelled: their audio is noise.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from catalog import limits
from catalog.buckets import Bucket
from catalog.errors import ModelError, OutOfVram
from catalog.sidecar import Effective, Fingerprints, Plan, StageTimes
from catalog.spec import TINY_MODEL, PlannerSpec
from catalog.tiers import BatchLimit, batch_limit
from catalog.track import Take
from workers.ace_step.device import Placement, choose_placement, free_cache, wait_for
from workers.ace_step.loading import check_layout, load_components
from workers.ace_step.stages import Script, Stages
from workers.ace_step.tiny import holds_random_weights, tiny_checkpoint
from workers.ace_step.weights import fingerprint, open_weights
from workers.engine import BatchResult, EngineCard, Job, Refusal, Rendition

TINY_BATCH = 8
_PLANNER_PREFIX = "acestep-5Hz-lm-"
PLANNER_FOLDERS = ("planner", *(f"{_PLANNER_PREFIX}{size}" for size in ("1.7B", "0.6B", "4B")))
# The tiny tokenizer knows few words and spells the rest in bytes, so it needs up to eight times the tokens
# for a text that the real one fits into the published limit.
TINY_TOKENS_PER_TOKEN = 8


class PlanWriter(Protocol):
    """What the engine needs of a planner; `workers.ace_step.planner.Planner` is the real one."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over its weight files."""

    def plan(self, takes: Sequence[Take]) -> list[Plan]:
        """One plan for each take, of exactly the codes it needs."""

    def refusal(self, take: Take) -> str | None:
        """Why `take` cannot be planned in any company, or None."""


class TokenLimits(NamedTuple):
    """The most tokens the model reads before it would drop the end of a prompt in silence."""

    text: int = limits.TEXT_TOKENS_MAX
    lyrics: int = limits.LYRIC_TOKENS_MAX


class _Order(NamedTuple):
    """A job that will be rendered, with the place its outcome goes to."""

    place: int
    job: Job
    script: Script


class AceStepEngine:
    """One ACE-Step model on one device. Not thread-safe: an engine lives alone in its process."""

    def __init__(
        self,
        stages: Stages,
        *,
        planner: PlanWriter | None,
        planner_name: str = "",  # "": not known, so any that a take names will do
        placement: Placement,
        card: EngineCard,
    ) -> None:
        self._stages = stages
        self._planner = planner
        self._planner_name = planner_name
        self._placement = placement
        self._card = card
        noise = card.fingerprints.noise
        factor = TINY_TOKENS_PER_TOKEN if noise else 1
        self._limits = TokenLimits(limits.TEXT_TOKENS_MAX * factor, limits.LYRIC_TOKENS_MAX * factor)

    @property
    def card(self) -> EngineCard:
        """What it is and runs on."""
        return self._card

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The most takes of `bucket` in one call, with the reason."""
        if self._card.fingerprints.noise:
            return BatchLimit(TINY_BATCH, "random tiny weights fit anywhere")
        return batch_limit(self._placement.vram_gib, planned=bool(bucket.planner), source=self._placement.vram_source)

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch; all jobs share a bucket.

        A take alone and in any company differ by rounding only (below 1e-5 of full scale in float32). Raises
        OutOfVram when the batch does not fit, ModelError when codes are asked of a model that reads none.
        """
        if len({Bucket.of(job.take.spec) for job in jobs}) > 1:
            raise ValueError("the jobs of one batch must share a bucket")
        try:
            with torch.inference_mode():
                return self._render(jobs)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Only out here have the failed frames, and the tensors they held, been let go.
        free_cache(self._placement.device)
        raise OutOfVram(reason)

    def _render(self, jobs: Sequence[Job]) -> BatchResult:
        outcomes: list[Rendition | Refusal] = [Refusal("not rendered")] * len(jobs)
        watch = _Stopwatch(self._placement.device)
        orders: list[_Order] = []
        for place, job in enumerate(jobs):
            if unable := self._setup_refusal(job):
                outcomes[place] = Refusal(unable, elsewhere=True)
                continue
            reason = self._plan_refusal(job)
            if not reason:
                script = self._stages.write_script(job.take, coded=_coded(job))
                reason = self._script_refusal(script)
            if reason:
                outcomes[place] = Refusal(reason)
            else:
                orders.append(_Order(place, job, script))
        if orders:
            with watch.stage("plan_ms"):
                plans = self._plans([order.job for order in orders])
            for order, rendition in zip(orders, self._renditions(orders, plans, watch), strict=True):
                outcomes[order.place] = rendition
        return BatchResult(outcomes, watch.times())

    def _plans(self, jobs: Sequence[Job]) -> list[Plan | None]:
        """Each job's plan: the one it brought, a new one, or None where the take wants none."""
        wanting = [job.take for job in jobs if job.plan is None and job.take.spec.planner is not None]
        fresh = iter(self._planner.plan(wanting) if wanting and self._planner is not None else [])
        plans = [job.plan if job.plan or job.take.spec.planner is None else next(fresh) for job in jobs]
        for job, plan in zip(jobs, plans, strict=True):
            if plan is not None and len(plan.codes) != job.take.spec.n_codes:
                raise ModelError(
                    f"the planner wrote {len(plan.codes)} codes for take {job.take.id}",
                    why=f"{job.take.spec.duration_s} s need {job.take.spec.n_codes}",
                    fix="use planner weights of ACE-Step 1.5 (acestep-5Hz-lm-*)",
                )
        return plans

    def _renditions(
        self, orders: Sequence[_Order], plans: Sequence[Plan | None], watch: _Stopwatch
    ) -> Iterator[Rendition]:
        spec = orders[0].job.take.spec
        diffusion = spec.diffusion
        with watch.stage("encode_ms"):
            conditions = self._stages.encode([order.script for order in orders])
            context = self._stages.context([plan.codes if plan else None for plan in plans], spec.n_latents)
        with watch.stage("diffuse_ms"):
            noise = self._stages.noise([order.job.take.dit_seed for order in orders], spec.n_latents)
            latents = self._stages.diffuse(noise, conditions, context, steps=diffusion.steps, shift=diffusion.shift)
        for order, plan, row in zip(orders, plans, latents, strict=True):
            with watch.stage("decode_ms"):
                audio = self._stages.decode(row)[:, : spec.n_samples]
            yield Rendition(audio, plan, self._effective(order, plan))

    def _setup_refusal(self, job: Job) -> str:
        """Why this worker, as it was started, cannot render `job`, or "". Raises ModelError."""
        spec = job.take.spec
        if spec.model != self._card.model:
            return f"the take wants {spec.model} and this worker holds {self._card.model}"
        if _coded(job) and not self._stages.parts.reads_codes:
            raise no_code_modules(self._card.model)
        if job.plan is not None or spec.planner is None:
            return ""
        if self._planner is None:
            return "the take wants a planner and this worker was started without one"
        if self._planner_name not in {"", spec.planner.model}:
            return f"the take wants planner {spec.planner.model} and this worker holds {self._planner_name}"
        return ""

    def _plan_refusal(self, job: Job) -> str:
        """Why `job` cannot be rendered in any company, its plan considered, or ""."""
        if job.plan is not None:
            return _given_plan_refusal(job.plan, job.take.spec.n_codes)
        if job.take.spec.planner is None or self._planner is None:
            return ""
        return self._planner.refusal(job.take) or ""

    def _script_refusal(self, script: Script) -> str:
        """Why the model would not read all of `script`, or ""."""
        if len(script.text) > self._limits.text:
            return (
                f"caption and metadata are {len(script.text)} tokens; the model reads {self._limits.text} and "
                "would lose tempo, key and duration, which stand last: shorten the caption"
            )
        if len(script.lyrics) > self._limits.lyrics:
            return f"lyrics are {len(script.lyrics)} tokens; the model reads {self._limits.lyrics}: shorten them"
        return ""

    def _effective(self, order: _Order, plan: Plan | None) -> Effective:
        take = order.job.take
        extra: dict[str, str | int | float | bool] = {"lyric_tokens": len(order.script.lyrics)}
        if plan is not None:
            extra |= {"codes": len(plan.codes), "plan_given": order.job.plan is not None}
            extra |= _planner_settings(take.spec.planner)
        return Effective(
            dit_seed=take.dit_seed,
            lm_seed=take.lm_seed,
            steps=take.spec.diffusion.steps,
            shift=take.spec.diffusion.shift,
            device=str(self._placement.device),
            dtype=self._card.dtype,
            attention=self._card.attention,
            instruction=order.script.instruction,
            text_tokens=len(order.script.text),
            extra=extra,
        )


def load_engine(
    model: str,
    *,
    weights: str | None,
    planner_weights: str | None,
    device: str | None,
    vram_gib: float | None,
    home: Path,
    planner_wanted: bool = True,
) -> AceStepEngine:
    """Load `model` and, if wanted, its planner.

    `weights` and `planner_weights` are folders or hub ids with a pinned commit; the tiny random model needs
    neither and is written under `home`. Raises ModelError or SettingsError, with the fix.
    """
    placement = choose_placement(device, vram_gib)
    folder = tiny_checkpoint(home) if model == TINY_MODEL else _weights_folder(model, weights)
    check_layout(folder, model)
    planner_folder = _planner_folder(folder, planner_weights) if planner_wanted else None
    try:
        parts, files = load_components(folder, model, placement)
        if planner_folder and not parts.reads_codes:
            raise no_code_modules(model)
        planner = _load_planner(planner_folder, placement, home) if planner_folder else None
    except torch.OutOfMemoryError:
        raise _too_large(model, placement) from None
    noise = holds_random_weights(folder)
    if noise and placement.device.type == "cpu":
        # At this size threads only wait for each other: on a busy machine they cost up to a hundredfold.
        torch.set_num_threads(1)
    fingerprints = Fingerprints(
        model=fingerprint(files, folder, home),
        planner=planner.fingerprint if planner else "",
        code=code_version(),
        noise=noise,
    )
    stages = Stages(parts, placement)
    card = _card(model, placement, fingerprints, stages.attention_kernels())
    return AceStepEngine(
        stages,
        planner=planner,
        planner_name=_planner_name(planner_folder, planner_weights),
        placement=placement,
        card=card,
    )


def _card(model: str, placement: Placement, fingerprints: Fingerprints, attention: str) -> EngineCard:
    dtype = str(placement.dtype).removeprefix("torch.")
    planner = "planner on" if fingerprints.planner else "planner off"
    notes = [f"{model} on {placement.gpu} ({placement.device}), {dtype}, attention {attention}, {planner}"]
    if fingerprints.noise:
        notes.append(f"{model} has random weights: its audio is noise, by design")
    return EngineCard(
        model=model,
        gpu=placement.gpu,
        device=str(placement.device),
        dtype=dtype,
        vram_gib=placement.vram_gib,
        fingerprints=fingerprints,
        attention=attention,
        notes=notes,
    )


def code_version() -> str:
    """Versions of this program and of the libraries that the audio depends on."""
    names = ("tunemill", "torch", "diffusers", "transformers")
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def no_code_modules(model: str) -> ModelError:
    """The error for codes that the loaded model cannot read."""
    return ModelError(
        f"the weights of {model!r} cannot read planner codes",
        why="audio_tokenizer and audio_token_detokenizer are absent (as in acestep-v15-xl-turbo-diffusers)",
        fix="use weights that have them, such as the original ACE-Step layout, or presets with `planner: null`",
    )


def _weights_folder(model: str, weights: str | None) -> Path:
    if weights is None:
        raise ModelError(
            f"no weights are given for {model!r}",
            fix="set TUNEMILL_WEIGHTS to a folder or to owner/name@<commit>, such as "
            f"ACE-Step/Ace-Step1.5@<commit>; or use the model {TINY_MODEL!r}, which needs none and makes noise",
        )
    return open_weights(weights)


def _planner_folder(folder: Path, planner_weights: str | None) -> Path:
    if planner_weights is not None:
        return open_weights(planner_weights)
    found = [folder / name for name in PLANNER_FOLDERS if (folder / name).is_dir()]
    if not found:
        raise ModelError(
            f"no planner lies beside the weights in {folder}",
            why=f"looked for {', '.join(PLANNER_FOLDERS)}",
            fix="set TUNEMILL_PLANNER_WEIGHTS to a folder or owner/name@<commit>, or plan without a planner",
        )
    return found[0]


def _load_planner(folder: Path, placement: Placement, home: Path) -> PlanWriter:
    # Imported here, so that a worker without a planner does not pay for it.
    from workers.ace_step.planner import Planner  # noqa: PLC0415

    return Planner.load(folder, device=placement.device, dtype=placement.planner_dtype, home=home)


def _planner_name(folder: Path | None, reference: str | None) -> str:
    """Which planner was loaded, where the folder or the hub id tells; "" where neither does."""
    names = [folder.name if folder else "", (reference or "").partition("@")[0].rpartition("/")[2]]
    return next((name for name in names if name.startswith(_PLANNER_PREFIX)), "")


def _too_large(model: str, placement: Placement) -> ModelError:
    return ModelError(
        f"{model!r} does not fit into the memory of {placement.gpu} ({placement.vram_gib:.1f} GiB)",
        why="the device ran out of memory while the weights were loaded",
        fix="end other programs on the device, use one with more memory, or start the worker without a planner",
    )


def _coded(job: Job) -> bool:
    return job.plan is not None or job.take.spec.planner is not None


def _given_plan_refusal(plan: Plan, n_codes: int) -> str:
    if len(plan.codes) != n_codes:
        return f"the given plan has {len(plan.codes)} codes; the take needs {n_codes}"
    if not all(0 <= code < limits.CODEBOOK_SIZE for code in plan.codes):
        return f"the given plan has codes outside 0 to {limits.CODEBOOK_SIZE - 1}"
    return ""


def _planner_settings(spec: PlannerSpec | None) -> dict[str, str | int | float | bool]:
    if spec is None:
        return {}
    settings = spec.model_dump(mode="json", exclude={"think_fields"})
    return {f"planner_{name}": value for name, value in settings.items()} | {
        "planner_think_fields": ",".join(spec.think_fields)
    }


def _is_out_of_memory(error: RuntimeError) -> bool:
    # MPS and the CPU raise plain RuntimeErrors.
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "can't allocate memory" in words


class _Stopwatch:
    """Adds up the time of each stage, with the device's queue drained at both ends."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spent_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        wait_for(self._device)
        began = time.perf_counter()
        yield
        wait_for(self._device)
        self._spent_s[name] = self._spent_s.get(name, 0.0) + time.perf_counter() - began

    def times(self) -> StageTimes:
        return StageTimes(**{name: round(seconds * 1000) for name, seconds in self._spent_s.items()})
