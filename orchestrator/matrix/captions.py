"""Caption templates: one sentence of a genre, with placeholders for the words that differ from track to track.

A template is checked once; after that, it is only filled in. When a placeholder follows "a" or "an", the article is
adapted to the word that is filled in.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from orchestrator.matrix.names import printable, quoted

PLACEHOLDERS: Final = ("instruments", "mood", "mood2", "texture", "scene", "genre", "tempo_word")
NEEDED: Final = ("instruments", "mood")
_TEMPO_WORDS: Final = ((72, "slow"), (92, "relaxed"), (112, "mid-tempo"), (132, "lively"))  # each below its bpm
_ARTICLE: Final = re.compile(r"\b([Aa])n? $")
# Sounds, not letters, decide; these begin with a vowel's letter and a consonant's sound.
_CONSONANT_SOUND: Final = re.compile(r"(?i)(uni([^nm]|$)|use|usu|eu|one\b|once\b|ut[io])")
_VOWEL_SOUND: Final = re.compile(r"(?i)([aeiou]|hour|honest|heir)")


class Template(NamedTuple):
    """A caption with placeholders: literal text and the name after it, in order; the last name may be empty."""

    parts: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template. Raises ValueError in words for an unknown, missing or malformed placeholder."""
        return _parse(text)

    @property
    def placeholders(self) -> frozenset[str]:
        """The placeholders it uses."""
        return frozenset(placeholder for _, placeholder in self.parts if placeholder)

    def fill(self, words: Mapping[str, str]) -> str:
        """The caption with `words` in its placeholders."""
        out: list[str] = []
        for literal, placeholder in self.parts:
            if not placeholder:
                out.append(literal)
                continue
            word = words[placeholder]
            out.append(_with_article(literal, word) if literal[-2:-1] in "aAn" and literal else literal)
            out.append(word)
        return "".join(out)


def _no_placeholder(name: str, form: str, conversion: str) -> str:
    """The message about an unknown placeholder and, after a semicolon, the text to write instead."""
    written = printable(f"{name}{'!' * bool(conversion)}{conversion}{':' * bool(form)}{form}"[:40])
    guess = name if name in PLACEHOLDERS else next(iter(difflib.get_close_matches(name, PLACEHOLDERS, n=1)), "")
    fix = f"write {{{guess}}}" if guess else f"there are {' '.join(f'{{{each}}}' for each in PLACEHOLDERS)}"
    return f"{{{written}}} is not a placeholder of a caption; {fix}"


@lru_cache(maxsize=10_000)
def _parse(text: str) -> Template:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"the braces of {quoted(text)} do not match: {error}") from None
    parts: list[tuple[str, str]] = []
    for literal, placeholder, form, conversion in parsed:
        if placeholder is not None and (placeholder not in PLACEHOLDERS or form or conversion):
            raise ValueError(_no_placeholder(placeholder, form or "", conversion or ""))
        parts.append((literal, placeholder or ""))
    template = Template(tuple(parts))
    missing = [placeholder for placeholder in NEEDED if placeholder not in template.placeholders]
    if missing:
        raise ValueError(
            f"the caption lacks {{{missing[0]}}}, so its tracks would sound too much alike: {quoted(text)}"
        )
    return template


def _with_article(literal: str, word: str) -> str:
    match = _ARTICLE.search(literal)
    if match is None:
        return literal
    vowel = bool(_VOWEL_SOUND.match(word)) and not _CONSONANT_SOUND.match(word)
    return f"{literal[: match.start()]}{match[1]}{'n' if vowel else ''} "


def tempo_word(bpm: int) -> str:
    """The word that a person would use for a tempo; every word begins with a consonant's sound."""
    return next((word for below, word in _TEMPO_WORDS if bpm < below), "fast")


def tempo_parts(low: int, high: int) -> list[tuple[int, int]]:
    """The tempos from `low` to `high` in parts that are each called by one word, both ends included."""
    starts = [low, *(below for below, _ in _TEMPO_WORDS if low < below <= high)]
    return list(zip(starts, [*(start - 1 for start in starts[1:]), high], strict=True))


def as_genre(name: str) -> str:
    """A genre's name inside a sentence: 'Bossa nova' becomes 'bossa nova', 'R&B' stays."""
    return name[:1].lower() + name[1:] if name[1:2].islower() else name
