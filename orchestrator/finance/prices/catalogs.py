"""GPU price catalogs: read the CSV files of SkyPilot and gpuhunt into price book rows, without either library.

A row of a catalog may describe a machine with several GPUs; its price is divided by their number, to the nearest
micro-dollar. SkyPilot omits parts of a GPU's name that stand in the machine's name or in the column of GPU details:
form, memory, and at Vast.ai even Ti and SUPER. The import restores them. It reports rows by whose price no machine
could ever be priced.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple

from catalog.errors import PriceError, UnreadableFileError
from orchestrator.finance.invoices.files import FileRow, FileTable, plain, read_source, read_table
from orchestrator.finance.invoices.values import amount_of
from orchestrator.finance.money import MICROS_PER_USD, dollars
from orchestrator.finance.prices.book import (
    Price,
    PriceBook,
    PriceLayer,
    PriceRow,
    cards_named,
    hourly_price,
    is_priced_by,
    midnight_ms,
    price_for,
)
from orchestrator.finance.prices.files import a_row, known_price, write_prices
from orchestrator.finance.prices.gpu_names import Card, card_of, sold_as
from orchestrator.ledger.observations import Machine

KINDS: Final = ("auto", "skypilot", "gpuhunt")
_COLUMNS: Final = {
    "skypilot": ("AcceleratorName", "AcceleratorCount", "Price", "Region"),
    "gpuhunt": ("gpu_name", "gpu_count", "price", "location", "spot"),
}
_CATALOG_NAMES: Final = {"skypilot": "SkyPilot", "gpuhunt": "gpuhunt"}
# Workers name their provider by these words, and catalogs by others.
_PROVIDERS: Final = {
    "vastai": "vast",
    "vast.ai": "vast",
    "vast-ai": "vast",
    "lambdalabs": "lambda",
    "runpod.io": "runpod",
}
_MIB_MIN: Final = 1024  # a smaller "SizeInMiB" is of GiB
_SKYPILOT_GIB: Final = {"a100": 40.0, "v100": 16.0, "p100": 16.0, "h100": 80.0}  # of a bare name; others say their size
_VAST_MACHINE: Final = re.compile(r"(?:vastv2-)?\d+x-(.+?)(?:-\d+)+")
_FORM: Final = re.compile(r"(?<![a-z])(sxm|pcie|nvl)(?:\d?(?![a-z]))", re.IGNORECASE)
_BAD_LINES_MAX: Final = 5  # named in one note
_WORDS: Final = {"ti": "Ti", "ada": "Ada", "laptop": "Laptop", "mobile": "Mobile"}


class NeverUsed(NamedTuple):
    """A row by which no machine will be priced."""

    row: PriceRow
    why: str
    fix: str


class ImportedPrices(NamedTuple):
    """The result of an import."""

    path: Path
    rows: tuple[PriceRow, ...]
    notes: tuple[str, ...]  # the rows that were left out, and why
    never_used: tuple[NeverUsed, ...] = ()


class _Offer(NamedTuple):
    """The price of one GPU in one row of a catalog."""

    card: Card
    market: str
    region: str
    usd_micros: int
    is_alone: bool = False  # the machine around the GPU is billed beside it


class _LeftOut:
    """The rows that an import leaves out, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._bad: list[str] = []

    def add_bad(self, line: int, reason: str) -> None:
        """Count a row whose numbers cannot be read."""
        self._bad.append(f"line {line}: {reason}")

    def notes(self) -> Iterator[str]:
        """One sentence for each reason."""
        for reason, count in sorted(self.counts.items()):
            yield f"{count} left out: {reason}"
        if self._bad:
            more = f" and {len(self._bad) - _BAD_LINES_MAX} more" if len(self._bad) > _BAD_LINES_MAX else ""
            yield f"{len(self._bad)} left out: {'; '.join(self._bad[:_BAD_LINES_MAX])}{more}"


