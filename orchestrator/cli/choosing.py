"""`tunemill catalog choose`: lists the best takes of each track, and tells what leaves the list before it does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any, Final

import typer

from catalog.errors import DisagreementError, ReplacementError
from catalog.messages import now_ms
from catalog.settings import Settings, read_settings
from catalog.store import open_configured_store
from orchestrator.cli.console import JsonFlag, print_json, say, warn
from orchestrator.cli.display import Column, counting, number, print_table
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.names import refuse_unmade
from orchestrator.cli.options import CatalogArgument, PresetsOption, is_attended
from orchestrator.cli.worker import require_audio_packages
from orchestrator.ledger import Ledger, readings
from orchestrator.ledger.choice import (
    Candidate,
    Choice,
    choose,
    read_tracks,
    set_keep,
    tracks_with_several,
    unscored,
    verdicts_of,
)
from orchestrator.ledger.verdicts import record_verdicts
from orchestrator.matrix import load_catalog
from orchestrator.runs.scoring import compute_scores
from orchestrator.upkeep.verdicts import store_verdicts

_ID_DIGITS_SHOWN: Final = 12
_FAULTS_SHOWN: Final = 5
_EXAMPLES: Final = """\b
Examples:
  tunemill catalog choose hotel_group --dry-run
  tunemill catalog choose hotel_group --from-audio --yes"""


def register(group: typer.Typer) -> None:
    """Add the command to the group `tunemill catalog`."""
    group.command("choose", epilog=_EXAMPLES)(choose_takes)


def choose_takes(
    catalog: CatalogArgument,
    presets: PresetsOption = None,
    from_audio: Annotated[
        bool, typer.Option("--from-audio", help="Read the stored audio of takes that lack a score.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="With --from-audio, read so many files at once; by default one a core.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before tracks leave the list.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Choose among the takes that a catalog has of each track.

    The catalog's `keep` says how many are listed, and `choose_by` by which scores. A run chooses among the takes that
    it makes; this command chooses among all, after `keep` was added or changed. Without `keep` all takes are listed.

    Takes that a listener has picked come first. Spare takes keep their files, and their cost does not count as wasted.
    Takes of earlier workers, which lack scores, get them with --from-audio.
    """
    settings = read_settings()
    loaded = load_catalog(catalog, presets, settings)
    keep, choose_by = loaded.preset.content.keep or 0, loaded.preset.content.choose_by
    with closing(get_ledger_of_names(settings)) as ledger:
        with ledger.read() as connection:
            refuse_unmade(loaded.name, readings.catalogs(connection))
            keys = tracks_with_several(connection, loaded.name)
        faults = _score(ledger, keys, choose_by, settings, jobs or os.cpu_count() or 1) if from_audio else {}
        with ledger.read() as connection:
            choices = [choose(track._replace(keep=keep), choose_by) for track in read_tracks(connection, keys)]
        changed = [each for each in choices if each.leaving or each.entering]
        if json:
            print_json(_as_json(choices, keep, choose_by, dry_run=dry_run))
        else:
            _print_choices(changed, keep, choose_by)
            _warn_of_scores(choices, choose_by, from_audio=from_audio)
        if not dry_run:
            if leaving := sum(len(each.leaving) for each in changed):
                _ask_before_leaving(leaving, yes=yes)
            _apply(ledger, settings, loaded.name, choices, keep)
            if not json and changed:
                say("done; `tunemill catalog pick TAKE` chooses another take")
    if faults:
        shown = [f"{take_id}: {fault}" for take_id, fault in list(faults.items())[:_FAULTS_SHOWN]]
        raise DisagreementError(
            f"{len(faults):,} takes got no score",
            why="; ".join(shown) + (" ..." if len(faults) > len(shown) else ""),
            fix="`tunemill catalog verify` names all that the store lacks, and `tunemill catalog repair` mends it",
        )


def _score(
    ledger: Ledger, keys: Sequence[str], choose_by: Sequence[str], settings: Settings, processes: int
) -> dict[str, str]:
    """Compute the scores that takes lack; returns take id -> fault."""
    with ledger.read() as connection:
        missing = unscored(connection, keys, choose_by)
    if not missing:
        return {}
    require_audio_packages()
    with counting("reading audio", len(missing)) as on_take:
        return compute_scores(ledger, missing, processes=processes, home=settings.home, on_take=on_take)


def _ask_before_leaving(leaving: int, *, yes: bool) -> None:
    many = "1 listed take" if leaving == 1 else f"{leaving:,} listed takes"
    if yes:
        return
    if not is_attended():
        why, fix = "nobody is there to agree", "add --yes, or look at the list with --dry-run first"
    elif typer.confirm(f"take {many} off the list?", default=False, err=True):
        return
    else:
        why, fix = "the answer was no, and nothing was changed", "answer with --yes"
    raise ReplacementError(f"{many} would become spare", why=why, fix=fix)


def _apply(ledger: Ledger, settings: Settings, catalog: str, choices: Sequence[Choice], keep: int) -> None:
    """Record the choice, in the store before the ledger."""
    verdicts = [verdict for each in choices for verdict in verdicts_of(each, now_ms())]
    store_verdicts(open_configured_store(settings), verdicts)
    with ledger.write() as connection:
        record_verdicts(connection, verdicts)
        set_keep(connection, catalog, keep)


def _print_choices(changed: Sequence[Choice], keep: int, choose_by: Sequence[str]) -> None:
    if not changed:
        say("nothing changes: the best takes are listed" if keep else "nothing changes: all takes are listed")
        return
    columns = [*(Column("track", least=14), number("take"), Column("id", spare=2)), Column("becomes")]
    rows = [
        (
            *(each.track.track_key.partition("/")[2], str(take.number), take.take_id[:_ID_DIGITS_SHOWN]),
            *("spare" if take in each.spare else "listed", *(_value(take, name) for name in choose_by)),
        )
        for each in changed
        for take in sorted([*each.leaving, *each.entering], key=lambda take: take.number)
    ]
    print_table((*columns, *(number(name, spare=1) for name in choose_by)), rows)
    leaving, entering = (sum(map(len, each)) for each in zip(*((c.leaving, c.entering) for c in changed), strict=True))
    say(f"{leaving:,} takes leave the list, {entering:,} enter it")


def _value(take: Candidate, scorer: str) -> str:
    return f"{take.scores[scorer].value:.3f}" if scorer in take.scores else "-"


def _warn_of_scores(choices: Sequence[Choice], choose_by: Sequence[str], *, from_audio: bool) -> None:
    for name in choose_by:
        if lacking := sum(name not in each.scorers for each in choices):
            many = "1 track" if lacking == 1 else f"{lacking:,} tracks"
            how = "" if from_audio else "; --from-audio computes them"
            warn(f"{many} had no scores of {name!r} that can be compared, and were chosen without them{how}")


def _as_json(choices: Sequence[Choice], keep: int, choose_by: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "keep": keep,
        "choose_by": list(choose_by),
        "tracks": [
            {
                "track": each.track.track_key,
                "scorers": list(each.scorers),
                "kept": [_take_as_json(take) for take in each.kept],
                "spare": [_take_as_json(take) for take in each.spare],
                "leaving": [take.take_id for take in each.leaving],
                "entering": [take.take_id for take in each.entering],
            }
            for each in choices
        ],
    }


def _take_as_json(take: Candidate) -> dict[str, Any]:
    scores = {name: score.value for name, score in sorted(take.scores.items())}
    return {"take_id": take.take_id, "number": take.number, "picked": take.picked_ms > 0, "scores": scores}
