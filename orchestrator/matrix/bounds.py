"""Bounds: the fields of a track that the planner chooses, and the values from which it may choose.

The lists through which a catalog otherwise rotates (tempos, keys, metres, lengths) become the planner's choices.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

from catalog.errors import PresetError
from catalog.models import find_model
from catalog.spec import Bounds, OpenField, PlannerSpec
from orchestrator.matrix.overlays import TrackSettings


def refuse_without_planner(settings: TrackSettings, model: str) -> None:
    """Raise PresetError when something is left to the planner of a model that has none."""
    if settings.open and not find_model(model).planner:
        raise PresetError(
            f"{settings.filled_at}: the planner shall choose {', '.join(settings.open)}, but {model} has no planner",
            why=f"{model} uses the given tempo, key, metre and length",
            fix="render with a model that has a planner, or write 'metadata: given' for the planner",
        )


def bounds_of(
    settings: TrackSettings, fields: Collection[OpenField], tempo: tuple[int, int] | None = None
) -> Bounds | None:
    """The choices of the planner for the open `fields`; `tempo` stands in for the whole range."""
    if not fields:
        return None
    length = settings.duration_s if "duration" in fields else ()
    return Bounds(
        bpm=(tempo or settings.tempo[:2]) if "bpm" in fields else None,
        keyscales=settings.keys if "keyscale" in fields else (),
        timesignatures=settings.timesignatures if "timesignature" in fields else (),
        duration_s=(min(length), max(length)) if length else None,
        duration_step_s=_step(length) if length else 1,
    )


def planner_for(planner: PlannerSpec | None, fields: Collection[OpenField]) -> PlannerSpec | None:
    """`planner` for a track of which just `fields` are open."""
    if planner is None or planner.metadata == "given" or set(fields) == set(planner.open):
        return planner
    changes: dict[str, object] = {"open": tuple(fields)} if fields else {"metadata": "given"}
    return PlannerSpec(**{**planner.model_dump(), **changes})


def _step(lengths: Sequence[int]) -> int:
    """The grid that all lengths lie on, from the shortest: takes of one length share a batch."""
    return math.gcd(*(later - earlier for earlier, later in pairwise(sorted(set(lengths)))))
