"""Takes into batches: takes wait here, one thread hands the next batch to the engine, nothing is lost.

The rule is pure (`next_batch`): the oldest take decides the bucket, its mates join up to the limit. What goes
wrong is put right here: a batch that does not fit is halved; an engine that dies is started anew and the takes
that were aboard are tried again alone, behind those that are above suspicion, so a poison take condemns no
neighbour. Each caller waits in its own thread, so no more takes wait than there are threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from catalog.buckets import Bucket
from catalog.errors import ModelError, OutOfVram, TunemillError, WorkerError
from catalog.messages import new_id
from catalog.sidecar import BatchNote, StageTimes
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.engine import BatchResult, Engine, EngineCard, Job, Refusal, Rendition
from workers.engine_process import EngineDied, EngineGone
from workers.spans import NO_WORK, RECOVERING, WAITING_FOR_POST, LaneSpans

log = logging.getLogger(__name__)

QUIET_S = 0.05  # takes arrive about a millisecond apart; so long a pause means that no more are coming
LINGER_S = 0.25  # longest wait for company
IDLE_SPAN_S = 60.0  # an idle stretch goes on the books this often, so that little is lost with a worker
DEATHS_ALONE_MAX = 3
DEATHS_IN_A_ROW_MAX = 8  # nothing succeeds any more: the fault is not in the takes
STARTS_MAX = 3


class LaneEngine(Engine, Protocol):
    """An engine that can be ended."""

    def kill(self) -> None:
        """End it from any thread; what is under way raises EngineDied."""

    def close(self) -> None:
        """End it and take leave of it; called by the lane's thread alone."""


class TakeReturned(Exception):
    """The worker is stopping and the take has not been with the engine: it goes back to its queue."""


class TakeFailed(Exception):
    """The engine could not render the take."""

    def __init__(self, reason: str, *, retry: bool, batch: BatchNote) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.batch = reason, retry, batch


class Rendered(NamedTuple):
    """What became of one take: its outcome, the company it was in and its share of the batch's time."""

    outcome: Rendition | Refusal
    batch: BatchNote
    times: StageTimes


@dataclass(eq=False)
class Waiting:
    """A take on its way through the engine, and what it has met so far."""

    take: Take
    alone: bool = False
    deaths_alone: int = 0
    oom_limit: int = 0  # the batch limit after the last batch that did not fit; 0: all fitted
    done: Future[Rendered] = field(default_factory=Future)

    @property
    def bucket(self) -> Bucket:
        """What a batch with this take must share."""
        return Bucket.of(self.take.spec)


def next_batch(waiting: Sequence[Waiting], limit_of: Callable[[Bucket], int]) -> list[Waiting]:
    """The takes of the next model call. `waiting` is in order of age, oldest first."""
    if not waiting:
        return []
    oldest = waiting[0]
    if oldest.alone:
        return [oldest]
    mates = [each for each in waiting if not each.alone and each.bucket == oldest.bucket]
    return mates[: max(1, limit_of(oldest.bucket))]


def share_times(times: StageTimes, size: int) -> list[StageTimes]:
    """The batch's times split over its takes, in parts that sum to them exactly."""

    def parts(total_ms: int) -> list[int]:
        part, odd = divmod(total_ms, size)
        return [part + (i < odd) for i in range(size)]

    stages = zip(
        parts(times.plan_ms), parts(times.encode_ms), parts(times.diffuse_ms), parts(times.decode_ms), strict=True
    )
    return [StageTimes(plan_ms=p, encode_ms=e, diffuse_ms=d, decode_ms=a) for p, e, d, a in stages]


