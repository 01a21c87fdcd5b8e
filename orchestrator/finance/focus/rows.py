"""Rows: turn each posting into rows of FOCUS, one set for the machine that is charged and one for its payers.

The two files state the same money to the micro-dollar. A charge may be cut at midnight UTC; the amounts and quantities
of the parts add up to the whole, and so do the payers' shares in every part. A row of the rental file is the *origin*
of its rows in the allocation file: these repeat its descriptive cells and divide its sums.

Costs without a known price are in neither file, because a row must state an amount and no amount would be true;
`find_left_out` names them. The caller removes postings that cancel each other within an open month.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NamedTuple

from catalog.errors import TunemillError
from catalog.split import split
from orchestrator.finance.allocation.charges import METHOD, ChargeKind, CostEntry, Meter, Posting, Rental
from orchestrator.finance.focus.columns import MONEY_DECIMALS, NAMES, QUANTITY_DECIMALS
from orchestrator.finance.focus.measures import NANO, ONE_UNIT, Measure, decimal_text, measure_of_ms, nano_of
from orchestrator.ledger.observations import UNALLOCATED, Category

Row = dict[str, str | None]  # a cell for every column, as text; None is null

_CURRENCY: Final = "USD"
_RATIO_DECIMALS: Final = 12
_WITH_MONEY: Final = frozenset({ChargeKind.BILLED, ChargeKind.ESTIMATE, ChargeKind.PROVISIONAL})
_PRICING_OF_MARKET: Final = {"on_demand": "Standard", "spot": "Dynamic", "reserved": "Committed"}


class _FocusService(NamedTuple):
    """The FOCUS names of the service that a meter counts, with one subcategory for each service name."""

    charge_category: str
    category: str
    subcategory: str
    name: str
    meter: str


_SERVICES: Final = {
    Meter.GPU: _FocusService("Usage", "Compute", "Virtual Machines", "Pods", "GPU time"),
    Meter.DISK: _FocusService("Usage", "Storage", "Block Storage", "Pod Storage", "Disk"),
    Meter.EGRESS: _FocusService("Usage", "Networking", "Network Connectivity", "Pod Traffic", "Traffic"),
    Meter.CREDIT: _FocusService("Credit", "Other", "Other (Other)", "Account Credits", "Credit"),
    Meter.TAX: _FocusService("Tax", "Other", "Other (Other)", "Taxes", "Tax"),
    Meter.TOPUP: _FocusService("Purchase", "Other", "Other (Other)", "Account Balance", "Top-up"),
}


class FocusCharge(NamedTuple):
    """A posting with the further values that its rows need. Unit prices are dollars for one unit of the measure."""

    posting: Posting
    rental: Rental | None
    account_id: str  # at the provider; "" where it has no name, and then the provider's own name stands for it
    account_name: str | None
    billing_start_ms: int  # the provider's month or statement, half-open
    billing_end_ms: int
    issuer: str  # the sender of the invoice: the provider, unless a reseller sends it
    invoice_id: str | None  # its number; None before there is one
    measure: Measure | None = None  # the quantity that the line states; None: the time it covers
    list_unit_price: Decimal | None = None  # of the price book at that time
    contracted_unit_price: Decimal | None = None  # agreed or bid; None: the rate of the charge, else the list price
    price_valid_from: str = ""  # YYYY-MM-DD of the list price; "" without one
    is_prepaid: bool = False  # top-ups are in the files as purchases, so usage is not billed a second time
    corrects_invoiced: bool = False  # changes a statement of an earlier invoice
    sub_account: str = ""  # the catalog, where every rental serves one only
    tags: Mapping[str, str] = MappingProxyType({})  # true for the whole rental: environment, catalog
    resource_name: str = ""  # of the worker
    method: str = METHOD

    @property
    def is_correction(self) -> bool:
        """True when the charge corrects a month that was closed or invoiced before."""
        return self.corrects_invoiced or self.posting.period > self.posting.charge.applies_to

    @property
    def service(self) -> _FocusService:
        """The service that is charged."""
        return _SERVICES[self.posting.charge.meter]

    @property
    def is_known(self) -> bool:
        """True when every amount of the charge has a price."""
        amounts = [self.posting.charge.usd_micros, *(entry.usd_micros for entry in self.posting.entries)]
        return None not in amounts


class LeftOut(NamedTuple):
    """A charge that is in no file, with the reason."""

    key: str
    rental_id: str
    applies_to: str
    ms: int
    why: str


class FocusRows(NamedTuple):
    """The rows of one charge."""

    rental: list[Row]
    allocation: list[Row]


def find_left_out(charges: Iterable[FocusCharge]) -> Iterator[LeftOut]:
    """The charges that `rows_of` makes no rows of, though they are about money."""
    for each in charges:
        charge = each.posting.charge
        if charge.kind in _WITH_MONEY and (why := _why_left_out(each)):
            yield LeftOut(charge.key, charge.rental_id or "", charge.applies_to, charge.ms, why)


def rows_of(charge: FocusCharge, *, by_day: bool = True) -> FocusRows:
    """The rows of `charge` in both files, cut at midnight UTC with `by_day`; a charge that is left out has none.

    Raises TunemillError for a posting whose entries do not add up to its charge, or do not agree in sign.
    """
    if charge.posting.charge.kind not in _WITH_MONEY or _why_left_out(charge):
        return FocusRows([], [])
    entries = _entries(charge)
    pricing = _Pricing.of(charge)
    found = FocusRows([], [])
    fixed = _fixed_cells(charge, pricing)
    for part in _parts(charge, entries, pricing, by_day=by_day):
        origin = _origin_row(charge, part, fixed)
        found.rental.append(
            {
                **origin,
                **_number_cells(charge, pricing, sum(part.usd_micros), sum(part.pricing_nano), sum(part.consumed_nano)),
                "x_RunId": charge.rental.run_id or None if charge.rental else None,
            }
        )
        ratios = _ratios(part)
        for index, entry in enumerate(entries):
            numbers = (part.usd_micros[index], part.pricing_nano[index], part.consumed_nano[index])
            cells = _share_cells(charge, entry, ratios[index], part.ms[index])
            found.allocation.append({**origin, **_number_cells(charge, pricing, *numbers), **cells})
    return found


def instant(ms: int) -> str:
    """UTC to the second, as FOCUS writes it."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _why_left_out(charge: FocusCharge) -> str:
    if not charge.is_known:
        return "its price is unknown"
    if charge.posting.charge.meter is Meter.TOPUP and not charge.is_prepaid:
        return "money paid in advance is no expense"
    return ""


