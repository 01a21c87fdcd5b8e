"""The check of FOCUS files: every rule is broken once, on purpose, and that rule is what the check names."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import NamedTuple

import pytest

from orchestrator.finance.allocation.charges import Meter
from orchestrator.finance.focus.columns import NAMES
from orchestrator.finance.focus.conformance import check_allocation_file, check_rental_file
from orchestrator.finance.focus.rules import Breach, Rule
from orchestrator.finance.focus.writing import ALLOCATION_CSV, RENTAL_CSV, write_focus
from tests.support.focus_charges import a_charge, a_focus_charge, worked_example

Table = list[list[str]]  # the header, then rows
TOTALS = {("runpod", "INV-1"): 2_640_000}
USAGE, DISK, SPOT, CREDIT, TAX, PURCHASE = range(1, 7)  # rows of the rental file below


class Mutation(NamedTuple):
    rule: Rule
    file: str
    change: Callable[[Table], object]


def rental(rule: Rule, change: Callable[[Table], object]) -> Mutation:
    return Mutation(rule, RENTAL_CSV, change)


def allocation(rule: Rule, change: Callable[[Table], object]) -> Mutation:
    return Mutation(rule, ALLOCATION_CSV, change)


def cell(row: int, name: str, text: str) -> Callable[[Table], object]:
    return lambda table: table[row].__setitem__(table[0].index(name), text)


def cells(row: int, **texts: str) -> Callable[[Table], object]:
    return lambda table: [cell(row, name, text)(table) for name, text in texts.items()]


def without(name: str) -> Callable[[Table], object]:
    def change(table: Table) -> None:
        at = table[0].index(name)
        for row in table:
            del row[at]

    return change


def renamed(name: str, other: str) -> Callable[[Table], object]:
    return lambda table: table[0].__setitem__(table[0].index(name), other)


def moved_to_the_end(name: str) -> Callable[[Table], object]:
    def change(table: Table) -> None:
        at = table[0].index(name)
        for row in table:
            row.append(row.pop(at))

    return change


def doubled(table: Table) -> None:
    at = table[0].index("Tags")
    for row in table:
        row.append(row[at])


MUTATIONS = [
    rental(Rule.COLUMN_MISSING, without("PublisherName")),
    rental(Rule.COLUMN_MISSING, without("SkuPriceDetails")),
    rental(Rule.COLUMN_UNKNOWN, renamed("x_Source", "Source")),
    rental(Rule.COLUMN_TWICE, doubled),
    rental(Rule.COLUMN_ORDER, moved_to_the_end("Tags")),
    rental(Rule.CELL_COUNT, lambda table: table[USAGE].append("")),
    rental(Rule.NOT_NULL, cell(USAGE, "BilledCost", "")),
    rental(Rule.NOT_NULL, cell(USAGE, "HostProviderName", "")),
    rental(Rule.PLACEHOLDER, cell(USAGE, "BillingAccountName", "N/A")),
    rental(Rule.PLACEHOLDER, cell(USAGE, "ChargeDescription", "  ")),
    rental(Rule.DECIMAL, cell(USAGE, "ListCost", "$2.28")),
    rental(Rule.DECIMAL, cell(USAGE, "PricingQuantity", "1,388")),
    rental(Rule.MONEY_DECIMALS, cell(USAGE, "EffectiveCost", "2.28")),
    rental(Rule.SCALE, cell(USAGE, "ConsumedQuantity", "1.3888888890")),
    rental(Rule.INSTANT, cell(USAGE, "ChargePeriodStart", "2026-11-01T21:56:40+00:00")),
    rental(Rule.INSTANT, cell(USAGE, "ChargePeriodStart", "2026-11-31T00:00:00Z")),
    rental(Rule.JSON, cell(USAGE, "Tags", "{")),
    rental(Rule.JSON, cell(USAGE, "Tags", "[]")),
    rental(Rule.JSON, cell(USAGE, "Tags", '{"run":{"id":1}}')),
    rental(Rule.JSON, cell(USAGE, "Tags", '{"run":1,"run":2}')),
    rental(Rule.CLOSED_LIST, cell(USAGE, "ChargeCategory", "Rent")),
    rental(Rule.CLOSED_LIST, cell(USAGE, "ChargeClass", "Corrected")),
    rental(Rule.CLOSED_LIST, cell(USAGE, "PricingCategory", "Spot")),
    rental(Rule.CURRENCY, cells(USAGE, BillingCurrency="usd", PricingCurrency="usd")),
    rental(Rule.FORMULA, cell(USAGE, "ResourceName", "=HYPERLINK(1)")),
    rental(Rule.COMMITMENT, cell(USAGE, "CommitmentDiscountStatus", "Used")),
    rental(Rule.PRICED, cell(USAGE, "SkuPriceId", "")),
    rental(Rule.PRICED, cells(USAGE, PricingQuantity="", PricingUnit="")),
    rental(Rule.CONSUMED, cells(USAGE, ConsumedQuantity="", ConsumedUnit="")),
    rental(Rule.CONSUMED, cells(CREDIT, ConsumedQuantity="1.000000000", ConsumedUnit="Hours")),
    rental(Rule.TAX_WITHOUT_PRICE, cell(TAX, "SkuId", "a100")),
    rental(Rule.CREDIT_WITHOUT_QUANTITY, cells(CREDIT, PricingQuantity="1.000000000", PricingUnit="Units")),
    rental(Rule.TOGETHER, cell(USAGE, "PricingUnit", "")),
    rental(Rule.TOGETHER, cell(USAGE, "RegionName", "")),
    rental(Rule.NEEDS, cells(USAGE, InvoiceId="", InvoiceDetailId="7")),
    rental(Rule.FREQUENCY, cell(PURCHASE, "ChargeFrequency", "Usage-Based")),
    rental(Rule.PRICE_SIGN, cell(USAGE, "ListUnitPrice", "-1.640000")),
    rental(Rule.LIST_COST, cell(USAGE, "ListCost", "2.277778")),
    rental(Rule.CONTRACTED_COST, cell(USAGE, "ContractedCost", "2.277778")),
    rental(Rule.UNPRICED_COST, cell(CREDIT, "ListCost", "0.000000")),
    rental(Rule.EFFECTIVE_COST, cells(USAGE, EffectiveCost="2.280001", PricingCurrencyEffectiveCost="2.280001")),
    rental(Rule.EFFECTIVE_COST, cells(PURCHASE, EffectiveCost="50.000000", PricingCurrencyEffectiveCost="50.000000")),
    rental(Rule.EFFECTIVE_COST, cell(CREDIT, "BilledCost", "0.000000")),
    rental(Rule.SAME_CURRENCY, cell(USAGE, "PricingCurrencyListUnitPrice", "1.650000")),
    rental(Rule.PERIOD_ORDER, cell(USAGE, "ChargePeriodEnd", "2026-11-01T00:00:00Z")),
    rental(Rule.PERIOD_WITHIN, cell(USAGE, "ChargePeriodEnd", "2026-12-01T00:00:01Z")),
    rental(Rule.PERIOD_WITHIN, cell(USAGE, "ChargePeriodStart", "2026-10-31T23:59:59Z")),
    rental(Rule.VENDOR, cell(USAGE, "PublisherName", "another")),
    rental(Rule.ISSUER, cell(USAGE, "InvoiceIssuerName", "reseller")),
    rental(Rule.SERVICE, cell(SPOT, "ServiceSubcategory", "Containers")),
    rental(Rule.SUBCATEGORY, cell(USAGE, "ServiceSubcategory", "Block Storage")),
    rental(Rule.SKU_PRICE, cell(SPOT, "SkuId", "h100")),
    rental(Rule.INVOICE_SUM, cells(USAGE, BilledCost="2.280001", EffectiveCost="2.280001")),
    rental(Rule.INVOICE_SUM, cell(USAGE, "InvoiceId", "INV-9")),
    rental(Rule.ORIGIN_TWICE, lambda table: table.append(table[USAGE])),
    rental(Rule.NOT_SPLIT, cell(USAGE, "AllocatedMethodId", "busy-ms.v1")),
    allocation(Rule.SPLIT_METHOD, cell(1, "AllocatedMethodId", "")),
    allocation(Rule.SPLIT_METHOD, cell(1, "AllocatedMethodDetails", '{"Elements":[{}]}')),
    allocation(Rule.UNALLOCATED, cell(1, "AllocatedResourceId", "")),
    allocation(Rule.ALLOCATED_TAGS, cell(1, "AllocatedTags", '{"env":"prod"}')),
    allocation(Rule.ORIGIN_KNOWN, cell(1, "x_OriginId", "posting-99.0")),
    allocation(Rule.ORIGIN_SPLIT, lambda table: table.pop()),
    allocation(Rule.ORIGIN_SAME, cell(1, "ChargeDescription", "lobby")),
    allocation(Rule.ORIGIN_SAME, cell(1, "ListUnitPrice", "1.650000")),
    allocation(Rule.ORIGIN_SUM, cells(1, BilledCost="1.094401", EffectiveCost="1.094401")),
    allocation(Rule.ORIGIN_RATIO, cell(1, "AllocatedMethodDetails", '{"Elements":[{"AllocatedRatio":0.47}]}')),
]


@pytest.fixture
def folder(tmp_path):
    """The worked example with a tax and money paid in advance: one row of every kind."""
    tax = a_charge(Meter.TAX, usd_micros=190_000)
    topup = a_charge(Meter.TOPUP, usd_micros=50_000_000, rental_id=None)
    charges = [
        *worked_example(),
        a_focus_charge(tax, posting_id=5),
        a_focus_charge(topup, (), posting_id=6, rental=None, is_prepaid=True, invoice_id=None),
    ]
    write_focus(charges, tmp_path, period="2026-11", time_zone="UTC", parquet=False)
    return tmp_path


def check(folder) -> list[Breach]:
    return [
        *check_rental_file(folder / RENTAL_CSV, TOTALS),
        *check_allocation_file(folder / ALLOCATION_CSV, folder / RENTAL_CSV),
    ]


def test_a_good_pair_of_files_breaks_no_rule(folder):
    assert check(folder) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.rule.name)
def test_breaking_a_rule_is_found_and_named(folder, mutation):
    path = folder / mutation.file
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    mutation.change(table)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table)
    found = (
        check_rental_file(path, TOTALS)
        if mutation.file == RENTAL_CSV
        else check_allocation_file(path, folder / RENTAL_CSV)
    )
    assert mutation.rule in {breach.rule for breach in found}
    assert all(breach.what for breach in found)


def test_no_rule_goes_unbroken():
    assert set(Rule) == {mutation.rule for mutation in MUTATIONS}


def test_invoices_are_not_checked_without_their_totals(folder):
    assert check_rental_file(folder / RENTAL_CSV) == []


def test_an_invoice_that_is_missing_from_the_file_is_found(folder):
    found = check_rental_file(folder / RENTAL_CSV, {**TOTALS, ("lambda", "L-1"): 5})
    assert [breach.rule for breach in found] == [Rule.INVOICE_SUM]


def test_a_correction_may_lie_before_its_billing_period_and_miss_the_product(folder):
    path = folder / RENTAL_CSV
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    cells(USAGE, ChargeClass="Correction", ChargePeriodStart="2026-10-01T00:00:00Z", ListCost="1.000000")(table)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table)
    assert check_rental_file(path, TOTALS) == []


def test_an_empty_file_lacks_every_column(tmp_path):
    (tmp_path / RENTAL_CSV).write_text("")
    found = check_rental_file(tmp_path / RENTAL_CSV)
    assert {breach.rule for breach in found} == {Rule.COLUMN_MISSING}
    assert len(found) == len(NAMES)
