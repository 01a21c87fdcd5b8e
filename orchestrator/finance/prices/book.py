"""The price book: the price of a GPU hour, from dated YAML files that are added to and never rewritten.

The price in force at an instant is the newest one that is valid from that instant or earlier; of two prices that are
valid from the same day, the one in the file whose name sorts last wins. Folders are stacked in layers: a price in force
in a higher layer wins over one in a lower layer, whatever their dates, so a contract price outlives the next public
list. A row may name a provider or a region and then applies only to machines there. Amounts are decimal text and become
integer micro-dollars, never a float. A missing price is an error or `unknown`, and never zero. The book also holds
prices of other units: a gigabyte stored for a month, a gigabyte of traffic, a song from a music service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from catalog.errors import PriceError, UnreadableFileError
from catalog.forms import Frozen
from orchestrator.finance.money import micros_of
from orchestrator.finance.prices.gpu_names import card_of, names_gpu, plain_name
from orchestrator.finance.prices.words import problem_of
from orchestrator.ledger.observations import Machine


class PriceLayerName(StrEnum):
    """The origin of a layer, as lists show it."""

    INSTALLED = "installed"
    HOME = "home"
    YOURS = "yours"


class PriceLayer(NamedTuple):
    """One folder of price files."""

    name: PriceLayerName
    folder: Path


def _an_amount(text: str) -> str:
    micros_of(text)
    return text


def _refusal(what: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("price", "{what}", {"what": what, "fix": fix})


Unit = Literal["hour", "gb_month", "gb", "song"]
UNITS: Final = get_args(Unit)


class PriceRow(Frozen):
    """One line of a price file."""

    sku: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    match: tuple[str, ...] = ()  # parts of the names by which drivers call this GPU
    market: Literal["on_demand", "spot"] = "on_demand"
    unit: Unit = "hour"
    usd_per_hour: Annotated[str, AfterValidator(_an_amount)] | None = None  # of unit hour
    usd: Annotated[str, AfterValidator(_an_amount)] | None = None  # of any unit
    songs_per_request: int | None = Field(default=None, ge=1)  # that are paid for, of which one is kept
    vram_gib: float | None = Field(default=None, ge=0)
    provider: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9_-]{0,31})?$")
    region: str = ""
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one_amount_that_fits(self) -> Self:
        if (self.usd_per_hour is None) == (self.usd is None):
            raise _refusal(
                "a row has either usd_per_hour, or unit and usd",
                "keep usd_per_hour for a GPU, unit and usd for the rest",
            )
        if self.unit != "hour" and (self.usd_per_hour is not None or self.match or self.vram_gib is not None):
            raise _refusal(
                f"usd_per_hour, match and vram_gib are of GPUs, not of a {self.unit}", "take them out, and write usd"
            )
        if self.unit == "song" and self.songs_per_request is None:
            raise _refusal(
                "songs_per_request is missing: songs that are paid for in a request of which one is kept",
                "add songs_per_request: 1 (--songs-per-request 1), or as many as the request returns",
            )
        if self.unit != "song" and self.songs_per_request is not None:
            raise _refusal(
                "songs_per_request stands in rows of unit song, and in no other",
                "take it out (--songs-per-request), or write unit: song (--unit song)",
            )
        if self.unit == "song" and self.usd_micros == 0:
            raise _refusal("the price of a song cannot be zero", "write what a song costs, or leave the row out")
        return self

    @property
    def usd_micros(self) -> int:
        """The price of one unit."""
        return micros_of(self.usd_per_hour or self.usd or "")


class PriceFile(Frozen):
    """One dated file of the price book."""

    valid_from: date
    currency: Literal["USD"] = "USD"
    prices: tuple[PriceRow, ...] = Field(min_length=1)


class Price(NamedTuple):
    """The price of an hour of one GPU, valid from a day on."""

    sku: str
    match: tuple[str, ...]
    market: str
    usd_micros_per_h: int
    vram_gib: float | None
    source: str
    valid_from: date
    provider: str = ""
    region: str = ""
    file: str = ""  # its name without the ending, by which later ones are told
    layer: PriceLayerName = PriceLayerName.YOURS

    @property
    def key(self) -> tuple[str, ...]:
        """The priced product; of two prices with one key, only one is in force."""
        return self.sku, self.market, self.provider, self.region

    @property
    def valid_from_ms(self) -> int:
        """Midnight UTC of the first day it holds."""
        return midnight_ms(self.valid_from)

    @property
    def provenance(self) -> str:
        """The text with which a report names this price as its source."""
        return f"price book {self.valid_from.isoformat()}"


class UnitPrice(NamedTuple):
    """The price of a unit other than GPU time, valid from a day on."""

    sku: str
    unit: str  # gb_month, gb or song
    usd_micros: int
    songs_per_request: int  # songs paid for in one request, of which one is kept; 1 for other units
    provider: str
    region: str
    source: str
    valid_from: date
    file: str = ""
    layer: PriceLayerName = PriceLayerName.YOURS

    @property
    def key(self) -> tuple[str, ...]:
        """The priced product; of two prices with one key, only one is in force."""
        return self.sku, self.unit, self.provider, self.region

    @property
    def valid_from_ms(self) -> int:
        """Midnight UTC of the first day it holds."""
        return midnight_ms(self.valid_from)


def midnight_ms(day: date) -> int:
    """The instant, in UTC, at which a day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


