"""No record stops the control side: what cannot be written down is kept with its reason, all else is written.

On SQLite and on Postgres, which refuse different things.
"""

from __future__ import annotations

import copy
import json
from itertools import count

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from catalog.errors import LedgerError, UnknownNameError
from catalog.messages import MemoryUse, Span, SpansClosed, TakesReturned, WorkerStarted, WorkerStopped
from catalog.rental import RentalNote
from catalog.sidecar import BatchNote
from orchestrator.control.broker import RawRecord
from orchestrator.control.controller import Controller
from orchestrator.control.recording import RecordWriter
from orchestrator.ledger import open_ledger, set_aside, work
from orchestrator.ledger.database import RefusedValueError
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.tables import ATTEMPT, SET_ASIDE, TAKE, WORKER
from tests.support.farm import DOLLAR_AN_HOUR, FakeBroker, as_of, attempt, enveloped, heartbeat, started, takes
from tests.support.makers import exactly

PLAN = takes(2_000)
BASE_MS = 1_800_000_000_000


class Side:
    """A control side whose record queue takes any bytes."""

    def __init__(self, database_url: str, plan=PLAN[:8]) -> None:
        self.ledger = open_ledger(database_url)
        self.broker = FakeBroker()
        self.run_id = self.ledger.begin_or_resume_run("spring", "tone", exactly(plan)).run_id
        self.now_ms = BASE_MS
        self.window = len(plan)
        self.begin_controller()
        self.controller.step()  # every take is on its way, so that workers may report them

    def begin_controller(self) -> None:
        self.controller = Controller(
            self.ledger,
            self.broker,
            price_of=lambda machine, at_ms: DOLLAR_AN_HOUR,
            window=self.window,
            silent_after_s=60,
            clock=lambda: self.now_ms,
        )

    def step(self, *raws: bytes | dict, after_s: float = 2.0):
        self.now_ms += round(after_s * 1000)
        for each in raws:
            in_run = {"run_id": self.run_id} if isinstance(each, dict) and each.get("run_id") == "r" else {}
            self.broker.records.append(RawRecord(each if isinstance(each, bytes) else enveloped({**each, **in_run})))
        return self.controller.step()

    def listed(self):
        with self.ledger.read() as connection:
            return set_aside.list_set_aside(connection)

    def is_recorded(self, record) -> bool:
        with self.ledger.read() as connection:
            query = select(ATTEMPT.c.record_id).where(ATTEMPT.c.record_id == record.record_id)
            return connection.execute(query).first() is not None


@pytest.fixture
def side(database_url):
    made = Side(database_url)
    yield made
    made.ledger.close()


def plain(record) -> dict:
    return as_of(record, BASE_MS, "r").model_dump(mode="json")


# ------------------------------------------------------------ any bytes

RECORDS = [
    plain(started("w7", rental=RentalNote(provider="runpod", external_id="pod"), lane="0")),
    plain(heartbeat([PLAN[0].id], "w7").model_copy(update={"memory": MemoryUse(rss_mib=1.0), "number": 4})),
    plain(SpansClosed(worker_id="w7", spans=[Span(state="render", start_ms=1, end_ms=2, batch_id="b")])),
    plain(attempt(PLAN[0], worker_id="w7", batch=BatchNote(id="b", size=1, position=0, takes=[PLAN[0].id]))),
    plain(attempt(PLAN[1], "failed", "w7", reasons=["why"], retry=True)),
    plain(TakesReturned(worker_id="w7", take_ids=[PLAN[1].id])),
    plain(WorkerStopped(worker_id="w7", reason="told to stop")),
]
_NUMBERS = [0, -1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**70, -(2**70), 10**40, 0.5, 1e308, -0.0]
_FLOATS = [float("nan"), float("inf"), float("-inf")]
_TEXTS = ["", "\0", "a\0b", "\ud800", "mod\udce8les", "\U0001f3b5", "x" * 200, "y" * 9_000, "../../../etc/passwd", "1"]
_TEXTS += [
    "\x1b]0;title\x07\x1b[2J",
    "'; drop table take; --",
    "{}",
    "NaN",
    "9" * 400,
    "=cmd|' /C calc'!A0",
    "\u202etxt",
]
_SHAPES = [None, True, [], {}, [[]], {"": ""}, [None] * 300, {"\0": "\0"}, [2**70], ["\ud800"]]
SCALARS = st.sampled_from([*_NUMBERS, *_FLOATS, *_TEXTS, *_SHAPES]).map(copy.deepcopy)


