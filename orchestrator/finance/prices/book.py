"""The price book: what an hour of a GPU costs, from dated YAML files that are added to and never rewritten.

The price in force at an instant is the newest one valid from then or earlier; of two valid from the same day, the one
in the file that comes later by name. A row may be of one provider or region, and then holds for its machines alone.
Amounts are decimals written as text and become integer micro-dollars; a float is never involved. A price that is
missing is an error or `unknown`; it is never zero. Besides hours of GPUs the book holds prices of other units: a
gigabyte for a month, a gigabyte of traffic, a song that somebody else would render.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from catalog.errors import PriceError, UnreadableFileError
from catalog.forms import Frozen
from orchestrator.finance.money import micros_of
from orchestrator.ledger.observations import Machine

_INSTALLED: Final = (
    Path("infra/prices"),
    Path(__file__).resolve().parents[3] / "infra" / "prices",
    Path(sys.prefix) / "share" / "tunemill" / "prices",
)


def _an_amount(text: str) -> str:
    micros_of(text)
    return text


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
            raise ValueError("a row has either usd_per_hour, or unit and usd")
        if self.unit != "hour" and (self.usd_per_hour is not None or self.match or self.vram_gib is not None):
            raise ValueError(f"usd_per_hour, match and vram_gib are of GPUs, not of a {self.unit}")
        if (self.unit == "song") != (self.songs_per_request is not None):
            raise ValueError("songs_per_request stands in every row of unit song, and in no other")
        if self.unit == "song" and self.usd_micros == 0:
            raise ValueError("a song that costs nothing is no price")
        return self

    @property
    def usd_micros(self) -> int:
        """Of one unit."""
        return micros_of(self.usd_per_hour or self.usd or "")


class PriceFile(Frozen):
    """One dated file of the price book."""

    valid_from: date
    currency: Literal["USD"] = "USD"
    prices: tuple[PriceRow, ...] = Field(min_length=1)


class Price(NamedTuple):
    """What an hour of one GPU costs from a day on."""

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

    @property
    def valid_from_ms(self) -> int:
        """Midnight UTC of the first day it holds."""
        return _midnight_ms(self.valid_from)

    @property
    def provenance(self) -> str:
        """What a report says about a figure that rests on this price."""
        return f"price book {self.valid_from.isoformat()}"


class UnitPrice(NamedTuple):
    """What a unit of something else than a GPU's time costs from a day on."""

    sku: str
    unit: str  # gb_month, gb or song
    usd_micros: int
    songs_per_request: int  # paid for in one request, of which one is kept; 1 for what is no song
    provider: str
    region: str
    source: str
    valid_from: date
    file: str = ""

    @property
    def valid_from_ms(self) -> int:
        """Midnight UTC of the first day it holds."""
        return _midnight_ms(self.valid_from)


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


class PriceBook(NamedTuple):
    """Every price ever written down, with the folder they were read from."""

    folder: Path
    prices: tuple[Price, ...]  # of an hour of a GPU
    unit_prices: tuple[UnitPrice, ...] = ()

    def in_force(self, at_ms: int) -> list[Price]:
        """The prices of that instant, one for each sku, market, provider and region, in order of sku."""
        newest: dict[tuple[str, ...], Price] = {}
        for price in sorted(self.prices, key=lambda each: each.valid_from):
            if price.valid_from_ms <= at_ms:
                newest[price.sku, price.market, price.provider, price.region] = price
        return [newest[key] for key in sorted(newest)]

    def units_in_force(self, at_ms: int) -> list[UnitPrice]:
        """The prices of other units at that instant, one for each unit, sku, provider and region."""
        newest: dict[tuple[str, ...], UnitPrice] = {}
        for price in sorted(self.unit_prices, key=lambda each: each.valid_from):
            if price.valid_from_ms <= at_ms:
                newest[price.unit, price.sku, price.provider, price.region] = price
        return [newest[key] for key in sorted(newest)]

    def song_prices(self, at_ms: int) -> list[UnitPrice]:
        """What others ask for a song at that instant, in order of sku."""
        return [price for price in self.units_in_force(at_ms) if price.unit == "song"]


def find_prices_folder(option: Path | None = None, setting: Path | None = None) -> Path:
    """The folder of price files: the option, the setting, ./infra/prices, or the installed one."""
    for named in (option, setting):
        if named is not None:
            return named
    for folder in _INSTALLED:
        if any(folder.glob("*.yaml")):
            return folder
    raise PriceError("there is no price book", fix="name a folder of price files with --prices or TUNEMILL_PRICES")


