"""Tallies: added up in any number of steps they say what all of a worker's time says."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.finance.allocation.allocation import Calls
from orchestrator.finance.allocation.charges import Sharing
from orchestrator.finance.allocation.living import draft_living
from orchestrator.finance.allocation.posting import RentalFacts, draft_rental
from orchestrator.finance.allocation.tally import CutPoint, SegmentKey, WorkCounts, WorkerTime, find_cut
from orchestrator.finance.months import bounds_of
from orchestrator.ledger.observations import CALLS_OVER_MS, Category
from tests.support.cost_facts import DECEMBER, NOVEMBER, ZONE_A, ZONE_B, attempt, life, line, rental, span

OPEN = {"is_over": False}
WEEKS_S = 29 * 86_400  # so that some workers cross the end of the month


@st.composite
def working(draw, worker_id: str = "w1", begin_s: int = 0):
    """What a worker did: planner calls and batches made from them, pauses, silence; and its attempts."""
    at_s, spans, attempts = begin_s, [], []
    for number in range(draw(st.integers(0, 12))):
        at_s += draw(st.sampled_from([0, 0, 1, 40_000]))
        kind = draw(st.sampled_from(["plan", "plan", "render", "render", "render", "idle"]))
        length_s = draw(st.sampled_from([1, 7, 900, 90_000]))
        call_id = f"{worker_id}-{number}" if kind in ("plan", "render") else ""
        spans.append(span(kind, at_s, at_s + length_s, call_id, worker_id))
        at_s += length_s
        if kind == "render":
            plans = [each.batch_id for each in spans[-3:] if each.state == "plan"]
            attempts += [
                attempt(
                    call_id,
                    draw(st.sampled_from(["accepted", "rejected", "failed", "lost"])),
                    draw(st.sampled_from([ZONE_A, ZONE_B])),
                    worker_id=worker_id,
                    take_id=f"{call_id}-{take}",
                    audio_ms=draw(st.sampled_from([0, 30_000, 61_000])),
                    plan_id=plans[0] if plans and draw(st.booleans()) else "",
                    at_ms=NOVEMBER + (at_s + draw(st.sampled_from([0, 1, 2_000]))) * 1000,
                )
                for take in range(draw(st.integers(0, 3)))
            ]
    return spans, attempts, at_s


@st.composite
def rentals(draw):
    """One or two lanes, one worker each; the second may have ended."""
    lives, spans, attempts = [], [], []
    begin_s = draw(st.sampled_from([0, WEEKS_S]))
    for number in range(draw(st.integers(1, 2))):
        worker_id = f"w{number + 1}"
        own, made, end_s = draw(working(worker_id, begin_s + number))
        over = bool(number) and draw(st.booleans())
        rate = draw(st.sampled_from([1_640_000, 1, None]))
        ends = {"is_over": over, "lane": str(number), "rate_usd_micros_per_h": rate}
        lives.append(life(worker_id, begin_s + number, end_s + draw(st.sampled_from([1, 5_000])), **ends))
        spans += own
        attempts += made
    lost = [each.worker_id for each in lives if each.is_over] if draw(st.booleans()) else []
    losses = [attempt("", "lost", payer, worker_id=name) for name in lost for payer in (ZONE_A, ZONE_B, ZONE_B)]
    return RentalFacts(rental(gpu_count=draw(st.integers(1, 3))), lives, spans, attempts, losses=losses)


def whole_times(facts):
    """Of all that is known, nothing added up."""
    return {
        each.worker_id: WorkerTime(
            each,
            spans=[span_ for span_ in facts.spans if span_.worker_id == each.worker_id],
            attempts=[made for made in facts.attempts if made.worker_id == each.worker_id],
        )
        for each in facts.lives
    }


def kept_times(facts, steps):
    """The same after its workers were added up at some instants."""
    times = whole_times(facts)
    over_ms = min(life_.end_ms - CALLS_OVER_MS for life_ in facts.lives)  # later ones may yet be told of
    for before_ms in (min(step, over_ms) for step in steps):
        calls = Calls(made for time in times.values() for made in time.attempts)
        for worker_id, time in times.items():
            if kept := time.kept(calls, "UTC", before_ms):
                tally, mark = kept
                times[worker_id] = WorkerTime(
                    time.life,
                    tally,
                    mark,
                    [each for each in time.spans if each.start_ms >= mark.spans_ms],
                    [each for each in time.attempts if each.at_ms >= mark.spans_ms],
                )
    return times


instants = st.lists(st.integers(0, 4_000_000).map(lambda at_s: NOVEMBER + at_s * 1000), max_size=4)


@settings(max_examples=120)
@given(facts=rentals(), steps=instants)
def test_added_up_in_steps_it_is_the_same_as_at_once(facts, steps):
    at_once, in_steps = whole_times(facts), kept_times(facts, sorted(steps))
    assert draft_living(facts, in_steps, "UTC") == draft_living(facts, at_once, "UTC")


@settings(max_examples=120)
@given(facts=rentals(), sharing=st.sampled_from(Sharing))
def test_it_costs_what_will_be_posted(facts, sharing):
    """A month's money and time to the last unit, all of the work, and of each payer within some micro-dollars."""
    drafts = draft_living(facts, whole_times(facts), "UTC", sharing)
    if drafts is None:
        return
    first = min(draft.charge.applies_to for draft in drafts)
    posted = [draft for draft in draft_rental(facts, "UTC", sharing) if draft.charge.applies_to >= first]
    assert [draft.charge for draft in drafts] == [draft.charge for draft in posted]
    for ours, theirs in zip(drafts, posted, strict=True):
        (own, whole), (other, their_whole) = parts(ours), parts(theirs)
        assert whole == their_whole
        # A call is handed down by whole units, one after the other.
        slack = 2 * (len(facts.spans) + len(facts.attempts)) + 4
        assert all(abs(own[key] - other[key]) <= slack for key in {*own, *other})


