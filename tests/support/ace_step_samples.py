"""Samples for the ACE-Step tests: takes that differ in everything, fixed plans, and weights in the original layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from catalog.models import TINY
from catalog.sidecar import Plan
from catalog.spec import INSTRUMENTAL, DiffusionSpec, PlannerSpec, TrackSpec
from catalog.track import Take, Track
from workers.engine.protocol import BatchResult, Refusal, Rendition

CAPTIONS = (
    "calm piano",
    "slow ambient pads, warm tape, gentle bells over a deep drone, airy and relaxed, for an evening in a spa",
    "bright disco with funk guitar and strings",
    "bossa nova, nylon guitar and flute",
    "café-jazz «à la carte» — 夜のピアノ, brushed drums",
    "lo-fi",
    "elegant house, steady beat, synth bass, a touch of saxophone, modern hotel lobby at night, smooth and soft",
    "folk, acoustic guitar, morning light",
)
LYRICS = (
    INSTRUMENTAL,
    "[verse]\nSoft notes in the morning light\n[chorus]\nMusic fills the air",
    INSTRUMENTAL,
    "[intro]",
)
KEYS = ("C major", "F# minor", "B♭ major", "G minor")


def a_take(n: int = 0, *, duration_s: int = 10, planner: PlannerSpec | None = None, **changes: object) -> Take:
    """Take number `n` of a varied series: caption, lyrics, language, tempo, key, metre and seeds all depend on it."""
    fields: dict[str, object] = {
        "caption": CAPTIONS[n % 8],
        "lyrics": LYRICS[n % 4],
        "language": ("unknown", "en", "de", "ja")[n % 4],
        "bpm": 60 + 11 * n,
        "keyscale": KEYS[n % 4],
        "timesignature": ("4", "3", "6", "2")[n % 4],
        "duration_s": duration_s,
        "model": TINY.name,
        "diffusion": DiffusionSpec(),
        "planner": planner,
    }
    spec = TrackSpec.model_validate(fields | changes)
    return Track(catalog="test", zone="spa", genre="ambient", slot=f"s{n}", spec=spec).take()


def a_plan(n: int = 0, *, n_codes: int = 50) -> Plan:
    """A plan of random but fixed codes."""
    codes = np.random.default_rng(n).integers(0, 64_000, n_codes).tolist()
    return Plan(codes=codes, metadata={"bpm": 60}, prompt_sha256="0" * 64, batch_key="test")


def renditions(result: BatchResult) -> list[Rendition]:
    """The outcomes of a batch in which nothing was refused."""
    refused = [outcome.reason for outcome in result.outcomes if isinstance(outcome, Refusal)]
    assert not refused
    return [outcome for outcome in result.outcomes if isinstance(outcome, Rendition)]


def gap(one: Rendition, other: Rendition) -> float:
    """Largest difference of two renditions, in full scales."""
    return float(np.abs(one.audio - other.audio).max())


_ORIGINAL_PREFIX = {
    "transformer": "decoder.",
    "condition_encoder": "encoder.",
    "audio_tokenizer": "tokenizer.",
    "audio_token_detokenizer": "detokenizer.",
}
_ORIGINAL_NAMES = {
    ".to_q.": ".q_proj.",
    ".to_k.": ".k_proj.",
    ".to_v.": ".v_proj.",
    ".to_out.0.": ".o_proj.",
    ".norm_q.": ".q_norm.",
    ".norm_k.": ".k_norm.",
    "proj_in_conv.": "proj_in.1.",
    "proj_out_conv.": "proj_out.1.",
}


def write_original_layout(source: Path, folder: Path, variant: str = "acestep-v15-turbo") -> Path:
    """Write the diffusers checkpoint in `source` into `folder` as ACE-Step publishes its own."""
    tensors, config = {}, {}
    for component, prefix in _ORIGINAL_PREFIX.items():
        if (source / component).is_dir():
            tensors |= _originally_named(load_file(source / component / "diffusion_pytorch_model.safetensors"), prefix)
            config |= _published_fields(source / component)
    silence = tensors.pop("encoder.silence_latent")
    tensors["null_condition_emb"] = tensors.pop("encoder.null_condition_emb")
    home = folder / variant
    home.mkdir(parents=True)
    (home / "config.json").write_text(json.dumps(config))
    save_file(tensors, home / "model.safetensors")
    torch.save(silence.transpose(1, 2).contiguous(), home / "silence_latent.pt")
    shutil.copytree(source / "vae", folder / "vae")
    shutil.copytree(source / "text_encoder", folder / "Qwen3-Embedding-0.6B")
    shutil.copytree(source / "tokenizer", folder / "Qwen3-Embedding-0.6B", dirs_exist_ok=True)
    shutil.copytree(source / "planner", folder / "acestep-5Hz-lm-1.7B")
    return folder


def _originally_named(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for new, old in _ORIGINAL_NAMES.items():
            name = name.replace(new, old)  # noqa: PLW2901
        renamed[prefix + name] = tensor
    return renamed


def _published_fields(folder: Path) -> dict[str, object]:
    config = json.loads((folder / "config.json").read_text())
    return {name: value for name, value in config.items() if not name.startswith("_") and name != "layer_types"}
