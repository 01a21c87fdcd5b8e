"""The model's row names the engine, and the engine is found by that name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from catalog.models import MODELS, TONE, Model
from catalog.settings import read_settings
from workers import wiring


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_of_the_table_has_an_engine(model: Model) -> None:
    recipe = wiring.engine_recipe(read_settings(), model.name)
    assert recipe.factory.startswith(f"workers.{model.engine}")
    assert recipe.arguments.get("model", model.name) == model.name


def test_another_engine_is_one_module_and_one_row(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "hum.py").write_text(
        "from workers.engine.process import EngineRecipe\n"
        "def engine_recipe(settings, model, *, planner_wanted, trial):\n"
        "    return EngineRecipe('workers.hum:load_engine', {'model': model, 'trial': trial})\n"
    )
    row = replace(TONE, name="hum-1", engine="hum")
    monkeypatch.setattr(wiring, "find_model", {row.name: row}.__getitem__)
    monkeypatch.setattr("workers.__path__", [*__import__("workers").__path__, str(tmp_path)])
    recipe = wiring.engine_recipe(read_settings(), "hum-1", trial=True)
    assert (recipe.factory, recipe.arguments) == ("workers.hum:load_engine", {"model": "hum-1", "trial": True})
    sys.modules.pop("workers.hum")


def test_the_recipe_of_the_torch_engine_imports_no_torch() -> None:
    program = (
        "import sys; from catalog.settings import read_settings; from workers.wiring import engine_recipe; "
        "engine_recipe(read_settings(), 'tiny-random'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
