"""Memory probes: measure the memory that is free, and the peak that some work needed.

On CUDA, the allocator answers; on the CPU, the kernel does. Metal records no peak, so it has no probe.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import Final

import torch

from catalog.errors import WorkerError
from workers.ace_step.device.placement import free_cache
from workers.engine.memory import machine_bytes, resident_mib

_KIB, _MIB = 1024, 2**20
_CLEAR_REFS, _STATUS, _MEMORY = Path("/proc/self/clear_refs"), Path("/proc/self/status"), Path("/proc/meminfo")
_GROUP_STATISTICS: Final = Path("/sys/fs/cgroup/memory.stat")  # of the container, in the second version
_RESET_PEAK: Final = "5"  # proc(5): reset the peak resident set size


def free_bytes(device: torch.device) -> int:
    """The memory available to work on `device`: free memory, and memory that this process reserved and does not use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return _available_bytes()


class CudaMemoryProbe:
    """Measures memory reserved from the driver: allocated memory, and memory lost to fragmentation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Give cached blocks back and reset the peak."""
        gc.collect()
        torch.cuda.synchronize(self._device)
        free_cache(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        """The most that was reserved since `start`, weights included."""
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_reserved(self._device)


class ResidentMemoryProbe:
    """Resident memory of this process, on Linux."""

    def start(self) -> None:
        """Give free heap back to the system and reset the peak."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR_REFS.write_text(_RESET_PEAK)

    def peak_bytes(self) -> int:
        """The most that was resident since `start`, weights, program and libraries included."""
        return _kernel_bytes(_STATUS, "VmHWM")


def open_memory_probe(device: torch.device) -> CudaMemoryProbe | ResidentMemoryProbe:
    """The probe for work on `device`. Raises WorkerError where there is none."""
    if device.type == "cuda":
        return CudaMemoryProbe(device)
    if device.type == "cpu" and sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        return ResidentMemoryProbe()
    raise WorkerError(
        f"what a batch needs cannot be measured on {device.type} with {sys.platform}",
        why="neither its driver nor its kernel tells how much memory was in use at the height of some work",
        fix="calibrate on CUDA, or on the CPU of a Linux machine with glibc; elsewhere the published limits hold",
    )


def _available_bytes() -> int:
    """Bytes that the machine, or the container that this process is confined to, can still give."""
    if not _MEMORY.is_file():
        return machine_bytes() - round(resident_mib() * _MIB)
    taken = 0
    if _GROUP_STATISTICS.is_file():
        taken = int(dict(line.split() for line in _GROUP_STATISTICS.read_text().splitlines()).get("anon", 0))
    return min(_kernel_bytes(_MEMORY, "MemAvailable"), machine_bytes() - taken)


def _kernel_bytes(path: Path, name: str) -> int:
    """A line such as `VmHWM:    1234 kB`."""
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(lines[name].split()[0]) * _KIB