def paths_of(value, so_far=()):
    """Every place in a record, with the whole itself."""
    yield so_far
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in entries:
        yield from paths_of(each, (*so_far, key))


@st.composite
def altered_records(draw):
    """A record of each kind with some of its values replaced, and now and then a field more or less."""
    record = copy.deepcopy(draw(st.sampled_from(RECORDS)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths_of(record))))
        *above, last = path or (draw(st.sampled_from(["v", "worker_id", "more"])),)
        within = record
        for key in above:
            within = within[key]
        if draw(st.booleans()) or isinstance(within, list):
            within[last] = draw(SCALARS)
        else:
            within.pop(last, None)
            within[draw(st.sampled_from([str(last), *_TEXTS]))] = draw(SCALARS)
    return enveloped(record)


json_values = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner))
ANY_BYTES = st.one_of(st.binary(max_size=300), json_values.map(enveloped), altered_records())


@pytest.fixture
def wide_side(database_url):
    made = Side(database_url, PLAN)
    yield made, count(8)
    made.ledger.close()


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(raws=st.lists(ANY_BYTES, min_size=1, max_size=4))
@example(raws=[b""])
@example(raws=[enveloped({"v": 2})])
@example(raws=[enveloped({**RECORDS[6], "reason": "mod\udce8les holds neither"})])
@example(raws=[enveloped({**RECORDS[0], "vram_gib": float("nan")})])
@example(raws=[enveloped({**RECORDS[4], "at_ms": 2**63})])
@example(raws=[enveloped({**RECORDS[4], "worker_id": "w\0"})])
@example(raws=[b'{"body": "' + b"[" * 100_000 + b'"}'])
def test_any_bytes_on_the_record_queue_leave_the_controller_running_and_the_next_good_record_recorded(wide_side, raws):
    side, numbers = wide_side
    good = attempt(PLAN[next(numbers) % len(PLAN)], run_id=side.run_id)
    side.step(*raws, plain(good))
    assert side.is_recorded(good)
    assert side.broker.records == []
    side.controller.step()


def test_what_is_recorded_of_a_stranger_can_be_shown_on_any_terminal(side):
    side.step(
        {**RECORDS[0], "host": "h\x1b[2J\0\ud800", "gpu": "A100\x07"}, {**RECORDS[6], "reason": "bye\x1b]0;x\x07"}
    )
    with side.ledger.read() as connection:
        (row,) = connection.execute(select(WORKER)).mappings()
    assert (row["host"], row["gpu"], row["end_reason"]) == (
        "h\ufffd[2J\ufffd\ufffd",
        "A100\ufffd",
        "bye\ufffd]0;x\ufffd",
    )


# ------------------------------------------------------------ found by halving


def test_of_many_records_only_the_one_that_the_database_refuses_is_set_aside(side, monkeypatch):
    poison = attempt(PLAN[3], run_id=side.run_id)

    def refusing(connection, records, price_of, at_ms, **more):
        for record in records:
            if record.record_id == poison.record_id:
                connection.execute(ATTEMPT.insert().values(record_id="only this"))  # a row without the rest
        return record_facts(connection, records, price_of, at_ms, **more)

    monkeypatch.setattr("orchestrator.control.recording.record_facts", refusing)
    good = [attempt(take, run_id=side.run_id) for take in (*PLAN[:3], *PLAN[4:8])]
    step = side.step(*map(plain, [*good[:3], poison, *good[3:]]))
    assert step.outcomes == {"accepted": 7}
    assert all(map(side.is_recorded, good))
    (row,) = side.listed()
    assert (row.fault, row.worker_id, row.kind) == ("refused", "w1", "attempt_made")
    assert "null" in row.reason.lower()


