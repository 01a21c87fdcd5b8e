"""Lambda: a weekly invoice as CSV, with instances by the minute, filesystems by the hour, credits and sales tax.

What is billed follows docs.lambda.ai ("Billing", as of November 2026): on-demand instances in steps of one minute
from healthy to terminated, filesystems per GiB and month in steps of one hour, sales tax by address, credits as
service credit; invoices come weekly. Lambda publishes no layout of a file, so the columns here are those of the
invoice's own lines, under the names listed in `COLUMNS`; a file with others is read with a mapping. A row called Total
or Amount due states the total.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from catalog.errors import InvoiceError
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.invoices.drafts import InvoiceDraft, LineDraft
from orchestrator.finance.invoices.entries import FileContext, InvoiceEntry, entry_of, unknown_layout
from orchestrator.finance.invoices.files import SourceFile, plain, read_table
from orchestrator.finance.invoices.values import after_day, is_day

PROVIDER: Final = "lambda"
COLUMNS: Final = {
    "item": ("Item", "Type", "Line item"),
    "id": ("Resource ID", "Instance ID", "Filesystem ID"),
    "sku": ("Instance type", "Resource type", "SKU"),
    "description": ("Description", "Resource name", "Name"),
    "start": ("Start", "Started", "Start time"),
    "end": ("End", "Ended", "End time"),
    "quantity": ("Quantity", "Minutes", "Usage"),
    "unit": ("Unit",),
    "price": ("Unit price", "Rate", "Price"),
    "amount": ("Amount", "Total", "Amount (USD)"),
    "number": ("Invoice number", "Invoice"),
    "currency": ("Currency",),
}
WANTED: Final = "Item, Resource ID, Instance type, Start, End, Quantity, Unit, Unit price, Amount"
_TOTALS: Final = ("total", "amount due", "total due", "invoice total")
_MINUTES: Final = ("min", "mins", "minute", "minutes")


def recognizes(columns: Sequence[str]) -> bool:
    """True when a file with these columns is one of Lambda's."""
    names = {plain(column) for column in columns}
    return all(any(plain(name) in names for name in COLUMNS[column]) for column in ("item", "id", "amount", "unit"))


def read_lambda(source: SourceFile, reader: FileContext) -> InvoiceDraft:
    """Read the lines of an invoice."""
    table = read_table(source)
    if not recognizes(table.header):
        raise unknown_layout(source, ", ".join(table.header), WANTED)
    drafts: list[LineDraft] = []
    total: Decimal | None = None
    said: dict[str, dict[str, int]] = {"number": {}, "currency": {}}
    for row in table.rows:
        entry = entry_of(row, reader)
        for column, values in said.items():
            if value := entry.text(*COLUMNS[column]):
                values.setdefault(value, entry.line)
        if entry.text(*COLUMNS["item"]).lower() in _TOTALS:
            total = entry.get_amount(*COLUMNS["amount"])
        else:
            drafts.append(_draft(entry))
    number, currency = (the_one(values, column, source) for column, values in said.items())
    return InvoiceDraft(drafts, PROVIDER, number, currency, total)


def the_one(values: dict[str, int], what: str, source: SourceFile) -> str:
    """The value that all lines agree on; empty without any. Raises InvoiceError when they do not."""
    if len(values) > 1:
        (first, first_line), (second, second_line) = list(values.items())[:2]
        raise InvoiceError(
            f"{source.path}:{second_line}: {what} {second!r}, but line {first_line} says {first!r}",
            why="a file is one invoice in one currency",
            fix="split the file into one file for each invoice",
        )
    return next(iter(values), "")


def _draft(entry: InvoiceEntry) -> LineDraft:
    meter = _meter_of(entry)
    unit = entry.text(*COLUMNS["unit"])
    quantity = entry.quantity(*COLUMNS["quantity"])
    minutes = entry.find_amount(*COLUMNS["quantity"])
    if meter is Meter.GPU and unit.lower() in _MINUTES and minutes is not None and minutes != int(minutes):
        raise InvoiceError(
            f"{entry.where}: {quantity} minutes",
            why="instances are billed in whole minutes",
            fix="check the quantity, or its unit",
        )
    end_ms = entry.find_instant(*COLUMNS["end"])
    if end_ms is not None and is_day(entry.get(*COLUMNS["end"])):
        end_ms = after_day(end_ms, entry.reader.zone)
    return LineDraft(
        entry.line,
        meter,
        entry.get_amount(*COLUMNS["amount"]),
        entry.text(*COLUMNS["id"]),
        entry.text(*COLUMNS["sku"]) or str(meter),
        entry.text(*COLUMNS["description"]) or entry.text(*COLUMNS["item"]),
        entry.find_instant(*COLUMNS["start"]),
        end_ms,
        quantity,
        unit,
        entry.quantity(*COLUMNS["price"]),
    )


def _meter_of(entry: InvoiceEntry) -> Meter:
    item = entry.text(*COLUMNS["item"]).lower()
    for words, meter in (
        (("tax",), Meter.TAX),
        (("credit", "refund", "discount"), Meter.CREDIT),
        (("filesystem", "file system", "storage"), Meter.DISK),
        (("instance", "cluster", "gpu"), Meter.GPU),
    ):
        if any(word in item for word in words):
            return meter
    raise InvoiceError(
        f"{entry.where}: the line item {item!r} is unknown",
        why="known are instance, cluster, filesystem, storage, credit, refund, tax and total",
        fix="import the file with a mapping that names its meters",
    )
