"""Reading an invoice: turns a provider's file into an Invoice whose lines sum to its total.

The file's columns identify the provider's format, unless the caller names it. Options give the values that the file
lacks: provider, number, currency, period. An invoice in another currency needs an exchange rate and its source; amounts
are multiplied by the rate before anything is rounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from catalog.errors import InvoiceError, SettingsError
from orchestrator.finance.invoices import lambda_labs, runpod, vast
from orchestrator.finance.invoices.drafts import InvoiceDraft, check_drafts, settle
from orchestrator.finance.invoices.entries import FileContext, unknown_layout
from orchestrator.finance.invoices.files import Record, SourceFile, looks_like_json, read_header, read_json, read_source
from orchestrator.finance.invoices.lines import Invoice
from orchestrator.finance.invoices.mapped import Mapping, read_mapped, read_mapping
from orchestrator.finance.invoices.values import amount_of, instant_of, iso_day, zone_of
from orchestrator.finance.months import bounds_of, parse_period

STYLES: Final = ("runpod", "vast", "lambda", "mapped")
_RECOGNIZED_BY: Final[dict[str, Callable[[Sequence[str]], bool]]] = {
    "runpod": runpod.recognizes,
    "vast": vast.recognizes,
    "lambda": lambda_labs.recognizes,
}
NUMBER_MAX: Final = 120
_PROVIDER: Final = r"[a-z0-9][a-z0-9_-]{0,31}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """The values of an invoice that the command line gives."""

    style: str | None = None  # one of STYLES; None: by the file's columns
    mapping: Path | None = None
    provider: str | None = None
    number: str | None = None
    currency: str | None = None
    period: str | None = None  # YYYY-MM, or YYYY-MM-DD..YYYY-MM-DD without its last day
    time_zone: str | None = None  # of times without an offset; None: the mapping's, or UTC
    bucket: str | None = None  # RunPod's, where the file does not say
    usd_per_unit: str | None = None
    rate_source: str = ""


def read_invoice(  # noqa: PLR0913 - every option of the import is one
    path: Path,
    *,
    style: str | None = None,
    mapping: Path | None = None,
    provider: str | None = None,
    number: str | None = None,
    currency: str | None = None,
    period: str | None = None,
    time_zone: str | None = None,
    bucket: str | None = None,
    usd_per_unit: str | None = None,
    rate_source: str = "",
) -> Invoice:
    """Read a provider's file. See `ImportOptions` for the options.

    Raises UnreadableFileError for a file or layout that cannot be read, InvoiceError for content that cannot be posted,
    and SettingsError for a wrong option. Each error names the file, and the line if there is one.
    """
    wishes = ImportOptions(
        style=style,
        mapping=mapping,
        provider=provider,
        number=number,
        currency=currency,
        period=period,
        time_zone=time_zone,
        bucket=bucket,
        usd_per_unit=usd_per_unit,
        rate_source=rate_source,
    )
    _check_wishes(wishes)
    source = read_source(path)
    plan = read_mapping(mapping) if mapping is not None else None
    zone = zone_of(time_zone or (plan.time_zone if plan else "UTC"))
    reading = _read(source, FileContext(path, zone), wishes, plan)
    if not reading.drafts:
        raise InvoiceError(f"{path}: the file has no lines", why="an invoice bills something", fix="export it again")
    check_drafts(reading, path)
    return _invoice(source, reading, wishes, zone)


def _check_wishes(wishes: ImportOptions) -> None:
    if wishes.style is not None and wishes.style not in STYLES:
        raise SettingsError(f"--style is wrong: {wishes.style!r}", fix=f"choose one of {', '.join(STYLES)}")
    if wishes.style not in (None, "mapped") and wishes.mapping is not None:
        raise SettingsError("--mapping goes with --style mapped alone", fix="leave one of them out")
    if wishes.style == "mapped" and wishes.mapping is None:
        raise SettingsError("--style mapped needs a mapping", fix="name its YAML file with --mapping")
    if wishes.bucket is not None and wishes.bucket not in runpod.BUCKETS:
        raise SettingsError(f"--bucket is wrong: {wishes.bucket!r}", fix=f"choose one of {', '.join(runpod.BUCKETS)}")
    if wishes.provider is not None and not re.fullmatch(_PROVIDER, wishes.provider):
        raise SettingsError(
            f"--provider is wrong: {wishes.provider!r}",
            why="a provider is named in small letters, as in TUNEMILL_RENTAL",
            fix="write for example --provider runpod",
        )

    if wishes.number is not None and not (wishes.number.strip() and len(wishes.number) <= NUMBER_MAX):
        raise SettingsError(
            "--number is wrong",
            why=f"a number has 1 to {NUMBER_MAX} signs",
            fix="write the number that is printed on the invoice",
        )


def _read(source: SourceFile, reader: FileContext, wishes: ImportOptions, plan: Mapping | None) -> InvoiceDraft:
    if plan is not None:
        return read_mapped(source, reader, plan)
    style = wishes.style or _recognized(source)
    if style == "runpod":
        return runpod.read_runpod(source, reader, bucket=wishes.bucket)
    if style == "vast":
        return vast.read_vast(source, reader)
    return lambda_labs.read_lambda(source, reader)


def _recognized(source: SourceFile) -> str:
    """The style whose columns the file has. Raises UnreadableFileError that lists the file's and the known columns."""
    columns = _columns_of(source)
    for style, recognizes in _RECOGNIZED_BY.items():
        if recognizes(columns):
            return style
    wanted = f"runpod: {runpod.WANTED}; vast: {vast.WANTED}; lambda: {lambda_labs.WANTED}"
    raise unknown_layout(source, ", ".join(columns) or "nothing", wanted)


