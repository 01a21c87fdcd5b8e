"""Layouts: requests of other programs keep what they ask for, or are refused; nothing is turned into something else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from orchestrator.matrix.layouts import Layout, is_typo
from orchestrator.matrix.values import UnusableValue


def read(item: dict[str, Any], ignored: Iterable[str] = (), **columns: str) -> dict[str, Any]:
    """The values of one request; `columns` by column."""
    return Layout({heading: column for column, heading in columns.items()}, ignored).read(item.items())


@pytest.mark.parametrize(
    ("flag", "lyrics", "meant"),
    [
        (True, "", "[Instrumental]"),
        ("WAHR", "-", "[Instrumental]"),
        (1, "[inst]", "[Instrumental]"),
        (True, "[Intro]\n\n[Guitar Solo]", "[Intro]\n\n[Guitar Solo]"),
        (False, "la la", "la la"),
        (False, "[Instrumental]", "[Instrumental]"),  # false is what a dump says by itself; the lyrics were written
        (None, "(instrumental)", "[Instrumental]"),
        ("", "No vocals", "[Instrumental]"),
        ("N/A", "N/A", None),
        (None, "", None),
    ],
)
def test_flag_and_lyrics_together_say_whether_there_is_a_voice(flag: Any, lyrics: str, meant: str | None) -> None:
    assert read({"caption": "x", "instrumental": flag, "lyrics": lyrics}).get("lyrics") == meant


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"instrumental": True, "lyrics": "[Verse]\nla la"}, "marked instrumental and has lyrics"),
        ({"instrumental": "falsch"}, "asks for singing and has no lyrics"),
        ({"vocals": "yes"}, "asks for singing and has no lyrics"),
        ({"is_instrumental": "perhaps"}, "must be true or false"),
        ({"task_type": "cover"}, "the task 'cover'"),
        ({"taskType": "repaint", "srcAudioPath": "a.wav"}, "the task 'repaint', given audio"),
        ({"reference_audio": "a.wav"}, "given audio"),
        ({"audio2audio_enable": True}, "given audio"),
        ({"audio_codes": "1,2,3"}, "given audio"),
        ({"model": "acestep-v15-sft"}, "other weights"),
        ({"lora_name_or_path": "somebody/rap"}, "other weights"),
        ({"input": {"task_type": "lego"}}, "the task 'lego'"),
        ({"prompt": "y"}, "both say the caption"),
        ({"duraton": 90}, "a slip"),
        ({"duration_ms": "long"}, "not a number"),
    ],
)
def test_what_no_track_can_be_is_refused_with_a_way_out(item: dict[str, Any], words: str) -> None:
    with pytest.raises(UnusableValue, match=words) as raised:
        read({"caption": "x", **item})
    assert raised.value.fix


@pytest.mark.parametrize(
    "item",
    [
        {"task_type": "text2music", "src_audio": None, "reference_audio": "", "audio_codes": "", "lora": "none"},
        {"model": "acestep-v15-turbo"},
        {"model": "ACE-Step/acestep-v15-turbo", "audio2audio_enable": False},
        {"task": "text-to-music", "model": None, "synth_model": ""},
    ],
)
def test_a_request_for_what_a_catalog_makes_is_taken(item: dict[str, Any]) -> None:
    assert read({"caption": "x", **item}) == {"caption": "x"}


def test_the_way_out_that_an_error_names_leads_out() -> None:
    cover = {"caption": "x", "task_type": "cover", "src_audio": "a.wav", "model": "other"}
    with pytest.raises(UnusableValue) as raised:
        read(cover)
    ignored = raised.value.fix.split("--ignore ")[1:]
    assert read(cover, [each.strip() for each in ignored]) == {"caption": "x"}


def test_keys_are_known_in_camel_case_with_blanks_and_inside_other_objects() -> None:
    item = {
        "prompt": "x",
        "param_obj": '{"audioDuration": 30, "Key/Scale": "Am"}',
        "metas": {"bpm": 90, "duration": 60},
    }
    assert read({**item, "Time Signature": "3"}) == {
        **{"caption": "x", "duration_s": 30, "keyscale": "Am", "bpm": 90, "timesignature": "3"}
    }


def test_a_random_seed_is_no_seed_and_of_several_the_first_counts() -> None:
    assert "seed" not in read({"caption": "x", "seed": 7, "use_random_seed": True})
    layout = Layout({}, ())
    assert layout.read({"caption": "x", "manual_seeds": [7, 9]}.items())["seed"] == "7"
    assert layout.unheeded == {"seeds after the first": 1}


def test_two_headings_of_one_column_agree_or_the_row_is_refused() -> None:
    assert read({"caption": "x", "key": "Am", "camelot": "8A"})["keyscale"] == "Am"
    assert read({"caption": "x", "language": "unknown", "vocal_language": "de"})["language"] == "de"
    with pytest.raises(UnusableValue, match="differ"):
        read({"caption": "x", "key": "Am", "camelot": "8B"})


def test_settings_of_the_sampler_are_counted_where_they_ask_for_something_else() -> None:
    layout = Layout({}, ())
    layout.read({"caption": "x", "infer_step": 60, "guidanceScale": 15, "shift": 3.0, "inference_steps": "8"}.items())
    assert +layout.unheeded == {"infer_step": 1, "guidanceScale": 1}


def test_what_nothing_knows_is_named_once() -> None:
    layout = Layout({}, ["secret"])
    for _ in range(2):
        layout.read({"caption": "x", "omega": 1, "tempo": "slow", "vocals": "female alto", "secret": 1}.items())
    assert list(layout.unused) == ["omega", "tempo", "vocals"]


def test_lyrics_under_the_name_of_a_prompt_are_found_out() -> None:
    song = {"prompt": "[Verse 1]\nla la", "tags": "folk duet"}
    with pytest.raises(UnusableValue, match="holds lyrics") as raised:
        read(song)
    assert raised.value.fix == "add --column lyrics=prompt --column caption=tags"
    assert read(song, lyrics="prompt", caption="tags") == {"lyrics": "[Verse 1]\nla la", "caption": "folk duet"}


def test_a_near_miss_of_the_caption_is_offered() -> None:
    with pytest.raises(UnusableValue) as raised:
        read({"description": "x", "instrumental": True})
    assert raised.value.fix == "add --column caption=description"
    assert read({"description": "x"}, caption="description") == {"caption": "x"}
    assert read({"description": "x", "kind": "Am"}, prompt="description", key="kind") == {
        "caption": "x",
        "keyscale": "Am",
    }


def test_a_slip_is_one_letter_and_neither_a_plural_nor_another_word() -> None:
    assert all(is_typo(*pair) for pair in [("duraton", "duration"), ("captoin", "caption"), ("lyrrics", "lyrics")])
    others = [("lyricist", "lyrics"), ("genres", "genre"), ("caption_id", "caption"), ("kez", "key")]
    assert not any(is_typo(*pair) for pair in others)
