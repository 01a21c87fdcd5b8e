"""The engine's own process: it alone owns the GPU and the model, and a fault in it never ends the worker.

The child is spawned, builds its engine from a recipe and serves one request at a time over a pipe. Audio
comes back in one block of shared memory a batch: an anonymous file whose descriptor follows the reply, so it
has no name to leak and no limit but the machine's memory (containers give /dev/shm 64 MB), and it is freed
with the last array that views it. The child outlives neither its parent nor a closed pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from catalog.buckets import Bucket
from catalog.errors import OutOfVram, TunemillError, WorkerError
from catalog.sidecar import Effective, Plan, StageTimes
from catalog.tiers import BatchLimit
from workers.engine import Audio, BatchResult, Engine, EngineCard, Job, Refusal, Rendition
from workers.logs import start_log

log = logging.getLogger(__name__)

BATCH_TIMEOUT_S = 3600.0  # a batch takes seconds on a GPU; a small model on a CPU may need many minutes
_PR_SET_PDEATHSIG = 1
_T = TypeVar("_T")


class EngineDied(WorkerError):
    """The engine's process ended, hung or broke in the middle of its work; another one may be started."""


class EngineGone(EngineDied):
    """It had ended before it was given the batch, so no take is under suspicion."""


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """How the child builds its engine: a function by name, so that the parent imports no model library."""

    factory: str  # "package.module:function"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Engine:
        """Call the function. Raises ModelError as the function does."""
        module, _, name = self.factory.partition(":")
        return cast(Engine, getattr(import_module(module), name)(**self.arguments))


class _Placed(NamedTuple):
    """A rendition without its audio, which lies in the batch's block in the order of the outcomes."""

    shape: tuple[int, int]
    plan: Plan | None
    effective: Effective


class _Rendered(NamedTuple):
    outcomes: list[_Placed | Refusal]
    times: StageTimes
    block_bytes: int  # 0: no block follows


class _Failure(NamedTuple):
    error: TunemillError | OutOfVram
    broken: bool  # the engine cannot be trusted any more


