"""What ought to stand in the books of a rental: the worked example to the micro, and what holds for any rental."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.finance.allocation.charges import ChargeKind, Meter, Sharing
from orchestrator.finance.allocation.posting import RentalFacts, charged_usd_micros, draft_line, draft_rental
from orchestrator.finance.months import bounds_of
from orchestrator.ledger.observations import UNALLOCATED, Category
from tests.support.cost_facts import (
    NOVEMBER,
    USD,
    ZONE_A,
    ZONE_B,
    attempt,
    life,
    line,
    rental,
    span,
    worked_example,
)


def by_category(drafts, payer):
    sums = Counter()
    for draft in drafts:
        for entry in draft.entries:
            if entry.payer == payer:
                sums[str(entry.category)] += entry.usd_micros or 0
    return {category: micros for category, micros in sums.items() if micros}


def total(drafts):
    return sum(entry.usd_micros or 0 for draft in drafts for entry in draft.entries)


def test_the_worked_example_sums_to_the_micro():
    drafts = [draft for facts in worked_example() for draft in draft_rental(facts, "UTC")]
    assert by_category(drafts, ZONE_A) == {
        **{"accepted": 1_094_400, "rejected": 205_200, "failed": 45_600, "startup": 93_851, "idle": 109_493},
        **{"teardown": 6_257, "unobserved": 9_385, "storage": 13_721},
    }
    assert by_category(drafts, ZONE_B) == {
        **{"accepted": 672_200, "rejected": 68_400, "lost": 45_000, "startup": 92_949, "idle": 50_107},
        **{"teardown": 2_863, "unobserved": 34_295, "storage": 6_279},
    }
    assert total(drafts) == 2_550_000
    assert sum(by_category(drafts, ZONE_A).values()) == 1_577_907
    kept = Counter(
        {payer: sum(e.tracks for d in drafts for e in d.entries if e.payer == payer) for payer in (ZONE_A, ZONE_B)}
    )
    assert kept == {ZONE_A: 1200, ZONE_B: 850}


def test_what_all_share_goes_to_each_alike_or_to_nobody_when_that_is_asked_for():
    even = [draft for facts in worked_example() for draft in draft_rental(facts, "UTC", Sharing.EVEN)]
    assert by_category(even, ZONE_A) == {
        **{"accepted": 1_094_400, "rejected": 205_200, "failed": 45_600, "startup": 68_400, "idle": 79_800},
        **{"teardown": 4_560, "unobserved": 6_840, "storage": 10_000},
    }
    none = [draft for facts in worked_example() for draft in draft_rental(facts, "UTC", Sharing.NONE)]
    assert by_category(none, ZONE_A) == {"accepted": 1_094_400, "rejected": 205_200, "failed": 45_600}
    assert by_category(none, UNALLOCATED) == {
        **{"startup": 186_800, "idle": 159_600, "teardown": 9_120, "unobserved": 43_680, "storage": 20_000}
    }
    assert total(even) == total(none) == 2_550_000


def test_the_bill_replaces_the_estimate_and_time_outside_its_period_stays_estimated():
    facts = RentalFacts(rental(), [life(end_s=7_200)], [span("idle", 0, 7_200)])
    (estimate,) = draft_rental(facts, "UTC")
    assert (estimate.charge.kind, estimate.charge.usd_micros) == (ChargeKind.ESTIMATE, 3_280_000)
    half = line("1", 1_700_000, start_s=0, end_s=3_600, invoice_end_ms=NOVEMBER + 3_600_000)
    billed, rest = draft_rental(RentalFacts(facts.rental, facts.lives, facts.spans, lines=[half]), "UTC")
    assert (billed.charge.kind, billed.charge.usd_micros) == (ChargeKind.BILLED, 1_700_000)
    assert (rest.charge.kind, rest.charge.usd_micros) == (ChargeKind.ESTIMATE, 1_640_000)


def test_a_bucket_of_a_day_bills_the_hours_it_states_where_the_rental_was_seen():
    facts = RentalFacts(rental(), [life(start_s=36_000, end_s=46_800)], [span("idle", 36_000, 46_800)])
    day = line("1", 5_000_000, start_s=0, end_s=86_400, quantity="3.5", unit="Hours")
    (billed,) = draft_rental(RentalFacts(facts.rental, facts.lives, facts.spans, lines=[day]), "UTC")
    assert {str(entry.category): entry.ms for entry in billed.entries} == {"idle": 10_800_000, "unobserved": 1_800_000}


def test_a_month_end_cuts_time_and_money_in_finances_time_zone():
    start_ms, _ = bounds_of("2026-12", "Europe/Berlin")
    offset_s = (start_ms - NOVEMBER) / 1000
    facts = RentalFacts(rental(), [life(start_s=offset_s - 3_600, end_s=offset_s + 1_800)])
    parts = {draft.charge.applies_to: draft.charge.usd_micros for draft in draft_rental(facts, "Europe/Berlin")}
    assert parts == {"2026-11": 1_640_000, "2026-12": 820_000}
    assert [draft.charge.applies_to for draft in draft_rental(facts, "UTC")] == ["2026-11"]


def test_a_line_that_crosses_a_month_end_is_split_by_time_and_stays_whole():
    facts = RentalFacts(rental(), [life()], lines=[line("1", 100_001, start_s=29 * 86_400, end_s=31 * 86_400)])
    parts = {draft.charge.applies_to: draft.charge.usd_micros for draft in draft_rental(facts, "UTC")}
    assert parts == {"2026-11": 50_001, "2026-12": 50_000}


def test_an_unknown_price_has_time_and_no_dollars():
    facts = RentalFacts(rental(), [life(rate_usd_micros_per_h=None)], [span("render", 0, 50, "b")], [attempt("b")])
    estimate, work = draft_rental(facts, "UTC")
    assert estimate.charge.usd_micros is None
    assert {entry.usd_micros for entry in estimate.entries} == {None}
    assert sum(entry.ms for entry in estimate.entries) == 100_000
    assert work.entries[0].tracks == 1


def test_the_agreed_rate_of_a_rental_goes_before_the_price_book():
    (draft,) = draft_rental(RentalFacts(rental(rate_usd_micros_per_h=USD), [life(end_s=3_600)]), "UTC")
    assert (draft.charge.usd_micros, draft.charge.source) == (USD, "agreed rate")


def test_gpus_without_a_worker_are_paid_for_and_nobody_saw_what_they_did():
    (draft,) = draft_rental(RentalFacts(rental(gpu_count=4), [life(end_s=3_600)], [span("idle", 0, 3_600)]), "UTC")
    assert draft.charge.usd_micros == 4 * 1_640_000
    assert {str(entry.category): entry.usd_micros for entry in draft.entries} == {
        "idle": 1_640_000,
        "unobserved": 3 * 1_640_000,
    }


def test_two_workers_after_each_other_leave_the_gap_between_them_unobserved():
    lives = [life("w1", 0, 100), life("w2", 160, 200)]
    spans = [span("idle", 0, 100), span("idle", 160, 200, worker_id="w2")]
    (draft,) = draft_rental(RentalFacts(rental(), lives, spans), "UTC")
    assert {str(entry.category): entry.ms for entry in draft.entries} == {"idle": 140_000, "unobserved": 60_000}


def test_spans_that_overlap_are_paid_for_once():
    spans = [span("render", 0, 60, "b"), span("idle", 30, 100)]
    drafts = draft_rental(RentalFacts(rental(), [life()], spans, [attempt("b")]), "UTC")
    assert sum(entry.ms for draft in drafts for entry in draft.entries) == 100_000
    assert total(drafts) == 100 * 1_640_000 // 3600


def test_a_line_of_no_rental_is_on_the_books_of_nobody():
    (draft,) = draft_line(line("1", 500, start_s=0, end_s=10), "runpod", "UTC")
    (entry,) = draft.entries
    assert (entry.payer, entry.category, entry.usd_micros) == (UNALLOCATED, Category.UNOBSERVED, 500)


def test_nothing_of_money_paid_in_advance_is_an_expense():
    assert draft_rental(RentalFacts(rental(), lines=[line("1", 9 * USD, Meter.TOPUP)]), "UTC") == []


STATES = st.sampled_from(["startup", "plan", "render", "idle", "post", "teardown"])


@st.composite
def fleets(draw):
    """A rental of some lanes: spans that overlap, leave gaps and run over, known and unknown batches, and lines."""
    lanes = draw(st.integers(1, 3))
    lives, spans, attempts = [], [], []
    for lane in range(lanes):
        start_s = draw(st.integers(0, 40 * 86_400))
        lives.append(life(f"w{lane}", start_s, start_s + draw(st.integers(0, 90_000)), lane=str(lane)))
        for number in range(draw(st.integers(0, 6))):
            at_s = start_s + draw(st.integers(-100, 90_000))
            name = f"{lane}-{number}"
            state = draw(STATES)
            spans.append(span(state, at_s, at_s + draw(st.integers(1, 9_000)), name, f"w{lane}"))
            for _ in range(draw(st.integers(0, 3))):
                outcome = draw(st.sampled_from(["accepted", "rejected", "failed", "lost"]))
                payer = draw(st.sampled_from([ZONE_A, ZONE_B]))
                attempts.append(attempt(name, outcome, payer, audio_ms=draw(st.integers(0, 600_000))))
    lines = []
    for number in range(draw(st.integers(0, 4))):
        at_s = draw(st.integers(0, 45 * 86_400))
        meter = draw(st.sampled_from([Meter.GPU, Meter.DISK, Meter.EGRESS, Meter.CREDIT, Meter.TAX]))
        amount = draw(st.integers(-(10**7), 10**10)) if meter is Meter.CREDIT else draw(st.integers(0, 10**10))
        window = draw(st.booleans())
        end_s = at_s + draw(st.integers(0, 90_000))
        lines.append(
            line(str(number), amount, meter, at_s if window else None, end_s if window else None, invoice=f"I{number}")
        )
    return RentalFacts(rental(gpu_count=draw(st.integers(0, 4))), lives, spans, attempts, lines)


@given(fleets(), st.sampled_from(["UTC", "Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe"]))
@settings(max_examples=60)
def test_every_billed_micro_is_in_exactly_one_entry_for_any_rental(facts, time_zone):
    drafts = draft_rental(facts, time_zone)
    for each in drafts:
        if each.charge.usd_micros is not None:
            assert sum(entry.usd_micros for entry in each.entries) == each.charge.usd_micros
    billed = Counter()
    for each in drafts:
        if each.charge.kind is ChargeKind.BILLED:
            billed[each.charge.invoice_line_id] += each.charge.usd_micros
    assert billed == Counter({each.line_id: each.usd_micros for each in facts.lines})
    assert len({each.charge.key for each in drafts}) == len(drafts)
    work = [entry for each in drafts if each.charge.kind is ChargeKind.WORK for entry in each.entries]
    assert sum(entry.attempts for entry in work) == len(facts.attempts)


def test_of_two_spans_that_claim_the_same_time_the_same_one_counts_in_any_order():
    spans = [span("startup", 0, 1, "0-0"), span("plan", 0, 1, "0-1")]
    in_either = [RentalFacts(rental(), [life(end_s=1)], said, [], []) for said in (spans, spans[::-1])]
    one, other = (draft_rental(facts, "UTC") for facts in in_either)
    assert [draft.digest for draft in one] == [draft.digest for draft in other]


@given(fleets())
@settings(max_examples=50, deadline=None)
def test_the_order_of_facts_never_matters(facts):
    turned = RentalFacts(facts.rental, facts.lives[::-1], facts.spans[::-1], facts.attempts[::-1], facts.lines[::-1])
    drafts = {draft.charge.key: draft.digest for draft in draft_rental(facts, "UTC")}
    assert {draft.charge.key: draft.digest for draft in draft_rental(turned, "UTC")} == drafts


@given(fleets())
@settings(max_examples=50, deadline=None)
def test_without_a_bill_all_of_the_rentals_time_is_estimated_and_counted(facts):
    unbilled = RentalFacts(facts.rental, facts.lives, facts.spans, facts.attempts)
    start_ms, end_ms = unbilled.window
    lanes = max(len(facts.lives), facts.rental.gpu_count)
    estimates = [draft for draft in draft_rental(unbilled, "UTC") if draft.charge.kind is ChargeKind.ESTIMATE]
    assert sum(entry.ms for draft in estimates for entry in draft.entries) == lanes * (end_ms - start_ms)
    assert total(estimates) == lanes * ((end_ms - start_ms) * 1_640_000 // 3_600_000)


def test_a_machine_of_which_only_the_end_is_known_costs_nothing_but_its_bill():
    ended = rental(rate_usd_micros_per_h=1_000_000, billed_end_ms=NOVEMBER + 3_600_000)
    assert draft_rental(RentalFacts(ended), "UTC") == []
    assert total(draft_rental(RentalFacts(ended, lines=[line("gpu", USD)]), "UTC")) == USD


@given(fleets())
def test_what_a_rental_is_charged_is_known_without_its_postings(facts):
    amounts = [draft.charge.usd_micros for draft in draft_rental(facts, "UTC")]
    assert charged_usd_micros(facts) == sum(amounts)
    unpriced = [each._replace(rate_usd_micros_per_h=None) for each in facts.lives]
    unknown = RentalFacts(facts.rental, unpriced, facts.spans, facts.attempts, facts.lines)
    amounts = [draft.charge.usd_micros for draft in draft_rental(unknown, "UTC")]
    assert charged_usd_micros(unknown) == (None if None in amounts else sum(amounts))
