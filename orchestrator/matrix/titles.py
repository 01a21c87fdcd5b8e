"""Titles: two words that suit the place and the music, different for every track of a zone and genre."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.seeds import stable_hash
from orchestrator.matrix.rotation import odometer

_PATTERNS = ("{0} {1}", "{1} {0}", "{0} and {1}")


class Titles:
    """The titles of one zone and genre of a catalog, by number."""

    def __init__(self, catalog: str, zone: str, genre: str, words: tuple[Sequence[str], Sequence[str]]) -> None:
        zone_words, genre_words = words
        taken = {word.casefold() for word in zone_words}
        # A word on both lists would give "Amber Amber", and the same pair twice.
        others = [word for word in genre_words if word.casefold() not in taken]
        self._zone_words, self._genre_words = zone_words, others or [f"{word} II" for word in genre_words]
        sizes = [("zone", len(self._zone_words)), ("genre", len(self._genre_words)), ("pattern", len(_PATTERNS))]
        self._odometer = odometer(stable_hash("title", catalog, zone, genre), sizes)

    def title(self, number: int) -> str:
        """Title `number`, counted from 0; when all pairs are used, they come again as No. 2, No. 3 ..."""
        zone_position, genre_position, pattern = self._odometer.positions(number)
        title = _PATTERNS[pattern].format(self._zone_words[zone_position], self._genre_words[genre_position])
        again = number // self._odometer.combinations
        return f"{title} No. {again + 1}" if again else title
