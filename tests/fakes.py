"""Fakes: each keeps the promises of its Protocol in memory, and fails where a test asks it to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from catalog.buckets import Bucket
from catalog.errors import OutOfVram, StoreError, TunemillError
from catalog.keys import checked_key
from catalog.messages import AttemptMade, Record
from catalog.sidecar import Fingerprints, StageTimes
from catalog.store.base import ObjectInfo
from catalog.tiers import BatchLimit
from catalog.track import Take
from tests.makers import SHA, a_batch, an_effective
from workers.engine import Audio, BatchResult, Engine, EngineCard, Job, Refusal, Rendition
from workers.engine_process import EngineDied
from workers.gather import Rendered
from workers.records import Holds
from workers.render import Studio
from workers.tone import synthesise


class FakeEngine:
    """Renders tones; takes whose caption holds a word of its vocabulary go wrong.

    `refuse`: is refused, `refuse here`: only by this worker. `error`: an error in words. `fault`: an unknown
    exception. `die`: the process is killed (in-process: EngineDied). A batch above `fits` takes raises OutOfVram.
    """

    def __init__(self, *, limit: int = 4, fits: int = 99, noise: bool = False, in_process: bool = True) -> None:
        self._limit, self._fits, self._in_process = limit, fits, in_process
        self._card = EngineCard(
            model="tone",
            gpu="fake",
            device="cpu",
            dtype="float32",
            vram_gib=24.0,
            fingerprints=Fingerprints(model=SHA, code="fake", noise=noise),
        )
        self.batches: list[list[str]] = []
        self.closed = False
        self.before_render: Callable[[], None] = lambda: None

    @property
    def card(self) -> EngineCard:
        return self._card

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        return BatchLimit(self._limit, "fake")

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        self.batches.append([job.take.id for job in jobs])
        self.before_render()
        if len(jobs) > self._fits:
            raise OutOfVram(f"{len(jobs)} takes do not fit")
        captions = " ".join(job.take.spec.caption for job in jobs)
        if "die" in captions:
            self._die()
        if "fault" in captions:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "error" in captions:
            raise TunemillError("the fake was told to err")
        outcomes: list[Rendition | Refusal] = [self._outcome(job) for job in jobs]
        return BatchResult(outcomes=outcomes, times=StageTimes(diffuse_ms=10 * len(jobs), decode_ms=5))

    def kill(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def _outcome(self, job: Job) -> Rendition | Refusal:
        if "refuse" in job.take.spec.caption:
            return Refusal("the fake was told to refuse", elsewhere="refuse here" in job.take.spec.caption)
        return Rendition(audio=synthesise(job.take), plan=job.plan, effective=an_effective(job.take))

    def _die(self) -> None:
        if self._in_process:
            raise EngineDied("the fake engine died")
        os.kill(os.getpid(), signal.SIGKILL)


class SlowEngine(FakeEngine):
    """A FakeEngine that takes its time and leaves a file for each batch it begins: `began-<n>-<pid>`."""

    def __init__(self, *, batch_s: float, folder: Path, limit: int = 4) -> None:
        super().__init__(limit=limit, in_process=False)
        self._batch_s, self._folder = batch_s, folder

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        (self._folder / f"began-{len(self.batches)}-{os.getpid()}").touch()
        time.sleep(self._batch_s)
        return super().render(jobs)


def fake_engine(**options: int) -> FakeEngine:
    """Factory for an engine process: 'die' really kills it."""
    return FakeEngine(in_process=False, **options)  # type: ignore[arg-type]


def broken_engine(error: Exception) -> FakeEngine:
    """Factory of an engine that cannot load."""
    raise error


@dataclass
class FakeLane:
    """A Lane that renders at once, or raises what it is told to; `spoil` changes the audio on its way."""

    engine: Engine = field(default_factory=FakeEngine)
    error: Exception | None = None
    spoil: Callable[[Audio], Audio] = lambda audio: audio
    batch_size: int = 1
    rendered: int = 0
    alone: list[bool] = field(default_factory=list)

    def render(self, take: Take, *, alone: bool = False) -> Rendered:
        self.alone.append(alone)
        if self.error is not None:
            raise self.error
        self.rendered += 1
        result = self.engine.render([Job(take)])
        outcome = result.outcomes[0]
        if isinstance(outcome, Rendition):
            outcome = replace(outcome, audio=self.spoil(outcome.audio))
        return Rendered(outcome, a_batch(take, size=self.batch_size), result.times)


def a_studio(lane: FakeLane | None = None, **parts: Any) -> Studio:
    """A Studio of fakes; name the parts that the test is about."""
    lane = lane or FakeLane()
    known = {
        "worker_id": "worker-1",
        "gpu": "A100",
        "card": lane.engine.card,
        "lane": lane,
        "store": MemoryStore(),
        "recorder": FakeRecorder(),
        "holds": Holds(),
        "store_waits_s": (0.0, 0.0),
    }
    return Studio(**{**known, **parts})


class MemoryStore:
    """A Store in a dict. `refuse` is the number of calls that fail before it works again; -1: all."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refuse = 0
        self.on_put: Callable[[str], None] = lambda key: None  # called before an object is written

    def put(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        self._answer(key)
        if _sha256(body) != sha256:
            raise StoreError(f"{key} arrived damaged")
        self.on_put(key)
        self.objects[key] = body

    def put_if_absent(self, key: str, body: bytes, *, content_type: str) -> bool:
        self._answer(key)
        self.on_put(key)
        if key in self.objects:
            return False
        self.objects[key] = body
        return True

    def find(self, key: str) -> bytes | None:
        self._answer(key)
        return self.objects.get(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._answer()
        yield from (ObjectInfo(key, len(self.objects[key])) for key in sorted(self.objects) if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self._answer(key)
        self.objects.pop(key, None)

    def check(self) -> None:
        self._answer()

    def locate(self, key: str) -> str:
        return f"memory:{key}"

    def _answer(self, key: str = "") -> None:
        if key:
            checked_key(key)
        if self.refuse:
            self.refuse -= 1
            raise StoreError("the store is down")


class FakeRecorder:
    """A Recorder that remembers."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        self.records.append(record)

    def try_record(self, record: Record) -> bool:
        self.records.append(record)
        return True

    def attempts(self, take: Take | None = None) -> list[AttemptMade]:
        """The attempts, of one take or of all."""
        made = [record for record in self.records if isinstance(record, AttemptMade)]
        return [attempt for attempt in made if take is None or attempt.take_id == take.id]


def _sha256(body: bytes) -> str:
    return sha256(body).hexdigest()
