"""Logins: no login's names are the beginning of another's, and a worker's id says its login."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from catalog.logins import (
    LOGIN_PATTERN,
    delivery_keys,
    heartbeat_key,
    is_login,
    login_of_record_queue,
    login_of_url,
    login_of_worker,
    record_queue,
    short_worker_id,
    worker_id_of,
)
from catalog.messages import new_id

LOGINS = st.from_regex(LOGIN_PATTERN, fullmatch=True).filter(is_login)


@given(login=LOGINS)
def test_a_workers_id_and_its_keys_name_its_login(login):
    worker_id = worker_id_of(login, new_id())
    assert login_of_worker(worker_id) == login
    assert login_of_record_queue(record_queue(login)) == login
    assert short_worker_id(worker_id).startswith(f"{login}.")


@given(one=LOGINS, other=LOGINS)
def test_the_keys_that_one_login_may_write_are_no_others(one, other):
    assume(one != other)
    assert not fnmatchcase(heartbeat_key(worker_id_of(one, new_id())), heartbeat_key(worker_id_of(other, "*")))
    assert record_queue(one) != record_queue(other)
    assert not {*delivery_keys(one).values()} & {*delivery_keys(other).values(), *delivery_keys("").values()}


def test_without_a_login_everything_is_as_it_was():
    number = new_id()
    assert (worker_id_of("", number), login_of_worker(number)) == (number, "")
    assert record_queue("") == "records"
    assert delivery_keys("") == {"unacked_key": "unacked", "unacked_index_key": "unacked_index"}


@pytest.mark.parametrize("name", ["", "A", "a.b", "a*", "a b", "-a", "x" * 33, "unreadable", "ä", "a\n"])
def test_a_name_that_could_be_taken_for_another_is_no_login(name):
    assert not is_login(name)
    assert login_of_record_queue(f"records.{name}") is None


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("redis://runpod-1:pw@h:1/0", "runpod-1"),
        ("rediss://a%5Fb:pw@h/0?ssl_cert_reqs=required", "a_b"),
        ("redis://:pw@h/0", ""),
        ("redis://h/0", ""),
        ("redis://Worker.1:pw@h/0", ""),
        ("redis+socket:///tmp/s?virtual_host=0", ""),
    ],
)
def test_the_login_of_an_address(url, login):
    assert login_of_url(url) == login
