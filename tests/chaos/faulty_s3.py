"""An S3 service that misbehaves on demand: a proxy that is told what to do to which request.

It keeps a log of every request, so that a test can say what was touched. Conditional writes go through one by one,
as S3 promises, whatever the service behind does.
"""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

SLOW_S = 1.5
_OWN_HEADERS = {"connection", "transfer-encoding", "content-length", "server", "date", "keep-alive"}
_CHECKSUMS = {"content-md5", "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm"}


class Fault(StrEnum):
    """What can be done to a request."""

    RESET = "reset the connection at once"
    SLOW_DOWN = "answer 503 SlowDown"
    SLOW = "answer late"
    CUT_UPLOAD = "reset the connection after half the body"
    CUT_ANSWER = "do it, and reset the connection instead of answering"
    DROP = "answer 200 and store nothing"
    TRUNCATE = "answer 200 and store half of it"
    BLIND = "answer 404, whatever is there"
    TAKEN = "answer 412, though nothing is there"


HONEST = (Fault.RESET, Fault.SLOW_DOWN, Fault.SLOW, Fault.CUT_UPLOAD, Fault.CUT_ANSWER)  # what real services do


@dataclass
class Rule:
    """Do `fault` to requests whose method and key match (regular expressions): to the first `times` after `after`."""

    fault: Fault
    method: str = ".*"
    key: str = ""
    times: float = 1
    after: int = 0
    probability: float = 1.0
    seen: int = 0

    def falls_on(self, method: str, key: str, dice: random.Random) -> bool:
        if not (re.fullmatch(self.method, method) and re.search(self.key, key)):
            return False
        if dice.random() >= self.probability:
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.times


class Asked(NamedTuple):
    """One request: `key` is the path with its bucket, or for a listing the prefix that was asked for."""

    method: str
    key: str
    conditional: bool
    status: int  # 0: never answered
    fault: Fault | None


@dataclass
class Gate:
    """Holds matching requests until it is opened; `done`: after they were carried out, and before the answer."""

    method: str
    key: str
    done: bool = False
    arrived: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    waiting: list[str] = field(default_factory=list)  # keys, once for each request


