"""Compiling: the way back to code as it was written."""

from __future__ import annotations

import pytest
import torch

from workers.ace_step.device import compiling
from workers.ace_step.device.compiling import Compiler


def _cannot_be_compiled(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if x.sum().item() > 0 else x - 1  # turns on a value


@torch.library.custom_op("tunemill_test::full", mutates_args=())
def _full(x: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


_full.register_fake(torch.empty_like)


def test_what_cannot_be_compiled_runs_as_it_was_written_and_says_so_once(caplog: pytest.LogCaptureFixture):
    compiler = Compiler(wanted=True)
    one, other = compiler(_cannot_be_compiled), compiler(_cannot_be_compiled)
    assert [one(torch.ones(2)).tolist(), one(-torch.ones(2)).tolist()] == [[2, 2], [-2, -2]]
    assert other(torch.ones(2)).tolist() == [2, 2]
    (said,) = [record.getMessage() for record in caplog.records if record.name == compiling.__name__]
    assert "uncompiled" in said
    assert not compiler.works


def test_memory_that_does_not_suffice_is_not_the_compilers_fault():
    compiler = Compiler(wanted=True)
    run = compiler(_full)
    with pytest.raises(torch.OutOfMemoryError):
        run(torch.ones(2))
    assert compiler.works


def test_nothing_is_compiled_that_is_not_wanted():
    assert Compiler(wanted=False)(_cannot_be_compiled) is _cannot_be_compiled
