"""A real worker on a real broker, watched from outside: takes go in, records come out, and the time between counts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from catalog.messages import AttemptMade, Record, Span, SpansClosed, now_ms, parse_record
from catalog.queues import queue_of
from catalog.track import Take
from orchestrator.control.broker import Queues
from orchestrator.ledger.work import Outgoing
from tests.bench.measuring import ROOT
from tests.support import servers
from tests.support.makers import a_message

TIMEOUT_S = 300.0
POLL_S = 0.02
BUSY = ("plan", "render")


class Course(NamedTuple):
    """What a worker did between two moments of epoch milliseconds, both of them at the edge of a take's life."""

    sent_ms: int
    recorded_ms: int  # of the last record
    attempts: list[AttemptMade]
    spans: list[Span]  # of the engine's lane, from its first call to its last

    @property
    def whole_s(self) -> float:
        """From the sending to the last record."""
        return (self.recorded_ms - self.sent_ms) / 1000

    @property
    def lane_s(self) -> float:
        """From the engine's first call to the end of its last."""
        return (self.spans[-1].end_ms - self.spans[0].start_ms) / 1000

    def idle_s(self, cause: str | None = None) -> float:
        """Time in which the engine had nothing to do, for one cause or for all."""
        idle = [span for span in self.spans if span.state not in BUSY and cause in {None, span.cause}]
        return sum(span.end_ms - span.start_ms for span in idle) / 1000

    @property
    def idle_causes(self) -> list[str]:
        """Why it had nothing to do."""
        return sorted({span.cause for span in self.spans if span.state not in BUSY})

    @property
    def engine_s(self) -> float:
        """What the engine says its stages took, all takes together."""
        return sum(attempt.times.engine_ms for attempt in self.attempts) / 1000

    @property
    def post_s(self) -> float:
        """What check, master and store took, all takes together."""
        return sum(attempt.times.post_ms for attempt in self.attempts) / 1000


class Worker:
    """A worker process on a broker and a folder store of its own."""

    def __init__(self, broker_url: str) -> None:
        self._queues = Queues(broker_url)
        self._records: list[Record] = []

    def carry(self, takes: Sequence[Take]) -> Course:
        """Send `takes` and wait until every one is on the books. Raises SystemExit for one that was not accepted."""
        wanted = {take.id for take in takes}
        sent_ms = now_ms()
        self._queues.send([Outgoing(queue_of(take.spec), a_message(take)) for take in takes])
        attempts = self._await_attempts(wanted)
        for attempt in attempts:
            if attempt.outcome != "accepted":
                raise SystemExit(f"take {attempt.take_id} was {attempt.outcome}: {attempt.reasons}")
        recorded_ms = max(attempt.at_ms for attempt in attempts)
        return Course(sent_ms, recorded_ms, attempts, self._lane(sent_ms, recorded_ms))

    def close(self) -> None:
        """Let the connection go."""
        self._queues.close()

    def _await_attempts(self, wanted: set[str]) -> list[AttemptMade]:
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            made = [each for each in self._read() if isinstance(each, AttemptMade) and each.take_id in wanted]
            if len(made) >= len(wanted):
                return made
            time.sleep(POLL_S)
        raise SystemExit(f"the takes were not done in {TIMEOUT_S:.0f} s; records: {self._records[-5:]}")

    def _lane(self, sent_ms: int, recorded_ms: int) -> list[Span]:
        """The lane's spans between the two moments, trimmed to its first and last call."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            closed = [span for each in self._read() if isinstance(each, SpansClosed) for span in each.spans]
            within = [span for span in closed if span.end_ms > sent_ms and span.start_ms < recorded_ms]
            busy = [place for place, span in enumerate(within) if span.state in BUSY]
            batches = {each.batch.id for each in self._records if isinstance(each, AttemptMade) and each.batch}
            if busy and batches <= {span.batch_id for span in closed}:
                return within[busy[0] : busy[-1] + 1]
            time.sleep(POLL_S)
        raise SystemExit("the worker has not said what its lane did")

    def _read(self) -> list[Record]:
        while envelopes := self._queues.peek_records(500).raw_records:
            self._records += [parse_record(envelope.payload or {}) for envelope in envelopes]
            self._queues.drop_records(envelopes)
        return self._records


@contextmanager
def a_worker(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Worker]:
    """Run `python command` as a worker with a broker and a store in `folder` until the block ends."""
    with servers.valkey(folder) as broker_url:
        known = {
            "TUNEMILL_HOME": str(folder / "home"),
            "TUNEMILL_BROKER_URL": broker_url,
            "TUNEMILL_STORE_URL": str(folder / "store"),
            "TUNEMILL_HEARTBEAT_S": "0.5",
        }
        with (folder / "worker.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env={**os.environ, **known, **environment}, stderr=log
            )
            worker = Worker(broker_url)
            try:
                yield worker
            finally:
                process.terminate()
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                worker.close()
