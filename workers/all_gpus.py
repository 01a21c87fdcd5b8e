"""All GPUs: one worker for each CUDA device of this machine, started, watched and ended together.

Each child is an ordinary `serve` that sees only its own device, so a fault on one GPU does not affect the others. A
child that crashes is started again, unless it keeps dying right after its start. A child that ended because the broker
or the store is unreachable is started again for as long as the outage lasts, so a recovery needs no person. A child
that needs a person's help is not started again. Signals are passed on to the children, and no child is left running.
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from types import FrameType
from typing import IO, Final, NamedTuple

from catalog.errors import INTERRUPTED_EXIT_CODE, BrokerError, StoreError, StoreFullError, WorkerError
from catalog.plain import plain
from catalog.retry import Backoff, Outage

log = logging.getLogger(__name__)

HANDED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RESTART_BACKOFF: Final = Backoff(first_s=1.0, longest_s=60.0, factor=2.5)
OUTAGE_BACKOFF: Final = Backoff(first_s=5.0, longest_s=300.0)
LIFE_S: Final = 300.0  # a worker that ends sooner has died early
DEATHS_MAX: Final = 5  # so many early deaths in a row, and the device is given up
DRIVER_TIMEOUT_S: Final = 30.0  # a driver that wakes up takes some seconds
POLL_S: Final = 0.5
# A crash: a defect, or an engine that cannot go on. Every other code names a fault that a person must mend.
_CRASHES: Final = frozenset((1, WorkerError.exit_code))
_OUTAGES: Final = frozenset((BrokerError.exit_code, StoreError.exit_code, StoreFullError.exit_code))
# How a child ends that is told to stop before it can hear signals.
_CUT_SHORT: Final = frozenset((INTERRUPTED_EXIT_CODE, *(-number for number in HANDED_ON)))


class Device(NamedTuple):
    """One CUDA device: the label in its log lines, and its name for CUDA_VISIBLE_DEVICES."""

    label: str
    name: str


def find_devices(environment: Mapping[str, str]) -> list[Device]:
    """The devices that CUDA_VISIBLE_DEVICES names, by the same names, else all that the driver knows.

    Raises WorkerError when there is none.
    """
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        found = _visible(visible)
        why = f"CUDA_VISIBLE_DEVICES is {visible!r}, which names none"
        fix = "unset it, or name devices by index or UUID: 0,1"
    else:
        found = _ask_driver()
        why, fix = "nvidia-smi lists none", "check the driver, and that this container was given its GPUs"
    if not found:
        raise WorkerError("there is no CUDA device to start a worker on", why=why, fix=fix)
    return found


def _visible(value: str) -> list[Device]:
    # CUDA itself reads the list up to the first entry that can be no device, such as -1.
    names = itertools.takewhile(lambda name: name and not name.startswith("-"), map(str.strip, value.split(",")))
    return [Device(name, name) for name in dict.fromkeys(names)]


def _ask_driver() -> list[Device]:
    """All devices, named by UUID: the driver's numbers and CUDA's own may follow different orders."""
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=DRIVER_TIMEOUT_S,
        ).stdout
    except FileNotFoundError:
        raise _no_answer("nvidia-smi is not on PATH") from None
    except subprocess.TimeoutExpired:
        raise _no_answer(f"nvidia-smi gave no answer in {DRIVER_TIMEOUT_S:.0f} s") from None
    except (subprocess.CalledProcessError, OSError) as error:
        told = (getattr(error, "stdout", "") or getattr(error, "stderr", "") or str(error)).strip()
        raise _no_answer(f"nvidia-smi: {told.splitlines()[0] if told else 'no details'}") from None
    rows = [[part.strip() for part in line.split(",")] for line in said.splitlines()]
    return [Device(row[0], row[-1]) for row in rows if row[0]]


def _no_answer(why: str) -> WorkerError:
    return WorkerError(
        "there is no CUDA device to start a worker on",
        why=why,
        fix="install the NVIDIA driver, or name the devices in CUDA_VISIBLE_DEVICES: 0,1",
    )


class Fate(Enum):
    """The consequence when a child has ended."""

    ENDED = "ended"  # it was told to, and its work is done
    NEEDS_A_PERSON = "needs a person"
    START_AGAIN = "start again"
    WAIT_OUT = "wait out"  # broker or store are unreachable
    GIVEN_UP = "given up"


def fate_of(code: int, *, deaths: int, stopping: bool) -> Fate:
    """The consequence when a child ends with `code` (negative: a signal), its `deaths`-th early death in a row."""
    if code == 0 or (stopping and code in _CUT_SHORT):
        return Fate.ENDED
    if code in _OUTAGES and not stopping:
        return Fate.WAIT_OUT
    crashed = code < 0 or code in _CRASHES
    if stopping or not crashed:
        return Fate.NEEDS_A_PERSON
    return Fate.GIVEN_UP if deaths >= DEATHS_MAX else Fate.START_AGAIN


def serve_all(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `serve` with `arguments` on every device until all have ended; returns 0, or the first bad exit code."""
    children = [_Child(device, arguments, environment) for device in find_devices(environment)]
    return _Parent(children).run()


