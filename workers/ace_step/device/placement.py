"""Placement: the device and the number format in which the model runs, and the memory of that device."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from catalog.errors import SettingsError
from catalog.messages import MemoryUse
from workers.engine.memory import machine_bytes, resident_mib

_MIB, _GIB = 2**20, 2**30


class Placement(NamedTuple):
    """One device with everything that follows from choosing it."""

    device: torch.device
    dtype: torch.dtype  # diffusion transformer, condition encoder and code modules
    text_dtype: torch.dtype
    vae_dtype: torch.dtype
    planner_dtype: torch.dtype
    gpu: str  # name as the driver gives it, or "cpu"
    vram_gib: float  # total, not free: what the tier table is written for
    vram_source: str


def choose_placement(name: str | None = None, vram_gib: float | None = None) -> Placement:
    """The device `name` (None: the best there is), with the precision the reference implementation uses on it.

    bfloat16 on CUDA, float32 on the CPU; on MPS float16 for the diffusion side and float32 for the rest.
    `vram_gib` overrides the measured memory. Raises SettingsError for a device that is not there.
    """
    device = _checked(name) if name else _best()
    half = {"cuda": torch.bfloat16, "mps": torch.float16}.get(device.type, torch.float32)
    rest = torch.bfloat16 if device.type == "cuda" else torch.float32
    gpu, measured_gib, source = _describe(device)
    if vram_gib is not None:
        measured_gib, source = vram_gib, "set by TUNEMILL_VRAM_GIB"
    return Placement(device, half, rest, rest, rest, gpu, measured_gib, source)


def wait_for(device: torch.device) -> None:
    """Block until everything queued on `device`, on CUDA on its current stream, is done."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def free_cache(device: torch.device) -> None:
    """Give cached blocks back to the device, so that the next batch finds the memory in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """True when `error` says that the memory of any device did not suffice."""
    # MPS and the CPU raise plain RuntimeErrors.
    words = str(error)
    # cuBLAS and cuDNN say so in their own way.
    said = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(each in words for each in said)


def memory_use(device: torch.device) -> MemoryUse:
    """The memory that this process holds now, in the system and on `device`."""
    allocated = 0
    if device.type == "cuda":
        allocated = torch.cuda.memory_allocated(device)
    elif device.type == "mps":
        allocated = torch.mps.current_allocated_memory()
    return MemoryUse(rss_mib=resident_mib(), device_mib=allocated / _MIB)


def _best() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _checked(name: str) -> torch.device:
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise SettingsError(
            f"device {name!r} is not known",
            fix="set TUNEMILL_DEVICE to cuda, cuda:1, mps or cpu, or unset it",
        )
    device = torch.device(name)
    if device.type == "cuda":
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = torch.device("cuda", device.index or 0)
        if (device.index or 0) >= present:
            raise _absent(name, f"torch {torch.__version__} sees {present} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise _absent(name, f"torch {torch.__version__} has no MPS on this machine")
    return device


def _absent(name: str, why: str) -> SettingsError:
    return SettingsError(
        f"device {name!r} is not there",
        why=why,
        fix="install a torch build for this GPU and its driver, or set TUNEMILL_DEVICE=cpu",
    )


def _describe(device: torch.device) -> tuple[str, float, str]:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return properties.name, properties.total_memory / _GIB, "reported by the driver"
    if device.type == "mps":
        return "mps", torch.mps.recommended_max_memory() / _GIB, "recommended by Metal"
    return "cpu", machine_bytes() / _GIB, "of system memory"
