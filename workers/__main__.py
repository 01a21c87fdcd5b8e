"""`python -m workers`: serve a queue on one GPU or on all, replay a stored take, calibrate, write the tiny checkpoint.

Addresses and secrets come from the environment and never from arguments, which every user of the machine can read.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from catalog.errors import INTERRUPTED_EXIT_CODE, BrokerError, TunemillError
from catalog.messages import now_ms
from catalog.models import TURBO, find_model
from catalog.plain import plain_json, plain_lines, replace_unencodable
from catalog.secrets import scrub
from catalog.settings import Settings, read_settings
from workers.devices import check_device
from workers.logs import start_log

_PR_SET_PDEATHSIG = 1
STARTED_AT_MS = now_ms()  # before the heavy imports, which are part of the start's time


def main(argv: list[str] | None = None) -> int:
    """Run one command; errors a person can mend end as words and their exit code."""
    replace_unencodable(sys.stdout)
    arguments = _parser().parse_args(argv)
    start_log()
    try:
        return _COMMANDS[arguments.command](arguments)
    except TunemillError as error:
        print(plain_lines(scrub(f"error: {error}")), file=sys.stderr)  # noqa: T201
        if getattr(arguments, "json", False):
            print(plain_json(scrub(json.dumps(error.as_plain_values()))))  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE


def _read_settings_for(model: str) -> Settings:
    """The settings, with a device that exists; faults are reported before the heavy imports."""
    settings = read_settings()
    if find_model(model).needs_device:
        check_device(settings.device)
    return settings


def _serve(arguments: argparse.Namespace) -> int:
    settings = _read_settings_for(arguments.model)
    if not settings.broker_url:
        raise BrokerError(
            "no broker is named",
            why="a worker takes its work from a queue that others fill",
            fix="set TUNEMILL_BROKER_URL, or use `tunemill run`, which brings its own broker and worker",
        )
    from workers.service import ServeOptions, serve  # noqa: PLC0415 - the engine process imports this module too

    if arguments.dies_with is not None and not _die_with(arguments.dies_with):
        return 0
    options = ServeOptions(
        model=arguments.model,
        threads=arguments.threads,
        grace_s=arguments.grace_s,
        planner=not arguments.no_planner,
    )
    return serve(settings, options, started_at_ms=STARTED_AT_MS)


def _serve_all(arguments: argparse.Namespace) -> int:
    from workers.all_gpus import serve_all  # noqa: PLC0415

    options = ["--model", arguments.model, "--grace-s", str(arguments.grace_s)]
    if arguments.threads is not None:
        options += ["--threads", str(arguments.threads)]
    if arguments.no_planner:
        options.append("--no-planner")
    return serve_all(options, os.environ)


def _die_with(parent_pid: int) -> bool:
    """Be told to stop when the parent is killed (on Linux); False when that has happened already."""
    if sys.platform != "linux":
        return True
    # SIGTERM, not SIGKILL: takes on the engine are finished and stored.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent_pid


def _replay(arguments: argparse.Namespace) -> int:
    from workers.replay import replay_sidecar  # noqa: PLC0415

    verdict = replay_sidecar(sys.stdin.buffer.read(), read_settings())
    print(verdict.model_dump_json(indent=2, ensure_ascii=True))  # noqa: T201
    return 0


def _finish(_: argparse.Namespace) -> int:
    from workers.finishing import finish_all  # noqa: PLC0415

    for line in finish_all(sys.stdin, read_settings()):
        print(line, flush=True)  # noqa: T201
    return 0


def _compare(_: argparse.Namespace) -> int:
    from workers.comparing import compute_all  # noqa: PLC0415

    for line in compute_all(sys.stdin, read_settings()):
        print(line, flush=True)  # noqa: T201
    return 0


def _score(_: argparse.Namespace) -> int:
    from workers.rating import score_all  # noqa: PLC0415

    for line in score_all(sys.stdin, read_settings()):
        print(line, flush=True)  # noqa: T201
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    settings = _read_settings_for(arguments.model)
    from workers.calibrate import CalibrationRun, open_calibratable_engine  # noqa: PLC0415

    engine = open_calibratable_engine(settings, arguments.model, planner_wanted=not arguments.no_planner)
    calibration = CalibrationRun(engine, settings.home)
    exit_code = 0
    try:
        calibration.measure(arguments.duration_s, ceiling=arguments.ceiling)
    except KeyboardInterrupt:
        exit_code = INTERRUPTED_EXIT_CODE
    print(calibration.report())  # noqa: T201
    return exit_code


def _tiny(arguments: argparse.Namespace) -> int:
    from workers.ace_step.tiny.checkpoint import tiny_checkpoint  # noqa: PLC0415

    home: Path = arguments.home or read_settings().home
    print(tiny_checkpoint(home))  # noqa: T201
    return 0


_COMMANDS = {
    "serve": _serve,
    "serve-all": _serve_all,
    "replay": _replay,
    "finish": _finish,
    "compare": _compare,
    "score": _score,
    "calibrate": _calibrate,
    "tiny": _tiny,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers", description="The data plane of tunemill.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="render takes until told to stop")
    serve.add_argument("--dies-with", type=int, metavar="PID", help="stop when this process, the parent, is gone")
    serve_all = commands.add_parser("serve-all", help="the same on every CUDA device, one worker each")
    for each in (serve, serve_all):
        each.add_argument("--model", default=TURBO.name, help="the model a worker pins (default: %(default)s)")
        each.add_argument("--threads", type=int, help="takes in hand at once (default: by the engine's limits)")
        each.add_argument("--grace-s", type=float, default=120.0, help="time to finish in when told to stop")
        each.add_argument("--no-planner", action="store_true", help="load no planner; takes that need one are refused")
    commands.add_parser("replay", help="read a sidecar on standard input, render it again, print a verdict")
    commands.add_parser("finish", help="make takes from stored audio of others: jobs in, results out, a line each")
    commands.add_parser("compare", help="compute the sound of stored audio: jobs in, results out, a line each")
    commands.add_parser("score", help="compute the scores of stored audio: jobs in, results out, a line each")
    calibrate = commands.add_parser("calibrate", help="measure batch limits on this GPU, keep them, print them as JSON")
    calibrate.add_argument("--model", default=TURBO.name, help="the model to load (default: %(default)s)")
    calibrate.add_argument(
        "--duration-s", type=int, action="append", default=[], help="measure this one; may be repeated"
    )
    calibrate.add_argument("--ceiling", type=int, default=64, help="try no larger batch (default: %(default)s)")
    calibrate.add_argument("--no-planner", action="store_true", help="load no planner, as a worker without one")
    for each in commands.choices.values():
        each.add_argument("--json", action="store_true", help="print an error that ends it as JSON, too")
    tiny = commands.add_parser("tiny", help="write the tiny random checkpoint and print its folder")
    tiny.add_argument("--home", type=Path, help="where to write it (default: TUNEMILL_HOME)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
