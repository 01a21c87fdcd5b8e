"""A run that nobody watches ends with a code of its own where no worker comes, and waits where one was just there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.errors import NoWorkerError
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.run_control import GO_ON, PAUSE, get_active_run, write_control
from orchestrator.ledger.tables import WORKER
from orchestrator.runs.follow import follow_run
from orchestrator.runs.presence import WorkerPresence
from tests.support.farm import DOLLAR_AN_HOUR, started, takes
from tests.support.makers import exactly

HOUR_MS = 3_600_000


class Silence:
    """A watcher that hears nothing."""

    def show(self, progress: object) -> None: ...

    def say(self, text: str) -> None: ...


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.close()


def hear(ledger: Ledger, at_ms: int, model: str = "tone") -> None:
    with ledger.write() as connection:
        record_facts(
            connection, [started(worker_id=f"w{at_ms}", model=model)], lambda machine, at: DOLLAR_AN_HOUR, at_ms
        )
        connection.execute(WORKER.update().where(WORKER.c.worker_id == f"w{at_ms}").values(heard_at_ms=at_ms))


def test_a_run_waits_as_long_as_it_is_patient_from_the_last_word_of_a_worker_of_its_model(ledger, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.runs.presence._LOOK_EVERY_S", 0.0)
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly(takes(2))).run_id
    now_ms = HOUR_MS
    presence = WorkerPresence(ledger, run_id, 600, clock=lambda: now_ms)
    now_ms += 600_000
    presence.check()
    hear(ledger, now_ms)
    hear(ledger, now_ms + 500_000, "another-model")
    now_ms += 600_000
    presence.check()
    now_ms += 1_000
    with ledger.write() as connection:
        write_control(connection, get_active_run(connection, "spring"), PAUSE)
    presence.check()  # who pauses a run may end its workers
    with ledger.write() as connection:
        write_control(connection, get_active_run(connection, "spring"), GO_ON)
    with pytest.raises(NoWorkerError, match="no worker of tone has reported for 601 s") as refused:
        presence.check()
    assert refused.value.exit_code == 44


def test_who_follows_a_run_without_workers_is_told(ledger) -> None:
    run_id = ledger.begin_or_resume_run("spring", "tone", exactly(takes(2))).run_id
    with pytest.raises(NoWorkerError):
        follow_run(ledger, str(run_id), Silence(), worker_patience_s=0.1)
