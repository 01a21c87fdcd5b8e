"""What is read from the ledger: lives, spans and attempts, and the speeds they add up to."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from catalog.errors import UnknownNameError
from catalog.spec import DiffusionSpec, PlannerSpec, TrackSpec
from catalog.track import Track
from orchestrator.finance.books import readings as cost_readings
from orchestrator.finance.books import rentals as rental_facts
from orchestrator.finance.books import time as time_readings
from orchestrator.finance.books.books import update_books
from orchestrator.ledger import open_ledger
from orchestrator.ledger.observations import UNALLOCATED, CostObject
from orchestrator.ledger.tables import AttemptRow, RunRow, SpanRow, TakeRow, WorkerRow
from orchestrator.planning.estimate import NO_HISTORY, Speed, SpeedKey
from orchestrator.planning.history import read_history
from tests.support.time_facts import read_time_facts, use_of

PLANNER = "acestep-5Hz-lm-1.7B"


@pytest.fixture
def ledger():
    ledger = open_ledger("sqlite://")
    yield ledger
    ledger.close()


def record(ledger, *rows):
    with Session(ledger.engine) as session:
        for row in rows:
            session.add(row)
            session.flush()
        session.commit()


def a_run(run_id="run1", catalog="hotels", started_at_ms=0) -> RunRow:
    return RunRow(run_id=run_id, catalog=catalog, model="tone", state="active", started_at_ms=started_at_ms)


def a_worker(worker_id="w1", *, gpu="cpu", model="tone", end=None, seen=100_000, rate=1_000_000, sku="cpu"):
    return WorkerRow(
        worker_id=worker_id,
        host="here",
        gpu=gpu,
        vram_gib=8,
        model=model,
        model_fingerprint="",
        code="1",
        noise=False,
        batch_limit=1,
        batch_limit_reason="",
        started_at_ms=0,
        last_seen_ms=seen,
        ended_at_ms=end,
        price_sku=sku,
        price_source="price book 2026-11-20",
        rate_usd_micros_per_h=rate,
    )


def a_take(take_id="t1", *, planner: str | None = PLANNER, steps=8) -> TakeRow:
    spec = TrackSpec(
        caption="pad",
        bpm=70,
        keyscale="C major",
        duration_s=60,
        planner=PlannerSpec(model=planner) if planner else None,
        diffusion={"steps": steps},
    )
    take = Track(catalog="hotels", zone="spa", genre="jazz", slot=take_id, spec=spec).take()
    return TakeRow(
        take_id=take_id,
        run_id="run1",
        catalog="hotels",
        zone="spa",
        genre="jazz",
        track_key=take.track.key,
        number=1,
        title="",
        model="tone",
        queue="q",
        bucket="b",
        duration_ms=60_000,
        message=take.model_dump(mode="json"),
        state="accepted",
    )


def an_attempt(
    record_id, take_id="t1", outcome="accepted", *, worker="w1", engine_ms=600, audio_ms=60_000, adopted=False
):
    return AttemptRow(
        record_id=record_id,
        take_id=take_id,
        run_id="run1",
        worker_id=worker,
        outcome=outcome,
        reasons=[],
        adopted=adopted,
        batch_id="" if adopted else f"b-{record_id}",
        batch_size=1,
        plan_ms=engine_ms // 2,
        encode_ms=0,
        diffuse_ms=engine_ms - engine_ms // 2,
        decode_ms=0,
        post_ms=7,
        audio_ms=audio_ms,
        at_ms=len(record_id),
    )


def a_span(start, end, state, batch="", worker="w1"):
    return SpanRow(worker_id=worker, start_ms=start, end_ms=end, state=state, batch_id=batch, cause="")


def no_price(machine, at_ms):
    return None


def post(ledger):
    return update_books(ledger, time_zone="UTC", price_of=no_price, at_ms=10**12)


def same_cpu(gpu, sku):
    return gpu == "cpu"


def test_a_workers_life_ends_when_it_ended_or_was_last_seen_or_with_its_last_span(ledger):
    record(ledger, a_worker("ended", end=90_000), a_worker("running"), a_worker("late", seen=10))
    record(ledger, a_span(0, 40_000, "render", "b", worker="late"))
    ends = {life.worker_id: life.end_ms for life in read_time_facts(ledger).lives}
    assert ends == {"ended": 90_000, "running": 100_000, "late": 40_000}


def test_attempts_know_who_pays_and_what_was_asked_for(ledger):
    record(
        ledger, a_run(), a_take(), a_worker(), an_attempt("r1", outcome="failed", audio_ms=0), an_attempt("r22", "?")
    )
    post(ledger)
    with ledger.read() as connection:
        facts = rental_facts.read(connection, "local/w1", no_price)
    known, unknown = facts.attempts
    assert known.payer == CostObject("hotels", "spa", "jazz", "run1")
    assert (known.audio_ms, known.batch_id) == (60_000, "b-r1")
    assert unknown.payer == UNALLOCATED


def test_the_ledgers_facts_make_books_that_add_up(ledger):
    record(ledger, a_run(), a_take(), a_worker(end=3_600_000), an_attempt("r1"))
    record(ledger, a_span(0, 600_000, "startup"), a_span(600_000, 3_600_000, "render", "b-r1"))
    post(ledger)
    with ledger.read() as connection:
        rows = cost_readings.read_rows(connection)
    assert {str(row.category): row.usd_micros for row in rows if row.usd_micros} == {
        "accepted": 833_333,
        "startup": 166_667,
    }
    assert {(row.catalog, row.zone, row.genre, row.run_id) for row in rows} == {("hotels", "spa", "jazz", "run1")}


def test_the_use_of_time_is_the_same_whether_the_database_or_we_add_it_up(ledger):
    record(ledger, a_run(), a_take(), a_worker(end=3_600_000), a_worker("w2", seen=50_000), an_attempt("r1"))
    spans = [a_span(0, 600_000, "startup"), a_span(600_000, 3_000_000, "render", "b-r1"), a_span(0, 10, "idle")]
    spans[2].worker_id, spans[2].cause = "w2", "no work"
    record(ledger, *spans)
    facts = read_time_facts(ledger)
    whole = use_of(facts.lives, facts.spans)
    with ledger.read() as connection:
        assert time_readings.read_time_use(connection, cost_readings.Scope()).as_plain_values() == (
            whole.as_plain_values()
        )
        ours = time_readings.read_time_use(connection, cost_readings.Scope(run_id="run1"))
        month = time_readings.read_time_use(connection, cost_readings.Scope(), 1_000_000, 2_000_000)
    assert ours.by_state_ms == {"render": 2_400_000, "startup": 600_000, "lost": 600_000}
    assert month.by_state_ms == {"render": 1_000_000}


def test_speeds_are_medians_by_planner_and_steps(ledger):
    record(ledger, a_run(), a_worker(), a_take("t1"), a_take("t2", planner=None), a_take("t3", steps=4))
    record(ledger, *(an_attempt(f"a{n}", engine_ms=ms) for n, ms in enumerate((600, 1_200, 60_000))))
    record(ledger, an_attempt("b", "t2", engine_ms=300), an_attempt("c", "t3", engine_ms=120))
    history = read_history(ledger.engine, model="tone", same_gpu=same_cpu)
    assert history.speeds == {
        SpeedKey(PLANNER, DiffusionSpec()): Speed(20.0, 3),
        SpeedKey("", DiffusionSpec()): Speed(5.0, 1),
        SpeedKey(PLANNER, DiffusionSpec(steps=4)): Speed(2.0, 1),
    }


def test_other_models_other_gpus_and_adopted_takes_are_not_measured(ledger):
    record(ledger, a_run(), a_take(), a_worker(), a_worker("gpu", gpu="L4"), a_worker("other", model="tiny-random"))
    record(ledger, an_attempt("a", worker="gpu"), an_attempt("b", worker="other"), an_attempt("c", adopted=True))
    history = read_history(ledger.engine, model="tone", same_gpu=same_cpu)
    assert (history.speeds, history.tries_per_take) == ({}, 1.0)


def test_retries_rejects_startup_and_idle_time_are_measured(ledger):
    record(ledger, a_run(), a_take("t1"), a_take("t2"), a_worker(end=10_000))
    record(
        ledger,
        an_attempt("a", "t1", "failed", engine_ms=1_000, audio_ms=0),
        an_attempt("b", "t1", engine_ms=2_000),
        an_attempt("c", "t2", "rejected", engine_ms=1_000),
        a_span(0, 1_500, "startup"),
        a_span(9_500, 10_000, "teardown"),
    )
    history = read_history(ledger.engine, model="tone", same_gpu=same_cpu)
    assert (history.tries_per_take, history.reject_rate) == (1.5, 0.5)
    assert (history.startup_ms, history.idle_share) == (2_000, 1.0)


def test_stages_that_overlap_are_counted_as_the_time_they_took(ledger):
    record(ledger, a_run(), a_take("t1"), a_take("t2"), a_worker(end=10_000))
    record(ledger, an_attempt("a", "t1", engine_ms=6_000), an_attempt("b", "t2", engine_ms=4_000))
    record(ledger, a_span(0, 3_000, "plan", "p"), a_span(3_000, 8_000, "render", "b"), a_span(8_000, 10_000, "idle"))
    history = read_history(ledger.engine, model="tone", same_gpu=same_cpu)
    assert history.speeds == {SpeedKey(PLANNER, DiffusionSpec()): Speed((100 + 4_000 / 60) / 2 * 0.8, 2)}
    assert history.idle_share == 0.25  # two seconds of eight


def test_an_empty_ledger_has_no_history(ledger):
    assert read_history(ledger.engine, model="tone", same_gpu=same_cpu) == NO_HISTORY


def test_a_run_or_catalog_nobody_has_heard_of_is_an_error(ledger):
    record(ledger, a_run("run1"), a_run("run2", started_at_ms=5))
    with ledger.read() as connection:
        cost_readings.check_names(connection, cost_readings.Scope(run_id="run1", catalog="hotels"))
        with pytest.raises(UnknownNameError, match="no run 'run9'"):
            cost_readings.check_names(connection, cost_readings.Scope(run_id="run9"))
        with pytest.raises(UnknownNameError, match="no gpu 'L5'"):
            cost_readings.check_names(connection, cost_readings.Scope(gpu="L5"))
