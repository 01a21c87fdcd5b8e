"""Scores: how good a take is by one measure, for the choice among the takes of one track.

A score is computed on the data plane by a scorer, from the take's raw audio. Two scores can be compared when they come
from the same scorer in the same version with the same weights. They rank takes of one prompt and nothing else: a slow
piano piece varies less than a march, and is none the worse for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from catalog.bounded import Label
from catalog.forms import Frozen, neutral

SCORES_MAX: Final = 16  # of one take
DEFAULT_SCORERS: Final = ("technical", "variation")  # built in; the first decides between takes of equal rank

ScorerName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Score(Frozen):
    """The value that a scorer gives a take; higher is better."""

    name: ScorerName
    version: Label
    value: float = Field(allow_inf_nan=False)
    weights: Label = neutral("")  # digest of the scorer's weights; "": it has none


_SCORES: Final = TypeAdapter(Annotated[list[Score], Field(max_length=SCORES_MAX)])


def read_scores(stored: Sequence[Any]) -> list[Score]:
    """The scores of plain values. Raises ValidationError."""
    return _SCORES.validate_python(stored)
