"""Admission: the checks that decide which records are believed, as far as broker, clock and orders can prove them.

A record comes from a machine of a third party. The record list shows which login wrote a record, and the record may
only concern workers of that login. Its times must lie near our clock. When a record reports the end of a take, the take
must have been sent; where orders are signed, the record must carry the receipt of that order. A record that fails a
check is set aside with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from catalog.keys import take_of_audio
from catalog.logins import login_of_worker
from catalog.messages import AttemptMade, Record, SpansClosed, WorkerStarted
from catalog.orders import OrderSigner
from catalog.rental import LOCAL
from orchestrator.ledger import logins, strikes
from orchestrator.ledger.bulk import chunks
from orchestrator.ledger.holding import ANY_TIME
from orchestrator.ledger.tables import RUN, TAKE, WORKER

AHEAD_MAX_MS: Final = 86_400_000  # of our clock: a machine's clock may be wrong by a time zone, not by a week
BEHIND_MAX_MS: Final = 35 * 86_400_000  # a record may wait that long on the broker; a longer outage is a new month
COARSE_MS: Final = 60_000  # between two records of one life
GPUS_MAX: Final = 128  # of one machine
LIVING_MAX: Final = 1_000  # workers of one login that have not ended


@dataclass(frozen=True, slots=True)
class OrderProof:
    """The check that a worker was given an order: its receipt, for orders that were sent since the key was made."""

    signer: OrderSigner
    since_ms: int

    def given_at(self, worker_id: str, receipt: str, take_id: str, sent_at_ms: int | None) -> int | None:
        """The instant of the order that a worker was given; None when nothing proves that it was given one.

        A worker without a login is of an earlier release or on a broker of one user: nothing can be proven there.
        """
        if not login_of_worker(worker_id):
            return ANY_TIME
        given_ms = self.signer.sent_at_ms(receipt, take_id) if receipt else None
        if given_ms is not None:
            return given_ms
        return sent_at_ms if sent_at_ms is not None and sent_at_ms < self.since_ms else None


class Admission:
    """The checks for one batch of records, with the ledger's facts about the workers and takes that they name."""

    def __init__(
        self, connection: Connection, records: Sequence[Record], *, now_ms: int, proof: OrderProof | None
    ) -> None:
        self._connection, self._now_ms, self._proof = connection, now_ms, proof
        speaking = sorted({record.worker_id for record in records})
        self.ended = logins.ended_logins(connection)  # what these say is not even kept
        self._struck = strikes.struck(connection, speaking)
        self._takes = self._read_takes([record for record in records if isinstance(record, AttemptMade)])
        self._started_ms = _started(connection, speaking)
        self._living: dict[str, int] = {}

    def fault_of(self, record: Record, login: str) -> str:
        """The reason why a record that lay on the list of `login` is not believed; "" for one that is."""
        return (
            self._fault_of_speaker(record, login)
            or self._fault_of_instants(record)
            or (self._fault_of_attempt(record) if isinstance(record, AttemptMade) else "")
        )

    def _fault_of_speaker(self, record: Record, login: str) -> str:
        owner = login_of_worker(record.worker_id)
        if owner != login:
            return f"{_named(login)} reports about a worker of {_named(owner)}"
        if record.worker_id in self._struck:
            return "its worker was struck from the books"
        if isinstance(record, WorkerStarted) and record.rental and (fault := self._fault_of_machine(record, login)):
            return fault
        if isinstance(record, WorkerStarted) and login and record.worker_id not in self._started_ms:
            if self._count_living(login) >= LIVING_MAX:
                return f"{_named(login)} has {LIVING_MAX:,} running workers already"
            self._living[login] += 1
        return ""

    def _fault_of_instants(self, record: Record) -> str:
        began_ms = self._started_ms.get(record.worker_id)
        earliest_ms = self._now_ms - BEHIND_MAX_MS if began_ms is None else began_ms - COARSE_MS
        instants = {"at_ms": record.at_ms}
        if isinstance(record, WorkerStarted):
            instants["started_at_ms"] = record.started_at_ms
        elif isinstance(record, SpansClosed):
            for span in record.spans:
                if span.end_ms < span.start_ms:
                    return f"a span ends at {span.end_ms}, before it begins at {span.start_ms}"
            instants["spans.start_ms"] = min((span.start_ms for span in record.spans), default=record.at_ms)
            instants["spans.end_ms"] = max((span.end_ms for span in record.spans), default=record.at_ms)
        for name, at_ms in instants.items():
            if at_ms > self._now_ms + AHEAD_MAX_MS:
                return f"{name} is {_days(at_ms - self._now_ms)} ahead of the controller's clock"
            if at_ms < earliest_ms:
                before = "before its worker began" if began_ms is not None else "behind the controller's clock"
                return f"{name} is {_days((began_ms or self._now_ms) - at_ms)} {before}"
        if isinstance(record, AttemptMade) and record.sidecar is not None:
            created_ms = record.sidecar.created_at_ms  # an adopted one may be old
            if created_ms > self._now_ms + AHEAD_MAX_MS:
                return f"sidecar.created_at_ms is {_days(created_ms - self._now_ms)} ahead of the controller's clock"
        return ""

    def _fault_of_attempt(self, record: AttemptMade) -> str:
        take = self._takes.get(record.take_id)
        if take is None:
            return f"no order was sent for take {record.take_id}: the ledger does not know it"
        given_ms: int | None = ANY_TIME
        if self._proof is not None:
            given_ms = self._proof.given_at(record.worker_id, record.receipt, record.take_id, take["sent_at_ms"])
        if given_ms is None:
            return f"nothing proves that its worker was given the order for take {record.take_id}"
        # A ledger that went back does not know of an order that was sent, but its receipt proves it.
        if given_ms == ANY_TIME and not take["orders"]:
            return f"no order was sent for take {record.take_id}"
        return _fault_of_sidecar(record) or self._fault_of_run(record, take, given_ms)

    def _fault_of_run(self, record: AttemptMade, take: Mapping[Any, Any], given_ms: int) -> str:
        if record.run_id == take["run_id"]:
            return ""
        query = select(RUN.c.catalog, RUN.c.started_at_ms, RUN.c.finished_at_ms).where(RUN.c.run_id == record.run_id)
        run = self._connection.execute(query).mappings().first()
        if run is None or run["catalog"] != take["catalog"]:
            return f"run {record.run_id} has no take {record.take_id}"
        if given_ms != ANY_TIME and not run["started_at_ms"] <= given_ms <= (run["finished_at_ms"] or given_ms):
            return f"its order was not sent in run {record.run_id}"
        return ""

    def _read_takes(self, attempts: Sequence[AttemptMade]) -> dict[str, Mapping[Any, Any]]:
        columns = (TAKE.c.take_id, TAKE.c.run_id, TAKE.c.catalog, TAKE.c.orders, TAKE.c.sent_at_ms)
        found: dict[str, Mapping[Any, Any]] = {}
        for chunk in chunks(sorted({attempt.take_id for attempt in attempts})):
            for row in self._connection.execute(select(*columns).where(TAKE.c.take_id.in_(chunk))).mappings():
                found[row["take_id"]] = row
        return found

    def _fault_of_machine(self, record: WorkerStarted, login: str) -> str:
        """The reason to refuse a worker's rental; its cost is shared, so only the login that runs on it may name it."""
        rental = record.rental
        if rental is None or (rental.provider == LOCAL and rental.external_id == record.worker_id):
            return ""
        if rental.provider == LOCAL:
            return f"it names {rental.rental_id}, which is another worker's own machine"
        if rental.gpu_count > GPUS_MAX:
            return f"it names a machine of {rental.gpu_count:,} GPUs"
        living = select(WORKER.c.login).where(WORKER.c.rental_id == rental.rental_id, WORKER.c.ended_at_ms.is_(None))
        others = set(self._connection.execute(living.distinct()).scalars()) - {login}
        return f"it names {rental.rental_id}, where workers of {_named(min(others))} run" if others else ""

    def _count_living(self, login: str) -> int:
        if login not in self._living:
            ours = select(WORKER.c.worker_id).where(WORKER.c.login == login, WORKER.c.ended_at_ms.is_(None))
            self._living[login] = len(self._connection.execute(ours.limit(LIVING_MAX)).all())
        return self._living[login]


