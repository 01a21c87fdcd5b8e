"""`tunemill worker-login`: the logins of rented machines at the broker, what each came to, and the key of orders."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from catalog.errors import SettingsError, UnknownNameError
from catalog.logins import LOGIN_PATTERN, is_login
from catalog.messages import now_ms
from catalog.orders import OrderSigner, write_new_signer
from catalog.settings import Settings, read_settings
from orchestrator.cli.console import JsonFlag, print_json, say
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.ledger import find_ledger, get_ledger_of_names
from orchestrator.control.access import acl_line, url_of
from orchestrator.control.signing import change_order_key, ensure_order_key
from orchestrator.ledger import logins, open_ledger, work
from orchestrator.ledger.logins import LoginUse

_COLUMNS = (
    Column("login"),
    Column("state"),
    number("workers", spare=2),
    number("living"),
    Column("heard (UTC)", spare=3),
    number("accepted"),
    number("rejected"),
    number("failed", spare=1),
    number("rejected share"),
)

LoginArgument = Annotated[str, typer.Argument(help="Name of the login: small letters, digits, - and _.")]
FileOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write the workers' environment to this file; by default a file below the home."),
]
MakeOption = Annotated[
    Path | None, typer.Option("--make", metavar="FILE", help="Write a new key to this file; the key in use stays.")
]
ChangeOption = Annotated[
    Path | None, typer.Option("--change", metavar="FILE", help="Sign orders with the key in this file from now on.")
]


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    group = typer.Typer(no_args_is_help=True, help="Make, list and end the logins of rented machines.")
    group.command("new")(new)
    group.command("list")(list_logins)
    group.command("end")(end)
    group.command("key")(key)
    app.add_typer(group, name="worker-login")


def new(login: LoginArgument, out: FileOption = None, json: JsonFlag = False) -> None:
    """Make a login for the workers of a rented machine.

    The command prints the login's line for the broker's users.acl, and writes the workers' environment to a file.

    The file holds the login's password, which is not shown, and the public key that verifies orders.
    """
    settings = read_settings()
    broker_url = _checked(settings, login)
    path = out or settings.home / "logins" / f"{login}.env"
    with closing(open_ledger(settings.database)) as ledger:
        with ledger.read() as connection:
            found = logins.find_login(connection, login)
        if found is not None and found.ended_at_ms is None:
            raise SettingsError(
                f"the login {login!r} exists already",
                why="one login has one password",
                fix=f"choose another name, or end the login first with `tunemill worker-login end {login}`",
            )
        signer = ensure_order_key(ledger, settings)
        password = secrets.token_hex(32)
        _write_environment(path, url_of(broker_url, login, password), signer.public_key)
        with ledger.write() as connection:
            logins.make_login(connection, login, now_ms())
    line = acl_line(login, password)
    if json:
        print_json({"login": login, "acl": line, "environment_file": str(path), "public_key": signer.public_key})
        return
    typer.echo(line)  # whole: it is copied into a file
    say("append this line to the broker's users.acl and run ACL LOAD there", label="1. ")
    say(
        f"copy {path} to the login's machines, as the environment of `tunemill worker`; it holds the password",
        label="2. ",
    )
    say(f"copy {settings.signing_key} to every machine that runs `run`, `refresh` or `controller`", label="3. ")


def list_logins(json: JsonFlag = False) -> None:
    """List the logins with their workers and takes.

    A login with a much higher share of rejected takes than the others may be misused.
    """
    ledger = find_ledger(read_settings())
    uses: list[LoginUse] = []
    if ledger is not None:
        with closing(ledger), ledger.read() as connection:
            uses = logins.list_uses(connection)
    if json:
        print_json([{**use._asdict(), "rejected_share": use.rejected_share} for use in uses])
    elif not uses:
        say("no login is known; make one with `tunemill worker-login new NAME`")
    else:
        print_table(_COLUMNS, [_cells(use) for use in [*uses, _sum(uses)]])


def end(login: LoginArgument, json: JsonFlag = False) -> None:
    """End a login.

    Later records of the login are not accepted, and the takes of its workers are sent again.

    Remove the login's line from the broker's users.acl, too, or the login can still take orders. Earlier records of its
    workers stay; remove false ones with `tunemill costs strike`.
    """
    settings = read_settings()
    lost = 0
    with closing(get_ledger_of_names(settings)) as ledger, ledger.write() as connection:
        at_ms = now_ms()
        known = {use.login for use in logins.list_uses(connection)} - {""}
        if login not in known:
            raise UnknownNameError(
                f"no login {login!r:.80} is known",
                why="the login was not made here, and none of its workers has reported",
                fix="`tunemill worker-login list` lists the logins",
            )
        living = logins.end_login(connection, login, at_ms)
        for worker_id in living:
            lost += work.lose_held(connection, worker_id, at_ms)
            work.end_silent(connection, worker_id, "its login was ended")
    if json:
        print_json({"login": login, "workers": living, "takes_sent_again": lost})
        return
    say(f"{login}: {len(living)} workers are ended, {lost} takes are sent again")
    say("remove the login's line from the broker's users.acl and run ACL LOAD and ACL DELUSER there", label="next: ")


def key(make: MakeOption = None, change: ChangeOption = None, json: JsonFlag = False) -> None:
    """Show the public key with which workers verify orders.

    If there is no key, the command makes one.

    To change the key: make a new one with --make, let workers accept the old and the new key
    (TUNEMILL_VERIFY_ORDERS=OLD,NEW), then use the new one with --change.
    """
    settings = read_settings()
    if make is not None and change is not None:
        raise SettingsError(
            "--make and --change cannot be used together",
            why="between the two steps, the workers must be told to accept the new key",
        )
    path = make or settings.signing_key
    if make is not None:
        signer = _made(make)
    else:
        with closing(open_ledger(settings.database)) as ledger:
            signer = change_order_key(ledger, settings, change) if change else ensure_order_key(ledger, settings)
    if json:
        print_json({"public_key": signer.public_key, "file": str(path)})
        return
    typer.echo(f"TUNEMILL_VERIFY_ORDERS={signer.public_key}")
    say(f"the private key is in {path}")


def _made(path: Path) -> OrderSigner:
    try:
        return write_new_signer(path)
    except OSError as error:
        raise SettingsError(
            f"the key cannot be written to {path}",
            why=str(error.strerror),
            fix="name a file that does not exist yet, in a folder that this user may write to",
        ) from None


def _checked(settings: Settings, login: str) -> str:
    if not is_login(login):
        raise SettingsError(
            f"{login!r:.80} cannot be the name of a login",
            why=f"the ids of its workers begin with the name: {LOGIN_PATTERN}",
            fix="use small letters, digits, - and _, such as runpod-2",
        )
    if not settings.broker_url:
        raise SettingsError(
            "an embedded broker has no logins",
            why="an embedded broker serves one user on one machine",
            fix="set TUNEMILL_BROKER_URL to the fleet's broker, as its workers reach it",
        )
    return settings.broker_url


def _write_environment(path: Path, broker_url: str, public_key: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a login that has ended
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written", why=str(error.strerror), fix="name another file with --out"
        ) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(f"TUNEMILL_BROKER_URL={broker_url}\nTUNEMILL_VERIFY_ORDERS={public_key}\n")


def _sum(uses: list[LoginUse]) -> LoginUse:
    heard = [use.heard_at_ms for use in uses if use.heard_at_ms is not None]
    counts = [sum(getattr(use, name) for use in uses) for name in ("workers", "living")]
    outcomes = [sum(getattr(use, name) for use in uses) for name in ("accepted", "rejected", "failed")]
    accepted, rejected, failed = outcomes
    return LoginUse(
        "all",
        None,
        None,
        workers=counts[0],
        living=counts[1],
        heard_at_ms=max(heard, default=None),
        accepted=accepted,
        rejected=rejected,
        failed=failed,
    )


def _cells(use: LoginUse) -> tuple[str, ...]:
    state = "ended" if use.ended_at_ms is not None else "" if use.made_at_ms is None else "made"
    heard = datetime.fromtimestamp(use.heard_at_ms / 1000, tz=UTC).strftime("%m-%d %H:%M") if use.heard_at_ms else "-"
    share = "-" if use.rejected_share is None else f"{use.rejected_share:.1%}"
    workers, living, *outcomes = (
        f"{count:,}" for count in (use.workers, use.living, use.accepted, use.rejected, use.failed)
    )
    return (use.login or "(none)", state, workers, living, heard, *outcomes, share)
