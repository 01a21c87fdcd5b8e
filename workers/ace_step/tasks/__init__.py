"""Tasks: one module for each, which says what latents, mask, noise and instruction its takes need.

A task is plugged in here, by the name that it has in `catalog.tasks`.
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
