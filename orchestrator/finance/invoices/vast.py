"""Vast.ai: charges for instances (GPU, storage, bandwidth) and payments, as the API's JSON or as CSV.

There are three layouts, described in docs.vast.ai and the open CLI (vast-ai/vast-cli) in November 2026. Charges
(`vastai show invoices-v1 --charges --raw`) are results of {type, source, description, amount, start, end, items}; the
innermost items are the billed ones. Days are UTC days in epoch seconds, and `end` is the last of them: the reference
bills 96 hours to an instance whose end is three days after its start. Payments (`--invoices`) have the same shape;
their type is the payment's name, or "credit" with the payment's name in source and metadata.service. A transfer is
money from another account of the same user. The older `show invoices` lists {type, description, timestamp, quantity,
rate, amount, instance_id}. The CSV has these columns, with one item per row. Amounts are in USD; no invoice has a
number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from catalog.errors import InvoiceError
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.invoices.drafts import InvoiceDraft, LineDraft, plus, slack_of
from orchestrator.finance.invoices.entries import FileContext, InvoiceEntry, entry_of, unknown_layout
from orchestrator.finance.invoices.files import SourceFile, looks_like_json, plain, read_json, read_table
from orchestrator.finance.invoices.values import is_day

PROVIDER: Final = "vast"
WANTED: Final = "type, source, amount, start, end, items; or type, description, timestamp, amount, instance_id"
_NEW: Final = frozenset(("type", "source", "amount", "start", "end"))
_OLD: Final = frozenset(("type", "timestamp", "amount"))
_METERS: Final = {
    **{"gpu": Meter.GPU, "instance": Meter.GPU, "serverless": Meter.GPU, "compute": Meter.GPU},
    **{"storage": Meter.DISK, "disk": Meter.DISK, "volume": Meter.DISK},
    **{"bandwidth": Meter.EGRESS, "upload": Meter.EGRESS, "download": Meter.EGRESS, "inet": Meter.EGRESS},
    **{"credit": Meter.CREDIT, "refund": Meter.CREDIT, "tax": Meter.TAX},
}
_PAYMENTS: Final = ("stripe_payments", "stripe", "bitpay", "coinbase", "crypto.com", "paypal", "payment")
_TRANSFER: Final = "transfer"
# How the words of a credit tell that somebody paid it in: a credit without them is a discount, which lowers the cost.
_PAID_IN: Final = re.compile(
    rf"\b({'|'.join(map(re.escape, _PAYMENTS))}|paid in|deposit|top-?up|card end|(wire|bank) transfer)", re.I
)
_PRICED: Final = re.compile(r"([\d.,]+)\s*([A-Za-z-]+)\s+at\s+\$([\d.]+)/", re.ASCII)
_DAY_MS: Final = 86_400_000


def recognizes(columns: Sequence[str]) -> bool:
    """True when a file with these columns or keys is one of Vast.ai's."""
    names = {plain(column) for column in columns}
    return names >= _NEW or (names >= _OLD and bool({"instanceid", "rate"} & names))


