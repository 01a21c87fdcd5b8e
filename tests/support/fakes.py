"""Fakes: each one implements its Protocol in memory, and fails where a test tells it to."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from catalog.buckets import Bucket
from catalog.errors import OutOfVram, StoreError, TunemillError
from catalog.keys import checked_key
from catalog.messages import AttemptMade, Heartbeat, MemoryUse, Record, now_ms
from catalog.models import TONE
from catalog.retry import Backoff
from catalog.sidecar import Fingerprints, Plan, StageTimes
from catalog.spec import with_metadata
from catalog.store.base import ObjectInfo, Receiver
from catalog.store.integrity import check_sha256
from catalog.tiers import BatchLimit
from catalog.track import Take
from tests.support.makers import SHA, a_batch, an_effective
from workers.engine.memory import resident_mib
from workers.engine.protocol import Audio, BatchResult, Engine, EngineCard, Finish, Job, PlanResult, Refusal, Rendition
from workers.engine.wire import EngineDied, EngineGone
from workers.heartbeats import TakesInHand
from workers.render import WorkerContext
from workers.scheduler.request import Rendered
from workers.storage import TakeStorage
from workers.tone import synthesise


class FakeEngine:
    """Renders tones and writes short plans; takes whose caption holds a word of its vocabulary go wrong.

    `refuse`: is refused, `refuse here`: only by this worker. `error`: an error in words. `fault`: an unknown
    exception. `die`: the process is killed (in-process: EngineDied). These concern rendering; `unplannable`, `stumble`
    (an error in words) and `choke` (death) concern planning, `perish` (death) decoding. A batch above `fits` takes
    raises OutOfVram, a planner call above `plans_fit`, and the decoding of a batch above `decodes`.
    """

    def __init__(
        self,
        *,
        limit: int = 4,
        fits: int = 99,
        plan_limit: int = 0,
        plans_fit: int = 99,
        decodes: int = 99,
        noise: bool = False,
        in_process: bool = True,
        overlaps: bool = True,
    ) -> None:
        self._limit, self.fits, self._in_process = limit, fits, in_process
        self._plan_limit, self._plans_fit, self._decodes = plan_limit, plans_fit, decodes
        self._card = EngineCard(
            model="tone",
            gpu="fake",
            device="cpu",
            dtype="float32",
            vram_gib=24.0,
            fingerprints=Fingerprints(model=SHA, code="fake", noise=noise),
            guarantees=TONE.guarantees,
            overlaps=overlaps,
        )
        self.calls: list[tuple[str, list[str]]] = []  # plan, begin or finish, and the takes
        self.before: dict[str, Callable[[], None]] = {}  # by call
        self.on_limit: Callable[[], None] = lambda: None

    @property
    def card(self) -> EngineCard:
        return self._card

    @property
    def batches(self) -> list[list[str]]:
        return [ids for call, ids in self.calls if call == "begin"]

    @property
    def plan_calls(self) -> list[list[str]]:
        return [ids for call, ids in self.calls if call == "plan"]

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        self.on_limit()
        return BatchLimit(self._limit, "fake")

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        return BatchLimit(self._plan_limit, "fake planner")

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        self._note("plan", takes)
        if len(takes) > self._plans_fit:
            raise OutOfVram(f"{len(takes)} takes cannot be planned at once")
        captions = " ".join(take.spec.caption for take in takes)
        if "choke" in captions:
            self._die()
        if "stumble" in captions:
            raise TunemillError("the fake planner was told to err")
        outcomes: list[Plan | Refusal] = [
            Refusal("the fake was told not to plan it") if "unplannable" in take.spec.caption else a_plan(take)
            for take in takes
        ]
        return PlanResult(outcomes, plan_ms=10 * len(takes) + 1)

    def begin(self, jobs: Sequence[Job]) -> Finish:
        self._note("begin", [job.take for job in jobs])
        if len(jobs) > self.fits:
            raise OutOfVram(f"{len(jobs)} takes do not fit")
        captions = " ".join(job.take.spec.caption for job in jobs)
        if "die" in captions:
            self._die()
        if "fault" in captions:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "error" in captions:
            raise TunemillError("the fake was told to err")
        return partial(self._finish, list(jobs))

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        return self.begin(jobs)()

    def memory(self) -> MemoryUse:
        return MemoryUse(rss_mib=resident_mib())

    def _finish(self, jobs: list[Job]) -> BatchResult:
        self._note("finish", [job.take for job in jobs])
        if len(jobs) > self._decodes:
            raise OutOfVram(f"{len(jobs)} takes cannot be decoded")
        if any("perish" in job.take.spec.caption for job in jobs):
            self._die()
        outcomes: list[Rendition | Refusal] = [self._outcome(job) for job in jobs]
        return BatchResult(outcomes=outcomes, times=StageTimes(diffuse_ms=10 * len(jobs), decode_ms=5))

    def _note(self, call: str, takes: Sequence[Take]) -> None:
        self.calls.append((call, [take.id for take in takes]))
        self.before.get(call, lambda: None)()

    def _outcome(self, job: Job) -> Rendition | Refusal:
        if "refuse" in job.take.spec.caption:
            return Refusal("the fake was told to refuse", elsewhere="refuse here" in job.take.spec.caption)
        audio = synthesise(with_plan(job.take, job.plan))
        return Rendition(audio=audio, plan=job.plan, effective=an_effective(job.take))

    def _die(self) -> None:
        if self._in_process:
            raise EngineDied("the fake engine died")
        os.kill(os.getpid(), signal.SIGKILL)


def a_plan(take: Take) -> Plan:
    """A plan as short as a test needs: it chooses the first of what is open, and its codes tell its take."""
    bounds = take.spec.bounds
    chosen = {name: bounds.choices(name)[0] for name in bounds.open} if bounds else {}
    return Plan(codes=[take.lm_seed % 64_000], metadata=chosen, prompt_sha256=SHA, batch_key="fake")


def with_plan(take: Take, plan: Plan | None) -> Take:
    """The take with what its plan has chosen."""
    spec = with_metadata(take.spec, plan.metadata if plan else {})
    return take.model_copy(update={"track": take.track.model_copy(update={"spec": spec})})


class EngineHere:
    """An engine with the promises of EngineProcess, in this process."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.closed = False
        self._decoder = ThreadPoolExecutor(1)
        self._under_way: list[Future[BatchResult]] = []
        self._ended: EngineDied | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> EngineCard:
        return self.engine.card

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        return self._call(self.engine.batch_limit, bucket)

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        return self._call(self.engine.plan_limit, bucket)

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        return self._call(self.engine.plan, takes)

    def begin(self, jobs: Sequence[Job]) -> Future[BatchResult]:
        finish = self._call(self.engine.begin, jobs)
        audio: Future[BatchResult] = Future()
        with self._lock:
            self._under_way.append(audio)
        if self.engine.card.overlaps:
            self._decoder.submit(self._finish, finish, audio)
        else:
            self._finish(finish, audio)
        return audio

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        return self.begin(jobs).result()

    def memory(self) -> MemoryUse:
        return self.engine.memory()

    def kill(self) -> None:
        self._end(EngineDied("the fake engine was killed"))

    def close(self) -> None:
        self.kill()
        self.closed = True
        self._decoder.shutdown(wait=False)

    def _call(self, method: Callable[[Any], Any], argument: Any) -> Any:
        if self._ended is not None:
            raise EngineGone("the fake engine had ended")
        try:
            return method(argument)
        except EngineDied as error:
            self._end(error)
            raise

    def _finish(self, finish: Finish, audio: Future[BatchResult]) -> None:
        try:
            result = finish()
        except EngineDied as error:
            self._end(error)
        except Exception as error:
            if self._lands(audio):
                audio.set_exception(error)
        else:
            if self._lands(audio):
                audio.set_result(result)

    def _lands(self, audio: Future[BatchResult]) -> bool:
        with self._lock:
            found = audio in self._under_way
            self._under_way = [each for each in self._under_way if each is not audio]
        return found

    def _end(self, error: EngineDied) -> None:
        with self._lock:
            self._ended = self._ended or error
            lost, self._under_way = self._under_way, []
        for audio in lost:
            audio.set_exception(error)


