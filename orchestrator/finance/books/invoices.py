"""Imported invoices: each file is written to the books once, and each stretch of a rental is billed once.

Importing the same file again changes nothing. A file that bills time which another invoice has billed is refused,
unless the user says that it replaces that invoice; then the books reverse the old lines and post the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from catalog.errors import InvoiceError, UnknownNameError
from catalog.rental import rental_id_of
from orchestrator.finance.allocation.charges import Meter, Rental
from orchestrator.finance.invoices.lines import Invoice, InvoiceLine
from orchestrator.ledger.bulk import insert_new
from orchestrator.ledger.machines import mark_rentals_unposted
from orchestrator.ledger.tables import INVOICE, INVOICE_LINE, RENTAL, RentalRow


class ImportedInvoice(NamedTuple):
    """The result of an import."""

    invoice_id: str
    is_new: bool  # False: the file was imported before, and nothing was written
    lines: int
    matched: int  # lines that name a rental on the books
    replaces: str | None  # number of the invoice whose place it takes


def write_invoice(
    connection: Connection, invoice: Invoice, at_ms: int, *, replaces: str | None = None
) -> ImportedInvoice:
    """Write an invoice to the books.

    Raises InvoiceError for time that was billed before, UnknownNameError when there is no invoice to replace.
    """
    before = _imports_of(connection, invoice.sha256)
    if before and replaces is None:
        return _known(connection, invoice, before[-1])
    invoice_id = f"{invoice.sha256}-{len(before) + 1}" if before else invoice.sha256
    old = _current_invoice(connection, invoice.provider, replaces) if replaces is not None else None
    _refuse_known_number(connection, invoice, old)
    _refuse_billed_twice(connection, invoice, old)
    connection.execute(insert(INVOICE), _invoice_row(invoice, invoice_id, at_ms, old))
    connection.execute(insert(INVOICE_LINE), [_line_row(invoice, invoice_id, line) for line in invoice.lines])
    touched = {rental_id_of(invoice.provider, line.external_id) for line in invoice.lines}
    if old is not None:
        named = select(INVOICE_LINE.c.external_id).where(INVOICE_LINE.c.invoice_id == old)
        touched |= {rental_id_of(invoice.provider, each) for each in connection.execute(named).scalars()}
    mark_rentals_unposted(connection, touched)
    return ImportedInvoice(invoice_id, True, len(invoice.lines), _matched(connection, invoice), replaces)


def _imports_of(connection: Connection, sha256: str) -> list[str]:
    """Every import of a file, oldest first; a file is imported again when it replaces the invoice that replaced it."""
    same = (INVOICE.c.invoice_id == sha256) | INVOICE.c.invoice_id.startswith(f"{sha256}-", autoescape=True)
    query = select(INVOICE.c.invoice_id).where(same).order_by(INVOICE.c.imported_ms, INVOICE.c.invoice_id)
    return list(connection.execute(query).scalars())


def _known(connection: Connection, invoice: Invoice, invoice_id: str) -> ImportedInvoice:
    """A file that was imported before: nothing to do, unless another has taken its place."""
    successor = select(INVOICE.c.number).where(INVOICE.c.replaces == invoice_id)
    if (number := connection.execute(successor).scalar()) is not None:
        raise InvoiceError(
            f"this file was imported before, and invoice {number!r} has replaced it",
            why="booking the file again would bill the same time twice",
            fix=f"if this file is the right one, import it with --replaces {number}",
        )
    return ImportedInvoice(invoice_id, False, len(invoice.lines), _matched(connection, invoice), None)


def _current_invoice(connection: Connection, provider: str, number: str) -> str:
    found = connection.execute(_current().where(INVOICE.c.provider == provider, INVOICE.c.number == number)).scalar()
    if found is None:
        raise UnknownNameError(
            f"there is no invoice {number!r} of {provider} to replace",
            fix="`tunemill costs invoices` lists the imported invoices",
        )
    return str(found)


def _current() -> Any:
    """Ids of the invoices that no other has taken the place of."""
    replaced = select(INVOICE.c.replaces).where(INVOICE.c.replaces.is_not(None))
    return select(INVOICE.c.invoice_id).where(INVOICE.c.invoice_id.not_in(replaced))


def _refuse_known_number(connection: Connection, invoice: Invoice, old: str | None) -> None:
    same = _current().where(INVOICE.c.provider == invoice.provider, INVOICE.c.number == invoice.number)
    found = connection.execute(same).scalar()
    if found is not None and found != old:
        raise InvoiceError(
            f"invoice {invoice.number!r} of {invoice.provider} was imported before, with other contents",
            why="each number belongs to one invoice; a second one of that number would count its amounts twice",
            fix=f"if this file corrects that invoice, import it with --replaces {invoice.number}; "
            "if it is another invoice, give its number with --number",
        )


def _refuse_billed_twice(connection: Connection, invoice: Invoice, old: str | None) -> None:
    """Refuse hours that another invoice has billed, because two exports of one account easily overlap."""
    names = sorted({line.external_id for line in invoice.lines if line.external_id})
    for at in range(0, len(names), 500):
        billed = _billed(connection, invoice.provider, names[at : at + 500], old)
        for line in invoice.lines:
            start_ms, end_ms = _window(line.start_ms, line.end_ms, invoice.start_ms, invoice.end_ms)
            for other in billed.get(_thing(line.external_id, line.meter, line.sku), ()):
                if other.start_ms < end_ms and other.end_ms > start_ms:
                    raise InvoiceError(
                        f"line {line.number}: {line.external_id} ({line.meter}) is billed for time that line "
                        f"{other.line} of invoice {other.number!r} has billed already",
                        why="the same time of a rental would be paid for twice",
                        fix=f"if this file replaces that invoice, import it with --replaces {other.number}",
                    )


class _Billed(NamedTuple):
    """A stretch that a line of another invoice has billed."""

    number: str
    line: int
    start_ms: int
    end_ms: int


def _billed(
    connection: Connection, provider: str, names: Sequence[str], old: str | None
) -> dict[tuple[str, str, str], list[_Billed]]:
    """The stretches that current invoices, except the one to be replaced, have billed for these machines."""
    query = (
        select(
            *(INVOICE_LINE.c[name] for name in ("external_id", "meter", "sku", "start_ms", "end_ms")),
            INVOICE_LINE.c.number.label("line"),
            *(INVOICE.c[name].label(f"invoice_{name}") for name in ("number", "start_ms", "end_ms")),
        )
        .join(INVOICE, INVOICE.c.invoice_id == INVOICE_LINE.c.invoice_id)
        .where(INVOICE_LINE.c.provider == provider, INVOICE_LINE.c.external_id.in_(names))
        .where(INVOICE.c.invoice_id.in_(_current()), INVOICE.c.invoice_id != (old or ""))
    )
    found: dict[tuple[str, str, str], list[_Billed]] = {}
    for row in connection.execute(query):
        window = _window(row.start_ms, row.end_ms, row.invoice_start_ms, row.invoice_end_ms)
        thing = _thing(row.external_id, row.meter, row.sku)
        found.setdefault(thing, []).append(_Billed(row.invoice_number, row.line, *window))
    return found


def _thing(external_id: str, meter: str, sku: str) -> tuple[str, str, str]:
    """A key for the billed thing: GPU time is one thing by any meter name; a machine may have several disks."""
    return (external_id, str(meter), "" if meter == Meter.GPU else sku)


def _window(start_ms: int | None, end_ms: int | None, invoice_start_ms: int, invoice_end_ms: int) -> tuple[int, int]:
    """The time that a line bills: its own window, or else the invoice's period."""
    if start_ms is None or end_ms is None:
        return invoice_start_ms, invoice_end_ms
    return start_ms, max(end_ms, start_ms + 1)


