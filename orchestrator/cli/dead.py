"""Dead takes, which failed for good: a table for people and JSON for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.cli.console import say
from orchestrator.cli.display import Column, number, print_table
from orchestrator.ledger.run_control import DeadTake

_ID_DIGITS_SHOWN = 12
_COLUMNS = (
    Column("take"),
    Column("track", least=16),
    Column("title", least=10, spare=1),
    number("tries"),
    number("losses"),
    Column("reason", least=24),
)


def dead_as_json(dead: Sequence[DeadTake]) -> list[dict[str, Any]]:
    """Return dead takes as plain values for scripts."""
    return [{**each._asdict(), "reasons": list(each.reasons)} for each in dead]


def print_dead(dead: Sequence[DeadTake]) -> None:
    """Print one line for each take."""
    if not dead:
        say("no dead takes")
        return
    rows = []
    for each in dead:
        reason = "; ".join(each.reasons) or "not said"
        numbers = (str(each.tries), str(each.losses))
        rows.append((each.take_id[:_ID_DIGITS_SHOWN], f"{each.track_key} {each.number}", each.title, *numbers, reason))
    print_table(_COLUMNS, rows)
    say(f"{len(dead):,} dead takes")
