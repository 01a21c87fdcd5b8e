"""The engine protocol: a batch of takes in, raw audio out.

An engine lives alone in its process and pins one model. It decides nothing about queues, files or money;
what it cannot do it says: OutOfVram for a batch that does not fit, a Refusal for one take, ModelError when
the model itself is at fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from catalog.buckets import Bucket
from catalog.sidecar import Effective, Fingerprints, Plan, StageTimes
from catalog.tiers import BatchLimit
from catalog.track import Take

Audio = npt.NDArray[np.float32]  # (2 channels, samples) at 48 kHz, as the model made it: no gain, no clipping


class Job(NamedTuple):
    """One take to render; `plan` is given on replay, so that nothing is planned anew."""

    take: Take
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Rendition:
    """What one take became."""

    audio: Audio
    plan: Plan | None
    effective: Effective


@dataclass(frozen=True, slots=True)
class Refusal:
    """One take the engine cannot render whatever its company, and why."""

    reason: str
    elsewhere: bool = False  # a worker that is set up otherwise may render it


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Outcomes in the order of the jobs; `times` is the whole batch's (post_ms stays 0)."""

    outcomes: list[Rendition | Refusal]
    times: StageTimes


@dataclass(frozen=True, slots=True)
class EngineCard:
    """What an engine says of itself once it has loaded."""

    model: str
    gpu: str  # the driver's name, or "cpu"
    device: str
    dtype: str
    vram_gib: float  # total memory that batches are limited by
    fingerprints: Fingerprints
    attention: str = ""
    notes: list[str] = field(default_factory=list)  # lines for the first log entries


class Engine(Protocol):
    """A model that renders takes."""

    @property
    def card(self) -> EngineCard:
        """What it is and runs on."""

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The most takes of `bucket` in one call, with the reason."""

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch; all jobs share a bucket.

        Each take sounds as it would alone. Raises OutOfVram when the batch does not fit, ModelError when
        the model is at fault.
        """
