"""Graphs: when work is run, recorded and replayed. The device is a stand-in that records by remembering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from workers.ace_step.device.graphs import Graphs, Recording

CPU = torch.device("cpu")


class Device:
    """Stands in for CUDA: recording runs nothing that lasts, replaying adds to `replayed`."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.recorded = 0
        self.replayed = 0

    def __call__(self, step: Callable[[], Any]) -> Recording:
        if self.broken:
            raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be late")
        self.recorded += 1
        return Recording(self._replay, step())

    def _replay(self) -> None:
        self.replayed += 1


class Step:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return f"{self.name}{self.calls}"


def test_work_runs_once_is_then_recorded_and_from_then_on_replayed():
    device, step = Device(), Step()
    graphs = Graphs(CPU, keep=2, recorder=device)
    results = [graphs.run("shape", step) for _ in range(5)]
    assert results == ["1", "2", "2", "2", "2"]
    assert (step.calls, device.recorded, device.replayed) == (2, 1, 4)


def test_every_key_has_a_graph_of_its_own():
    device, one, other = Device(), Step("a"), Step("b")
    graphs = Graphs(CPU, keep=2, recorder=device)
    for _ in range(3):
        graphs.run("one", one)
        graphs.run("other", other)
    assert (device.recorded, device.replayed) == (2, 4)
    assert [graphs.run("one", one), graphs.run("other", other)] == ["a2", "b2"]


def test_only_the_keys_used_last_are_kept():
    device, steps = Device(), {name: Step(name) for name in "abc"}
    graphs = Graphs(CPU, keep=2, recorder=device)
    for name in "aabbac":  # b was used longest ago when c came
        graphs.run(name, steps[name])
    graphs.run("a", steps["a"])
    graphs.run("b", steps["b"])
    assert steps["a"].calls == 2
    assert steps["b"].calls == 3


def test_work_that_cannot_be_recorded_runs_as_it_stands_and_says_so_once(caplog: pytest.LogCaptureFixture):
    step = Step()
    graphs = Graphs(CPU, keep=2, recorder=Device(broken=True))
    assert [graphs.run("shape", step) for _ in range(4)] == ["1", "2", "3", "4"]
    (record,) = caplog.records
    assert "stream is capturing" in record.getMessage()
    assert "late" not in record.getMessage()


def test_nothing_is_recorded_without_cuda_nor_where_none_are_to_be_kept():
    device, step = Device(), Step()
    for graphs in (Graphs(CPU, keep=4), Graphs(CPU, keep=0, recorder=device)):
        for _ in range(3):
            graphs.run("shape", step)
    assert (step.calls, device.recorded) == (6, 0)


def test_graphs_that_were_let_go_are_recorded_anew():
    device, step = Device(), Step()
    graphs = Graphs(CPU, keep=2, recorder=device)
    for _ in range(3):
        graphs.run("shape", step)
    graphs.clear()
    for _ in range(2):
        graphs.run("shape", step)
    assert device.recorded == 2
