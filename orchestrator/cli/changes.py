"""`tunemill plan --changes`: the takes that a run would add, replace, retire or restore, with what differs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Final

from orchestrator.cli.console import out, say
from orchestrator.cli.display import Column, number, print_table
from orchestrator.ledger import Ledger, readings
from orchestrator.planning.changes import TakeChange, in_words, list_changes
from orchestrator.planning.plan import CatalogPlan

_SHOWN_MAX: Final = 60  # on a terminal
_COLUMNS = (Column("change"), Column("track", least=16), number("take", spare=1), Column("differs", least=20))


def read_changes(plan: CatalogPlan, ledger: Ledger | None) -> Iterator[TakeChange]:
    """The changes of `plan` against `ledger`; None stands for an empty one."""
    if ledger is None:
        yield from list_changes(plan, lambda take_ids: {}, {})
        return
    with ledger.read() as connection:
        read_takes = partial(readings.read_takes, connection)
        yield from list_changes(plan, read_takes, ledger.known_takes(plan.catalog), ledger.shelved_takes(plan.catalog))


def print_changes(changes: Iterator[TakeChange]) -> None:
    """Print one line for each change: on a terminal the first of them and the number of the rest, in a pipe all."""
    shown = list(islice(changes, _SHOWN_MAX) if out.is_terminal else changes)
    if not shown:
        say("no track would change")
        return
    print_table(_COLUMNS, [_row(change) for change in shown])
    if left := sum(1 for _ in changes):
        say(f"... and {left:,} more changes; `--changes` in a pipe or with `--json` lists all", hang=2)


def _row(change: TakeChange) -> tuple[str, ...]:
    track = change.take.track
    return (
        str(change.kind),
        track.key.removeprefix(f"{track.catalog}/"),
        str(change.take.number),
        in_words(change.differences, 32 if out.is_terminal else 200),
    )
