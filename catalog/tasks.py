"""Tasks: one row for each kind of work that a model can do, with the properties of that kind.

`catalog.models` says which model supports which task; `workers.ace_step.tasks` prepares the inputs of each task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from catalog.errors import OutOfRangeError

TaskName = Literal["text2music"]


@dataclass(frozen=True, slots=True)
class Task:
    """One row."""

    name: TaskName
    instruction: str  # opens the diffusion model's text prompt
    coded_instruction: str = ""  # the same where planner codes guide the diffusion; "": they have no part in this task

    def instruction_for(self, *, coded: bool) -> str:
        """The instruction of a take; `coded`: planner codes guide it. Raises OutOfRangeError where they cannot."""
        if coded and not self.coded_instruction:
            raise OutOfRangeError(
                f"planner codes cannot guide the task {self.name}",
                why="the model was not trained to use planner codes for that task",
                fix="write `planner: false`",
            )
        return self.coded_instruction if coded else self.instruction


TEXT2MUSIC: Final = Task(
    "text2music",
    instruction="Fill the audio semantic mask based on the given conditions:",
    coded_instruction="Generate audio semantic tokens based on the given conditions:",
)
TASKS: Final = (TEXT2MUSIC,)


def get_task(name: str, tasks: Sequence[Task] = TASKS) -> Task:
    """The row of that name. Raises OutOfRangeError when there is none."""
    if known := next((task for task in tasks if task.name == name), None):
        return known
    raise OutOfRangeError(
        f"{name!r} is not a task of this program",
        why=f"it knows {', '.join(task.name for task in tasks)}",
        fix="choose one of these, or upgrade this machine",
    )
