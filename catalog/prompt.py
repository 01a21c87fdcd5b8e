"""The prompts: the exact text that the model reads for one track, and a check that the text fits.

The diffusion model reads at most 256 tokens. Tempo, metre, key and duration stand last, so a caption that is too long
silently cuts them off. Therefore every plan is held to the limit before anything is sent. With a tokenizer, the count
is exact. Without one, the true number lies between `token_floor` and, for all but rare words, `token_ceiling`. The
worker always counts exactly.

Source: ACE-Step 1.5 reference implementation (`constants.py`, `handler.py`, 2026-02).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from catalog import limits
from catalog.spec import TrackSpec
from catalog.tasks import get_task

PLANNER_INSTRUCTION: Final = "Generate audio semantic tokens based on the given conditions:"  # to the planner itself

# All of the text prompt but the caption: 57 tokens at most in any key, tempo, metre and duration, measured with
# Qwen's published vocabulary (2026-10); one more because a caption's last character may not join what follows.
TEMPLATE_TOKENS: Final = 58
LYRIC_TEMPLATE_TOKENS: Final = 16  # measured in the same way: 11 with the longest language name
CAPTION_TOKENS_MAX: Final = limits.TEXT_TOKENS_MAX - TEMPLATE_TOKENS
LYRICS_TOKENS_MAX: Final = limits.LYRIC_TOKENS_MAX - LYRIC_TEMPLATE_TOKENS


def instruction_of(spec: TrackSpec) -> str:
    """The instruction that opens the text prompt: another one when planner codes guide the diffusion."""
    return get_task(spec.task).instruction_for(coded=spec.planner is not None)


def text_prompt(spec: TrackSpec, instruction: str | None = None) -> str:
    """The diffusion model's text prompt for a `spec` that is not open; `instruction` defaults to the task's."""
    bpm, keyscale, timesignature = spec.music
    metas = (
        f"- bpm: {bpm}\n- timesignature: {timesignature}\n"
        f"- keyscale: {keyscale}\n- duration: {spec.duration_s} seconds\n"
    )
    opening = instruction or instruction_of(spec)
    return f"# Instruction\n{opening}\n\n# Caption\n{spec.caption}\n\n# Metas\n{metas}<|endoftext|>\n"


def lyric_prompt(spec: TrackSpec) -> str:
    """The diffusion model's lyric prompt for `spec`."""
    return f"# Languages\n{spec.language}\n\n# Lyric\n{spec.lyrics}<|endoftext|>"


# Words that captions are made of and that the model's vocabulary holds as one token each (measured 2026-10).
_WHOLE_WORDS: Final = frozenset(
    """
    about acoustic after afternoon aggressive air airy all ambient analog and are area background bar bass beach beat
    bells between blues both breakdown breathing bright brushed brushes building built but calm can chords class
    classical clean clear close club coffee confident country crisp dance dark deep delicate disco distant distortion
    double driven driving drone drops drum drums dry dynamic dynamics easy electric electronic elegant energetic
    energy evening even family fast feel feeling felt female film filtered fine flat floor flowing flute folk for four
    free fresh from full funk funky futuristic gentle gently glass grand groove guitar guitars half hall hand
    harmony harsh has hat hats heavy high hip hook hop hopeful hotel house indie inspired
    instrumental instruments intense intimate into island jazz joyful keys kick large lead leads led light like
    line lines live lively lobby long loop loud lounge low lush lyrics major male meditation melodies
    melody metal mid minimal minor modern mood more morning movement music muted narrow night noise nostalgic not notes
    nylon office open orchestra organ over pads pattern percussion piano piece playful polished pop positive
    powerful production progressive pulse quick quiet quietly rainy rap recording relaxed relaxing restaurant
    rhythm rich rock rolling romantic room rounded samples scene section sensual serene
    shop short simple slow slowly small smooth soaring soft softly solo song sonic soul sound sounds
    soundtrack space spacious sparse steady step stereo still street string strings studio style subtle summer sunny
    sunset sustained swing swung synth talk tape techno tempo tender texture that the their theme this through tight
    time tone tones track tradition traditional trance trap trio tropical trumpet under upbeat upright upscale urban
    very vibe vinyl violin vocal vocals voice voices waiting walking warm warmth water wave while wide wind with without
    wooden world
    """.split()
)
_PIECES: Final = re.compile(
    r"(?P<word>[A-Za-z]+)|(?P<sign>[!-/:-@\[-`{-~]+)|(?P<far>[^\x00-\x7f]+)"
    r"|(?P<gap> (?=[\u3000-\u9fff\uac00-\ud7a3]))|(?P<one>[0-9]|\s*\n\s*| (?=[0-9])|\s{2,})"
)
# Tokens a character, by script: above what running text takes in each (measured 2026-10), below its UTF-8 bytes.
_RATES: Final = (
    (0x00C0, 0x024F, 0.9),  # accented Latin
    (0x0370, 0x03FF, 1.1),  # Greek
    (0x0400, 0x052F, 0.6),  # Cyrillic
    (0x0590, 0x06FF, 0.8),  # Hebrew, Arabic
    (0x0900, 0x097F, 1.3),  # Devanagari
    (0x0E00, 0x0E7F, 0.8),  # Thai
    (0x1E00, 0x1EFF, 0.5),  # Vietnamese
    (0x2010, 0x203A, 1.0),  # typographic quotes and dashes
    (0x3000, 0x30FF, 1.05),  # kana
    (0x4E00, 0x9FFF, 1.05),  # Chinese characters
    (0xAC00, 0xD7A3, 1.2),  # Hangul
)
_PER_LETTER: Final = 0.4
_PER_CAPITAL: Final = 0.6
_SLACK: Final = 2


