"""What the planner is told, to the letter: it was trained on exactly these strings."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from catalog.spec import PlannerSpec, TrackSpec
from workers.ace_step.planner.prompt import Prompts, render_prompts, think_block, think_metadata
from workers.ace_step.tiny.planner import write_tiny_planner

SYSTEM_TURN = """\
<|im_start|>system
# Instruction
Generate audio semantic tokens based on the given conditions:

<|im_end|>
"""
USER_TURN = """\
<|im_start|>user
# Caption
Slow piano, rain on glass

# Lyric
[Instrumental]
<|im_end|>
"""
FOUR_FIELDS = """\
bpm: 72
duration: 120
keyscale: F# minor
timesignature: 4
"""
LONG_CAPTION = (
    "A wide, patient ambient piece: felt piano over tape-warm strings, brushed cymbals far away, "
    "a bowed vibraphone that answers every fourth bar, and café noise – très doux"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("planner")
    write_tiny_planner(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def a_spec(**changes) -> TrackSpec:
    given = {"caption": "Slow piano, rain on glass", "bpm": 72, "keyscale": "F# minor", "duration_s": 120}
    return TrackSpec(**(given | changes))


def prompts(tokenizer, spec: TrackSpec | None = None, **planner) -> Prompts:
    return render_prompts(tokenizer, spec or a_spec(), PlannerSpec(**planner))


def test_an_open_turn_ends_with_the_think_block_and_a_blank_line(tokenizer):
    assert prompts(tokenizer).conditional == (
        f"{SYSTEM_TURN}{USER_TURN}<|im_start|>assistant\n<think>\n{FOUR_FIELDS}</think>\n\n"
    )


def test_an_open_turn_is_guided_away_from_no_input_and_no_metadata(tokenizer):
    assert prompts(tokenizer).unconditional == (
        f"{SYSTEM_TURN}<|im_start|>user\nNO USER INPUT<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_an_open_turn_is_guided_away_from_the_bare_negative_prompt(tokenizer):
    assert prompts(tokenizer, negative_prompt="harsh, distorted").unconditional == (
        f"{SYSTEM_TURN}<|im_start|>user\nharsh, distorted<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_a_closed_turn_is_a_finished_message(tokenizer):
    assert prompts(tokenizer, assistant_turn="closed").conditional == (
        f"{SYSTEM_TURN}{USER_TURN}<|im_start|>assistant\n<think>\n{FOUR_FIELDS}</think>\n\n<|im_end|>\n"
    )


def test_a_closed_turn_is_guided_away_from_the_same_words_without_metadata(tokenizer):
    assert prompts(tokenizer, assistant_turn="closed").unconditional == (
        f"{SYSTEM_TURN}{USER_TURN}<|im_start|>assistant\n<think>\n\n</think>\n\n<|im_end|>\n"
    )


def test_a_closed_turn_puts_the_negative_prompt_in_the_captions_place(tokenizer):
    negative = USER_TURN.replace("Slow piano, rain on glass", "harsh")
    assert prompts(tokenizer, assistant_turn="closed", negative_prompt="harsh").unconditional == (
        f"{SYSTEM_TURN}{negative}<|im_start|>assistant\n<think>\n\n</think>\n\n<|im_end|>\n"
    )


@pytest.mark.parametrize("nothing", ["", "  ", "NO USER INPUT"])
def test_a_negative_prompt_that_says_nothing_is_none(tokenizer, nothing):
    assert prompts(tokenizer, negative_prompt=nothing) == prompts(tokenizer)
    closed = prompts(tokenizer, assistant_turn="closed", negative_prompt=nothing)
    assert closed == prompts(tokenizer, assistant_turn="closed")


def test_without_guidance_there_is_no_second_prompt(tokenizer):
    assert prompts(tokenizer, cfg_scale=1).unconditional is None


def test_a_long_caption_is_folded_and_quoted_as_pyyaml_does():
    spec = a_spec(caption=LONG_CAPTION, language="no")
    every = PlannerSpec(think_fields=("bpm", "caption", "duration", "keyscale", "language", "timesignature"))
    assert think_block(think_metadata(spec, every)) == (
        "<think>\n"
        "bpm: 72\n"
        "caption: 'A wide, patient ambient piece: felt piano over tape-warm strings, brushed\n"
        "  cymbals far away, a bowed vibraphone that answers every fourth bar, and café noise\n"
        "  – très doux'\n"
        "duration: 120\n"
        "keyscale: F# minor\n"
        "language: 'no'\n"
        "timesignature: 4\n"
        "</think>"
    )


def test_only_the_wanted_fields_are_written_whatever_their_order():
    wanted = PlannerSpec(think_fields=("timesignature", "bpm"))
    assert list(think_metadata(a_spec(timesignature="3"), wanted).items()) == [("bpm", 72), ("timesignature", 3)]


def test_four_four_is_four_and_digits_are_a_number():
    spec = a_spec().model_copy(update={"timesignature": "4/4", "caption": "808"})
    fields = think_metadata(spec, PlannerSpec(think_fields=("caption", "timesignature")))
    assert think_block(fields) == "<think>\ncaption: 808\ntimesignature: 4\n</think>"


def test_no_fields_leave_an_empty_think_block(tokenizer):
    assert prompts(tokenizer, think_fields=()).conditional.endswith("assistant\n<think>\n\n</think>\n\n")
