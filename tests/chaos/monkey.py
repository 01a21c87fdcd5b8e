"""The monkey: strikes at random, from a seed, so that what went wrong once can be seen again.

Moments are random, too, so the blows fall on every stage of a take. The same seed gives the same blows at the same
intervals; what they hit is up to the machine.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from orchestrator.runs.local.broker import EmbeddedBroker
from tests.chaos.fleet import Fleet, Unit
from tests.chaos.services import Postgres, engine_of


class Monkey:
    """Hurts one fleet. `postgres` and `forgets` say what else it may do."""

    def __init__(self, fleet: Fleet, seed: int, *, postgres: Postgres | None = None, forgets: bool = False) -> None:
        self.fleet, self.seed, self.dice = (
            fleet,
            seed,
            random.Random(f"{seed} {bool(postgres)} {forgets}"),
        )  # other blows in each form
        self._postgres = postgres
        self.blows: list[Callable[[], str]] = [
            self.kill_worker,
            self.kill_group,
            self.kill_engine,
            self.kill_who_feeds,
            self.kill_broker,
            self.stop_worker,
            self.quit_worker,
            self.freeze_worker,
            self.freeze_who_feeds,
            *([self.forget] if forgets else []),
            *([self.restart_postgres] if postgres else []),
        ]

    def strike(self) -> None:
        """One blow, and a line about it in the fleet's story."""
        self.fleet.tell(self.dice.choice(self.blows)())

    def pause_s(self) -> float:
        """Until the next one."""
        return self.dice.uniform(0.3, 2.5)

    def kill_worker(self) -> str:
        return self._to_worker("kill -9", Unit.kill)

    def kill_group(self) -> str:
        return self._to_worker("kill -9 of the group of", Unit.kill_group)

    def kill_engine(self) -> str:
        return self._to_worker("kill -9 of the engine of", Unit.kill_engine)

    def stop_worker(self) -> str:
        return self._to_worker("SIGTERM to", lambda worker: worker.signal(signal.SIGTERM))

    def quit_worker(self) -> str:
        return self._to_worker("SIGQUIT to", lambda worker: worker.signal(signal.SIGQUIT))

    def freeze_worker(self) -> str:
        """Now and then for longer than the silence after which it is taken for dead."""
        seconds = self.dice.uniform(0.5, 6)
        return self._to_worker(f"SIGSTOP for {seconds:.1f} s to", lambda worker: self._freeze(worker, seconds))

    def kill_who_feeds(self) -> str:
        unit = self._who_feeds()
        if unit.is_up:
            unit.kill()
        return f"kill -9 {unit.name}"

    def freeze_who_feeds(self) -> str:
        unit, seconds = self._who_feeds(), self.dice.uniform(0.5, 4)
        self._freeze(unit, seconds)
        return f"SIGSTOP for {seconds:.1f} s to {unit.name}"

    def kill_broker(self) -> str:
        self.fleet.broker.kill()
        self.fleet.broker.start()
        return "kill -9 of the broker, which comes back with its file, if it has one"

    def forget(self) -> str:
        self.fleet.broker.kill()
        self.fleet.broker.forget()
        self.fleet.broker.start()
        return "kill -9 of the broker, which has forgotten everything"

    def restart_postgres(self) -> str:
        assert self._postgres is not None
        self._postgres.restart()
        return "a crash of the database server, which comes back"

    def _who_feeds(self) -> Unit:
        return next(unit for unit in self.fleet.units if not unit.name.startswith("worker"))

    def _to_worker(self, words: str, blow: Callable[[Unit], object]) -> str:
        up = [worker for worker in self.fleet.workers if worker.is_up]
        if not up:
            return f"{words} nobody: all workers are down"
        worker = self.dice.choice(up)
        blow(worker)
        return f"{words} {worker.name}"

    def _freeze(self, unit: Unit, seconds: float) -> None:
        life = unit.life
        unit.signal(signal.SIGSTOP)
        self.fleet.later(seconds, lambda: life.code is None and life.process.send_signal(signal.SIGCONT))


class MonkeyOnOneMachine:
    """Hurts a run that has brought its own broker and worker."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet, self.seed, self.dice = fleet, seed, random.Random(f"{seed} on one machine")
        self.victims: dict[str, Callable[[], int | None]] = {
            "the run": lambda: self._run.pid if self._run.is_up else None,
            "the worker": self._worker,
            "the engine": lambda: engine_of(self._worker() or 0),
            "the broker": lambda: EmbeddedBroker(fleet.home)._find_pid(),
        }

    def strike(self) -> None:
        """Kill -9 one of them, or tell the worker or the run to end."""
        victim = self.dice.choice(list(self.victims))
        number = signal.SIGKILL
        if victim in ("the run", "the worker"):
            number = self.dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        pid = self.victims[victim]()
        with suppress(ProcessLookupError):
            if pid:
                os.kill(pid, number)
        self.fleet.tell(f"{number.name} to {victim}" + ("" if pid else ", which is not there"))

    def pause_s(self) -> float:
        return self.dice.uniform(1, 5)

    @property
    def _run(self) -> Unit:
        return self.fleet.units[0]

    def _worker(self) -> int | None:
        try:
            return int(json.loads((self.fleet.home / "worker.json").read_text())["pid"])
        except (OSError, ValueError):
            return None
