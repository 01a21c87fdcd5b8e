"""`tunemill catalog reject`, `accept` and `pick`: record a listener's verdicts about finished tracks."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from catalog.errors import SettingsError
from catalog.messages import now_ms
from catalog.settings import read_settings
from catalog.store import Store, open_configured_store
from catalog.verdicts import Verdict, VerdictOutcome
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, print_json, say
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.takes import get_rendition
from orchestrator.ledger import Ledger, RenditionRow, plans
from orchestrator.ledger.choice import decide_tracks, tracks_of
from orchestrator.ledger.finishing import with_origins
from orchestrator.ledger.verdicts import decide, read_standing, record_verdicts
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
    catalog.command("pick")(pick)


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
    without it may be rejected with it later. Where the catalog keeps the best of several takes, the next best one has
    the place at once.
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


def pick(
    takes: TakesArgument,
    reason: Annotated[str, typer.Option(help="The reason, for the record.")] = "",
    json: JsonFlag = False,
) -> None:
    """List these takes before the others of their tracks.

    Where the catalog keeps the best of several takes, a picked take is listed whatever the scores say, and the least of
    the others is spare.
    """
    _judge(takes, "accepted", reason.strip(), picked=True, json=json)


def _judge(
    takes: list[str], outcome: VerdictOutcome, reason: str, *, again: bool = False, picked: bool = False, json: bool
) -> None:
    settings = read_settings()
    with closing(get_ledger_of_names(settings)) as ledger:
        renditions: dict[str, RenditionRow] = {}
        for text in takes:
            found = get_rendition(ledger, text)
            renditions[found.take_id] = found
        with ledger.read() as connection:
            heard = with_origins(connection, list(renditions.values()))
            decided = decide(connection, heard, outcome, reason, now_ms(), again=again, picked=picked)
        store = open_configured_store(settings)
        # The store comes first: a verdict that only the ledger has is lost together with the ledger.
        store_verdicts(store, decided)
        with ledger.write() as connection:
            record_verdicts(connection, decided)
            plans.pass_places_on(connection, [verdict.take_id for verdict in decided])  # in a run that is under way
        choice = _choose_again(ledger, store, list(renditions))
        with ledger.read() as connection:
            standing = read_standing(connection, [each.record_id for each in renditions.values()])
    changed = sum(verdict.take_id in renditions for verdict in decided)
    entering, leaving = ([each.take_id for each in choice if each.spare == spare] for spare in (False, True))
    if json:
        said = {"outcome": outcome, "again": again, "take_ids": list(renditions), "changed": changed}
        print_json({**said, "picked": picked, "listed_instead": entering, "spare_instead": leaving})
        return
    many = "1 track" if len(renditions) == 1 else f"{len(renditions):,} tracks"
    note = "" if changed == len(renditions) else f", {len(renditions) - changed:,} of which were before"
    say(f"{many} {'picked' if picked else outcome}{note}")
    for ids, words in ((entering, "now listed, as the next best of its track"), (leaving, "now spare")):
        for take_id in ids:
            say(f"take {take_id[:12]} is {words}", hang=2)
    if outcome == "accepted" and not picked and (spare := sum(word.spare for word in standing.values())):
        say(f"{spare:,} of them {'is' if spare == 1 else 'are'} spare; `tunemill catalog pick TAKE` lists one", hang=2)
    asked = [verdict.catalog for verdict in decided if verdict.again]
    for catalog in sorted(set(asked)) if len(entering) < len(asked) else ():
        say(f"`tunemill run {catalog}` makes another take in the place of each, while its `tries` last", hang=2)


def _choose_again(ledger: Ledger, store: Store, take_ids: list[str]) -> list[Verdict]:
    """Choose among the takes of these takes' tracks, where their catalogs keep the best ones."""
    with ledger.read() as connection:
        chosen = decide_tracks(connection, tracks_of(connection, take_ids), now_ms())
    store_verdicts(store, chosen)
    with ledger.write() as connection:
        record_verdicts(connection, chosen)
    return chosen
