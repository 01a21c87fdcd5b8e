"""The servers and processes of a fleet on loopback, and what each has used: CPU time, memory, rows.

The broker is Valkey with the configuration and the users of infra/valkey, but for TLS; ledgers are on SQLite and
Postgres. Every figure of CPU time is the kernel's: of this process, or of others as /proc has it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import text

from catalog.messages import now_ms
from catalog.orders import OrderSigner, write_new_signer
from orchestrator.control.admission import OrderProof
from orchestrator.ledger import Ledger, logins, open_ledger
from tests.bench.measuring import ROOT
from tests.support import servers

MIB = 2**20
PROGRAM = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
PASSWORDS = {"controller": "controller-of-a-bench", "worker": "worker-of-a-bench"}
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Site:
    """One broker, a key for orders, and new ledgers as they are asked for."""

    def __init__(self, folder: Path, broker: servers.BrokerServer, maintenance_url: str) -> None:
        self.folder, self.broker, self._maintenance_url = folder, broker, maintenance_url
        self.signing_file = folder / "signing.key"
        self.signer: OrderSigner = write_new_signer(self.signing_file)
        self._started: list[subprocess.Popen[str]] = []

    def admin(self) -> redis.Redis:
        """A client of the broker that may do everything."""
        return self.broker.admin(timeout_s=60)

    @contextmanager
    def ledger(self, database: str, *, signed: bool = True) -> Iterator[tuple[Ledger, str]]:
        """An empty ledger with its address, and an empty broker."""
        self.admin().flushall()
        with ExitStack() as stack:
            if database == "postgres":
                url = stack.enter_context(servers.new_database(self._maintenance_url))
            else:
                folder = stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder))
                url = f"sqlite:///{folder}/ledger.sqlite"
            ledger = stack.enter_context(closing(open_ledger(url)))
            if signed:
                with ledger.write() as connection:
                    logins.write_order_key(connection, self.signer.public_key, now_ms())
            yield ledger, url

    def proof(self) -> OrderProof:
        """The proof of orders that are signed with this site's key from the beginning."""
        return OrderProof(self.signer, 0)

    # ------------------------------------------------------------ processes

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """A process of the fleet, its words in a log; it is ended with the site."""
        with (self.folder / f"{len(self._started)}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._started.append(process)
        return process

    @contextmanager
    def controller(self, database_url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """`tunemill controller` on this site until the block ends."""
        process = self.start([*PROGRAM, "controller", *options], self._environment("controller", database_url))
        try:
            yield process
        finally:
            end(process)

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """A real worker with canned audio until the block ends."""
        environment = {**self._environment("worker"), "TUNEMILL_VERIFY_ORDERS": self.signer.public_key}
        process = self.start([sys.executable, "-m", "tests.bench.scale_worker"], environment)
        try:
            yield process
        finally:
            end(process)

    def _environment(self, user: str, database_url: str = "") -> dict[str, str]:
        known = {
            "TUNEMILL_HOME": str(self.folder / f"home-{user}-{len(self._started)}"),
            "TUNEMILL_BROKER_URL": self.broker.url(user),
            "TUNEMILL_STORE_URL": str(self.folder / "store"),
        }
        if database_url:
            known |= {"TUNEMILL_DATABASE_URL": database_url, "TUNEMILL_SIGNING_FILE": str(self.signing_file)}
        return known

    def close(self) -> None:
        """End what is still there."""
        for process in self._started:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Stop a process in order, or at once when it does not follow."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


@contextmanager
def a_site() -> Iterator[Site]:
    """A broker and a Postgres server in a folder of their own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tm", dir="/tmp")))
        (folder / "broker").mkdir()
        broker = stack.enter_context(closing(servers.BrokerServer("valkey", folder / "broker", PASSWORDS)))
        broker.start()
        maintenance_url = stack.enter_context(servers.postgres(folder / "pg"))
        yield stack.enter_context(closing(Site(folder, broker, maintenance_url)))


# ---------------------------------------------------------------- usage


def process_cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and those it has started and that live have used."""
    total = 0.0
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total = (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += sum(map(process_cpu_s, map(int, (thread / "children").read_text().split())))
    return total


def broker_cpu_s(client: redis.Redis) -> float:
    """Seconds of CPU that the broker has used."""
    used: Any = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def broker_mib(client: redis.Redis) -> float:
    """The memory that the broker uses now."""
    used: Any = client.info("memory")
    return int(used["used_memory"]) / MIB


def ledger_mib(ledger: Ledger) -> float:
    """The size of a ledger's database."""
    size = "select page_count * page_size from pragma_page_count(), pragma_page_size()"
    if ledger.engine.name == "postgresql":
        size = "select pg_database_size(current_database())"
    with ledger.read() as connection:
        return int(connection.execute(text(size)).scalar() or 0) / MIB


def write_json(path: Path, value: Any) -> Path:
    """Write a value for another process to read."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