def parts(draft):
    """Money, time and work of a draft, by payer and category."""
    sums, whole = Counter(), Counter()
    for entry in draft.entries:
        for name in ("usd_micros", "ms", "tracks", "attempts", "audio_ms"):
            whole[name] += getattr(entry, name) or 0
        sums[entry.payer, entry.category, "usd_micros"] += entry.usd_micros or 0
        sums[entry.payer, entry.category, "ms"] += entry.ms
    return sums, whole


@settings(max_examples=80)
@given(facts=rentals(), before_s=st.integers(0, 4_000_000))
def test_nothing_that_lies_before_a_place_is_named_behind_it(facts, before_s):
    for time in whole_times(facts).values():
        time.spans.sort(key=lambda each: each.start_ms)
        found = find_cut(time.spans, time.attempts, NOVEMBER + before_s * 1000)
        if found is None:
            continue
        before, after = time.spans[: found.spans], time.spans[found.spans :]
        calls = {each.batch_id for each in before if each.batch_id}
        later = {each.batch_id for each in after if each.batch_id}
        assert not calls & later
        for made in time.attempts:
            names = {made.plan_id, made.batch_id}
            assert not names & calls or made.at_ms <= found.latest_ms < NOVEMBER + before_s * 1000
            assert not names & later or made.at_ms > before[-1].start_ms


def test_a_batch_whose_attempts_may_still_come_is_not_added_up():
    spans = [span("render", 0, 10, "b1"), span("render", 10, 20, "b2")]
    made = [attempt("b1", at_ms=NOVEMBER + 12_000), attempt("b2", at_ms=NOVEMBER + 22_000)]
    assert find_cut(spans, made, NOVEMBER + 15_000) == CutPoint(1, NOVEMBER + 12_000)
    assert find_cut(spans, made, NOVEMBER + 12_000) is None


def test_a_planner_call_may_be_added_up_without_the_batches_that_were_rendered_from_it():
    spans = [span("plan", 0, 10, "p1"), span("render", 10, 20, "b1"), span("plan", 20, 30, "p2")]
    spans += [span("render", 30, 40, "b2"), span("render", 40, 50, "b3")]
    plans = {1: "p1", 2: "p1", 3: "p2"}
    made = [attempt(f"b{n}", plan_id=plans[n], at_ms=NOVEMBER + 11_000 + 10_000 * n) for n in plans]
    assert find_cut(spans, made, NOVEMBER + 31_000) is None  # b2 is a batch of p1
    assert find_cut(spans, made, NOVEMBER + 35_000) == CutPoint(2, NOVEMBER + 31_000)
    assert find_cut(spans, made, NOVEMBER + 60_000).spans == 5


def test_a_call_with_a_span_on_either_side_is_not_cut():
    spans = [span("render", 0, 10, "b1"), span("render", 10, 20, "b2"), span("render", 20, 30, "b1")]
    spans.append(span("render", 30, 99, "b3"))
    assert find_cut(spans, [], NOVEMBER + 50_000).spans == 3
    assert find_cut(spans, [], NOVEMBER + 25_000) is None


