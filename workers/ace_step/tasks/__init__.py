"""Tasks: one module for each task, which prepares the latents, mask, noise and instruction of its takes.

Each task is registered here, under its name in `catalog.tasks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from catalog.tasks import get_task
from workers.ace_step.tasks.base import DiffusionTask
from workers.ace_step.tasks.text2music import TextToMusic

DIFFUSION_TASKS: Final[tuple[DiffusionTask, ...]] = (TextToMusic(),)


def get_diffusion_task(name: str, plugged_in: Sequence[DiffusionTask] = DIFFUSION_TASKS) -> DiffusionTask:
    """The task of that name. Raises OutOfRangeError when none is plugged in."""
    facts = get_task(name, [task.facts for task in plugged_in])
    return next(task for task in plugged_in if task.facts is facts)
