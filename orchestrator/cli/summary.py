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
from orchestrator.ledger import Ledger, RunRow, readings, slots
from orchestrator.ledger.duplicates import RunDuplicates, count_of_run
from orchestrator.ledger.readings import ListedTrack, Spend, TakeCounts, TakeName, WarningCounts
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
    made_again: int = 0  # of the rejected takes: their places have passed to other takes
    duplicates: RunDuplicates = RunDuplicates()
    warned: WarningCounts = WarningCounts()

    @property
    def rejected_in_words(self) -> str:
        """`3 rejected (2 made again)`."""
        rejected = f"{self.counts.rejected:,} rejected"
        if not self.made_again:
            return rejected
        if self.made_again == self.counts.rejected:
            return f"{rejected} and made again"
        return f"{rejected} ({self.made_again:,} made again)"


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
            made_again=slots.count_made_again(connection, run_id),
            duplicates=count_of_run(connection, run),
            warned=readings.count_warnings(connection, run_id),
        )


def as_json(summary: Summary, settings: Settings) -> dict[str, Any]:
    """Return the summary as plain values for scripts."""
    store = open_configured_store(settings)
    return {
        "catalog": summary.run.catalog,
        "run_id": summary.run.run_id,
        "model": summary.run.model,
        "ending": str(summary.end),
        "takes": {**summary.counts._asdict(), "total": summary.counts.total, "made_again": summary.made_again},
        "rejected": {reason: len(takes) for reason, takes in summary.rejected.items()},
        "rejected_takes": {reason: [take._asdict() for take in takes] for reason, takes in summary.rejected.items()},
        "failed": {reason: len(takes) for reason, takes in summary.failed.items()},
        "failed_takes": {reason: [take._asdict() for take in takes] for reason, takes in summary.failed.items()},
        "duplicates": summary.duplicates._asdict(),
        "warned": {"takes": summary.warned.takes, "by_kind": dict(summary.warned.by_kind)},
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
        f"{counts.accepted:,} accepted, {summary.rejected_in_words}, {counts.failed:,} failed"
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
    _print_warned(summary)
    _print_duplicates(summary)
    if summary.tracks:
        print_tracks(summary.tracks, store, read_names(settings))
        if any(track.rendition.noise for track in summary.tracks):
            say(Text.assemble((NOISE_LABEL, "bold red"), "; set TUNEMILL_WEIGHTS for music"), hang=2)
    if spend.unpriced:
        warn(f"no price for {', '.join(spend.unpriced)}: the cost is unknown, not zero")
    _print_next(summary)


def _print_warned(summary: Summary) -> None:
    takes, by_kind = summary.warned
    if takes:
        many = "1 accepted take has" if takes == 1 else f"{takes:,} accepted takes have"
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in by_kind.items())
        say(f"{many} warnings: {kinds}; see `tunemill catalog list {summary.run.catalog} --warnings`", hang=2)


def _print_duplicates(summary: Summary) -> None:
    listed, rejected = summary.duplicates
    if rejected:
        many = "1 accepted take was" if rejected == 1 else f"{rejected:,} accepted takes were"
        say(f"{many} the same as another: rejected, and made again within `tries`", label="  ", hang=4)
    if listed:
        many = "1 track sounds" if listed == 1 else f"{listed:,} tracks sound"
        warn(f"{many} like another; see `tunemill catalog duplicates {summary.run.catalog}`")


def _print_next(summary: Summary) -> None:
    commands = [f"costs report --run {summary.run.run_id}"]
    if summary.tracks:
        listed = f"catalog list {summary.run.catalog}"
        commands = [listed, f"{listed} --files", *commands, f"replay {summary.tracks[0].take.id}"]
    for place, command in enumerate(commands):
        say(f"tunemill {command}", label="      " if place else "next: ", hang=8)


def raise_if_incomplete(summary: Summary) -> None:
    """Raise IncompleteError when a take failed or left its place empty, or the run was cancelled."""
    counts = summary.counts
    if summary.end is RunEnd.CANCELLED:
        raise IncompleteError(
            f"the run was cancelled: {counts.cancelled:,} takes were not made",
            why="somebody cancelled the run with `tunemill cancel`",
            fix=f"`tunemill run {summary.run.catalog}` makes these takes",
        )
    left_empty = counts.rejected - summary.made_again
    if left_empty or counts.failed:
        raise IncompleteError(
            f"not every place is filled: {left_empty:,} rejected without a further try, {counts.failed:,} failed",
            why="; ".join([*summary.rejected, *summary.failed][:3]),
            fix="run the same command again to retry failed takes; a rejected take needs more `tries`, or another "
            "seed, caption or model",
        )
