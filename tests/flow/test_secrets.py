"""Secrets planted in every setting of a fleet turn up nowhere: not in what it says, keeps, sends or stores."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.support import servers

ROOT = Path(__file__).parents[2]
TUNEMILL = (sys.executable, "-c", "from orchestrator.cli import main; main()")
WORKER = (sys.executable, "-m", "workers", "serve", "--model", "tone")
TRACKS = 6
CATALOG = f"""
title: Secrets
description: Tracks of the tone engine.
model: tone
defaults: {{duration_s: [10, 10], takes: 1}}
matrix: {{zones: [hotel_lobby], genres: [piano_solo]}}
tracks: {TRACKS}
"""
# A sign that an address must escape stands in the passwords; what is looked for are the words on both its sides.
CONTROLLERS, WORKERS, WRONG = (
    "planted1-control$planted2-control",
    "planted3-worker$planted4-worker",
    "planted5-wrong-one",
)
DATABASE = "planted6-database"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "planted7-key-id",
    "AWS_SECRET_ACCESS_KEY": "planted8/secret+key",
    "AWS_SESSION_TOKEN": "planted9/session+token",
    "AWS_DEFAULT_REGION": "us-east-1",
    "HF_TOKEN": "planted10-hub-token",
}
PLANTED = b"planted"


class Fleet:
    """Both sides, everything they have said, and everywhere they may have left something."""

    def __init__(self, home: Path, port: int, database_url: str, endpoint: str) -> None:
        self.home, self.port, self.database_url = home, port, database_url
        self.catalog = home / "secrets.yaml"
        self.catalog.write_text(CATALOG)
        self.said = home / "said"
        self.said.mkdir()
        base = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEMILL_", "AWS_"))}
        self._common = {
            **base,
            **ENVIRONMENT,
            "TUNEMILL_HOME": str(home),
            "TUNEMILL_STORE_URL": f"s3://{servers.BUCKET}/secrets",
            "TUNEMILL_S3_ENDPOINT_URL": endpoint,
            "TUNEMILL_HEARTBEAT_S": "5",
            "OMP_NUM_THREADS": "1",
        }
        self.control = {
            **self._common,
            "TUNEMILL_BROKER_URL": self.broker("controller", CONTROLLERS),
            "TUNEMILL_DATABASE_URL": database_url,
            "TUNEMILL_PRESETS": str(ROOT / "presets"),
        }
        # The database's address is set for a worker too, by somebody who copied too much.
        self.data = {
            **self._common,
            "TUNEMILL_BROKER_URL": self.broker("worker", WORKERS),
            "TUNEMILL_DATABASE_URL": database_url,
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def broker(self, user: str, password: str) -> str:
        return f"redis://{user}:{password.replace('$', '%24')}@127.0.0.1:{self.port}/0"

    def start(self, *command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.said / f"{len(self._started):02d}").open("wb") as both:
            process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=both, stderr=both)
        self._started.append(process)
        return process

    def finish(self, process: subprocess.Popen[bytes], *codes: int) -> str:
        said = self.said / f"{self._started.index(process):02d}"
        try:
            process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            pytest.fail(said.read_text())
        assert process.returncode in (codes or (0,)), said.read_text()
        assert "Traceback" not in said.read_text(), said.read_text()
        return said.read_text()

    def tunemill(self, *arguments: str, code: int = 0, **changed: str) -> str:
        return self.finish(self.start(*TUNEMILL, *arguments, environment={**self.control, **changed}), code)

    def worker(self, code: int, **changed: str) -> str:
        return self.finish(self.start(*WORKER, environment={**self.data, **changed}), code)

    def on_the_broker(self) -> bytes:
        """Every key and every value that is there now."""
        with redis.Redis(port=self.port, username="admin", password="any") as client:
            found = []
            for key in client.keys("*"):
                read: dict[bytes, Callable[..., object]] = {
                    b"list": lambda key: client.lrange(key, 0, -1),
                    b"string": client.get,
                    b"hash": client.hgetall,
                    b"set": client.smembers,
                    b"zset": lambda key: client.zrange(key, 0, -1),
                }
                found.append(repr((key, read[client.type(key)](key))).encode())
            whole = b"\n".join(found)
            bodies = [
                base64.b64decode(body) for body in re.findall(rb'body": "([A-Za-z0-9+/=]+)"', whole.replace(b"\\", b""))
            ]
            return b"\n".join([whole, *bodies])

    def length(self, key: str) -> int:
        with redis.Redis(port=self.port, username="admin", password="any") as client:
            return client.llen(key)

    def clean_up(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def fleet(short_tmp: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    from sqlalchemy import make_url

    endpoint = request.getfixturevalue("_s3")
    servers.make_bucket(endpoint)
    home = short_tmp / "home"
    (home / "valkey").mkdir(parents=True)
    passwords = {"controller": CONTROLLERS, "worker": WORKERS}
    with (
        servers.new_database(request.getfixturevalue("_postgres")) as url,
        servers.fleet_valkey(home / "valkey", passwords) as port,
    ):
        # The server of the tests trusts everybody on its socket, and so takes any password.
        address = make_url(url).set(password=DATABASE).render_as_string(hide_password=False)
        made = Fleet(home, port, address, endpoint)
        yield made
        made.clean_up()


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in a minute"
        time.sleep(0.1)


def command_lines() -> bytes:
    """The arguments of every process on this machine, which everybody can read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(found)


