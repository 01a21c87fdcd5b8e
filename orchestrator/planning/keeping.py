"""Keeping the best: how many takes of a track a catalog plans beyond those that it will list.

Takes that were made before the catalog kept the best ones, or kept another number of them, stay as they are until
somebody asks for the choice; they are counted here, so that a plan can say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from orchestrator.ledger import KnownTake
from orchestrator.ledger.due import DueTake


class Unchosen(NamedTuple):
    """The takes of finished tracks whose place on the list differs from what the catalog keeps."""

    beyond: int = 0  # listed, and more than the catalog keeps
    to_list: int = 0  # spare, and the catalog would keep them

    def in_words(self, catalog: str) -> list[str]:
        """A sentence for each kind that occurs."""
        said = (
            (self.beyond, "more than `keep` says are listed; `tunemill catalog choose {catalog}` keeps the best"),
            (self.to_list, "are spare and could be listed; `tunemill catalog choose {catalog}` lists them"),
        )
        return [f"{count:,} takes {words.format(catalog=catalog)}" for count, words in said if count]


NONE_UNCHOSEN: Final = Unchosen()


@dataclass(slots=True)
class KeptTakes:
    """Counts the planned takes track by track; the takes of a track come one after the other."""

    _key: str = ""
    _planned: int = 0
    _pending: int = 0
    _made: int = 0
    _listed: int = 0
    _keep: int = 0
    _beyond: int = 0
    _to_list: int = 0

    def see(self, due: DueTake, made: KnownTake | None) -> bool:
        """Count a planned take and the one that its slot has, None while that is to be made; True beyond `keep`."""
        if due.take.track.key != self._key:
            self._end_track()
            self._key, self._keep = due.take.track.key, min(due.keep or due.wanted, due.wanted)
        self._planned += 1
        self._pending += made is None
        self._made += made is not None and (made.is_listed or made.is_spare)
        self._listed += made is not None and made.is_listed
        return self._planned > self._keep

    @property
    def unchosen(self) -> Unchosen:
        """The sum over all tracks that were seen."""
        self._end_track()
        return Unchosen(self._beyond, self._to_list)

    def _end_track(self) -> None:
        # The run that makes a further take of a track chooses among all of them.
        if not self._pending:
            self._beyond += max(0, self._listed - self._keep)
            self._to_list += max(0, min(self._keep, self._made) - self._listed)
        self._key, self._planned, self._pending, self._made, self._listed = "", 0, 0, 0, 0
