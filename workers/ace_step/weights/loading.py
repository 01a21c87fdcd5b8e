"""Loading: turns a checkpoint folder into the model's components, complete and exact, or raises an error that says why.

Each layout, diffusers' and ACE-Step's original, passes through the same strict check: every module is built without
memory of its own and given its tensors by name. One missing, surplus or misshapen tensor refuses the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3Config, Qwen3Model

from catalog.errors import ModelError
from workers.ace_step.device.fitting import AS_LOADED, Fit
from workers.ace_step.device.placement import Placement
from workers.ace_step.weights import convert
from workers.ace_step.weights.files import Tensors, WeightReader
from workers.ace_step.weights.folding import fold
from workers.ace_step.weights.quantize import quantize_blocks
from workers.ace_step.weights.recognition import refuse_other, refuse_width

DIFFUSION_STEM = "diffusion_pytorch_model"
TRANSFORMERS_STEM = "model"
_CLASSES: dict[str, type] = {
    "transformer": AceStepTransformer1DModel,
    "condition_encoder": AceStepConditionEncoder,
    "audio_tokenizer": AceStepAudioTokenizer,
    "audio_token_detokenizer": AceStepAudioTokenDetokenizer,
    "vae": AutoencoderOobleck,
    "text_encoder": Qwen3Model,
}
CODE_MODULES = ("audio_tokenizer", "audio_token_detokenizer")


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of one ACE-Step 1.5 model, on their device and in their precision."""

    transformer: AceStepTransformer1DModel
    condition_encoder: AceStepConditionEncoder
    text_encoder: Qwen3Model
    tokenizer: PreTrainedTokenizerBase
    vae: AutoencoderOobleck  # its decoder only, folded
    # Turn planner codes into latents; some published checkpoints lack them.
    audio_tokenizer: AceStepAudioTokenizer | None
    audio_token_detokenizer: AceStepAudioTokenDetokenizer | None

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules that hold weights and are present."""
        return [part for name in _CLASSES if (part := getattr(self, name)) is not None]

    @property
    def reads_codes(self) -> bool:
        """True when the loaded model can read the planner's codes."""
        return self.audio_tokenizer is not None and self.audio_token_detokenizer is not None


class _ComponentFiles(NamedTuple):
    config: dict[str, Any]
    tensors: Tensors
    source: Path  # the file to name when it does not fit


def check_layout(folder: Path, model: str) -> None:
    """Raise ModelError when `folder` has `model` in neither layout; the error names the folder's real content."""
    refuse_other(folder, model)
    if not _is_diffusers(folder) and not (folder / model / "config.json").is_file():
        raise _no_layout(folder, model)


