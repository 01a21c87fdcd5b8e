"""Validation: every wrong value of every key is answered in plain words, with a remedy that mends it when followed."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from catalog.errors import OutOfRangeError, PresetError
from catalog.spec import PlannerSpec
from orchestrator.matrix.examples import EXAMPLES
from orchestrator.matrix.files import (
    CatalogFile,
    Choices,
    DurationRange,
    GenreFile,
    IncludeEntry,
    MatrixSection,
    QuotaEntry,
    RuleEntry,
    Selector,
    WeightEntry,
    ZoneFile,
)
from orchestrator.matrix.located import Located, Place
from orchestrator.matrix.validation import validated

FILE = Path("x.yaml")
NESTED: dict[str, Any] = {
    "planner": PlannerSpec,
    "matrix": MatrixSection,
    "duration_s": DurationRange,
    "exclude": [Selector],
    "include": [IncludeEntry],
    "weights": [WeightEntry],
    "quotas": [QuotaEntry],
    "rules": [RuleEntry],
}
LIBRARY_WORDS = re.compile(
    "Input should|[Ss]hould (be|have|match)|valid (integer|number|string|dictionary|list|tuple|boolean)|instance of|"
    "after validation|Field required|pattern|unable to parse|Value error|Extra inputs|finite|[Tt]uple|correct the line"
)
WRONG: list[Any] = [
    *(None, True, False, 0, 7, -1, 2.5, 10**9, "", " ", "x", "Ä?", "a, b, c", "60-90", "<|x|>", "../a"),
    *([], [None], [True], [[1]], ["x"], ["x", "x"], [9, 1], [1, 2, 3], {}, {"x": 1}, [{"x": 1}]),
]


def located(value: Any) -> Located:
    """`value` as if it had been read from one line."""
    if isinstance(value, dict):
        return Located({key: located(each) for key, each in value.items()}, Place(FILE, 1))
    return Located([located(each) for each in value] if isinstance(value, list) else value, Place(FILE, 1))


def whole(model: type[BaseModel], *without: str) -> dict[str, Any]:
    """A file of `model` in which every key stands, each with its example."""
    content: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in without:
            continue
        inner = NESTED.get(key)
        if inner is not None:
            content[key] = [whole(inner[0])] if isinstance(inner, list) else whole(inner)
        elif key == "axes":
            content[key] = {"season": {"summer": {"moods": EXAMPLES["moods"]}, "winter": None}}
        elif key in EXAMPLES:
            content[key] = EXAMPLES[key]
        else:
            content[key] = to_jsonable_python((field.examples or [field.get_default()])[0])
    return content


WHOLE: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (Choices, whole(Choices)),
    (ZoneFile, whole(ZoneFile)),
    (GenreFile, whole(GenreFile)),
    (CatalogFile, whole(CatalogFile, "prompts", "tracks_per_cell")),
    (CatalogFile, whole(CatalogFile, "matrix", "tracks", "tracks_per_cell", "weights", "quotas")),
    (CatalogFile, {"title": "C", "matrix": EXAMPLES["matrix"], "tracks_per_cell": EXAMPLES["tracks_per_cell"]}),
]


def keys_of(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key in a file."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for step, each in entries:
        if isinstance(content, dict):
            yield (*path, step)
        yield from keys_of(each, (*path, step))


def put(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of `content` with `value` at `path`."""
    copied = copy.deepcopy(content)
    here: Any = copied
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return copied


def refused(model: type[BaseModel], content: dict[str, Any]) -> PresetError | None:
    try:
        validated(model, located(content))
    except PresetError as error:
        return error
    return None


@pytest.mark.parametrize(("model", "content"), WHOLE)
def test_every_key_has_an_example_that_may_stand_there(model: type[BaseModel], content: dict[str, Any]) -> None:
    assert refused(model, content) is None


@pytest.mark.parametrize(("model", "content"), WHOLE)
def test_every_wrong_value_of_every_key_is_answered_in_plain_words_with_a_remedy_that_mends_it(
    model: type[BaseModel], content: dict[str, Any]
) -> None:
    tried = mended = 0
    for path in keys_of(content):
        for wrong in WRONG:
            error = refused(model, put(content, path, wrong))
            if error is None:
                continue
            tried += 1
            where = f"{path} = {wrong!r}: {error}"
            assert not LIBRARY_WORDS.search(str(error)), where
            assert error.fix, where
            assert "''" not in error.fix, where
            for text in re.findall(r"'(\w+: [^']*)'", error.fix) if "\n" not in error.what else []:
                ((key, value),) = yaml.safe_load(text).items()
                at = next((path[: n + 1] for n in reversed(range(len(path))) if path[n] == key), None)
                if at:
                    assert refused(model, put(content, at, value)) is None, f"{where}\n{text}"
                    mended += 1
    assert tried > 20
    assert mended > tried / 3


