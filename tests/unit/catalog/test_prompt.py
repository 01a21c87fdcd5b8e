"""The prompts: the exact text the model reads, and an estimate of its length that errs on the high side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.limits import TEXT_TOKENS_MAX
from catalog.prompt import (
    CAPTION_TOKENS_MAX,
    ESTIMATE,
    TEMPLATE_TOKENS,
    PromptFit,
    TokenCounter,
    lyric_prompt,
    text_prompt,
    token_ceiling,
    token_floor,
    words_over,
)
from catalog.spec import PlannerSpec, TrackSpec
from catalog.tasks import TEXT2MUSIC

SPEC = TrackSpec(caption="warm piano", bpm=90, keyscale="F# minor", duration_s=120, timesignature="3", planner=None)

# Texts and how many tokens Qwen's published vocabulary makes of them (measured 2026-10).
_COUNTS = Path(__file__).with_name("qwen_token_counts.tsv").read_text(encoding="utf-8").splitlines()
MEASURED = [(int(tokens), text) for tokens, text in (line.split("\t") for line in _COUNTS)]


def test_the_text_prompt_is_the_models_template_to_the_letter() -> None:
    assert text_prompt(SPEC) == (
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n"
        "# Caption\nwarm piano\n\n"
        "# Metas\n- bpm: 90\n- timesignature: 3\n- keyscale: F# minor\n- duration: 120 seconds\n<|endoftext|>\n"
    )


def test_planner_codes_change_the_instruction_and_nothing_else() -> None:
    planned = SPEC.model_copy(update={"planner": PlannerSpec()})
    assert text_prompt(planned) == text_prompt(SPEC).replace(TEXT2MUSIC.instruction, TEXT2MUSIC.coded_instruction)
    assert text_prompt(planned, TEXT2MUSIC.instruction) == text_prompt(SPEC)


def test_the_lyric_prompt_is_the_models_template_to_the_letter() -> None:
    assert lyric_prompt(SPEC) == "# Languages\nunknown\n\n# Lyric\n[Instrumental]<|endoftext|>"


@pytest.mark.parametrize(("tokens", "text"), MEASURED)
def test_the_ceiling_is_not_below_the_measured_count(tokens: int, text: str) -> None:
    assert tokens <= token_ceiling(text) <= 2.5 * tokens


def test_the_ceiling_is_near_the_count_on_english_captions() -> None:
    english = [(tokens, text) for tokens, text in MEASURED if text.isascii() and "," in text and text[1].islower()]
    assert len(english) >= 6
    assert sum(token_ceiling(text) for _, text in english) < 1.6 * sum(tokens for tokens, _ in english)


@given(st.text(max_size=300))
def test_the_ceiling_never_exceeds_the_bytes(text: str) -> None:
    assert 0 <= token_ceiling(text) <= len(text.encode("utf-8", "surrogatepass"))


def test_a_caption_of_512_characters_of_english_fits() -> None:
    text = MEASURED[[text[:12] for _, text in MEASURED].index("An explosive")][1]
    assert token_ceiling((text * 3)[:512]) <= CAPTION_TOKENS_MAX
    assert CAPTION_TOKENS_MAX + TEMPLATE_TOKENS == TEXT_TOKENS_MAX


@given(st.lists(st.sampled_from(["piano", "shakuhachi", "warm", "静か", "120"]), max_size=400))
def test_cutting_the_words_it_names_makes_a_text_fit(words: list[str]) -> None:
    over = words_over(" ".join(words), 100)
    assert token_ceiling(" ".join(words[: len(words) - over])) <= 100
    assert over == 0 or token_ceiling(" ".join(words)) > 100


# ------------------------------------------------------------ what is surely too long


@pytest.mark.parametrize(("tokens", "text"), MEASURED)
def test_the_floor_is_not_above_the_measured_count(tokens: int, text: str) -> None:
    assert 0 < token_floor(text) <= tokens


@pytest.mark.parametrize(("tokens", "text"), MEASURED)
def test_no_text_that_fits_exactly_is_refused_without_a_tokenizer(tokens: int, text: str) -> None:
    assert ESTIMATE.fit(text, tokens) is not PromptFit.TOO_LONG


def test_a_text_of_more_words_than_tokens_fit_is_surely_too_long() -> None:
    assert ESTIMATE.fit("wonderful " * 199, CAPTION_TOKENS_MAX) is PromptFit.TOO_LONG
    assert ESTIMATE.fit("wonderful " * 198, CAPTION_TOKENS_MAX) is PromptFit.IN_DOUBT
    assert ESTIMATE.fit("wonderful " * 40, CAPTION_TOKENS_MAX) is PromptFit.FITS
    assert ESTIMATE.fit("静" * 1_200, CAPTION_TOKENS_MAX) is PromptFit.TOO_LONG


@given(
    st.lists(st.sampled_from(["piano", "shakuhachi", "warm,", "(静か)", "120", "x" * 90]), min_size=60, max_size=400)
)
def test_what_is_left_after_the_cut_that_is_advised_fits(words: list[str]) -> None:
    text = " ".join(words)
    count, unit = re.fullmatch(r"cut ([\d,]+) of its [\d,]+ (words|characters)", ESTIMATE.cut(text, 50)).groups()
    over = int(count.replace(",", ""))
    left = " ".join(words[: len(words) - over]) if unit == "words" else text[: len(text) - over]
    assert ESTIMATE.fit(left, 50) is PromptFit.FITS


def test_a_text_without_blanks_is_cut_by_characters() -> None:
    assert re.fullmatch(r"cut \d+ of its 300 characters", ESTIMATE.cut("静" * 300, 198))


def test_with_a_tokenizer_there_is_no_doubt() -> None:
    counter = TokenCounter(lambda text: len(text.split()))
    assert counter.fit("wonderful " * 198, 198) is PromptFit.FITS
    assert counter.fit("wonderful " * 199, 198) is PromptFit.TOO_LONG
    assert counter.in_words("wonderful " * 199, 198) == "199 tokens, and 198 fit"
    assert counter.cut("wonderful " * 199, 198) == "cut 1 of its 199 words"
