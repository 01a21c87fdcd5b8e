"""Random checkpoints of any size: ACE-Step's real classes and file layout, so that loading them is real as well.

Speed does not depend on what weights hold, so full-size ones stand in for trained weights; reduced ones are small
enough for a CPU and large enough that their time is arithmetic and not Python. Files are diffusers' layout with the
planner beside it; the tokenizers are the tiny checkpoint's, which a model of any size can read with.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from workers.ace_step.tiny.checkpoint import MANIFEST, PLANNER_FOLDER, tiny_checkpoint

PLANNER_STEM: Final = "acestep-5Hz-lm-1.7B"
Config = dict[str, Any]


class Sizes(NamedTuple):
    """How large one model is; every field holds arguments of its class, {} its own defaults (the 2B model's)."""

    model: str  # the name it is loaded under
    transformer: Config
    condition_encoder: Config
    code_modules: Config
    vae: Config
    text_encoder: Config
    planner: Config

    def build(self) -> dict[str, Any]:
        """Every part with its shapes and without its memory, on the meta device."""
        with init_empty_weights():
            return {
                "transformer": AceStepTransformer1DModel(is_turbo=True, model_version="turbo", **self.transformer),
                "condition_encoder": AceStepConditionEncoder(**self.condition_encoder),
                "audio_tokenizer": AceStepAudioTokenizer(**self.code_modules),
                "audio_token_detokenizer": AceStepAudioTokenDetokenizer(**_without_codebook(self.code_modules)),
                "vae": AutoencoderOobleck(**_VAE_FRAME, **self.vae),
                "text_encoder": Qwen3Model(Qwen3Config(**self.text_encoder)),
                "planner": Qwen3ForCausalLM(Qwen3Config(**self.planner)),
            }


_VAE_FRAME: Final[Config] = {"downsampling_ratios": [2, 4, 4, 6, 10], "audio_channels": 2, "sampling_rate": 48_000}
_QWEN: Final[Config] = {"rope_theta": 1_000_000, "tie_word_embeddings": True}
_REAL_HEADS: Final[Config] = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
_REAL_VAE: Final[Config] = {
    "encoder_hidden_size": 128,
    "channel_multiples": [1, 2, 4, 8, 16],
    "decoder_channels": 128,
    "decoder_input_channels": 64,
}
_REAL_TEXT: Final[Config] = {
    "vocab_size": 151_669,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "max_position_embeddings": 32_768,
    **_REAL_HEADS,
    **_QWEN,
}
_REAL_PLANNER: Final[Config] = {
    "vocab_size": 217_204,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "max_position_embeddings": 40_960,
    **_REAL_HEADS,
    **_QWEN,
}
TURBO: Final = Sizes("acestep-v15-turbo", {}, {}, {}, _REAL_VAE, _REAL_TEXT, _REAL_PLANNER)
XL_TURBO: Final = TURBO._replace(
    model="acestep-v15-xl-turbo",
    transformer={
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "encoder_hidden_size": 2048,
    },
)


def _reduced(model: str, width: int, layers: int, planner_width: int, planner_layers: int, vae_width: int) -> Sizes:
    """A model of the same build in small: `width` and `vae_width` decide the cost of diffusion and decoding."""
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": width // 8}
    body = {"hidden_size": width, "intermediate_size": 3 * width, **heads}
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    latent = {"timbre_hidden_dim": 16, "text_hidden_dim": 64}
    return Sizes(
        model=model,
        transformer={
            "num_hidden_layers": layers,
            "in_channels": 48,
            "audio_acoustic_hidden_dim": 16,
            "encoder_hidden_size": width,
            **body,
        },
        condition_encoder={
            "num_lyric_encoder_hidden_layers": 2,
            "num_timbre_encoder_hidden_layers": 2,
            **latent,
            **body,
        },
        code_modules={"audio_acoustic_hidden_dim": 16, "fsq_dim": width, **body},
        vae={
            "encoder_hidden_size": 32,
            "channel_multiples": [1, *([vae_width // 8] * 4)],
            "decoder_channels": vae_width,
            "decoder_input_channels": 16,
        },
        text_encoder={"vocab_size": 1024, "max_position_embeddings": 32_768, **text, **_small_heads(16), **_QWEN},
        planner={
            "vocab_size": 65_796,
            "hidden_size": planner_width,
            "intermediate_size": 3 * planner_width,
            "num_hidden_layers": planner_layers,
            "max_position_embeddings": 40_960,
            **_small_heads(planner_width // 8),
            **_QWEN,
        },
    )


def _small_heads(head_dim: int) -> Config:
    return {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": head_dim}


# About ten million weights for diffusion and forty for planning: seconds a take on one core.
REDUCED: Final = _reduced("acestep-v15-turbo", 256, 8, 512, 8, 16)
# As small as the code allows: for tests that only prove that a bench runs.
MINIATURE: Final = _reduced("acestep-v15-turbo", 64, 2, 64, 2, 8)


def write_checkpoint(sizes: Sizes, folder: Path, home: Path, *, device: str = "cpu", seed: int = 0) -> Path:
    """Write a random checkpoint of `sizes` into `folder`, planner included; drawn on `device`, in bfloat16.

    Under `home` the tiny checkpoint is kept, whose tokenizers it takes. Values differ between kinds of device.
    """
    tiny = tiny_checkpoint(home)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(tiny / name, folder / name)
    shutil.copy(tiny / "model_index.json", folder)
    (folder / MANIFEST).write_text(json.dumps({"noise": "Random weights for measuring speed.", "seed": seed}))
    generator = torch.Generator(device).manual_seed(seed)
    for name, part in sizes.build().items():
        tensors = {key: _drawn(key, tensor, generator) for key, tensor in part.state_dict().items()}
        if name == "planner":
            _write_planner(part.config, tensors, tiny / PLANNER_FOLDER, folder / PLANNER_STEM)
        elif name == "text_encoder":
            part.config.save_pretrained(folder / name)
            _save(tensors, folder / name / "model.safetensors")
        else:
            part.save_config(folder / name)
            _save(tensors, folder / name / "diffusion_pytorch_model.safetensors")
    return folder


def _write_planner(config: Qwen3Config, tensors: Mapping[str, torch.Tensor], tiny: Path, folder: Path) -> None:
    """The planner's folder; its output matrix is the embedding and so is not stored."""
    shutil.copytree(tiny, folder)
    config.architectures = ["Qwen3ForCausalLM"]
    config.save_pretrained(folder)  # in place of the tiny one's, which allows longer prompts than the real one
    _save({name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}, folder / "model.safetensors")


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _drawn(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A tensor that keeps signals about as loud as they came in: vectors neutral, matrices uniform by fan-in."""
    shape, device = like.shape, generator.device
    if "silence" in name:
        return torch.rand(shape, generator=generator, device=device, dtype=torch.bfloat16) * 0.1
    if name.endswith("weight_g"):
        # Residual branches of the decoder are kept quiet: its sines in a row would blow rounding errors up.
        return torch.full(shape, 0.3 if "res_unit" in name else 1.0, dtype=torch.bfloat16, device=device)
    if len(shape) <= 1 or sum(size > 1 for size in shape) <= 1:
        neutral = 0.0 if name.endswith("bias") or name.endswith(("alpha", "beta")) else 1.0
        return torch.full(shape, neutral, dtype=torch.bfloat16, device=device)
    bound = math.sqrt(3 / max(1, math.prod(shape[1:])))
    drawn = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
    # Planner logits must not be flat, or the nucleus is nearly everything, as in no trained model.
    return ((drawn * 2 - 1) * (bound * (4.0 if "embed_tokens" in name else 1.0))).to(torch.bfloat16)


def _without_codebook(config: Config) -> Config:
    return {name: value for name, value in config.items() if not name.startswith("fsq")}
