"""Weights of one byte: smaller by the promised share, off by the promised error, refused where they cannot be."""

from __future__ import annotations

import importlib

import pytest
import torch

from catalog.errors import WorkerError
from workers.ace_step.weights.offload import Offloaded, module_bytes
from workers.ace_step.weights.quantize import check_quantization, quantize_blocks

CPU = torch.device("cpu")
X = torch.randn(16, 256, generator=torch.Generator().manual_seed(1))


def a_transformer() -> torch.nn.Module:
    """Two blocks of one matrix each, and a head."""
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(torch.nn.Linear(256, 256, bias=False) for _ in range(2))
    model.head = torch.nn.Linear(256, 256, bias=False)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("number_format", "error"), [("int8", 0.01), ("fp8", 0.05)])
def test_a_layer_is_a_quarter_of_float32_and_off_by_its_formats_error(number_format: str, error: float):
    model = a_transformer()
    exact = model.layers[0](X)
    assert module_bytes(model) == 3 * 256 * 256 * 4
    quantize_blocks(model, number_format)
    rough = model.layers[0](X)
    assert 0 < float((rough - exact).norm() / exact.norm()) < error
    assert module_bytes(model.layers) < 2 * 256 * 256 * 1.05


def test_what_is_no_block_keeps_its_precision():
    model = a_transformer()
    exact = model.head.weight
    quantize_blocks(model, "int8")
    assert model.head.weight is exact


def test_no_format_changes_nothing():
    model = a_transformer()
    before = list(model.parameters())
    quantize_blocks(model, "")
    assert all(one is other for one, other in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("number_format", ["int8", "fp8"])
def test_quantised_weights_are_offloaded_like_any_other(number_format: str):
    model = a_transformer()
    quantize_blocks(model, number_format)
    expected, held = model.layers[1](X), module_bytes(model)
    offloaded = Offloaded.in_host_memory([model], CPU)
    assert offloaded.onload_bytes == held
    assert module_bytes(model) == 0
    with offloaded, torch.inference_mode():
        assert torch.equal(model.layers[1](X), expected)


def test_without_torchao_the_fix_is_named(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    check_quantization("", CPU)
    with pytest.raises(WorkerError, match="int8") as caught:
        check_quantization("int8", CPU)
    assert "torchao" in caught.value.why
    assert "TUNEMILL_QUANTIZE" in caught.value.fix


def test_a_gpu_that_knows_no_eight_bit_floats_is_refused_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    check_quantization("int8", torch.device("cuda", 0))
    with pytest.raises(WorkerError) as caught:
        check_quantization("fp8", torch.device("cuda", 0))
    assert "8.6" in caught.value.why
    assert "8.9" in caught.value.why
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    check_quantization("fp8", torch.device("cuda", 0))


def test_metal_is_refused_all_of_them():
    with pytest.raises(WorkerError, match="int8"):
        check_quantization("int8", torch.device("mps"))
