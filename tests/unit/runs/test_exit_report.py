"""The last words of a process become the error it meant."""

from __future__ import annotations

from pathlib import Path

from catalog.errors import ModelError, WorkerError
from orchestrator.runs.local.exit_report import error_of


def test_an_error_of_ours_comes_back_as_its_own_kind(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("starting\n" + f"error: {ModelError('no weights', why='the folder is empty', fix='fill it')}\n")
    error = error_of("the worker", 41, log)
    assert isinstance(error, ModelError)
    assert (error.why, error.fix) == ("the folder is empty", "fill it")
    assert "no weights" in error.what


def test_a_crash_is_quoted(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("Traceback (most recent call last):\nModuleNotFoundError: No module named 'torch'\n")
    error = error_of("the worker", 1, log)
    assert type(error) is WorkerError
    assert "No module named 'torch'" in error.why


def test_a_signal_is_named_and_an_earlier_life_is_not_quoted(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("error: an old story\n")
    error = error_of("the worker", -9, log, began_at=log.stat().st_size)
    assert "signal 9" in error.what
    assert "old story" not in error.why
