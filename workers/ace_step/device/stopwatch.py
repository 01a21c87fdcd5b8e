"""Stage times: the device time of each stage of a render, measured without stopping the device.

On CUDA, the marks are events in the queue that are read when all work is done. On other devices, a mark waits for the
queue to drain and reads the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from workers.ace_step.device.placement import wait_for


class _Stage(NamedTuple):
    name: str
    began: torch.cuda.Event | float
    ended: torch.cuda.Event | float


class Stopwatch:
    """Times stages by name on the stream that is current where they run; one stage does not hold another."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stages: list[_Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as (part of) stage `name`."""
        began = self._mark()
        yield
        self._stages.append(_Stage(name, began, self._mark()))

    def spent_ms(self) -> dict[str, int]:
        """Whole milliseconds by stage; waits for work that is still in the queue."""
        spent: dict[str, float] = {}
        for stage in self._stages:
            spent[stage.name] = spent.get(stage.name, 0.0) + _between_ms(stage.began, stage.ended)
        return {name: round(milliseconds) for name, milliseconds in spent.items()}

    def _mark(self) -> torch.cuda.Event | float:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            return event
        wait_for(self._device)
        return time.perf_counter()


def _between_ms(began: torch.cuda.Event | float, ended: torch.cuda.Event | float) -> float:
    if isinstance(began, float) or isinstance(ended, float):
        return (ended - began) * 1000  # type: ignore[operator]  # both are of one kind
    ended.synchronize()
    return began.elapsed_time(ended)