class _Child:
    """The worker of one device, and the workers that replace it."""

    def __init__(self, device: Device, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.device = device
        # A child that outlived its parent would hold a GPU without supervision.
        self._command = [sys.executable, "-P", "-m", "workers", "serve", "--dies-with", str(os.getpid()), *arguments]
        # A device that has gone must be a failure; the CPU would take its place and be a hundred times slower.
        self._environment = {**environment, "CUDA_VISIBLE_DEVICES": device.name, "TUNEMILL_DEVICE": "cuda"}
        self._process: subprocess.Popen[str] | None = None
        self._echo: threading.Thread | None = None
        self._began_s = 0.0
        self._deaths = 0
        self._waits_s = RESTART_BACKOFF.waits_s()
        self._outage = Outage(OUTAGE_BACKOFF)
        self._due_s: float | None = 0.0  # when it is to be started; None: it runs, or never will again
        self.code = 0  # its last bad exit code

    @property
    def is_over(self) -> bool:
        """The worker has ended for good."""
        return self._process is None and self._due_s is None

    def start_if_due(self) -> None:
        if self._due_s is None or time.monotonic() < self._due_s:
            return
        self._due_s, self._began_s = None, time.monotonic()
        # A process group of its own: a Ctrl-C reaches it once, through us.
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
        log.info("gpu %s: worker started, pid %d", self.device.label, self._process.pid)
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._echo = threading.Thread(target=_echo, args=(self.device.label, self._process.stdout), daemon=True)
        self._echo.start()

    def hand_on(self, number: int) -> None:
        """Pass a signal to the worker; one that waits to be started again never will be."""
        self._due_s = None
        if self._process is not None:
            self._process.send_signal(number)  # does nothing when it has ended meanwhile

    def check(self, *, stopping: bool) -> None:
        """Decide the next step if the worker has ended."""
        if self._process is None or (code := self._process.poll()) is None:
            return
        lived_s = time.monotonic() - self._began_s
        self._process = None
        if self._echo is not None:
            self._echo.join(timeout=2)  # its last log lines before ours
        if lived_s >= LIFE_S:
            self._deaths, self._waits_s = 0, RESTART_BACKOFF.waits_s()
            self._outage.ended()
        fate = fate_of(code, deaths=self._deaths + 1, stopping=stopping)
        if fate is Fate.WAIT_OUT:
            self._outage.failed()
            self._start_again_in(self._outage.next_wait_s(), f"ended with {_in_words(code)}, an outage")
            return
        self._deaths += 1
        if fate is Fate.START_AGAIN:
            self._start_again_in(next(self._waits_s), f"ended with {_in_words(code)} after {lived_s:.0f} s")
        elif fate is not Fate.ENDED:
            self.code = code if code > 0 else WorkerError.exit_code
            many = f", its {self._deaths}th short life in a row" if fate is Fate.GIVEN_UP else ""
            self._say(f"ended with {_in_words(code)}{many}; it is not started again")

    def _start_again_in(self, wait_s: float, words: str) -> None:
        self._due_s = time.monotonic() + wait_s
        self._say(f"{words}; starting it again in {wait_s:g} s")

    def _say(self, words: str) -> None:
        log.warning("gpu %s: the worker %s", self.device.label, words)


class _Parent:
    def __init__(self, children: Sequence[_Child]) -> None:
        self._children = children
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()

    def run(self) -> int:
        for number in (*HANDED_ON, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        first_bad = 0
        while not all(child.is_over for child in self._children):
            for child in self._children:
                child.start_if_due()
                child.check(stopping=self._stopping)
                first_bad = first_bad or child.code
            self._wait()
        return first_bad

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        os.write(self._wake_write, bytes([number]))  # a handler may take no lock; a pipe needs none

    def _wait(self) -> None:
        """Wait until something may have changed; pass on the signals that came meanwhile, each once."""
        ready, _, _ = select.select([self._wake_read], [], [], POLL_S)
        for number in os.read(self._wake_read, 64) if ready else b"":
            if number != signal.SIGCHLD:
                self._stopping = True
                for child in self._children:
                    child.hand_on(number)


def _echo(label: str, lines: IO[str]) -> None:
    """Pass a child's log on, line by line, marked with its device."""
    with lines:
        for line in lines:
            words = plain(line.rstrip("\n"))
            sys.stderr.write(f"gpu {label}: {words}\n")
            sys.stderr.flush()


def _in_words(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
