"""Where price files lie: the installed ones, the home's and the user's, each laid over the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import PriceError, UnreadableFileError
from catalog.settings import Settings
from orchestrator.finance.prices.layers import find_price_layers, open_price_book, writable_layer

ROW = 'valid_from: 2026-12-01\nprices:\n  - {sku: l4-24gb, usd_per_hour: "0.5", source: contract}\n'


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "2026-12-01.yaml").write_text(ROW)
    return path


def names(settings: Settings, option: Path | None = None) -> list[str]:
    return [str(layer.name) for layer in find_price_layers(settings, option)]


def test_a_home_without_prices_is_no_error(place):
    settings = Settings(home=place / "home")
    assert names(settings) == ["installed"]
    assert open_price_book(settings).prices


def test_the_layers_are_installed_home_and_yours(place):
    a_folder(place / "home" / "prices")
    settings = Settings(home=place / "home", prices=a_folder(place / "mine"))
    assert names(settings) == ["installed", "home", "yours"]
    assert open_price_book(settings).layers[-1].folder == place / "mine"
    assert find_price_layers(settings, a_folder(place / "other"))[-1].folder == place / "other"


def test_a_folder_that_is_two_layers_counts_once_as_the_higher(place):
    folder = a_folder(place / "home" / "prices")
    assert names(Settings(home=place / "home", prices=folder)) == ["installed", "yours"]
    installed = find_price_layers(Settings(home=place / "nowhere"))[0].folder
    assert names(Settings(home=place / "nowhere"), installed) == ["yours"]


def test_a_folder_infra_prices_beside_the_user_is_the_users(place):
    a_folder(place / "infra" / "prices")
    assert names(Settings(home=place / "home")) == ["installed", "yours"]


def test_new_prices_go_to_the_users_folder_else_to_the_home(place):
    settings = Settings(home=place / "home")
    assert writable_layer(settings).folder == place / "home" / "prices"
    assert writable_layer(settings, place / "mine").folder == place / "mine"
    assert writable_layer(Settings(home=place / "home", prices=place / "set")).folder == place / "set"


def test_a_named_folder_without_prices_is_an_error_that_says_who_named_it(place):
    with pytest.raises(PriceError, match="no price file in") as caught:
        open_price_book(Settings(home=place / "home", prices=place / "typo"))
    assert "TUNEMILL_PRICES" in caught.value.why


@pytest.mark.parametrize(
    ("named", "said"), [("x" * 5_000, "cannot be read: File name too long"), ("file", "is a file")]
)
def test_what_is_no_folder_is_refused_in_words(place, named, said):
    (place / "file").write_text("a file")
    for read in (open_price_book, writable_layer):
        with pytest.raises(UnreadableFileError, match=said) as caught:
            read(Settings(home=place / "home"), Path(named))
        assert caught.value.fix
