"""The engine protocol: a batch of takes in, raw audio out.

An engine runs alone in its process and serves one model. It decides nothing about queues, files or money. Its
exceptions say what failed: OutOfVram for a batch that does not fit, Refusal for one take, ModelError for a fault of the
model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from catalog.buckets import Bucket
from catalog.limits import SAMPLE_RATE_HZ
from catalog.messages import MemoryUse
from catalog.models import Guarantees
from catalog.sidecar import Effective, Fingerprints, Plan, StageTimes
from catalog.tiers import BatchLimit
from catalog.track import Take

Audio = npt.NDArray[np.float32]  # (2 channels, samples), as the model made it: no gain, no clipping


class Job(NamedTuple):
    """One take to render. `plan` was written before, or comes from a sidecar; without one it is planned on the way."""

    take: Take
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Rendition:
    """The audio of one take, with all that explains how it was made."""

    audio: Audio  # at the card's rate
    plan: Plan | None  # None: it has no planner, or the plan does not come back
    effective: Effective


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why the engine cannot render a take, in any batch."""

    reason: str
    elsewhere: bool = False  # a worker that is set up otherwise may render it


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Outcomes in the order of the jobs; `times` is the whole batch's (post_ms stays 0)."""

    outcomes: list[Rendition | Refusal]
    times: StageTimes


@dataclass(frozen=True, slots=True)
class PlanResult:
    """Plans in the order of the takes; `plan_ms` is the whole call's."""

    outcomes: list[Plan | Refusal]
    plan_ms: int


Finish = Callable[[], BatchResult]  # decodes the latents of `begin`; runs once, on any thread


@dataclass(frozen=True, slots=True)
class EngineCard:
    """The engine's description of itself once it has loaded."""

    model: str
    gpu: str  # the driver's name, or "cpu"
    device: str
    dtype: str
    vram_gib: float  # total memory that batches are limited by
    fingerprints: Fingerprints
    guarantees: Guarantees  # its promises about seeds, plans, batches, tasks and adapters
    sample_rate_hz: int = SAMPLE_RATE_HZ  # of its audio
    attention: str = ""
    overlaps: bool = False  # a finish gains by running beside the next call, as on a GPU
    notes: list[str] = field(default_factory=list)  # lines for the first log entries


class Engine(Protocol):
    """A model that renders takes."""

    @property
    def card(self) -> EngineCard:
        """The engine's model, device and guarantees."""

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The most takes of `bucket` in one model call, with the reason."""

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        """The most takes as long as those of `bucket` in one planner call; 0 when there is no planner."""

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        """Write the plans of `takes`, which may differ in everything, length included.

        Each take's plan is the same as if it were planned alone. Raises OutOfVram when the takes do not fit.
        """

    def begin(self, jobs: Sequence[Job]) -> Finish:
        """Render one batch as far as its latents; all jobs share a bucket.

        The next `plan` or `begin` may be called at once; the returned function, on another thread, decodes beside
        it. Raises OutOfVram when the batch does not fit, ModelError when the model is at fault.
        """

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch: `begin` and its finish in one. Each take sounds as it would alone."""

    def memory(self) -> MemoryUse:
        """The memory that the engine holds now; the scheduler watches its growth."""
