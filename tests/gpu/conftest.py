"""Where there is no CUDA device these tests skip; with TUNEMILL_TEST_GPU=1, which promises one, that is a failure."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def cuda() -> None:
    if torch.cuda.is_available():
        return
    reason = f"no CUDA device (torch {torch.__version__})"
    if os.environ.get("TUNEMILL_TEST_GPU") == "1":
        pytest.fail(f"{reason}, and TUNEMILL_TEST_GPU=1 promises one")
    pytest.skip(reason)
