"""Invoices: every file becomes lines that sum to its total, or is refused in words that name the line."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import InvoiceError, SettingsError, TunemillError, UnreadableFileError
from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.allocation.windows import narrowed
from orchestrator.finance.invoices.drafts import InvoiceDraft, LineDraft, check_drafts, settle
from orchestrator.finance.invoices.reading import read_invoice
from orchestrator.finance.invoices.values import amount_of

NOVEMBER = 1_793_491_200_000  # 2026-11-01T00:00Z
DAY = 86_400_000
HOUR = 3_600_000

RUNPOD_V1 = """\
[
  {"time": "2026-11-02T00:00:00Z", "podId": "xedezhzb9la3ye", "gpuTypeId": null, "amount": 12.345678901234,
   "timeBilledMs": 21600000, "diskSpaceBilledGb": 50},
  {"time": "2026-11-03T00:00:00Z", "podId": "xedezhzb9la3ye", "gpuTypeId": null, "amount": 0.333333333333,
   "timeBilledMs": 0, "diskSpaceBilledGb": 50}
]
"""
RUNPOD_V2 = """\
{
  "records": [
    {"podId": "xedezhzb9la3ye", "startTime": "2026-11-02T00:00:00Z", "endTime": "2026-11-03T00:00:00Z",
     "totalAmount": 2.30, "gpuAmount": 2.28, "cpuAmount": 0, "diskAmount": 0.02},
    {"podId": "k2b8r8vb1h2c3d", "startTime": "2026-11-02T00:00:00Z", "endTime": "2026-11-03T00:00:00Z",
     "totalAmount": 0.25000000000000006, "gpuAmount": 0.25, "cpuAmount": 0, "diskAmount": 0}
  ],
  "metadata": {"query": {"bucketSize": "day"}, "recordCount": 2, "uniquePodCount": 2,
               "totals": {"totalAmount": 2.55, "gpuAmount": 2.53, "diskAmount": 0.02}}
}
"""
VAST_CHARGES = """\
{"success": true, "count": 1, "total": 1, "next_token": null, "results": [
  {"start": 1793491200, "end": 1793750400, "type": "instance", "source": "instance-12345678",
   "description": "Instance 12345678 Charges - 4 days", "amount": 38.421, "metadata": {"label": "tunemill"}, "items": [
    {"start": 1793491200, "end": 1793750400, "type": "gpu", "source": null,
     "description": "96.000 hours at $0.389/hour", "amount": 37.344, "metadata": {}, "items": []},
    {"start": 1793491200, "end": 1793750400, "type": "storage", "source": null,
     "description": "96.000 hours at $0.010/hour", "amount": 0.96, "metadata": {}, "items": []},
    {"start": 1793491200, "end": 1793750400, "type": "bandwidth", "source": null,
     "description": "11.700 GB at $0.010/GB", "amount": 0.117, "metadata": {}, "items": []}
  ]}
]}
"""
VAST_PAYMENTS = """\
[{"start": 1793577600, "end": 1793577600, "type": "stripe_payments", "source": "stripe-991", "description": "Payment",
  "amount": -50.0, "items": []}]
"""
VAST_OLD = """\
[{"type": "charge", "description": "Instance 123 GPU charge: hours * $/hr", "timestamp": 1793577600,
  "quantity": "10.000", "rate": "0.1000", "amount": "1.000", "instance_id": 123},
 {"type": "charge", "description": "Instance 123 storage charge: GB hours * $/GB hr", "timestamp": 1793577600,
  "quantity": "240.0", "rate": "0.0002", "amount": "0.048", "instance_id": 123}]
