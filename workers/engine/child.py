"""The engine's process, seen from inside: one thread serves requests in order, and a second thread finishes them.

While a batch is decoded, the next request is already processed, if the engine gains by it. At most one finish waits
behind the running one, so at most three batches are on the device at any stage. The process ends when its parent ends
or its pipe is closed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Protocol

from catalog.errors import OutOfVram, TunemillError
from catalog.tiers import BatchLimit
from workers.engine.protocol import Engine, EngineCard, Finish, PlanResult
from workers.engine.wire import (
    LOADING,
    BatchBegun,
    BatchRequest,
    EngineDied,
    EngineRequest,
    Failure,
    LimitRequest,
    PlanRequest,
    Reply,
    pack,
    send_block,
    write_block,
)
from workers.logs import start_log

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


class BuildsEngine(Protocol):
    """A way to make an engine that the child can be given."""

    def build(self) -> Engine:
        """Load the engine. Raises ModelError."""


def serve_engine(conn: Connection, recipe: BuildsEngine, parent_pid: int) -> None:
    """Build the engine, then answer requests until the pipe closes. The body of the process."""
    _follow_parent(parent_pid)
    start_log()
    try:
        engine = recipe.build()
        conn.send(Reply(LOADING, engine.card, memory=engine.memory()))
    except Exception as error:
        conn.send(Reply(LOADING, _failure_of(error)))
        return
    _Server(conn, engine).serve()


class _Server:
    def __init__(self, conn: Connection, engine: Engine) -> None:
        self._conn, self._engine = conn, engine
        self._sending = threading.Lock()  # no other reply may come between a reply and its descriptor
        self._finishes: queue.Queue[tuple[int, Finish]] = queue.Queue(maxsize=1)
        if engine.card.overlaps:
            threading.Thread(target=self._finish_in_turn, name="decoder", daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                number, request = self._conn.recv()
                self._send(self._reply(number, request))
            except (EOFError, OSError):  # the parent is gone
                return

    def _reply(self, number: int, request: EngineRequest) -> Reply:
        try:
            return Reply(number, self._answer(number, request), memory=self._engine.memory())
        except Exception as error:
            return Reply(number, _failure_of(error))

    def _answer(self, number: int, request: EngineRequest) -> EngineCard | BatchLimit | PlanResult | BatchBegun:
        match request:
            case LimitRequest(bucket, "batch"):
                return self._engine.batch_limit(bucket)
            case LimitRequest(bucket):
                return self._engine.plan_limit(bucket)
            case PlanRequest(takes):
                return self._engine.plan(takes)
            case BatchRequest(jobs):
                finish = self._engine.begin(jobs)
                if self._engine.card.overlaps:
                    self._finishes.put((number, finish))
                else:
                    self._finish(number, finish)
                return BatchBegun()

    def _finish_in_turn(self) -> None:
        while True:
            try:
                self._finish(*self._finishes.get())
            except OSError:  # the parent is gone; the other thread sees it too
                return
            except BaseException:
                # Without this thread the batch would never be answered; without the process it is tried again.
                log.exception("a reply could not be sent")
                os._exit(1)

    def _finish(self, number: int, finish: Finish) -> None:
        try:
            decoded, audios = pack(finish())
            block = write_block(audios) if decoded.block_bytes else None
        except Exception as error:
            self._send(Reply(number, _failure_of(error), audio=True))
            return
        self._send(Reply(number, decoded, audio=True), block)

    def _send(self, reply: Reply, block: int | None = None) -> None:
        with self._sending:
            self._conn.send(reply)
            if block is not None:
                send_block(self._conn, block, os.getppid())


def _follow_parent(parent_pid: int) -> None:
    """Leave signals to the parent, which decides when the engine ends, and never survive it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the line above
            os._exit(1)


def _failure_of(error: Exception) -> Failure:
    """The error in a form that may cross the pipe: our own errors unchanged, any other by its class and message."""
    if isinstance(error, OutOfVram):
        return Failure(OutOfVram(str(error)))
    if isinstance(error, TunemillError) and type(error).__module__ == TunemillError.__module__:
        return Failure(error)
    log.error("the engine failed", exc_info=error)
    # The state of the device after an unknown fault is unknown, so the engine is not asked again.
    return Failure(EngineDied(f"the engine failed: {type(error).__name__}: {error}"), broken=True)
