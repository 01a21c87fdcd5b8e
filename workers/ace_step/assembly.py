"""Assembly: weights, planner, device and precision become one engine that is ready to render.

Parts that are missing or do not fit together are reported here, before a worker asks for takes.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from catalog.errors import ModelError
from catalog.models import TINY, find_model
from catalog.sidecar import Fingerprints
from catalog.spec import DiffusionSpec
from workers.ace_step.device.budget import BatchBudget, count_weights
from workers.ace_step.device.fitting import GIB, MIB, Fit, MemoryBudget, Offload, Quantize, choose_fit
from workers.ace_step.device.placement import Placement, choose_placement
from workers.ace_step.diffusion.pipeline import Pipeline
from workers.ace_step.diffusion.sampler import SHAPES_KEPT
from workers.ace_step.engine import AceStepEngine, no_code_modules
from workers.ace_step.tiny.checkpoint import holds_random_weights, tiny_checkpoint
from workers.ace_step.weights.files import check_pinned, fingerprint, open_weights
from workers.ace_step.weights.loading import Components, check_layout, load_components
from workers.ace_step.weights.offload import Offloaded, OffloadedParts, module_bytes
from workers.ace_step.weights.quantize import check_quantization
from workers.engine.calibration import Calibration, CalibrationKey, FoundCalibration, read_calibration
from workers.engine.protocol import EngineCard

if TYPE_CHECKING:
    from workers.ace_step.planner.planner import Planner

_WARM_UP_TAKES, _WARM_UP_LATENTS = 2, 3000  # two of 120 s: one alone would be compiled as a case of its own
_WARM_UP_DIFFUSION = DiffusionSpec(steps=3, shift=1.0)
_PLANNER_PREFIX = "acestep-5Hz-lm-"
PLANNER_FOLDERS = ("planner", *(f"{_PLANNER_PREFIX}{size}" for size in ("1.7B", "0.6B", "4B")))


def load_engine(  # noqa: PLR0913 - the settings, all by name
    model: str,
    *,
    weights: str | None,
    planner_weights: str | None,
    device: str | None,
    vram_gib: float | None,
    home: Path,
    weights_sha256: str | None = None,
    planner_weights_sha256: str | None = None,
    planner_wanted: bool = True,
    compiled: Literal["auto", "on", "off"] = "auto",
    quantize: Quantize = "auto",
    offload: Offload = "auto",
    trial: bool = False,
) -> AceStepEngine:
    """Load `model` and, if wanted, its planner.

    `weights` and `planner_weights` are folders or hub ids with a pinned commit; the tiny random model needs neither and
    is written under `home`. `weights_sha256` and `planner_weights_sha256` are the expected fingerprints. A `trial`
    engine ignores calibrations and begins batches that may not fit, because it is used to make a calibration. Raises
    ModelError, SettingsError or WorkerError, with the fix.
    """
    placement = choose_placement(device, vram_gib)
    fit = choose_fit(placement, quantize, offload)
    check_quantization(fit.quantize, placement.device)
    row = find_model(model)
    folder = _weights_folder(model, weights) if row.needs_weights else tiny_checkpoint(home)
    check_layout(folder, model)
    planner_folder = _planner_folder(folder, planner_weights) if planner_wanted else None
    try:
        parts, files = load_components(folder, model, placement, fit)
        if planner_folder and not parts.reads_codes:
            raise no_code_modules(model)
        planner = _load_planner(planner_folder, placement, home) if planner_folder else None
        offloaded = _place(parts, planner, fit, placement)
    except torch.OutOfMemoryError:
        raise _too_large(model, placement) from None
    noise = holds_random_weights(folder)
    if noise and placement.device.type == "cpu":
        # At this size threads only wait for each other: on a busy machine they cost up to a hundredfold.
        torch.set_num_threads(1)
    fingerprints = Fingerprints(
        model=fingerprint(files, folder, home),
        planner=planner.fingerprint if planner else "",
        code=code_version(*(["torchao"] if fit.quantize else [])),
        noise=noise,
    )
    if row.needs_weights:  # the random model has no pinned weights
        check_pinned(folder, fingerprints.model, weights_sha256, "TUNEMILL_WEIGHTS_SHA256")
    if planner_folder:
        check_pinned(planner_folder, fingerprints.planner, planner_weights_sha256, "TUNEMILL_PLANNER_WEIGHTS_SHA256")
    compiles = _compiles(compiled, placement)
    pipeline = Pipeline(
        parts,
        placement,
        offload=offloaded,
        compiled=compiles,
        graphs_kept=0 if fit.offload_dit else SHAPES_KEPT,
    )
    memory = _memory(parts, planner, offloaded, placement)
    if planner is not None:
        planner.limit_memory(memory.for_planner / GIB, weights_stay=not fit.offload)
    found = _found(_key(model, placement, fingerprints, fit, compiles=compiles), home, trial=trial)
    card = _card(model, placement, fingerprints, fit, pipeline.attention_kernels(), found.note)
    if compiles or placement.device.type == "cuda":
        pipeline.warm_up(_WARM_UP_TAKES, _WARM_UP_LATENTS, _WARM_UP_DIFFUSION)
    return AceStepEngine(
        pipeline,
        planner=planner,
        planner_name=_planner_name(planner_folder, planner_weights),
        budget=BatchBudget(placement, memory, count_weights(parts.transformer), found.calibration, noise, trial),
        card=card,
    )


def _place(parts: Components, planner: Planner | None, fit: Fit, placement: Placement) -> OffloadedParts:
    """Move the weights of every part to the places that `fit` assigns."""

    def placed(*modules: torch.nn.Module | None, offload: bool = fit.offload) -> Offloaded:
        present = [module for module in modules if module is not None]
        if not offload:
            return Offloaded(placement.device)
        # Silence is no weight but the starting point of every batch, so it stays.
        return Offloaded.in_host_memory(present, placement.device, stays=["silence_latent"])

    return OffloadedParts(
        encoding=placed(parts.text_encoder, parts.condition_encoder),
        hinting=placed(parts.audio_tokenizer, parts.audio_token_detokenizer),
        diffusion=placed(parts.transformer, offload=fit.offload_dit),
        decoding=placed(parts.vae),
        planning=placed(planner.model if planner else None),
    )


def _memory(
    parts: Components, planner: Planner | None, offloaded: OffloadedParts, placement: Placement
) -> MemoryBudget:
    """The device's memory minus the weights that were really loaded."""
    resident = module_bytes(*parts.modules, *([planner.model] if planner else []))
    return MemoryBudget(round(placement.vram_gib * GIB), resident, offloaded.onload_bytes, planned=planner is not None)


