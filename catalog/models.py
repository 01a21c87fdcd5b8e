"""Models: one row for each model that this program knows, with every property that follows from the model.

No other module compares a model's name. Weights of a user's own may have any name. They get the row of the known model
whose name theirs begins with (`acestep-v15-turbo-spring`), else the row of the turbo model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from catalog import limits
from catalog.forms import Frozen
from catalog.tasks import TaskName

EngineName = Literal["ace_step", "tone"]
SourceType = Literal["trainedAlgorithmicMedia", "algorithmicMedia"]  # IPTC's words for how audio came about

DEFAULT_PLANNER: Final = "acestep-5Hz-lm-1.7B"


class Guarantees(Frozen):
    """The promises of an engine; the requests of a catalog are checked against them before anything is sent."""

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
    """One model or variant, with every property that other modules ask for."""

    name: str
    engine: EngineName = "ace_step"
    family: str = "turbo"  # turbo: distilled for few steps and no guidance; sft, base: not; "": no diffusion
    width: int = 2048  # hidden size of its diffusion transformer
    steps_max: int = 20  # more steps make its sound no better
    shifts: tuple[float, ...] = (1.0, 2.0, 3.0)  # those it was trained for; (): any
    is_rendered: bool = True  # False: published, but no engine of this program renders it
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
    steps_max=limits.STEPS_MAX,
    shifts=(),
    planner="",
    needs_weights=False,
    needs_device=False,
    source_type="algorithmicMedia",
    guarantees=_SYNTHESIS,
)
TINY: Final = Model("tiny-random", needs_weights=False, is_noise=True)  # random weights of the real classes
TURBO: Final = Model("acestep-v15-turbo")
MODELS: Final = (
    TONE,
    TINY,
    TURBO,
    Model("acestep-v15-turbo-shift1", shifts=(1.0,)),
    Model("acestep-v15-turbo-shift3", shifts=(3.0,)),
    Model("acestep-v15-turbo-continuous", shifts=()),
    Model("acestep-v15-xl-turbo", width=2560),
)
NOT_RENDERED: Final = tuple(
    Model(f"acestep-v15-{size}{family}", family=family, is_rendered=False)
    for size in ("", "xl-")
    for family in ("base", "sft")
)
_BRAND: Final = frozenset(("ace", "step", "acestep", "v15", "15", "2b", "dit", "diffusers"))
_KINDS: Final[dict[frozenset[str], str]] = {
    frozenset(row.name.removeprefix("acestep-v15-").split("-")): row.name for row in (*MODELS, *NOT_RENDERED)
} | {frozenset(): TURBO.name, frozenset(("xl",)): "acestep-v15-xl-turbo"}


def find_model(name: str, models: Sequence[Model] = MODELS) -> Model:
    """The row of that name; for a user's own weights, the row that they count as, under their own name."""
    row = counts_as(name, models)
    return row if row.name == name else replace(row, name=name)


def counts_as(name: str, models: Sequence[Model] = MODELS) -> Model:
    """The published row whose properties the model of that name has."""
    if known := next((model for model in models if model.name == name), None):
        return known
    longest_first = sorted(models, key=lambda model: -len(model.name))
    return next((model for model in longest_first if _extends(name, model)), TURBO)


def find_not_rendered(name: str) -> Model | None:
    """The row of a published model that no engine here renders, also for weights that are named after the model."""
    return next((row for row in NOT_RENDERED if row.name == name or _extends(name, row)), None)


def model_meant(text: str) -> str | None:
    """The published model that `text` names in another spelling, such as `turbo` or `ACE-Step/acestep-v15-turbo`."""
    last = text.strip().partition("@")[0].rstrip("/").rpartition("/")[2].lower()
    plain = re.sub(r"[^a-z0-9]+", "-", last).strip("-").replace("ace-step", "acestep")
    plain = re.sub(r"v?1-?5(?![0-9])", "-v15-", plain)
    words = [{"4b": "xl"}.get(word, word) for word in re.sub("acestep|ace(?=-)", "-acestep-", plain).split("-") if word]
    # Words alone, such as `base`, are meant so too; an empty text is no model.
    return _KINDS.get(frozenset(words) - _BRAND) if words else None


def _extends(name: str, model: Model) -> bool:
    return model.needs_weights and re.match(rf"{re.escape(model.name)}[-._\d]", name) is not None