def in_the_ledger(url: str) -> bytes:
    from sqlalchemy import MetaData, create_engine, select

    engine = create_engine(url)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        rows = [repr(connection.execute(select(table)).fetchall()) for table in tables.sorted_tables]
    engine.dispose()
    assert sum(map(len, rows)) > 1000
    return "\n".join(rows).encode()


def in_the_store(endpoint: str) -> bytes:
    import boto3

    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    found = []
    for each in client.list_objects_v2(Bucket=servers.BUCKET, Prefix="secrets/").get("Contents", []):
        answer = client.get_object(Bucket=servers.BUCKET, Key=each["Key"])
        found.append(each["Key"].encode() + repr(answer["Metadata"]).encode() + answer["Body"].read())
    assert len(found) == 3 * TRACKS  # audio, master and sidecar
    return b"\n".join(found)


def in_files(home: Path) -> Iterator[tuple[str, bytes]]:
    for path in home.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(home)), path.read_bytes()


def test_no_secret_of_a_fleet_is_said_kept_sent_or_stored(fleet):
    seen: dict[str, bytes] = {}
    fleet.tunemill("run", str(fleet.catalog), "--detach")

    controller = fleet.start(*TUNEMILL, "controller", environment=fleet.control)
    until(lambda: fleet.length("tunemill:render.tone.4g") == TRACKS)
    seen["arguments of a controller"], seen["orders on the broker"] = command_lines(), fleet.on_the_broker()
    controller.terminate()
    fleet.finish(controller)

    worker = fleet.start(*WORKER, environment=fleet.data)
    until(lambda: fleet.on_the_broker().count(b"attempt_made") == TRACKS)
    seen["arguments of a worker"], seen["records on the broker"] = command_lines(), fleet.on_the_broker()
    fleet.tunemill("controller", "--until-done")
    for command in (["status"], ["status", "--json"], ["catalog", "list"], ["costs", "report"], ["presets", "check"]):
        fleet.tunemill(*command)
    worker.terminate()
    fleet.finish(worker)

    # What goes wrong says most.
    nowhere = "postgresql+psycopg://ledger:planted11-nowhere@127.0.0.1:1/ledger?options=planted12-query"
    wrong = {"TUNEMILL_BROKER_URL": fleet.broker("controller", WRONG)}
    assert "refuses the login" in fleet.tunemill("controller", code=30, **wrong)
    assert "error" in fleet.tunemill("status", code=33, TUNEMILL_DATABASE_URL=nowhere)
    unescaped = {"TUNEMILL_BROKER_URL": "redis://worker:planted13/slash@127.0.0.1:6379/0"}
    assert "%2F" in fleet.tunemill("controller", code=35, **unescaped)
    assert "%2F" in fleet.worker(35, **unescaped)
    assert "refuses the login" in fleet.worker(30, TUNEMILL_BROKER_URL=fleet.broker("worker", WRONG))
    assert "fix:" in fleet.worker(31, TUNEMILL_STORE_URL="s3://no-such-bucket-here/secrets")
    assert "fix:" in fleet.worker(35, TUNEMILL_S3_ENDPOINT_URL="http://user:planted14-endpoint@127.0.0.1:1")
    assert "fix:" in fleet.worker(35, TUNEMILL_STORE_URL="s3://key:planted15-key@bucket/prefix")

    assert seen["orders on the broker"].count(b"hotel_lobby") >= TRACKS  # it is really read
    seen["the ledger"] = in_the_ledger(fleet.database_url)
    seen["the store"] = in_the_store(fleet.control["TUNEMILL_S3_ENDPOINT_URL"])
    seen |= dict(in_files(fleet.home))
    assert len([name for name in seen if name.startswith("said/")]) > 15
    assert {name: _around(text) for name, text in seen.items() if PLANTED in text} == {}


def _around(text: bytes) -> str:
    place = text.index(PLANTED)
    return text[max(0, place - 200) : place + 100].decode(errors="replace")
