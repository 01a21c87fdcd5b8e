"""Tasks: one row, one module, one name; a model is said to do only what is plugged in."""

from __future__ import annotations

from typing import get_args

import pytest

from catalog.errors import OutOfRangeError
from catalog.models import MODELS
from catalog.spec import PlannerSpec, TrackSpec
from catalog.tasks import TASKS, TEXT2MUSIC, Task, TaskName, get_task
from workers.ace_step.tasks import DIFFUSION_TASKS, get_diffusion_task


def test_every_task_has_a_row_and_a_module():
    names = [task.name for task in TASKS]
    assert sorted(names) == sorted(get_args(TaskName)) == sorted(task.facts.name for task in DIFFUSION_TASKS)
    assert [get_diffusion_task(name).facts for name in names] == [get_task(name) for name in names]


def test_every_model_does_tasks_that_there_are():
    assert all(get_task(task).name == task for model in MODELS for task in model.guarantees.tasks)
    assert all(model.guarantees.tasks for model in MODELS)


@pytest.mark.parametrize("find", [get_task, get_diffusion_task])
def test_an_unknown_task_is_an_error_that_names_those_there_are(find):
    with pytest.raises(OutOfRangeError, match="'hum'") as caught:
        find("hum")
    assert "text2music" in caught.value.why


def test_codes_for_a_task_that_they_cannot_guide_are_an_error():
    hum = Task("hum", instruction="Hum along:")  # type: ignore[arg-type]
    assert hum.instruction_for(coded=False) == "Hum along:"
    with pytest.raises(OutOfRangeError, match="cannot guide the task hum"):
        hum.instruction_for(coded=True)


def test_a_spec_makes_music_from_text_and_says_so_in_no_form():
    for planner in (None, PlannerSpec()):
        spec = TrackSpec(caption="piano", bpm=90, keyscale="C major", duration_s=10, planner=planner)
        assert spec.task == TEXT2MUSIC.name
        assert "task" not in spec.model_dump()