def _matched(connection: Connection, invoice: Invoice) -> int:
    names = {line.external_id for line in invoice.lines if line.external_id}
    query = select(RENTAL.c.external_id).where(
        RENTAL.c.provider == invoice.provider, RENTAL.c.external_id.in_(sorted(names))
    )
    known = set(connection.execute(query).scalars())
    return sum(line.external_id in known for line in invoice.lines)


def _invoice_row(invoice: Invoice, invoice_id: str, at_ms: int, replaces: str | None) -> dict[str, Any]:
    names = ("provider", "number", "currency", "usd_per_unit", "rate_source", "start_ms", "end_ms", "file_name", "text")
    return {
        **{name: getattr(invoice, name) for name in names},
        "invoice_id": invoice_id,
        "total_usd_micros": invoice.total_usd_micros,
        "topup_usd_micros": invoice.topup_usd_micros,
        "replaces": replaces,
        "imported_ms": at_ms,
    }


def _line_row(invoice: Invoice, invoice_id: str, line: InvoiceLine) -> dict[str, Any]:
    return {
        **line._asdict(),
        "line_id": f"{invoice_id[:16]}{invoice_id[64:]}/{line.number:06d}",
        "invoice_id": invoice_id,
        "provider": invoice.provider,
    }


def write_rental(connection: Connection, rental: Rental) -> bool:
    """Write a rental, or new values of a known one; empty fields keep known values. True when it is new."""
    values = rental._asdict()
    if connection.execute(select(RENTAL.c.rental_id).where(RENTAL.c.rental_id == rental.rental_id)).first() is None:
        market = rental.market or "on_demand"
        insert_new(connection, RentalRow, [{**values, "market": market, "settled": False}])
        return True
    said = {name: value for name, value in values.items() if value not in (None, "")}
    if not rental.gpu_count:
        said.pop("gpu_count")
    connection.execute(
        update(RENTAL).where(RENTAL.c.rental_id == rental.rental_id).values(**said, settled=False, tally="")
    )
    return False


def read_rentals(connection: Connection, *, local: bool = False) -> Sequence[Rental]:
    """The rentals on the books; those of workers that named none only when asked for."""
    query = select(*(RENTAL.c[name] for name in Rental._fields)).order_by(RENTAL.c.rental_id)
    if not local:
        query = query.where(RENTAL.c.provider != "local")
    return [Rental(*row) for row in connection.execute(query)]


def read_invoices(connection: Connection) -> list[dict[str, Any]]:
    """Every imported invoice, in the order of import, with the invoice that replaced it."""
    names = ["invoice_id", "provider", "number", "currency", "total_usd_micros", "topup_usd_micros"]
    names += ["start_ms", "end_ms", "file_name", "imported_ms", "replaces"]
    lines = (
        select(INVOICE_LINE.c.invoice_id, func.count().label("lines")).group_by(INVOICE_LINE.c.invoice_id).subquery()
    )
    query = (
        select(*(INVOICE.c[name] for name in names), func.coalesce(lines.c.lines, 0).label("lines"))
        .outerjoin(lines, lines.c.invoice_id == INVOICE.c.invoice_id)
        .order_by(INVOICE.c.imported_ms, INVOICE.c.invoice_id)
    )
    found = [dict(row) for row in connection.execute(query).mappings()]
    successors = {row["replaces"]: row["number"] for row in found if row["replaces"]}
    return [{**row, "replaced_by": successors.get(row["invoice_id"])} for row in found]


def billed_meters(lines: Iterable[InvoiceLine]) -> dict[Meter, int]:
    """Micro-dollars by meter."""
    sums: dict[Meter, int] = {}
    for line in lines:
        sums[line.meter] = sums.get(line.meter, 0) + line.usd_micros
    return sums
