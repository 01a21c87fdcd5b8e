"""RunPod: the billing history of pods in buckets of an hour, a day or longer, as the API's JSON or as CSV.

Two layouts, after RunPod's API reference as it stood in November 2026. REST v1 (rest.runpod.io/v1/billing/pods) is a
list of {time, podId, gpuTypeId, amount, timeBilledMs, diskSpaceBilledGb}; its one amount is for GPU and disk together,
and it does not say how long its buckets are. REST v2 (api.runpod.io/v2/billing/pods) is {records, metadata}: each
record has podId, startTime, endTime, totalAmount and its parts gpuAmount, cpuAmount and diskAmount, and the metadata
has the query and the totals. Amounts are in USD. RunPod is prepaid and numbers no invoice: the period stands for the
number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from catalog.errors import InvoiceError
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.allocation.windows import BUCKET
from orchestrator.finance.invoices.drafts import InvoiceDraft, LineDraft, plus, slack_of
from orchestrator.finance.invoices.entries import FileContext, InvoiceEntry, entry_of, unknown_layout
from orchestrator.finance.invoices.files import Record, SourceFile, looks_like_json, plain, read_json, read_table

PROVIDER: Final = "runpod"
BUCKETS: Final = ("hour", "day", "week", "month", "year")
WANTED: Final = "time, podId, amount, timeBilledMs; or startTime, endTime, podId, totalAmount, gpuAmount, diskAmount"
_COMPUTE: Final = ("gpuAmount", "cpuAmount", "feeAmount")
_NEW: Final = frozenset(map(plain, ("startTime", "endTime", "totalAmount")))
_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000


def recognizes(columns: Sequence[str]) -> bool:
    """True when a file with these columns or keys is one of RunPod's."""
    names = {plain(column) for column in columns}
    has_id = bool({"podid", "endpointid", "serverlessid"} & names)
    return (names >= _NEW and has_id) or ({"amount", "timebilledms"} <= names and bool({"time", "bucket"} & names))


def read_runpod(source: SourceFile, reader: FileContext, *, bucket: str | None = None) -> InvoiceDraft:
    """Read a billing history. `bucket` says how long the buckets of v1 are; without it, an hour or a day."""
    records, totals = _records_of(source)
    entries = [entry_of(record, reader) for record in records]
    columns = [name for entry in entries for name in entry.values]
    if entries and not recognizes(columns):
        raise unknown_layout(source, ", ".join(dict.fromkeys(columns)), WANTED)
    if set(columns) >= _NEW:
        drafts = [draft for entry in entries for draft in _parts(entry)]
    else:
        length = bucket or _usual_bucket(entries)
        drafts = [_whole(entry, length, is_told=bucket is not None) for entry in entries]
    total = entry_of(totals, reader).find_amount("totalAmount") if totals is not None else None
    return InvoiceDraft(drafts, provider=PROVIDER, currency="USD", total=total)


def _records_of(source: SourceFile) -> tuple[Sequence[Any], Any]:
    if not looks_like_json(source.text):
        return read_table(source).rows, None
    content = read_json(source)
    if isinstance(content, list):
        return content, None
    records, metadata = content.get("records"), content.get("metadata")
    if not isinstance(records, list):
        raise unknown_layout(source, ", ".join(content), WANTED)
    if not isinstance(metadata, Record):
        return records, None
    count = metadata.get("recordCount")
    if count is not None and count != len(records):
        raise InvoiceError(
            f"{source.path}: {len(records)} records, but the file says that there are {count}",
            why="an incomplete bill would be booked as a complete one",
            fix="export the file again, whole",
        )
    return records, metadata.get("totals")


def _id_of(entry: InvoiceEntry) -> str:
    if found := entry.text("podId", "endpointId", "serverlessId"):
        return found
    raise InvoiceError(
        f"{entry.where}: no podId",
        why="the history was grouped by GPU, so it does not name the billed rental",
        fix="request the history from RunPod with grouping=podId",
    )


