"""The protocol between a worker and its engine's process: requests in one direction, replies in the other.

A request has a number and its replies repeat it. A reply contains no audio. The audio follows as the descriptor of an
anonymous file, one for each batch. Such a file has no name that could be left behind, is limited only by the machine's
memory (containers give /dev/shm 64 MB), and is freed with the last array that views it.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recvfds, send_handle
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from catalog.buckets import Bucket
from catalog.errors import OutOfVram, TunemillError, WorkerError
from catalog.messages import MemoryUse
from catalog.sidecar import Effective, Plan, StageTimes
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.engine.protocol import Audio, BatchResult, EngineCard, Job, PlanResult, Refusal, Rendition

LOADING = 0  # the number of the request that starting the engine is

Floats = npt.NDArray[np.float32]


class EngineDied(WorkerError):
    """The engine's process ended, hung or broke in the middle of its work; another one may be started."""


class EngineGone(EngineDied):
    """The engine had ended before it was given the request, so no take is under suspicion."""


class LimitRequest(NamedTuple):
    """Asks how many takes of `bucket` one call may hold."""

    bucket: Bucket
    call: Literal["plan", "batch"]


class PlanRequest(NamedTuple):
    """Asks for the plans of these takes."""

    takes: list[Take]


class BatchRequest(NamedTuple):
    """Asks to render these jobs; `BatchBegun` answers when the next request may come, `BatchDecoded` at the end."""

    jobs: list[Job]


EngineRequest = LimitRequest | PlanRequest | BatchRequest


class BatchBegun(NamedTuple):
    """The batch has its latents, and the engine takes the next request."""


class SilentRendition(NamedTuple):
    """A rendition without its audio, which lies in the batch's block in the order of the outcomes."""

    shape: tuple[int, int]
    plan: Plan | None
    effective: Effective


class BatchDecoded(NamedTuple):
    """A batch is done; its block of audio follows unless it has no bytes."""

    outcomes: list[SilentRendition | Refusal]
    times: StageTimes
    block_bytes: int


class Failure(NamedTuple):
    """The error that the engine raised."""

    error: TunemillError | OutOfVram
    broken: bool = False  # the engine cannot be trusted any more


class Reply(NamedTuple):
    """One answer. `audio` says that it is the second answer to a batch request, the decoded batch."""

    number: int
    body: EngineCard | BatchLimit | PlanResult | BatchBegun | BatchDecoded | Failure
    audio: bool = False
    memory: MemoryUse | None = None  # the engine's, when it could be asked


# ---------------------------------------------------------------- audio


def pack(result: BatchResult) -> tuple[BatchDecoded, list[Audio]]:
    """Split `result` into the reply and the audio that is sent beside it."""
    audios = [outcome.audio for outcome in result.outcomes if isinstance(outcome, Rendition)]
    outcomes: list[SilentRendition | Refusal] = [
        outcome
        if isinstance(outcome, Refusal)
        else SilentRendition((outcome.audio.shape[0], outcome.audio.shape[1]), outcome.plan, outcome.effective)
        for outcome in result.outcomes
    ]
    block_bytes = sum(audio.size for audio in audios) * np.dtype(np.float32).itemsize
    return BatchDecoded(outcomes, result.times, block_bytes), audios


def unpack(decoded: BatchDecoded, floats: Floats) -> BatchResult:
    """Put the result together again; each rendition views its part of the block."""
    outcomes: list[Rendition | Refusal] = []
    start = 0
    for outcome in decoded.outcomes:
        if isinstance(outcome, Refusal):
            outcomes.append(outcome)
            continue
        end = start + outcome.shape[0] * outcome.shape[1]
        audio: Audio = floats[start:end].reshape(outcome.shape)
        outcomes.append(Rendition(audio=audio, plan=outcome.plan, effective=outcome.effective))
        start = end
    return BatchResult(outcomes=outcomes, times=decoded.times)


def send_block(conn: Connection, block: int, pid: int) -> None:
    """Send the block and close it here."""
    try:
        send_handle(conn, block, pid)
    finally:
        os.close(block)


def receive_block(conn: Connection, block_bytes: int) -> Floats:
    """Receive a block as one array. Raises OSError or EOFError when the sender is gone."""
    block = _receive_descriptor(conn)
    try:
        return np.frombuffer(mmap.mmap(block, block_bytes), np.float32)
    finally:
        os.close(block)


def _receive_descriptor(conn: Connection) -> int:
    """The descriptor that the other end has sent.

    A socket object is needed for it, which shares the pipe and begins with the default timeout of the process. Celery
    and kombu set one for a moment while they close connections; left in place, it would make every later read fail that
    finds nothing to read.
    """
    with socket.socket(fileno=os.dup(conn.fileno())) as end:
        end.setblocking(True)
        return int(recvfds(end, 1)[0])


def write_block(audios: Sequence[Audio]) -> int:
    """Write the audios one after another into an anonymous shared file; returns its descriptor."""
    block = _anonymous_file()
    # Written, not mapped: the kernel fills pages a third faster than they can be faulted in.
    with os.fdopen(block, "wb", buffering=0, closefd=False) as file:
        for audio in audios:
            left: Any = np.ascontiguousarray(audio, np.float32).data.cast("B")
            while left:
                left = left[file.write(left) :]
    return block


def _anonymous_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("tunemill-audio")
    with tempfile.TemporaryFile() as file:  # deleted already; it lives as long as a descriptor does
        return os.dup(file.fileno())
