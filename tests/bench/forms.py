"""The two ways to render a catalog that are held against each other, each in a process of its own.

The plain form is what one writes first: `generate()` plans one take, diffusers' `AceStepPipeline` renders it, and then
the next. The staged form is the product's engine: all takes planned together, then rendered in batches. Both read the
same files, render the same takes on one thread, and hand back their audio, so that equality is checked where speed is.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from catalog.track import Take
from tests.bench.measuring import peak_rss_mib

PEAK_AMPLITUDE = 10.0 ** (-1.0 / 20.0)  # -1 dBFS, to which the stock pipeline brings each track
Wave = npt.NDArray[np.float32]


class Checkpoint(NamedTuple):
    """Weights on disk, as a child can be told of them."""

    model: str
    folder: Path
    planner_folder: Path
    home: Path


class Rendering(NamedTuple):
    """What a form did with some takes."""

    seconds: float
    cpu_s: float  # of its one thread: what other programs take from this machine does not count
    waves: list[Wave]  # as the stock pipeline normalises them
    codes: list[list[int]]  # of each take's plan; [] without one
    peak_mib: float  # of the process so far


class Form(Protocol):
    """One way of rendering."""

    def render(self, takes: Sequence[Take]) -> tuple[list[Wave], list[list[int]]]:
        """Normalised audio and planner codes ([] without a planner) of each take; all share a bucket."""


class PlainLoop:
    """`generate()` and stock `AceStepPipeline` calls, one take at a time."""

    def __init__(self, checkpoint: Checkpoint, *, planned: bool) -> None:
        import torch
        from diffusers import AceStepPipeline
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        from workers.ace_step.planner.planner import Planner

        for library in (diffusers_logging, transformers_logging):
            library.disable_progress_bar()
        self._pipeline = AceStepPipeline.from_pretrained(checkpoint.folder, dtype=torch.float32)
        self._pipeline.set_progress_bar_config(disable=True)
        cpu = {"device": torch.device("cpu"), "dtype": torch.float32}
        self._planner = Planner.load(checkpoint.planner_folder, **cpu) if planned else None

    def render(self, takes: Sequence[Take]) -> tuple[list[Wave], list[list[int]]]:
        """One take after the other."""
        rendered = [self._one(take) for take in takes]
        return [wave for wave, _ in rendered], [codes for _, codes in rendered]

    def _one(self, take: Take) -> tuple[Wave, list[int]]:
        from tests.support.plain_planner import plan_plainly
        from tests.support.stock_pipeline import render_plainly

        codes = plan_plainly(self._planner, [take])[0] if self._planner else []
        return render_plainly(self._pipeline, take, codes).numpy(), codes


class StagedEngine:
    """The product's engine: one planner call for all takes, then batches of its own limit."""

    def __init__(self, checkpoint: Checkpoint, *, planned: bool) -> None:
        from workers.ace_step.assembly import load_engine

        self._engine = load_engine(
            checkpoint.model,
            weights=str(checkpoint.folder),
            planner_weights=str(checkpoint.planner_folder) if planned else None,
            device="cpu",
            vram_gib=None,
            home=checkpoint.home,
            planner_wanted=planned,
        )

    def render(self, takes: Sequence[Take]) -> tuple[list[Wave], list[list[int]]]:
        """Planned together, rendered in batches."""
        from workers.engine.protocol import Rendition

        renditions: list[Rendition] = []
        for jobs in self.batches(takes):
            for outcome in self._engine.render(jobs).outcomes:
                assert isinstance(outcome, Rendition), outcome
                renditions.append(outcome)
        codes = [each.plan.codes if each.plan else [] for each in renditions]
        return [normalised(each.audio) for each in renditions], codes

    def batches(self, takes: Sequence[Take]) -> Iterator[list[Any]]:
        """The takes with their plans, in batches."""
        from catalog.buckets import Bucket
        from workers.engine.protocol import Job

        bucket = Bucket.of(takes[0].spec)
        plans: list[Any] = [None] * len(takes)
        if takes[0].spec.planner is not None:
            size = self._engine.plan_limit(bucket).takes
            groups = [takes[first : first + size] for first in range(0, len(takes), size)]
            plans = [outcome for group in groups for outcome in self._engine.plan(group).outcomes]
        limit = self._engine.batch_limit(bucket).takes
        jobs = [Job(take, plan) for take, plan in zip(takes, plans, strict=True)]
        for first in range(0, len(jobs), limit):
            yield jobs[first : first + limit]


def normalised(audio: Wave) -> Wave:
    """`audio` at the level that the stock pipeline gives every track."""
    peak = max(float(np.abs(audio).max()), 1e-6)
    return (audio * np.float32(PEAK_AMPLITUDE / peak)).astype(np.float32)


_FORMS = {"plain": PlainLoop, "staged": StagedEngine}
_form: Form | None = None  # the one form of this child


class FormProcess:
    """A form in a process of its own, asked from here."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def render(self, takes: Sequence[Take]) -> Rendering:
        """Render `takes` there; the seconds are measured there, too."""
        return self._pool.submit(_render, list(takes)).result()


@contextmanager
def open_form(name: str, checkpoint: Checkpoint, *, planned: bool) -> Iterator[FormProcess]:
    """The form called `name` ("plain" or "staged"), loaded in a process that ends with the block."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_open, initargs=(name, checkpoint, planned)) as pool:
        yield FormProcess(pool)


def _open(name: str, checkpoint: Checkpoint, planned: bool) -> None:
    import torch

    global _form  # noqa: PLW0603 - a pool's initializer has no other way to leave something behind
    torch.set_num_threads(1)
    _form = _FORMS[name](checkpoint, planned=planned)
    gc.collect()


def _render(takes: list[Take]) -> Rendering:
    assert _form is not None
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    waves, codes = _form.render(takes)
    seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
    return Rendering(seconds, cpu_s, waves, codes, peak_rss_mib())
