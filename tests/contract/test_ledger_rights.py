"""A missing right is named with the statement that gives it, and told from an outage; no sound ledger is moved."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from catalog.errors import LedgerError, StoreFullError
from catalog.retry import Outage
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.database import in_words
from orchestrator.runs.outages import BACKOFF, wait_out
from orchestrator.runs.stop import StopRequest
from tests.support import servers
from tests.support.farm import takes
from tests.support.makers import exactly


@dataclass(frozen=True)
class Server:
    """A database of its own on a real Postgres server, with the users `maker` and `guest`, who have no right yet."""

    url: str
    maker: str
    guest: str

    @property
    def name(self) -> str:
        return str(make_url(self.url).database)

    def run(self, *statements: str) -> None:
        """As the administrator; {maker}, {guest} and {name} stand for the users and the database."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement.format(maker=self.maker, guest=self.guest, name=self.name)))
        engine.dispose()

    def url_of(self, user: str) -> str:
        return make_url(self.url).set(username=user).render_as_string(hide_password=False)

    def refusal(self, user: str) -> LedgerError:
        """What is said to a user who opens the ledger and writes."""
        with pytest.raises(LedgerError) as caught:
            self.open_and_write(user)
        assert "move" not in caught.value.fix
        return caught.value

    def open_and_write(self, user: str) -> None:
        ledger = open_ledger(self.url_of(user))
        try:
            ledger.begin_or_resume_run("spring", "tone", exactly(takes(2)))
        finally:
            ledger.close()


@pytest.fixture
def server(_postgres) -> Iterator[Server]:
    with servers.new_database(_postgres) as url:
        name = make_url(url).database
        made = Server(url, f"maker_{name}", f"guest_{name}")
        made.run(
            "create role {maker} login",
            "create role {guest} login",
            "revoke create on schema public from public",
            "revoke connect on database {name} from public",
            "grant connect on database {name} to {maker}, {guest}",
        )
        yield made
    engine = create_engine(_postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for role in (made.maker, made.guest):
            connection.execute(text(f"drop role {role}"))
    engine.dispose()


def test_a_user_who_may_not_create_tables_is_told_the_right_and_the_statement_that_gives_it(server):
    refused = server.refusal(server.guest)
    assert refused.why == "its user lacks a right: permission denied for schema public"
    assert refused.needs_person
    assert "`grant usage, create on schema public to USER`" in refused.fix
    server.run("grant usage, create on schema public to {guest}")
    server.open_and_write(server.guest)


def test_a_user_who_may_not_even_use_the_schema_is_told_so(server):
    server.run("revoke usage on schema public from public")
    refused = server.refusal(server.guest)
    assert "no schema has been selected" in refused.why
    assert "`alter schema public owner to USER`" in refused.fix
    server.run("alter schema public owner to {guest}")
    server.open_and_write(server.guest)


def test_a_user_to_whom_the_ledger_does_not_belong_is_told_so(server):
    server.run("grant usage, create on schema public to {maker}")
    server.open_and_write(server.maker)
    refused = server.refusal(server.guest)
    assert "permission denied for table" in refused.why
    assert "`grant OWNER to USER`" in refused.fix
    server.run("grant select on all tables in schema public to {guest}")
    assert "permission denied for table" in server.refusal(server.guest).why  # whoever may only read
    server.run("grant {maker} to {guest}")
    server.open_and_write(server.guest)


def test_a_user_who_may_not_connect_is_told_so(server):
    server.run("revoke connect on database {name} from {guest}")
    refused = server.refusal(server.guest)
    assert refused.why == f'its user lacks a right: permission denied for database "{server.name}"'
    assert "`grant connect on database DATABASE to USER`" in refused.fix
    assert refused.needs_person


def test_a_user_who_may_not_log_in_is_told_so(server):
    server.run("alter role {guest} nologin")
    refused = server.refusal(server.guest)
    assert "is not permitted to log in" in refused.why
    assert "`alter role USER login`" in refused.fix


def test_a_server_that_only_takes_reading_is_told_from_a_right_that_is_missing(server):
    server.run("grant usage, create on schema public to {guest}")
    server.run("alter role {guest} set default_transaction_read_only = on")
    refused = server.refusal(server.guest)
    assert refused.why.startswith("it only takes reading: cannot execute")
    assert "primary server" in refused.fix
    assert not refused.needs_person
    server.run("alter role {guest} set default_transaction_read_only = off")
    server.open_and_write(server.guest)


def test_a_right_that_is_taken_away_while_a_controller_works_is_not_waited_for(server, ledger):
    class Nobody:
        def say(self, text):
            pass

    server.run("alter table run owner to {guest}")
    with pytest.raises(LedgerError) as caught:
        ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))
    with pytest.raises(LedgerError, match="permission denied for table run"):
        wait_out(Outage(BACKOFF), caught.value, Nobody(), StopRequest())
    server.run("alter table run owner to {maker}")
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))


@pytest.mark.parametrize("place", ["role {guest}", "database {name}"])
def test_a_server_without_a_free_connection_is_an_outage_that_passes(server, place):
    server.run("grant usage, create on schema public to {guest}", f"alter {place} connection limit 0")
    refused = server.refusal(server.guest)
    assert refused.why.startswith("the server has no connection free: too many connections for")
    assert "run the same command again" in refused.fix
    assert not refused.needs_person
    server.run(f"alter {place} connection limit -1")
    server.open_and_write(server.guest)