"""
LAMBDA = """\
Invoice number,Item,Resource ID,Instance type,Description,Start,End,Quantity,Unit,Unit price,Amount
L-2026-46,Instance,0920582c7ff0,gpu_1x_a100_sxm4,render-1,2026-11-02T08:00:00Z,2026-11-02T18:01:00Z,601,minutes,1.99,19.93
L-2026-46,Filesystem,fs-77,filesystem,models,2026-11-02,2026-11-08,28000,GiB hours,0.000278,7.78
L-2026-46,Service credit,,,Sorry for the outage,,,,,,-5.00
L-2026-46,Sales tax,,,CA 9.25 %,,,,,,2.10
L-2026-46,Total,,,,,,,,,24.81
"""
MAPPING = """\
provider: hetzner
number: R-77
currency: EUR
columns: {amount: Betrag, external_id: Server, meter: Art, start: Von, end: Bis, description: Text, quantity: Menge}
meters: {Grafikkarte: gpu, Platte: disk, Summe: total, Einzahlung: topup}
dates: "%d.%m.%Y"
time_zone: Europe/Berlin
delimiter: ";"
decimal: ","
thousands: "."
"""
MAPPED = """\
Art;Server;Von;Bis;Betrag;Text;Menge
Grafikkarte;srv-1;01.11.2026;30.11.2026;1.234,567891;=1+1;720,5
Platte;srv-1;01.11.2026;30.11.2026;10,00;"Platte; groß";500
Summe;;;;1.244,57;;
Einzahlung;;;;2.000,00;SEPA;
"""
SAMPLES = {
    "runpod-v1.json": (RUNPOD_V1, {}),
    "runpod-v2.json": (RUNPOD_V2, {}),
    "vast.json": (VAST_CHARGES, {}),
    "vast-old.json": (VAST_OLD, {}),
    "lambda.csv": (LAMBDA, {}),
}


def a_file(folder: Path, text: str | bytes, name: str = "invoice.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes, name: str = "invoice.csv", **options):
    return read_invoice(a_file(folder, text, name), **options)


def mapped(folder: Path, text: str, mapping: str = MAPPING, **options):
    plan = a_file(folder, mapping, "mapping.yaml")
    return read(folder, text, mapping=plan, **{"usd_per_unit": "1.1", "rate_source": "ECB, 30 Nov", **options})


def refused(
    folder: Path, text: str | bytes, *, name: str = "invoice.csv", kind=InvoiceError, **options
) -> TunemillError:
    with pytest.raises(kind) as caught:
        read(folder, text, name, **options)
    assert name in caught.value.what
    assert caught.value.fix
    return caught.value


# Styles


def test_a_runpod_history_of_days_is_read_to_the_last_digit(tmp_path):
    invoice = read(tmp_path, RUNPOD_V1)
    gpu, disk = invoice.lines
    assert (invoice.provider, invoice.number, invoice.currency) == ("runpod", "2026-11-02..2026-11-04", "USD")
    assert invoice.total_usd_micros == 12_679_012  # 12.679012234567, rounded once
    assert (gpu.meter, gpu.external_id, gpu.start_ms, gpu.end_ms) == (
        *(Meter.GPU, "xedezhzb9la3ye"),
        *(NOVEMBER + DAY, NOVEMBER + 2 * DAY),
    )
    assert (gpu.quantity, gpu.unit) == ("21600000", "ms")
    assert (disk.meter, disk.description) == (Meter.DISK, "disk of a stopped pod (50 GB)")


def test_runpods_buckets_are_days_unless_one_begins_within_a_day_or_somebody_says(tmp_path):
    hourly = RUNPOD_V1.replace("2026-11-03T00:00:00Z", "2026-11-02T05:00:00Z").replace("21600000", "3600000")
    assert [line.end_ms - line.start_ms for line in read(tmp_path, hourly).lines] == [HOUR, HOUR]
    [monthly, _] = read(tmp_path, RUNPOD_V1.replace("21600000", "216000000"), bucket="month").lines
    assert monthly.end_ms - monthly.start_ms == 30 * DAY
    error = refused(tmp_path, RUNPOD_V1.replace("21600000", "216000000"))
    assert ":2:" in error.what
    assert "--bucket" in error.fix


def test_a_runpod_record_comes_apart_into_gpu_and_disk(tmp_path):
    invoice = read(tmp_path, RUNPOD_V2)
    assert [(line.meter, line.external_id, line.usd_micros) for line in invoice.lines] == [
        (Meter.GPU, "xedezhzb9la3ye", 2_280_000),
        (Meter.DISK, "xedezhzb9la3ye", 20_000),
        (Meter.GPU, "k2b8r8vb1h2c3d", 250_000),
    ]
    assert invoice.total_usd_micros == 2_550_000
    wrong = refused(tmp_path, RUNPOD_V2.replace('"diskAmount": 0.02},', '"diskAmount": 0.12},'))
    assert ":3: the parts do not add up to totalAmount 2.30" in wrong.what
    assert "recordCount" not in wrong.what
    assert "says that there are 3" in refused(tmp_path, RUNPOD_V2.replace('"recordCount": 2', '"recordCount": 3')).what


def test_runpods_csv_is_read_like_its_json(tmp_path):
    text = (
        "podId,time,amount,timeBilledMs,diskSpaceBilledGB,gpuTypeId\n"
        "xedezhzb9la3ye,2026-11-02 00:00:00,12.345678901234,21600000,50,\n"
        "xedezhzb9la3ye,2026-11-03 00:00:00,0.333333333333,0,50,\n"
    )
    assert read(tmp_path, text).lines == read(tmp_path, RUNPOD_V1).lines


def test_a_history_that_names_no_pod_is_refused(tmp_path):
    error = refused(tmp_path, RUNPOD_V1.replace('"podId": "xedezhzb9la3ye"', '"podId": null'))
    assert "grouping=podId" in error.fix


def test_vasts_charges_are_their_innermost_items_over_whole_days(tmp_path):
    invoice = read(tmp_path, VAST_CHARGES)
    assert [(line.meter, line.usd_micros) for line in invoice.lines] == [
        (Meter.GPU, 37_344_000),
        (Meter.DISK, 960_000),
        (Meter.EGRESS, 117_000),
    ]
    gpu = invoice.lines[0]
    assert (gpu.external_id, gpu.quantity, gpu.unit, gpu.unit_price) == ("12345678", "96.000", "hours", "0.389")
    assert (gpu.start_ms, gpu.end_ms) == (NOVEMBER, NOVEMBER + 4 * DAY)
    assert (invoice.start_ms, invoice.end_ms, invoice.number) == (
        NOVEMBER,
        NOVEMBER + 4 * DAY,
        "2026-11-01..2026-11-05",
    )


def test_vasts_items_bear_the_rounding_of_their_sum_and_no_more(tmp_path):
    invoice = read(tmp_path, VAST_CHARGES.replace('"amount": 38.421', '"amount": 38.422'))
    assert invoice.total_usd_micros == 38_422_000
    error = refused(tmp_path, VAST_CHARGES.replace('"amount": 38.421', '"amount": 39.421'))
    assert ":2: the items of instance-12345678 do not add up to 39.421" in error.what


def test_a_page_of_vasts_charges_is_not_the_whole_bill(tmp_path):
    assert "one page, with 1 of 14" in refused(tmp_path, VAST_CHARGES.replace('"total": 1', '"total": 14')).what
    assert "one page" in refused(tmp_path, VAST_CHARGES.replace('"next_token": null', '"next_token": "eyJ2"')).what


def test_a_payment_to_vast_is_a_top_up_and_no_expense(tmp_path):
    invoice = read(tmp_path, VAST_PAYMENTS)
    assert (invoice.total_usd_micros, invoice.topup_usd_micros) == (0, 50_000_000)
    assert "'payout'" in refused(tmp_path, VAST_PAYMENTS.replace("stripe_payments", "payout")).what


def test_a_credit_to_vast_that_somebody_paid_in_is_a_top_up_wherever_its_record_says_so(tmp_path):
    credit = VAST_PAYMENTS.replace('"stripe_payments"', '"credit"')
    bare = credit.replace('"stripe-991"', "null").replace('"Payment"', '"Referral bonus"')
    for paid in (
        credit,
        bare.replace('"items"', '"metadata": {"service": "bitpay"}, "items"'),
        bare.replace("Referral bonus", "Card ends in 0000"),
    ):
        invoice = read(tmp_path, paid)
        assert (invoice.total_usd_micros, invoice.topup_usd_micros) == (0, 50_000_000), paid
    broken_card = bare.replace("Referral bonus", "Compensation for a faulty card at a bank")
    for granted in (bare, broken_card, credit.replace('"Payment"', '"Refund of a payment"')):
        assert read(tmp_path, granted).total_usd_micros == -50_000_000


def test_a_transfer_from_another_account_of_vast_is_money_paid_in(tmp_path):
    transfer = VAST_PAYMENTS.replace("stripe_payments", "transfer").replace("-50.0", "35.5")
    invoice = read(tmp_path, transfer.replace('"end": 1793577600', '"end": null'))
    assert (invoice.total_usd_micros, invoice.topup_usd_micros) == (0, 35_500_000)
    assert "takes money out" in refused(tmp_path, transfer.replace("35.5", "-35.5")).what


def test_vasts_older_list_says_in_words_what_was_charged(tmp_path):
    invoice = read(tmp_path, VAST_OLD)
    gpu, disk = invoice.lines
    assert (gpu.meter, gpu.quantity, gpu.unit_price, gpu.usd_micros) == (Meter.GPU, "10.000", "0.1000", 1_000_000)
    assert (disk.meter, disk.external_id, disk.start_ms, disk.end_ms) == (Meter.DISK, "123", None, None)
    assert (invoice.start_ms, invoice.end_ms) == (NOVEMBER + DAY, NOVEMBER + 2 * DAY)


def test_lambdas_week_has_minutes_filesystems_credit_and_tax(tmp_path):
    invoice = read(tmp_path, LAMBDA)
    assert (invoice.provider, invoice.number, invoice.total_usd_micros) == ("lambda", "L-2026-46", 24_810_000)
    assert [line.meter for line in invoice.lines] == [Meter.GPU, Meter.DISK, Meter.CREDIT, Meter.TAX]
    disk, credit = invoice.lines[1:3]
    assert (disk.start_ms, disk.end_ms) == (NOVEMBER + DAY, NOVEMBER + 8 * DAY)  # its last day belongs to it
    assert credit.usd_micros == -5_000_000
    assert ":2: 601.5 minutes" in refused(tmp_path, LAMBDA.replace(",601,", ",601.5,")).what


def test_a_mapping_reads_any_csv_with_its_own_signs_dates_and_currency(tmp_path):
    invoice = mapped(tmp_path, MAPPED)
    gpu, disk, paid = invoice.lines
    assert (invoice.provider, invoice.number, invoice.currency) == ("hetzner", "R-77", "EUR")
    assert (invoice.usd_per_unit, invoice.rate_source) == ("1.1", "ECB, 30 Nov")
    assert invoice.total_usd_micros == 1_369_027_000  # the stated 1,244.57 EUR, not the lines' 1,244.567891
    assert gpu.usd_micros + disk.usd_micros == 1_369_027_000
    assert (invoice.topup_usd_micros, paid.meter) == (2_200_000_000, Meter.TOPUP)
    assert gpu.start_ms == NOVEMBER - HOUR  # midnight in Berlin
    assert gpu.end_ms == NOVEMBER + 30 * DAY - HOUR
    assert (gpu.description, gpu.quantity, disk.description) == ("=1+1", "720,5", "Platte; groß")


def test_what_computes_is_one_line_so_that_no_time_is_counted_twice(tmp_path):
    text = RUNPOD_V2.replace('"gpuAmount": 2.28, "cpuAmount": 0', '"gpuAmount": 2.18, "cpuAmount": 0.1')
    gpu, disk, _ = read(tmp_path, text).lines
    assert (gpu.meter, gpu.usd_micros, gpu.unit) == (Meter.GPU, 2_280_000, "bucket")
    assert gpu.description == "GPU 2.18, CPU 0.1"
    assert disk.usd_micros == 20_000


# Windows


@pytest.mark.parametrize(
    ("quantity", "unit", "seen", "window"),
    [
        ("10800000", "ms", (8, 11), (8, 11)),
        ("3.5", "hours", (8, 11), (8, 11.5)),  # half an hour was billed and not seen
        ("2", "hours", (8, 11), (8, 10)),
        ("5", "hours", (20, 24), (19, 24)),
        ("5", "hours", (-9, 2), (0, 5)),
        ("3", "hours", (30, 40), (0, 3)),
        ("", "bucket", (8, 11), (8, 11)),
        ("", "bucket", (30, 40), (0, 24)),
        ("24", "hours", (8, 11), (0, 24)),
        ("96", "hours", (8, 11), (0, 24)),
        ("500", "GB", (8, 11), (0, 24)),
        ("", "", (8, 11), (0, 24)),
        ("many", "hours", (8, 11), (0, 24)),
    ],
)
def test_a_bucket_is_narrowed_to_what_was_billed_where_the_rental_was_seen(quantity, unit, seen, window):
    hours = tuple(round(hour * HOUR) for hour in seen)
    assert narrowed((0, 24 * HOUR), quantity, unit, hours) == tuple(round(hour * HOUR) for hour in window)


@given(st.integers(0, DAY), st.integers(-DAY, 2 * DAY), st.integers(0, DAY))
def test_a_narrowed_window_is_as_long_as_was_billed_and_inside_its_bucket(billed, begin, length):
    start, end = narrowed((0, DAY), str(billed), "ms", (begin, begin + length))
    assert 0 <= start <= end <= DAY
    assert end - start == billed


# Laws


amounts = st.decimals(-10_000, 10_000, places=12, allow_nan=False)
credits_and_usage = st.lists(amounts, min_size=1, max_size=60)


def drafts_of(values) -> list[LineDraft]:
    return [
        LineDraft(line, Meter.CREDIT if value < 0 else Meter.GPU, value, external_id=f"r{line}")
        for line, value in enumerate(values, start=2)
    ]


@given(credits_and_usage)
def test_the_lines_sum_to_the_total_rounded_once(values):
    lines = settle(InvoiceDraft(drafts_of(values)), Decimal(1), Path("x"))
    exact = [Fraction(value) * 1_000_000 for value in values]
    assert sum(line.usd_micros for line in lines) == round(sum(exact))
    for line, ideal in zip(lines, exact, strict=True):
        assert abs(line.usd_micros - ideal) < 1
        assert line.usd_micros * ideal >= 0  # a credit stays one


@given(credits_and_usage, st.decimals("0.0001", "200", places=6))
def test_a_rate_of_exchange_multiplies_before_anything_is_rounded(values, rate):
    lines = settle(InvoiceDraft(drafts_of(values)), rate, Path("x"))
    assert sum(line.usd_micros for line in lines) == round(
        sum(Fraction(v) for v in values) * Fraction(rate) * 1_000_000
    )


@given(credits_and_usage)
def test_a_total_stated_in_cents_is_what_is_owed(values):
    cents = round(sum(values), 2)
    lines = settle(InvoiceDraft(drafts_of(values), total=cents), Decimal(1), Path("x"))
    assert sum(line.usd_micros for line in lines) == cents * 1_000_000


@given(st.lists(st.decimals(0, 100, places=12), min_size=1, max_size=20), st.randoms())
def test_shuffled_columns_read_the_same(values, random):
    columns = ["podId", "time", "amount", "timeBilledMs", "diskSpaceBilledGb", "gpuTypeId"]
    rows = [
        dict(zip(columns, [f"pod{n}", "2026-11-02T00:00:00Z", str(v), "5000", "20", "NVIDIA A40"], strict=True))
        for n, v in enumerate(values)
    ]
    shuffled = random.sample(columns, len(columns))
    first, second = (as_csv(order, rows) for order in (columns, shuffled))
    assert first == second
    assert sum(line.usd_micros for line in first) == round(sum(map(Fraction, values)) * 1_000_000)


def as_csv(columns, rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows(rows)
    return lines_of(out.getvalue())


def lines_of(text: str):
    from orchestrator.finance.invoices.entries import FileContext
    from orchestrator.finance.invoices.files import SourceFile
    from orchestrator.finance.invoices.runpod import read_runpod
    from orchestrator.finance.invoices.values import zone_of

    reading = read_runpod(SourceFile(Path("x"), "", text), FileContext(Path("x"), zone_of("UTC")))
    check_drafts(reading, Path("x"))
    return settle(reading, Decimal(1), Path("x"))


usage = st.lists(st.decimals(0, 1000, places=12), min_size=1, max_size=12)


def vast_text(values, random) -> str:
    day = {"start": 1793491200, "end": 1793491200}
    kinds = random.choices(["gpu", "storage", "bandwidth"], k=len(values))
    items = [{**day, "type": kind, "amount": f"@{n}@", "description": f"no {n}"} for n, kind in enumerate(kinds)]
    whole = {**day, "type": "instance", "source": "instance-7", "amount": "@whole@", "items": items}
    text = json.dumps({"results": [whole]}).replace('"@whole@"', f"{sum(values):f}")
    for n, value in enumerate(values):
        text = text.replace(f'"@{n}@"', f"{value:f}")
    return text


def lambda_text(values, random) -> str:
    columns = random.sample(["Item", "Resource ID", "Start", "End", "Amount", "Unit"], 6)
    return table_text(columns, values, ",", str)


def mapped_text(values, random) -> str:
    columns = random.sample(["Art", "Server", "Von", "Bis", "Betrag", "Text", "Menge"], 7)
    return table_text(columns, values, ";", lambda value: str(value).replace(".", ","))


def table_text(columns, values, delimiter, written) -> str:
    constant = {"Item": "Instance", "Start": "2026-11-02", "End": "2026-11-02", "Unit": "minutes", "Menge": "1"}
    constant |= {"Art": "Platte", "Von": "02.11.2026", "Bis": "02.11.2026", "Text": "-"}
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, delimiter=delimiter)
    writer.writeheader()
    for n, value in enumerate(values):
        row = {**constant, "Resource ID": f"r{n}", "Server": f"r{n}", "Amount": f"{value:f}", "Betrag": ""}
        row["Betrag"] = written(f"{value:f}")
        writer.writerow({name: row[name] for name in columns})
    return out.getvalue()


@pytest.mark.parametrize("style", ["vast", "lambda", "mapped"])
@given(values=usage, random=st.randoms())
def test_what_is_written_in_a_style_is_read_back_in_any_order_of_columns(tmp_path_factory, style, values, random):
    folder = tmp_path_factory.getbasetemp()
    text = {"vast": vast_text, "lambda": lambda_text, "mapped": mapped_text}[style](values, random)
    if style == "mapped":
        lines = mapped(folder, text, MAPPING.replace("currency: EUR\n", ""), usd_per_unit=None, rate_source="").lines
    else:
        lines = read(folder, text, f"{style}.txt", style=style).lines
    assert sum(line.usd_micros for line in lines) == round(sum(map(Fraction, values)) * 1_000_000)
    assert len(lines) == len(values)
    assert all(abs(line.usd_micros - value * 1_000_000) < 1 for line, value in zip(lines, values, strict=True))
    assert all(line.end_ms - line.start_ms == DAY for line in lines)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["time", "podId", "amount", "timeBilledMs", "type", "source", "start", "end", "items", "results"]
            ),
            inner,
            max_size=7,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_whatever_json_comes_is_read_or_refused_in_words(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp()
    with suppress(TunemillError):  # and nothing else
        read(folder, json.dumps(value), "any.json")


@given(st.text(max_size=30))
def test_an_amount_is_read_exactly_or_refused(text):
    try:
        found = amount_of(text)
    except ValueError:
        return
    assert found.is_finite()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_style_sums_to_what_it_says_and_is_the_same_twice(tmp_path, name):
    text, options = SAMPLES[name]
    first, second = (read(tmp_path, text, name, **options) for _ in range(2))
    assert first == second
    assert [line.number for line in first.lines] == list(range(1, len(first.lines) + 1))
    assert first.text == text
    assert len(first.sha256) == 64


# Refusals


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"%PDF-1.7 ...", "binary"),
        (b"PK\x03\x04xl", "binary"),
        (b"a\x00b", "binary"),
        ("podId,amount\nstra\xdfe,1\n".encode("cp1252"), ":2: the file is not UTF-8"),
        (b"[1, 2", ":1: the file is not valid JSON"),
        (b'[{"a": 1, "a": 2}]', "two values for 'a'"),
        (b"[" * 100_000, "nested too deeply"),
        (b"date,euros\n1,2\n", "no known layout"),
        (b"[[1]]", "no known layout"),
    ],
)
def test_a_file_that_is_none_is_refused_in_words(tmp_path, content, said):
    error = refused(tmp_path, content, kind=UnreadableFileError)
    assert said in error.what


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2,3\n", ":2: 3 cells under a header of 2 columns"),
        (b'a,b\n"1\n2",2\n3\n', ":4: 1 cells under a header of 2 columns"),
        (b'a,b\n1,"2\n', "not valid CSV"),
        (b"Amount,amount\n1,2\n", ":1: the columns 'Amount' and 'amount' have the same name"),
    ],
)
def test_a_table_that_is_none_is_refused_in_words(tmp_path, content, said):
    assert said in refused(tmp_path, content, kind=UnreadableFileError, style="lambda").what


def test_an_unknown_header_is_answered_with_what_was_found_and_what_is_wanted(tmp_path):
    error = refused(tmp_path, "date,euros\n1,2\n", kind=UnreadableFileError)
    assert "found: date, euros; wanted: runpod: time, podId" in error.why
    assert "--mapping" in error.fix
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_invoice(tmp_path / "nowhere.csv")
    assert "found: Art;Server;Von" in refused(tmp_path, MAPPED, kind=UnreadableFileError).why
    error = refused(tmp_path, "date,euros\n1,2\n", kind=UnreadableFileError, style="lambda")
    assert "wanted: Item, Resource ID" in error.why


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbf" + LAMBDA.encode()).lines == read(tmp_path, LAMBDA).lines


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",19.93\n", ",-19.93\n", ":2: negative usage of -19.93"),
        (",601,", ",-601,", ":2: the quantity is -601"),
        (",-5.00", ",5.00", ":4: a credit of 5.00"),
        ("2026-11-02T18:01:00Z", "2026-11-01T18:01:00Z", ":2: the line ends before it starts"),
        ("2026-11-02T18:01:00Z", "", ":2: the line has a start or an end"),
        ("2026-11-02T18:01:00Z", "11/02/2026", ":2: End: '11/02/2026' may begin with the day or with the month"),
        ("2026-11-02T18:01:00Z", "yesterday", ":2: End: 'yesterday' is not a date"),
        (",19.93\n", ",NaN\n", ":2: Amount: 'NaN' is not a number"),
        (",19.93\n", ",inf\n", ":2: Amount: 'inf' is not a number"),
        (",19.93\n", ",1.9.3\n", ":2: Amount: '1.9.3' has two decimal signs"),
        (",19.93\n", ',"1,234"\n', ":2: Amount: '1,234' may be a thousand or a fraction"),
        (",19.93\n", ",\n", ":2: no Amount"),
        (",19.93\n", ",1e300\n", ":2: Amount: '1e300' is not a possible amount"),
        (",24.81", ",25.81", "the lines add up to 24.81, but the file states a total of 25.81"),
        ("L-2026-46,Sales", "L-2026-47,Sales", ":5: number 'L-2026-47', but line 2 says 'L-2026-46'"),
        ("Sales tax", "Surprise", ":5: the line item 'surprise' is unknown"),
    ],
)
def test_a_line_that_cannot_be_booked_is_named_with_file_and_line(tmp_path, old, new, said):
    assert said in refused(tmp_path, LAMBDA.replace(old, new)).what


def test_a_line_that_stands_there_twice_is_named_with_both_lines(tmp_path):
    lines = LAMBDA.splitlines(keepends=True)
    error = refused(tmp_path, "".join([*lines[:5], lines[1]]))
    assert ":6: the same line is already on line 2" in error.what


def test_a_file_without_lines_is_refused(tmp_path):
    assert "no lines" in refused(tmp_path, LAMBDA.splitlines()[0]).what
    assert "no lines" in refused(tmp_path, "[]").what
    assert "no lines" in refused(tmp_path, '{"results": [], "total": 0}').what


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_json_that_is_not_finite_is_refused(tmp_path, number):
    assert f"{number} is not an amount" in refused(tmp_path, RUNPOD_V1.replace("12.345678901234", number)).what


def test_another_currency_needs_a_rate_and_who_says_so(tmp_path):
    error = refused(tmp_path, LAMBDA, currency="EUR")
    assert "the invoice is in EUR" in error.what
    assert "never guessed" in error.why
    assert "--usd-per-unit" in error.fix
    with pytest.raises(SettingsError, match="without a source"):
        read(tmp_path, LAMBDA, currency="EUR", usd_per_unit="1.1")
    for wrong in ("0", "-1", "nan", "1,1", "much"):
        with pytest.raises(SettingsError, match="--usd-per-unit is wrong"):
            read(tmp_path, LAMBDA, currency="EUR", usd_per_unit=wrong, rate_source="ECB")
    with pytest.raises(SettingsError, match="the invoice is in USD"):
        read(tmp_path, LAMBDA, usd_per_unit="1.1", rate_source="ECB")
    assert "--currency says EUR, the file USD" in refused(tmp_path, RUNPOD_V1, currency="EUR").what


def test_options_say_what_the_file_does_not(tmp_path):
    invoice = read(tmp_path, RUNPOD_V1, provider="runpod-eu", number="NOV", period="2026-11", time_zone="Europe/Berlin")
    assert (invoice.provider, invoice.number) == ("runpod-eu", "NOV")
    assert (invoice.start_ms, invoice.end_ms) == (NOVEMBER - HOUR, NOVEMBER + 30 * DAY - HOUR)
    week = read(tmp_path, LAMBDA, period="2026-11-02..2026-11-09")
    assert (week.start_ms, week.end_ms) == (NOVEMBER + DAY, NOVEMBER + 8 * DAY)
    for options in (
        {"period": "november"},
        {"period": "2026-11-09..2026-11-02"},
        {"time_zone": "Mars/Olympus"},
        {"style": "aws"},
        {"style": "mapped"},
        {"provider": "Run Pod"},
        {"bucket": "decade"},
        {"style": "vast", "mapping": tmp_path / "m.yaml"},
    ):
        with pytest.raises(SettingsError, match="--"):
            read(tmp_path, RUNPOD_V1, **options)
    assert "--number says 'X'" in refused(tmp_path, LAMBDA, number="X").what


def test_without_any_time_somebody_must_name_the_period(tmp_path):
    text = "Item,Resource ID,Unit,Amount\nSales tax,,,2.10\n"
    assert "--period 2026-11" in refused(tmp_path, text).fix
    assert read(tmp_path, text, period="2026-11").start_ms == NOVEMBER


def test_an_hour_that_the_clocks_hold_twice_or_never_is_refused(tmp_path):
    for hour in ("2026-10-25T02:30:00", "2026-03-29T02:30:00"):
        text = LAMBDA.replace("2026-11-02T08:00:00Z", hour)
        assert "write its offset" in refused(tmp_path, text, time_zone="Europe/Berlin").what
        assert read(tmp_path, text).lines[0].start_ms is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Server,", "Knecht,", "the column 'Knecht' cannot be found"),
        ("provider: hetzner\n", "", "the provider of the invoice is unknown"),
        ("Platte: disk, ", "", ":3: the mapping does not say what 'Platte' means"),
        ('decimal: ","', 'decimal: "."', "mapping.yaml:10: thousands: the decimal sign cannot part thousands"),
        ("meters: {", "meter: gold\nmeters: {", "mapping.yaml:5: meter"),
        ("Europe/Berlin", "Mars", "mapping.yaml:7: time_zone"),
        ("columns: {amount: Betrag, ", "columns: {", "mapping.yaml:4: columns.amount: Field required"),
        ("number: R-77", "nummer: R-77", "mapping.yaml:2: nummer: Extra"),
        ('"%d.%m.%Y"', '"%m.%d.%Y"', ":2: Bis: '30.11.2026' is not a date of the form"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_in_words(tmp_path, old, new, said):
    with pytest.raises((InvoiceError, UnreadableFileError)) as caught:
        mapped(tmp_path, MAPPED, MAPPING.replace(old, new))
    assert said in caught.value.what


def test_a_mapping_that_is_no_yaml_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="cannot be read as a mapping"):
        mapped(tmp_path, MAPPED, "columns: {amount: [")
    with pytest.raises(InvoiceError, match="the file"):
        mapped(tmp_path, MAPPED, "- amount\n")


@pytest.mark.parametrize(
    ("text", "decimal", "thousands", "amount"),
    [
        ("$1,234.50", ".", ",", "1234.50"),
        ("-$0.000000000001", ".", ",", "-0.000000000001"),
        ("\u22121.5", ".", ",", "-1.5"),
        ("1.234,5 €", ",", ".", "1234.5"),
        ("1 234,5", ",", " ", "1234.5"),
        ("1e-05", ".", ",", "0.00001"),
        (".5", ".", "", "0.5"),
    ],
)
def test_amounts_are_read_as_they_are_written(text, decimal, thousands, amount):
    assert amount_of(text, decimal=decimal, thousands=thousands) == Decimal(amount)


@pytest.mark.parametrize("text", ["1,23,456", "12,34.5", "1.2.3", "1,2.3,4", "٣", "1_000", "", "--1", "0x10", "1e9999"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        amount_of(text)


def test_a_report_never_sees_a_float(tmp_path):
    text = dedent(RUNPOD_V1).replace("12.345678901234", "0.1").replace("0.333333333333", "0.2")
    assert read(tmp_path, text).total_usd_micros == 300_000
