"""Models: choose the model for a catalog, and check that this machine can render with it.

A missing setting never leads to noise instead of music. Without trained weights, `auto` chooses the random model only
in a session that a person watches, and only for a catalog that never had another model. A rehearsal never replaces
music.

Model names are free, because a person may bring weights of their own. But three kinds of name are refused before
anything is written or spent: a name that is almost one of the program's models, the name that another program uses for
a published model, and a model that has no engine or no weights here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from catalog.errors import ModelError, UnknownNameError
from catalog.models import MODELS, TINY, TONE, TURBO, counts_as, find_model, find_not_rendered, model_meant
from catalog.settings import Settings
from orchestrator.matrix.files import AUTO_MODEL
from orchestrator.matrix.problems import closest
from orchestrator.planning.plan import BucketLoad

_KNOWN: Final = (*(model.name for model in MODELS), AUTO_MODEL)
_TYPING_ERROR: Final = 0.85  # alike to this degree, of 1: one or two letters amiss
# Names of other things that people have beside the weights: pattern, what they are, the fix.
_OTHERS: Final = (
    (
        r"5hz-lm",
        "a planner, which writes the codes that a model renders",
        f"write `model: {TURBO.name}`, and the planner under `defaults:` as `planner: {{model: acestep-5Hz-lm-1.7B}}`",
    ),
    (r"^ace-?step-?v1(-3|\b(?![.-]?5))", "ACE-Step 1.0, another model", f"write {TURBO.name!r}, and have its weights"),
    (
        r"^(musicgen|stable-?audio|diffrhythm|yue-|suno|udio|riffusion|heartmula|songbloom)",
        "another maker's model",
        f"write {TURBO.name!r}, and have its weights",
    ),
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


class ModelChoice(NamedTuple):
    """The model that a catalog is rendered with, and a warning about the choice for the person."""

    model: str
    warning: str | None = None


def resolve_model(
    catalog_model: str,
    option: str | None,
    settings: Settings,
    *,
    known: Collection[str] = (),
    made: Collection[str] = (),
    attended: bool,
) -> ModelChoice:
    """The model to render with: the option, else the catalog's; `auto` looks at what there is to run it.

    Trained weights here, or a fleet that has them, mean the turbo model. Without them the random one is taken, with a
    warning, where a person looks on (`attended`) and the catalog was never planned for another (`known`); else it is
    the turbo model too, and `find_missing_weights` names what is missing.

    Raises UnknownNameError for a misspelt name, and ModelError for a model that no engine here renders. Where the
    catalog has accepted takes of that name (`made`), the error becomes the warning.
    """
    wanted = option or catalog_model
    if wanted != AUTO_MODEL:
        if error := _find_not_rendered(wanted) or _find_misnamed(wanted):
            if wanted not in made:
                raise error
            return ModelChoice(wanted, f"{error.what}, though this catalog has takes of that name; {error.fix}")
        return ModelChoice(wanted, _note_on_own_weights(wanted))
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
            why="TUNEMILL_WEIGHTS is not set, and without TUNEMILL_BROKER_URL this machine renders",
            fix=f"set TUNEMILL_WEIGHTS to a folder or to owner/name@<commit>; or rehearse with `--model {TONE.name}` "
            f"(simple tones) or `--model {TINY.name}` (the code of ACE-Step with random weights; its audio is noise)",
        )
    if not Path(settings.weights).expanduser().is_dir() and not _HUB_ID.fullmatch(settings.weights):
        return ModelError(
            f"there are no weights at {settings.weights!r}",
            why="TUNEMILL_WEIGHTS is neither a folder on this machine nor a hub id with a pinned commit",
            fix="set TUNEMILL_WEIGHTS to an existing folder, or to owner/name@<40-digit commit>",
        )
    return None


def find_replaced_music(catalog: str, model: str, leaving: Counter[str]) -> ModelError | None:
    """The error for a rehearsal with `model` that would take music off the list; `leaving` counts takes by model."""
    music = {name: count for name, count in sorted(leaving.items()) if find_model(name).needs_weights}
    if find_model(model).needs_weights or not music:
        return None
    listed = ", ".join(f"{count:,} of {name}" for name, count in music.items())
    return ModelError(
        f"{model} is for rehearsals and must not replace the music of {catalog!r}: {listed}",
        why="a run replaces the tracks that the catalog lists",
        fix=f"rehearse in another home, `TUNEMILL_HOME=./rehearsal tunemill run {catalog} --model {model}`, "
        "or name the model that made the music",
    )


def advise_on_settings(loads: Iterable[BucketLoad]) -> list[str]:
    """Notes on diffusion settings that the model was not trained for: it renders with them, but no better for it."""
    steps: Counter[tuple[str, int]] = Counter()
    shifts: Counter[tuple[str, float]] = Counter()
    for load in loads:
        diffusion, row = load.bucket.diffusion, find_model(load.bucket.model)
        if diffusion.steps > row.steps_max:
            steps[row.name, diffusion.steps] += load.takes
        if row.shifts and diffusion.shift not in row.shifts:
            shifts[row.name, diffusion.shift] += load.takes
    notes = [
        f"{takes:,} takes ask for {count} steps, and {name} gets no better beyond {find_model(name).steps_max}"
        for (name, count), takes in steps.items()
    ]
    for (name, shift), takes in shifts.items():
        trained = ", ".join(f"{each:g}" for each in find_model(name).shifts)
        notes.append(f"{takes:,} takes ask for shift {shift:g}, and {name} was trained for {trained}")
    return notes


def _find_misnamed(name: str) -> UnknownNameError | None:
    """The error for a name that is almost, or elsewhere, the name of a published model."""
    if name in _KNOWN:
        return None
    meant = model_meant(name)
    # A longer name such as acestep-v15-turbo-spring is a person's own.
    is_longer = any(re.match(rf"{re.escape(known)}[-._\d]", name) for known in _KNOWN)
    guess = meant or (None if is_longer else closest(name, _KNOWN, cutoff=_TYPING_ERROR))
    if guess is None or guess == name:
        return None
    return UnknownNameError(
        f"there is no model {name!r}",
        why=f"it is {'another name for' if meant else 'almost'} {guess!r}; weights of your own need a name that cannot "
        "be mistaken",
        fix=f"write {guess!r} in --model or in the catalog's `model:`",
    )


def _find_not_rendered(name: str) -> ModelError | None:
    """The error for a model that is known and that nothing here can render."""
    if (row := find_not_rendered(model_meant(name) or name)) is not None:
        same_size = "acestep-v15-xl-turbo" if "-xl-" in row.name else TURBO.name
        return ModelError(
            f"{name} cannot be rendered by this version",
            why=f"{row.name} needs guidance at every step, which the engine does not support",
            fix=f"write {same_size!r} in --model or in the catalog's `model:`, and use its weights",
        )
    for pattern, what, fix in _OTHERS:
        if re.search(pattern, name, re.IGNORECASE):
            return ModelError(
                f"{name} cannot be rendered: it is {what}", why="the engine renders ACE-Step 1.5", fix=fix
            )
    return None


def _note_on_own_weights(name: str) -> str | None:
    """A note on a name that no published model has; None for a published one."""
    if name in _KNOWN:
        return None
    return f"{name} is not a published model, so it counts as your own weights, of the kind of {counts_as(name).name}"
