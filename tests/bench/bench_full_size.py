"""Models of the real size on a GPU: seconds a track by stage, share of the roofline, tracks and dollars.

Random weights of turbo (2B), XL turbo and the 1.7B planner, loaded through the product's own code. Needs CUDA; with
`--reduced` the same code runs on a small model anywhere, and says nothing about a GPU. What a budget of time does not
reach is named, and can be asked for alone: `--models`, `--stages`, `--durations` and `--batches` choose.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from catalog.messages import now_ms
from orchestrator.finance.money import MICROS_PER_USD
from orchestrator.finance.prices.book import price_for_gpu, read_price_book
from tests.bench.checkpoints import MINIATURE, TURBO, XL_TURBO, Sizes
from tests.bench.full_size import GPU_GOALS, Goals, Scope, Subject, cells_of, load_subject
from tests.bench.measuring import ROOT, Figure, hand_back, provenance
from tests.bench.roofline import Ceilings, measure_ceilings
from workers.ace_step.device.placement import choose_placement

MODELS: Final[dict[str, Sizes]] = {"turbo": TURBO, "xl": XL_TURBO}
PLANNER: Final = "planner"
STAGES: Final = (PLANNER, "render", "flow")
RESULTS: Final = ROOT / "infra" / "measurements"
SHM: Final = Path("/dev/shm")
SCRATCH_BYTES: Final = 16 * 2**30  # XL with its planner is 14.4 GB
BUDGET_S: Final = 540.0


class Measured(NamedTuple):
    """What came out, and what time did not suffice for."""

    figures: list[Figure]
    not_reached: list[str]


def main(argv: list[str] | None = None) -> None:
    """Measure what the arguments ask for, hand it back, and keep a GPU's result."""
    arguments = _parser().parse_args(argv)
    if arguments.reduced:
        torch.set_num_threads(1)  # at this size threads only wait for each other
    device = choose_placement(arguments.device or ("cpu" if arguments.reduced else None)).device
    if device.type != "cuda" and not arguments.reduced:
        raise SystemExit("models of the real size need a CUDA device; --reduced runs the same code on a small one")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    ceilings = measure_ceilings(device)
    measured = Measured([], [])
    try:
        measure(arguments, device, ceilings, measured)
    finally:  # a fault does not take with it what came before: time on such a device is dear
        figures = [
            Figure("matrix products, best measured", ceilings.flops_per_s / 1e12, "TFLOP/s"),
            Figure("copies, best measured", ceilings.bytes_per_s / 1e9, "GB/s"),
            *measured.figures,
            *dollars(measured.figures, gpu, arguments.usd_per_h),
        ]
        for name in measured.not_reached:
            sys.stderr.write(f"not reached within {arguments.budget_s:.0f} s: {name}\n")
        if not arguments.reduced or arguments.results:
            command = f"python -m tests.bench.bench_full_size {' '.join(sys.argv[1:] if argv is None else argv)}"
            run = {
                **provenance(command.strip()),
                "reduced": arguments.reduced,
                "figures": [{**figure._asdict(), "kept": figure.kept} for figure in figures],
                "not_reached": measured.not_reached,
            }
            keep_result(run, gpu, arguments.results or RESULTS)
    hand_back(figures)


def measure(arguments: argparse.Namespace, device: torch.device, ceilings: Ceilings, measured: Measured) -> None:
    """Add all cells of all models to `measured`, as far as the budget reaches."""
    deadline_s = time.monotonic() + arguments.budget_s
    with tempfile.TemporaryDirectory(dir=_scratch(reduced=arguments.reduced)) as scratch:
        for words, sizes in _models(arguments):
            if time.monotonic() > deadline_s:
                measured.not_reached.append(words)
                continue
            goals = Goals() if arguments.reduced else GPU_GOALS
            subject, loading = load_subject(words, sizes, Path(scratch), str(device), ceilings=ceilings, goals=goals)
            measured.figures.extend(loading)
            _measure_cells(subject, arguments, deadline_s, measured)
            del subject
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _measure_cells(subject: Subject, arguments: argparse.Namespace, deadline_s: float, measured: Measured) -> None:
    """Add the cells of `subject` to `measured`; each is said at once, so that a run cut off has said something."""
    planner_known = any(
        f", {PLANNER}, " in figure.name for figure in measured.figures
    )  # the same one beside every model
    scope = Scope(arguments.durations, arguments.batches, arguments.planner_takes, arguments.flow_takes)
    for cell in cells_of(subject, scope):
        if cell.stage not in arguments.stages or (cell.stage == PLANNER and planner_known):
            continue
        if time.monotonic() > deadline_s:
            measured.not_reached.append(cell.name)
            continue
        figures = cell.measure()
        measured.figures.extend(figures)
        for figure in figures:
            sys.stderr.write(f"{figure.name}: {figure.shown}\n")


def dollars(figures: list[Figure], gpu: str, rates: list[float]) -> list[Figure]:
    """What 1,000 tracks cost at the price book's rate and at `rates`; nothing for a GPU that has neither."""
    price = price_for_gpu(gpu, now_ms(), read_price_book(ROOT / "infra" / "prices"))
    named = [(rate, f"at ${rate:g} an hour") for rate in rates]
    if price is not None:
        usd_per_h = price.usd_micros_per_h / MICROS_PER_USD
        named.insert(0, (usd_per_h, f"at ${usd_per_h:g} an hour ({price.sku}, {price.provenance})"))
    return [
        Figure(f"{each.name.removesuffix(': rate')}, {words}", 1000 * rate / each.value, "$ per 1,000 tracks")
        for each in figures
        if each.unit == "tracks/h"
        for rate, words in named
    ]


def keep_result(run: dict[str, Any], gpu: str, folder: Path) -> Path:
    """Add `run` to the file of this GPU and day."""
    folder.mkdir(parents=True, exist_ok=True)
    day = run["measured_at"].partition("T")[0]
    path = folder / f"{gpu.lower().replace(' ', '-')}-{day}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"gpu": gpu, "runs": []}
    known["runs"].append(run)
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return path


def _models(arguments: argparse.Namespace) -> Iterator[tuple[str, Sizes]]:
    if arguments.reduced:
        yield "miniature", MINIATURE
    else:
        yield from ((name, MODELS[name]) for name in arguments.models)


def _scratch(*, reduced: bool) -> Path | None:
    """Memory, where there is enough of it, so that writing and reading weights takes seconds."""
    return SHM if not reduced and SHM.is_dir() and shutil.disk_usage(SHM).free > SCRATCH_BYTES else None


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _amounts(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_full_size", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--reduced",
        action="store_true",
        help="a small model, on the CPU unless told otherwise: proves that the bench runs",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: the best there is)")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--durations", type=_numbers, default=[60, 120, 180, 240], metavar="S,S,...")
    parser.add_argument("--batches", type=_numbers, default=[1, 2, 4, 8, 16, 32], metavar="N,N,...")
    parser.add_argument("--planner-takes", type=_numbers, default=[1, 8, 32], metavar="N,N,...")
    parser.add_argument("--flow-takes", type=int, default=0, metavar="N", help="default: as many as it plans at once")
    parser.add_argument("--usd-per-h", type=_amounts, default=[], metavar="USD,...", help="beside the price book's")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, help="no cell is begun later than this")
    parser.add_argument("--results", type=Path, metavar="DIR", help=f"where results are kept (default: {RESULTS.name})")
    return parser


if __name__ == "__main__":
    main()
