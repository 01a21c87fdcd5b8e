"""`tunemill worker`, `worker calibrate`, `replay`: start the data plane as a process by name; nothing imports it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated, Any

import typer

from catalog import limits
from catalog.errors import INTERRUPTED_EXIT_CODE, DifferentAudioError, WorkerError
from catalog.models import TURBO, EngineName, find_model
from catalog.plain import plain_json, plain_lines
from catalog.settings import Settings, read_settings
from orchestrator.cli import completion
from orchestrator.cli.console import JsonErrorFlag, JsonFlag, print_json, say
from orchestrator.cli.display import number, print_table, waiting
from orchestrator.cli.ledger import get_ledger_of_names
from orchestrator.cli.takes import TAKE_HELP, get_rendition
from orchestrator.ledger import RenditionRow

# -P: a folder "workers" in the working directory must not replace this program's package.
_WORKERS = (sys.executable, "-P", "-m", "workers")
# Packages of the `worker` extra that every worker, and some engines, import before they can report an error themselves.
_AUDIO = ("numpy", "scipy", "soundfile", "pyloudnorm")
_MODEL_LIBRARIES: dict[EngineName, tuple[str, ...]] = {"ace_step": ("torch", "diffusers", "transformers")}

Model = Annotated[str, typer.Option(help="The model to load; a worker serves one model.")]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu; by default the best available one.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Number of takes held at once; by default 2 x batch limit + 2.")
]
Grace = Annotated[float, typer.Option(min=0, help="Seconds to finish the running batch after a stop signal.")]
AllGpus = Annotated[bool, typer.Option("--all-gpus", help="Start one worker for each CUDA device of this machine.")]
NoPlanner = Annotated[bool, typer.Option("--no-planner", help="Load no planner; for catalogs with `planner: false`.")]
Durations = Annotated[str, typer.Option(help="Durations to measure, in seconds: 30,60,180; by default the usual ones.")]
Ceiling = Annotated[int, typer.Option(min=1, max=256, help="Try no larger batch than this.")]

_MIB = 2**20
_CALIBRATION_COLUMNS = (
    number("duration"),
    number("limit"),
    number("published"),
    number("MiB per take"),
    number("s per take"),
)


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(worker)
    group.command("calibrate")(calibrate)
    app.add_typer(group, name="worker")
    app.command("replay")(replay)


def worker(
    context: typer.Context,
    model: Model = TURBO.name,
    device: Device = None,
    threads: Threads = None,
    grace_s: Grace = 120.0,
    no_planner: NoPlanner = False,
    all_gpus: AllGpus = False,
    as_json: JsonErrorFlag = False,
) -> None:
    """Render takes of a fleet on this machine until told to stop.

    The takes come from the queues of the broker that TUNEMILL_BROKER_URL names.

    After a SIGTERM or Ctrl-C the worker finishes the running batch and gives its other takes back. A second one, or a
    SIGQUIT, ends the worker at once.
    """
    if context.invoked_subcommand is not None:
        return
    if all_gpus and device is not None:
        raise typer.BadParameter("it names one device, and --all-gpus means all of them", param_hint="--device")
    require_worker_extra(model)
    arguments = [*_WORKERS, "serve-all" if all_gpus else "serve", "--model", model, "--grace-s", str(grace_s)]
    if threads is not None:
        arguments += ["--threads", str(threads)]
    if no_planner:
        arguments.append("--no-planner")
    if as_json:
        arguments.append("--json")
    sys.stdout.flush()
    os.execve(sys.executable, arguments, _environment(device))  # noqa: S606 - this process becomes the worker


def calibrate(
    model: Model = TURBO.name,
    device: Device = None,
    durations: Durations = "",
    ceiling: Ceiling = 64,
    no_planner: NoPlanner = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure the largest batches that fit on this GPU.

    Workers on this machine use the measured limit for each length of take.

    Run no other program on the GPU meanwhile. Ctrl-C keeps the finished measurements; a later calibration measures the
    given durations again and keeps the other ones.
    """
    require_worker_extra(model)
    arguments = [*_WORKERS, "calibrate", "--model", model, "--ceiling", str(ceiling)]
    for duration_s in _durations(durations):
        arguments += ["--duration-s", str(duration_s)]
    if no_planner:
        arguments.append("--no-planner")
    if as_json:
        arguments.append("--json")
    with _interrupts_ignored():
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False, env=_environment(device))
    if done.returncode not in (0, INTERRUPTED_EXIT_CODE) or not done.stdout:
        sys.stdout.write(plain_json(done.stdout))
        raise typer.Exit(done.returncode)  # the child has printed the reason on standard error
    found: dict[str, Any] = json.loads(done.stdout)
    if as_json:
        print_json(found)
    else:
        _print_calibration(found)
    raise typer.Exit(done.returncode)


