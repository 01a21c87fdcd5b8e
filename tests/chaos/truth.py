"""What must be true at the end, whatever happened on the way.

Nothing is lost and nothing is twice; the ledger says what the store holds; every second of every worker is on the
books, once, and the reports add up to them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby, pairwise
from typing import Any

from catalog.keys import sidecar_key
from catalog.sidecar import Sidecar
from orchestrator.ledger import open_ledger
from orchestrator.ledger.tables import ATTEMPT, RENDITION, RUN, SET_ASIDE, SPAN, TAKE, WORKER
from tests.chaos.fleet import Fleet, Life
from tests.support.time_facts import ms_within, read_time_facts

FINAL = {"accepted", "rejected", "failed", "cancelled"}
BESIDE_MS = 50  # a span's end and a record's instant come from two clocks: steady and wall
OUTLIVED_MS = 1_000  # a worker cannot have lived for longer than its process, give or take this
UNSAID_MS = 12_000  # nor for much less, when it was told to end: interpreter and imports come before its first look


@dataclass(frozen=True)
class Books:
    """All rows of the ledger, and all objects of the store."""

    takes: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    renditions: dict[str, dict[str, Any]]  # by record id
    workers: dict[str, dict[str, Any]]  # by worker id
    spans: dict[str, list[dict[str, Any]]]  # by worker id, in their order
    runs: list[dict[str, Any]]
    set_aside: list[dict[str, Any]]
    stored: dict[str, bytes]

    @property
    def states(self) -> Counter[str]:
        return Counter(take["state"] for take in self.takes)

    @property
    def rendered(self) -> Counter[str]:
        """Take id -> how many times it was rendered, not merely found."""
        return Counter(each["take_id"] for each in self.attempts if each["batch_size"])

    @property
    def failures(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """(take id, all tries) of each take that was not accepted."""
        for take in self.takes:
            if take["state"] != "accepted":
                yield take["take_id"], self.attempts_at(take["take_id"])

    def attempts_at(self, take_id: str) -> list[dict[str, Any]]:
        return [each for each in self.attempts if each["take_id"] == take_id]


def read_rows(database_url: str, stored: dict[str, bytes] | None = None) -> Books:
    ledger = open_ledger(database_url)
    with ledger.read() as connection:

        def rows(table: Any, *order: Any) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(table.select().order_by(*order)).mappings()]

        spans = rows(SPAN, SPAN.c.worker_id, SPAN.c.start_ms)
        books = Books(
            takes=rows(TAKE, TAKE.c.take_id),
            attempts=rows(ATTEMPT, ATTEMPT.c.at_ms),
            renditions={row["record_id"]: row for row in rows(RENDITION)},
            workers={row["worker_id"]: row for row in rows(WORKER)},
            spans={worker_id: list(theirs) for worker_id, theirs in groupby(spans, key=lambda span: span["worker_id"])},
            runs=rows(RUN),
            set_aside=rows(SET_ASIDE),
            stored=stored or {},
        )
    ledger.close()
    return books


def read_books(fleet: Fleet) -> Books:
    store = fleet.open_store()
    return read_rows(fleet.database_url, {info.key: store.find(info.key) or b"" for info in store.list("")})


def assert_truth(fleet: Fleet, *, accepted: int | None = None) -> Books:
    """Every invariant; `accepted` is how many of the planned takes must have been, by default all."""
    books = read_books(fleet)
    assert_counts_add_up(books, planned=fleet.tracks)
    assert books.states["accepted"] == (fleet.tracks if accepted is None else accepted), list(books.failures)
    assert_no_track_is_there_twice(books)
    assert_ledger_equals_store(books)
    assert_time_is_accounted_for(books)
    assert_lives_are_those_of_the_processes(fleet, books)
    assert_reports_add_up(fleet)
    assert_program_agrees(fleet, books)
    assert_nobody_broke_down(fleet)
    return books


def assert_counts_add_up(books: Books, *, planned: int) -> None:
    """planned = accepted + rejected + failed + cancelled; nothing waits, is sent or is held."""
    assert len(books.takes) == planned
    assert books.states.keys() <= FINAL, books.states
    assert sum(books.states.values()) == planned
    assert [take["take_id"] for take in books.takes if take["held_by"] is not None] == []
    assert {run["state"] for run in books.runs} <= {"finished", "cancelled"}
    assert [each["reason"] for each in books.set_aside] == []
    reasons = [each["reasons"] for each in books.attempts if each["outcome"] != "accepted"]
    assert all(reasons), "a take that was not accepted says why"


def assert_work_can_end(books: Books) -> None:
    """At any moment: what is sent was sent at an instant, so that it can be missed, and is of a run that goes on."""
    active = {run["run_id"] for run in books.runs if run["state"] == "active"}
    for take in books.takes:
        if take["state"] == "sent":
            assert take["sent_at_ms"] is not None, f"{take['take_id']} was sent at no instant"
        if take["state"] in ("sent", "waiting"):
            assert take["run_id"] in active, f"{take['take_id']} is {take['state']} in a run that has ended"


def assert_no_track_is_there_twice(books: Books) -> None:
    """One rendition is named for each accepted take, and one sidecar and one audio file lie in the store."""
    accepted = [take for take in books.takes if take["state"] == "accepted"]
    named = [take["rendition_id"] for take in accepted]
    assert None not in named
    assert len(set(named)) == len(named)
    assert len({(take["track_key"], take["number"]) for take in accepted}) == len(accepted)
    sidecars = Counter(_take_of(key) for key in books.stored if _is_sidecar(key))
    assert sidecars == Counter(take["take_id"] for take in accepted)


def assert_ledger_equals_store(books: Books) -> None:
    """What the ledger says of a rendition is what lies in the store; nothing there is unknown."""
    made = {each["record_id"] for each in books.attempts}
    for take in books.takes:
        if take["state"] != "accepted":
            continue
        rendition = books.renditions[take["rendition_id"]]
        assert rendition["take_id"] == take["take_id"]
        assert rendition["record_id"] in made, "the attempt that made it is on the books"
        sidecar = Sidecar.model_validate(rendition["sidecar"])
        key = sidecar_key(sidecar.take)
        assert key in books.stored, f"{key} is not in the store"
        assert json.loads(books.stored[key]) == rendition["sidecar"], f"{key} differs from what the ledger has"
        assert sidecar.take.model_dump(mode="json") == take["message"]
        audio = books.stored.get(sidecar.audio.key)
        assert audio is not None, f"{sidecar.audio.key} is not in the store"
        assert (len(audio), sha256(audio).hexdigest()) == (sidecar.audio.bytes, sidecar.audio.sha256)
        assert (rendition["sha256"], rendition["audio_key"]) == (sidecar.audio.sha256, sidecar.audio.key)
    known = {take["take_id"] for take in books.takes}
    strange = [key for key in books.stored if _take_of(key) not in known and not key.startswith("tunemill-check-")]
    assert not strange, f"objects of takes that nobody has planned: {strange}"


def assert_time_is_accounted_for(books: Books) -> None:
    """Spans of a worker touch no other, lie in its life, and what they leave of it is known as lost."""
    strangers = books.spans.keys() - books.workers.keys()
    assert not strangers, f"time of workers that are not on the roll: {strangers}"
    for each in books.attempts:
        assert each["worker_id"] in books.workers, f"{each['worker_id']} has worked, and is not on the roll"
    for worker_id, worker in books.workers.items():
        spans = books.spans.get(worker_id, [])
        for before, after in pairwise(spans):
            assert before["end_ms"] <= after["start_ms"], f"spans of {worker_id} overlap: {before} {after}"
        assert worker["ended_at_ms"] is not None, f"nobody has noted the end of {worker_id}"
        assert worker["rate_usd_micros_per_h"] is not None
        for span in spans:
            assert span["start_ms"] >= worker["started_at_ms"], f"{span} began before {worker}"
            assert span["end_ms"] <= worker["ended_at_ms"] + BESIDE_MS, f"{span} ended after {worker}"


def assert_lives_are_those_of_the_processes(fleet: Fleet, books: Books) -> None:
    """The ledger's life of a worker is that of its process, as seen from outside."""
    seen = [life for unit in fleet.workers for life in unit.lives]
    if not seen:
        return  # a run on one machine keeps its worker's processes to itself
    assert len(books.workers) <= len(seen)
    for life in seen:
        worker = books.workers.get(life.worker_id or "")
        if worker is None:
            unheard = life.worker_id is None or was_unheard(fleet, life)
            assert unheard, f"{life.worker_id} served, and is not on the roll"
            continue
        assert unsaid_ms(books, life) >= -OUTLIVED_MS, (worker, life)
        if life.was_told and life.code == 0 and worker["end_reason"] == "told to stop":
            assert unsaid_ms(books, life) <= UNSAID_MS, (worker, life)