@pytest.mark.parametrize(
    ("content", "words", "fix"),
    [
        ({"tempo": [60]}, "tempo: at least 2 entries are needed, not 1", "write, for example, 'tempo: [70, 110]'"),
        ({"tempo": "60-90"}, "tempo: a list is needed, not '60-90'", "write 'tempo: [60, 90]'"),
        ({"energy": True}, "energy: a number is needed, not true", "write, for example, 'energy: 2'"),
        ({"energy": None}, "energy: nothing stands here, and a whole number is needed", "'energy: 2'"),
        ({"energy": 9}, "9 is out of range: it must be at most 5", "at least 1 and at most 5, such as 'energy: 2'"),
        ({"moods": "a, b, c"}, "moods: at least 3 entries are needed", "write 'moods: [a, b, c]'"),
        ({"name": 7}, "name: a text is needed, not 7", 'put it between quotation marks: "7"'),
        ({"takes": 2}, "'takes' is not a key here", "write it under 'defaults'"),
        ({"tempi": [1, 2]}, "'tempi' is not a key here", "write 'tempo'"),
        ({"defaults": {"lora": "x"}}, "'lora' is not a key here", "drop it; the keys here are"),
        ({"extends": "Hotel Bar"}, "'Hotel Bar' is not allowed: a name is made of", "write 'hotel_bar'"),
        ({"defaults": {"takes": [1, True]}}, "defaults.takes[1]: a number is needed, not true", "'takes: 2'"),
        ({"defaults": {"duration_s": "2 min"}}, "a whole number is needed, not '2 min'", "write 120"),
        ({"defaults": {"language": "english"}}, "is not one of the model's languages", "write 'en'"),
        ({"defaults": {"keys": ["Cm"]}}, "'Cm' is not a key", "write 'C minor'"),
        ({"defaults": {"format": "mp4"}}, "'mp4' is none of flac, wav, mp3", "write 'mp3'"),
        ({"defaults": {"duration_s": []}}, "at least 1 entry is needed, not none", "'duration_s: 120'"),
    ],
)
def test_the_remedy_is_what_was_meant_where_that_can_be_told(content: dict[str, Any], words: str, fix: str) -> None:
    error = refused(ZoneFile, {**whole(ZoneFile), **content})
    assert error is not None
    assert words in error.what
    assert fix in error.fix
    assert len(error.what.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        ({"matrix": {"axes": {"season": ["spring", "summer"]}}}, "write 'season: {spring: {}, summer: {}}'"),
        ({"matrix": {"exclude": {"zone": "a"}}}, "write 'exclude: [{zone: a}]'"),
        ({"matrix": {"axes": {"Day Part": {"am": {}}}}}, "write 'day_part'"),
        ({"matrix": {}, "rules": [{"zone": "a", "takes": 2}]}, "write 'set: {takes: 2}'"),
        ({"matrix": {"include": [{"zone": "a"}]}}, "add 'genre'"),
        ({"prompts": "../a.csv"}, "write 'a.csv'"),
        ({"matrix": {}, "zones": "all"}, "write it under 'matrix'"),
        ({}, "add 'matrix: {zones: [hotel_lobby], genres: [bossa_nova]}'"),
    ],
)
def test_a_catalog_that_is_written_the_other_way_is_answered_with_the_right_one(
    content: dict[str, Any], fix: str
) -> None:
    error = refused(CatalogFile, {"title": "C", **content})
    assert error is not None
    assert error.fix == fix


def test_true_and_false_stay_switches_where_switches_belong() -> None:
    found = validated(Choices, located({"planner": {"reuse": True}}))
    assert found.planner == PlannerSpec(reuse=True)
    assert validated(Choices, located({"planner": False})).planner is None


def test_each_of_several_remedies_names_its_line() -> None:
    tree = Located(
        {"energy": Located(9, Place(FILE, 3)), "tempo": Located(7, Place(FILE, 4))},
        Place(FILE, 1),
    )
    with pytest.raises(PresetError) as raised:
        validated(ZoneFile, tree)
    assert raised.value.fix.startswith("line 1: add the keys name, description")
    assert "; line 3: write a number" in raised.value.fix
    assert "; line 4: write, for example, 'tempo: [70, 110]'" in raised.value.fix


def test_the_class_of_an_error_tells_values_outside_the_limits_from_other_mistakes() -> None:
    assert type(refused(ZoneFile, {**whole(ZoneFile), "tempo": [60, 400]})) is OutOfRangeError
    assert type(refused(ZoneFile, {**whole(ZoneFile), "tempo": "slow"})) is PresetError
