"""The misbehaving S3 service misbehaves as it says, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from uuid import uuid4

import pytest

from catalog.errors import StoreError
from catalog.store import Store, open_store
from tests.chaos.faulty_s3 import Fault, FaultyS3, Rule
from tests.support import servers

KEY = "c/takes/one.json"
BODY = b"0123456789" * 1000


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyS3]:
    proxy = FaultyS3(s3_endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def prefix() -> str:
    return f"p{uuid4().hex[:8]}"


@pytest.fixture
def store(proxy: FaultyS3, prefix: str) -> Store:
    return open_store(f"s3://{servers.BUCKET}/{prefix}", s3_endpoint_url=proxy.endpoint)


@pytest.fixture
def behind(s3_endpoint: str, prefix: str) -> Store:
    return open_store(f"s3://{servers.BUCKET}/{prefix}", s3_endpoint_url=s3_endpoint)


def put(store: Store) -> None:
    store.put(KEY, BODY, content_type="text/plain", sha256=sha256(BODY).hexdigest())


def test_without_a_rule_it_is_an_s3_service_and_says_what_was_asked(proxy, store, prefix):
    store.check()
    put(store)
    assert store.find(KEY) == BODY
    assert not store.put_if_absent(KEY, b"other", content_type="text/plain")
    assert [info.key for info in store.list("c/")] == [KEY]
    assert {asked.key.removeprefix(f"{servers.BUCKET}/").split("/")[0] for asked in proxy.asked} == {prefix}
    assert proxy.asked[-2].conditional
    assert proxy.asked[-2].status == 412


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.SLOW_DOWN, Fault.SLOW, Fault.CUT_UPLOAD, Fault.CUT_ANSWER])
def test_what_passes_is_mended_by_asking_again(proxy, store, behind, fault):
    proxy.plan(Rule(fault, method="PUT"))
    put(store)
    assert behind.find(KEY) == BODY
    assert proxy.asked[0].fault is fault
    assert len(proxy.asked) == (1 if fault is Fault.SLOW else 2)


def test_a_write_whose_answer_was_cut_finds_itself(proxy, store, behind):
    proxy.plan(Rule(Fault.CUT_ANSWER, method="PUT"))
    assert store.put_if_absent(KEY, BODY, content_type="text/plain") is False
    assert behind.find(KEY) == BODY


def test_it_lies_when_told_to(proxy, store, behind):
    # Once a condition was kept, a refusal by it is believed.
    assert store.put_if_absent("c/takes/first.json", BODY, content_type="text/plain")
    proxy.plan(Rule(Fault.TAKEN, method="PUT"))
    assert store.put_if_absent(KEY, BODY, content_type="text/plain") is False
    assert behind.find(KEY) is None
    put(store)
    proxy.plan(Rule(Fault.BLIND, method="GET"))
    assert store.find(KEY) is None
    assert store.find(KEY) == BODY


def test_it_is_down_and_comes_back_at_the_same_address(proxy, store, behind):
    proxy.down()
    with pytest.raises(StoreError, match="cannot write"):
        put(store)
    proxy.up()
    put(store)
    assert behind.find(KEY) == BODY


def test_a_rule_falls_on_the_requests_it_names():
    import random

    dice = random.Random(1)
    rule = Rule(Fault.SLOW, method="PUT", key="audio/", times=2, after=1)
    asked = [("PUT", "audio/1"), ("GET", "audio/1"), ("PUT", "takes/1"), *[("PUT", f"audio/{n}") for n in (2, 3, 4)]]
    assert [key for method, key in asked if rule.falls_on(method, key, dice)] == ["audio/2", "audio/3"]


def test_half_an_upload_of_a_client_that_was_killed_is_not_kept(proxy, behind, prefix):
    import socket
    import time

    port = int(proxy.endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"PUT /{servers.BUCKET}/{prefix}/{KEY} HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf".encode())
    deadline_s = time.monotonic() + 20
    while not proxy.asked and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert proxy.asked[0].status == 0
    assert behind.find(KEY) is None