def import_prices(  # noqa: PLR0913 - every option of the import is one
    path: Path,
    layer: PriceLayer,
    *,
    book: PriceBook,
    valid_from: date,
    read_on: date,
    provider: str,
    kind: str = "auto",
    region: str | None = None,
    skus: Sequence[str] = (),
    is_correction: bool = False,
) -> ImportedPrices:
    """Write the prices of a catalog's CSV into one new file of `layer`; `book` holds the prices of all layers.

    A GPU with several prices in one market (regions, sizes of machines) gets the highest of them, which its source
    says. `region` and `skus` choose; `read_on` is the day that the sources name. Raises UnreadableFileError for a file
    that is no such catalog, PriceError when nothing is left to write.
    """
    table = _read(path)
    kind = _kind_of(table, kind, path)
    provider = _PROVIDERS.get(provider.strip().lower(), provider.strip())
    left_out = _LeftOut()
    offers: dict[tuple[str, str], list[_Offer]] = defaultdict(list)
    sku_of = cache(partial(_sku_of, book=book, provider=provider))  # a catalog has thousands of rows and few cards
    for offer in _OFFERS_OF[kind](table, left_out):
        if region is not None and offer.region.lower() != region.lower():
            continue
        sku = sku_of(offer.card)
        if not skus or any(sku == asked or card_of(asked).may_be(offer.card) for asked in skus):
            offers[sku, offer.market].append(offer)
    origin = f"{_CATALOG_NAMES[kind]} catalog {path.name}, read {read_on.isoformat()}"
    rows = tuple(_row_of(key, offers[key], book, provider, origin) for key in sorted(offers))
    notes = list(left_out.notes())
    if not rows:
        raise PriceError(
            f"{path}: the file has no price that can be written",
            why="; ".join(notes) or f"no row is of {_chosen(region, skus)}",
            fix="leave --region and --sku out to see all that the file has"
            if region or skus
            else "name a catalog with prices of GPUs",
        )
    if alone := sum(any(offer.is_alone for offer in offers[key]) for key in offers):
        notes.append(f"{alone} are prices of a GPU alone: its machine is billed beside it, and costs more")
    written = write_prices(layer.folder, rows, valid_from, is_correction=is_correction)
    prices = tuple(hourly_price(row, valid_from, written.stem, layer.name) for row in rows)
    after = book._replace(prices=(*book.prices, *prices))
    at_ms = max(midnight_ms(valid_from), midnight_ms(read_on))
    never_used = tuple(find_never_used(zip(rows, prices, strict=True), after, at_ms))
    return ImportedPrices(written, rows, tuple(notes), never_used)


def find_never_used(rows: Iterable[tuple[PriceRow, Price]], book: PriceBook, at_ms: int) -> Iterator[NeverUsed]:
    """The rows, with their prices, that no machine of their own provider and region will be priced by in `book`."""
    for row, price in rows:
        names = cards_named(price)
        found = [price_for(Machine(name, row.provider, row.market, row.region), at_ms, book) for name in names]
        if not any(card_of(name).is_known for name in names):
            why = f"no driver is known to call a GPU {names[0]!r}"
            fix = (
                f"set TUNEMILL_GPU={row.sku} where its workers run, or add it again with `--match` and the name that "
                "its driver prints"
            )
        elif not any(is_priced_by(name, price) for name in names):
            why = f"its driver says {names[0]!r} whatever the memory, which means the usual size"
            fix = f"give such a machine its own price with `tunemill costs rentals add` and --usd-per-hour {_usd(row)}"
        elif price in found:
            continue
        elif first := next((each for each in found if each is not None), None):
            place = f"{first.file}.yaml ({first.layer})"
            why = f"{first.sku} at ${dollars(first.usd_micros_per_h)} in {place} goes before it"
            fix = f"leave one of them out: take {first.sku} out of {first.file}.yaml, or import with --sku"
        else:
            continue
        yield NeverUsed(row, why, fix)


def _usd(row: PriceRow) -> str:
    return dollars(row.usd_micros).replace(",", "")


