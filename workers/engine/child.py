"""Inside the engine's process: requests are served in order, and a second thread finishes what they began.

While a batch is decoded the next request is already at work, if the engine gains by it. At most one finish waits
behind the running one, so that no more than three batches are on the device in any form. The process outlives
neither its parent nor a closed pipe.
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
    Ask,
    AskBatch,
    AskLimit,
    AskPlans,
    Begun,
    EngineDied,
    Failure,
    Reply,
    pack,
    send_block,
    write_block,
)
from workers.logs import start_log

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


class Recipe(Protocol):
    """How to come by an engine."""

    def build(self) -> Engine:
        """Load it. Raises ModelError."""


def serve_engine(conn: Connection, recipe: Recipe, parent_pid: int) -> None:
    """Build the engine, then answer requests until the pipe closes. The body of the process."""
    _live_and_die_with(parent_pid)
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
        self._mouth = threading.Lock()  # a reply and its descriptor must not be torn apart
        self._finishes: queue.Queue[tuple[int, Finish]] = queue.Queue(maxsize=1)
        if engine.card.overlaps:
            threading.Thread(target=self._finish_in_turn, name="decoder", daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                number, request = self._conn.recv()
                self._say(self._reply(number, request))
            except (EOFError, OSError):  # the parent is gone
                return

    def _reply(self, number: int, request: Ask) -> Reply:
        try:
            return Reply(number, self._answer(number, request), memory=self._engine.memory())
        except Exception as error:
            return Reply(number, _failure_of(error))

    def _answer(self, number: int, request: Ask) -> EngineCard | BatchLimit | PlanResult | Begun:
        match request:
            case AskLimit(bucket, "batch"):
                return self._engine.batch_limit(bucket)
            case AskLimit(bucket):
                return self._engine.plan_limit(bucket)
            case AskPlans(takes):
                return self._engine.plan(takes)
            case AskBatch(jobs):
                finish = self._engine.begin(jobs)
                if self._engine.card.overlaps:
                    self._finishes.put((number, finish))
                else:
                    self._finish(number, finish)
                return Begun()

    def _finish_in_turn(self) -> None:
        while True:
            try:
                self._finish(*self._finishes.get())
            except OSError:  # the parent is gone; the other thread sees it too
                return
            except BaseException:
                # Without this thread the batch would never land; without the process it is tried again.
                log.exception("a reply could not be sent")
                os._exit(1)

    def _finish(self, number: int, finish: Finish) -> None:
        try:
            told, audios = pack(finish())
            block = write_block(audios) if told.block_bytes else None
        except Exception as error:
            self._say(Reply(number, _failure_of(error), audio=True))
            return
        self._say(Reply(number, told, audio=True), block)

    def _say(self, reply: Reply, block: int | None = None) -> None:
        with self._mouth:
            self._conn.send(reply)
            if block is not None:
                send_block(self._conn, block, os.getppid())


def _live_and_die_with(parent_pid: int) -> None:
    """Leave signals to the parent, which decides when the engine ends, and never survive it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the line above
            os._exit(1)


def _failure_of(error: Exception) -> Failure:
    """`error` as it may cross the pipe: words for what we know, class and message for what we do not."""
    if isinstance(error, OutOfVram):
        return Failure(OutOfVram(str(error)))
    if isinstance(error, TunemillError) and type(error).__module__ == TunemillError.__module__:
        return Failure(error)
    log.error("the engine failed", exc_info=error)
    # What an unknown fault left behind on the device is unknown, so the engine is not asked again.
    return Failure(EngineDied(f"the engine failed: {type(error).__name__}: {error}"), broken=True)