def test_what_was_counted_is_not_counted_again_after_an_idle_hour():
    time = WorkerTime(life(end_s=9_000, **OPEN), spans=[span("render", 0, 10, "b1")])
    time.attempts = [attempt("b1", at_ms=NOVEMBER + 11_000)]
    time.tally, time.mark = time.kept(Calls(time.attempts), "UTC", NOVEMBER + 20_000)
    time.spans = [span("idle", 10 + 60 * n, 70 + 60 * n) for n in range(60)]
    tally, mark = time.kept(Calls(time.attempts), "UTC", NOVEMBER + 3_000_000)
    assert mark.attempts_ms > NOVEMBER + 11_000
    assert tally[SegmentKey("2026-11", "accepted", ZONE_A)] == WorkCounts(10_000, 1, 1, 180_000)


def test_a_tally_counts_silence_apart_since_only_the_end_says_what_it_was():
    time = WorkerTime(life(end_s=100, **OPEN), spans=[span("startup", 10, 30), span("render", 50, 60, "b1")])
    time.attempts = [attempt("b1", at_ms=NOVEMBER + 60_000)]
    tally = time.whole(Calls(time.attempts), "UTC")
    assert {(cut.category, cut.payer == ZONE_A): counts.ms for cut, counts in tally.items()} == {
        **{("", False): 70_000, ("startup", False): 20_000, ("accepted", True): 10_000}
    }
    assert tally[SegmentKey("2026-11", "accepted", ZONE_A)] == WorkCounts(10_000, 1, 1, 180_000)


def test_a_batch_of_which_a_living_worker_may_yet_tell_is_not_lost():
    spans = [span("render", 0, 10, "b1"), span("render", 10, 20, "b2"), span("render", 3_000, 3_010, "b3")]
    facts = RentalFacts(rental(), [life(end_s=3_010, **OPEN)], spans, [attempt("b1")])
    for drafts in (draft_living(facts, whole_times(facts), "UTC"), draft_rental(facts, "UTC")):
        ms = {entry.category: entry.ms for entry in drafts[0].entries}
        assert ms == {Category.ACCEPTED: 10_000, Category.LOST: 10_000, Category.UNOBSERVED: 2_990_000}


def test_silence_of_a_worker_that_vanished_is_lost():
    lives = [life("w1", 0, 100, lane="0"), life("w2", 0, 100, lane="1", **OPEN)]
    facts = RentalFacts(rental(gpu_count=2), lives, [span("render", 0, 40, "b1")], [attempt("b1")])
    (estimate, _) = draft_living(facts, whole_times(facts), "UTC")
    ms = {entry.category: entry.ms for entry in estimate.entries}
    assert ms == {Category.ACCEPTED: 40_000, Category.LOST: 60_000, Category.UNOBSERVED: 100_000}


@pytest.mark.parametrize(
    "facts",
    [
        RentalFacts(rental(), [life(**OPEN)], [], []),
        RentalFacts(
            *(rental(), [life(**OPEN)], [span("render", 0, 40, "b1")], [attempt("b1")]),
            lines=[line("l1", 1_000_000, start_s=0, end_s=50)],
        ),
        RentalFacts(
            *(rental(), [life("w1", lane="0", **OPEN), life("w2", 50, 90, lane="0")]),
            *([span("render", 0, 40, "b1")], [attempt("b1")]),
        ),
        RentalFacts(
            rental(billed_end_ms=NOVEMBER + 60_000), [life(**OPEN)], [span("render", 0, 40, "b1")], [attempt("b1")]
        ),
    ],
    ids=["nothing was worked on", "billed in its open month", "two workers at a time on a lane", "paid for less"],
)
def test_what_tallies_do_not_say_is_left_to_a_reading_of_the_whole(facts):
    assert draft_living(facts, whole_times(facts), "UTC") is None


def test_only_open_months_are_drafted():
    end_s = (DECEMBER - NOVEMBER + CALLS_OVER_MS) // 1000 + 100
    facts = RentalFacts(
        *(rental(), [life(end_s=end_s, **OPEN)]),
        *(
            [span("render", 0, 40, "b1"), span("render", end_s - 50, end_s, "b2")],
            [attempt("b1"), attempt("b2", at_ms=DECEMBER)],
        ),
    )
    drafts = draft_living(facts, whole_times(facts), "UTC")
    assert {draft.charge.applies_to for draft in drafts} == {"2026-12"}
    assert min(draft.charge.start_ms for draft in drafts) == bounds_of("2026-12", "UTC")[0]
