"""The summary of a run: JSON for scripts, sentences for people, and an error for an incomplete run."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.text import Text

from catalog.errors import IncompleteError, TunemillError
from catalog.settings import Settings, without_secrets
from catalog.store import open_configured_store
from orchestrator.cli.console import clock, say, usd, warn
from orchestrator.cli.names import read_names
from orchestrator.cli.tracks import NOISE_LABEL, print_tracks, tracks_as_json
from orchestrator.ledger import Ledger, RunRow, readings
from orchestrator.ledger.readings import ListedTrack, Spend, TakeCounts, TakeName
from orchestrator.runs.attached import RunEnd, RunResult

TRACKS_SHOWN = 12
TAKES_NAMED = 3  # of each reason


class Summary(NamedTuple):
    """The end of one run: its takes, cost, time and reasons."""

    run: RunRow
    end: RunEnd
    counts: TakeCounts
    spend: Spend
    duration_ms: int
    rejected: dict[str, list[TakeName]]  # by reason, the commonest first
    failed: dict[str, list[TakeName]]
    tracks: list[ListedTrack]  # a few, from all over the matrix
    store: str
    refusal: TunemillError | None = None  # the reason of an early end


def summarise(ledger: Ledger, settings: Settings, run_id: str, result: RunResult, duration_ms: int) -> Summary:
    """Read the run's end from the ledger."""
    with ledger.read() as connection:
        run = readings.get_run(connection, run_id)
        return Summary(
            run=run,
            end=result.end,
            counts=result.counts,
            spend=readings.spend_of_run(connection, run),
            duration_ms=duration_ms,
            rejected=readings.takes_by_reason(connection, run_id, "rejected"),
            failed=readings.takes_by_reason(connection, run_id, "failed"),
            tracks=readings.list_tracks(connection, run_id=run_id, spread=TRACKS_SHOWN),
            store=settings.store,
            refusal=result.refusal,
        )


def as_json(summary: Summary, settings: Settings) -> dict[str, Any]:
    """Return the summary as plain values for scripts."""
    store = open_configured_store(settings)
    return {
        "catalog": summary.run.catalog,
        "run_id": summary.run.run_id,
        "model": summary.run.model,
        "ending": str(summary.end),
        "takes": {**summary.counts._asdict(), "total": summary.counts.total},
        "rejected": {reason: len(takes) for reason, takes in summary.rejected.items()},
        "rejected_takes": {reason: [take._asdict() for take in takes] for reason, takes in summary.rejected.items()},
        "failed": {reason: len(takes) for reason, takes in summary.failed.items()},
        "failed_takes": {reason: [take._asdict() for take in takes] for reason, takes in summary.failed.items()},
        "duration_ms": summary.duration_ms,
        "usd_micros": None if summary.spend.unpriced else summary.spend.usd_micros,
        "unpriced": list(summary.spend.unpriced),
        "noise": any(track.rendition.noise for track in summary.tracks),
        "store": without_secrets(summary.store),
        "tracks": tracks_as_json(summary.tracks, store, read_names(settings)),
    }


def print_summary(summary: Summary, settings: Settings) -> None:
    """Print the summary for people."""
    counts, spend = summary.counts, summary.spend
    store = open_configured_store(settings)
    cost = "unknown" if spend.unpriced else usd(spend.usd_micros)
    say(
        f"{counts.accepted:,} accepted, {counts.rejected:,} rejected, {counts.failed:,} failed"
        + (f", {counts.pending:,} still to be made" if counts.pending else "")
        + f"; {clock(summary.duration_ms)}, cost {cost}",
        hang=2,
    )
    for outcome, reasons in (("rejected", summary.rejected), ("failed", summary.failed)):
        for reason, takes in list(reasons.items())[:5]:
            say(reason, label=f"  {outcome} {len(takes):,}x: ", hang=4)
            names = [f"{take.track_key} take {take.number} ({take.take_id})" for take in takes[:TAKES_NAMED]]
            more = [f"and {len(takes) - TAKES_NAMED:,} more"] if len(takes) > TAKES_NAMED else []
            say(", ".join(names + more), label="    ", hang=6)
    if summary.tracks:
        print_tracks(summary.tracks, store, read_names(settings))
        if any(track.rendition.noise for track in summary.tracks):
            say(Text.assemble((NOISE_LABEL, "bold red"), "; set TUNEMILL_WEIGHTS for music"), hang=2)
    if spend.unpriced:
        warn(f"no price for {', '.join(spend.unpriced)}: the cost is unknown, not zero")
    _print_next(summary)


def _print_next(summary: Summary) -> None:
    commands = [f"costs report --run {summary.run.run_id}"]
    if summary.tracks:
        listed = f"catalog list {summary.run.catalog}"
        commands = [listed, f"{listed} --files", *commands, f"replay {summary.tracks[0].take.id}"]
    for place, command in enumerate(commands):
        say(f"tunemill {command}", label="      " if place else "next: ", hang=8)


def raise_if_incomplete(summary: Summary) -> None:
    """Raise IncompleteError when a take was rejected or failed, or the run was cancelled."""
    counts = summary.counts
    if summary.end is RunEnd.CANCELLED:
        raise IncompleteError(
            f"the run was cancelled: {counts.cancelled:,} takes were not made",
            why="somebody typed `tunemill cancel`",
            fix=f"`tunemill run {summary.run.catalog}` makes them after all",
        )
    if counts.rejected or counts.failed:
        raise IncompleteError(
            f"{counts.rejected:,} takes were rejected and {counts.failed:,} failed",
            why="; ".join([*summary.rejected, *summary.failed][:3]),
            fix="failed takes are tried again by the same command; rejected ones need another seed, caption or model",
        )