def read_price_book(folder: Path) -> PriceBook:
    """Read every `*.yaml` in `folder`. Raises PriceError with file and line for a row that is wrong."""
    paths = sorted(folder.glob("*.yaml"), key=lambda path: path.stem)
    if not paths:
        raise PriceError(
            f"no price file in {folder}",
            why="prices are read from dated YAML files, and there is none",
            fix="name the right folder with --prices or TUNEMILL_PRICES",
        )
    prices = [price for path in paths for price in read_price_file(path)]
    return PriceBook(
        folder,
        tuple(price for price in prices if isinstance(price, Price)),
        tuple(price for price in prices if isinstance(price, UnitPrice)),
    )


def price_for_gpu(gpu: str, at_ms: int, book: PriceBook) -> Price | None:
    """As `price_for`, for whoever knows no more than the GPU."""
    return price_for(Machine(gpu), at_ms, book)


def price_for(machine: Machine, at_ms: int, book: PriceBook) -> Price | None:
    """The price of an hour of a machine at that instant; None when there is none.

    Of each sku that row counts which names most of the machine's provider and region, then the newest. Among skus the
    longest matching name wins, then the market it is rented in, on demand where that is not known or has no price:
    rather too dear than too cheap.
    """
    nearest: dict[tuple[str, str], Price] = {}
    for price in sorted(book.in_force(at_ms), key=lambda each: _nearness(machine, each)):
        nearest[price.sku, price.market] = price
    market = machine.market or "on_demand"

    def rank(named: tuple[int, Price]) -> tuple[Any, ...]:
        length, price = named
        provider, region, *_ = _nearness(machine, price)
        return length, price.market == market, price.market == "on_demand", provider, region, price.usd_micros_per_h

    found = ((_match_length(machine.gpu, price), price) for price in nearest.values())
    best = max((named for named in found if named[0]), key=rank, default=None)
    return best[1] if best else None


def _nearness(machine: Machine, price: Price) -> tuple[Any, ...]:
    """How well a row fits: whether it names the provider (2), none (1) or another (0), the same of regions; its age."""
    asked = ((machine.provider, price.provider), (machine.region, price.region))
    provider, region = (1 if not ours or not theirs else 2 * (ours == theirs) for ours, theirs in asked)
    return provider, region, price.valid_from, price.usd_micros_per_h


def get_price(gpu: str, at_ms: int, book: PriceBook) -> Price:
    """As `price_for_gpu`, but a missing price is a PriceError that lists the GPUs the book knows."""
    price = price_for_gpu(gpu, at_ms, book)
    if price is not None:
        return price
    known = ", ".join(dict.fromkeys(each.sku for each in book.in_force(at_ms))) or "none on that day"
    raise PriceError(
        f"no price for GPU {gpu!r}",
        why=f"{book.folder} has prices for: {known}",
        fix=f"choose one with --gpu or TUNEMILL_GPU, or add a row for {gpu!r} to a price file in {book.folder}",
    )


def names_gpu(part: str, gpu: str) -> bool:
    """Whether `part` stands in the GPU name `gpu` as a name of its own: L4 is not in L40S, A10 not in A100."""
    part, gpu = _plain(part), _plain(gpu)
    after = r"(?![a-z0-9])" if part[-1:].isdigit() else ""
    return bool(part) and re.search(rf"(?<![a-z0-9]){re.escape(part)}{after}", gpu) is not None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().lower())


def _match_length(gpu: str, price: Price) -> int:
    if _plain(gpu) == _plain(price.sku):
        return 1_000_000  # its very name beats any part of it
    return max((len(part) for part in price.match if names_gpu(part, gpu)), default=0)


def read_price_file(path: Path) -> Iterator[Price | UnitPrice]:
    """The rows of one file. Raises PriceError with file and line for a row that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        # BaseLoader leaves every scalar as the text it was written as, so 1.64 never becomes a float.
        content = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - builds only text, lists and mappings
        file = PriceFile.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise UnreadableFileError(f"{path} cannot be read as a price file", why=reason, fix="write YAML") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PriceError(
            f"{path}:{_line_of(tree, first['loc'])}: {where}: {first['msg'].removeprefix('Value error, ')}",
            fix="a row has sku, match, market (on_demand or spot), usd_per_hour, vram_gib and source; or sku, unit "
            "(gb_month, gb or song), usd, songs_per_request (of a song), provider, region and source",
        ) from None
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
                fix="keep one; a price that has changed goes into a new file with its own valid_from",
            )
        seen[key] = line
        yield _price_of(row, file.valid_from, path.stem)


def _price_of(row: PriceRow, valid_from: date, file: str) -> Price | UnitPrice:
    if row.unit == "hour":
        return Price(
            row.sku,
            row.match,
            row.market,
            row.usd_micros,
            row.vram_gib,
            row.source,
            valid_from,
            row.provider,
            row.region,
            file,
        )
    songs = row.songs_per_request or 1
    return UnitPrice(row.sku, row.unit, row.usd_micros, songs, row.provider, row.region, row.source, valid_from, file)


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
