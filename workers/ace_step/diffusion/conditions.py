"""Conditions: the tokens that cross-attention reads, one row for each row of the transformer's batch."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Conditions(NamedTuple):
    """Lyrics, timbre and text of one batch, as tokens."""

    hidden: torch.Tensor  # (rows, tokens, width)
    keep: torch.Tensor | None  # bool (rows, tokens), which tokens are real; None: all are
    null: torch.Tensor | None = None  # (1, 1, width), the token of a row that is told nothing, for guidance
