"""The engine's own process: it alone owns the GPU and the model, and a fault in it never ends the worker.

The child is spawned, builds its engine from a recipe and serves requests over a pipe. `begin` comes back as soon as
the engine can take the next request, and the audio follows when it is decoded; one thread here reads all replies
and gives each to whoever waits for it. When the child dies or hangs, so does everything that was asked of it.
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
    Ask,
    AskBatch,
    AskLimit,
    AskPlans,
    Audible,
    EngineDied,
    EngineGone,
    Failure,
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
    """How the child builds its engine: a function by name, so that the parent imports no model library."""

    factory: str  # "package.module:function"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Engine:
        """Call the function. Raises ModelError as the function does."""
        module, _, name = self.factory.partition(":")
        return cast(Engine, getattr(import_module(module), name)(**self.arguments))


@dataclass(slots=True)
class _Asked:
    """A request under way: `answer` frees the engine's front, `audio` is what a batch becomes later."""

    deadline_s: float
    answer: Future[Any] = field(default_factory=Future)
    audio: Future[BatchResult] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come. A batch that failed in front has nothing to finish."""
        if self.audio is None or (self.answer.done() and self.answer.exception()):
            return self.answer.done()
        return self.answer.done() and self.audio.done()

    def fail(self, error: Exception) -> None:
        """Give up what is still awaited."""
        for future in (self.audio, self.answer):
            if future is not None and not future.done():
                future.set_exception(error)


class EngineProcess:
    """An engine in a process of its own. Start and close it from one thread; the rest works from any.

    The thread that starts it must outlive it: on Linux the child's death signal follows that thread. Every request
    raises what the engine raises, EngineDied when the engine breaks under it, EngineGone when it had ended before.
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
        self._loading = _Asked(time.monotonic() + loading_timeout_s)  # by default a download takes as long as it takes
        self._asked = {LOADING: self._loading}
        self._memory: MemoryUse | None = None
        self._ended: EngineDied | None = None
        self._table = threading.Lock()
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
        """What the engine is and runs on; waits for it to load."""
        return self.wait_until_loaded()

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The engine's own limit for a batch of `bucket`."""
        return cast(BatchLimit, self._ask(AskLimit(bucket, "batch")).answer.result())

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        """The engine's own limit for a planner call of takes like those of `bucket`."""
        return cast(BatchLimit, self._ask(AskLimit(bucket, "plan")).answer.result())

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        """Write the plans of `takes`."""
        return cast(PlanResult, self._ask(AskPlans(list(takes))).answer.result())

    def begin(self, jobs: Sequence[Job]) -> Future[BatchResult]:
        """Render one batch; returns when the next request may come, with what the batch will be when it is decoded."""
        audio: Future[BatchResult] = Future()
        self._ask(AskBatch(list(jobs)), audio).answer.result()
        return audio

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch and wait for all of it."""
        return self.begin(jobs).result()

    def memory(self) -> MemoryUse | None:
        """What the engine held when it last replied; None before it has loaded."""
        return self._memory

    def kill(self) -> None:
        """End the child at once; whatever waits for it raises EngineDied."""
        # AttributeError: another thread is taking leave of it at this moment.
        with contextlib.suppress(ProcessLookupError, ValueError, AttributeError):
            self._process.kill()

    def close(self) -> None:
        """Kill the child and take leave of it; when this returns, nothing waits for it any more."""
        self.kill()
        self._reader.join(timeout=ENDING_S)
        self._fail_all(EngineDied("the engine was closed"))
        with contextlib.suppress(ValueError):
            self._process.join(timeout=ENDING_S)
            self._process.close()
        self._conn.close()

    # ------------------------------------------------------------ asking

    def _ask(self, request: Ask, audio: Future[BatchResult] | None = None) -> _Asked:
        self.wait_until_loaded()
        asked = _Asked(time.monotonic() + self._timeout_s, audio=audio)
        with self._table:
            if self._ended is not None:
                raise _gone(self._ended)
            number = next(self._numbers)
            self._asked[number] = asked
        try:
            if wait([self._process.sentinel], timeout=0):
                raise BrokenPipeError
            with self._sending:
                self._conn.send((number, request))
        except OSError:
            with self._table:
                self._asked.pop(number, None)
            self._reader.join(timeout=ENDING_S)  # it finds out how the child ended
            raise _gone(self._ended or EngineDied("the engine process ended")) from None
        return asked

    # ------------------------------------------------------------ the reader's thread

    def _read(self) -> None:
        error: EngineDied | None = None
        while error is None:
            try:
                error = self._read_one()
            except Exception as defect:  # nobody may wait for ever because a reply could not be taken
                self.kill()
                error = EngineDied(f"the engine's reply could not be taken: {type(defect).__name__}: {defect}")
        self._fail_all(error)

    def _read_one(self) -> EngineDied | None:
        """Take one reply, if there is one; why there will be no more, when the child has ended or must end."""
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
        with self._table:
            return any(asked.deadline_s < time.monotonic() for asked in self._asked.values())

    def _route(self, reply: Reply) -> EngineDied | None:
        """Give `reply` to whoever waits for it; what it says of a broken engine. Raises EOFError when that is gone."""
        self._memory = reply.memory or self._memory
        body: Any = reply.body
        if isinstance(body, Audible):
            floats = receive_block(self._conn, body.block_bytes) if body.block_bytes else np.empty(0, np.float32)
            body = unpack(body, floats)
        with self._table:
            asked = self._asked[reply.number]
            asked.deadline_s = time.monotonic() + self._timeout_s  # what is left has its own time
            future = asked.audio if reply.audio and asked.audio is not None else asked.answer
        if not isinstance(body, Failure):
            future.set_result(body)
        else:
            future.set_exception(body.error)
        with self._table:
            if asked.is_over:
                del self._asked[reply.number]
        if isinstance(body, Failure) and body.broken:
            self.kill()
            return cast(EngineDied, body.error)
        return None

    def _fail_all(self, error: EngineDied) -> None:
        with self._table:
            self._ended = self._ended or error
            left, self._asked = list(self._asked.values()), {}
        for asked in left:
            asked.fail(error)

    def _how_it_ended(self) -> EngineDied:
        self._process.join(timeout=ENDING_S)
        code = self._process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return EngineDied(
            f"the engine process ended ({how})", why="out of memory, a driver fault or a kill from outside"
        )


def _gone(error: EngineDied) -> EngineGone:
    return EngineGone(error.what, why=error.why, fix=error.fix)
