"""Scoring jobs: the lines of JSON by which stored takes get scores that their workers did not compute."""

from __future__ import annotations

from pydantic import Field

from catalog.bounded import Name, Words
from catalog.forms import Frozen
from catalog.scores import SCORES_MAX, Score
from catalog.sidecar import Sidecar


class ScoreJob(Frozen):
    """A stored take to score."""

    stored: Sidecar


class ScoreResult(Frozen):
    """The end of one job: the scores, or the fault that prevents them."""

    take_id: Name
    scores: list[Score] = Field(default=[], max_length=SCORES_MAX)
    fault: Words = ""