class EngineProcess:
    """An engine in a process of its own. Start, ask and close it from one thread; `kill` works from any.

    The thread that starts it must outlive it: on Linux the child's death signal follows that thread.
    """

    def __init__(self, recipe: EngineRecipe, *, batch_timeout_s: float = BATCH_TIMEOUT_S) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._conn, child_end = spawn.Pipe(duplex=True)
        self._process = spawn.Process(target=_serve, args=(child_end, recipe, os.getpid()), name="engine", daemon=True)
        self._batch_timeout_s = batch_timeout_s
        self._limits: dict[Bucket, BatchLimit] = {}
        self._card: EngineCard | None = None
        self._process.start()
        child_end.close()

    def wait_until_loaded(self) -> EngineCard:
        """Wait for the model, however long its download takes. Raises ModelError or EngineDied."""
        self._card = self._reply(EngineCard, timeout_s=None)
        return self._card

    @property
    def card(self) -> EngineCard:
        """What the engine is and runs on; waits for it to load."""
        return self._card or self.wait_until_loaded()

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The engine's own limit for `bucket`, asked once."""
        if bucket not in self._limits:
            self._ask(bucket)
            self._limits[bucket] = self._reply(BatchLimit, timeout_s=self._batch_timeout_s)
        return self._limits[bucket]

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render one batch in the child. Raises what the engine raises, and EngineDied when it breaks."""
        self._ask(list(jobs))
        reply = self._reply(_Rendered, timeout_s=self._batch_timeout_s)
        try:
            floats = _map_block(self._conn, reply.block_bytes) if reply.block_bytes else np.empty(0, np.float32)
        except (EOFError, OSError) as error:
            raise self._died() from error
        return BatchResult(outcomes=_place(reply.outcomes, floats), times=reply.times)

    def kill(self) -> None:
        """End the child at once; a render that waits for it raises EngineDied."""
        with contextlib.suppress(ProcessLookupError, ValueError):
            self._process.kill()

    def close(self) -> None:
        """Kill the child and take leave of it."""
        self.kill()
        with contextlib.suppress(ValueError):
            self._process.join(timeout=10)
            self._process.close()
        self._conn.close()

    def _ask(self, request: Bucket | list[Job]) -> None:
        if self._card is None:
            self.wait_until_loaded()
        try:
            if wait([self._process.sentinel], timeout=0):
                raise BrokenPipeError
            self._conn.send(request)
        except OSError as error:
            raise EngineGone(*self._died().args) from error

    def _reply(self, kind: type[_T], *, timeout_s: float | None) -> _T:
        ready = wait([self._conn, self._process.sentinel], timeout=timeout_s)
        if not ready:
            self.kill()
            raise EngineDied(f"the engine gave no answer in {timeout_s:.0f} s and was killed")
        if self._conn not in ready:
            raise self._died()
        try:
            reply = self._conn.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(reply, _Failure):
            if reply.broken:
                self.kill()
            raise reply.error
        assert isinstance(reply, kind), f"engine process answered {type(reply).__name__}"  # noqa: S101 - our own child
        return reply

    def _died(self) -> EngineDied:
        self._process.join(timeout=10)
        code = self._process.exitcode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return EngineDied(
            f"the engine process ended ({how})", why="out of memory, a driver fault or a kill from outside"
        )


def _place(
    outcomes: list[_Placed | Refusal], floats: np.ndarray[Any, np.dtype[np.float32]]
) -> list[Rendition | Refusal]:
    """Give each rendition its view of the block."""
    placed: list[Rendition | Refusal] = []
    start = 0
    for outcome in outcomes:
        if isinstance(outcome, Refusal):
            placed.append(outcome)
            continue
        end = start + outcome.shape[0] * outcome.shape[1]
        audio: Audio = floats[start:end].reshape(outcome.shape)
        placed.append(Rendition(audio=audio, plan=outcome.plan, effective=outcome.effective))
        start = end
    return placed


# ---------------------------------------------------------------- in the child


def _serve(conn: Connection, recipe: EngineRecipe, parent_pid: int) -> None:
    """Build the engine, then answer requests until the pipe closes."""
    _live_and_die_with(parent_pid)
    start_log()
    try:
        engine = recipe.build()
        conn.send(engine.card)
    except Exception as error:
        conn.send(_failure_of(error))
        return
    while True:
        try:
            request = conn.recv()
        except (EOFError, OSError):
            return
        try:
            _answer(conn, engine, request)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:
            conn.send(_failure_of(error))


def _answer(conn: Connection, engine: Engine, request: Bucket | list[Job]) -> None:
    if isinstance(request, Bucket):
        conn.send(engine.batch_limit(request))
        return
    result = engine.render(request)
    audios = [outcome.audio for outcome in result.outcomes if isinstance(outcome, Rendition)]
    block_bytes = sum(audio.size for audio in audios) * np.dtype(np.float32).itemsize
    outcomes: list[_Placed | Refusal] = [
        outcome
        if isinstance(outcome, Refusal)
        else _Placed((outcome.audio.shape[0], outcome.audio.shape[1]), outcome.plan, outcome.effective)
        for outcome in result.outcomes
    ]
    block = _write_block(audios) if block_bytes else None
    conn.send(_Rendered(outcomes, result.times, block_bytes))
    if block is not None:
        send_handle(conn, block, os.getppid())
        os.close(block)


def _live_and_die_with(parent_pid: int) -> None:
    """Leave signals to the parent, which decides when the engine ends, and never survive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the line above
            os._exit(1)


def _failure_of(error: Exception) -> _Failure:
    """`error` as it may cross the pipe: words for what we know, class and message for what we do not."""
    if isinstance(error, OutOfVram):
        return _Failure(OutOfVram(str(error)), broken=False)
    if isinstance(error, TunemillError) and type(error).__module__ == TunemillError.__module__:
        return _Failure(error, broken=False)
    log.error("the engine failed", exc_info=error)
    # What an unknown fault left behind on the device is unknown, so the engine is not asked again.
    return _Failure(EngineDied(f"the engine failed: {type(error).__name__}: {error}"), broken=True)


# ---------------------------------------------------------------- shared memory


def _write_block(audios: Sequence[Audio]) -> int:
    """An anonymous shared file with the audios one after another; the caller closes the descriptor."""
    block = _anonymous_file()
    # Written, not mapped: the kernel fills pages a third faster than they can be faulted in.
    with os.fdopen(block, "wb", buffering=0, closefd=False) as file:
        for audio in audios:
            left = np.ascontiguousarray(audio, np.float32).data.cast("B")
            while left:
                left = left[file.write(left) :]
    return block


def _anonymous_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("tunemill-audio")
    with tempfile.TemporaryFile() as file:  # deleted already; it lives as long as a descriptor does
        return os.dup(file.fileno())


def _map_block(conn: Connection, block_bytes: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    block = recv_handle(conn)
    try:
        return np.frombuffer(mmap.mmap(block, block_bytes), np.float32)
    finally:
        os.close(block)
