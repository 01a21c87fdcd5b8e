"""Allocation: who pays for what, and laws that hold for any worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.finance.allocation.charges import ChargeKind
from orchestrator.finance.allocation.posting import RentalFacts, draft_rental
from orchestrator.ledger.observations import UNALLOCATED, AttemptFact, Category, CostObject, SpanTime, WorkerLife
from tests.support.cost_facts import line, rental

A = CostObject("hotels", "lobby", "jazz", "run1")
B = CostObject("hotels", "spa", "jazz", "run1")
S = 1_000


def a_life(seconds: int, *, worker: str = "w1", rate: int | None = 1_000_000) -> WorkerLife:
    return WorkerLife(worker, "NVIDIA A100-SXM4-80GB", 0, seconds * S, rate)


def spans_of(*parts: tuple[str, int, str], worker: str = "w1") -> list[SpanTime]:
    """(state, seconds, batch) one after the other from 0."""
    spans, at = [], 0
    for state, seconds, batch in parts:
        spans.append(SpanTime(worker, at, at + seconds * S, state, batch))
        at += seconds * S
    return spans


def allocate(
    amount: int,
    life: WorkerLife,
    spans: list[SpanTime],
    attempts: list[AttemptFact],
    losses: Sequence[AttemptFact] = (),
) -> Counter:
    """A bill of `amount` for a worker's life, handed down."""
    bill = line("1", amount, invoice_start_ms=-(10**9), invoice_end_ms=10**11)
    bill = bill._replace(start_ms=life.start_ms, end_ms=life.end_ms)
    drafts = draft_rental(RentalFacts(rental(), [life], spans, attempts, [bill], losses=losses), "UTC")
    charges: Counter = Counter()
    for draft in drafts:
        for entry in draft.entries if draft.charge.kind is ChargeKind.BILLED else ():
            charges[entry.payer, entry.category] += entry.usd_micros
    return charges


def an_attempt(batch: str, payer: CostObject, outcome: str = "accepted", *, audio_s: int = 60, plan: str = ""):
    return AttemptFact(f"take-{batch}-{payer.zone}", "w1", batch, Category(outcome), audio_s * S, payer, plan)


def by(charges, payer: CostObject) -> dict[str, int]:
    return {str(category): micros for (who, category), micros in charges.items() if who == payer and micros}


def test_a_batch_is_split_by_the_audio_its_takes_asked_for():
    tries = [an_attempt("x", A, audio_s=120), an_attempt("x", B, "rejected", audio_s=60)]
    charges = allocate(900, a_life(9), spans_of(("render", 9, "x")), tries)
    assert by(charges, A) == {"accepted": 600}
    assert by(charges, B) == {"rejected": 300}


def test_a_planner_call_is_split_by_the_audio_of_the_takes_that_were_rendered_from_it():
    tries = [
        an_attempt("x", A, audio_s=120, plan="p"),
        an_attempt("y", B, audio_s=60, plan="p"),
        an_attempt("y", B, audio_s=60, plan="q"),
        an_attempt("y", B, audio_s=60),  # it had no planner, or brought its plan along
    ]
    spans = spans_of(("plan", 9, "p"), ("render", 1, "x"), ("plan", 2, "q"), ("render", 3, "y"))
    charges = allocate(1_500, a_life(15), spans, tries)
    assert by(charges, A) == {"accepted": 600 + 100}
    assert by(charges, B) == {"accepted": 300 + 200 + 300}


def test_a_planner_call_of_whose_takes_nothing_is_known_is_lost():
    ended = a_life(10)._replace(is_over=True)
    spans = spans_of(("plan", 4, "p"), ("render", 6, "x"))
    charges = allocate(1_000, ended, spans, [an_attempt("x", A, plan="another")])
    assert by(charges, A) == {"accepted": 600, "lost": 400}
    # A batch and a planner call are told apart although they go by the same name.
    charges = allocate(1_000, ended, spans_of(("plan", 10, "x")), [an_attempt("x", A)])
    assert by(charges, A) == {"lost": 1_000}
    # While its worker lives it may yet be told of.
    charges = allocate(1_000, a_life(10), spans, [an_attempt("x", A, plan="another")])
    assert by(charges, A) == {"accepted": 600, "unobserved": 400}


def test_a_plan_that_outlives_a_failed_try_is_paid_for_once_by_all_its_tries():
    failed = an_attempt("x", A, "failed", audio_s=60, plan="p")
    again, neighbour = an_attempt("y", A, audio_s=60, plan="p"), an_attempt("x", B, audio_s=120, plan="p")
    charges = allocate(800, a_life(8), spans_of(("plan", 8, "p")), [failed, again, neighbour])
    assert by(charges, A) == {"failed": 200, "accepted": 200}
    assert by(charges, B) == {"accepted": 400}