def _parts(entry: InvoiceEntry) -> Iterator[LineDraft]:
    """The parts of a v2 record, which add up to its total: the compute in one line, and the disk."""
    total, disk = entry.get_amount("totalAmount"), entry.find_amount("diskAmount") or Decimal(0)
    named = {name: entry.find_amount(name) or Decimal(0) for name in _COMPUTE}
    compute = sum((Fraction(amount) for amount in named.values()), Fraction())
    off = Fraction(total) - compute - Fraction(disk)
    if abs(off) > slack_of(total):
        raise InvoiceError(
            f"{entry.where}: the parts do not add up to totalAmount {total}",
            why=", ".join(f"{name} {amount}" for name, amount in {**named, "diskAmount": disk}.items()),
            fix="export the file again, or ask RunPod",
        )
    # The total is billed: the provider's own rounding, below half a cent, stays with the larger part.
    if compute < Fraction(disk):
        disk, off = plus(disk, off), Fraction()
    words = ", ".join(f"{name.removesuffix('Amount').upper()} {amount}" for name, amount in named.items() if amount)
    draft = LineDraft(
        entry.line,
        Meter.GPU,
        plus(Decimal(0), compute + off),
        _id_of(entry),
        entry.text("gpuTypeId", "gpuId") or "GPU",
        words,
        entry.get_instant("startTime"),
        entry.get_instant("endTime"),
        unit=BUCKET,
    )
    if draft.amount or not disk:
        yield draft
    if disk:
        yield draft._replace(meter=Meter.DISK, amount=disk, sku="disk", description="disk of a pod", unit="")


def _whole(entry: InvoiceEntry, bucket: str, *, is_told: bool) -> LineDraft:
    """A record of v1: one amount for GPU and disk together."""
    start_ms = entry.get_instant("time", "bucket")
    end_ms = _end_of(start_ms, bucket, entry.reader)
    billed_ms = entry.find_amount("timeBilledMs")
    disk_gb = entry.find_amount("diskSpaceBilledGb")  # the API itself spells it Gb and GB
    if billed_ms and not is_told and billed_ms > end_ms - start_ms:
        raise InvoiceError(
            f"{entry.where}: {billed_ms} ms were billed in a bucket of one {bucket}",
            why="the file does not state the length of its buckets, and this bucket must be longer",
            fix=f"name the length with --bucket: {', '.join(BUCKETS)}",
        )
    is_disk = not billed_ms and bool(disk_gb)
    description = "disk of a stopped pod" if is_disk else "GPU and disk, not told apart by the provider"
    return LineDraft(
        entry.line,
        Meter.DISK if is_disk else Meter.GPU,
        entry.get_amount("amount"),
        _id_of(entry),
        "disk" if is_disk else entry.text("gpuTypeId") or "GPU",
        description + (f" ({entry.text('diskSpaceBilledGb')} GB)" if disk_gb else ""),
        start_ms,
        end_ms,
        entry.quantity("timeBilledMs") if billed_ms else "",
        "ms" if billed_ms else "",
    )


def _usual_bucket(entries: Sequence[InvoiceEntry]) -> str:
    """An hour when any bucket begins within a day, else a day, which is the API's default."""
    starts = [entry.get_instant("time", "bucket") for entry in entries]
    return "hour" if any(start % _DAY_MS for start in starts) else "day"


def _end_of(start_ms: int, bucket: str, reader: FileContext) -> int:
    if bucket in ("hour", "day", "week"):
        return start_ms + {"hour": _HOUR_MS, "day": _DAY_MS, "week": 7 * _DAY_MS}[bucket]
    start = datetime.fromtimestamp(start_ms / 1000, tz=reader.zone)
    months = 1 if bucket == "month" else 12
    count = start.year * 12 + start.month - 1 + months
    end = start.replace(year=count // 12, month=count % 12 + 1, day=1) + timedelta(days=start.day - 1)
    return int(end.timestamp()) * 1000