def token_ceiling(text: str) -> int:
    """Estimate the largest number of Qwen tokens in `text` without the tokenizer.

    The estimate never exceeds the number of UTF-8 bytes, which is the hard bound.
    Measured against the published vocabulary, the estimate is above the true count on prose in 20 languages; on English
    captions the estimate is 1.05 to 1.85 times the true count, 1.35 on average.
    Text made only of rare words or random letters may exceed the estimate.
    """
    total = sum(_piece_tokens(match.lastgroup or "", match.group()) for match in _PIECES.finditer(text))
    return min(math.ceil(total) + _SLACK, len(text.encode("utf-8", "surrogatepass")))


@lru_cache(maxsize=20_000)
def _piece_tokens(kind: str, piece: str) -> float:
    if kind == "word":
        return _word_tokens(piece)
    if kind == "sign":
        return 0.5 + 0.5 * len(piece)
    if kind == "far":
        return sum(_far_tokens(character) for character in piece)
    # A blank before a Chinese, Japanese or Korean letter is a token, and breaks the words that are one token.
    return 1.3 if kind == "gap" else 1.0


def _word_tokens(word: str) -> float:
    if word in _WHOLE_WORDS or len(word) <= 2:
        return 1.0
    if not word[1:].islower():
        return max(1.0, _PER_CAPITAL * len(word))
    return max(1.5, _PER_LETTER * len(word))


def _far_tokens(character: str) -> float:
    point = ord(character)
    for first, last, rate in _RATES:
        if first <= point <= last:
            return rate
    return min(2.5, float(len(character.encode("utf-8", "surrogatepass"))))


# The tokenizer cuts a text before it looks a piece up: a run of letters, which may take one sign before it; a digit; a
# run of signs. The longest tokens of letters in the vocabulary have 36 letters, 14 outside Latin and 6 in Chinese.
_CUTS: Final = re.compile(r"(?P<letters>[^\W\d_]+)|(?P<one>\d|(?:[^\w\s]|_){2,}|(?:[^\w\s]|_)(?![^\W\d_]))")
_CHINESE: Final = re.compile("[\u4e00-\u9fff]")


def token_floor(text: str) -> int:
    """Count the fewest Qwen tokens that `text` can take: one for each piece that the tokenizer never joins to others.

    On English texts the true count is 1.05 to 2.2 times as large, 1.2 in the middle (711 texts, 2026-11).
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return sum(_fewest(match[1]) if match[1] else 1 for match in _CUTS.finditer(text))


def _fewest(letters: str) -> int:
    if letters.isascii():
        return 1 + (len(letters) - 1) // 36
    return max(1 + (len(letters) - 1) // 14, math.ceil(len(_CHINESE.findall(letters)) / 6))


class PromptFit(StrEnum):
    """The result of comparing a text's token count with the model's limit."""

    FITS = "fits"
    IN_DOUBT = "in doubt"  # only a tokenizer could tell
    TOO_LONG = "too long"


class TokenCounter(NamedTuple):
    """Counts the tokens of texts: exactly with a tokenizer, else within bounds."""

    exact: Callable[[str], int] | None = None

    def fit(self, text: str, tokens_max: int) -> PromptFit:
        """Tell whether `text` takes at most `tokens_max` tokens."""
        if len(text) * 4 <= tokens_max:  # a token holds at least one byte
            return PromptFit.FITS
        if self.exact is None:
            if token_ceiling(text) <= tokens_max:
                return PromptFit.FITS
            return PromptFit.TOO_LONG if token_floor(text) > tokens_max else PromptFit.IN_DOUBT
        return PromptFit.FITS if self.exact(text) <= tokens_max else PromptFit.TOO_LONG

    def in_words(self, text: str, tokens_max: int) -> str:
        """Say how many tokens a text that is too long takes."""
        count = f"{self.exact(text):,}" if self.exact else f"at least {token_floor(text):,}"
        return f"{count} tokens, and {tokens_max:,} fit"

    def cut(self, text: str, tokens_max: int) -> str:
        """Say how much to cut from the end of `text`, so that the rest fits."""
        over = words_over(text, tokens_max, self.exact or token_ceiling)
        words = text.split()
        if len(text) < 20 * len(words):
            return f"cut {over:,} of its {len(words):,} words"
        return f"cut {_letters_over(text, tokens_max, self.exact or token_ceiling):,} of its {len(text):,} characters"


ESTIMATE: Final = TokenCounter()


def words_over(text: str, tokens_max: int, count: Callable[[str], int] = token_ceiling) -> int:
    """Count the words to cut from the end of `text` so that its `count` is at most `tokens_max`; 0 when it fits."""
    words = text.split()
    return len(words) - _longest_fitting(len(words), lambda kept: count(" ".join(words[:kept])) <= tokens_max)


def _letters_over(text: str, tokens_max: int, count: Callable[[str], int]) -> int:
    """The same of characters, for a text without blanks."""
    return len(text) - _longest_fitting(len(text), lambda kept: count(text[:kept]) <= tokens_max)


def _longest_fitting(size: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number up to `size` that `fits`, where all smaller ones fit too; 0 when none does."""
    low, high = 0, size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