def _read(path: Path) -> FileTable:
    source = read_source(path)
    try:
        return read_table(source)
    except UnreadableFileError as error:
        fix = "name the CSV of one provider from the SkyPilot or a gpuhunt catalog, as it was downloaded"
        raise UnreadableFileError(
            error.what, why="a catalog has a header and rows with as many cells", fix=fix
        ) from None


def _chosen(region: str | None, skus: Sequence[str]) -> str:
    return " and ".join([*([f"region {region}"] if region else []), *([f"GPU {', '.join(skus)}"] if skus else [])])


def _kind_of(table: FileTable, kind: str, path: Path) -> str:
    columns = {plain(name) for name in table.header}
    fits = {name: all(plain(each) in columns for each in wanted) for name, wanted in _COLUMNS.items()}
    found = next((name for name, does_fit in fits.items() if does_fit), None) if kind == "auto" else kind
    if found is None or not fits.get(found):
        wanted = "; or ".join(", ".join(each) for each in _COLUMNS.values())
        raise UnreadableFileError(
            f"{path}:1: the file is not a catalog of {'SkyPilot or gpuhunt' if kind == 'auto' else kind}",
            why=f"found: {', '.join(table.header)}; wanted: {wanted}",
            fix="download the catalog of one provider as CSV",
        )
    return found


# Reading


def _skypilot_offers(table: FileTable, left_out: _LeftOut) -> Iterator[_Offer]:
    for row in table.rows:
        cells = row.cells
        name, instance = cells[plain("AcceleratorName")], cells.get(plain("InstanceType"), "")
        count = _count_of(row, name, cells[plain("AcceleratorCount")], left_out)
        if count is None:
            continue
        card = _skypilot_card(name, instance, cells.get(plain("GpuInfo"), ""), count)
        is_alone = plain("InstanceType") in cells and not instance
        for column, market in (("Price", "on_demand"), ("SpotPrice", "spot")):
            micros = _per_gpu(row, cells.get(plain(column), ""), count, left_out)
            if micros is not None:
                yield _Offer(card, market, cells[plain("Region")], micros, is_alone)


@lru_cache(maxsize=4096)
def _skypilot_card(name: str, instance: str, info: str, count: int) -> Card:
    """The card of a row, by all that the row says of it."""
    machine = _VAST_MACHINE.fullmatch(instance)
    if machine and card_of(machine[1]).model.startswith(card_of(name).model):
        name = machine[1]
    if not card_of(name).form or card_of(name).form == card_of(name.split()[0]).form:
        stated = _FORM.search(name) or _FORM.search(instance) or _FORM.search(info)
        name = f"{name} {stated[1]}" if stated and not _FORM.search(name) else name
    vram_gib = _memory_of(info, count) or _SKYPILOT_GIB.get(card_of(name).model)
    return card_of(name, vram_gib)


def _memory_of(info: str, count: int) -> float | None:
    """GiB of one GPU. Some clouds write the sum of all in place of one GPU's memory, and some GiB in place of MiB."""
    sizes = {key: float(size) for key, size in re.findall(r"(SizeInMiB|TotalGpuMemoryInMiB)\W+(\d+(?:\.\d+)?)", info)}
    size, total = sizes.get("SizeInMiB"), sizes.get("TotalGpuMemoryInMiB")
    if not size:
        return None
    if size == total and "Manufacturer" not in info:  # Vast.ai's; those that name a manufacturer repeat one GPU's
        size /= count
    return sold_as(size if size < _MIB_MIN else size / 1024)


def _gpuhunt_offers(table: FileTable, left_out: _LeftOut) -> Iterator[_Offer]:
    for row in table.rows:
        cells = row.cells
        name = cells[plain("gpu_name")]
        count = _count_of(row, name, cells[plain("gpu_count")], left_out)
        micros = None if count is None else _per_gpu(row, cells[plain("price")], count, left_out)
        if micros is not None:
            memory = _number(row, cells.get(plain("gpu_memory"), "") or "0", "gpu_memory", left_out)
            market = "spot" if cells[plain("spot")].lower() in ("true", "1") else "on_demand"
            card = card_of(name, sold_as(float(memory)) if memory else None)
            yield _Offer(card, market, cells[plain("location")], micros)