def read_vast(source: SourceFile, reader: FileContext) -> InvoiceDraft:
    """Read charges or payments."""
    entries = [entry_of(record, reader) for record in _records_of(source)]
    columns = [name for entry in entries for name in entry.values]
    if entries and not recognizes(columns):
        raise unknown_layout(source, ", ".join(dict.fromkeys(columns)), WANTED)
    if not set(columns) >= _NEW:
        drafts = [_dated(entry) for entry in entries]
        times = [entry.get_instant("timestamp") // _DAY_MS * _DAY_MS for entry in entries]
        period = (min(times), max(times) + _DAY_MS) if times else (None, None)
        return InvoiceDraft(drafts, PROVIDER, currency="USD", start_ms=period[0], end_ms=period[1])
    drafts = [draft for entry in entries for draft in _leaves(entry, entry.get_amount("amount"), "")]
    return InvoiceDraft(drafts, PROVIDER, currency="USD")


def _records_of(source: SourceFile) -> Sequence[Any]:
    if not looks_like_json(source.text):
        return read_table(source).rows
    content = read_json(source)
    if isinstance(content, list):
        return content
    records = content.get("results", content.get("invoices"))
    if not isinstance(records, list):
        raise unknown_layout(source, ", ".join(content), WANTED)
    total = content.get("total")
    if content.get("next_token") or (isinstance(total, Decimal) and total > len(records)):
        raise InvoiceError(
            f"{source.path}: the file holds one page, with {len(records)} of {total or 'more'} charges",
            why="an incomplete bill would be booked as a complete one",
            fix="export all pages (--limit, --next-token) and put their results into one list",
        )
    return records


def _leaves(entry: InvoiceEntry, amount: Decimal, owner: str) -> Iterator[LineDraft]:
    """The innermost items of a charge; they add up to its amount."""
    owner = _id_of(entry.text("source")) or owner
    items = entry.get("items") or []
    if not items or not isinstance(items, list):
        yield _leaf(entry, amount, owner)
        return
    inner = [entry_of(item, entry.reader) for item in items]
    amounts = [each.get_amount("amount") for each in inner]
    off = Fraction(amount) - sum((Fraction(each) for each in amounts), Fraction())
    # Items and sum are each rounded by the provider.
    if abs(off) > slack_of(amount) + sum(slack_of(each) for each in amounts):
        raise InvoiceError(
            f"{entry.where}: the items of {entry.text('source', 'description')} do not add up to {amount}",
            why=f"they are {', '.join(str(each) for each in amounts)}",
            fix="export the charges again, with all their items",
        )
    largest = max(range(len(inner)), key=lambda index: abs(amounts[index]))
    # The sum is billed: the provider's own rounding stays with the largest item.
    amounts[largest] = plus(amounts[largest], off)
    for each, part in zip(inner, amounts, strict=True):
        yield from _leaves(each, part, owner)


def _leaf(entry: InvoiceEntry, amount: Decimal, owner: str) -> LineDraft:
    kind = entry.text("type").lower()
    description = entry.text("description")
    priced = _PRICED.search(description)
    meter = _meter_of(entry, kind)
    start_ms, end_ms = _window(entry)
    if meter is Meter.TOPUP and end_ms is None and start_ms is not None:
        end_ms = start_ms + 1000  # money is paid in at an instant, of which a second is known
    return LineDraft(
        entry.line,
        meter,
        # The API counts a payment against the balance that is owed, and what came from another account as received.
        abs(amount) if meter is Meter.TOPUP and kind != _TRANSFER else amount,
        "" if meter is Meter.TOPUP else owner,
        kind,
        description,
        start_ms,
        end_ms,
        priced[1] if priced else "",
        priced[2] if priced else "",
        priced[3] if priced else "",
        mark=entry.text("source") if meter is Meter.TOPUP else description,  # traffic up and traffic down
    )


def _meter_of(entry: InvoiceEntry, kind: str) -> Meter:
    description = entry.text("description").lower()
    if kind == _TRANSFER or (kind in _PAYMENTS and "refund" not in description):
        return Meter.TOPUP
    if kind == "credit" and _PAID_IN.search(_words_of(entry)) and "refund" not in description:
        return Meter.TOPUP
    if kind == "charge":  # the older list names the service in words, after "Instance 123"
        kind = next((word for word in description.split() if word in _METERS and word != "instance"), kind)
    if kind in _METERS:
        return _METERS[kind]
    raise InvoiceError(
        f"{entry.where}: the type {kind!r} is unknown",
        why=f"known are: {', '.join((*_METERS, *_PAYMENTS, _TRANSFER))}",
        fix="take that record out of the file and book it by hand, or export CSV and have it read with --mapping, "
        "which names its meters",
    )


def _words_of(entry: InvoiceEntry) -> str:
    """The fields of a record that name the way of payment: source, service and description."""
    metadata = entry.get("metadata")
    service = metadata.get("service", "") if isinstance(metadata, dict) else metadata or ""
    return " ".join((entry.text("source"), str(service), entry.text("description")))


def _window(entry: InvoiceEntry) -> tuple[int | None, int | None]:
    start_ms, end_ms = entry.find_instant("start"), entry.find_instant("end")
    if start_ms is None or end_ms is None:
        return start_ms, end_ms
    of_days = is_day(entry.get("end")) or (start_ms % _DAY_MS == 0 and end_ms % _DAY_MS == 0)
    return start_ms, end_ms + _DAY_MS if of_days and end_ms >= start_ms else end_ms


def _dated(entry: InvoiceEntry) -> LineDraft:
    """A line of the older list: it says when it was charged, not for which time."""
    kind = entry.text("type").lower()
    meter = _meter_of(entry, kind)
    return LineDraft(
        entry.line,
        meter,
        entry.get_amount("amount"),
        entry.text("instance_id"),
        kind if meter is Meter.TOPUP else str(meter),
        entry.text("description"),
        None,
        None,
        entry.quantity("quantity"),
        "hours" if meter is Meter.GPU and entry.text("quantity") else "",
        entry.quantity("rate"),
        mark=entry.text("timestamp"),
    )


def _id_of(source: str) -> str:
    """The provider's own id: instance-123 is 123, as the instance itself is called."""
    return re.sub(r"^(?:instance|volume|serverless)-", "", source)