class FaultyS3:
    """A proxy on loopback in front of `endpoint`."""

    def __init__(self, endpoint: str, *, seed: int = 0) -> None:
        self.behind = urlsplit(endpoint)
        self.asked: list[Asked] = []
        self._rules: list[Rule] = []
        self._gates: list[Gate] = []
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self.conditional = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._address = ("127.0.0.1", 0)
        self.up()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._address[1]}"

    def up(self) -> None:
        """Listen, at the address it had."""
        self._server = _Server(self._address, _Handler)
        self._server.proxy = self
        self._address = self._server.server_address[:2]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and cut those there are."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_all()
            self._server = None

    def plan(self, *rules: Rule) -> None:
        """From here on these rules hold, the first that falls on a request decides."""
        with self._lock:
            self._rules += rules

    def at_random(self, faults: Iterable[Fault], probability: float, *, key: str = "") -> None:
        """Each request meets with one of `faults`, with that probability for all of them together."""
        kinds = list(faults)
        for place, fault in enumerate(kinds):
            share = probability / len(kinds)
            # Of those that the earlier rules let through, so that all faults are equally frequent.
            self.plan(Rule(fault, key=key, times=float("inf"), probability=share / (1 - place * share)))

    def behave(self) -> None:
        """Do nothing to anything any more."""
        with self._lock:
            self._rules.clear()

    @contextmanager
    def holding(self, method: str, key: str, *, done: bool = False) -> Iterator[Gate]:
        """Keep matching requests waiting until the context is left: before the service hears of them, or `done`."""
        gate = Gate(method, key, done)
        with self._lock:
            self._gates.append(gate)
        try:
            yield gate
        finally:
            with self._lock:
                self._gates.remove(gate)
            gate.opened.set()

    def close(self) -> None:
        for gate in list(self._gates):
            gate.opened.set()
        self.down()

    def fault_for(self, method: str, key: str) -> Fault | None:
        with self._lock:
            return next((rule.fault for rule in self._rules if rule.falls_on(method, key, self._dice)), None)

    def wait_at_gates(self, method: str, key: str, *, done: bool = False) -> None:
        with self._lock:
            shut = [gate for gate in self._gates if gate.done is done and re.fullmatch(gate.method, method)]
        for gate in (gate for gate in shut if re.search(gate.key, key)):
            gate.waiting.append(key)
            gate.arrived.set()
            gate.opened.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    proxy: FaultyS3

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed, or that we have cut off, is no event."""

    def cut_all(self) -> None:
        for connection in list(self._connections):
            _reset(connection)


class _Cut(Exception):
    """The connection is reset instead of answering."""


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        key, conditional = _key(self.path), self.headers.get("If-None-Match") == "*"
        fault = self.server.proxy.fault_for(self.command, key)
        status = 0
        try:
            answer = self._answer(fault, key, conditional)
            status = answer.status
            self._send(answer)
        except (_Cut, OSError):
            self.close_connection = True
            _reset(self.connection)
        finally:
            self.server.proxy.asked.append(Asked(self.command, key, conditional, status, fault))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815 - the names http.server calls

    def log_message(self, *arguments: Any) -> None:
        """The proxy's own log says more."""

    def _answer(self, fault: Fault | None, key: str, conditional: bool) -> _Answer:
        length = int(self.headers.get("Content-Length") or 0)
        if fault is Fault.RESET:
            raise _Cut
        if fault is Fault.CUT_UPLOAD and length:
            self.rfile.read(length // 2)
            raise _Cut
        body = self.rfile.read(length)
        if len(body) < length:
            raise _Cut  # the client was killed in the middle: no service keeps half an object
        self.server.proxy.wait_at_gates(self.command, key)
        match fault:
            case Fault.SLOW_DOWN:
                return _error(503, "SlowDown")
            case Fault.SLOW:
                time.sleep(SLOW_S)
            case Fault.BLIND if self.command in ("GET", "HEAD"):
                return _error(404, "NoSuchKey")
            case Fault.TAKEN if conditional:
                return _error(412, "PreconditionFailed")
            case Fault.DROP if self.command == "PUT":
                return _Answer(200, [("ETag", '"0"')], b"")
            case Fault.TRUNCATE if self.command == "PUT":
                return self._forward(body[: length // 2], conditional, without=_CHECKSUMS)
        answer = self._forward(body, conditional)
        self.server.proxy.wait_at_gates(self.command, key, done=True)
        if fault is Fault.CUT_ANSWER:
            raise _Cut
        return answer

    def _forward(self, body: bytes, conditional: bool, without: Iterable[str] = ()) -> _Answer:
        if conditional:
            with self.server.proxy.conditional:
                return self._ask(body, set(without))
        return self._ask(body, set(without))

    def _ask(self, body: bytes, without: set[str]) -> _Answer:
        behind = self.server.proxy.behind
        left_out = _OWN_HEADERS | without | {"expect"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        connection = HTTPConnection(str(behind.hostname), behind.port, timeout=60)
        try:
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            return _Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        length = {name.lower(): value for name, value in answer.headers}.get("content-length")
        self.send_header("Content-Length", length if length and self.command == "HEAD" else str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


def _key(path: str) -> str:
    parts = urlsplit(path)
    asked = parse_qs(parts.query, keep_blank_values=True)
    listed = f"/{asked['prefix'][0]}" if "prefix" in asked else ""
    return unquote(parts.path).strip("/") + listed


def _error(status: int, code: str) -> _Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
    return _Answer(status, [("Content-Type", "application/xml")], body)


def _reset(connection: socket.socket) -> None:
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    except OSError:
        pass
