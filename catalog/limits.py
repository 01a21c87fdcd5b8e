"""The published ranges that ACE-Step 1.5 accepts; planning checks every spec against them.

Source: ACE-Step 1.5 reference implementation (`constants.py`, `constrained_logits_processor.py`, 2026-02).
"""

from __future__ import annotations

from typing import Final

BPM_MIN: Final = 30
BPM_MAX: Final = 300
DURATION_MIN_S: Final = 10
DURATION_MAX_S: Final = 600

NOTES: Final = tuple("ABCDEFG")
ACCIDENTALS: Final = ("", "#", "b", "♯", "♭")
MODES: Final = ("major", "minor")
KEYSCALES: Final = frozenset(
    f"{note}{accidental} {mode}" for note in NOTES for accidental in ACCIDENTALS for mode in MODES
)

# The model is told the numerator; people write the most common one as "4/4".
TIME_SIGNATURES: Final = ("2", "3", "4", "6")

LANGUAGES: Final = frozenset(
    (
        "ar az bg bn ca cs da de el en es fa fi fr he hi hr ht hu id is it ja ko la lt ms ne nl no pa pl pt "
        "ro ru sa sk sr sv sw ta te th tl tr uk ur vi yue zh unknown"
    ).split()
)

TEXT_TOKENS_MAX: Final = 256  # the DiT's text prompt; metadata stands last, so a long caption cuts it off
LYRIC_TOKENS_MAX: Final = 2048
STEPS_MAX: Final = 100

# Prompt and codes share the planner's context, and a prompt may have half of it.
PLANNER_CONTEXT_TOKENS: Final = 4096

# To the planner these are control tokens and no text, as is everything that begins with the first.
CONTROL_TEXTS: Final = (
    "<|",
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
)

SAMPLE_RATE_HZ: Final = 48_000
CHANNELS: Final = 2
LATENTS_PER_S: Final = 25
CODES_PER_S: Final = 5
CODEBOOK_SIZE: Final = 64_000


def control_text_in(text: str) -> str | None:
    """The first of `CONTROL_TEXTS` that `text` holds."""
    return next((each for each in CONTROL_TEXTS if each in text), None) if "<" in text else None


def planner_prompt_tokens_max(duration_s: int) -> int:
    """The most tokens of a prompt for a track of `duration_s`, whose codes come after it."""
    return min(PLANNER_CONTEXT_TOKENS - CODES_PER_S * duration_s, PLANNER_CONTEXT_TOKENS // 2)
