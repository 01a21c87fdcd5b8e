"""Names in presets: whatever stands where a name belongs is answered in words, with file, line and a mend that mends.

The places are read off the models' own schemas, so a new key of the language is tried like the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from catalog.errors import OutOfRangeError, PresetError, TunemillError, UnknownNameError, UnreadableFileError
from catalog.settings import Settings
from orchestrator.matrix import LoadedCatalog, PresetLibrary, expand, load_catalog
from orchestrator.matrix.files import KINDS
from orchestrator.matrix.names import is_name
from tests.support.preset_files import GENRE, ZONE, a_catalog, a_library, write

# ---------------------------------------------------------------- what is tried

# As YAML, so that what JSON cannot write is among them. {zone}, {genre} and {catalog} exist.
WORDS = (
    *(
        '""',
        '" "',
        "/",
        "a/b",
        "../x",
        "../../x",
        "../catalogs/cat",
        "/etc/passwd",
        '"~"',
        ".",
        "..",
        "cat.yaml",
        "CAT",
    ),
    *(r'"x\0y"', r'"x\ny"', r'"x\e[31my"', r'"\uD800"', r"'a\b'", "\U0001f3b5", "\u202ex"),
    *("a" * 300, f'"{"é" * 5_000}"', "$(id)", '"{0}"', '"{mood"', "'<|x|>'", "all", "[all, cat]", "cat"),
)
OTHERS = (
    *("7", "-1", "1.5", "1e400", "9" * 5_000, ".nan", "nan", "true", "null", "2026-01-01"),
    *("[]", "[[]]", "[null]", '[""]', "[x, x]", "[1, 2]", "{}", "{a: b}", "{a/b: {}}", "!!binary aGk=", "*nowhere"),
)
KEYS = (*WORDS[:-3], "null", "7", "[a]", "zone", "__class__")

_PLACEHOLDER = "@@"
_CHOICES: dict[str, Any] = {"takes": 1, "planner": {"top_k": 0}, "duration_s": {"from": 60, "to": 90, "step": 30}}
SOUND: dict[str, dict[str, Any]] = {
    "zones/cat.yaml": {**ZONE, "avoid": ["drums"], "defaults": _CHOICES},
    "genres/cat.yaml": {**GENRE, "defaults": {}},
    "catalogs/cat.yaml": {
        "title": "Cat",
        "matrix": {
            "zones": ["cat"],
            "genres": ["cat"],
            "axes": {"season": {"summer": {"takes": 1}, "winter": None}},
            "exclude": [{"zone": "cat", "genre": "cat", "season": "winter"}],
            "include": [{"zone": "cat", "genre": "cat", "season": ["summer"], "tracks": 3, "set": {}}],
        },
        "tracks": 3,
        "weights": [{"zone": "cat", "genre": "cat", "season": "summer", "weight": 2}],
        "quotas": [{"zone": "cat", "season": "summer", "tracks": 3}],
        "rules": [{"zone": "cat", "genre": "cat", "season": "summer", "set": {}}],
    },
    "catalogs/rows.yaml": {"title": "Rows", "prompts": "rows.csv", "rules": [{"zone": "cat", "set": {}}]},
}


class Position(NamedTuple):
    """A place of a preset file; `is_key` when the key itself is tried, and `takes_words` when text may stand there."""

    file: str
    path: tuple[str | int, ...]
    is_key: bool
    takes_words: bool

    def __str__(self) -> str:
        return f"{self.file.removesuffix('.yaml')}:{'.'.join(map(str, self.path))}{':' * self.is_key}"

    @property
    def values(self) -> Sequence[str]:
        """What is tried here."""
        if self.is_key:
            return KEYS
        return (*WORDS, *OTHERS) if self.takes_words else (*OTHERS, *WORDS[:3])


def positions() -> Iterator[Position]:
    """Every place of every kind of file, each part of the language once."""
    seen: set[str] = set()
    for file, content in SOUND.items():
        schema = KINDS[file.split("/", maxsplit=1)[0]].model_json_schema(by_alias=True)
        for place in _walk(schema, schema.get("$defs", {}), content, (file, ()), seen):
            # One catalog has a matrix, the other has prompts instead.
            if (place.path[0] == "prompts") is (file == "catalogs/rows.yaml"):
                yield place


def _walk(
    schema: dict[str, Any],
    models: dict[str, Any],
    content: Any,
    place: tuple[str, tuple[str | int, ...]],
    seen: set[str],
) -> Iterator[Position]:
    file, path = place
    branches = _branches(schema, models, seen)
    if path:
        yield Position(file, path, False, any(branch.get("type") in ("string", None) for branch in branches))
    for branch in branches:
        mapping = content if isinstance(content, dict) else {}
        for key, each in branch.get("properties", {}).items():
            yield from _walk(each, models, mapping.get(key), (file, (*path, key)), seen)
        others = next(iter(branch.get("patternProperties", {}).values()), branch.get("additionalProperties"))
        if isinstance(others, dict):
            for key in [key for key in mapping if key not in branch.get("properties", {})] or ["new"]:
                yield Position(file, (*path, key), True, True)
                yield from _walk(others, models, mapping.get(key), (file, (*path, key)), seen)
        items = branch.get("prefixItems", [branch.get("items")])[0]
        if isinstance(items, dict) and len(branches) == 1:  # else a single value stands for a list of one
            first = content[0] if isinstance(content, list) and content else None
            yield from _walk(items, models, first, (file, (*path, 0)), seen)


def _branches(schema: dict[str, Any], models: dict[str, Any], seen: set[str]) -> list[dict[str, Any]]:
    """The forms that `schema` allows, models without the keys that were tried in another one."""
    if "$ref" in schema:
        model = models[schema["$ref"].rsplit("/", 1)[-1]]
        fields = {json.dumps([key, each]): (key, each) for key, each in model.get("properties", {}).items()}
        new = dict(each for written, each in fields.items() if written not in seen)
        seen.update(fields)
        return [{**model, "properties": new}]
    return [form for each in schema.get("anyOf", []) for form in _branches(each, models, seen)] or [schema]


def changed(content: Any, path: Sequence[str | int], *, is_key: bool) -> Any:
    """`content` with the placeholder at `path`; what is missing on the way there is made."""
    if not path:
        return _PLACEHOLDER
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        items = list(content) if isinstance(content, list) else []
        return [changed(items[0] if items else None, rest, is_key=is_key), *items[1:]]
    mapping = content if isinstance(content, dict) else {}
    if is_key and not rest:
        return {_PLACEHOLDER if key == step else key: each for key, each in {step: {}, **mapping}.items()}
    return {**mapping, step: changed(mapping.get(step), rest, is_key=is_key)}


# ---------------------------------------------------------------- what is promised


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> PresetLibrary:
    root = tmp_path_factory.mktemp("presets")
    for file, content in SOUND.items():
        write(root / file, content)
    write(root / "catalogs/rows.csv", "caption,zone\nsoft piano,cat\n")
    return PresetLibrary(root)


def answer(library: PresetLibrary, file: str) -> TunemillError | None:
    """What is said of a preset: None when it is taken, with tracks that can be named and sent."""
    kind, name = file.removesuffix(".yaml").split("/")
    if kind != "catalogs":
        library, name = PresetLibrary(library.root), "cat"  # a library reads a zone and a genre once
    try:
        for planned in expand(LoadedCatalog(library.catalog(name), library)):
            planned.track.take().id.encode()
            json.dumps(planned.track.model_dump(mode="json"), allow_nan=False).encode()
    except TunemillError as error:
        return error
    return None


def check_words(error: TunemillError, root: Path) -> None:
    """An error names where, says how to mend it, stays short, and shows nothing that a terminal obeys."""
    assert 10 <= error.exit_code <= 15
    assert re.match(rf"{re.escape(str(root))}/(zones|genres|catalogs)/[a-z]+\.(yaml|csv):\d+: \S", error.what), (
        error.what
    )
    assert error.fix
    assert len(str(error)) < 3_000, f"{len(str(error)):,} characters"
    assert all(line.isprintable() for line in str(error).splitlines()), str(error)
    assert "pydantic" not in str(error)
    for proposed in re.findall(r"add \S*?([^/\s]+)\.yaml", error.fix):
        assert is_name(proposed), error.fix


@pytest.mark.parametrize("position", list(positions()), ids=str)
def test_whatever_stands_there_is_taken_or_answered_in_words(library: PresetLibrary, position: Position) -> None:
    file = library.root / position.file
    whole = file.read_text()
    text = json.dumps(changed(SOUND[position.file], position.path, is_key=position.is_key), indent=1)
    try:
        for value in position.values:
            file.write_text(text.replace(f'"{_PLACEHOLDER}"', value), encoding="utf-8")
            if error := answer(library, position.file):
                check_words(error, library.root)
    finally:
        file.write_text(whole)


def test_the_sound_files_are_taken_and_every_place_is_tried(library: PresetLibrary) -> None:
    assert [answer(library, file) for file in SOUND] == [None] * len(SOUND)
    tried = {(place.path[-1], place.is_key) for place in positions()}
    names = ("extends", "zones", "genres", "zone", "genre", "prompts", "model", "keys", "language", "think_fields")
    assert {(name, False) for name in names} | {("season", True), ("summer", True)} <= tried


# ---------------------------------------------------------------- single promises


@pytest.mark.parametrize(
    "wrong",
    ["SEEHOF", "seehof.yaml", "Seehof.YAML", "catalogs/seehof", "../../catalogs/seehof", "seehof/", " seehof", "sehof"],
)
def test_the_name_that_was_meant_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    a_catalog(a_library(tmp_path), name="seehof")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TunemillError) as asked:
        load_catalog(wrong, tmp_path, Settings())
    assert "write 'seehof'" in asked.value.fix
    write(tmp_path / "catalogs/alpen.yaml", {"extends": wrong})
    with pytest.raises(UnknownNameError, match=r"catalogs/alpen\.yaml:1: 'extends' names ") as extended:
        load_catalog("alpen", tmp_path, Settings())
    assert extended.value.fix == "write 'seehof'"


def test_a_file_is_proposed_only_where_it_could_be(tmp_path: Path) -> None:
    library = PresetLibrary(a_library(tmp_path))
    for name, fix in {
        "bossa": f"add {tmp_path}/zones/bossa.yaml",
        "$(id)": "write the name of a file there; a name",
    }.items():
        with pytest.raises(UnknownNameError) as raised:
            library.zone(name)
        assert raised.value.fix.startswith(fix)
        assert raised.value.why == "there are: z0, z1"


@pytest.mark.parametrize(
    "content", [{"matrix": {"zones": ["all", "z0"], "genres": "all"}}, {"rules": [{"zone": "all", "set": {}}]}]
)
def test_all_in_the_wrong_place_is_told_where_it_belongs(tmp_path: Path, content: dict[str, Any]) -> None:
    catalog = a_catalog(a_library(tmp_path), **content)
    with pytest.raises(UnknownNameError, match=r"c\.yaml:\d+: zone 'all'") as raised:
        list(expand(catalog))
    assert raised.value.fix.startswith("'all' stands alone, in matrix.zones")


@pytest.mark.parametrize("base", ["7", "true", "[spa]", "{a: b}"])
def test_what_extends_no_name_is_one_problem_and_not_all_the_missing_keys(tmp_path: Path, base: str) -> None:
    write(a_library(tmp_path) / "zones/spa.yaml", f"description: Rest.\nextends: {base}\n")
    with pytest.raises(PresetError, match=r"zones/spa\.yaml:2: 'extends' must be a name, not ") as raised:
        PresetLibrary(tmp_path).zone("spa")
    assert len(raised.value.what.splitlines()) == 1


def test_a_long_line_of_inheritance_is_followed_to_its_end_and_a_long_circle_is_told_in_short(tmp_path: Path) -> None:
    root = a_library(tmp_path, 0, 1)
    for number in range(1_000):
        write(root / f"zones/z{number}.yaml", f"extends: z{number + 1}\n")
    write(root / "zones/z1000.yaml", ZONE)
    assert PresetLibrary(root).zone("z0").content.name == "Spa"
    write(root / "zones/z1000.yaml", "extends: z0\n")
    with pytest.raises(PresetError, match=r"in a circle: z0 -> z1 -> \.\.\. -> z1000 -> z0\n"):
        PresetLibrary(root).zone("z0")


def test_prompts_that_are_not_there_are_told_with_the_line_that_names_them(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    write(root / "catalogs/delivery.csv", "caption\nsoft piano\n")
    for name, fix in {"Delivery.csv": "write 'delivery.csv'", "..": "write the name of a CSV file"}.items():
        write(root / "catalogs/c.yaml", f"title: C\nprompts: {name}\n")
        with pytest.raises(UnreadableFileError, match=r"catalogs/c\.yaml:2: 'prompts' names ") as raised:
            list(expand(load_catalog("c", root, Settings())))
        assert (raised.value.fix.startswith(fix), raised.value.why) == (True, "there are: delivery.csv")


def test_a_rule_of_a_catalog_of_prompts_knows_zone_and_genre_alone(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    write(root / "catalogs/p.csv", "caption\nsoft piano\n")
    write(root / "catalogs/c.yaml", {"title": "C", "prompts": "p.csv", "rules": [{"\u202e" * 300: "x", "set": {}}]})
    with pytest.raises(PresetError, match=r"c\.yaml:\d+: '.{70,80}\.\.\.' \(300 characters\) is not a key here"):
        list(expand(load_catalog("c", root, Settings())))


def test_a_caption_that_the_catalog_makes_too_long_is_told_with_the_path_of_its_row(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    write(root / "catalogs/p.csv", "caption\nsoft piano\n")
    suffix = "a very long suffix " * 100
    write(root / "catalogs/c.yaml", {"title": "C", "prompts": "p.csv", "defaults": {"caption_suffix": suffix}})
    with pytest.raises(PresetError, match=rf"{tmp_path}/catalogs/p\.csv:2: the caption"):
        list(expand(load_catalog("c", root, Settings())))


@pytest.mark.parametrize("character", [r"\0", r"\e[31m", r"\x9b", r"\uFFFE"])
def test_a_control_character_is_refused_where_it_stands(tmp_path: Path, character: str) -> None:
    write(a_library(tmp_path) / "zones/spa.yaml", f'name: Spa\ndescription: "x{character}"\n')
    with pytest.raises(PresetError, match=r"zones/spa\.yaml:2: a text holds the control character U\+"):
        PresetLibrary(tmp_path).zone("spa")


def test_texts_that_no_track_could_carry_are_refused(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    for content, words in {
        "title_words": (["x" * 70_000, *"abcdef"], "the text has 70,000 characters; at most 65,536"),
        "avoid": ([f"{number} " + "x" * 1_000 for number in range(100)], "avoid: the phrases have 100,"),
    }.items():
        write(root / "zones/spa.yaml", {**ZONE, content: words[0]})
        with pytest.raises(PresetError, match=rf"zones/spa\.yaml:\d+: {words[1]}"):
            PresetLibrary(root).zone("spa")


def test_a_matrix_of_more_cells_than_any_memory_holds_is_refused_before_it_is_laid_out(tmp_path: Path) -> None:
    axes = {f"axis{number}": {f"v{value}": {} for value in range(50)} for number in range(10)}
    catalog = a_catalog(a_library(tmp_path), matrix={"zones": "all", "genres": "all", "axes": axes})
    with pytest.raises(OutOfRangeError, match=r"c\.yaml:\d+: the matrix has 390,625,000,000,000,000 cells"):
        list(expand(catalog))


def test_an_unknown_planner_is_told_with_the_line_of_its_name(tmp_path: Path) -> None:
    text = "extends: z0\ndefaults:\n  planner:\n    top_k: 0\n    model: huge\n"
    write(a_library(tmp_path) / "zones/spa.yaml", text)
    with pytest.raises(PresetError, match=r"zones/spa\.yaml:5: defaults\.planner\.model: 'huge' is not a planner"):
        PresetLibrary(tmp_path).zone("spa")


def test_the_keys_of_a_range_are_proposed_and_not_those_around_it(tmp_path: Path) -> None:
    write(a_library(tmp_path) / "zones/spa.yaml", "extends: z0\ndefaults: {duration_s: {from: 60, till: 90}}\n")
    with pytest.raises(PresetError) as raised:
        PresetLibrary(tmp_path).zone("spa")
    assert "the keys here are from, step, to" in raised.value.fix


@pytest.mark.parametrize("model", ["Tone", "../x", "$(id)", "x y", "a" * 5_000])
def test_what_can_be_no_models_name_is_refused_before_any_track_is_made(tmp_path: Path, model: str) -> None:
    with pytest.raises(UnknownNameError, match="there is no model ") as raised:
        next(expand(a_catalog(a_library(tmp_path)), model=model))
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("path", ["x" * 300, "x/" + "y" * 5_000, "x/\udcff.yaml", "catalogs/\x1b[31m.yaml", "catalogs"])
def test_a_path_that_leads_to_no_file_is_told_in_short(tmp_path: Path, path: str) -> None:
    a_library(tmp_path)
    with pytest.raises(UnreadableFileError, match=r"there is no such file|this is a folder") as raised:
        load_catalog(tmp_path / path, tmp_path, Settings())
    assert raised.value.what.isprintable()
    assert len(raised.value.what) < 1_100
    with pytest.raises(UnreadableFileError, match="this is not a preset folder"):
        PresetLibrary(tmp_path / path / "z")


@pytest.mark.parametrize("name", ["My Spring.txt", ".yaml", "README", "Spring.yaml", "spring.YAML"])
def test_a_file_with_a_name_that_no_catalog_can_have_is_refused_by_path_too(tmp_path: Path, name: str) -> None:
    root = a_library(tmp_path / "lib")
    content = {"title": "M", "matrix": {"zones": ["z0"], "genres": ["g0"]}, "tracks": 1}
    with pytest.raises(PresetError, match=r"cannot be the name of a catalog|presets end in"):
        load_catalog(write(tmp_path / name, content), root, Settings())


def test_a_zones_file_given_as_a_catalog_is_called_a_zone(tmp_path: Path) -> None:
    root = a_library(tmp_path)
    with pytest.raises(PresetError, match=r"zones/z0\.yaml: this is a zone, not a catalog") as raised:
        load_catalog(str(root / "zones/z0.yaml"), None, Settings())
    assert "`tunemill presets show z0`" in raised.value.fix
