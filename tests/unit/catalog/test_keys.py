"""Whatever a catalog, zone, genre or slot is called, no take lies outside its prefix."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog.errors import StoreError
from catalog.keys import audio_key, checked_key, sidecar_key, take_named
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


ID = "02be5c3fb1d24c6a9e8f0a11"
FILE = f"{ID}-{'ab' * 8}.flac"


@pytest.mark.parametrize(
    "text",
    [
        ID,
        ID.upper(),
        f"  {ID}\n",
        f"'{ID}'",
        FILE,
        f'"{FILE}"',
        f"spa/audio/thermal/ambient/{FILE}",
        f"/srv/music #1/a?b/{FILE}",
        f"./{FILE.removesuffix('.flac')}.mp3",
        f"{ID}-abababab",
        f"{ID}-{'ab' * 8} (1).flac",
        f"C:\\Music\\{FILE}",
        f"s3://bucket/prefix/spa/audio/thermal/ambient/{FILE}",
        f"file:///srv/{FILE}",
        f"https://host/bucket/{FILE}?X-Amz-Signature=abc/def",
        f"spa/takes/{ID}.json",
        f"s3://bucket/spa/takes/{ID}.json",
        f"spa/verdicts/{ID}-20261130161500-0123abcd.json",
    ],
)
def test_a_take_is_named_by_its_id_or_by_any_of_its_files(text):
    assert take_named(text) == ID


@pytest.mark.parametrize(
    ("text", "digits"), [(ID[:12], ID[:12]), ("02be", "02be"), ("02be5c…", "02be5c"), ("A1..", "a1")]
)
def test_the_first_digits_will_do(text, digits):
    assert take_named(text) == digits


@pytest.mark.parametrize("text", ["", "  ", "Warm Stone", "song.flac", f"{ID}0", "spa/audio/", "run-1", "/", "02bg"])
def test_what_names_no_take_is_none(text):
    assert take_named(text) is None


@given(text=st.text(max_size=60))
def test_what_a_person_pastes_becomes_hex_digits_or_nothing(text):
    found = take_named(text)
    assert found is None or (0 < len(found) <= 24 and set(found) <= set("0123456789abcdef"))


@given(take=st.integers(1, 9), extension=st.sampled_from(["flac", "mp3", "opus"]))
def test_both_keys_of_a_take_name_it(take, extension):
    made = track().take(take)
    assert take_named(sidecar_key(made)) == take_named(audio_key(made, SHA, extension)) == made.id
