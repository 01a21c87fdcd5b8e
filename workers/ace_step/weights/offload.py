"""Residence: where a model's weights live, on the device or in host memory with visits to the device.

A visiting module's weights wait in (pinned) host memory. Inside `with residence:` the module has copies of them on the
device; leaving drops the copies, because inference never changes a weight. In between the module holds no values
at all, so a stage that forgets the visit fails on every device instead of reading from the wrong place.

Addresses change with every visit: nothing that remembers them, such as a CUDA graph, may cover a visiting module.
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


class _Slot(NamedTuple):
    """One place in a module that a tensor is read from."""

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


class _Waiting(NamedTuple):
    """A tensor in host memory, and every slot that shares it: tied weights stay tied."""

    host: torch.Tensor
    slots: list[_Slot]

    def put(self, tensor: torch.Tensor) -> None:
        """Fill the slots with one and the same object."""
        if self.slots[0].is_parameter:
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        for slot in self.slots:
            slot.put(tensor)


class Offloaded:
    """Where some modules live. Visits may be nested; the last one out ends them. On CUDA all are of one stream."""

    def __init__(self, device: torch.device) -> None:
        """Modules that live on `device`: a visit costs and changes nothing."""
        self.device = device
        self._waiting: list[_Waiting] = []
        self._guests = 0
        self._lock = threading.Lock()

    @classmethod
    def in_host_memory(
        cls, modules: Sequence[torch.nn.Module], device: torch.device, *, stays: Sequence[str] = ()
    ) -> Offloaded:
        """Move `modules` out to host memory; tensors whose full name is in `stays` are put on `device` for good."""
        residence = cls(device)
        with torch.inference_mode(False), torch.no_grad():
            residence._waiting = _move_out(modules, device, frozenset(stays))
            residence._leave()
        return residence

    @property
    def visiting_bytes(self) -> int:
        """What a visit takes on the device."""
        return sum(tensor_bytes(waiting.host) for waiting in self._waiting)

    def __enter__(self) -> None:
        with self._lock:
            if self._guests == 0:
                self._arrive()
            self._guests += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._guests -= 1
            if self._guests == 0:
                self._leave()

    def _arrive(self) -> None:
        try:
            for waiting in self._waiting:
                # On the stream that will use it, from memory that nobody changes: the host need not wait.
                waiting.put(_rebuilt(waiting.host, lambda part: part.to(self.device, non_blocking=True)))
        except BaseException:
            self._leave()  # no room for all of it: make none of it stay
            raise

    def _leave(self) -> None:
        for waiting in self._waiting:
            waiting.put(_rebuilt(waiting.host, lambda part: part.to("meta")))


class OffloadedParts(NamedTuple):
    """Where the parts of one model live; each is entered for the stage that it is named after."""

    encoding: Offloaded
    hinting: Offloaded  # planner codes into latents
    diffusion: Offloaded
    decoding: Offloaded
    planning: Offloaded

    @classmethod
    def on(cls, device: torch.device) -> OffloadedParts:
        """All of them on `device` for good."""
        return cls(*(Offloaded(device) for _ in cls._fields))

    @property
    def visiting_bytes(self) -> int:
        """What the largest visit takes; stages come one after the other."""
        return max(residence.visiting_bytes for residence in self)


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Bytes that `tensor` occupies; of a quantised one its parts."""
    return sum(part.numel() * part.element_size() for part in _parts(tensor))


def module_bytes(*modules: torch.nn.Module | None) -> int:
    """Bytes of the weights and buffers in `modules`, each counted once; visiting ones that are away count nothing."""
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


def _move_out(modules: Sequence[torch.nn.Module], device: torch.device, stays: frozenset[str]) -> list[_Waiting]:
    waiting: dict[int, _Waiting] = {}
    for slot, name in _slots(modules):
        tensor = slot.tensor
        if name in stays:
            slot.put(tensor.to(device))
            continue
        if id(tensor) not in waiting:
            waiting[id(tensor)] = _Waiting(_in_host_memory(tensor.detach(), pinned=device.type == "cuda"), [])
        waiting[id(tensor)].slots.append(slot)
    return list(waiting.values())


def _slots(modules: Sequence[torch.nn.Module]) -> Iterator[tuple[_Slot, str]]:
    """Every place that holds a tensor, with the tensor's full name in its module."""
    for module in modules:
        for prefix, owner in module.named_modules():
            for is_parameter, places in ((True, owner._parameters), (False, owner._buffers)):
                for name in [name for name, tensor in places.items() if tensor is not None]:
                    yield _Slot(owner, name, is_parameter), f"{prefix}.{name}".removeprefix(".")


def _in_host_memory(tensor: torch.Tensor, *, pinned: bool) -> torch.Tensor:
    host = _rebuilt(tensor, torch.Tensor.cpu)
    if not pinned:
        return host
    try:
        return _rebuilt(host, torch.Tensor.pin_memory)
    except RuntimeError as error:  # the system sets a limit to memory that cannot be swapped
        _log.warning("weights wait in pageable memory, so visits take longer (%s)", str(error).partition("\n")[0])
        return host


def _rebuilt(tensor: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`tensor` with each of its parts changed; most have but one, themselves."""
    if not is_traceable_wrapper_subclass(tensor):
        return change(tensor)
    names, context = tensor.__tensor_flatten__()
    parts = {name: _rebuilt(getattr(tensor, name), change) for name in names}
    return type(tensor).__tensor_unflatten__(parts, context, tensor.shape, tensor.stride())
