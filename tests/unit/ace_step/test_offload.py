"""Offloaded weights: on the device for the stage, gone after it, the same values every time."""

from __future__ import annotations

import threading

import pytest
import torch

from workers.ace_step.weights.offload import Offloaded, OffloadedParts, module_bytes

CPU = torch.device("cpu")


def a_model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    model.register_buffer("scale", torch.tensor(3.0))
    return model.eval().requires_grad_(False)


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


X = torch.linspace(-1, 1, 8)[None]


def test_a_module_that_stays_on_its_device_is_left_alone():
    model = a_model()
    before = weights(model)
    offloaded = Offloaded(CPU)
    with offloaded:
        assert all(one is other for one, other in zip(weights(model), before, strict=True))
    assert offloaded.onload_bytes == 0


def test_loading_changes_no_bit_of_the_result():
    model = a_model()
    expected = model(X)
    offloaded = Offloaded.in_host_memory([model], CPU)
    for _ in range(2):
        with offloaded:
            assert torch.equal(model(X), expected)


def test_between_stages_the_device_holds_nothing_and_a_forgotten_load_is_an_error():
    model = a_model()
    held = module_bytes(model)
    offloaded = Offloaded.in_host_memory([model], CPU)
    assert all(weight.is_meta for weight in weights(model))
    assert module_bytes(model) == 0
    assert offloaded.onload_bytes == held == (8 * 8 + 8 + 8 * 4 + 4 + 1) * 4
    with pytest.raises((RuntimeError, NotImplementedError)):
        model(X)


def test_weights_stay_until_the_outermost_of_nested_stages_ends():
    model = a_model()
    offloaded = Offloaded.in_host_memory([model], CPU)
    with offloaded:
        inside = weights(model)
        with offloaded:
            assert weights(model)[0] is inside[0]
        model(X)
    assert weights(model)[0].is_meta


def test_an_error_in_a_stage_ends_it_too():
    model = a_model()
    offloaded = Offloaded.in_host_memory([model], CPU)
    with pytest.raises(ZeroDivisionError), offloaded:
        raise ZeroDivisionError
    assert weights(model)[0].is_meta
    with offloaded:
        assert not weights(model)[0].is_meta


def test_weights_for_which_there_is_no_memory_leave_nothing_behind():
    model = a_model()
    offloaded = Offloaded.in_host_memory([model], CPU)
    offloaded.device = torch.device("cuda", 99)  # wherever tests run, this one is not there
    with pytest.raises((RuntimeError, AssertionError)), offloaded:
        pass
    assert all(weight.is_meta for weight in weights(model))
    offloaded.device = CPU
    with offloaded:
        model(X)


def test_stages_of_two_threads_overlap_safely():
    model = a_model()
    expected = model(X)
    offloaded = Offloaded.in_host_memory([model], CPU)
    arrived, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with offloaded:
            arrived.set()
            leave.wait(5)

    other = threading.Thread(target=stay)
    other.start()
    arrived.wait(5)
    with offloaded:
        pass
    assert torch.equal(model(X), expected)  # the other stage still runs
    leave.set()
    other.join()
    assert weights(model)[0].is_meta


def test_tied_weights_stay_tied_and_are_counted_once():
    model = torch.nn.Module()
    model.table, model.head = torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10, bias=False)
    model.head.weight = model.table.weight
    model.requires_grad_(False)
    offloaded = Offloaded.in_host_memory([model], CPU)
    assert offloaded.onload_bytes == 10 * 4 * 4
    with offloaded:
        assert model.head.weight is model.table.weight
        assert module_bytes(model) == 10 * 4 * 4


def test_a_tensor_may_stay_while_its_module_is_offloaded():
    model = a_model()
    offloaded = Offloaded.in_host_memory([model], CPU, stays=["scale"])
    assert float(model.get_buffer("scale")) == 3.0
    assert offloaded.onload_bytes == (8 * 8 + 8 + 8 * 4 + 4) * 4
    with offloaded:
        assert float(model.get_buffer("scale")) == 3.0


def test_weights_are_never_copied_back():
    model = a_model()
    expected = model(X)
    offloaded = Offloaded.in_host_memory([model], CPU, stays=())
    with offloaded, torch.inference_mode():
        model[0].weight = torch.nn.Parameter(torch.zeros(8, 8), requires_grad=False)
    with offloaded:
        assert torch.equal(model(X), expected)


def test_of_several_parts_the_largest_counts():
    small, large = torch.nn.Linear(2, 2), torch.nn.Linear(20, 20)
    parts = OffloadedParts.on(CPU)
    assert parts.onload_bytes == 0
    parts = parts._replace(
        encoding=Offloaded.in_host_memory([small], CPU), planning=Offloaded.in_host_memory([large], CPU)
    )
    assert parts.onload_bytes == parts.planning.onload_bytes == (20 * 20 + 20) * 4
