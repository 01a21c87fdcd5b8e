"""`tunemill costs strike`: take a worker that reported falsely off the roll-call and the books, or put it back.

A controller may be at work meanwhile: a strike is one transaction. A dry run is the same transaction, taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import typer
from sqlalchemy import Connection

from catalog.errors import SettingsError
from catalog.messages import now_ms
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonFlag, clock, print_json, say, warn
from orchestrator.cli.display import Column, number, print_table, working
from orchestrator.cli.ledger import find_ledger, get_ledger_of_names
from orchestrator.cli.options import PricesOption
from orchestrator.finance.accounts import bring_up_to_date
from orchestrator.finance.books.books import Updated
from orchestrator.finance.books.strikes import Correcting, Correction
from orchestrator.finance.money import dollars
from orchestrator.finance.prices.book import PriceBook
from orchestrator.finance.prices.layers import open_price_book
from orchestrator.finance.prices.lookup import price_lookup
from orchestrator.ledger import Ledger
from orchestrator.ledger import strikes as ledger_strikes
from orchestrator.ledger.tables import StrikeRow

_COLUMNS = (Column("worker", least=12), Column("rental", least=12, spare=1), number("lived"), number("dollars"))
_LIST_COLUMNS = (
    Column("at (UTC)", spare=1),
    Column("worker", least=12),
    Column("is"),
    Column("rental", least=12, spare=2),
    Column("reason", least=16),
)
_NAMED = 3  # of the workers for which there was nothing to do
_EXAMPLES = """\b
Examples:
  tunemill costs strike 3f2a --reason "reported a day that it did not live" --dry-run
  tunemill costs strike --login pod-7 --reason "the machine was not ours"
  tunemill costs strike 3f2a --undo --reason "it was ours after all"
  tunemill costs strike --list"""


class _Asked(NamedTuple):
    """What the person wants done."""

    workers: Sequence[str]
    login: str | None
    reason: str
    undo: bool
    dry_run: bool


class _Done(NamedTuple):
    """What came of it."""

    corrections: list[Correction]
    unchanged: list[str]  # workers for which there was nothing to do
    updated: Updated  # the books


def register(costs: typer.Typer) -> None:
    """Add the command to the group of costs."""
    costs.command("strike", epilog=_EXAMPLES)(strike)


def strike(
    workers: Annotated[
        list[str] | None, typer.Argument(metavar="[WORKER]...", help="Ids of workers, or the beginnings of their ids.")
    ] = None,
    login: Annotated[str | None, typer.Option(help="Strike all workers of this login at the broker.")] = None,
    reason: Annotated[str, typer.Option(help="The reason, for the record; required except with --dry-run.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Undo the strike of these workers.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the effect, and change nothing.")] = False,
    show_all: Annotated[bool, typer.Option("--list", help="Show all strikes, the newest last.")] = False,
    prices: PricesOption = None,
    json: JsonFlag = False,
) -> None:
    """Remove workers with false reports from the books.

    Their time, tries and losses no longer count, and their takes wait again.

    Their reports stay on record, and --undo restores them. Bills, closed months and the counts of runs do not change.
    Later reports of a struck worker are not recorded; end its login at the broker, too.

    Exit codes: 10 for an unknown worker or login, or if several ids begin with the given digits.
    """
    asked = _Asked(workers or [], login, reason.strip(), undo, dry_run)
    if show_all:
        if asked != _Asked([], None, "", undo=False, dry_run=False):
            raise SettingsError(
                "--list changes nothing",
                why="--list shows all strikes and cannot be combined with other options",
                fix="write `tunemill costs strike --list` alone",
            )
        _show_strikes(read_settings(), json=json)
        return
    _check(asked)
    settings = read_settings()
    book = open_price_book(settings, prices)
    with closing(get_ledger_of_names(settings)) as ledger:
        done = _correct(ledger, settings, book, asked)
    if json:
        print_json(_as_json(asked, done))
    else:
        _print(asked, done)


def _check(asked: _Asked) -> None:
    if not asked.workers and asked.login is None:
        raise SettingsError(
            "no worker is named", fix="write the ids of the workers, or name all workers of a login with --login"
        )
    if not asked.reason and not asked.dry_run:
        raise SettingsError(
            "--reason is empty",
            why="finance must be able to see why the books changed",
            fix="write --reason and the reason in words",
        )


def _correct(ledger: Ledger, settings: Settings, book: PriceBook, asked: _Asked) -> _Done:
    with ledger.write() as connection:
        chosen = _choose(connection, asked)
        rehearsal = connection.begin_nested()
        correcting = Correcting(connection, price_lookup(book))
        change = correcting.reinstate if asked.undo else correcting.strike
        corrections = change(chosen, asked.reason, now_ms())
        rehearsal.rollback() if asked.dry_run else rehearsal.commit()
    changed = {each.worker_id for each in corrections}
    updated = Updated()
    if changed and not asked.dry_run:
        with working("posting", "rentals") as progress:
            updated = bring_up_to_date(ledger, settings, book, progress=progress)
    return _Done(corrections, [each for each in chosen if each not in changed], updated)


def _choose(connection: Connection, asked: _Asked) -> list[str]:
    named = ledger_strikes.find_workers(connection, asked.workers)
    of_login = [] if asked.login is None else ledger_strikes.find_workers_of_login(connection, asked.login)
    return list(dict.fromkeys([*named, *of_login]))


def _print(asked: _Asked, done: _Done) -> None:
    count, micros = len(done.corrections), _total(done.corrections)
    if count:
        total = ("total", "", clock(sum(each.ms for each in done.corrections)), _signed(micros))
        print_table(_COLUMNS, [_row(each) for each in done.corrections], total=total if count > 1 else ())
    who = "1 worker" if count == 1 else f"{count:,} workers"
    would = "would be " if asked.dry_run else ""
    say(f"{who} {would}{'put back' if asked.undo else 'struck'}")
    if count and not asked.dry_run:
        say(f"{done.updated.reversed:,} postings reversed, {done.updated.posted:,} written", hang=2)
    for each in done.corrections:
        if (each.usd_micros or 0) < 0:
            warn(
                f"{each.rental_id} costs more without {each.worker_id}: its end is not known, or the next worker "
                "has a higher price; correct a machine's data with `tunemill costs rentals add`"
            )
    if done.unchanged:
        more = " and more" if len(done.unchanged) > _NAMED else ""
        before = "not struck" if asked.undo else "struck"
        warn(f"{len(done.unchanged):,} {before} before: {', '.join(done.unchanged[:_NAMED])}{more}")


def _as_json(asked: _Asked, done: _Done) -> dict[str, Any]:
    return {
        "undo": asked.undo,
        "dry_run": asked.dry_run,
        "reason": asked.reason,
        "currency": "USD",
        "workers": [each._asdict() for each in done.corrections],
        "unchanged": done.unchanged,
        "total_ms": sum(each.ms for each in done.corrections),
        "total_usd_micros": _total(done.corrections),
        "postings_reversed": done.updated.reversed,
        "postings_written": done.updated.posted,
    }


def _show_strikes(settings: Settings, *, json: bool) -> None:
    ledger = find_ledger(settings)
    rows: list[StrikeRow] = []
    if ledger is not None:
        with closing(ledger), ledger.read() as connection:
            rows = ledger_strikes.read_strikes(connection)
    if json:
        print_json({"strikes": [row.model_dump() for row in rows]})
    elif not rows:
        say("no worker was ever struck")
    else:
        print_table(_LIST_COLUMNS, [_list_row(row) for row in rows])


def _list_row(row: StrikeRow) -> tuple[str, ...]:
    at = datetime.fromtimestamp(row.at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M")
    return at, row.worker_id, "struck" if row.is_struck else "back", str(row.worker.get("rental_id") or "-"), row.reason


def _row(correction: Correction) -> tuple[str, ...]:
    return correction.worker_id, correction.rental_id, clock(correction.ms), _signed(correction.usd_micros)


def _total(corrections: Sequence[Correction]) -> int | None:
    """The dollars of all together; None when the price of one is unknown."""
    amounts = [each.usd_micros for each in corrections]
    return None if None in amounts else sum(amount or 0 for amount in amounts)


def _signed(micros: int | None) -> str:
    if micros is None:
        return "unknown"
    return f"-${dollars(-micros)}" if micros < 0 else f"${dollars(micros)}"