def _started(connection: Connection, worker_ids: list[str]) -> dict[str, int]:
    """The start times of these workers, without those that have not reported one themselves."""
    found: dict[str, int] = {}
    for chunk in chunks(worker_ids):
        query = select(WORKER.c.worker_id, WORKER.c.started_at_ms).where(
            WORKER.c.worker_id.in_(chunk), WORKER.c.host != ""
        )
        found |= {row.worker_id: row.started_at_ms for row in connection.execute(query)}
    return found


def _fault_of_sidecar(record: AttemptMade) -> str:
    sidecar = record.sidecar
    if record.outcome != "accepted":
        return "" if sidecar is None else "it has a sidecar and was not accepted"
    if sidecar is None:
        return "it was accepted and has no sidecar"
    if sidecar.take_id != record.take_id or sidecar.take.id != record.take_id:
        return f"its sidecar is of take {sidecar.take_id}"
    if take_of_audio(sidecar.audio.key) != record.take_id:
        return "its sidecar names audio of another take"
    if not record.adopted and sidecar.worker_id != record.worker_id:
        return f"its sidecar is of worker {sidecar.worker_id}"
    return ""


def _named(login: str) -> str:
    return f"login {login!r}" if login else "no login"


def _days(ms: int) -> str:
    return f"{ms / 86_400_000:,.1f} days"
