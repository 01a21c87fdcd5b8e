"""Advice: notes about requests that the model is known to serve badly, counted over a catalog's tracks; never an error.

Source: ACE-Step 1.5's tutorial on tempo, key and metre (docs/en/Tutorial.md, 2026), and the limitations on ACE-Step's
model card on length, languages and styles (2025). presets/README.md says the same to people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from catalog.prompt import CAPTION_TOKENS_MAX, ESTIMATE, LYRICS_TOKENS_MAX, PromptFit, TokenCounter
from catalog.spec import INSTRUMENTAL, TrackSpec

STEADY_BPM: Final = range(60, 181)
COHERENT_S: Final = 300
# Five sharps or flats and more. The tutorial calls C, G, D, A minor and E minor the steadiest.
RARE_KEYS: Final = frozenset(
    [f"{tonic} major" for tonic in "B Cb F# Gb C# Db G# D# A# E# B# Fb".split()]
    + [f"{tonic} minor" for tonic in "G# Ab D# Eb A# Bb E# B# Cb Fb Db Gb".split()]
)
STRONG_LANGUAGES: Final = ("en", "zh", "ru", "es", "ja", "de", "fr", "pt", "it", "ko")
WEAK_STYLES: Final = (("zh", "rap"),)  # language of the lyrics, and a word of the caption

_OUTSIDE_TEMPO: Final = f"outside {STEADY_BPM[0]} to {STEADY_BPM[-1]} bpm, where the model had less training data"
_RARE_KEY: Final = "in rare keys, which the model may ignore or shift"
_METRE: Final = "in another metre than 4/4, which the model keeps best"
_LONG: Final = f"over {COHERENT_S // 60} minutes, where the music may lose its structure"
_LANGUAGE: Final = f"sung in other languages than the model's best ({' '.join(STRONG_LANGUAGES)})"
_STYLE: Final = "of rap in Chinese, a weak style of the model"
_IN_DOUBT: Final = "with a caption or lyrics that may be too long; `tunemill weights pull --tokenizer` counts exactly"
_ORDER: Final = (_IN_DOUBT, _LONG, _OUTSIDE_TEMPO, _RARE_KEY, _METRE, _LANGUAGE, _STYLE)


class Advice:
    """Counts the tracks that the model is likely to do badly, by the reason."""

    def __init__(self, counter: TokenCounter = ESTIMATE) -> None:
        self._counter = counter
        self._found: Counter[str] = Counter()

    def see(self, spec: TrackSpec) -> None:
        """Count one track."""
        self._found.update(_weaknesses(spec))
        if self._counter.exact is None:
            texts = ((spec.caption, CAPTION_TOKENS_MAX), (spec.lyrics, LYRICS_TOKENS_MAX))
            self._found[_IN_DOUBT] += any(self._counter.fit(text, most) is PromptFit.IN_DOUBT for text, most in texts)

    def notes(self) -> list[str]:
        """One line for each reason that holds for a track."""
        found = sorted((+self._found).items(), key=lambda each: _ORDER.index(each[0]))
        return [f"{count:,} {'tracks' if count != 1 else 'track'} {reason}" for reason, count in found]


def _weaknesses(spec: TrackSpec) -> Iterator[str]:
    if spec.bpm is not None and spec.bpm not in STEADY_BPM:
        yield _OUTSIDE_TEMPO
    if spec.keyscale is not None and spec.keyscale.replace("♯", "#").replace("♭", "b") in RARE_KEYS:
        yield _RARE_KEY
    if spec.timesignature not in (None, "4"):
        yield _METRE
    if spec.duration_s > COHERENT_S:
        yield _LONG
    if spec.lyrics != INSTRUMENTAL:
        if spec.language not in (*STRONG_LANGUAGES, "unknown"):
            yield _LANGUAGE
        words = spec.caption.casefold().split()
        if any(spec.language == language and style in words for language, style in WEAK_STYLES):
            yield _STYLE