def _columns_of(source: SourceFile) -> Sequence[str]:
    if not looks_like_json(source.text):
        return read_header(source)
    content = read_json(source)
    records = content
    if isinstance(content, Record):
        lists = [content.get(name) for name in ("records", "results", "invoices")]
        records = next((each for each in lists if isinstance(each, list)), None)
        if records is None:
            return list(content)
    if not records:
        raise InvoiceError(
            f"{source.path}: the file has no lines",
            why="an invoice bills something",
            fix="export a period with charges",
        )
    return list(dict.fromkeys(name for record in records if isinstance(record, dict) for name in record))


def _invoice(source: SourceFile, reading: InvoiceDraft, wishes: ImportOptions, zone: ZoneInfo) -> Invoice:
    provider = wishes.provider or reading.provider
    if not provider:
        raise InvoiceError(
            f"{source.path}: the provider of the invoice is unknown",
            why="lines are matched with rentals by provider and id",
            fix="name the provider with --provider, or in the mapping",
        )
    currency = _currency(source, reading, wishes)
    rate = _rate(source, currency, wishes)
    start_ms, end_ms = _period(source, reading, wishes, zone)
    number = wishes.number or reading.number or f"{iso_day(start_ms, zone)}..{iso_day(end_ms, zone)}"
    if len(number) > NUMBER_MAX:
        raise InvoiceError(f"{source.path}: its number has {len(number):,} signs", fix="name it with --number")
    if wishes.number and reading.number and wishes.number != reading.number:
        raise InvoiceError(
            f"{source.path}: --number says {wishes.number!r}, the file {reading.number!r}", fix="leave --number out"
        )
    return Invoice(
        provider,
        number,
        currency,
        f"{rate:f}",
        wishes.rate_source.strip(),
        start_ms,
        end_ms,
        source.path.name,
        source.sha256,
        source.text,
        settle(reading, rate, source.path),
    )


def _currency(source: SourceFile, reading: InvoiceDraft, wishes: ImportOptions) -> str:
    said, wished = reading.currency.strip().upper(), (wishes.currency or "").strip().upper()
    for name in (said, wished):
        if name and not re.fullmatch("[A-Z]{3}", name):
            raise InvoiceError(f"{source.path}: {name!r} is not a currency", fix="write three letters, such as EUR")
    if said and wished and said != wished:
        raise InvoiceError(
            f"{source.path}: --currency says {wished}, the file {said}",
            why="an amount in the wrong currency would be booked",
            fix="leave --currency out",
        )
    return said or wished or "USD"


def _rate(source: SourceFile, currency: str, wishes: ImportOptions) -> Decimal:
    """The price of one unit of the currency in dollars."""
    if currency == "USD":
        if wishes.usd_per_unit is not None or wishes.rate_source:
            raise SettingsError(
                "--usd-per-unit is given, but the invoice is in USD",
                fix="leave --usd-per-unit out, or name the currency with --currency",
            )
        return Decimal(1)
    if wishes.usd_per_unit is None:
        raise InvoiceError(
            f"{source.path}: the invoice is in {currency}",
            why="the books are in USD, and a rate of exchange is never guessed",
            fix=f"give the price of one {currency} in dollars, and its source: --usd-per-unit 1.0842 --rate-source "
            "'ECB, 30 Nov'",
        )
    try:
        rate = amount_of(wishes.usd_per_unit, thousands="")
    except ValueError as error:
        raise SettingsError(f"--usd-per-unit is wrong: {error}", fix="write --usd-per-unit 1.0842") from None
    if rate <= 0:
        raise SettingsError(f"--usd-per-unit is wrong: {rate} is not positive", fix="write --usd-per-unit 1.0842")
    if not wishes.rate_source.strip():
        raise SettingsError(
            "--usd-per-unit comes without a source",
            why="an auditor must be able to check the rate",
            fix="write for example --rate-source 'ECB, 30 Nov'",
        )
    return rate


def _period(source: SourceFile, reading: InvoiceDraft, wishes: ImportOptions, zone: ZoneInfo) -> tuple[int, int]:
    """The period that is billed: the option's, the file's, or from the first line's start to the last one's end."""
    if wishes.period is not None:
        return _parse_span(wishes.period, zone)
    if reading.start_ms is not None and reading.end_ms is not None:
        return reading.start_ms, reading.end_ms
    starts = [draft.start_ms for draft in reading.drafts if draft.start_ms is not None]
    ends = [draft.end_ms for draft in reading.drafts if draft.end_ms is not None]
    if not starts or max(ends) <= min(starts):
        raise InvoiceError(
            f"{source.path}: the billed period is unknown",
            why="no line has a start and an end",
            fix="write --period 2026-11, or --period 2026-11-02..2026-11-09",
        )
    return min(starts), max(ends)


def _parse_span(text: str, zone: ZoneInfo) -> tuple[int, int]:
    first, dots, last = text.strip().partition("..")
    if not dots:
        return bounds_of(parse_period(text), zone.key)
    try:
        start_ms, end_ms = (instant_of(day, zone) for day in (first, last))
    except ValueError as error:
        raise SettingsError(f"--period is wrong: {error}", fix="write --period 2026-11-02..2026-11-09") from None
    if end_ms <= start_ms:
        raise SettingsError(f"--period is wrong: {text!r} ends before it starts", fix="write the earlier day first")
    return start_ms, end_ms
