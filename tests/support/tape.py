"""A recorder for `Graphs` that needs no CUDA: it replays tensor operations and nothing else.

Like a CUDA graph, a tape knows addresses and runs no Python. Values that a step computed in Python during recording
stay constant, and tensors are read and written anew. An operation that makes the host wait for the device is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from workers.ace_step.device.graphs import Recording

_WAITING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "unique", "masked_select"}


class HostWaits(RuntimeError):
    """A step asks what a tensor holds."""


class _Operation(NamedTuple):
    run: Callable[..., Any]
    args: tuple[Any, ...]
    named: dict[str, Any]
    fresh: list[tuple[int, torch.Tensor]]  # results with memory of their own, by place


class Tape(TorchDispatchMode):
    """Records what runs under it; `undo` puts back what that changed in memory from before."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[_Operation] = []
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._own: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function._schema.name.removeprefix("aten::") in _WAITING:
            raise HostWaits(function._schema.name)
        named = kwargs or {}
        given = [each for each in tree_flatten((args, named))[0] if isinstance(each, torch.Tensor)]
        if function._schema.is_mutable:
            for tensor in given:
                self._keep(tensor)
        result = function(*args, **named)
        known = {_address(tensor) for tensor in given}
        results = enumerate(tree_flatten(result)[0])
        fresh = [(n, each) for n, each in results if isinstance(each, torch.Tensor) and _address(each) not in known]
        self._own.update(_address(tensor) for _, tensor in fresh)
        self._operations.append(_Operation(function, args, named, fresh))
        return result

    def _keep(self, tensor: torch.Tensor) -> None:
        address = _address(tensor)
        if address not in self._own and address not in self._before:
            whole = tensor.as_strided((tensor.untyped_storage().size() // tensor.itemsize,), (1,), 0)
            self._before[address] = (whole, whole.clone())

    def undo(self) -> None:
        """Put the memory back as it was: recording does no work."""
        for whole, before in self._before.values():
            whole.copy_(before)

    def replay(self) -> None:
        """Do the operations again, on the same memory."""
        for operation in self._operations:
            results = tree_flatten(operation.run(*operation.args, **operation.named))[0]
            for place, tensor in operation.fresh:
                tensor.copy_(results[place])


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@torch.inference_mode()
def record(step: Callable[[], Any]) -> Recording:
    """A recorder for `Graphs`."""
    tape = Tape()
    with tape:
        result = step()
    tape.undo()
    return Recording(torch.inference_mode()(tape.replay), result)
