"""Offloading: a module's weights stay on the device, or wait in host memory and visit the device for their stage.

An offloaded module's weights wait in (pinned) host memory. Inside `with offloaded:`, the module has copies of them on
the device; at the end of the block, the copies are dropped, because inference never changes a weight. Outside the
block, the module holds no values at all, so a stage that forgets to load them fails on every device instead of reading
from the wrong place.

Addresses change with every load, so no work that remembers addresses, such as a CUDA graph, may cover an offloaded
module.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_log = logging.getLogger(__name__)


class _TensorReference(NamedTuple):
    """One attribute of a module that refers to a tensor."""

    owner: torch.nn.Module
    name: str
    is_parameter: bool

    @property
    def tensor(self) -> torch.Tensor:
        return self._places[self.name]

    @property
    def _places(self) -> dict[str, Any]:
        return self.owner._parameters if self.is_parameter else self.owner._buffers

    def put(self, tensor: torch.Tensor) -> None:
        self._places[self.name] = tensor


class _HostTensor(NamedTuple):
    """A tensor in host memory, and every reference to it: tied weights stay tied."""

    host: torch.Tensor
    references: list[_TensorReference]

    def put(self, tensor: torch.Tensor) -> None:
        """Let all references be to one and the same object."""
        if self.references[0].is_parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        for reference in self.references:
            reference.put(tensor)


class Offloaded:
    """Some modules, and where their weights lie.

    Stages may be nested: the weights stay until the last one ends. On CUDA all stages run on one stream.
    """

    def __init__(self, device: torch.device) -> None:
        """Modules whose weights stay on `device`: a stage costs and changes nothing."""
        self.device = device
        self._host_tensors: list[_HostTensor] = []
        self._stages_running = 0
        self._lock = threading.Lock()

    @classmethod
    def in_host_memory(
        cls, modules: Sequence[torch.nn.Module], device: torch.device, *, stays: Sequence[str] = ()
    ) -> Offloaded:
        """Move `modules` out to host memory; tensors whose full name is in `stays` are put on `device` for good."""
        offloaded = cls(device)
        with torch.inference_mode(False), torch.no_grad():
            offloaded._host_tensors = _move_out(modules, device, frozenset(stays))
            offloaded._offload()
        return offloaded

    @property
    def onload_bytes(self) -> int:
        """Bytes that the weights take on the device while their stage runs."""
        return sum(tensor_bytes(tensor.host) for tensor in self._host_tensors)

    def __enter__(self) -> None:
        with self._lock:
            if self._stages_running == 0:
                self._onload()
            self._stages_running += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._stages_running -= 1
            if self._stages_running == 0:
                self._offload()

    def _onload(self) -> None:
        try:
            for tensor in self._host_tensors:
                # On the stream that will use it, from memory that does not change, so the host need not wait.
                tensor.put(_rebuilt(tensor.host, lambda part: part.to(self.device, non_blocking=True)))
        except BaseException:
            self._offload()  # no memory for all of them: let none stay
            raise

    def _offload(self) -> None:
        for tensor in self._host_tensors:
            tensor.put(_rebuilt(tensor.host, lambda part: part.to("meta")))


class OffloadedParts(NamedTuple):
    """The parts of one model; each is entered for the stage that it is named after."""

    encoding: Offloaded
    hinting: Offloaded  # planner codes into latents
    diffusion: Offloaded
    decoding: Offloaded
    planning: Offloaded

    @classmethod
    def on(cls, device: torch.device) -> OffloadedParts:
        """Parts that all stay on `device`."""
        return cls(*(Offloaded(device) for _ in cls._fields))

    @property
    def onload_bytes(self) -> int:
        """Bytes that the largest part takes while its stage runs; stages come one after the other."""
        return max(part.onload_bytes for part in self)


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Bytes that `tensor` occupies; of a quantised one its parts."""
    return sum(part.numel() * part.element_size() for part in _parts(tensor))


def module_bytes(*modules: torch.nn.Module | None) -> int:
    """Bytes of the weights and buffers in `modules`, each counted once; offloaded ones count nothing."""
    tensors = {
        id(tensor): tensor
        for module in modules
        if module is not None
        for tensor in (*module.parameters(), *module.buffers())
        if tensor.device.type != "meta"
    }
    return sum(map(tensor_bytes, tensors.values()))


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from _parts(getattr(tensor, name))


def _move_out(modules: Sequence[torch.nn.Module], device: torch.device, stays: frozenset[str]) -> list[_HostTensor]:
    host_tensors: dict[int, _HostTensor] = {}
    for reference, name in _references(modules):
        tensor = reference.tensor
        if name in stays:
            reference.put(tensor.to(device))
            continue
        if id(tensor) not in host_tensors:
            host_tensors[id(tensor)] = _HostTensor(_in_host_memory(tensor.detach(), pinned=device.type == "cuda"), [])
        host_tensors[id(tensor)].references.append(reference)
    return list(host_tensors.values())


def _references(modules: Sequence[torch.nn.Module]) -> Iterator[tuple[_TensorReference, str]]:
    """Every attribute that holds a tensor, with the tensor's full name in its module."""
    for module in modules:
        for prefix, owner in module.named_modules():
            for is_parameter, places in ((True, owner._parameters), (False, owner._buffers)):
                for name in [name for name, tensor in places.items() if tensor is not None]:
                    yield _TensorReference(owner, name, is_parameter), f"{prefix}.{name}".removeprefix(".")


def _in_host_memory(tensor: torch.Tensor, *, pinned: bool) -> torch.Tensor:
    host = _rebuilt(tensor, torch.Tensor.cpu)
    if not pinned:
        return host
    try:
        return _rebuilt(host, torch.Tensor.pin_memory)
    except RuntimeError as error:  # the system sets a limit to memory that cannot be swapped
        _log.warning(
            "weights wait in pageable memory, so loading them takes longer (%s)", str(error).partition("\n")[0]
        )
        return host


def _rebuilt(tensor: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`tensor` with each of its parts changed; most have but one, themselves."""
    if not is_traceable_wrapper_subclass(tensor):
        return change(tensor)
    names, context = tensor.__tensor_flatten__()
    parts = {name: _rebuilt(getattr(tensor, name), change) for name in names}
    return type(tensor).__tensor_unflatten__(parts, context, tensor.shape, tensor.stride())
