"""The stock diffusers pipeline, called with exactly the settings of a take: the reference for the engine's audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from catalog.track import Take


def render_plainly(pipeline: Any, take: Take, codes: Sequence[int]) -> torch.Tensor:
    """Audio (2, samples) of one call of diffusers' `AceStepPipeline`; without `codes` it works from text alone."""
    spec = take.spec
    audio: torch.Tensor = pipeline(
        prompt=[spec.caption],
        lyrics=[spec.lyrics],
        vocal_language=[spec.language],
        audio_duration=float(spec.duration_s),
        bpm=spec.bpm,
        keyscale=spec.keyscale,
        timesignature=spec.timesignature,
        num_inference_steps=spec.diffusion.steps,
        shift=spec.diffusion.shift,
        guidance_scale=1.0,
        generator=[torch.Generator("cpu").manual_seed(take.dit_seed)],
        audio_codes=["".join(f"<|audio_code_{code}|>" for code in codes)] if codes else None,
    ).audios[0]
    return audio