def assert_reports_add_up(fleet: Fleet) -> None:
    """Spans and lost time are the workers' life, and the money is that of the workers, in the program's own words."""
    ledger = open_ledger(fleet.database_url)
    facts = read_time_facts(ledger)
    ledger.close()
    for life in facts.lives:
        spent = sum(ms_within(span, life) for span in facts.spans if span.worker_id == life.worker_id)
        whole = sum(span.end_ms - span.start_ms for span in facts.spans if span.worker_id == life.worker_id)
        assert spent == whole <= life.ms
    costs = fleet.ask("costs", "report", "--by", "zone,genre")
    spent_usd_micros = sum(life.usd_micros or 0 for life in facts.lives)
    assert costs["total"]["total_usd_micros"] == costs["whole_usd_micros"] == spent_usd_micros
    assert sum(row["total_usd_micros"] or 0 for row in costs["rows"]) == spent_usd_micros
    assert fleet.ask("costs", "verify")["findings"] == []
    assert sum(costs["use"]["ms_by_state"].values()) == costs["use"]["ms"] == costs["workers_ms"]
    assert "unobserved" not in costs["use"]["ms_by_state"]
    assert costs["unpriced"] == []


def assert_program_agrees(fleet: Fleet, books: Books) -> None:
    """The program itself finds ledger and store in agreement, and makes the same ledger from the store alone."""
    assert fleet.ask("catalog", "verify")["findings"] == []
    again = f"sqlite:///{fleet.folder / 'again.sqlite'}"
    fleet.ask("catalog", "rebuild", "--database", again)
    rebuilt = read_rows(again)
    accepted = {take["take_id"]: take["rendition_id"] for take in books.takes if take["state"] == "accepted"}
    assert {take["take_id"]: take["rendition_id"] for take in rebuilt.takes} == accepted
    assert rebuilt.renditions == {each: books.renditions[each] for each in accepted.values()}


