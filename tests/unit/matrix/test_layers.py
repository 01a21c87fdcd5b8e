"""Layers: a folder laid over another changes what it names, and never what was planned without it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import EmptyMatrixError, PresetError, TunemillError, UnknownNameError, UnreadableFileError
from catalog.settings import Settings
from orchestrator.matrix import LoadedCatalog, PresetLibrary, expand, load_catalog, open_library
from orchestrator.matrix.layers import LayerName, schema_line
from tests.support.preset_files import ZONE, a_library, write

ALL: dict[str, Any] = {"title": "C", "matrix": {"zones": "all", "genres": "all"}, "tracks": 20}


class Place:
    """A home and an own folder, each with zones and genres of the same names, above the installed presets."""

    def __init__(self, folder: Path) -> None:
        self.home, self.own = a_library(folder / "home/presets"), a_library(folder / "own")
        self.settings = Settings(home=folder / "home", presets=self.own)

    @property
    def library(self) -> PresetLibrary:
        return open_library(None, self.settings)

    def load(self, name: str | Path) -> LoadedCatalog:
        return load_catalog(name, None, self.settings)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def take_ids(catalog: LoadedCatalog) -> list[str]:
    return [each.track.take(1).id for each in expand(catalog)]


def zones_of(catalog: LoadedCatalog) -> set[str]:
    return {each.track.zone for each in expand(catalog)}


def test_a_name_means_the_file_in_the_highest_layer_that_has_it(place: Place) -> None:
    write(place.home / "zones/z0.yaml", {**ZONE, "name": "Home's"})
    assert place.library.zone("z0").content.name == "Zone 0"
    (place.own / "zones/z0.yaml").unlink()
    assert place.library.zone("z0").content.name == "Home's"
    assert place.library.zone("hotel_lobby").content.name == "Hotel lobby"
    assert [each.layer for each in place.library.holding("zones", "z1")] == [LayerName.YOURS, LayerName.HOME]


def test_a_catalog_of_a_lower_layer_is_filled_from_the_top(place: Place) -> None:
    write(place.home / "catalogs/c.yaml", {**ALL, "matrix": {"zones": ["z0"], "genres": ["g0"]}, "tracks": 8})
    write(place.own / "zones/z0.yaml", {**ZONE, "scenes": ["my scene", "my scene too"]})
    assert any("my scene" in each.track.spec.caption for each in expand(place.load("c")))


def test_all_means_the_layer_that_the_catalog_lies_in_and_plans_the_takes_it_always_planned(place: Place) -> None:
    write(place.own / "catalogs/mini.yaml", {**ALL, "title": "Mini"})
    ids = take_ids(place.load("mini"))
    # As the version before planned them, when a folder was the whole library.
    assert (len(ids), sha256("".join(ids).encode()).hexdigest()[:16]) == (20, "b5751fd77a61a43d")
    assert take_ids(place.load(place.own / "catalogs/mini.yaml")) == ids


def test_all_in_the_home_or_outside_of_every_layer_means_one_layer_too(place: Place, tmp_path: Path) -> None:
    write(place.home / "zones/homely.yaml", ZONE)
    write(place.home / "catalogs/c.yaml", ALL)
    assert zones_of(place.load("c")) == {"homely", "z0", "z1"}
    outside = write(tmp_path / "outside.yaml", {**ALL, "matrix": {**ALL["matrix"], "tempo_clashes": "exclude"}})
    assert zones_of(place.load(outside)) == {"z0", "z1"}
    installed = load_catalog(outside, None, Settings(home=tmp_path / "home"))
    assert "hotel_lobby" in installed.every("zones")
    assert "homely" not in installed.every("zones")


def test_all_that_is_inherited_means_the_layer_of_the_file_in_which_it_is_written(place: Place) -> None:
    write(place.home / "zones/homely.yaml", ZONE)
    write(place.home / "catalogs/base.yaml", ALL)
    write(place.own / "catalogs/mine.yaml", {"extends": "base", "title": "Mine"})
    assert zones_of(place.load("mine")) == {"homely", "z0", "z1"}
    write(place.own / "catalogs/mine.yaml", {"extends": "base", "title": "Mine", "matrix": {"zones": "all"}})
    assert zones_of(place.load("mine")) == {"z0", "z1"}


def test_all_of_a_layer_that_has_none_says_what_to_write(tmp_path: Path) -> None:
    for name in ("z0", "z1"):
        write(tmp_path / f"zones/{name}.yaml", ZONE)
    write(tmp_path / "catalogs/c.yaml", ALL)
    with pytest.raises(EmptyMatrixError, match=r"c\.yaml:4: 'genres: all' means all genres in .*/genres/, and there"):
        list(expand(load_catalog("c", tmp_path, Settings(home=tmp_path / "home"))))
    write(tmp_path / "catalogs/c.yaml", {**ALL, "matrix": {"zones": "all", "genres": ["acoustic_guitar", "ambient"]}})
    assert len(list(expand(load_catalog("c", tmp_path, Settings(home=tmp_path / "home"))))) == 20


def test_a_preset_may_extend_the_one_that_it_shadows(place: Place) -> None:
    write(place.home / "zones/hotel_lobby.yaml", {"extends": "hotel_lobby", "description": "the home's"})
    write(place.own / "zones/hotel_lobby.yaml", {"extends": "hotel_lobby", "energy": 5})
    found = place.library.zone("hotel_lobby").content
    assert (found.name, found.description, found.energy) == ("Hotel lobby", "the home's", 5)


def test_extends_looks_beside_the_file_first_then_below_and_never_above(place: Place) -> None:
    write(place.own / "zones/base.yaml", {**ZONE, "name": "Mine"})
    write(place.home / "zones/base.yaml", {**ZONE, "name": "Home's"})
    write(place.own / "zones/a.yaml", {"extends": "base"})
    write(place.home / "zones/b.yaml", {"extends": "base"})
    write(place.own / "zones/c.yaml", {"extends": "hotel_lobby"})
    write(place.home / "zones/d.yaml", {"extends": "only_mine"})
    write(place.own / "zones/only_mine.yaml", ZONE)
    names = [place.library.zone(name).content.name for name in "abc"]
    assert names == ["Mine", "Home's", "Hotel lobby"]
    with pytest.raises(UnknownNameError, match=r"d\.yaml:1: 'extends' names 'only_mine', which has no file beside"):
        place.library.zone("d")


def test_a_circle_is_still_found_when_it_goes_through_a_name_that_is_shadowed(place: Place) -> None:
    write(place.own / "zones/z0.yaml", {"extends": "z1"})
    write(place.own / "zones/z1.yaml", {"extends": "z0"})
    with pytest.raises(PresetError, match="in a circle: z0 -> z1 -> z0"):
        place.library.zone("z0")
    write(place.own / "zones/alone.yaml", {"extends": "alone"})
    with pytest.raises(PresetError, match="in a circle: alone -> alone"):
        place.library.zone("alone")


def test_what_is_broken_in_a_lower_layer_harms_only_those_who_use_it(place: Place) -> None:
    write(place.own / "catalogs/c.yaml", {**ALL, "matrix": {"zones": ["z0"], "genres": ["g0"]}, "tracks": 2})
    for name in ("broken.yaml", "Badly Named.yaml", "z0.yml"):
        write(place.home / "zones" / name, "- no preset")
    assert len(take_ids(place.load("c"))) == 2
    with pytest.raises(UnreadableFileError, match=r"home/presets/zones/broken\.yaml:1"):
        place.library.zone("broken")
    with pytest.raises(PresetError, match=r"Badly Named\.yaml"):
        place.library.zone("badly_named")


def test_a_misnamed_file_is_not_passed_over_for_another_of_the_name_further_down(place: Place) -> None:
    write(place.own / "zones/hotel_lobby.yml", ZONE)
    with pytest.raises(PresetError, match=r"own/zones/hotel_lobby\.yml: presets end in \.yaml"):
        place.library.zone("hotel_lobby")


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        ({"zones": ["Z0"], "genres": ["g0"]}, "write 'z0'"),
        ({"zones": ["Hotel Lobby"], "genres": ["g0"]}, "write 'hotel_lobby'"),
        ({"zones": ["hotel_lobby.yaml"], "genres": ["g0"]}, "write 'hotel_lobby'"),
        ({"zones": "z0, z1", "genres": ["g0"]}, "make it a list: '[z0, z1]'"),
        ({"zones": ["g0"], "genres": ["g0"]}, "'g0' is a genre; write a zone"),
        ({"zones": ["$(id)"], "genres": ["g0"]}, "write the name of a file there; a name is made of"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_the_one_that_was_meant(
    place: Place, content: dict[str, Any], fix: str
) -> None:
    write(place.own / "catalogs/c.yaml", {**ALL, "matrix": content})
    with pytest.raises(UnknownNameError, match=r"own/zones/, nor in a layer below") as raised:
        take_ids(place.load("c"))
    assert raised.value.fix.startswith(fix)


def test_a_new_name_is_to_be_made_where_the_user_may_write(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as raised:
        open_library(None, Settings(home=tmp_path)).zone("xylophone")
    assert raised.value.fix == "make it: `tunemill presets new zone xylophone`"


def test_a_folder_of_the_home_that_may_not_be_looked_into_is_told_and_not_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def forbidden(path: Path) -> bool:
        if path.parent == place.home:
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", forbidden)
    with pytest.raises(UnreadableFileError, match=r"home/presets: cannot be read: Permission denied") as raised:
        place.library  # noqa: B018
    assert raised.value.fix == "give this user the right to read the folder"


def test_an_own_folder_that_holds_no_presets_is_an_error_and_a_home_without_any_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="this is not a preset folder") as raised:
        open_library(tmp_path / "nowhere", Settings(home=tmp_path))
    assert raised.value.why == "there is no such folder"
    assert open_library(None, Settings(home=tmp_path)).layer is LayerName.INSTALLED


def test_the_line_for_editors_leads_to_the_schema_from_wherever_the_file_lies(place: Place) -> None:
    installed = Path(__file__).parents[3] / "presets"
    assert schema_line("zone", installed) == "# yaml-language-server: $schema=../schemas/zone.schema.json\n"
    assert schema_line("zone", place.own).endswith(f"$schema={(installed / 'schemas/zone.schema.json').as_uri()}\n")


def test_the_errors_of_a_library_are_its_own(place: Place) -> None:
    with pytest.raises(TunemillError, match="catalog 'nope' has no file"):
        place.load("nope")


def test_a_link_that_leads_nowhere_and_a_file_that_may_not_be_read_are_told_as_such(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.own / "zones/gone.yaml").symlink_to(place.own / "nowhere.yaml")
    with pytest.raises(UnreadableFileError, match=r"gone\.yaml: cannot be read: No such file") as raised:
        place.library.zone("gone")
    assert raised.value.fix == "remove the link, or let it lead to a file that is there"

    def forbidden(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(UnreadableFileError, match=r"z0\.yaml: cannot be read: Permission denied") as raised:
        place.library.zone("z0")
    assert raised.value.fix == "give this user the right to read the file"


def test_a_folder_that_is_called_like_a_preset_is_none(place: Place) -> None:
    (place.own / "zones/hotel_lobby.yaml").mkdir()
    assert place.library.zone("hotel_lobby").path.parent.parent.name == "presets"
    assert "hotel_lobby" not in place.library.own_names("zones")
