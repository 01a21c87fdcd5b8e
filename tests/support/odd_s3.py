"""A small S3 service on loopback whose habits a test chooses: the requests it refuses, and the form of its answers.

It supports objects, ETags, If-None-Match and listings, and keeps the headers that arrived with an object. It checks no
signatures and needs no buckets to be created.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest


class Asked(NamedTuple):
    """One request as the service sees it."""

    method: str
    host: str
    key: str  # without the bucket
    headers: Message
    query: dict[str, list[str]]
    is_virtual: bool  # the bucket's name stands in the host

    def has(self, prefix: str) -> bool:
        return any(name.lower().startswith(prefix) for name in self.headers)


class Refusal(NamedTuple):
    status: int
    code: str
    words: str = "no details"


Habit = Callable[[Asked], Refusal | None]


class OddS3:
    """The objects and requests of the service, and its habits: the first habit that answers refuses the request."""

    def __init__(self, *habits: Habit) -> None:
        self.habits, self.kept, self.asked = list(habits), dict[str, bytes](), list[Asked]()
        self.headers: dict[str, Message] = {}
        self.etag: Callable[[bytes], str] = lambda body: hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.keeps: Callable[[bytes], bytes] = lambda body: body
        self.heeds_conditions = True
        self.absent_deletion = 204
        self.url = ""

    def answer(self, asked: Asked, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.asked.append(asked)
        for habit in self.habits:
            if refusal := habit(asked):
                return _refused(refusal)
        if asked.method == "PUT":
            return self._put(asked, body)
        if asked.method == "DELETE":
            return (204 if self.kept.pop(asked.key, None) is not None else self.absent_deletion), b"", {}
        if not asked.key:
            return 200, self._listing(asked), {}
        if asked.key not in self.kept:
            return _refused(Refusal(404, "NoSuchKey"))
        return 200, self.kept[asked.key], {"ETag": f'"{self.etag(self.kept[asked.key])}"'}

    def _put(self, asked: Asked, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if self.heeds_conditions and asked.has("if-none-match") and asked.key in self.kept:
            return _refused(Refusal(412, "PreconditionFailed"))
        if (digest := asked.headers["Content-MD5"]) and digest != _md5(body):
            return _refused(Refusal(400, "BadDigest"))
        self.kept[asked.key], self.headers[asked.key] = self.keeps(body), asked.headers
        return 200, b"", {"ETag": f'"{self.etag(body)}"'}

    def _listing(self, asked: Asked) -> bytes:
        prefix = asked.query.get("prefix", [""])[0]
        rows = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.kept[key])}</Size>"
            "<LastModified>2026-11-01T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for key in sorted(self.kept)
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()


def virtual_only(asked: Asked) -> Refusal | None:
    return None if asked.is_virtual else Refusal(403, "SecondLevelDomainForbidden", "use the bucket's own domain")


def no_checksums(asked: Asked) -> Refusal | None:
    found = asked.has("x-amz-checksum") or asked.has("x-amz-sdk-checksum")
    return Refusal(400, "InvalidArgument", "header not known here: x-amz-checksum") if found else None


def no_conditions(status: int, code: str) -> Habit:
    """Refuse a conditional write with that answer, whether the object is there or not."""
    return lambda asked: Refusal(status, code) if asked.has("if-none-match") else None


def first(count: int, refusal: Refusal) -> Habit:
    """Refuse the first requests."""
    left = [count]

    def habit(asked: Asked) -> Refusal | None:
        left[0] -= 1
        return refusal if left[0] >= 0 else None

    return habit


@contextmanager
def serving(service: OddS3) -> Iterator[str]:
    """Serve on a free port of loopback; yields the address, under which names in front of it answer as well."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts, host = urlsplit(self.path), self.headers.get("Host", "").partition(":")[0]
            path = unquote(parts.path).lstrip("/")
            is_virtual = host.endswith(".localhost")
            key = path if is_virtual else path.partition("/")[2]
            asked = Asked(self.command, host, key, self.headers, parse_qs(parts.query), is_virtual)
            status, answer, headers = service.answer(asked, body)
            self.send_response(status)
            for name, value in {"Last-Modified": formatdate(usegmt=True), **headers}.items():
                self.send_header(name, value)
            if status not in {204, 304}:
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD" and status != 304:
                self.wfile.write(answer)

        do_GET = do_PUT = do_HEAD = do_DELETE = serve  # noqa: N815 - the names that http.server calls

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    service.url = f"http://localhost:{server.server_address[1]}"
    try:
        yield service.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def resolve_names_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bucket.localhost be this machine, as a service's own name server does for its buckets."""
    resolve = socket.getaddrinfo

    def loopback(host: object, *arguments: object, **options: object) -> object:
        is_ours = isinstance(host, str) and host.endswith("localhost")
        return resolve("127.0.0.1" if is_ours else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", loopback)


def _refused(refusal: Refusal) -> tuple[int, bytes, dict[str, str]]:
    body = f"<Error><Code>{refusal.code}</Code><Message>{refusal.words}</Message></Error>".encode()
    return refusal.status, body, {"x-amz-request-id": "4442587FB7D0A2F9"}


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