class PriceBook(NamedTuple):
    """Every price ever written down, with the folders they were read from, the lowest layer first."""

    layers: tuple[PriceLayer, ...]
    prices: tuple[Price, ...]  # of an hour of a GPU
    unit_prices: tuple[UnitPrice, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of the highest layer."""
        return self.layers[-1].folder

    def in_force(self, at_ms: int) -> list[Price]:
        """The prices of that instant, one for each sku, market, provider and region, in order of sku."""
        newest = {price.key: price for price in _lowest_first(self.prices, at_ms)}
        return [newest[key] for key in sorted(newest)]

    def overlaid(self, at_ms: int) -> list[Price]:
        """The prices that would be in force at that instant, were there no higher layer."""
        of_layers = {(price.key, price.layer): price for price in _lowest_first(self.prices, at_ms)}
        highest = {price.key: price.layer for price in self.in_force(at_ms)}
        return [price for (key, layer), price in sorted(of_layers.items()) if layer != highest[key]]

    def units_in_force(self, at_ms: int) -> list[UnitPrice]:
        """The prices of other units at that instant, one for each unit, sku, provider and region."""
        newest = {price.key: price for price in _lowest_first(self.unit_prices, at_ms)}
        return sorted(newest.values(), key=lambda each: (each.unit, each.sku, each.provider, each.region))

    def song_prices(self, at_ms: int) -> list[UnitPrice]:
        """Music services' prices of a song at that instant, in order of sku."""
        return [price for price in self.units_in_force(at_ms) if price.unit == "song"]


_LAYERS: Final = tuple(PriceLayerName)
_P = TypeVar("_P", Price, UnitPrice)


def _lowest_first(prices: Iterable[_P], at_ms: int) -> list[_P]:
    """The prices that had begun by then: of two with one key the later one counts."""
    begun = (price for price in prices if price.valid_from_ms <= at_ms)
    return sorted(begun, key=lambda each: (_LAYERS.index(each.layer), each.valid_from))


def read_price_book(folder: Path) -> PriceBook:
    """Read every `*.yaml` in `folder`, and no layer below. Raises PriceError with file and line for a wrong row."""
    book = read_price_layers([PriceLayer(PriceLayerName.YOURS, folder)])
    if not book.prices and not book.unit_prices:
        raise PriceError(
            f"no price file in {folder}",
            why="prices are read from dated YAML files, and the folder has none",
            fix="name the right folder with --prices or TUNEMILL_PRICES",
        )
    return book


def read_price_layers(layers: Sequence[PriceLayer]) -> PriceBook:
    """Read every `*.yaml` of the layers, the lowest first. Raises PriceError with file and line for a wrong row."""
    prices: list[Price | UnitPrice] = []
    for layer in layers:
        for path in sorted(layer.folder.glob("*.yaml"), key=lambda path: path.stem):
            prices += [price._replace(layer=layer.name) for price in read_price_file(path)]
    return PriceBook(
        tuple(layers),
        tuple(price for price in prices if isinstance(price, Price)),
        tuple(price for price in prices if isinstance(price, UnitPrice)),
    )


def price_for_gpu(gpu: str, at_ms: int, book: PriceBook) -> Price | None:
    """As `price_for`, for a caller that knows only the GPU."""
    return price_for(Machine(gpu), at_ms, book)


def price_for(machine: Machine, at_ms: int, book: PriceBook) -> Price | None:
    """The price of an hour of a machine at that instant; None when there is none.

    Only rows of exactly its card count. Of these, rows of the market in which it is rented come first, or on-demand
    rows where the market is unknown or has no price. Among them, a row that names another provider or region does not
    count, the user's own rows come before the installed ones, and rows that name its provider and region come first. Of
    the rows that remain, the dearest counts, because an estimate that is too high does less harm than one that is too
    low.
    """
    found = ((price, _nearness(machine, price)) for price in book.in_force(at_ms))
    best = max((named for named in found if named[1]), key=lambda named: named[1], default=None)
    return best[0] if best else None


def _nearness(machine: Machine, price: Price) -> tuple[Any, ...]:
    """A rank of how well a row fits the machine; empty when it prices another card."""
    is_its_name = plain_name(machine.gpu) == plain_name(price.sku)
    likeness = _likeness(price, machine.gpu)
    if not is_its_name and not likeness:
        return ()
    market = machine.market or "on_demand"
    asked = ((machine.provider, price.provider), (machine.region, price.region))
    provider, region = (1 if not ours or not theirs else 2 * (ours == theirs) for ours, theirs in asked)
    is_elsewhere = provider == 0 or (region == 0 and provider < 2)
    return (
        is_its_name,
        (price.market == market, price.market == "on_demand"),
        (not is_elsewhere, price.layer is not PriceLayerName.INSTALLED, provider, region),
        likeness,
        (_LAYERS.index(price.layer), price.vram_gib or 0, price.usd_micros_per_h),
    )


def is_priced_by(gpu: str, price: Price) -> bool:
    """True when a row prices the card that `gpu` names, by its sku or by its driver's name."""
    return plain_name(gpu) == plain_name(price.sku) or bool(_likeness(price, gpu))


def _likeness(price: Price, gpu: str) -> tuple[int, ...]:
    """A rank by the details in which a row and a GPU's name agree; empty when they name different cards."""
    asked, named = card_of(gpu), [card_of(part, price.vram_gib) for part in cards_named(price)]
    if not asked.is_known and any(names_gpu(part, gpu) for part in cards_named(price)):
        return 0, 0, 0
    is_one_card = len({card.form for card in named if card.form}) <= 1
    likes = ((card.form == asked.form, is_one_card, card.vram_gib is not None) for card in named if card.may_be(asked))
    return max(likes, default=())


def cards_named(price: Price) -> tuple[str, ...]:
    """The names by which a row knows its GPU; its sku where it has no other."""
    return price.match or (price.sku,)


class ChosenPrice(NamedTuple):
    """The price that a person's name of a GPU stands for."""

    price: Price
    others: tuple[str, ...]  # skus that the name could have meant as well


def get_price(gpu: str, at_ms: int, book: PriceBook) -> Price:
    """As `price_for_gpu`, but a missing price is a PriceError that suggests GPUs the book knows."""
    return choose_price(gpu, at_ms, book).price


def choose_price(gpu: str, at_ms: int, book: PriceBook) -> ChosenPrice:
    """The price of a GPU as a person names it: h100, A100, rtx4090; of several sizes the largest.

    Raises PriceError for a GPU that no price is of, with the name that was probably meant.
    """
    price, prices = price_for_gpu(gpu, at_ms, book), book.in_force(at_ms)
    if price is not None:
        others = () if plain_name(gpu) == plain_name(price.sku) else _others(gpu, price, prices)
        return ChosenPrice(price, others)
    known = list(dict.fromkeys(each.sku for each in prices))
    names = {name: each.sku for each in reversed(prices) for name in (card_of(each.sku).model, each.sku)}
    # A name that a driver may print is no slip of the pen: that card has no price yet.
    close = [] if card_of(gpu).is_known else get_close_matches(plain_name(gpu), names, n=1, cutoff=0.5)
    add = f"add its price: `tunemill costs prices add {card_of(gpu).sku or 'SKU'} USD --source WHO`"
    raise PriceError(
        f"no price for GPU {gpu!r}",
        why=f"there are prices for: {', '.join(known) or 'none on that day'}",
        fix=f"did you mean {names[close[0]]}? Else {add}" if close else f"choose one of these with --gpu, or {add}",
    )


def _others(gpu: str, chosen: Price, prices: Iterable[Price]) -> tuple[str, ...]:
    """Skus of other cards that `gpu` may mean too."""
    meant = {price.sku for price in prices if is_priced_by(gpu, price)}
    same = {price.sku for price in prices if any(is_priced_by(part, price) for part in cards_named(chosen))}
    return tuple(sorted(meant - same))


def read_price_file(path: Path) -> Iterator[Price | UnitPrice]:
    """The rows of one file. Raises PriceError with file and line for a row that is wrong."""
    tree, content = _read_yaml(path)
    try:
        file = PriceFile.model_validate(content)
    except ValidationError as error:
        place, what, fix = problem_of(error)
        raise PriceError(f"{path}:{_line_of(tree, place)}: {what}", fix=fix) from None
    seen: dict[tuple[str, ...], int] = {}
    for index, row in enumerate(file.prices):
        line = _line_of(tree, ("prices", index))
        is_hour = row.unit == "hour"
        kind = row.market if is_hour else row.unit
        key = (row.sku, kind, row.provider, row.region)
        if key in seen:
            raise PriceError(
                f"{path}:{line}: {row.sku!r} ({kind}) has a second price",
                why=f"line {seen[key]} gives it one already",
                fix="remove one of the two; write a changed price into a new file with its own valid_from",
            )
        seen[key] = line
        yield price_of(row, file.valid_from, path.stem)


def _read_yaml(path: Path) -> tuple[yaml.Node | None, Any]:
    """The file as a tree that knows its lines, and as plain values."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        # BaseLoader leaves every scalar as the text it was written as, so 1.64 never becomes a float.
        return tree, yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - builds only text, lists and mappings
    except OSError as error:
        reason, fix = error.strerror or type(error).__name__, "give this user the right to read it, or take it away"
        raise UnreadableFileError(f"{path} cannot be read: {reason}", fix=fix) from None
    except UnicodeDecodeError:
        raise UnreadableFileError(f"{path} is not UTF-8 text", fix="save the file as UTF-8, or remove it") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise UnreadableFileError(
            f"{path}:{line}: the line is not YAML",
            why=str(getattr(error, "problem", None) or "it holds what YAML does not allow"),
            fix="look at a colon, quote or bracket that is missing there or above, and at the indentation",
        ) from None


def price_of(row: PriceRow, valid_from: date, file: str) -> Price | UnitPrice:
    """The price that a row of `file` becomes."""
    if row.unit == "hour":
        return hourly_price(row, valid_from, file)
    songs = row.songs_per_request or 1
    return UnitPrice(row.sku, row.unit, row.usd_micros, songs, row.provider, row.region, row.source, valid_from, file)


def hourly_price(row: PriceRow, valid_from: date, file: str, layer: PriceLayerName = PriceLayerName.YOURS) -> Price:
    """The price that a row of a GPU becomes."""
    where = (row.provider, row.region, file, layer)
    return Price(row.sku, row.match, row.market, row.usd_micros, row.vram_gib, row.source, valid_from, *where)


def _line_of(node: yaml.Node | None, loc: Sequence[int | str]) -> int:
    """Line, counted from 1, of the deepest node on the way to `loc` that exists."""
    line = 1
    for part in (None, *loc):
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part] if part < len(node.value) else None
        elif isinstance(node, yaml.MappingNode) and part is not None:
            node = next((value for key, value in node.value if key.value == part), None)
        if node is None:
            break
        line = node.start_mark.line + 1
    return line