def assert_nobody_broke_down(fleet: Fleet) -> None:
    """No process has shown a traceback: whatever happens around it is no defect of it."""
    for path in fleet.logs.glob("*.log"):
        before, traceback, after = path.read_text(errors="replace").partition("Traceback")
        assert not traceback, f"{path.name}:\n{before[-600:]}{traceback}{after[:4000]}"


def was_unheard(fleet: Fleet, life: Life) -> bool:
    """Whether all that a worker had said was lost with the broker's memory, just before it ended."""
    assert life.ended_s is not None
    return any(0 < life.ended_s - at_s < UNSAID_MS / 1000 for at_s in fleet.broker.forgot_at_s)


def unsaid_ms(books: Books, life: Life) -> float:
    """For how much longer than in the ledger a worker's process has lived."""
    assert life.ended_s is not None
    worker = books.workers[life.worker_id or ""]
    return (life.ended_s - life.began_s) * 1000 - (worker["ended_at_ms"] - worker["started_at_ms"])


def _is_sidecar(key: str) -> bool:
    return "/takes/" in key


def _take_of(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0].partition("-")[0]


def lost_ms(books: Books) -> Iterator[tuple[str, int]]:
    """(worker id, milliseconds of its life that no span covers)."""
    for worker_id, worker in books.workers.items():
        spent = sum(span["end_ms"] - span["start_ms"] for span in books.spans.get(worker_id, []))
        yield worker_id, worker["ended_at_ms"] - worker["started_at_ms"] - spent
