"""Envelopes: ours are read, and no others, whatever is in them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.envelope import open_envelope
from catalog.errors import MessageError
from catalog.messages import RECORD_BYTES_MAX, RENDER_BYTES_MAX, check_record_size, parse_render

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


def an_envelope(body: Any = None, **changed: Any) -> dict[str, Any]:
    envelope = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {"body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "records"}},
    }
    return {**envelope, **changed}


def opened(raw: bytes) -> Any:
    return open_envelope(raw, queue="records", bytes_max=10_000)


@given(body=json_values)
def test_what_was_put_in_comes_out(body):
    assert json.dumps(opened(json.dumps(an_envelope(body)).encode()).body) == json.dumps(body)


@given(raw=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_but_words(raw):
    with pytest.raises(MessageError):
        opened(raw)


@given(name=st.sampled_from(["content-type", "content-encoding", "properties"]), value=json_values)
def test_what_an_envelope_says_of_itself_can_be_nothing_else(name, value):
    with pytest.raises(MessageError):
        opened(json.dumps(an_envelope(**{name: value})).encode())


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": {"compression": "application/x-gzip"}},
        {"content-type": "application/x-python-serialize"},
        {"properties": {"body_encoding": None, "delivery_info": {"exchange": "", "routing_key": "records"}}},
        {"properties": {"body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "render.tone.4g"}}},
        {"properties": {"body_encoding": "base64", "delivery_info": {"exchange": "x", "routing_key": "records"}}},
    ],
)
def test_what_would_make_a_reader_do_more_than_read_is_refused(changed):
    with pytest.raises(MessageError):
        opened(json.dumps(an_envelope({}, **changed)).encode())


def test_what_is_too_large_is_not_even_parsed():
    with pytest.raises(MessageError, match="refused"):
        opened(json.dumps(an_envelope("x" * 10_000)).encode())
    check_record_size(b"x" * RECORD_BYTES_MAX)
    with pytest.raises(MessageError, match="4,096 KiB"):
        check_record_size(b"x" * (RECORD_BYTES_MAX + 1))


@pytest.mark.parametrize("bulk", ["x" * RENDER_BYTES_MAX, "é" * (RENDER_BYTES_MAX // 2), [[]] * RENDER_BYTES_MAX])
def test_a_render_message_is_measured_however_its_bulk_is_made(bulk):
    with pytest.raises(MessageError, match="256 KiB"):
        parse_render({"v": 1, "bulk": bulk})
