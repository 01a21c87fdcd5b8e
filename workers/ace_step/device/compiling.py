"""Compiling: torch.compile with a fallback, because a model that runs slower is better than one that does not run.

Shapes are compiled as variables, so a new duration or number of takes needs no new code. The few variants (one take or
several, masked or not) are compiled when they first occur.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from workers.ace_step.device.placement import is_out_of_memory

_VARIANTS_MAX = 64  # of one function, before torch gives up on compiling it; 8 by default, which is too few here

_log = logging.getLogger(__name__)


class Compiler:
    """Compiles the computations of one engine until a compilation fails; from then on, all run uncompiled."""

    def __init__(self, *, wanted: bool) -> None:
        self.works = wanted
        if wanted:
            torch._dynamo.config.recompile_limit = max(_VARIANTS_MAX, torch._dynamo.config.recompile_limit)

    def __call__(self, plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """`plain`, compiled at its first call; `plain` itself when compiling is not wanted."""
        if not self.works:
            return plain
        fast = torch.compile(plain, fullgraph=True, dynamic=True)

        def run(*args: Any) -> torch.Tensor:
            if self.works:
                try:
                    return fast(*args)
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    self._give_up(error)
            return plain(*args)

        return run

    def _give_up(self, error: Exception) -> None:
        self.works = False
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        _log.warning("the model runs uncompiled, which is slower (%s: %s)", type(error).__name__, reason)
