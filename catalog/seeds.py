"""Seeds: the same take always starts from the same noise.

A seed follows from the take's identity (the track's place in the catalog and the take's number), never from the time of
rendering or from the other takes in the batch. So a retry, another GPU tier and a re-packed batch all begin with the
same noise. A seed that a preset pins is the diffusion seed of take 1; take n gets the seed n - 1 higher. Takes that
reuse one plan differ in the diffusion seed alone.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

SEED_LIMIT = 2**63  # a seed fits a SQL BIGINT and torch.Generator


class Seeds(NamedTuple):
    """The two random sources of one take: diffusion noise and planner sampling."""

    dit: int
    lm: int


def stable_hash(*parts: object) -> int:
    """64-bit hash of `parts` that is the same in every process, version and machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def take_seeds(track_key: str, number: int, pinned: int | None = None, *, one_plan: bool = False) -> Seeds:
    """Seeds of take `number` (from 1) of the track `track_key`, each in [0, 2**63).

    With `one_plan` every take has the planner's seed of take 1, and so its plan.
    """
    if one_plan and number > 1:
        return take_seeds(track_key, number, pinned)._replace(lm=take_seeds(track_key, 1, pinned).lm)
    if pinned is None:
        dit = stable_hash("dit", track_key, number) % SEED_LIMIT
        return Seeds(dit=dit, lm=stable_hash("lm", track_key, number) % SEED_LIMIT)
    dit = (pinned + number - 1) % SEED_LIMIT
    return Seeds(dit=dit, lm=stable_hash("lm", dit) % SEED_LIMIT)
