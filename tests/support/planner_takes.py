"""Takes for tests of the planner, and the tiny planner that plans them."""

from __future__ import annotations

from typing import Any

import torch

from catalog.spec import PlannerSpec, TrackSpec
from catalog.track import Take, Track

CPU = torch.device("cpu")


def a_take(
    number: int = 1, *, duration_s: int = 10, caption: str = "Slow piano", seed: int = 0, **planner: Any
) -> Take:
    """A take that wants a plan; its seed follows from its number."""
    spec = TrackSpec(
        caption=caption,
        bpm=72,
        keyscale="F# minor",
        duration_s=duration_s,
        planner=PlannerSpec(**planner),
        model="tiny-random",
    )
    track = Track(catalog="demo", zone="spa", genre="ambient", slot="0001", spec=spec)
    return Take(track=track, number=number, dit_seed=0, lm_seed=seed or 1000 + number)


def mixed_takes(**planner: Any) -> list[Take]:
    """Takes that differ in everything the planner knows: prompt, length, sampling, turn form, negative prompt."""
    return [
        a_take(1, **planner),
        a_take(2, duration_s=12, caption="Hard techno, " * 9, temperature=1.4, top_p=0.5, **planner),
        a_take(3, duration_s=11, caption="é", top_k=7, think_fields=("caption",), **planner),
        a_take(4, assistant_turn="closed", top_p=1.0, negative_prompt="harsh noise", **planner),
        a_take(5, caption="Slow piano", temperature=0.2, **planner),
    ]
