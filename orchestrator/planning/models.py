"""Models: the choice of the model for a catalog, and the check that this machine can render with it.

Noise is never made because something was forgotten. Without trained weights `auto` becomes the random model only for a
person who looks on, and only in a catalog that has never had anything else; and no rehearsal takes the place of music.

Names are free, since a person may bring weights of their own; but a name that is almost one of the program's models
is a typing error, and a model without weights can only fail, so both are found before anything is written or spent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from catalog.errors import ModelError, UnknownNameError
from catalog.models import MODELS, TINY, TONE, TURBO, find_model
from catalog.settings import Settings
from orchestrator.matrix.files import AUTO_MODEL
from orchestrator.matrix.problems import closest

_KNOWN: Final = (*(model.name for model in MODELS), AUTO_MODEL)
_TYPING_ERROR: Final = 0.85  # alike to this degree, of 1: one or two letters amiss
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


class ModelChoice(NamedTuple):
    """The model that a catalog is rendered with, and a warning about the choice for the person."""

    model: str
    warning: str | None = None


def resolve_model(
    catalog_model: str, option: str | None, settings: Settings, *, known: Collection[str] = (), attended: bool
) -> ModelChoice:
    """The model to render with: the option, else the catalog's; `auto` looks at what there is to run it.

    Trained weights here, or a fleet that has them, mean the turbo model. Without them the random one is taken, with a
    warning, where a person looks on (`attended`) and the catalog was never planned for another (`known`); else it is
    the turbo model too, and `find_missing_weights` names what is missing. Raises UnknownNameError for a misspelt name.
    """
    wanted = option or catalog_model
    if wanted != AUTO_MODEL:
        return ModelChoice(_spelt_right(wanted))
    if settings.weights or not settings.embedded or not attended or set(known) - {TINY.name}:
        return ModelChoice(TURBO.name)
    return ModelChoice(
        TINY.name,
        f"no trained weights are configured: {TINY.name} has random weights and its audio is noise; "
        f"set TUNEMILL_WEIGHTS for {TURBO.name}",
    )


def find_missing_weights(model: str, settings: Settings) -> ModelError | None:
    """The error for weights that `model` needs and this machine lacks; None where it lacks none or a fleet renders."""
    if not settings.embedded or not find_model(model).needs_weights:
        return None
    if settings.weights is None:
        return ModelError(
            f"{model} needs trained weights, and none are configured",
            why="TUNEMILL_WEIGHTS is not set, and without TUNEMILL_BROKER_URL this machine is to render",
            fix=f"set TUNEMILL_WEIGHTS to a folder or to owner/name@<commit>; or rehearse with `--model {TONE.name}` "
            f"(simple tones) or `--model {TINY.name}` (the real program, but its audio is noise)",
        )
    if not Path(settings.weights).expanduser().is_dir() and not _HUB_ID.fullmatch(settings.weights):
        return ModelError(
            f"there are no weights at {settings.weights!r}",
            why="TUNEMILL_WEIGHTS is neither a folder on this machine nor a hub id with a pinned commit",
            fix="set it to an existing folder, or to owner/name@<40-digit commit>",
        )
    return None


def find_replaced_music(catalog: str, model: str, leaving: Counter[str]) -> ModelError | None:
    """The error for a rehearsal with `model` that would take music off the list; `leaving` counts takes by model."""
    music = {name: count for name, count in sorted(leaving.items()) if find_model(name).needs_weights}
    if find_model(model).needs_weights or not music:
        return None
    listed = ", ".join(f"{count:,} of {name}" for name, count in music.items())
    return ModelError(
        f"{model} is for rehearsals, and would replace the music of {catalog!r}: {listed}",
        why="what a catalog plans takes the place of what it lists",
        fix=f"rehearse in a home of its own, `TUNEMILL_HOME=./rehearsal tunemill run {catalog} --model {model}`, "
        "or name the model that made the music",
    )


def _spelt_right(name: str) -> str:
    guess = None if name in _KNOWN else closest(name, _KNOWN, cutoff=_TYPING_ERROR)
    # A longer name such as acestep-v15-turbo-spring is a person's own.
    if guess is None or re.match(rf"{re.escape(guess)}[-._\d]", name):
        return name
    raise UnknownNameError(
        f"there is no model {name!r}",
        why=f"it is almost {guess!r}; weights of your own need a name that cannot be mistaken",
        fix=f"write {guess!r} in --model or in the catalog's `model:`",
    )