def test_who_throws_takes_away_pays_for_the_warm_up_they_used():
    tries = [an_attempt("x", A), an_attempt("y", B, "rejected")]
    charges = allocate(800, a_life(8), spans_of(("startup", 4, ""), ("render", 1, "x"), ("render", 3, "y")), tries)
    assert by(charges, A) == {"accepted": 100, "startup": 100}
    assert by(charges, B) == {"rejected": 300, "startup": 300}


def test_time_without_any_work_is_a_row_of_its_own():
    charges = allocate(700, a_life(7), spans_of(("startup", 5, "")), [])
    assert by(charges, UNALLOCATED) == {"startup": 500, "unobserved": 200}


def test_adopted_takes_pay_for_the_worker_that_only_adopted():
    adopted = AttemptFact("t", "w1", "", Category.ACCEPTED, 60_000, A, adopted=True)
    charges = allocate(700, a_life(7), spans_of(("startup", 7, "")), [adopted])
    assert by(charges, A) == {"startup": 700}


def test_a_worker_seen_for_no_time_still_adds_up():
    assert allocate(0, a_life(0), [], []).total() == 0
    assert allocate(5, a_life(0), [], []) == Counter({(UNALLOCATED, Category.UNOBSERVED): 5})


def test_an_unknown_rate_is_no_amount():
    assert a_life(10, rate=None).usd_micros is None


objects = st.builds(
    CostObject,
    catalog=st.sampled_from("ab"),
    zone=st.sampled_from("xyz"),
    genre=st.sampled_from("pq"),
    run_id=st.sampled_from("12"),
)
batches = st.sampled_from(["", "b1", "b2", "b3"])
tries = st.lists(
    st.builds(
        AttemptFact,
        take_id=st.text("0123456789", min_size=1, max_size=3),
        worker_id=st.just("w1"),
        batch_id=batches,
        outcome=st.sampled_from([Category.ACCEPTED, Category.REJECTED, Category.FAILED]),
        audio_ms=st.integers(0, 600_000),
        payer=objects,
        plan_id=batches,
        at_ms=st.just(0),
        adopted=st.booleans(),
    ),
    max_size=12,
)
times = st.integers(-1_000, 10**7)
many_spans = st.lists(
    st.builds(
        lambda start, end, state, batch: SpanTime("w1", start, end, state, batch),
        times,
        times,
        st.sampled_from(["startup", "plan", "render", "idle", "teardown"]),
        batches,
    ),
    max_size=12,
)


@given(amount=st.integers(0, 10**12), seconds=st.integers(0, 10_000), spans=many_spans, attempts=tries)
def test_charges_add_up_to_the_amount_whatever_was_reported(amount, seconds, spans, attempts):
    charges = allocate(amount, a_life(seconds), spans, attempts)
    assert charges.total() == amount
    assert all(part >= 0 for part in charges.values())


@given(amount=st.integers(0, 10**12), attempts=tries, calls=st.lists(st.sampled_from(["b1", "b2", "b3", "b4"])))
def test_what_planning_costs_is_charged_to_its_tries_or_lost_and_never_twice(amount, attempts, calls):
    spans = spans_of(*(("plan", 5, call) for call in calls))
    charges = allocate(amount, a_life(5 * len(calls))._replace(is_over=True), spans, attempts)
    known = {attempt.plan_id for attempt in attempts}
    lost = sum(part for (_, category), part in charges.items() if category == Category.LOST)
    assert charges.total() == amount
    if calls:
        assert abs(lost - amount * sum(call not in known for call in calls) / len(calls)) <= len(set(calls))


def test_what_a_lost_worker_did_at_last_was_for_the_takes_it_held():
    life = a_life(1_000)._replace(is_over=True)
    spans = spans_of(("startup", 100, ""), ("render", 300, "b"))
    held = [an_attempt("", B, "lost", audio_s=60), an_attempt("", A, "lost", audio_s=30), an_attempt("", B, "lost")]
    charges = allocate(1_000_000, life, spans, [an_attempt("b", A)], held)
    assert by(charges, B) == {"lost": 480_000, "startup": 53_333}  # it was work, and pays for the start
    assert by(charges, A) == {"accepted": 300_000, "lost": 120_000, "startup": 46_667}
    charges = allocate(1_000_000, life._replace(is_over=False), spans, [an_attempt("b", A)], held)
    assert by(charges, B) == {}  # it lives: what it does is not known yet


def test_what_a_worker_did_not_live_to_report_is_lost_and_not_merely_unreported():
    life = a_life(1_000)
    assert allocate(1_000, life, [], []) == Counter({(UNALLOCATED, Category.UNOBSERVED): 1_000})
    assert allocate(1_000, life._replace(is_over=True), [], []) == Counter({(UNALLOCATED, Category.LOST): 1_000})
