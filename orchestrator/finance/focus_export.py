"""Exporting: the books of a month as FOCUS files, for tools that compare the costs of many vendors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection

from catalog.errors import DisagreementError
from catalog.settings import Settings
from orchestrator.finance.allocation.charges import ChargeKind, Posting, Rental, Sharing
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books.readings import LineNote
from orchestrator.finance.focus.conformance import check_allocation_file, check_rental_file
from orchestrator.finance.focus.measures import Measure, find_measure
from orchestrator.finance.focus.rows import FocusCharge
from orchestrator.finance.focus.rules import Breach
from orchestrator.finance.focus.writing import ALLOCATION_CSV, RENTAL_CSV, write_focus
from orchestrator.finance.months import bounds_of
from orchestrator.finance.prices.book import PriceBook, price_for
from orchestrator.ledger.observations import Machine

_MICRO: Final = Decimal("0.000001")


class FocusFiles(NamedTuple):
    """The files of an export, by name, and the breaches that our own check of them found."""

    paths: Mapping[str, Path]
    breaches: list[Breach]


@dataclass(frozen=True, slots=True)
class FocusExport:
    """A month's export in the making."""

    connection: Connection  # one snapshot
    settings: Settings
    book: PriceBook
    period: str

    def write(self, folder: Path, *, parquet: bool) -> FocusFiles:
        """Write the files into `folder` and check them; breaches are reported and end the command with an error."""
        written = write_focus(
            self.charges(), folder, period=self.period, time_zone=self.settings.finance_tz, parquet=parquet
        )
        rental, allocation = folder / RENTAL_CSV, folder / ALLOCATION_CSV
        breaches = [*check_rental_file(rental), *check_allocation_file(allocation, rental)]
        return FocusFiles({path.name: path for path in written}, breaches)

    def charges(self) -> Iterator[FocusCharge]:
        """The month's postings with the further values that FOCUS requires."""
        rentals = {rental.rental_id: rental for rental in cost_readings.read_rentals(self.connection)}
        lines = cost_readings.read_line_notes(self.connection, self.period)
        for posting in cost_readings.iterate_postings(self.connection, self.period):
            charge = posting.charge
            rental = rentals.get(charge.rental_id or "")
            yield self._charge(posting, rental, lines.get(charge.invoice_line_id or ""))

    def _charge(self, posting: Posting, rental: Rental | None, line: LineNote | None) -> FocusCharge:
        charge = posting.charge
        start_ms, end_ms = bounds_of(charge.applies_to, self.settings.finance_tz)
        if line is not None:
            start_ms, end_ms = line.invoice_start_ms, line.invoice_end_ms
        machine = Machine(charge.gpu, charge.provider, charge.market, charge.region)
        listed = price_for(machine, charge.start_ms, self.book) if charge.gpu else None
        return FocusCharge(
            posting=posting,
            rental=rental,
            account_id=rental.account if rental else "",
            account_name=(rental.account or None) if rental else None,
            billing_start_ms=min(start_ms, charge.start_ms),
            billing_end_ms=max(end_ms, charge.end_ms),
            issuer=charge.provider,
            invoice_id=line.invoice if line else None,
            measure=_measure(line) if line else None,
            list_unit_price=Decimal(listed.usd_micros_per_h) * _MICRO if listed else None,
            price_valid_from=listed.valid_from.isoformat() if listed else "",
            method=Sharing(self.settings.allocation).method,
            corrects_invoiced=charge.kind is ChargeKind.BILLED and posting.reverses_id is not None,
        )


def _measure(line: LineNote) -> Measure | None:
    """The quantity that the line states; if only a part of the line falls into the month, the quantity by its time."""
    return find_measure(line.quantity, line.unit, line.unit_price) if line.parts == 1 else None


def copies(files: Mapping[str, Path], below: str) -> dict[str, Callable[[Path], None]]:
    """Writers that put finished files into a pack, under a folder of it."""
    return {f"{below}/{name}": partial(_copy, path) for name, path in files.items()}


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def refuse_breaches(files: FocusFiles) -> None:
    """Raise DisagreementError when a file does not conform: a tool would refuse it, or reckon with it wrongly."""
    if files.breaches:
        first = files.breaches[0]
        raise DisagreementError(
            f"the FOCUS files break {len(files.breaches):,} rules",
            why=f"row {first.row}, {first.column}: {first.what} ({first.rule})",
            fix="nothing was written; `tunemill costs verify` checks the books",
        )
