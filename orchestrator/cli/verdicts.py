"""`tunemill catalog reject` and `accept`: record a listener's verdicts about finished tracks."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from catalog.errors import SettingsError
from catalog.messages import now_ms
from catalog.settings import read_settings
from catalog.store import open_configured_store
from catalog.verdicts import VerdictOutcome
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, print_json, say
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.takes import get_rendition
from orchestrator.ledger import RenditionRow
from orchestrator.ledger.verdicts import decide, record_verdicts
from orchestrator.upkeep.verdicts import store_verdicts

TakesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Takes: their ids, as `catalog list` shows them, or the names, paths or URLs of their files.",
        autocompletion=completion.takes,
    ),
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
    """Take finished tracks out of their catalog.

    What they cost counts as wasted from then on.

    They stay in the store. The same seed would sound the same, so `run` does not render them anew.
    """
    if not reason.strip():
        raise SettingsError("--reason is empty", why="finance will ask why a track was paid for", fix="say it in words")
    _judge(takes, "rejected", reason.strip(), json=json)


def accept(takes: TakesArgument, json: JsonFlag = False) -> None:
    """Take rejected tracks back into their catalog."""
    _judge(takes, "accepted", "", json=json)


def _judge(takes: list[str], outcome: VerdictOutcome, reason: str, *, json: bool) -> None:
    settings = read_settings()
    with closing(get_ledger_of_names(settings)) as ledger:
        renditions: dict[str, RenditionRow] = {}
        for text in takes:
            found = get_rendition(ledger, text)
            renditions[found.take_id] = found
        with ledger.read() as connection:
            decided = decide(connection, list(renditions.values()), outcome, reason, now_ms())
        # The store comes first: a verdict that only the ledger has is lost together with the ledger.
        store_verdicts(open_configured_store(settings), decided)
        with ledger.write() as connection:
            changed = record_verdicts(connection, decided)
    if json:
        print_json({"outcome": outcome, "take_ids": list(renditions), "changed": changed})
        return
    many = "1 track" if len(renditions) == 1 else f"{len(renditions):,} tracks"
    note = "" if changed == len(renditions) else f", {len(renditions) - changed:,} of which were before"
    say(f"{many} {outcome}{note}")