def replay(
    take: Annotated[str, typer.Argument(help=TAKE_HELP, autocompletion=completion.takes)], as_json: JsonFlag = False
) -> None:
    """Render TAKE again, and compare it with the stored audio.

    The command renders the take from its sidecar.
    """
    settings = read_settings()
    rendition = _get_rendition(take, settings)
    require_worker_extra(str(rendition.sidecar["take"]["track"]["spec"]["model"]))
    verdict = _replay(rendition.sidecar, as_json=as_json)
    if as_json:
        print_json(verdict)
    else:
        _print_verdict(verdict)
    if verdict["verdict"] == "different":
        raise DifferentAudioError(
            f"take {rendition.take_id} differs from its stored audio",
            why="; ".join(verdict["notes"]) or "the weights and versions are the same, but the audio differs",
            fix="replay with the weights, versions and device that its sidecar names",
        )


def _durations(text: str) -> list[int]:
    """Read a list such as 30,60; none for "". Raises BadParameter outside the model's limits."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal() or not _is_duration(int(part))]:
        limits_s = f"{limits.DURATION_MIN_S} to {limits.DURATION_MAX_S}"
        raise typer.BadParameter(
            f"{wrong[0]!r} is not a whole number of seconds from {limits_s}", param_hint="--durations"
        )
    return [int(part) for part in parts]


def _is_duration(seconds: int) -> bool:
    return limits.DURATION_MIN_S <= seconds <= limits.DURATION_MAX_S


def _environment(device: str | None = None) -> dict[str, str]:
    """The environment of a child: this process's without the database, which no worker sees, and with `device`."""
    ours = {name: value for name, value in os.environ.items() if name != "TUNEMILL_DATABASE_URL"}
    return ours | ({} if device is None else {"TUNEMILL_DEVICE": device})


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C, which the terminal sends to the child too; the child ends in order and prints its results."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # the child would inherit SIG_IGN
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _print_calibration(found: dict[str, Any]) -> None:
    rows = [
        (
            f"{row['duration_s']} s",
            str(row["takes"]),
            str(row["published"]),
            f"{row['take_bytes'] / _MIB:.0f}",
            f"{row['ms_per_take'] / 1000:.2f}",
        )
        for row in found["measured"]
    ]
    if rows:
        print_table(_CALIBRATION_COLUMNS, rows)
    say(f"{found['key']['gpu']}, {found['key']['total_mib'] / 1024:.0f} GiB, {found['key']['setup']}")
    say(found["file"] if rows else "nothing was measured, and nothing is kept", label="kept in: " if rows else "")


def require_worker_extra(model: str) -> None:
    """Raise WorkerError when the packages that render `model` are not installed."""
    needed = (*_AUDIO, *_MODEL_LIBRARIES.get(find_model(model).engine, ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise WorkerError(
            f"this installation cannot render {model!r}",
            why=f"not installed: {', '.join(missing)}",
            fix='pip install "tunemill[worker]"',
        )


def require_audio_packages() -> None:
    """Raise WorkerError when the packages that work on audio, without any model, are not installed."""
    missing = [name for name in _AUDIO if importlib.util.find_spec(name) is None]
    if missing:
        raise WorkerError(
            "this installation cannot work on audio",
            why=f"not installed: {', '.join(missing)}",
            fix='install them with pip install "tunemill[audio]", or run the command where a worker is installed',
        )


def _get_rendition(text: str, settings: Settings) -> RenditionRow:
    with closing(get_ledger_of_names(settings)) as ledger:
        return get_rendition(ledger, text)


def _replay(sidecar: dict[str, Any], *, as_json: bool = False) -> dict[str, Any]:
    with waiting("rendering it again"):
        done = subprocess.run(
            [*_WORKERS, "replay", *(["--json"] if as_json else [])],
            input=json.dumps(sidecar),
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
    if done.returncode:
        sys.stderr.write(plain_lines(done.stderr))  # the child's log and its error
        sys.stdout.write(plain_json(done.stdout))  # the error again, with --json
        raise typer.Exit(done.returncode)
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def _print_verdict(verdict: dict[str, Any]) -> None:
    say(f"take {verdict['take_id']}: {verdict['verdict']}")
    if verdict["rms_diff_db"] is not None:
        difference, limit = verdict["rms_diff_db"], verdict["tolerance_db"]
        say(f"difference {difference:.1f} dB relative to the track (limit {limit:g} dB)", label="  ")
        say(f"largest sample difference {verdict['max_abs_diff']:.2e} of full scale", label="  ")
    say(f"model {verdict['model_fingerprint_now'][:16]}, then {verdict['model_fingerprint_then'][:16]}", label="  ")
    for note in verdict["notes"]:
        say(note, label="  note: ")
