"""The original ACE-Step layout, read as diffusers components without a copy on disk.

In the original layout, one `model.safetensors` per diffusion variant holds transformer, condition encoder and code
modules under prefixes, with other names for the attention projections; `silence_latent.pt` lies beside it.

Source: diffusers `scripts/convert_ace_step_to_diffusers.py` (0.42); the results are bitwise those of its output.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from workers.ace_step.weights.files import SILENCE_FILE, Tensors, WeightReader

_COMPONENT_OF = {
    "decoder.": "transformer",
    "encoder.": "condition_encoder",
    "tokenizer.": "audio_tokenizer",
    "detokenizer.": "audio_token_detokenizer",
}
_RENAMED = {
    ".q_proj.": ".to_q.",
    ".k_proj.": ".to_k.",
    ".v_proj.": ".to_v.",
    ".o_proj.": ".to_out.0.",
    ".q_norm.": ".norm_q.",
    ".k_norm.": ".norm_k.",
}
_RENAMED_IN_TRANSFORMER = {"proj_in.1.": "proj_in_conv.", "proj_out.1.": "proj_out_conv."}
_NULL_CONDITION = "null_condition_emb"
# Beside a wider transformer (XL) the other modules keep the width that these fields give.
_ENCODER_WIDTHS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")


def split(tensors: Tensors) -> dict[str, Tensors]:
    """The tensors of one original `model.safetensors`, renamed, by diffusers component. Unknown names are kept
    under "", so that strict loading can name them."""
    parts: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        if name == _NULL_CONDITION:
            parts.setdefault("condition_encoder", {})[name] = tensor
            continue
        prefix = next((prefix for prefix in _COMPONENT_OF if name.startswith(prefix)), "")
        component = _COMPONENT_OF.get(prefix, "")
        parts.setdefault(component, {})[_renamed(name.removeprefix(prefix), component)] = tensor
    return parts


def component_config(component: str, kind: type, config: dict[str, Any], folder: str) -> dict[str, Any]:
    """Constructor arguments of `component` (of class `kind`) from the original `config`.

    `folder` is the variant's name; older configurations do not say themselves whether they are turbo.
    """
    fields = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    chosen = {name: value for name, value in config.items() if name in fields}
    if component == "transformer":
        turbo = "turbo" in folder or config.get("model_version") == "turbo"
        width = config.get("encoder_hidden_size", config["hidden_size"])
        return chosen | {"encoder_hidden_size": width, "is_turbo": config.get("is_turbo", turbo)}
    for name in _ENCODER_WIDTHS:
        if f"encoder_{name}" in config:
            chosen[name] = config[f"encoder_{name}"]
    if component != "condition_encoder" and chosen.get("layer_types"):
        chosen["layer_types"] = chosen["layer_types"][: config.get("num_attention_pooler_hidden_layers", 2)]
    return chosen


def read_silence(reader: WeightReader, folder: Path, width: int) -> torch.Tensor:
    """The latents of silence, (1, 15000 frames, `width`). Raises ModelError when absent or corrupt."""
    twin = folder / "silence_latent.safetensors"
    if twin.is_file():
        (silence,) = reader.tensors(folder, twin.stem).values()
    else:
        path = folder / SILENCE_FILE
        if not path.is_file():
            raise reader.missing(path)
        try:
            # The one file of the original layout that exists as a pickle only. `weights_only` reads it with a
            # restricted unpickler that builds tensors and nothing else, so that no code in it can run.
            silence = torch.load(path, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
            raise reader.corrupt(path, error) from None
        reader.files.append(path)
    if not isinstance(silence, torch.Tensor) or silence.ndim != 3 or width not in silence.shape[1:]:
        raise reader.corrupt(folder / SILENCE_FILE, f"it is no tensor of (1, {width}, frames)")
    return silence if silence.shape[2] == width else silence.transpose(1, 2).contiguous()


def _renamed(name: str, component: str) -> str:
    renames = _RENAMED | (_RENAMED_IN_TRANSFORMER if component == "transformer" else {})
    for old, new in renames.items():
        name = name.replace(old, new)
    return name
