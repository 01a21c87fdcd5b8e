"""CUDA graphs: work that repeats with the same shapes is recorded once and then launched as a whole.

To launch a thousand small kernels one by one can take the host longer than the device needs to run them. A graph holds
addresses and no values, so the recorded work must read and write buffers that keep their addresses. On other devices,
and when recording fails, the work runs unrecorded: slower, with the same result.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch

from workers.ace_step.lru import Lru

T = TypeVar("T")

# Held while a graph is recorded, and by another thread while it queues work of its own: some of what that may call for
# (a compiler trying kernels out, say) waits for the whole device, which nothing may do during a recording.
RECORDING = threading.Lock()

_log = logging.getLogger(__name__)


class Recording(NamedTuple):
    """A step that was captured: `replay` does its work again, into the same memory, `result` included."""

    replay: Callable[[], None]
    result: Any


Recorder = Callable[[Callable[[], Any]], Recording]


class _RecordedStep(NamedTuple):
    step: Callable[[], Any]  # kept for the buffers that it refers to: the graph writes to their addresses
    recording: Recording | None  # None: only its first run is over


class Graphs:
    """The graphs of one owner on one device; the last `keep` keys that were used have one. Not thread-safe.

    All of them share one pool of memory, so they must run one after the other, on one stream, and a result must
    be used or copied before the next `run`. `keep=0` records nothing, as anywhere without CUDA or once recording
    has failed.
    """

    def __init__(self, device: torch.device, keep: int, *, recorder: Recorder | None = None) -> None:
        if recorder is None and device.type == "cuda":
            recorder = _CudaRecorder(device)
        self._recorder = recorder if keep > 0 else None
        self._kept: Lru[Hashable, _RecordedStep] = Lru(keep)

    @property
    def records(self) -> bool:
        """True when steps are recorded; otherwise no buffer needs to keep its place."""
        return self._recorder is not None

    def run(self, key: Hashable, step: Callable[[], T]) -> T:
        """Run `step`: directly the first time, recorded the second time, replayed from then on.

        `key` stands for the shapes and for the buffers: with an equal key, `step` must do the same work on the same
        tensors. The owner of the buffers is a good part of a key. Every replay returns the result of the recorded step.
        """
        if self._recorder is None:
            return step()
        kept = self._kept.find(key)
        if kept is None:  # the first run warms up: compilers and libraries may not choose their kernels in a graph
            result = step()
            self._kept.put(key, _RecordedStep(step, None))
            return result
        recording = kept.recording or self._record(self._recorder, step)
        if recording is None:
            return step()
        self._kept.put(key, _RecordedStep(step, recording))
        recording.replay()
        recorded: T = recording.result
        return recorded

    def clear(self) -> None:
        """Let all graphs go, and with them the memory they hold."""
        self._kept.clear()
        if isinstance(self._recorder, _CudaRecorder):
            # Libraries may keep a workspace in the pool, and torch refuses a pool that holds only that.
            self._recorder = _CudaRecorder(self._recorder.device)

    def _record(self, recorder: Recorder, step: Callable[[], Any]) -> Recording | None:
        try:
            return recorder(step)
        except Exception as error:
            # What the driver or a library refuses to record can still be run. Memory that does not suffice for a
            # graph is better left to the batches, too.
            reason = str(error).partition("\n")[0]
            _log.warning("no CUDA graphs, each kernel is launched by itself (%s: %s)", type(error).__name__, reason)
            self._recorder = None
            self.clear()
            return None


class _CudaRecorder:
    """Captures into one pool of memory, which all graphs of an owner share."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], Any]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        before = torch.cuda.current_stream(self.device)
        # thread_local: another thread may be decoding meanwhile, and its work is not part of the recording.
        capture = torch.cuda.graph(graph, self._pool, _capture_stream(self.device), capture_error_mode="thread_local")
        try:
            with RECORDING, torch.cuda.device(self.device), capture:
                result = step()
        except BaseException:
            torch.cuda.set_stream(before)  # a capture that breaks may leave its own stream in force
            raise
        return Recording(graph.replay, result)


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One capture stream for all graphs: torch hands out few streams in turn, and in the end the decoder's own."""
    return torch.cuda.Stream(device)