_OFFERS_OF: Final = {"skypilot": _skypilot_offers, "gpuhunt": _gpuhunt_offers}


def _count_of(row: FileRow, name: str, count: str, left_out: _LeftOut) -> int | None:
    """The number of a machine's GPUs; None when it is no whole number, with the reason counted."""
    gpus = _number(row, count, "count", left_out) if name and count else Decimal(0)
    if gpus is None:
        return None
    if not gpus or name.lower().startswith("tpu"):
        left_out.counts["machines without a GPU"] += 1
        return None
    if gpus != int(gpus) or gpus < 0:
        left_out.counts["machines with a part of a GPU, which their driver calls by another name"] += 1
        return None
    return int(gpus)


def _per_gpu(row: FileRow, price: str, count: int, left_out: _LeftOut) -> int | None:
    """Micro-dollars per hour of one GPU; None when the value is no price, with the reason counted."""
    usd = _number(row, price, "price", left_out) if price else None
    if usd is None:
        return None
    if usd < 0:
        left_out.add_bad(row.line, f"a negative price: {price}")
        return None
    micros = round(Fraction(usd) * MICROS_PER_USD / count)
    if not micros:
        left_out.counts["prices of zero, which are not valid prices"] += 1
    return micros or None


def _number(row: FileRow, text: str, column: str, left_out: _LeftOut) -> Decimal | None:
    try:
        return amount_of(text, thousands="")
    except ValueError as error:
        left_out.add_bad(row.line, f"{column}: {error}")
        return None


# Rows


def _sku_of(card: Card, book: PriceBook, provider: str) -> str:
    """The sku by which the book knows a card, the provider's own first; else one made from its name."""
    newest_first = book.prices[::-1]
    own = [price for price in newest_first if price.provider == provider]
    return next((price.sku for price in (*own, *newest_first) if _is_of(price, card)), card.sku)


def _is_of(price: Price, card: Card) -> bool:
    """True when a row prices that card exactly: neither one form alone, nor other forms as well."""
    named = [card_of(part, price.vram_gib) for part in cards_named(price)]
    forms = {each.form for each in named if each.form}
    fits = {card.form} == forms if card.form else len(forms) != 1
    return fits and any(each.may_be(card) for each in named)


def _row_of(key: tuple[str, str], offers: Sequence[_Offer], book: PriceBook, provider: str, origin: str) -> PriceRow:
    sku, market = key
    known, card = known_price(sku, book), offers[0].card
    dearest = max(offers, key=lambda offer: (offer.usd_micros, offer.region))
    prices = {offer.usd_micros for offer in offers}
    regions = sorted({offer.region for offer in offers})
    where = f"region {dearest.region}" if dearest.region else "no region"
    words = f"the highest of {len(prices)} prices in {len(regions)} regions" if len(prices) > 1 else ""
    alone = "the GPU alone, without its machine" if dearest.is_alone else ""
    return a_row(
        sku=sku,
        match=known.match if known and known.match else (_driver_name(card),),
        market=market,
        usd_per_hour=dollars(dearest.usd_micros).replace(",", ""),
        vram_gib=known.vram_gib if known and known.vram_gib is not None else card.vram_gib,
        provider=provider,
        region=dearest.region if len(regions) == 1 else "",
        source="; ".join(part for part in (f"{origin}, {provider}, {where}", words, alone) if part),
    )


def _driver_name(card: Card) -> str:
    """The part of a driver's name that tells the card: RTX 4070 Ti SUPER, A100 SXM."""
    words = [_WORDS.get(word, word.upper()) for word in card.model.split()]
    return " ".join([*words, *([card.form.upper()] if card.form else [])])
