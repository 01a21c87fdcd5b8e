"""A worker that is odd in one way: its engine takes its time, or its wall clock is wrong, or becomes it.

    python -m tests.chaos.odd_worker FOLDER --batch-s 0.5 --threads 4 --clock-ahead-s 3600

With `--batch-s` the engine renders batches of at most four and leaves a file `began-<n>-<pid>` in FOLDER for each
that it begins. The wall clock is changed before anything of the product is imported; the steady one stays right.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.chaos.clocks import set_wall_clock


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.clock_ahead_s:
        set_wall_clock(arguments.clock_ahead_s, after_s=arguments.clock_set_after_s)
    from catalog.messages import now_ms

    started_at_ms = now_ms()
    from catalog.errors import TunemillError
    from catalog.settings import read_settings
    from workers.engine.process import EngineRecipe
    from workers.logs import start_log
    from workers.service import ServeOptions, serve

    start_log()
    recipe = None
    if arguments.batch_s is not None:
        options = {"batch_s": arguments.batch_s, "folder": arguments.folder, "limit": 4}
        recipe = EngineRecipe("tests.support.fakes:SlowEngine", options)
    options = ServeOptions("tone", threads=arguments.threads, grace_s=arguments.grace_s)
    try:
        return serve(read_settings(), options, started_at_ms=started_at_ms, recipe=recipe)
    except TunemillError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch-s", type=float)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--grace-s", type=float, default=60)
    parser.add_argument("--clock-ahead-s", type=float, default=0.0)
    parser.add_argument("--clock-set-after-s", type=float, default=0.0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