class SlowEngine(FakeEngine):
    """A FakeEngine that takes its time and leaves a file for each batch it begins: `began-<n>-<pid>`."""

    def __init__(self, *, batch_s: float, folder: Path, limit: int = 4, plan_limit: int = 0) -> None:
        super().__init__(limit=limit, plan_limit=plan_limit, in_process=False)
        self._batch_s, self._folder = batch_s, folder

    def begin(self, jobs: Sequence[Job]) -> Finish:
        (self._folder / f"began-{len(self.batches)}-{os.getpid()}").touch()
        time.sleep(self._batch_s)
        return super().begin(jobs)


class LeakyEngine(FakeEngine):
    """A FakeEngine that really keeps `leak_mib` more after each batch."""

    def __init__(self, *, leak_mib: int) -> None:
        super().__init__(in_process=False)
        self._leak_mib = leak_mib
        self._kept: list[bytes] = []

    def begin(self, jobs: Sequence[Job]) -> Finish:
        self._kept.append(b"\x01" * (self._leak_mib << 20))  # written to, so that it is resident
        return super().begin(jobs)


def fake_engine(**options: Any) -> FakeEngine:
    """Factory for an engine process: 'die' really kills it."""
    return FakeEngine(in_process=False, **options)


def broken_engine(error: Exception) -> FakeEngine:
    """Factory of an engine that cannot load."""
    raise error


TWO_SHORT_WAITS = Backoff(first_s=0.001, longest_s=0.001, patience_s=0.002)