def test_records_are_written_in_their_order_around_the_one_that_is_set_aside(side, monkeypatch):
    def refusing(connection, records, price_of, at_ms, **more):
        if any(isinstance(record, WorkerStarted) and record.host == "poison" for record in records):
            raise OverflowError("too large")
        return record_facts(connection, records, price_of, at_ms, **more)

    monkeypatch.setattr("orchestrator.control.recording.record_facts", refusing)
    side.step()
    first, second = PLAN[0].id, PLAN[1].id
    side.step(*map(plain, [started(), heartbeat([first]), started("w2", host="poison"), heartbeat([second])]))
    with side.ledger.read() as connection:
        held = dict(connection.execute(select(TAKE.c.take_id, TAKE.c.held_by).where(TAKE.c.held_by.is_not(None))).all())
    assert held == {second: "w1"}, "the later heartbeat counts"
    assert [row.reason for row in side.listed()] == ["OverflowError: too large"]


def test_an_outage_of_the_database_sets_nothing_aside(side, monkeypatch):
    def away(connection, records, price_of, at_ms, **more):
        raise LedgerError("the server does not answer")

    monkeypatch.setattr("orchestrator.control.recording.record_facts", away)
    with pytest.raises(LedgerError):
        side.step(plain(attempt(PLAN[0])))
    assert len(side.broker.records) == 1
    monkeypatch.undo()
    assert side.step().outcomes == {"accepted": 1}
    assert side.listed() == []


def test_the_database_tells_a_refused_value_from_an_outage(side):
    with pytest.raises(RefusedValueError) as caught, side.ledger.write() as connection:
        connection.execute(update(TAKE).values(state="nonsense"))
    assert "move the ledger away" not in caught.value.fix
    with pytest.raises(LedgerError) as other, side.ledger.write() as connection:
        connection.execute(text("select * from nowhere"))
    assert not isinstance(other.value, RefusedValueError)


def test_a_login_that_floods_the_list_pushes_out_its_own_records_alone(side, monkeypatch):
    monkeypatch.setattr(set_aside, "KEPT_MAX", 10)
    with side.ledger.write() as connection:
        honest = [set_aside.SetAside(b"honest %d" % number, None, "unreadable", "", "honest") for number in range(4)]
        set_aside.write_set_aside(connection, honest, 1)
        for at_ms in range(2, 6):
            many = [set_aside.SetAside(b"%d %d" % (at_ms, each), None, "unreadable", "", "foe") for each in range(8)]
            gone = set_aside.write_set_aside(connection, many, at_ms)
        assert gone == 8
        kept = set_aside.list_set_aside(connection)
    assert sorted(row.login for row in kept) == ["foe"] * 6 + ["honest"] * 4
    assert {row.set_aside_ms for row in kept if row.login == "foe"} == {5}


# ------------------------------------------------------------ versions


def test_a_newer_record_is_set_aside_with_its_workers_name_and_holds_up_none(side):
    before, newer, after = (attempt(take, run_id=side.run_id) for take in PLAN[:3])
    step = side.step(plain(before), {**plain(newer), "v": 2, "worker_id": "new-one"}, plain(after))
    assert step.outcomes == {"accepted": 2}
    (row,) = side.listed()
    assert (row.fault, row.version, row.worker_id) == ("newer", 2, "new-one")
    assert "version 2" in row.reason


def test_of_a_newer_workers_heartbeats_only_the_latest_is_kept(side):
    beats = [{**plain(heartbeat([], "new")), "v": 2, "number": number, "more": number} for number in range(1, 6)]
    side.step(*beats[:3])
    side.step(*beats[3:], {**beats[0], "worker_id": "other"})
    kept = {row.worker_id: row for row in side.listed()}
    assert len(side.listed()) == 2
    with side.ledger.read() as connection:
        (found,) = set_aside.find_set_aside(connection, [kept["new"].digest])
    assert RawRecord(found.raw).payload["number"] == 5


def test_what_was_too_new_is_recorded_as_soon_as_a_program_that_can_read_it_is_at_work(side):
    record = attempt(PLAN[0], run_id=side.run_id)
    side.step({**plain(record), "v": 1})
    early = attempt(PLAN[1], run_id=side.run_id)
    with side.ledger.write() as connection:  # as an older program would have kept it
        each = set_aside.SetAside(enveloped(plain(early)), plain(early), "newer", "of version 1")
        set_aside.write_set_aside(connection, [each], 5)
    side.begin_controller()
    side.step()
    assert side.is_recorded(early)
    assert side.listed() == []


