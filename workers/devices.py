"""Device checks: refuse a device that cannot exist on this machine, before anything is opened or loaded.

Torch takes seconds to import and only the engine imports it. So the check reads torch's build from its version file,
and asks the driver in a process of its own. The engine, which asks torch, may still refuse a device that passes here.
"""

from __future__ import annotations

import importlib.util
import platform
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from catalog.errors import SettingsError

DRIVER_TIMEOUT_S: Final = 30.0  # a driver that wakes up takes some seconds
# Prints how many devices CUDA's driver shows to this environment; ends with 1 where there is no driver.
_COUNT: Final = """
import ctypes
count = ctypes.c_int()
driver = ctypes.CDLL("libcuda.so.1")
if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
    print(count.value)
else:
    print(0)
"""


def check_device(name: str | None) -> None:
    """Raise SettingsError when this machine cannot have the device `name` (None: the best there is)."""
    if name == "mps" and (sys.platform, platform.machine()) != ("darwin", "arm64"):
        raise _absent(name, "mps is the GPU of an Apple computer")
    if name is None or not name.startswith("cuda"):
        return
    build = _torch_build()
    if build.get("hip") or sys.platform != "linux":
        return  # AMD's devices go by the same name, and have another driver
    if build and not build.get("cuda"):
        raise _absent(name, f"torch {build.get('__version__', '')} is built without CUDA")
    present = _count_cuda_devices()
    if present is None:
        raise _absent(name, "there is no NVIDIA driver (libcuda.so.1) here")
    if int(name.partition(":")[2] or 0) >= present:
        raise _absent(name, f"the NVIDIA driver shows {present} CUDA device{'' if present == 1 else 's'}")


def _torch_build() -> Mapping[str, Any]:
    """The names that torch's own file of its version sets, `cuda` and `hip` among them; none without torch."""
    spec = importlib.util.find_spec("torch")
    folder = next(iter((spec and spec.submodule_search_locations) or ()), "")
    file = Path(folder, "version.py")
    return runpy.run_path(str(file)) if folder and file.is_file() else {}


def _count_cuda_devices() -> int | None:
    """The CUDA devices that CUDA_VISIBLE_DEVICES leaves; None without a driver."""
    try:
        said = subprocess.run(
            [sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False, timeout=DRIVER_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return None
    return int(said.stdout) if said.returncode == 0 else None


def _absent(name: str, why: str) -> SettingsError:
    return SettingsError(
        f"device {name!r} is not there",
        why=why,
        fix="write TUNEMILL_DEVICE=cpu, unset it to take the best there is, or install the GPU's driver and a torch "
        "that is built for it",
    )
