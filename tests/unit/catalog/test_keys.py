"""Whatever a catalog, zone, genre or slot is called, no take lies outside its prefix."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog.errors import StoreError
from catalog.keys import audio_key, checked_key, sidecar_key
from catalog.messages import parse_render
from catalog.track import Take, Track
from tests.support.makers import SHA, a_message, a_spec

SLUGS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
TRICKS = [
    "..",
    "../up",
    "a/../../b",
    "/abs",
    "a/b",
    "a\\b",
    ".",
    ".hidden",
    "a.b",
    "a%2fb",
    "%2e%2e",
    "a\nb",
    "a\n",
    "\x00",
    "a\x00",
    "a\x7f",
    "a b",
    "",
    "UPPER",
    "-flag",
    "a\u2215b",  # division slash
    "a\uff0fb",  # fullwidth slash
    "\uff0e\uff0e",  # fullwidth dots
    "\u2024\u2024",  # one dot leaders
    "a\u202eb",  # right-to-left override
    "\u0430bc",  # a Cyrillic a
    "\u0661",  # a digit, elsewhere
    "a\u0301",
    "s\u0131r",  # dotless i
    "\ud800",
    "x" * 65,
]
NAMES = st.text(max_size=70) | st.sampled_from(TRICKS) | SLUGS


def track(**fields: Any) -> Track:
    return Track(
        **{"catalog": "spa", "zone": "thermal", "genre": "ambient", "slot": "0001", "spec": a_spec(), **fields}
    )


@pytest.mark.parametrize("field", ["catalog", "zone", "genre", "slot"])
@pytest.mark.parametrize("name", TRICKS, ids=ascii)
def test_a_name_that_could_be_more_than_a_name_is_refused(field, name):
    with pytest.raises(ValidationError):
        track(**{field: name})
    message = a_message().model_dump(mode="json")
    message["take"]["track"][field] = name
    with pytest.raises(Exception, match="cannot be read"):
        parse_render(message)


@given(
    catalog=NAMES, zone=NAMES, genre=NAMES, slot=NAMES, axes=st.dictionaries(NAMES, NAMES), number=st.integers(1, 1000)
)
def test_every_track_that_is_accepted_keeps_its_takes_below_its_catalog(catalog, zone, genre, slot, axes, number):
    try:
        take = track(catalog=catalog, zone=zone, genre=genre, slot=slot, axes=axes).take(number)
    except (ValidationError, UnicodeEncodeError):
        return
    for key in (sidecar_key(take), audio_key(take, SHA, "flac")):
        assert checked_key(key) == key
        assert PurePosixPath("/store", key).is_relative_to(f"/store/{catalog}")
        assert ".." not in key


@given(extension=st.text(max_size=10) | st.sampled_from(["../x", "flac/../..", "FLAC", "fl\nac", "flac\x00", "", "."]))
def test_no_extension_leads_out_of_the_store(extension):
    take: Take = track().take()
    key = audio_key(take, SHA, extension)
    try:
        checked_key(key)
    except StoreError:
        return
    assert PurePosixPath("/store", key).is_relative_to("/store/spa/audio/thermal/ambient")
    assert PurePosixPath(key).parts == tuple(key.split("/"))


@given(key=st.text(max_size=60) | st.sampled_from(TRICKS).map(lambda name: f"spa/takes/{name}"))
def test_a_key_that_a_store_accepts_stays_below_it(key):
    try:
        checked_key(key)
    except StoreError:
        return
    assert key.isascii()
    assert key == key.strip("/")
    assert not {"", ".", ".."} & set(key.split("/"))