def test_what_an_earlier_version_left_on_the_broker_is_taken_into_the_ledger(side):
    readable = attempt(PLAN[0], run_id=side.run_id)
    side.broker.unreadable = [RawRecord(b"garbage"), RawRecord(enveloped(plain(readable)))]
    side.begin_controller()
    side.step()
    assert side.broker.unreadable == []
    assert side.is_recorded(readable)
    assert [row.reason for row in side.listed()] == [
        "record cannot be read: : Unable to extract tag using discriminator 'kind'"
    ]


# ------------------------------------------------------------ kept, retried, dropped, bounded


def test_the_same_record_is_set_aside_once_however_often_it_comes(side):
    side.step(b"garbage", b"garbage")
    side.step(b"garbage")
    assert len(side.listed()) == 1


def test_a_record_that_is_retried_and_fails_again_stays_and_is_not_due(side):
    side.step(b"garbage")
    with side.ledger.write() as connection:
        set_aside.mark_due(connection)
    side.step()
    (row,) = side.listed()
    assert not row.is_due


def test_a_record_that_is_retried_and_succeeds_is_on_the_books(side, monkeypatch):
    record = attempt(PLAN[0], run_id=side.run_id)
    monkeypatch.setattr("orchestrator.control.recording.record_facts", lambda *_, **more: 1 / 0)
    side.step(plain(record))
    monkeypatch.undo()
    with side.ledger.write() as connection:
        set_aside.mark_due(connection, [row.digest for row in side.listed()])
    assert side.step().outcomes == {"accepted": 1}
    assert side.is_recorded(record)
    assert side.listed() == []


def test_a_record_is_found_by_the_beginning_of_its_id(side):
    side.step(b"one", b"two")
    with side.ledger.read() as connection:
        for row in side.listed():
            assert set_aside.find_set_aside(connection, [row.digest[:12]])[0].raw in (b"one", b"two")
        for wrong in ("", "zz", "%", "_", "\0", "\ud800"):
            with pytest.raises(UnknownNameError):
                set_aside.find_set_aside(connection, [wrong])


def test_there_are_never_more_than_so_many_and_the_oldest_go(side, monkeypatch):
    monkeypatch.setattr(set_aside, "KEPT_MAX", 5)
    for number in range(9):
        side.step(f"garbage {number}".encode())
    with side.ledger.read() as connection:
        kept = {bytes(row.raw) for row in connection.execute(select(SET_ASIDE.c.raw))}
    assert kept == {f"garbage {number}".encode() for number in range(4, 9)}


def test_they_take_no_more_than_so_many_bytes(side, monkeypatch):
    monkeypatch.setattr(set_aside, "KEPT_BYTES_MAX", 2_500)
    for number in range(4):
        side.step(f"{number}".encode() * 1_000)
    assert len(side.listed()) == 2


def test_of_a_record_that_is_too_large_to_be_read_only_the_beginning_is_kept(side):
    side.step(b"x" * (5 * 1024 * 1024))
    (row,) = side.listed()
    assert row.size_bytes == 5 * 1024 * 1024
    with side.ledger.read() as connection:
        assert len(connection.execute(select(SET_ASIDE.c.raw)).scalar_one()) == set_aside.OVERSIZED_KEPT


def test_a_crash_between_writing_and_removing_repeats_and_loses_nothing(side):
    good = attempt(PLAN[0], run_id=side.run_id)
    writer = RecordWriter(side.ledger, price_of=lambda machine, at_ms: None, clock=lambda: BASE_MS)
    envelopes = [RawRecord(b"garbage"), RawRecord(enveloped(plain(good)))]
    writer.write(envelopes)
    writer.write(envelopes)
    assert side.is_recorded(good)
    assert len(side.listed()) == 1


def test_json_that_python_alone_writes_is_no_record(side):
    body = json.dumps({**RECORDS[0], "vram_gib": float("nan")})
    assert "NaN" in body
    side.step({**RECORDS[0], "vram_gib": float("nan")})
    assert [row.fault for row in side.listed()] == ["unreadable"]
    with side.ledger.read() as connection:
        assert work.living(connection) == []
