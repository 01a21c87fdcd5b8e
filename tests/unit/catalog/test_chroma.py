"""Chroma codes: copies of a recording are told from other music, and text from anywhere is read safely."""

from __future__ import annotations

import zlib
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.chroma import CODES_MAX, ChromaCodes, pack_codes, unpack_codes
from tests.support.chroma import chroma_of_music, codes_of_music, worn

MUSIC = codes_of_music(1)


def read(codes: list[int]) -> ChromaCodes:
    found = unpack_codes(pack_codes(codes))
    assert found is not None
    return found


@given(codes=st.lists(st.integers(0, 2**32 - 1), min_size=40, max_size=CODES_MAX, unique=True))
def test_codes_are_read_as_they_were_written(codes):
    assert list(read(codes)._codes) == codes


def test_two_minutes_of_music_take_less_than_the_codes_themselves():
    assert len(pack_codes(MUSIC)) < len(MUSIC) * 4


def test_a_recording_is_wholly_like_itself():
    assert read(MUSIC).likeness(read(MUSIC)) == (1.0, 0.0)


@pytest.mark.parametrize(("share", "shift"), [(0.9, 0), (0.5, 4), (0.26, 0), (0.12, 40), (0.4, 121)])
def test_a_copy_is_the_same_through_codecs_and_shifts_either_way(share, shift):
    one, other = read(MUSIC), read(worn(MUSIC, share=share, shift=shift))
    assert one.likeness(other).is_same
    assert other.likeness(one) == one.likeness(other)
    assert one.likeness(other).bit_error_rate == pytest.approx((1 - share) / 32, abs=0.005)


def test_other_music_is_not_the_same_though_both_have_a_pause():
    likeness = read(MUSIC).likeness(read(codes_of_music(2)))
    assert 0 < likeness.share < 0.05
    assert not likeness.is_same


def test_two_pieces_of_the_same_codes_in_another_order_are_not_the_same():
    backwards = read(MUSIC).likeness(read(MUSIC[::-1]))
    assert backwards.share == 1.0
    assert not backwards.is_same


def test_a_few_equal_codes_at_the_end_of_one_and_the_beginning_of_the_other_are_no_copy():
    other = [*MUSIC[-100:], *codes_of_music(2)[100:]]
    assert not read(MUSIC).likeness(read(other)).is_same


@pytest.mark.parametrize(
    "text",
    [
        *("", "no base64!", "AAAA", b64encode(b"not deflated").decode()),
        b64encode(zlib.compress(b"\1\2\3\4\5")).decode(),  # no whole number of codes
        pack_codes([7] * 500),  # a drone
        chroma_of_music(1)[:-40],
    ],
)
def test_text_without_codes_to_compare_has_none(text):
    assert unpack_codes(text) is None


def test_text_that_would_fill_the_memory_is_not_unpacked():
    assert unpack_codes(b64encode(zlib.compress(bytes(10**8))).decode()) is None
    assert unpack_codes(pack_codes(codes_of_music(1, CODES_MAX))) is not None
    assert unpack_codes(pack_codes(codes_of_music(1, CODES_MAX + 1))) is None
