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

# The numerator is what the model is told; "4/4" is how people write the most common one.
TIME_SIGNATURES: Final = ("2", "3", "4", "6")

LANGUAGES: Final = frozenset(
    (
        "ar az bg bn ca cs da de el en es fa fi fr he hi hr ht hu id is it ja ko la lt ms ne nl no pa pl pt "
        "ro ru sa sk sr sv sw ta te th tl tr uk ur vi yue zh unknown"
    ).split()
)

TEXT_TOKENS_MAX: Final = 256  # the DiT's text prompt; metadata stands last and is what a long caption cuts off
LYRIC_TOKENS_MAX: Final = 2048
STEPS_MAX: Final = 100

SAMPLE_RATE_HZ: Final = 48_000
CHANNELS: Final = 2
LATENTS_PER_S: Final = 25
CODES_PER_S: Final = 5
CODEBOOK_SIZE: Final = 64_000
