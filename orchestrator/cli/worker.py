"""`tunemill worker` and `tunemill replay`: the data plane is started as a process by name, never imported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Annotated, Any

import typer

from catalog.errors import DifferentAudioError, UnknownNameError, WorkerError
from catalog.settings import Settings, read_settings
from catalog.spec import TONE_MODEL, TURBO_MODEL
from orchestrator.cli.console import JsonFlag, err, print_json, say
from orchestrator.ledger import RenditionRow, open_ledger

# -P: a folder "workers" where the command is typed must not stand in for our package.
_WORKERS = (sys.executable, "-P", "-m", "workers")
# What each needs of the `worker` extra before it can say anything in words of its own.
_TONE_NEEDS = ("numpy", "scipy", "soundfile", "pyloudnorm")
_MODEL_NEEDS = (*_TONE_NEEDS, "torch", "diffusers", "transformers")

Model = Annotated[str, typer.Option(help="The model to load; a worker serves one.")]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, mps or cpu; by default the best there is.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Takes in hand at once; by default 2 x batch limit + 2.")]
Grace = Annotated[float, typer.Option(min=0, help="Seconds to finish the running batch in when told to stop.")]
NoPlanner = Annotated[bool, typer.Option("--no-planner", help="Load no planner; for catalogs with `planner: null`.")]


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    app.command("worker")(worker)
    app.command("replay")(replay)


def worker(
    model: Model = TURBO_MODEL,
    device: Device = None,
    threads: Threads = None,
    grace_s: Grace = 120.0,
    no_planner: NoPlanner = False,
) -> None:
    """Render takes from the queue that TUNEMILL_BROKER_URL names, until told to stop.

    The first SIGTERM or Ctrl-C finishes the running batch and gives the rest back; the second ends at once.
    """
    require_worker_extra(model)
    arguments = [*_WORKERS, "serve", "--model", model, "--grace-s", str(grace_s)]
    if threads is not None:
        arguments += ["--threads", str(threads)]
    if no_planner:
        arguments.append("--no-planner")
    environment = dict(os.environ)
    if device is not None:
        environment["TUNEMILL_DEVICE"] = device
    sys.stdout.flush()
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - this process becomes the worker


def replay(
    take: Annotated[str, typer.Argument(help="The take's id, or its first digits.")], as_json: JsonFlag = False
) -> None:
    """Render TAKE again from what was written down about it, and compare it with the stored audio."""
    settings = read_settings()
    rendition = _find_rendition(take, settings)
    require_worker_extra(str(rendition.sidecar["take"]["track"]["spec"]["model"]))
    verdict = _replay(rendition.sidecar)
    if as_json:
        print_json(verdict)
    else:
        _print_verdict(verdict)
    if verdict["verdict"] == "different":
        raise DifferentAudioError(
            f"take {rendition.take_id} does not sound as it was stored",
            why="; ".join(verdict["notes"]) or "same weights and versions, yet the audio differs",
            fix="replay with the weights, versions and device that its sidecar names",
        )


def require_worker_extra(model: str) -> None:
    """Raise WorkerError when the packages that render `model` are not installed."""
    needs = _TONE_NEEDS if model == TONE_MODEL else _MODEL_NEEDS
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        raise WorkerError(
            f"this installation cannot render {model!r}",
            why=f"not installed: {', '.join(missing)}",
            fix='pip install "tunemill[worker]"',
        )


def _find_rendition(prefix: str, settings: Settings) -> RenditionRow:
    ledger = open_ledger(settings.database)
    try:
        found = ledger.find_rendition(prefix)
    finally:
        ledger.close()
    if found is None:
        raise UnknownNameError(
            f"no finished take begins with {prefix!r}",
            why="only accepted takes can be rendered again",
            fix="`tunemill catalog list` shows the takes there are",
        )
    return found


def _replay(sidecar: dict[str, Any]) -> dict[str, Any]:
    with err.status("rendering it again"):
        done = subprocess.run(
            [*_WORKERS, "replay"], input=json.dumps(sidecar), capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.stderr.write(done.stderr)  # its log, and in its own words what is wrong
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