def _key(model: str, placement: Placement, fingerprints: Fingerprints, fit: Fit, *, compiles: bool) -> CalibrationKey:
    setup = [_dtype(placement, fit), fit.offloaded, "compiled" if compiles else ""]
    return CalibrationKey(
        gpu=placement.gpu,
        total_mib=round(placement.vram_gib * GIB / MIB),
        model=model,
        model_fingerprint=fingerprints.model,
        planner_fingerprint=fingerprints.planner,
        setup=", ".join(filter(None, setup)),
        code=fingerprints.code,
    )


def _found(key: CalibrationKey, home: Path, *, trial: bool) -> FoundCalibration:
    """The stored calibration of `key`; an empty one for a trial engine, which is to be measured anew."""
    return FoundCalibration(Calibration(key=key), "") if trial else read_calibration(home, key)


def _dtype(placement: Placement, fit: Fit) -> str:
    return "+".join(filter(None, [str(placement.dtype).removeprefix("torch."), fit.quantize]))


def _compiles(wanted: Literal["auto", "on", "off"], placement: Placement) -> bool:
    return wanted == "on" or (wanted == "auto" and placement.device.type == "cuda")


def _card(
    model: str, placement: Placement, fingerprints: Fingerprints, fit: Fit, attention: str, *more: str
) -> EngineCard:
    dtype = _dtype(placement, fit)
    planner = "planner on" if fingerprints.planner else "planner off"
    notes = [f"{model} on {placement.gpu} ({placement.device}), {dtype}, attention {attention}, {planner}"]
    notes.extend(filter(None, more))
    if fit.offloaded:
        notes.append(f"{fit.offloaded}: these weights wait in host memory and are on the device for their stage only")
    if fingerprints.noise:
        notes.append(f"{model} has random weights: its audio is noise, by design")
    return EngineCard(
        model=model,
        gpu=placement.gpu,
        device=str(placement.device),
        dtype=dtype,
        vram_gib=placement.vram_gib,
        fingerprints=fingerprints,
        guarantees=find_model(model).guarantees,
        attention=attention,
        # Weights that are loaded in turn would have to be loaded at once.
        overlaps=placement.device.type == "cuda" and not fit.offloaded,
        notes=notes,
    )


def code_version(*more: str) -> str:
    """The versions of this program and of the libraries on which the audio depends, including `more`."""
    names = ("tunemill", "torch", "diffusers", "transformers", *more)
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _weights_folder(model: str, weights: str | None) -> Path:
    if weights is None:
        raise ModelError(
            f"no weights are given for {model!r}",
            fix="set TUNEMILL_WEIGHTS to a folder or to owner/name@<commit>, such as "
            f"ACE-Step/Ace-Step1.5@<commit>; or use the model {TINY.name!r}, which needs none and makes noise",
        )
    return open_weights(weights)


def _planner_folder(folder: Path, planner_weights: str | None) -> Path:
    if planner_weights is not None:
        given = open_weights(planner_weights, "TUNEMILL_PLANNER_WEIGHTS")
        below = [given / name for name in PLANNER_FOLDERS if (given / name / "config.json").is_file()]
        if below and not (given / "config.json").is_file():
            raise ModelError(
                f"{given} holds the planner in a folder further down",
                why="TUNEMILL_PLANNER_WEIGHTS names the planner's own folder",
                fix=f"set TUNEMILL_PLANNER_WEIGHTS={below[0]}; unset, the planner beside the weights is taken",
            )
        return given
    found = [folder / name for name in PLANNER_FOLDERS if (folder / name).is_dir()]
    if not found:
        raise ModelError(
            f"no planner lies beside the weights in {folder}",
            why=f"looked for {', '.join(PLANNER_FOLDERS)}",
            fix="set TUNEMILL_PLANNER_WEIGHTS to a folder or owner/name@<commit>, or plan without a planner",
        )
    return found[0]


def _load_planner(folder: Path, placement: Placement, home: Path) -> Planner:
    # Imported here, so that a worker without a planner does not pay for it.
    from workers.ace_step.planner.planner import Planner  # noqa: PLC0415

    return Planner.load(folder, device=placement.device, dtype=placement.planner_dtype, home=home)


def _planner_name(folder: Path | None, reference: str | None) -> str:
    """The name of the loaded planner, from its folder or hub id; "" when neither tells."""
    names = [folder.name if folder else "", (reference or "").partition("@")[0].rpartition("/")[2]]
    return next((name for name in names if name.startswith(_PLANNER_PREFIX)), "")


def _too_large(model: str, placement: Placement) -> ModelError:
    return ModelError(
        f"{model!r} does not fit into the memory of {placement.gpu} ({placement.vram_gib:.1f} GiB)",
        why="the device ran out of memory while the weights were loaded",
        fix="end other programs on the device, use one with more memory, or start the worker without a planner",
    )
