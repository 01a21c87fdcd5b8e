"""FOCUS rows and files: the same money as the books, twice over, exactly."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import SettingsError, TunemillError
from orchestrator.finance.allocation.charges import ChargeKind, CostEntry, Meter
from orchestrator.finance.focus.columns import COLUMN_OF_NAME, COLUMNS, NAMES, DataType
from orchestrator.finance.focus.conformance import check_allocation_file, check_rental_file
from orchestrator.finance.focus.measures import decimal_text, find_measure, measure_of_ms, nano_of
from orchestrator.finance.focus.rows import find_left_out, rows_of
from orchestrator.finance.focus.writing import ALLOCATION_CSV, METADATA_JSON, RENTAL_CSV, guarded, write_focus
from orchestrator.ledger.observations import UNALLOCATED, Category
from tests.support.focus_charges import (
    DECEMBER,
    JANUARY,
    NOVEMBER,
    A,
    B,
    S,
    a_charge,
    a_focus_charge,
    a_rental,
    focus_charges,
    ms,
    worked_example,
)


def written(charges, folder: Path, *, parquet: bool = False, by_day: bool = True) -> list[Path]:
    return write_focus(charges, folder, period="2026-11", time_zone="UTC", parquet=parquet, by_day=by_day)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def total(rows, name: str) -> Decimal:
    return sum((Decimal(row[name]) for row in rows if row[name]), Decimal(0))


def both(charge, **options):
    rows = rows_of(charge, **options)
    return rows.rental, rows.allocation


# ------------------------------------------------------------ the worked example


def test_the_worked_example_is_billed_to_the_cent_in_both_files(tmp_path):
    written(worked_example(), tmp_path)
    rental, allocation = read(tmp_path / RENTAL_CSV), read(tmp_path / ALLOCATION_CSV)
    for rows in (rental, allocation):
        usage = [row for row in rows if row["ChargeCategory"] == "Usage"]
        assert total(usage, "BilledCost") == Decimal("2.55")
        assert total(rows, "BilledCost") == total(rows, "EffectiveCost") == Decimal("2.45")
    zones = {
        zone: total([row for row in allocation if row["x_Zone"] == zone], "BilledCost") for zone in ("lobby", "spa")
    }
    assert zones == {"lobby": Decimal("1.577907"), "spa": Decimal("0.972093")}
    accepted = [row for row in allocation if row["x_Outcome"] == "accepted"]
    assert total(accepted, "BilledCost") == Decimal("1.766600")


def test_the_worked_example_conforms(tmp_path):
    written(worked_example(), tmp_path)
    assert check_rental_file(tmp_path / RENTAL_CSV, {("runpod", "INV-1"): 2_450_000}) == []
    assert check_allocation_file(tmp_path / ALLOCATION_CSV, tmp_path / RENTAL_CSV) == []


def test_a_rental_row_says_what_was_bought_at_what_price(tmp_path):
    written(worked_example(), tmp_path)
    row = read(tmp_path / RENTAL_CSV)[0]
    # 5,000 s are 1.388888889 h; list cost is the product to the last digit, the bill has the provider's rounding.
    assert (row["PricingQuantity"], row["PricingUnit"], row["ListUnitPrice"]) == ("1.388888889", "Hours", "1.640000")
    assert Decimal(row["ListCost"]) == Decimal("2.27777777796")
    assert (row["BilledCost"], row["SkuPriceId"], row["PricingCategory"]) == ("2.280000", "a100@2026-11-20", "Standard")
    assert (row["ResourceId"], row["ResourceName"], row["ChargeDescription"]) == ("r1", "worker-1", "a100: GPU time")
    assert json.loads(row["Tags"]) == {"env": "prod", "run": "run1"}
    assert (row["InvoiceId"], row["InvoiceDetailId"], row["ChargeClass"]) == ("INV-1", "INV-1/1", "")


def test_spot_is_dynamic_at_the_bid_and_keeps_its_list_price(tmp_path):
    written(worked_example(), tmp_path)
    row = next(row for row in read(tmp_path / RENTAL_CSV) if row["ResourceId"] == "r2")
    assert row["PricingCategory"] == "Dynamic"
    assert (row["ContractedUnitPrice"], row["ListUnitPrice"]) == ("0.900000", "1.640000")


def test_a_credit_costs_what_it_gives_back_and_counts_nothing(tmp_path):
    written(worked_example(), tmp_path)
    row = next(row for row in read(tmp_path / RENTAL_CSV) if row["ChargeCategory"] == "Credit")
    assert {row[name] for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")} == {"-0.100000"}
    assert not any(
        row[name] for name in ("PricingQuantity", "ConsumedQuantity", "SkuId", "SkuPriceId", "ListUnitPrice")
    )
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")


def test_an_allocated_row_names_its_payer_and_its_share():
    rental, allocation = both(worked_example()[0])
    row = next(row for row in allocation if (row["x_Zone"], row["x_Outcome"]) == ("spa", "accepted"))
    assert row["AllocatedMethodId"] == "busy-ms.v1"
    assert json.loads(row["AllocatedMethodDetails"])["Elements"] == [
        {"AllocatedRatio": 0.24, "UsageUnit": "Seconds", "UsageQuantity": 1200.0}
    ]
    assert (row["AllocatedResourceId"], row["AllocatedResourceName"]) == ("run1/spa/accepted", "spa")
    assert json.loads(row["AllocatedTags"]) == {"catalog": "spring", "genre": "ambient", "zone": "spa"}
    assert row["x_OriginId"] == rental[0]["x_OriginId"]
    assert all(rental[0][name] is None for name in NAMES if name.startswith("Allocated"))


def test_what_nobody_pays_for_has_no_allocated_resource():
    _, [row] = both(a_focus_charge(entries=(CostEntry(Category.IDLE, UNALLOCATED, 2_280_000, 5_000 * S),)))
    assert row["AllocatedResourceId"] is row["AllocatedResourceName"] is row["AllocatedTags"] is None
    assert (row["AllocatedMethodId"], row["x_Zone"]) == ("busy-ms.v1", "unallocated")


def test_allocated_tags_leave_out_what_the_whole_rental_is_tagged_with():
    _, [row] = both(a_focus_charge(tags={"catalog": "spring"}))
    assert "catalog" not in json.loads(row["AllocatedTags"])


# ------------------------------------------------------------ days


def test_a_charge_is_cut_at_midnight_utc_and_its_parts_add_up():
    charge = a_charge(start_ms=ms("2026-11-03T22:00:00"), end_ms=ms("2026-11-05T01:00:00"), usd_micros=1_000_001)
    rental, allocation = both(a_focus_charge(charge))
    assert [row["ChargePeriodStart"] for row in rental] == [
        *("2026-11-03T22:00:00Z", "2026-11-04T00:00:00Z", "2026-11-05T00:00:00Z")
    ]
    assert rental[-1]["ChargePeriodEnd"] == "2026-11-05T01:00:00Z"
    assert [row["PricingQuantity"] for row in rental] == ["2.000000000", "24.000000000", "1.000000000"]
    assert total(rental, "BilledCost") == total(allocation, "BilledCost") == Decimal("1.000001")
    assert len({row["x_OriginId"] for row in rental}) == 3


def test_a_charge_stays_whole_when_days_are_not_asked_for():
    charge = a_charge(start_ms=ms("2026-11-03T22:00:00"), end_ms=ms("2026-11-05T01:00:00"))
    rental, _ = both(a_focus_charge(charge), by_day=False)
    assert [row["PricingQuantity"] for row in rental] == ["27.000000000"]


def test_less_than_a_second_still_has_a_window():
    [row], _ = both(a_focus_charge(a_charge(start_ms=NOVEMBER + 100, end_ms=NOVEMBER + 300)))
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-11-01T00:00:01Z")


# ------------------------------------------------------------ prices and kinds


def test_several_gpus_are_hours_of_gpu_time():
    [row], _ = both(a_focus_charge(entries=(), rental=a_rental(gpu_count=4)))
    assert row["PricingQuantity"] == "5.555555556"
    both_lanes = tuple(CostEntry(Category.ACCEPTED, payer, 1_140_000, 5_000 * S) for payer in (A, B))
    [row], _ = both(a_focus_charge(entries=both_lanes))
    assert row["PricingQuantity"] == "2.777777778"


def test_a_line_that_states_a_quantity_is_believed():
    [row], _ = both(a_focus_charge(measure=find_measure("5040", "seconds", "0.0005"), list_unit_price=None))
    assert (row["PricingQuantity"], row["PricingUnit"]) == ("1.400000000", "Hours")
    assert row["ListUnitPrice"] == row["ContractedUnitPrice"] == "1.800000"


def test_a_line_without_any_unit_price_is_one_unit_at_its_amount():
    charge = a_charge(Meter.EGRESS, usd_micros=-123_456, rate_usd_micros_per_h=None, sku="egress")
    [row], _ = both(a_focus_charge(charge, list_unit_price=None, price_valid_from=""), by_day=False)
    assert (row["PricingQuantity"], row["PricingUnit"], row["ListUnitPrice"]) == ("-1.000000000", "Units", "0.123456")
    assert Decimal(row["ListCost"]) == Decimal(row["BilledCost"]) == Decimal("-0.123456")
    assert row["SkuPriceId"] == "egress"


def test_an_estimate_has_no_invoice_and_names_its_price():
    charge = a_charge(kind=ChargeKind.ESTIMATE, source="price book 2026-11-20", invoice_line_id=None)
    [row], _ = both(a_focus_charge(charge))
    assert (row["InvoiceId"], row["InvoiceDetailId"]) == (None, None)
    assert (row["x_Kind"], row["x_Source"]) == ("estimate", "price book 2026-11-20")


def test_a_tax_has_neither_sku_nor_price():
    [row], _ = both(a_focus_charge(a_charge(Meter.TAX, usd_micros=190_000)))
    assert row["ChargeCategory"] == "Tax"
    assert row["SkuId"] is row["SkuPriceId"] is row["ListUnitPrice"] is row["PricingCategory"] is None
    assert row["ListCost"] == row["BilledCost"] == "0.190000"


def test_money_paid_in_advance_is_billed_when_paid_and_costs_when_used():
    topup = a_focus_charge(a_charge(Meter.TOPUP, usd_micros=50_000_000, rental_id=None), entries=(), rental=None)
    assert rows_of(topup) == ([], [])
    assert [each.why for each in find_left_out([topup])] == ["money paid in advance is no expense"]
    [row], _ = both(topup._replace(is_prepaid=True))
    assert (row["ChargeCategory"], row["BilledCost"], row["EffectiveCost"]) == ("Purchase", "50.000000", "0.000000")
    [row], _ = both(a_focus_charge(is_prepaid=True))
    assert (row["BilledCost"], row["EffectiveCost"]) == ("0.000000", "2.280000")


def test_what_is_booked_after_its_month_was_closed_is_a_correction():
    [row], _ = both(a_focus_charge(period="2026-12", billing_start_ms=DECEMBER, billing_end_ms=JANUARY))
    assert row["ChargeClass"] == "Correction"
    [row], _ = both(a_focus_charge(corrects_invoiced=True))
    assert row["ChargeClass"] == "Correction"


def test_a_reversal_undoes_every_number_of_what_it_reverses():
    charge = worked_example()[0]
    entries = tuple(each._replace(usd_micros=-each.usd_micros, ms=-each.ms) for each in charge.posting.entries)
    undone = charge.posting.charge._replace(usd_micros=-2_280_000)
    posting = charge.posting._replace(posting_id=9, reverses_id=1, charge=undone, entries=entries)
    rental, allocation = both(charge)
    back, allocation_back = both(charge._replace(posting=posting))
    for before, after in ((rental, back), (allocation, allocation_back)):
        for name in ("BilledCost", "EffectiveCost", "ListCost", "PricingQuantity", "ConsumedQuantity"):
            assert [Decimal(row[name]) for row in after] == [-Decimal(row[name]) for row in before]


def test_what_another_issuer_is_paid_for_is_not_billed():
    [row], _ = both(a_focus_charge(issuer="reseller"))
    assert (row["BilledCost"], row["EffectiveCost"], row["ProviderName"]) == ("0.000000", "2.280000", "runpod")


def test_an_unknown_price_is_left_out_and_named_never_zero(tmp_path):
    unknown = a_focus_charge(a_charge(usd_micros=None, rate_usd_micros_per_h=None))
    assert rows_of(unknown) == ([], [])
    [left_out] = find_left_out([unknown])
    assert (left_out.key, left_out.ms, left_out.why) == ("gpu-1", 5_000 * S, "its price is unknown")
    written([unknown, *worked_example()], tmp_path)
    assert [each["key"] for each in json.loads((tmp_path / METADATA_JSON).read_text())["x_LeftOut"]] == ["gpu-1"]


def test_the_metadata_escapes_what_steers_a_terminal(tmp_path):
    key = "gpu\x1b[2J\x7f\u202e\ud800"
    written([a_focus_charge(a_charge(usd_micros=None, rate_usd_micros_per_h=None, key=key))], tmp_path)
    text = (tmp_path / METADATA_JSON).read_text()
    assert all(each.isprintable() or each == "\n" for each in text)
    assert [each["key"] for each in json.loads(text)["x_LeftOut"]] == [key]


@pytest.mark.parametrize("amounts", [(1_000_000, 1_000_000), (3_000_000, -720_000)])
def test_entries_that_do_not_make_up_their_charge_are_refused(amounts):
    entries = tuple(
        CostEntry(Category.ACCEPTED, payer, micros, 1) for payer, micros in zip((A, B), amounts, strict=True)
    )
    with pytest.raises(TunemillError, match="entries of gpu-1"):
        rows_of(a_focus_charge(entries=entries))


# ------------------------------------------------------------ measures


def test_hours_are_counted_in_billionths():
    assert measure_of_ms(3_600_000) == (10**9, "Hours", None)
    assert measure_of_ms(1).nano_units == 278
    assert find_measure("90", "min").nano_units == nano_of(Decimal("1.5"))


@pytest.mark.parametrize(("quantity", "unit"), [("", "hours"), ("1", "furlongs"), ("NaN", "hours"), ("Infinity", "h")])
def test_what_no_line_can_mean_is_no_measure(quantity, unit):
    assert find_measure(quantity, unit) is None


def test_decimals_are_written_without_a_float():
    assert decimal_text(-1_640_000, 6) == "-1.640000"
    assert decimal_text(2_277_777_777_960_000_000, 18, at_least=6) == "2.27777777796"
    assert decimal_text(0, 18, at_least=6) == "0.000000"


# ------------------------------------------------------------ laws


@settings(max_examples=60, deadline=None)
@given(
    charges=st.lists(focus_charges(), max_size=5, unique_by=lambda each: each.posting.posting_id), by_day=st.booleans()
)
def test_any_books_conform_and_add_up_to_the_micro(charges, by_day):
    with TemporaryDirectory() as name:
        folder = Path(name)
        written(charges, folder, by_day=by_day)
        rental, allocation = read(folder / RENTAL_CSV), read(folder / ALLOCATION_CSV)
        totals: Counter[tuple[str, str]] = Counter()
        for row in rental:
            if row["InvoiceId"]:
                totals[row["InvoiceIssuerName"], row["InvoiceId"]] += int(Decimal(row["BilledCost"]).scaleb(6))
        assert check_rental_file(folder / RENTAL_CSV, dict(totals)) == []
        assert check_allocation_file(folder / ALLOCATION_CSV, folder / RENTAL_CSV) == []
    exported = [each for each in charges if each.posting.charge.meter is not Meter.TOPUP]
    owed = sum(each.posting.charge.usd_micros for each in exported)
    for rows in (rental, allocation):
        assert total(rows, "EffectiveCost").scaleb(6) == owed


# ------------------------------------------------------------ files


def test_the_same_charges_give_the_same_bytes(tmp_path):
    first = [path.read_bytes() for path in written(worked_example(), tmp_path / "a")]
    assert first == [path.read_bytes() for path in written(worked_example(), tmp_path / "b")]


def test_a_month_that_fails_leaves_no_file_under_its_name(tmp_path):
    broken = a_focus_charge(entries=(CostEntry(Category.ACCEPTED, A, 1, 1),))
    with pytest.raises(TunemillError):
        written([*worked_example(), broken], tmp_path)
    assert not any(path.suffix in (".csv", ".json") for path in tmp_path.iterdir())


def test_csv_is_rfc_4180_with_empty_cells_for_null(tmp_path):
    written([a_focus_charge(account_name=None)], tmp_path)
    text = (tmp_path / RENTAL_CSV).read_bytes().decode()
    assert text.count("\r\n") == 2
    assert text.splitlines()[0] == ",".join(NAMES)
    assert "None" not in text
    assert read(tmp_path / RENTAL_CSV)[0]["BillingAccountName"] == ""


def test_text_that_looks_like_a_formula_is_guarded_in_both_files_and_numbers_are_not(tmp_path):
    evil = A._replace(zone="=1+1")
    charge = a_charge(Meter.CREDIT, usd_micros=-5, source="@SUM(A1)")
    written([a_focus_charge(charge, (CostEntry(Category.CREDIT, evil, -5, 0),), invoice_id="-INV")], tmp_path)
    [rental], [allocation] = read(tmp_path / RENTAL_CSV), read(tmp_path / ALLOCATION_CSV)
    assert rental["InvoiceId"] == allocation["InvoiceId"] == "'-INV"
    assert (rental["x_Source"], allocation["x_Zone"]) == ("'@SUM(A1)", "'=1+1")
    assert rental["BilledCost"] == "-0.000005"
    assert json.loads(allocation["AllocatedTags"])["zone"] == "=1+1"  # an object begins with a brace
    assert guarded("a=b") == "a=b"


def test_the_metadata_says_what_the_files_hold(tmp_path):
    paths = written(worked_example(), tmp_path)
    metadata = json.loads(paths[-1].read_text(encoding="utf-8"))
    assert metadata["FocusVersion"] == "1.2"
    assert [each["ColumnName"] for each in metadata["ColumnDefinition"]] == list(NAMES)
    assert metadata["x_FileNames"] == [RENTAL_CSV, ALLOCATION_CSV]
    rental, allocation = metadata["x_Files"]
    assert rental["BilledCost"] == allocation["BilledCost"] == "2.450000"
    assert rental["Rows"] == len(read(tmp_path / RENTAL_CSV)) == 4
    assert (metadata["x_Period"], metadata["x_TimeZone"]) == ("2026-11", "UTC")


def test_our_own_columns_come_last_and_the_others_by_name():
    focus = [column.name for column in COLUMNS if not column.is_ours]
    assert focus == sorted(focus)
    assert list(NAMES[: len(focus)]) == focus


# ------------------------------------------------------------ Parquet


@pytest.fixture
def duckdb():
    try:
        import duckdb
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail("duckdb is not installed, and CI promises it")
        pytest.skip("duckdb is not installed: pip install 'tunemill[parquet]'")
    return duckdb


def test_parquet_holds_the_same_rows_with_types(tmp_path, duckdb):
    odd = A._replace(zone="=1+1", genre='zwei\nZeilen, "so"')
    charges = [*worked_example(), a_focus_charge(entries=(CostEntry(Category.IDLE, odd, 2_280_000, 1),), posting_id=5)]
    paths = written(charges, tmp_path, parquet=True)
    assert [path.name for path in paths[2:4]] == ["focus-rental.parquet", "focus-allocation.parquet"]
    with duckdb.connect() as connection:
        for path in paths[2:4]:
            table = connection.read_parquet(str(path))
            assert table.columns == list(NAMES)
            types = dict(zip(table.columns, map(str, table.types), strict=True))
            assert (types["BilledCost"], types["ListCost"]) == ("DECIMAL(38,6)", "DECIMAL(38,18)")
            assert (types["ChargePeriodStart"], types["Tags"]) == ("TIMESTAMP", "VARCHAR")
            cells = [dict(zip(NAMES, row, strict=True)) for row in table.fetchall()]
            plain = read(path.with_suffix(".csv"))
            assert len(cells) == len(plain)
            for typed, text in zip(cells, plain, strict=True):
                for name in NAMES:
                    assert_same(typed[name], text[name], COLUMN_OF_NAME[name].type)
            last = cells[-1]
    assert (last["x_Zone"], last["x_Genre"]) == ("=1+1", 'zwei Zeilen, "so"')


def assert_same(typed, text: str, kind: DataType) -> None:
    if not text:
        assert typed is None
    elif kind is DataType.DECIMAL:
        assert typed == Decimal(text)
    elif kind is DataType.DATETIME:
        assert typed.strftime("%Y-%m-%dT%H:%M:%SZ") == text
    else:
        assert guarded(typed) == text


def test_nothing_but_the_files_is_left_in_the_folder(tmp_path, duckdb):
    paths = written(worked_example(), tmp_path, parquet=True)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_parquet_comes_out_the_same_byte_for_byte(tmp_path, duckdb):
    first, second = (written(worked_example(), tmp_path / name, parquet=True) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_parquet_without_duckdb_is_refused_in_words_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(SettingsError, match="pip install"):
        written(worked_example(), tmp_path / "out", parquet=True)
    assert not (tmp_path / "out").exists()
