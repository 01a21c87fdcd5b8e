"""Models: one row for each that this program knows, and what follows from which one it is.

Nothing else compares a model's name. Weights of somebody's own go by any name; they count as those whose name theirs
begins with (`acestep-v15-turbo-spring`), else as the turbo model's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from catalog.forms import Frozen
from catalog.tasks import TaskName

EngineName = Literal["ace_step", "tone"]
SourceType = Literal["trainedAlgorithmicMedia", "algorithmicMedia"]  # IPTC's words for how audio came about

DEFAULT_PLANNER: Final = "acestep-5Hz-lm-1.7B"


class Guarantees(Frozen):
    """The promises of an engine; a catalog's wishes are checked against them before anything is sent."""

    dit_seed: bool  # the same seed gives the same noise
    lm_seed: bool  # and the same plan
    codes_returned: bool  # a plan comes back with the take
    codes_replayed: bool  # and can be given instead of planning again
    mixed_captions: bool  # takes with different captions may share a batch
    neighbours: bool  # a take sounds the same in any batch
    tasks: tuple[TaskName, ...]
    adapters: bool  # weights can be laid over the model's


_OURS: Final = Guarantees(
    dit_seed=True,
    lm_seed=True,
    codes_returned=True,
    codes_replayed=True,
    mixed_captions=True,
    neighbours=True,
    tasks=("text2music",),
    adapters=False,
)
_SYNTHESIS: Final = _OURS.model_copy(update={"lm_seed": False, "codes_returned": False, "codes_replayed": False})


@dataclass(frozen=True, slots=True)
class Model:
    """One row."""

    name: str
    engine: EngineName = "ace_step"
    family: str = "turbo"  # turbo: distilled for few steps and no guidance; "": no diffusion
    planner: str = DEFAULT_PLANNER  # that usually writes its codes; "": it has none
    needs_weights: bool = True  # a model without is for rehearsals and trials
    is_noise: bool = False  # random weights: its audio is noise by design
    needs_device: bool = True  # it renders on a GPU where there is one
    dit_cost: float = 1.0  # time of its diffusion against the turbo model's of 2B, where none was measured
    source_type: SourceType = "trainedAlgorithmicMedia"
    guarantees: Guarantees = field(default=_OURS)


TONE: Final = Model(
    "tone",  # simple synthesis, no neural network
    engine="tone",
    family="",
    planner="",
    needs_weights=False,
    needs_device=False,
    source_type="algorithmicMedia",
    guarantees=_SYNTHESIS,
)
TINY: Final = Model("tiny-random", needs_weights=False, is_noise=True)  # random weights of the real classes
TURBO: Final = Model("acestep-v15-turbo")
MODELS: Final = (TONE, TINY, TURBO, Model("acestep-v15-xl-turbo"))


def find_model(name: str, models: Sequence[Model] = MODELS) -> Model:
    """The row of that name; for weights of somebody's own the row that they count as, under their name."""
    if known := next((model for model in models if model.name == name), None):
        return known
    longest_first = sorted(models, key=lambda model: -len(model.name))
    return replace(next((model for model in longest_first if _extends(name, model)), TURBO), name=name)


def _extends(name: str, model: Model) -> bool:
    return model.needs_weights and re.match(rf"{re.escape(model.name)}[-._\d]", name) is not None
