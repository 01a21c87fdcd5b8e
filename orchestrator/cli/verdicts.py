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
from orchestrator.ledger import RenditionRow, plans
from orchestrator.ledger.finishing import with_origins
from orchestrator.ledger.verdicts import decide, record_verdicts
from orchestrator.upkeep.verdicts import store_verdicts

TakesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Ids of takes from `catalog list`, or the names, paths or URLs of their files.",
        autocompletion=completion.takes,
    ),
]


def register(catalog: typer.Typer) -> None:
    """Add the commands to the group."""
    catalog.command("reject")(reject)
    catalog.command("accept")(accept)


def reject(
    takes: TakesArgument,
    reason: Annotated[str, typer.Option(help="The reason, for the record.")],
    again: Annotated[bool, typer.Option("--again", help="Have another take made in the place of each.")] = False,
    json: JsonFlag = False,
) -> None:
    """Take finished tracks out of their catalog.

    Their cost then counts as wasted.

    The files stay in the store. `run` does not render these takes again, since the same seed gives the same audio. With
    --again it makes the next take of each track in their place, within the catalog's `tries`; a track that was rejected
    without it may be rejected with it later.
    """
    if not reason.strip():
        raise SettingsError(
            "--reason is empty",
            why="finance must be able to see why the track was paid for and not kept",
            fix="write --reason and the reason in words",
        )
    _judge(takes, "rejected", reason.strip(), again=again, json=json)


def accept(takes: TakesArgument, json: JsonFlag = False) -> None:
    """Take rejected tracks back into their catalog."""
    _judge(takes, "accepted", "", json=json)


def _judge(takes: list[str], outcome: VerdictOutcome, reason: str, *, again: bool = False, json: bool) -> None:
    settings = read_settings()
    with closing(get_ledger_of_names(settings)) as ledger:
        renditions: dict[str, RenditionRow] = {}
        for text in takes:
            found = get_rendition(ledger, text)
            renditions[found.take_id] = found
        with ledger.read() as connection:
            heard = with_origins(connection, list(renditions.values()))
            decided = decide(connection, heard, outcome, reason, now_ms(), again=again)
        # The store comes first: a verdict that only the ledger has is lost together with the ledger.
        store_verdicts(open_configured_store(settings), decided)
        with ledger.write() as connection:
            record_verdicts(connection, decided)
            plans.pass_places_on(connection, [verdict.take_id for verdict in decided])  # in a run that is under way
    changed = sum(verdict.take_id in renditions for verdict in decided)
    if json:
        print_json({"outcome": outcome, "again": again, "take_ids": list(renditions), "changed": changed})
        return
    many = "1 track" if len(renditions) == 1 else f"{len(renditions):,} tracks"
    note = "" if changed == len(renditions) else f", {len(renditions) - changed:,} of which were before"
    say(f"{many} {outcome}{note}")
    for catalog in sorted({verdict.catalog for verdict in decided if verdict.again}):
        say(f"`tunemill run {catalog}` makes another take in the place of each, while its `tries` last", hang=2)
