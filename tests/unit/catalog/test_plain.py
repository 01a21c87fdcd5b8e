"""Text on streams of any encoding."""

import io
import json

import pytest

from catalog.plain import has_all_characters, replace_unencodable
from orchestrator.cli import console


def a_stream(encoding, errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", b"Z?rich ?"), ("latin-1", b"Z\xfcrich ?")])
def test_what_an_encoding_lacks_is_replaced(encoding, printed):
    stream = a_stream(encoding)
    replace_unencodable(stream, None)
    stream.write("Zürich 日")
    assert stream.buffer.getvalue() == printed


def test_a_stream_that_loses_nothing_keeps_its_own_rule():
    stream = a_stream("ascii", "surrogateescape")
    replace_unencodable(stream)
    stream.write("\udcfc")
    assert stream.buffer.getvalue() == b"\xfc"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_json_says_the_same_in_every_encoding(monkeypatch, encoding):
    stream = a_stream(encoding)
    monkeypatch.setattr("sys.stdout", stream)
    console.print_json({"title": "Zürich 日 🎵"})
    printed = stream.buffer.getvalue()
    assert json.loads(printed.decode(encoding)) == {"title": "Zürich 日 🎵"}
    assert ("日".encode() in printed) == has_all_characters(stream)
