"""Knobs: a field that a spec declares is a key of every preset, with its bounds, its default and its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import model_validator
from pydantic_core import to_jsonable_python

from catalog.errors import OutOfRangeError, PresetError
from catalog.forms import Frozen, canonical_json, neutral
from catalog.spec import DiffusionSpec, MasterSpec, PlannerSpec
from orchestrator.matrix import cells, expand
from orchestrator.matrix.files import Choices
from orchestrator.matrix.knobs import DiffusionChoices, with_choices_of
from orchestrator.matrix.located import read_located
from orchestrator.matrix.overlays import ANY_TEMPO, Layer, TrackSettings, overlay
from orchestrator.matrix.rotation import odometer
from orchestrator.matrix.schema import schemas
from orchestrator.matrix.validation import validated
from tests.support.preset_files import GENRE, ZONE, a_catalog, a_library, write

KNOBS = sorted(DiffusionSpec.model_fields)


class NewKnobs(Frozen):
    """The fields that a later version might add to the diffusion spec."""

    made_up_scale: float = neutral(1.0, ge=0, le=10, description="Made up.")
    made_up_window: tuple[float, float] | None = neutral(None)


class WidenedSpec(DiffusionSpec, NewKnobs):
    """A diffusion spec that has them."""

    @model_validator(mode="after")
    def _scale_needs_steps(self) -> WidenedSpec:
        if self.made_up_scale > self.steps:
            raise ValueError("the scale is above the steps")
        return self


@with_choices_of(NewKnobs)
class WidenedChoices(Choices):
    """The settings of tracks in a language that has them."""


def layer(file: Path, **content: Any) -> Layer:
    """What a file that holds `content` says in the widened language."""
    tree = read_located(write(file, content))
    return Layer(file.stem, validated(WidenedChoices, tree), lambda *path: tree.at(path))


def settings_of(*layers: Layer) -> TrackSettings:
    return overlay(ANY_TEMPO, layers, diffusion=DiffusionChoices.defaults(WidenedSpec))


def positions(options: dict[str, tuple[Any, ...]], count: int) -> dict[str, int]:
    """The position in each list that turn `count` shows."""
    turning = odometer(7, [(name, len(values)) for name, values in options.items()])
    return dict(zip(options, turning.positions(count), strict=True))


def first(_: str, values: tuple[Any, ...]) -> Any:
    return values[0]


@pytest.mark.parametrize("name", KNOBS)
def test_every_field_of_the_diffusion_spec_is_a_key_wherever_tracks_have_settings(tmp_path: Path, name: str) -> None:
    default = getattr(DiffusionSpec(), name)
    some, root = {name: [to_jsonable_python(default)]}, a_library(tmp_path, 1, 1)
    write(root / "zones/z0.yaml", {**ZONE, "defaults": some})
    write(root / "genres/g0.yaml", {**GENRE, "defaults": some})
    matrix = {
        "zones": "all",
        "genres": "all",
        "axes": {"time": {"day": some}},
        "include": [{"zone": "z0", "genre": "g0", "set": some}],
    }
    catalog = a_catalog(root, matrix=matrix, defaults=some, rules=[{"zone": "z0", "set": some}], tracks=2)
    assert [cell.settings.diffusion.values[name] for cell in cells(catalog)] == [(default,)]
    for text in schemas().values():
        assert name in json.loads(text)["$defs"]["Choices"]["properties"]


@pytest.mark.parametrize("name", sorted(MasterSpec.model_fields))
def test_every_field_of_the_master_spec_is_a_key(tmp_path: Path, name: str) -> None:
    some = {"format": "wav", "bit_depth": 16, "loudness_lufs": -20, "peak_dbtp": -2}
    plain = to_jsonable_python(getattr(MasterSpec(), name))
    catalog = a_catalog(
        a_library(tmp_path, 1, 1), defaults=some, rules=[{"zone": "z0", "set": {name: plain}}], tracks=1
    )
    (planned,) = expand(catalog)
    assert planned.track.spec.master == MasterSpec(**{**some, name: plain})


@pytest.mark.parametrize("name", sorted(PlannerSpec.model_fields))
def test_every_field_of_the_planner_spec_is_a_key_under_planner(tmp_path: Path, name: str) -> None:
    some = {"metadata": "fill", name: to_jsonable_python(getattr(PlannerSpec(metadata="fill"), name))}
    catalog = a_catalog(a_library(tmp_path, 1, 1), defaults={"planner": some}, tracks=1)
    (planned,) = expand(catalog)
    assert planned.track.spec.planner == PlannerSpec(metadata="fill")


def test_a_new_knob_takes_a_value_or_several(tmp_path: Path) -> None:
    assert settings_of(layer(tmp_path / "a.yaml", made_up_scale=2)).diffusion.values["made_up_scale"] == (2.0,)
    assert settings_of(layer(tmp_path / "b.yaml", made_up_scale=[2, 3])).diffusion.values["made_up_scale"] == (2.0, 3.0)
    one, many = [0.1, 0.9], [[0.1, 0.9], None, [0.2, 0.8]]
    assert settings_of(layer(tmp_path / "c.yaml", made_up_window=one)).diffusion.values["made_up_window"] == (
        (0.1, 0.9),
    )
    found = settings_of(layer(tmp_path / "d.yaml", made_up_window=many)).diffusion.values["made_up_window"]
    assert found == ((0.1, 0.9), None, (0.2, 0.8))


def test_the_nearer_layer_decides_a_new_knob(tmp_path: Path) -> None:
    far, near = layer(tmp_path / "far.yaml", made_up_scale=2, steps=4), layer(tmp_path / "near.yaml", made_up_scale=3)
    made = settings_of(far, near).diffusion.picked(first)
    assert made == WidenedSpec(steps=4, made_up_scale=3)


def test_a_new_knob_at_its_neutral_value_writes_what_was_written_without_it(tmp_path: Path) -> None:
    before = canonical_json(DiffusionSpec().model_dump(mode="json"))
    for given in ({}, {"made_up_scale": 1}, {"made_up_scale": [1.0], "made_up_window": None}):
        made = settings_of(layer(tmp_path / "a.yaml", takes=1, **given)).diffusion.picked(first)
        assert canonical_json(made.model_dump(mode="json")) == before
    made = settings_of(layer(tmp_path / "a.yaml", made_up_scale=2)).diffusion.picked(first)
    assert canonical_json(made.model_dump(mode="json")) != before


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"made_up_scale": 11}, OutOfRangeError, ":2: made_up_scale[0]: 11 is out of range: it must be at most 10"),
        ({"made_up_scale": [2, -1]}, OutOfRangeError, ":4: made_up_scale[1]: -1 is out of range: it must be at least"),
        ({"made_up_scale": "much"}, PresetError, ":2: made_up_scale[0]: a number is needed, not 'much'"),
        ({"made_up_scal": 2}, PresetError, ":2: 'made_up_scal' is not a key here"),
    ],
)
def test_a_wrong_value_of_a_new_knob_is_answered_with_file_and_line(
    tmp_path: Path, given: dict[str, Any], kind: type[PresetError], words: str
) -> None:
    with pytest.raises(kind) as refused:
        layer(tmp_path / "a.yaml", takes=1, **given)
    assert f"a.yaml{words}" in refused.value.what
    assert "made_up_scale" in str(refused.value)


def test_settings_that_cannot_go_together_are_answered_with_their_lines(tmp_path: Path) -> None:
    far, near = layer(tmp_path / "far.yaml", made_up_scale=[1, 7]), layer(tmp_path / "near.yaml", takes=2, steps=[8, 6])
    with pytest.raises(PresetError, match=r"near\.yaml:2: .*the scale is above the steps") as refused:
        settings_of(far, near)
    assert "far.yaml:1" in (refused.value.why or "")


def test_a_new_knob_has_its_bounds_and_its_words_in_the_schema() -> None:
    key = WidenedChoices.model_json_schema()["properties"]["made_up_scale"]
    assert key["description"] == "Made up."
    assert key["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 10}


def test_a_list_for_a_new_knob_moves_no_other_wheel(tmp_path: Path) -> None:
    old = {"steps": [4, 6], "takes": [1, 2, 3], "language": ["de", "en"]}
    before = settings_of(layer(tmp_path / "a.yaml", **old)).options
    after = settings_of(layer(tmp_path / "b.yaml", **old, made_up_scale=[1, 2, 3])).options
    seen = set()
    for count in range(2 * 3 * 2 * 3):
        old_positions, new_positions = positions(before, count), positions(after, count)
        seen.add(tuple(new_positions.values()))
        assert old_positions | {"made_up_scale": new_positions["made_up_scale"]} == new_positions
    assert len(seen) == 2 * 3 * 2 * 3


def test_a_key_that_is_declared_twice_is_refused() -> None:
    class Twice(Frozen):
        takes: int = 1

    with pytest.raises(TypeError, match="Twice and Choices both declare takes"):
        with_choices_of(Twice)(Choices)
