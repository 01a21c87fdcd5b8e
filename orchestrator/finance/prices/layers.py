"""Layers: the folders of price files that a command reads, in order of precedence.

The user's own folder comes first: `--prices` or TUNEMILL_PRICES names it, and it is ./infra/prices otherwise. Then come
the prices in the home, then those that were installed with the program. New prices are written to the user's folder, or
to the home if there is none; an upgrade replaces the installed ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

from catalog.errors import PriceError, UnreadableFileError
from catalog.settings import Settings
from orchestrator.finance.prices.book import PriceBook, PriceLayer, PriceLayerName, read_price_layers

_CHECKOUT = Path(__file__).resolve().parents[3] / "infra" / "prices"
_SHARED = Path(sys.prefix) / "share" / "tunemill" / "prices"


def open_price_book(settings: Settings, option: Path | None = None) -> PriceBook:
    """Read the price book of all layers; `option` is the folder that `--prices` names.

    Raises PriceError or UnreadableFileError for a row, a file or a named folder that is wrong.
    """
    layers = find_price_layers(settings, option)
    book = read_price_layers(layers)
    named = option or settings.prices
    if named is not None and not any(named.glob("*.yaml")):
        raise PriceError(
            f"no price file in {named}",
            why=f"{'--prices' if option else 'TUNEMILL_PRICES'} names that folder, and it holds no *.yaml",
            fix="name the folder of your price files, or add a price with `tunemill costs prices add`",
        )
    if not book.prices and not book.unit_prices:
        raise PriceError(
            "there is no price book",
            why="no price file was installed with the program, and the home has none",
            fix="add a price with `tunemill costs prices add`, or install the program again",
        )
    return book


def find_price_layers(settings: Settings, option: Path | None = None) -> list[PriceLayer]:
    """The layers that there are, the lowest first; a folder that is two of them is the higher one."""
    installed = _installed()
    layers = [PriceLayer(PriceLayerName.INSTALLED, installed)] if installed else []
    if holds_prices(home := home_prices(settings)):
        layers.append(PriceLayer(PriceLayerName.HOME, home))
    if own := _users_folder(settings, option):
        holds_prices(own)
        layers.append(PriceLayer(PriceLayerName.YOURS, own))
    highest = {layer.folder.resolve(): layer for layer in layers}
    return [layer for layer in layers if highest[layer.folder.resolve()] is layer]


def writable_layer(settings: Settings, option: Path | None = None) -> PriceLayer:
    """The layer that new prices go to; its folder need not exist yet. The installed one is written to by name only."""
    if own := _users_folder(settings, option):
        holds_prices(own)
        return PriceLayer(PriceLayerName.YOURS, own)
    return PriceLayer(PriceLayerName.HOME, home_prices(settings))


def home_prices(settings: Settings) -> Path:
    """The home's folder of price files; it need not exist."""
    return settings.home / "prices"


def holds_prices(folder: Path) -> bool:
    """True when `folder` has a price file. Raises UnreadableFileError for a path that is no readable folder."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UnreadableFileError(
                f"{_shown(folder)} is a file",
                why="prices are read from all *.yaml files of a folder",
                fix=f"name its folder: {_shown(folder.parent)}",
            )
        return any(entry.suffix == ".yaml" for entry in folder.iterdir()) if folder.exists() else False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableFileError(
            f"{_shown(folder)} cannot be read: {reason}",
            why="prices are read from the files of that folder",
            fix="name a folder that this user may read with --prices or TUNEMILL_PRICES",
        ) from None


def _installed() -> Path | None:
    return next((folder for folder in (_CHECKOUT, _SHARED) if holds_prices(folder)), None)


def _users_folder(settings: Settings, option: Path | None) -> Path | None:
    for named in (option, settings.prices):
        if named is not None:
            return named
    here = Path("infra") / "prices"
    installed = _installed()
    is_own = holds_prices(here) and (installed is None or here.resolve() != installed.resolve())
    return here if is_own else None


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}..."
