"""Memory: the amount that this process uses and the amount that this machine has, read from the kernel."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Final

_MIB: Final = 1 << 20
# A container's limit, in the second and the first version of control groups; "max" or absurdly large: none.
_LIMIT_FILES: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def resident_mib() -> float:
    """Resident memory of this process in MiB; where there is no /proc, the most it ever had."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / _MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB


def machine_bytes() -> int:
    """The memory of this machine, or of the container that this process is confined to."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *_container_limits()])


def _container_limits() -> list[int]:
    texts = [path.read_text().strip() for path in _LIMIT_FILES if path.is_file()]
    return [int(text) for text in texts if text.isdigit()]