@pytest.fixture
def ledger(server) -> Iterator[Ledger]:
    server.run("grant usage, create on schema public to {maker}")
    opened = open_ledger(server.url_of(server.maker))
    yield opened
    opened.close()


def test_a_server_that_is_stopped_meanwhile_is_an_outage_that_passes(server, ledger):
    with ledger.engine.connect() as connection:
        server.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{maker}'")
        with pytest.raises(LedgerError) as caught, in_words(ledger.engine.url):
            connection.execute(text("select 1"))
    assert caught.value.why.startswith("the server is being started or stopped: terminating connection")
    ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))


def test_a_statement_that_the_server_ends_may_be_tried_again(ledger):
    with pytest.raises(LedgerError) as caught, ledger.write() as connection:
        connection.execute(text("set local statement_timeout = '20ms'; select pg_sleep(5)"))
    assert caught.value.why == "the server ended the statement: canceling statement due to statement timeout"


def test_whatever_else_it_refuses_is_no_reason_to_move_a_ledger(database_url):
    ledger = open_ledger(database_url)
    with pytest.raises(LedgerError) as caught, ledger.write() as connection:
        connection.execute(text("nonsense"))
    assert "syntax error" in caught.value.why
    assert "move" not in caught.value.fix
    assert "restore" not in caught.value.fix
    ledger.close()


def test_an_sqlite_file_that_may_not_be_written_is_no_damaged_one(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("pragma query_only = on")  # the connection is kept in the pool
    with pytest.raises(LedgerError) as caught:
        ledger.begin_or_resume_run("spring", "tone", exactly(takes(1)))
    assert caught.value.why == "this user may not write to the file"
    assert "move" not in caught.value.fix
    ledger.close()


POSTGRES = "postgresql+psycopg://user@db/tunemill"
SQLITE = "sqlite:///ledger.sqlite"
CONNECTING = 'connection failed: connection to server at "10.0.0.7", port 5432 failed: FATAL:  '


@pytest.mark.parametrize(
    ("url", "said", "why", "fix"),
    [
        (POSTGRES, CONNECTING + "the database system is starting up", "started or stopped", "wait"),
        (POSTGRES, CONNECTING + "the database system is shutting down", "started or stopped", "wait"),
        (POSTGRES, CONNECTING + "the database system is in recovery mode", "started or stopped", "wait"),
        (POSTGRES, CONNECTING + "sorry, too many clients already", "no connection free", "max_connections"),
        (
            POSTGRES,
            CONNECTING + "remaining connection slots are reserved for roles with the SUPERUSER attribute",
            "no connection free",
            "max_connections",
        ),
        (
            POSTGRES,
            CONNECTING + 'no pg_hba.conf entry for host "10.0.0.9", user "u", database "d", no encryption',
            'does not let its user in: no pg_hba.conf entry for host "10.0.0.9"',
            "sslmode=require",
        ),
        (POSTGRES, CONNECTING + 'password authentication failed for user "u"', "password was refused", "correct"),
        (POSTGRES, CONNECTING + 'database "nope" does not exist', "does not exist", "create it"),
        (POSTGRES, "connection is bad: Connection refused", "does not answer", "start it"),
        (POSTGRES, 'could not read block 7 in file "base/5/1"', "files are damaged", "restore a copy"),
        (SQLITE, "database disk image is malformed", "damaged", "restore a copy"),
        (SQLITE, "file is not a database", "damaged", "move the file away"),
        (SQLITE, "disk I/O error", "disk of the ledger failed", "check the disk"),
        (SQLITE, "unable to open database file", "cannot be opened", "rights"),
        (SQLITE, "database is locked", "another program held it", "end that program"),
    ],
)
def test_what_a_database_says_is_told_with_what_helps(url, said, why, fix):
    driver = sqlite3 if url.startswith("sqlite") else psycopg
    with pytest.raises(LedgerError) as caught, in_words(make_url(url)):
        raise OperationalError("select 1", {}, driver.OperationalError(said))
    assert why in caught.value.why
    assert fix in caught.value.fix
    assert caught.value.needs_person is any(word in why for word in ("password", "pg_hba"))
    is_damaged = "damaged" in caught.value.why
    assert ("move" in caught.value.fix or "restore" in caught.value.fix) is is_damaged


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("42501", "lacks a right"),
        ("28000", "does not let its user in"),
        ("28P01", "password was refused"),
        ("25006", "only takes reading"),
        ("53300", "no connection free"),
        ("57P01", "started or stopped"),
        ("57P02", "started or stopped"),
        ("57P03", "started or stopped"),
        ("57014", "ended the statement"),
        ("55P03", "another program held it"),
        ("40P01", "in the way"),
        ("XX001", "files are damaged"),
        ("08006", "does not answer"),
    ],
)
def test_the_code_says_it_in_whatever_language_the_server_speaks(code, why):
    error = psycopg.errors.lookup(code)("etwas auf Deutsch")
    with pytest.raises(LedgerError) as caught, in_words(make_url(POSTGRES)):
        raise OperationalError("select 1", {}, error)
    assert why in caught.value.why
    assert caught.value.needs_person is (code in ("42501", "28000", "28P01"))


def test_a_full_disk_of_a_server_that_speaks_another_language_is_full():
    with pytest.raises(StoreFullError), in_words(make_url(POSTGRES)):
        raise OperationalError("select 1", {}, psycopg.errors.lookup("53100")("voll"))