class Gather:
    """The engine's lane. `run` is the body of its one thread; every other method works from any thread."""

    def __init__(
        self,
        open_engine: Callable[[], LaneEngine],
        spans: LaneSpans,
        *,
        typical: Bucket,
        on_batch: Callable[[], None] = lambda: None,
        held: Callable[[], int] = lambda: 0,
    ) -> None:
        self._open_engine = open_engine
        self._spans = spans
        self._typical = typical  # the bucket whose limit is told at the start
        self._on_batch = on_batch  # called after each batch and each booked idle stretch
        self._held = held  # how many takes the worker holds, wherever they are
        self.threads = 1  # how many takes can wait at most; set once the limit is known
        self.ready = threading.Event()  # set when the engine has loaded or failed to
        self.card: EngineCard | None = None
        self.limit: BatchLimit | None = None
        self.failure: TunemillError | None = None  # why the lane has ended before it was told to
        self._engine: LaneEngine | None = None
        self._waiting: list[Waiting] = []
        self._arrival_s = 0.0
        self._smaller: dict[Bucket, int] = {}  # limits learnt from batches that did not fit
        self._deaths_in_a_row = 0
        self._stopping = False
        self._changed = threading.Condition()

    # ------------------------------------------------------------ for the threads that carry takes

    def render(self, take: Take, *, alone: bool = False) -> Rendered:
        """Wait for the engine. Raises TakeReturned when the worker stops first, TakeFailed when it cannot be done."""
        waiting = Waiting(take, alone)
        with self._changed:
            if self._stopping:
                raise TakeReturned
            self._waiting.append(waiting)
            self._arrival_s = time.monotonic()
            self._changed.notify_all()
        return waiting.done.result()

    def drain(self) -> None:
        """Give back all that waits; the batch with the engine is finished, and then the lane ends."""
        with self._changed:
            self._stopping = True
            for each in self._waiting:
                each.done.set_exception(TakeReturned())
            self._waiting.clear()
            self._changed.notify_all()

    def kill(self) -> None:
        """End the engine at once, in the middle of whatever it does."""
        self.drain()
        if self._engine is not None:
            self._engine.kill()

    # ------------------------------------------------------------ the lane's own thread

    def run(self) -> None:
        """Load the engine, render batch after batch until drained, and end it."""
        try:
            self._start_engine()
            self._spans.close("startup")
            self.ready.set()
            while batch := self._next_batch():
                self._render(batch)
        except TunemillError as error:
            self.failure = error
        except Exception as error:  # a defect of ours must end the worker in words, not leave its threads waiting
            log.exception("the engine lane failed")
            self.failure = WorkerError(f"the engine lane failed: {type(error).__name__}: {error}")
        finally:
            self.drain()
            if self._engine is not None:
                self._engine.close()
            if not self.ready.is_set():
                self._spans.close("startup")
            self.ready.set()
            self._on_batch()

    def limit_of(self, bucket: Bucket) -> int:
        """The most takes of `bucket` in one call: the engine's limit, or what was learnt since."""
        engine_limit = self._the_engine().batch_limit(bucket).takes
        return min(engine_limit, self._smaller.get(bucket, engine_limit))

    def _the_engine(self) -> LaneEngine:
        assert self._engine is not None, "the lane asks an engine before it has one"  # noqa: S101
        return self._engine

    def _start_engine(self) -> None:
        for attempt in range(1, STARTS_MAX + 1):
            self._engine = self._open_engine()
            if self._stopping:  # told so before there was an engine to kill
                self._engine.kill()
            try:
                self.card = self._engine.card
                self.limit = self._engine.batch_limit(self._typical)
                return
            except EngineDied as error:
                self._engine.close()
                if attempt == STARTS_MAX or self._stopping:
                    raise
                log.warning("the engine died while it loaded, starting it again: %s", error)

    def _next_batch(self) -> list[Waiting]:
        while True:
            try:
                return self._await_batch()
            except EngineDied as error:  # asked for a limit, with no take aboard
                self._restart(error)

    def _await_batch(self) -> list[Waiting]:
        """The next batch, as full as a short wait can make it; empty when the lane is to end."""
        began_s = time.monotonic()
        cause = NO_WORK
        with self._changed:
            while not self._stopping:
                batch = next_batch(self._waiting, self.limit_of)
                if batch and not self._may_grow(batch, began_s):
                    self._waiting = [each for each in self._waiting if each not in batch]
                    self._spans.close("idle", cause=cause)
                    return batch
                if not batch:
                    began_s = time.monotonic()
                    if self._held() >= self.threads:
                        cause = WAITING_FOR_POST
                if not self._changed.wait(QUIET_S if batch else IDLE_SPAN_S) and not batch:
                    self._spans.close("idle", cause=cause)
                    cause = NO_WORK
                    self._on_batch()
        return []

    def _may_grow(self, batch: Sequence[Waiting], began_s: float) -> bool:
        """Whether company for `batch` may still arrive within the linger."""
        if batch[0].alone or len(batch) >= self.limit_of(batch[0].bucket) or len(self._waiting) >= self.threads:
            return False
        now_s = time.monotonic()
        return now_s - began_s < LINGER_S and now_s - self._arrival_s < QUIET_S

    def _render(self, batch: list[Waiting]) -> None:
        note = BatchNote(id=new_id(), size=len(batch), position=0, takes=[each.take.id for each in batch])
        try:
            try:
                result = self._the_engine().render([Job(each.take) for each in batch])
            finally:
                self._spans.close("render", batch_id=note.id)
            self._deliver(batch, result, note)
            self._deaths_in_a_row = 0
        except OutOfVram as error:
            self._halve(batch, error, note)
        except EngineGone as error:
            self._put_back(batch, front=True)
            self._restart(error)
        except EngineDied as error:
            self._suspect(batch, error, note)
            self._restart(error)
        except ModelError:
            self._put_back(batch, front=True)  # the lane ends, which returns them
            raise
        except TunemillError as error:
            self._blame(batch, str(error), note)
        except Exception:
            self._put_back([each for each in batch if not each.done.done()], front=True)
            raise
        finally:
            self._on_batch()

    def _deliver(self, batch: list[Waiting], result: BatchResult, note: BatchNote) -> None:
        shares = share_times(result.times, len(batch))
        for position, (each, outcome, times) in enumerate(zip(batch, result.outcomes, shares, strict=True)):
            if each.oom_limit and isinstance(outcome, Rendition):
                extra = {**outcome.effective.extra, "batch_limit_after_oom": each.oom_limit}
                effective = outcome.effective.model_copy(update={"extra": extra})
                outcome = Rendition(audio=outcome.audio, plan=outcome.plan, effective=effective)  # noqa: PLW2901
            each.done.set_result(Rendered(outcome, note.model_copy(update={"position": position}), times))

    def _halve(self, batch: list[Waiting], error: OutOfVram, note: BatchNote) -> None:
        if len(batch) == 1:
            reason = f"a batch of one does not fit the device: {error}"
            batch[0].done.set_exception(TakeFailed(reason, retry=True, batch=note))
            return
        limit = len(batch) // 2
        self._smaller[batch[0].bucket] = limit
        log.warning("batch limit %d for %s: a batch of %d did not fit (%s)", limit, batch[0].bucket, len(batch), error)
        for each in batch:
            each.oom_limit = limit
        self._put_back(batch, front=True)

    def _suspect(self, batch: list[Waiting], error: EngineDied, note: BatchNote) -> None:
        log.warning("the engine died with %d takes aboard (%s); each is tried again alone", len(batch), error)
        if len(batch) == 1:
            batch[0].deaths_alone += 1
        for each in batch:
            each.alone = True
        if batch[0].deaths_alone >= DEATHS_ALONE_MAX:
            reason = f"the engine died {DEATHS_ALONE_MAX} times with this take alone aboard: {error.what}"
            batch[0].done.set_exception(TakeFailed(reason, retry=False, batch=note))
        else:
            self._put_back(batch, front=False)

    def _blame(self, batch: list[Waiting], reason: str, note: BatchNote) -> None:
        """An error in words: whose fault it is shows when each is tried alone."""
        if len(batch) == 1:
            batch[0].done.set_exception(TakeFailed(reason, retry=False, batch=note))
            return
        log.warning("a batch of %d was refused (%s); each is tried again alone", len(batch), reason)
        for each in batch:
            each.alone = True
        self._put_back(batch, front=False)

    def _put_back(self, batch: list[Waiting], *, front: bool) -> None:
        with self._changed:
            if self._stopping:
                for each in batch:
                    each.done.set_exception(TakeReturned())
                return
            self._waiting = [*batch, *self._waiting] if front else [*self._waiting, *batch]

    def _restart(self, error: EngineDied) -> None:
        self._the_engine().close()
        if self._stopping:
            return
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= DEATHS_IN_A_ROW_MAX:
            raise WorkerError(
                f"the engine died {self._deaths_in_a_row} times and nothing succeeded in between",
                why=error.what,
                fix="look at the device (driver, memory, temperature), then start the worker again",
            )
        self._start_engine()
        self._spans.close("idle", cause=RECOVERING)
