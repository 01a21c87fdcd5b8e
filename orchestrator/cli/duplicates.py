"""`tunemill catalog duplicates`: the tracks of a catalog that sound alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any, Final

import typer

from catalog.errors import DisagreementError, DuplicatesError
from catalog.settings import Settings, read_settings
from catalog.track import Take
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, out, print_json, say, warn
from orchestrator.cli.display import Column, counting, number, print_table
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.names import catalog_key, refuse_unmade
from orchestrator.cli.worker import require_audio_packages
from orchestrator.ledger import Ledger, readings
from orchestrator.ledger.chroma import compare_due, is_comparison_due, take_up
from orchestrator.ledger.duplicates import DuplicatePair, listed_pairs, uncompared
from orchestrator.runs.comparing import compute_codes

_ID_DIGITS_SHOWN: Final = 12
_FAULTS_SHOWN: Final = 5
_COLUMNS: Final = (
    *(Column("take"), Column("title", least=14), Column("same as"), Column("its title", least=14)),
    *(number("equal codes", spare=2), number("bit errors", spare=1)),
)
_EXAMPLES: Final = """\b
Examples:
  tunemill catalog duplicates hotel_group
  tunemill catalog duplicates hotel_group --from-audio --fail-on-found"""


def register(group: typer.Typer) -> None:
    """Add the command to the group `tunemill catalog`."""
    group.command("duplicates", epilog=_EXAMPLES)(duplicates)


def duplicates(
    catalog: Annotated[
        str,
        typer.Argument(
            help="A catalog's name.", autocompletion=completion.made_catalogs, callback=catalog_key, show_default=False
        ),
    ],
    from_audio: Annotated[
        bool, typer.Option("--from-audio", help="Read the stored audio of tracks whose worker computed no codes.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="With --from-audio, read so many files at once; by default one a core.")
    ] = None,
    fail_on_found: Annotated[
        bool, typer.Option("--fail-on-found", help="End with exit code 54 when tracks sound alike.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """List the tracks of a catalog that sound alike.

    Each line names the later track and the earlier one, the share of their codes that are equal, and the share of bits
    that differ at the best shift in time: 0 for the same recording, about 0.5 for unrelated ones. Up to 0.2 two tracks
    count as alike.

    Workers with the extra `duplicates` compute the codes of what they render, from its first two minutes. The codes of
    other tracks are computed once, with --from-audio. Random weights make noise that always sounds alike, so noise is
    not compared. Ends with 52 when the store lacks audio that it should have.
    """
    settings = read_settings()
    with closing(get_ledger_of_names(settings)) as ledger:
        with ledger.read() as connection:
            refuse_unmade(catalog, readings.catalogs(connection))
        faults = _compute(ledger, catalog, settings, jobs or os.cpu_count() or 1) if from_audio else {}
        _compare(ledger, catalog)
        with ledger.read() as connection:
            pairs, left = listed_pairs(connection, catalog), len(uncompared(connection, catalog))
    if json:
        print_json({"catalog": catalog, "uncompared": left, "pairs": [_as_json(pair) for pair in pairs]})
    else:
        _print_pairs(pairs, left, catalog, is_read=from_audio)
    if faults:
        shown = [f"{take_id}: {fault}" for take_id, fault in list(faults.items())[:_FAULTS_SHOWN]]
        raise DisagreementError(
            f"the audio of {len(faults):,} tracks could not be compared",
            why="; ".join(shown) + (" ..." if len(faults) > len(shown) else ""),
            fix="`tunemill catalog verify` names all that the store lacks, and `tunemill catalog repair` mends it",
        )
    if pairs and fail_on_found:
        raise DuplicatesError(
            f"{len({pair.later.id for pair in pairs}):,} tracks of {catalog} sound like an earlier one",
            why="the list names them",
            fix="`tunemill catalog reject TAKE --again --reason duplicate` has another take made in the place of one",
        )


def _compute(ledger: Ledger, catalog: str, settings: Settings, processes: int) -> dict[str, str]:
    """Compute the codes of tracks that have none; returns take id -> fault."""
    with ledger.read() as connection:
        missing = uncompared(connection, catalog)
    if not missing:
        return {}
    require_audio_packages()
    with counting("reading audio", len(missing)) as on_take:
        return compute_codes(ledger, missing, processes=processes, home=settings.home, on_take=on_take)


def _compare(ledger: Ledger, catalog: str) -> None:
    """Compare what is due, and what `duplicates: off` has left out."""
    with ledger.write() as connection:
        take_up(connection, catalog)
    while True:
        with ledger.read() as connection:
            if not is_comparison_due(connection):
                return
        with ledger.write() as connection:
            compare_due(connection, asked_for=catalog)


def _as_json(pair: DuplicatePair) -> dict[str, Any]:
    return {
        **_take_as_json(pair.later),
        "same_as": _take_as_json(pair.earlier),
        "share": round(pair.share, 4),
        "bit_error_rate": round(pair.bit_error_rate, 4),
    }


def _take_as_json(take: Take) -> dict[str, Any]:
    return {"take_id": take.id, "track": take.track.key, "number": take.number, "title": take.track.title}


def _print_pairs(pairs: Sequence[DuplicatePair], left: int, catalog: str, *, is_read: bool) -> None:
    digits = _ID_DIGITS_SHOWN if out.is_terminal else None
    if pairs:
        rows = [
            (
                *(pair.later.id[:digits], pair.later.track.title or pair.later.track.key),
                *(pair.earlier.id[:digits], pair.earlier.track.title or pair.earlier.track.key),
                *(f"{pair.share:.0%}", f"{pair.bit_error_rate:.3f}"),
            )
            for pair in pairs
        ]
        print_table(_COLUMNS, rows)
        later = len({pair.later.id for pair in pairs})
        say("1 track sounds like an earlier one" if later == 1 else f"{later:,} tracks sound like an earlier one")
    else:
        say("no two tracks sound alike" + (", as far as they were compared" if left else ""))
    if left and not is_read:
        command = f"tunemill catalog duplicates {catalog} --from-audio"
        warn(f"{left:,} {'track was' if left == 1 else 'tracks were'} not compared; `{command}` reads the audio")
