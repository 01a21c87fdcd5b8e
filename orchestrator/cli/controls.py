"""Run control: `tunemill pause`, `resume`, `cancel` and `retry`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from catalog.errors import BusyError, TunemillError, UnknownNameError
from catalog.messages import now_ms
from catalog.settings import Settings, read_settings
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, print_json, say, warn
from orchestrator.cli.dead import dead_as_json, print_dead
from orchestrator.cli.display import describe_paid
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.names import catalog_key
from orchestrator.control.broker import Queues
from orchestrator.ledger import Ledger, RunRow, readings, run_control, work

RunArgument = Annotated[
    str,
    typer.Argument(
        help="A catalog with an active run, or the first digits of the run's id.",
        autocompletion=completion.active_runs,
        callback=catalog_key,
    ),
]
_ALL_DEAD = "Queue all dead takes again; without this option the command only lists them."


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("cancel")(cancel)
    app.command("retry")(retry)


def pause(run: RunArgument, json: JsonFlag = False) -> None:
    """Send no more takes of a run until it is resumed.

    Waiting takes are removed from the queues; workers finish the takes that they hold.
    """
    settings, ledger = _open()
    with ledger.write() as connection:
        found = run_control.get_active_run(connection, run)
        run_control.refuse_unless_going_on(found)
        run_control.write_control(connection, found, run_control.PAUSE)
    _withdraw(ledger, settings, found)
    with ledger.read() as connection:
        paid = readings.paid_meanwhile(connection, readings.get_run(connection, found.run_id), now_ms())
    words = f"paused; {describe_paid(paid)}; `tunemill resume {{catalog}}` lets it go on"
    _report(ledger, found, words, json=json, paid_meanwhile=paid._asdict())


def resume(run: RunArgument, json: JsonFlag = False) -> None:
    """Continue a paused run."""
    settings, ledger = _open()
    with ledger.write() as connection:
        found = run_control.get_active_run(connection, run)
        if found.wish == run_control.CANCEL:
            run_control.refuse_unless_going_on(found)
        run_control.write_control(connection, found, run_control.GO_ON)
    if not found.wish:
        warn(f"the run of {found.catalog} was not paused")
    how = f"`tunemill run {found.catalog}`" if settings.embedded else "`tunemill controller`"
    holder = _find_writer(ledger)
    _report(ledger, found, f"goes on: {holder} is at work" if holder else f"goes on with {how}", json=json)


def cancel(run: RunArgument, json: JsonFlag = False) -> None:
    """End a run before all its takes are made.

    Waiting takes are cancelled; workers finish the takes that they hold, and these are counted.

    A later `tunemill run` makes the cancelled takes.
    """
    settings, ledger = _open()
    with ledger.write() as connection:
        found = run_control.get_active_run(connection, run)
        run_control.write_control(connection, found, run_control.CANCEL)
        work.cancel_waiting(connection, found.run_id)
        work.finish_runs(connection, [found.run_id], now_ms())
    if settings.embedded:
        _cancel_here(ledger, found)
    else:
        _withdraw(ledger, settings, found)
    with ledger.read() as connection:
        is_over = readings.get_run(connection, found.run_id).state != "active"
    _report(ledger, found, "cancelled" if is_over else "is being cancelled", json=json)


def retry(
    catalog: Annotated[
        str,
        typer.Argument(
            help="The catalog of the dead takes.",
            autocompletion=completion.made_catalogs,
            callback=catalog_key,
        ),
    ],
    failed: Annotated[bool, typer.Option("--failed", help=_ALL_DEAD)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the takes that would be queued, and change nothing.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """List the dead takes of CATALOG, or queue them again.

    With --failed the takes are queued again with new tries; without it the command shows the reasons.
    """
    settings, ledger = _open()
    with ledger.read() as connection:
        if catalog not in (known := readings.catalogs(connection)):
            raise UnknownNameError(
                f"the ledger has no catalog {catalog!r}",
                why=f"it has: {', '.join(known) or 'none yet'}",
                fix="name one of these catalogs",
            )
        dead = run_control.dead_takes(connection, catalog)
    done = run_control.Retried(None, 0)
    if failed and not dry_run and dead:
        with ledger.write() as connection:
            done = run_control.retry_dead(connection, catalog, now_ms())
    if json:
        print_json({"catalog": catalog, "dead": dead_as_json(dead), "retried": done.takes, "run_id": done.run_id})
        return
    print_dead(dead)
    if done.takes:
        how = f"`tunemill run {catalog}` renders them" if settings.embedded else "a controller sends them"
        say(f"{done.takes:,} takes wait again in run {(done.run_id or '')[:8]}; {how}")
    elif dead:
        say(f"`tunemill retry {catalog} --failed` lets them wait again")


def _open() -> tuple[Settings, Ledger]:
    settings = read_settings()
    return settings, get_ledger_of_names(settings)


def _find_writer(ledger: Ledger) -> str:
    """The program that feeds the runs at this moment; "" when none does."""
    try:
        with ledger.writer_lock():
            return ""
    except BusyError as error:
        return error.holder


def _cancel_here(ledger: Ledger, run: RunRow) -> None:
    """Cancel every take, unless a run is at work on this machine: that run cancels what its worker does not hold."""
    try:
        with ledger.writer_lock(), ledger.write() as connection:
            run_control.cancel_all(connection, run, now_ms())
    except BusyError as error:
        warn(f"{error.holder} finishes what its worker holds")


def _withdraw(ledger: Ledger, settings: Settings, run: RunRow) -> None:
    """Remove the run's messages from the queues now, as a controller would: perhaps no controller is at work."""
    if settings.broker_url is None:
        return
    with ledger.read() as connection:
        queues = work.count_sent_by_queue(connection, run.run_id, held=False)
    try:
        with closing(Queues(settings.broker_url)) as broker:
            take_ids = broker.withdraw(sorted(queues), run.run_id)
    except TunemillError as error:
        warn(f"{error.what}: what waits there comes back when a controller is at work again")
        return
    with ledger.write() as connection:
        work.withdraw(connection, take_ids)
        if readings.get_run(connection, run.run_id).wish == run_control.CANCEL:
            work.cancel_waiting(connection, run.run_id)
            work.finish_runs(connection, [run.run_id], now_ms())


def _report(ledger: Ledger, run: RunRow, words: str, *, json: bool, **more: Any) -> None:
    with ledger.read() as connection:
        now, counts = readings.get_run(connection, run.run_id), readings.count_takes(connection, run.run_id)
    if json:
        said: dict[str, Any] = {"state": now.state, "wish": now.wish, "takes": counts._asdict()}
        print_json({"catalog": run.catalog, "run_id": run.run_id, **said, **more})
        return
    say(f"run {run.run_id[:8]} of {run.catalog}: {words.format(catalog=run.catalog)}", hang=2)
    shown = ", ".join(f"{count:,} {state}" for state, count in counts._asdict().items() if count)
    say(f"takes: {shown}" + ("; what is sent is with workers and will be finished" if counts.sent else ""), hang=2)
