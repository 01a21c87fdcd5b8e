"""Starters: a new preset is sound as it is written, lies where the user may write, and a copy means the same there."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import PresetError, TunemillError, UnknownNameError
from catalog.settings import Settings
from orchestrator.matrix import PresetLibrary, expand, load_catalog, open_library
from orchestrator.matrix.reading import Kind
from orchestrator.matrix.starters import write_copy, write_starter
from tests.support.preset_files import a_library, write

INSTALLED = Path(__file__).parents[3] / "presets"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, presets=None)


def library(settings: Settings) -> PresetLibrary:
    return open_library(None, settings)


@pytest.mark.parametrize("kind", ["zones", "genres", "catalogs"])
@pytest.mark.parametrize("name", ["rooftop_bar", "7", "no", "null", "x-y"])
def test_a_starter_can_be_rendered_as_it_is(settings: Settings, kind: Kind, name: str) -> None:
    root = settings.home / "presets"
    path = write_starter(kind, name, root, library(settings))
    assert path == root / kind / f"{name}.yaml"
    if kind == "catalogs":
        tracks = list(expand(load_catalog(name, None, settings)))
        assert len(tracks) == 12
        return
    write_starter("catalogs", "c", root, library(settings))
    found = library(settings)
    preset = found.zone(name) if kind == "zones" else found.genre(name)
    assert preset.content.name == name.replace("_", " ").replace("-", " ").capitalize()
    assert preset.content.tempo[0] == 70


def test_the_starter_of_a_catalog_takes_what_the_highest_layer_has(settings: Settings) -> None:
    root = a_library(settings.home / "presets", zones=2, genres=2)
    write(root / "zones/a_broken_one.yaml", "- x")
    write_starter("catalogs", "c", root, library(settings))
    keys = {(each.track.zone, each.track.genre) for each in expand(load_catalog("c", None, settings))}
    assert {("z0", "g0"), ("z0", "g1")} < keys


@pytest.mark.parametrize(
    ("kind", "source"), [("zones", "hotel_lobby"), ("genres", "bossa_nova"), ("catalogs", "hotel_group")]
)
def test_a_copy_keeps_the_text_of_its_original(settings: Settings, kind: Kind, source: str) -> None:
    root = settings.home / "presets"
    path = write_copy(kind, "mine", source, root, library(settings))
    old, new = (file.read_text().splitlines() for file in (INSTALLED / kind / f"{source}.yaml", path))
    assert old[1:] == new[1:]
    assert new[0].endswith(f"{(INSTALLED / 'schemas').as_uri()}/{kind.removesuffix('s')}.schema.json")


def test_a_copy_of_a_catalog_that_says_all_names_what_that_meant(settings: Settings) -> None:
    home = a_library(settings.home / "presets")
    for text in ("zones: all\n  genres: 'all'", 'zones: [all]\n  genres: [ "all" ]'):
        write(home / "catalogs/c.yaml", f"title: C\nmatrix:\n  {text}\ntracks: 8\n")
        own = settings.home / "own"
        path = write_copy("catalogs", "mine", "c", own, library(settings), force=True)
        assert "  zones: [z0, z1]\n  genres: [g0, g1]\n" in path.read_text()
        here = Settings(home=settings.home, presets=own)
        assert len({each.track.zone for each in expand(load_catalog("mine", None, here))}) == 2


def test_a_copy_brings_the_file_of_prompts_and_leaves_the_earlier_name(settings: Settings) -> None:
    home = a_library(settings.home / "presets")
    write(home / "catalogs/p.csv", "caption\nsoft piano\n")
    write(home / "catalogs/c.yaml", "title: C\nrenamed_from: before\nprompts: p.csv\n")
    own = settings.home / "own"
    path = write_copy("catalogs", "mine", "c", own, library(settings))
    assert "renamed_from" not in path.read_text()
    assert len(list(expand(load_catalog(path, own, settings)))) == 1
    with pytest.raises(PresetError, match=r"p\.csv exists already"):
        write_copy("catalogs", "other", "c", own, library(settings))


def test_a_file_that_is_there_is_kept_unless_it_is_to_be_overwritten(settings: Settings) -> None:
    root = settings.home / "presets"
    path = write_starter("zones", "bar", root, library(settings))
    path.write_text("mine")
    with pytest.raises(PresetError, match=r"bar\.yaml exists already"):
        write_starter("zones", "bar", root, library(settings))
    with pytest.raises(PresetError, match=r"bar\.yaml exists already"):
        write_copy("zones", "bar", "hotel_lobby", root, library(settings))
    assert path.read_text() == "mine"
    write_starter("zones", "bar", root, library(settings), force=True)
    assert path.read_text() != "mine"


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        *(("Hotel Lobby", "write hotel_lobby"), ("Café Süd.yaml", "write cafe_sud"), ("../x", "write x")),
        *(("all", "write another name, such as my_first"), ("$$", "write another name"), ("", "write another name")),
    ],
)
def test_what_cannot_be_a_name_is_answered_with_one_that_can(settings: Settings, name: str, fix: str) -> None:
    with pytest.raises(PresetError, match="cannot be the name of a zone") as raised:
        write_starter("zones", name, settings.home / "presets", library(settings))
    assert raised.value.fix.startswith(fix)
    assert not (settings.home / "presets").exists()


def test_what_cannot_be_copied_is_answered_with_what_can(settings: Settings) -> None:
    for source, fix in {"Bossa Nova": "write --from bossa_nova", "qqq": "name one of these presets"}.items():
        with pytest.raises(UnknownNameError, match="there is no genre ") as raised:
            write_copy("genres", "x", source, settings.home / "presets", library(settings))
        assert raised.value.fix.startswith(fix)


def test_a_folder_that_cannot_be_written_is_told(settings: Settings) -> None:
    blocked = write(settings.home / "file", "x") / "presets"
    with pytest.raises(TunemillError, match="cannot be written: Not a directory") as raised:
        write_starter("zones", "bar", blocked, library(settings))
    assert raised.value.fix == "name another preset folder with --presets"
