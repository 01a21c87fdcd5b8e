"""The engine's process, seen from the worker: it alone uses the GPU and the model, and its faults never end the worker.

The child is spawned, builds its engine from a recipe and serves requests over a pipe. `begin` returns as soon as the
engine can take the next request; the audio follows when it is decoded. One thread here reads all replies and passes
each to the caller that waits for it. When the child dies or hangs, every request under way fails.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import wait
from typing import Any, cast

import numpy as np

from catalog.buckets import Bucket
from catalog.messages import MemoryUse
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.engine.child import serve_engine
from workers.engine.protocol import BatchResult, Engine, EngineCard, Job, PlanResult
from workers.engine.wire import (
    LOADING,
    BatchDecoded,
    BatchRequest,
    EngineDied,
    EngineGone,
    EngineRequest,
    Failure,
    LimitRequest,
    PlanRequest,
    Reply,
    receive_block,
    unpack,
)

__all__ = ["EngineDied", "EngineGone", "EngineProcess", "EngineRecipe"]

REQUEST_TIMEOUT_S = 3600.0  # a batch takes seconds on a GPU; a small model on a CPU may need many minutes
TICK_S = 1.0  # how often it is looked whether a reply is overdue
ENDING_S = 15.0  # a killed process is gone in milliseconds, unless a driver holds it


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """The way in which the child builds its engine: a function by name, so that the parent imports no model library."""

    factory: str  # "package.module:function"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Engine:
        """Call the function. Raises ModelError as the function does."""
        module, _, name = self.factory.partition(":")
        return cast(Engine, getattr(import_module(module), name)(**self.arguments))


@dataclass(slots=True)
class _PendingRequest:
    """A request under way: `answer` comes when the engine may be asked again, `audio` when a batch is decoded."""

    deadline_s: float
    answer: Future[Any] = field(default_factory=Future)
    audio: Future[BatchResult] | None = None

    @property
    def is_over(self) -> bool:
        """No more replies will come; a batch whose diffusion failed has nothing to decode."""
        if self.audio is None or (self.answer.done() and self.answer.exception()):
            return self.answer.done()
        return self.answer.done() and self.audio.done()

    def fail(self, error: Exception) -> None:
        """Fail the replies that have not come."""
        for future in (self.audio, self.answer):
            if future is not None and not future.done():
                future.set_exception(error)


class EngineProcess:
    """An engine in a process of its own. One thread starts and closes it; any thread may call the other methods.

    The thread that starts it must outlive it, because on Linux the child's death signal follows that thread. Every
    request raises the engine's errors, EngineDied when the engine breaks during it, EngineGone when the engine had
    ended before.
    """

    def __init__(
        self, recipe: EngineRecipe, *, timeout_s: float = REQUEST_TIMEOUT_S, loading_timeout_s: float = math.inf
    ) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._conn, child_end = spawn.Pipe(duplex=True)
        self._process = spawn.Process(
            target=serve_engine, args=(child_end, recipe, os.getpid()), name="engine", daemon=True
        )
        self._timeout_s = timeout_s
        self._numbers = itertools.count(LOADING + 1)
        self._loading = _PendingRequest(
            time.monotonic() + loading_timeout_s
        )  # by default a download takes as long as it takes
        self._pending = {LOADING: self._loading}
        self._memory: MemoryUse | None = None
        self._ended: EngineDied | None = None
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._process.start()
        child_end.close()
        self._reader = threading.Thread(target=self._read, name="engine replies", daemon=True)
        self._reader.start()

    def wait_until_loaded(self) -> EngineCard:
        """Wait for the model, however long its download takes. Raises ModelError or EngineDied."""
        return cast(EngineCard, self._loading.answer.result())

    @property
    def card(self) -> EngineCard:
        """The engine's card; waits for the engine to load."""
        return self.wait_until_loaded()

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The engine's own limit for a batch of `bucket`."""
        return cast(BatchLimit, self._ask(LimitRequest(bucket, "batch")).answer.result())

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        """The engine's own limit for a planner call of takes like those of `bucket`."""
        return cast(BatchLimit, self._ask(LimitRequest(bucket, "plan")).answer.result())

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        """Write the plans of `takes`."""
        return cast(PlanResult, self._ask(PlanRequest(list(takes))).answer.result())

    def begin(self, jobs: Sequence[Job]) -> Future[BatchResult]:
        """Render one batch; returns when the next request may come, with a future of the decoded batch."""
        audio: Future[BatchResult] = Future()
        self._ask(BatchRequest(list(jobs)), audio).answer.result()
        return audio

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch and wait for all of it."""
        return self.begin(jobs).result()

    def memory(self) -> MemoryUse | None:
        """The engine's memory when it last replied; None before it has loaded."""
        return self._memory

    def kill(self) -> None:
        """End the child at once; every request under way raises EngineDied."""
        # AttributeError: another thread is closing the process at this moment.
        with contextlib.suppress(ProcessLookupError, ValueError, AttributeError):
            self._process.kill()

    def close(self) -> None:
        """Kill the child and free its resources; when this returns, no request is under way."""
        self.kill()
        self._reader.join(timeout=ENDING_S)
        self._fail_all(EngineDied("the engine was closed"))
        with contextlib.suppress(ValueError):
            self._process.join(timeout=ENDING_S)
            self._process.close()
        self._conn.close()

    # ------------------------------------------------------------ asking

    def _ask(self, request: EngineRequest, audio: Future[BatchResult] | None = None) -> _PendingRequest:
        self.wait_until_loaded()
        pending = _PendingRequest(time.monotonic() + self._timeout_s, audio=audio)
        with self._lock:
            if self._ended is not None:
                raise _gone(self._ended)
            number = next(self._numbers)
            self._pending[number] = pending
        try:
            if wait([self._process.sentinel], timeout=0):
                raise BrokenPipeError
            with self._sending:
                self._conn.send((number, request))
        except OSError:
            with self._lock:
                self._pending.pop(number, None)
            self._reader.join(timeout=ENDING_S)  # it finds out how the child ended
            raise _gone(self._ended or EngineDied("the engine process ended")) from None
        return pending

    # ------------------------------------------------------------ the reader's thread

    def _read(self) -> None:
        error: EngineDied | None = None
        while error is None:
            try:
                error = self._read_one()
            except Exception as defect:  # no caller may wait for ever because a reply could not be read
                self.kill()
                error = EngineDied(f"the engine's reply could not be taken: {type(defect).__name__}: {defect}")
        self._fail_all(error)

    def _read_one(self) -> EngineDied | None:
        """Take one reply, if there is one; returns the reason when there will be no more."""
        ready = wait([self._conn, self._process.sentinel], timeout=min(TICK_S, self._timeout_s))
        if self._conn in ready:
            try:
                return self._route(self._conn.recv())
            except (EOFError, ConnectionError):
                return self._how_it_ended()
        if ready:
            return self._how_it_ended()
        if self._is_overdue():
            self.kill()
            return EngineDied(f"the engine gave no answer in {self._timeout_s:.0f} s and was killed")
        return None

    def _is_overdue(self) -> bool:
        with self._lock:
            return any(pending.deadline_s < time.monotonic() for pending in self._pending.values())

    def _route(self, reply: Reply) -> EngineDied | None:
        """Give `reply` to its request; returns the error of a broken engine. Raises EOFError when the child is gone."""
        self._memory = reply.memory or self._memory
        body: Any = reply.body
        if isinstance(body, BatchDecoded):
            floats = receive_block(self._conn, body.block_bytes) if body.block_bytes else np.empty(0, np.float32)
            body = unpack(body, floats)
        with self._lock:
            pending = self._pending[reply.number]
            pending.deadline_s = time.monotonic() + self._timeout_s  # the second reply has a time of its own
            future = pending.audio if reply.audio and pending.audio is not None else pending.answer
        if not isinstance(body, Failure):
            future.set_result(body)
        else:
            future.set_exception(body.error)
        with self._lock:
            if pending.is_over:
                del self._pending[reply.number]
        if isinstance(body, Failure) and body.broken:
            self.kill()
            return cast(EngineDied, body.error)
        return None

    def _fail_all(self, error: EngineDied) -> None:
        with self._lock:
            self._ended = self._ended or error
            left, self._pending = list(self._pending.values()), {}
        for pending in left:
            pending.fail(error)

    def _how_it_ended(self) -> EngineDied:
        self._process.join(timeout=ENDING_S)
        code = self._process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return EngineDied(
            f"the engine process ended ({how})", why="out of memory, a driver fault or a kill from outside"
        )


def _gone(error: EngineDied) -> EngineGone:
    return EngineGone(error.what, why=error.why, fix=error.fix)