@dataclass
class FakeRenderer:
    """A Renderer that renders at once, or raises what it is told to; `spoil` changes the audio on its way."""

    engine: Engine = field(default_factory=FakeEngine)
    error: Exception | None = None
    spoil: Callable[[Audio], Audio] = lambda audio: audio
    batch_size: int = 1
    rendered: int = 0
    alone: list[bool] = field(default_factory=list)
    plans: list[Plan | None] = field(default_factory=list)
    released: list[Rendered] = field(default_factory=list)

    def render(self, take: Take, *, alone: bool = False, plan: Plan | None = None) -> Rendered:
        self.alone.append(alone)
        self.plans.append(plan)
        if self.error is not None:
            raise self.error
        self.rendered += 1
        if plan is None and take.spec.planner is not None:
            plan = a_plan(take)
        result = self.engine.render([Job(take, plan)])
        outcome = result.outcomes[0]
        if isinstance(outcome, Rendition):
            outcome = replace(outcome, audio=self.spoil(outcome.audio))
        return Rendered(outcome, a_batch(take, size=self.batch_size), result.times)

    def release(self, rendered: Rendered) -> None:
        self.released.append(rendered)


def a_context(
    renderer: FakeRenderer | None = None,
    *,
    store: Any = None,
    backoff: Backoff = TWO_SHORT_WAITS,
    clock: Callable[[], float] = lambda: 0.0,
    **parts: Any,
) -> WorkerContext:
    """A WorkerContext of fakes; name the parts that the test is about."""
    renderer = renderer or FakeRenderer()
    store = MemoryStore() if store is None else store
    on_outage = parts.get("on_trouble", lambda error: None)
    known = {
        "worker_id": "worker-1",
        "gpu": "A100",
        "card": renderer.engine.card,
        "renderer": renderer,
        "storage": TakeStorage(store, backoff=backoff, on_outage=on_outage, clock=clock),
        "recorder": FakeRecorder(),
        "in_hand": TakesInHand(),
    }
    return WorkerContext(**{**known, **parts})


class MemoryStore:
    """A Store in a dict. `refuse` is the number of calls that fail before it works again; -1: all.

    `keep` says what is really kept of an object that is written; None: nothing.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refuse = 0
        self.on_put: Callable[[str], None] = lambda key: None  # called before an object is written
        self.keep: Callable[[str, bytes], bytes | None] = lambda key, body: body
        self.modified_ms: dict[str, int] = {}

    def put(self, key: str, body: bytes, *, content_type: str, sha256: str, file_name: str = "") -> None:
        self._answer(key)
        check_sha256(key, body, sha256)
        self.on_put(key)
        self._write(key, body)

    def put_if_absent(self, key: str, body: bytes, *, content_type: str) -> bool:
        self._answer(key)
        self.on_put(key)
        if key in self.objects:
            return False
        self._write(key, body)
        return True

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        self._answer(key)
        self.on_put(key)
        self._write(key, path.read_bytes())

    def read_into(self, key: str, receiver: Receiver) -> bool:
        body = self.find(key)
        if body is not None:
            receiver.write(body)
        return body is not None

    def find(self, key: str) -> bytes | None:
        self._answer(key)
        return self.objects.get(key)

    def stat(self, key: str) -> ObjectInfo | None:
        self._answer(key)
        return self._info(key)._replace(sha256=_sha256(self.objects[key])) if key in self.objects else None

    def sha256_of(self, key: str) -> str | None:
        self._answer(key)
        return _sha256(self.objects[key]) if key in self.objects else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._answer(prefix.rstrip("/") or None)
        yield from (self._info(key) for key in sorted(self.objects) if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self._answer(key)
        self.objects.pop(key, None)

    def sweep(self, before_ms: int, *, remove: bool = True) -> Sequence[ObjectInfo]:
        self._answer()
        return ()

    def check(self) -> None:
        self._answer()

    def locate(self, key: str) -> str:
        return f"memory:{checked_key(key)}"

    def _write(self, key: str, body: bytes) -> None:
        kept = self.keep(key, body)
        if kept is not None:
            self.objects[key] = kept
            self.modified_ms[key] = now_ms()

    def _info(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(self.objects[key]), self.modified_ms.get(key, 0))

    def _answer(self, key: str | None = None) -> None:
        if key is not None:
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

    def beat(self, heartbeat: Heartbeat) -> bool:
        return self.try_record(heartbeat)

    def handed_over(self) -> int:
        return sum(not isinstance(record, Heartbeat) for record in self.records)

    def attempts(self, take: Take | None = None) -> list[AttemptMade]:
        """The attempts, of one take or of all."""
        made = [record for record in self.records if isinstance(record, AttemptMade)]
        return [attempt for attempt in made if take is None or attempt.take_id == take.id]


def _sha256(body: bytes) -> str:
    return sha256(body).hexdigest()