def _entries(charge: FocusCharge) -> Sequence[CostEntry]:
    """The entries of the charge; an amount without payers becomes one entry of nobody's."""
    posting = charge.posting
    amount = posting.charge.usd_micros or 0
    if not posting.entries:
        return (CostEntry(Category.UNOBSERVED, UNALLOCATED, amount, 0),)
    amounts = [entry.usd_micros or 0 for entry in posting.entries]
    if sum(amounts) != amount:
        raise TunemillError(
            f"the entries of {posting.charge.key} add up to {sum(amounts)} micro-dollars and not to {amount}",
            why="a share of it would be missing from the allocation",
            fix="report a defect with the name of this posting; do not export these books",
        )
    if min(amounts) < 0 < max(amounts):
        raise TunemillError(
            f"the entries of {posting.charge.key} have both signs",
            why="nobody pays more than the whole, and the parts of a charge are all charged or all given back",
        )
    return posting.entries


# ------------------------------------------------------------ quantities and prices


class _Pricing(NamedTuple):
    """The quantities and unit prices of a charge; a credit or a tax has neither."""

    priced: Measure | None
    consumed: Measure | None
    list_price_nano: int | None
    contracted_price_nano: int | None
    sku: str | None
    sku_price: str | None

    @classmethod
    def of(cls, charge: FocusCharge) -> _Pricing:
        """The quantities of the whole charge, negative for a reversal, with its unit prices."""
        category = charge.service.charge_category
        if category not in ("Usage", "Purchase"):
            return cls(None, None, None, None, None, None)
        counted = _counted(charge)
        contracted, listed = _unit_prices(charge, counted)
        sku = charge.posting.charge.sku or charge.posting.charge.gpu or charge.posting.charge.meter.value
        dated = f"{sku}@{charge.price_valid_from}" if charge.price_valid_from else sku
        sign = -1 if charge.posting.reverses_id is not None else 1
        if counted is None or contracted is None or listed is None:
            # No unit price is stated: the charge is one unit at its amount, which is the only certain price.
            price = abs(charge.posting.charge.usd_micros or 0) * (NANO // 10**MONEY_DECIMALS)
            given_back = (charge.posting.charge.usd_micros or 0) < 0
            priced = Measure(-NANO if given_back else NANO, ONE_UNIT)
            consumed = counted._replace(nano_units=sign * counted.nano_units) if counted else priced
            return cls(priced, consumed if category == "Usage" else None, price, price, sku, sku)
        measured = counted._replace(nano_units=sign * counted.nano_units)
        consumed_or_none = measured if category == "Usage" else None
        return cls(measured, consumed_or_none, nano_of(listed), nano_of(contracted), sku, dated)


def _counted(charge: FocusCharge) -> Measure | None:
    """The consumed quantity: the one that the line states, or the GPU time of the charge."""
    if charge.measure is not None or charge.posting.charge.meter is not Meter.GPU:
        return charge.measure
    gpu_ms = abs(sum(entry.ms for entry in charge.posting.entries))
    if gpu_ms:
        return measure_of_ms(gpu_ms)
    rented = charge.rental.gpu_count if charge.rental else 1
    return measure_of_ms(charge.posting.charge.ms, max(rented, 1)) if charge.posting.charge.ms else None


def _unit_prices(charge: FocusCharge, counted: Measure | None) -> tuple[Decimal | None, Decimal | None]:
    """Agreed price and list price; each stands in for the other where only one is known."""
    agreed = charge.contracted_unit_price
    if agreed is None and charge.measure is not None:
        agreed = charge.measure.unit_price
    rate = charge.posting.charge.rate_usd_micros_per_h
    if agreed is None and rate is not None and counted is not None and counted.unit == "Hours":
        agreed = Decimal(rate).scaleb(-MONEY_DECIMALS)
    listed = charge.list_unit_price
    return (agreed if agreed is not None else listed), (listed if listed is not None else agreed)


# ------------------------------------------------------------ parts


class _ChargePart(NamedTuple):
    """A charge between two midnights. The lists hold the part of each entry."""

    number: int
    start_ms: int
    end_ms: int
    usd_micros: list[int]
    pricing_nano: list[int]
    consumed_nano: list[int]
    ms: list[int]


def _parts(
    charge: FocusCharge, entries: Sequence[CostEntry], pricing: _Pricing, *, by_day: bool
) -> Iterator[_ChargePart]:
    windows = _windows(charge, by_day=by_day)
    weights = [end_ms - start_ms for start_ms, end_ms in windows]
    usd_micros = [entry.usd_micros or 0 for entry in entries]
    ms = [entry.ms for entry in entries]
    # A payer without time still pays for a disk or traffic; then the quantity is divided by money.
    basis = next((each for each in (ms, usd_micros) if any(each)), [1] * len(entries))
    keyed = {_key(index): abs(weight) for index, weight in enumerate(basis)}
    priced = list(split(pricing.priced.nano_units if pricing.priced else 0, keyed).values())
    consumed = list(split(pricing.consumed.nano_units if pricing.consumed else 0, keyed).values())
    spread = [_spread(amounts, weights) for amounts in (usd_micros, priced, consumed, ms)]
    for number, (start_ms, end_ms) in enumerate(windows):
        yield _ChargePart(number, start_ms, end_ms, *(days[number] for days in spread))


def _windows(charge: FocusCharge, *, by_day: bool) -> list[tuple[int, int]]:
    """The window of use, cut at midnight UTC if asked; a line without a window uses its billing period."""
    start_ms, end_ms = charge.posting.charge.start_ms, charge.posting.charge.end_ms
    if end_ms <= start_ms:
        return [(charge.billing_start_ms, charge.billing_end_ms)]
    if not by_day or charge.service.charge_category != "Usage":
        return [(start_ms, end_ms)]
    windows = []
    while start_ms < end_ms:
        midnight = datetime.fromtimestamp(start_ms // 1000, UTC).replace(hour=0, minute=0, second=0)
        next_ms = min(int((midnight + timedelta(days=1)).timestamp()) * 1000, end_ms)
        windows.append((start_ms, next_ms))
        start_ms = next_ms
    return windows


def _spread(amounts: Sequence[int], weights: Sequence[int]) -> list[list[int]]:
    """Each amount over the days: one list of amounts for each day.

    A day gets its share of the sum, taken in proportion from the unspent rest of each amount. So each amount is spent
    completely, and none is spent twice.
    """
    sign = -1 if sum(amounts) < 0 else 1
    left = [sign * amount for amount in amounts]
    totals = split(sum(left), {_key(day): weight for day, weight in enumerate(weights)})
    days = []
    for day in range(len(weights) - 1):
        taken = list(split(totals[_key(day)], {_key(index): amount for index, amount in enumerate(left)}).values())
        left = [amount - part for amount, part in zip(left, taken, strict=True)]
        days.append([sign * part for part in taken])
    return [*days, [sign * amount for amount in left]]


def _ratios(part: _ChargePart) -> list[int]:
    """The share of each entry in the part, in 10^-12; they add up to one exactly."""
    basis = next((each for each in (part.usd_micros, part.pricing_nano, part.ms) if any(each)), [1] * len(part.ms))
    return list(split(10**_RATIO_DECIMALS, {_key(index): abs(each) for index, each in enumerate(basis)}).values())


def _key(index: int) -> str:
    return f"{index:09d}"


# ------------------------------------------------------------ cells


def _fixed_cells(charge: FocusCharge, pricing: _Pricing) -> Row:
    """The cells that all rows of a charge share. They include every column, so that no row can lack one."""
    posted, service, provider = charge.posting.charge, charge.service, charge.posting.charge.provider
    row: Row = dict.fromkeys(NAMES)
    row |= {
        "BillingAccountId": charge.account_id or provider,
        "BillingAccountName": charge.account_name or None,
        "BillingCurrency": _CURRENCY,
        "BillingPeriodStart": instant(charge.billing_start_ms),
        "BillingPeriodEnd": instant(charge.billing_end_ms),
        "ChargeCategory": service.charge_category,
        "ChargeClass": "Correction" if charge.is_correction else None,
        "ChargeDescription": f"{pricing.sku}: {service.meter}" if pricing.sku else service.meter,
        "ChargeFrequency": "Usage-Based" if service.charge_category == "Usage" else "One-Time",
        "InvoiceId": charge.invoice_id or None,
        "InvoiceDetailId": posted.invoice_line_id if charge.invoice_id else None,
        "InvoiceIssuerName": charge.issuer,
        **dict.fromkeys(("ProviderName", "PublisherName", "ServiceProviderName", "HostProviderName"), provider),
        "PricingCurrency": _CURRENCY,
        "RegionId": posted.region or None,
        "RegionName": posted.region or None,
        "ServiceCategory": service.category,
        "ServiceSubcategory": service.subcategory,
        "ServiceName": service.name,
        "SubAccountId": charge.sub_account or None,
        "SubAccountName": charge.sub_account or None,
        "Tags": _tags(_own_tags(charge)),
        "x_Kind": posted.kind.value,
        "x_Source": posted.source or None,
        **_resource_cells(charge),
    }
    if pricing.priced is not None:
        row |= _price_cells(charge, pricing, pricing.priced)
    if pricing.consumed is not None:
        row["ConsumedUnit"] = pricing.consumed.unit
    return row


def _price_cells(charge: FocusCharge, pricing: _Pricing, priced: Measure) -> Row:
    listed = _exact(pricing.list_price_nano or 0, QUANTITY_DECIMALS)
    contracted = _exact(pricing.contracted_price_nano or 0, QUANTITY_DECIMALS)
    is_gpu = charge.posting.charge.meter is Meter.GPU
    return {
        "ListUnitPrice": listed,
        "PricingCurrencyListUnitPrice": listed,
        "ContractedUnitPrice": contracted,
        "PricingCurrencyContractedUnitPrice": contracted,
        "PricingCategory": _PRICING_OF_MARKET.get(charge.posting.charge.market, "Other") if is_gpu else "Standard",
        "PricingUnit": priced.unit,
        "SkuId": pricing.sku,
        "SkuMeter": charge.service.meter,
        "SkuPriceId": pricing.sku_price,
    }


def _resource_cells(charge: FocusCharge) -> Row:
    posted = charge.posting.charge
    known = charge.rental.external_id if charge.rental else (posted.rental_id or "").removeprefix(f"{posted.provider}/")
    if not known:
        return {}
    # A name that only repeats the id is no name.
    name = charge.resource_name if charge.resource_name != known else ""
    return {"ResourceId": known, "ResourceName": name or None, "ResourceType": "GPU Pod"}


def _origin_row(charge: FocusCharge, part: _ChargePart, fixed: Row) -> Row:
    """The cells of the part that both files share. Instants are whole seconds, and no window is empty."""
    start_ms = part.start_ms // 1000 * 1000
    end_ms = max(part.end_ms // 1000 * 1000, start_ms + 1000)
    posting = charge.posting
    origin = f"posting-{posting.posting_id}" if posting.posting_id else posting.charge.key
    return {
        **fixed,
        "ChargePeriodStart": instant(start_ms),
        "ChargePeriodEnd": instant(end_ms),
        "x_OriginId": f"{origin}.{part.number}",
    }


def _number_cells(
    charge: FocusCharge, pricing: _Pricing, usd_micros: int, pricing_nano: int, consumed_nano: int
) -> Row:
    """Costs and quantities. A resold or prepaid charge costs something and bills nothing: another row is paid."""
    category = charge.service.charge_category
    is_paid_elsewhere = charge.issuer != charge.posting.charge.provider or (charge.is_prepaid and category == "Usage")
    amount, nothing = _exact(usd_micros, MONEY_DECIMALS), _exact(0, MONEY_DECIMALS)
    effective = nothing if category == "Purchase" else amount
    cells: Row = {
        "BilledCost": nothing if is_paid_elsewhere else amount,
        "EffectiveCost": effective,
        "PricingCurrencyEffectiveCost": effective,
        "ListCost": amount,
        "ContractedCost": amount,
    }
    if pricing.priced is not None:
        decimals = 2 * QUANTITY_DECIMALS
        cells |= {
            "ListCost": _exact((pricing.list_price_nano or 0) * pricing_nano, decimals),
            "ContractedCost": _exact((pricing.contracted_price_nano or 0) * pricing_nano, decimals),
            "PricingQuantity": decimal_text(pricing_nano, QUANTITY_DECIMALS),
        }
    if pricing.consumed is not None:
        cells["ConsumedQuantity"] = decimal_text(consumed_nano, QUANTITY_DECIMALS)
    return cells


def _share_cells(charge: FocusCharge, entry: CostEntry, ratio: int, ms: int) -> Row:
    """The cells that one payer adds. A part without a payer has no resource, which in FOCUS means unallocated."""
    payer = entry.payer
    own = _own_tags(charge)
    allocated = {"catalog": payer.catalog, "genre": payer.genre, "zone": payer.zone}
    is_somebody = payer != UNALLOCATED
    element = f'"AllocatedRatio":{decimal_text(ratio, _RATIO_DECIMALS, at_least=1)}'
    if ms:
        element += f',"UsageUnit":"Seconds","UsageQuantity":{decimal_text(ms, 3, at_least=1)}'
    return {
        "AllocatedMethodId": charge.method,
        "AllocatedMethodDetails": f'{{"Elements":[{{{element}}}]}}',
        "AllocatedResourceId": f"{payer.run_id}/{payer.zone}/{entry.category.value}" if is_somebody else None,
        "AllocatedResourceName": payer.zone or None if is_somebody else None,
        "AllocatedTags": _tags({key: allocated[key] for key in allocated if key not in own}) if is_somebody else None,
        "x_Outcome": entry.category.value if charge.posting.entries else None,
        "x_Zone": payer.zone or None,
        "x_Genre": payer.genre or None,
        "x_RunId": payer.run_id or None,
    }


def _own_tags(charge: FocusCharge) -> dict[str, str]:
    """The tags that hold for the whole rental."""
    run_id = charge.rental.run_id if charge.rental else None
    return {**charge.tags, **({"run": run_id} if run_id else {})}


def _tags(tags: Mapping[str, str]) -> str | None:
    kept = {key: value for key, value in sorted(tags.items()) if value}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")) if kept else None


def _exact(units: int, decimals: int) -> str:
    return decimal_text(units, decimals, at_least=MONEY_DECIMALS)