def load_components(
    folder: Path, model: str, placement: Placement, fit: Fit = AS_LOADED
) -> tuple[Components, list[Path]]:
    """Load `model` from `folder`, in either layout; also returns the weight files that were read.

    The parts that `fit` offloads stay in host memory.

    Raises ModelError naming the file when the checkpoint is incomplete, corrupt, in a pickle format, or of a variant
    that needs guidance.
    """
    check_layout(folder, model)
    reader = WeightReader(folder)
    try:
        parts, tokenizer_folder = (
            _diffusers_parts(reader) if _is_diffusers(folder) else _original_parts(reader, folder / model)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a configuration of another shape
        raise _misfit(folder / "config.json", f"{type(error).__name__}: {error}") from None
    _check_turbo(parts["transformer"], model)
    refuse_width(parts["transformer"].config, model, parts["transformer"].source)
    modules = {name: _build(name, part, _loaded_to(name, placement, fit)) for name, part in parts.items()}
    quantize_blocks(modules["transformer"], fit.quantize)
    for name in CODE_MODULES:
        modules.setdefault(name, None)
    return Components(tokenizer=_load_tokenizer(reader, tokenizer_folder), **modules), reader.files


def _is_diffusers(folder: Path) -> bool:
    return (folder / "model_index.json").is_file()


def _diffusers_parts(reader: WeightReader) -> tuple[dict[str, _ComponentFiles], Path]:
    root = reader.root
    index = reader.json(root / "model_index.json")
    parts = {}
    for name in _CLASSES:
        if name in CODE_MODULES and not any(index.get(name) or []):
            continue  # published without: `[null, null]` or no entry at all
        stem = TRANSFORMERS_STEM if name == "text_encoder" else DIFFUSION_STEM
        parts[name] = _read_part(reader, root / name, stem)
    return parts, root / "tokenizer"


def _original_parts(reader: WeightReader, variant: Path) -> tuple[dict[str, _ComponentFiles], Path]:
    root = reader.root
    config = reader.json(variant / "config.json")
    tensors = convert.split(reader.tensors(variant, TRANSFORMERS_STEM))
    width = config.get("timbre_hidden_dim", 64)
    tensors.setdefault("condition_encoder", {})["silence_latent"] = convert.read_silence(reader, variant, width)
    source = variant / f"{TRANSFORMERS_STEM}.safetensors"
    if unknown := tensors.pop("", None):
        raise _misfit(source, f"unknown tensors {', '.join(sorted(unknown)[:3])}")
    parts = {
        name: _ComponentFiles(convert.component_config(name, _CLASSES[name], config, variant.name), part, source)
        for name, part in tensors.items()
    }
    if "transformer" not in parts:
        raise _misfit(source, "it holds no tensor named decoder.*")
    text = root / "Qwen3-Embedding-0.6B"
    parts["vae"] = _read_part(reader, root / "vae", DIFFUSION_STEM)
    parts["text_encoder"] = _read_part(reader, text, TRANSFORMERS_STEM)
    return parts, text


def _read_part(reader: WeightReader, folder: Path, stem: str) -> _ComponentFiles:
    config = reader.json(folder / "config.json")
    return _ComponentFiles(config, reader.tensors(folder, stem), folder / f"{stem}.safetensors")


def _build(name: str, part: _ComponentFiles, placement: Placement) -> Any:
    """One module with its tensors assigned; nothing is initialised only to be overwritten."""
    dtype = {"vae": torch.float32, "text_encoder": placement.text_dtype}.get(name, placement.dtype)
    tensors = _headless(part.tensors) if name == "text_encoder" else part.tensors
    try:
        # Buffers that no file holds (rotary frequencies, code book tables) are computed by the constructor.
        with init_empty_weights(include_buffers=False):
            module: Any = _construct(_CLASSES[name], part.config)
        placed = {key: _placed(tensor, placement.device, dtype) for key, tensor in tensors.items()}
        module.load_state_dict(placed, strict=True, assign=True)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _misfit(part.source, f"{name}: {' '.join(str(error).split())[:300]}") from None
    if name == "vae":  # folded in float32, so that half precision rounds once
        fold(module)
        module.decoder.to(placement.vae_dtype)
    return module.to(placement.device).eval().requires_grad_(False)


def _loaded_to(name: str, placement: Placement, fit: Fit) -> Placement:
    """The placement that a part is loaded to: the smallest devices could not hold all parts at once."""
    offloaded = fit.offload_dit if name == "transformer" else fit.offload
    return placement._replace(device=torch.device("cpu")) if offloaded else placement


def _construct(kind: type, config: dict[str, Any]) -> torch.nn.Module:
    if issubclass(kind, Qwen3Model):
        return kind(Qwen3Config.from_dict(config))
    module: torch.nn.Module = kind.from_config(config)  # type: ignore[attr-defined]
    return module


def _placed(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    placed = tensor.to(device, dtype if tensor.is_floating_point() else None)
    # A tensor that is left where its file was read lies wherever its header ends, and products on a CPU differ in the
    # last bits by that: with memory of its own it is the same in every layout.
    return placed.clone() if placed.data_ptr() == tensor.data_ptr() else placed


def _headless(tensors: Tensors) -> Tensors:
    """The tensors of the bare text model: a checkpoint saved as a causal LM has a prefix and an output matrix."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name != "lm_head.weight"}


def _load_tokenizer(reader: WeightReader, folder: Path) -> PreTrainedTokenizerBase:
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise reader.missing(folder / "tokenizer.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise reader.corrupt(folder / "tokenizer.json", error) from None
    # The text encoder gets no attention mask: it is causal, so only padding on the right leaves words alone.
    if tokenizer.padding_side != "right":
        raise ModelError(
            f"the tokenizer in {folder} pads on the {tokenizer.padding_side}",
            why="short captions in a batch would be encoded wrongly",
            fix='set "padding_side": "right" in its tokenizer_config.json',
        )
    return tokenizer


def _check_turbo(transformer: _ComponentFiles, model: str) -> None:
    config = transformer.config
    if not (config.get("is_turbo") or config.get("model_version") == "turbo"):
        raise ModelError(
            f"the weights given for {model!r} are not a turbo variant",
            why="base and sft variants need guidance at every step, which this engine does not do",
            fix="use acestep-v15-turbo or acestep-v15-xl-turbo",
        )


def _no_layout(folder: Path, model: str) -> ModelError:
    present = sorted(path.name for path in folder.iterdir() if path.is_dir())[:12]
    return ModelError(
        f"{folder} holds neither model_index.json nor {model}/config.json",
        why=f"folders found: {', '.join(present) or 'none'}",
        fix="point TUNEMILL_WEIGHTS at the folder that holds them (diffusers or original ACE-Step layout)",
    )


def _misfit(source: Path, why: str) -> ModelError:
    return ModelError(
        f"the weights in {source.parent} do not fit their configuration",
        why=why,
        fix="download config.json and the weights from one and the same revision",
    )
