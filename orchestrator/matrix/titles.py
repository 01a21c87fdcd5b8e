"""Titles: two words that suit the zone and the music, different for every track of a zone and genre."""

from __future__ import annotations

from collections import Counter
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


class SharedTitles:
    """Counts the titles that several tracks of a catalog have: a listener takes these for one track."""

    def __init__(self) -> None:
        # By hash, because a catalog may hold a hundred thousand titles.
        self._tracks: Counter[int] = Counter()
        self._example = ""

    def see(self, title: str) -> None:
        """Count one track."""
        if title:
            key = hash(title.casefold())
            self._tracks[key] += 1
            if not self._example and self._tracks[key] > 1:
                self._example = title

    def notes(self, *, of_prompts: bool) -> list[str]:
        """One sentence with the remedy; none where every title is one track's."""
        shared = [tracks for tracks in self._tracks.values() if tracks > 1]
        if not shared:
            return []
        remedy = "give each prompt a title of its own" if of_prompts else "add words to 'title_words'"
        titles = "1 title" if len(shared) == 1 else f"{len(shared):,} titles"
        return [f"{sum(shared):,} tracks share {titles}, such as {self._example!r}; {remedy}"]
