"""`tunemill catalog reject` and `accept`: what somebody decided about finished tracks after listening."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from catalog.errors import SettingsError, UnknownNameError
from catalog.messages import now_ms
from catalog.settings import read_settings
from orchestrator.cli.console import JsonFlag, print_json, say
from orchestrator.cli.opening import find_ledger
from orchestrator.ledger import RenditionRow
from orchestrator.ledger.verdicts import write_verdicts

TakesArgument = Annotated[
    list[str], typer.Argument(help="First digits of the takes' ids, as `catalog list` shows them.")
]


def register(catalog: typer.Typer) -> None:
    """Add the commands to the group."""
    catalog.command("reject")(reject)
    catalog.command("accept")(accept)


def reject(
    takes: TakesArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    json: JsonFlag = False,
) -> None:
    """Take finished tracks out of their catalog; what they cost counts as wasted from then on.

    They stay in the store. The same seed would sound the same, so `run` does not render them anew.
    """
    if not reason.strip():
        raise SettingsError("--reason is empty", why="finance will ask why a track was paid for", fix="say it in words")
    _judge(takes, "rejected", reason.strip(), json=json)


def accept(takes: TakesArgument, json: JsonFlag = False) -> None:
    """Take rejected tracks back into their catalog."""
    _judge(takes, "accepted", "", json=json)


def _judge(takes: list[str], outcome: str, reason: str, *, json: bool) -> None:
    ledger = find_ledger(read_settings())
    if ledger is None:
        raise UnknownNameError(
            "there is no ledger yet, and no track in it", fix="make some with `tunemill run CATALOG`"
        )
    with closing(ledger):
        renditions: dict[str, RenditionRow] = {}
        for prefix in takes:
            found = ledger.find_rendition(prefix)
            if found is None:
                raise UnknownNameError(
                    f"no finished take begins with {prefix!r}", fix="`tunemill catalog list` shows them"
                )
            renditions[found.take_id] = found
        with ledger.write() as connection:
            changed = write_verdicts(connection, list(renditions.values()), outcome, reason, now_ms())
    if json:
        print_json({"outcome": outcome, "take_ids": list(renditions), "changed": changed})
        return
    many = "1 track" if len(renditions) == 1 else f"{len(renditions):,} tracks"
    note = "" if changed == len(renditions) else f", {len(renditions) - changed:,} of which were before"
    say(f"{many} {outcome}{note}")
