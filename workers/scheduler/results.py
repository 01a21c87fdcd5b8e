"""Results: the output of an engine call goes to the waiting callers, each with its share of the call's time."""

from __future__ import annotations

from collections.abc import Iterable

from catalog.sidecar import BatchNote, StageTimes
from workers.engine.protocol import BatchResult, PlanResult, Refusal
from workers.engine.wire import EngineDied
from workers.scheduler.request import InFlight, Rendered, Request, TakeFailed, TakeReturned


def deliver_plans(in_flight: InFlight, result: PlanResult) -> None:
    """Give each take its plan and its share of the call's time; answer the caller of a take that cannot be planned."""
    plan_ms = share_ms(result.plan_ms, len(in_flight.takes))
    for each, outcome, share in zip(in_flight.takes, result.outcomes, plan_ms, strict=True):
        each.plan_id, each.plan_size, each.plan_ms = in_flight.note.plan_id, in_flight.note.plan_size, share
        if not isinstance(outcome, Refusal):
            each.use_plan(outcome)
        elif not each.is_done:
            each.done.set_result(Rendered(outcome, in_flight.note_of(each), StageTimes(plan_ms=share)))


def deliver_batch(in_flight: InFlight, result: BatchResult) -> None:
    """Answer each caller with its outcome, the batch note and its share of the batch's time."""
    shares = share_times(result.times, len(in_flight.takes))
    for each, outcome, share in zip(in_flight.takes, result.outcomes, shares, strict=True):
        times = share.model_copy(update={"plan_ms": share.plan_ms + each.plan_ms})
        each.done.set_result(Rendered(each.with_oom_limit(outcome), in_flight.note_of(each), times))


def return_takes(requests: Iterable[Request]) -> None:
    """Answer each caller that still waits with TakeReturned."""
    for each in requests:
        if not each.is_done:
            each.done.set_exception(TakeReturned())


def fail_suspect(suspect: Request, death: EngineDied) -> None:
    """Count the death of the last engine as a failed try of the take that was alone with it.

    If the take were returned instead, it would end one worker after the other and never fail.
    """
    note = BatchNote(id="", size=1, position=0, takes=[suspect.take.id])
    reason = f"the engine died with this take alone aboard: {death.what}"
    suspect.done.set_exception(TakeFailed(reason, retry=True, batch=note))


def share_ms(total_ms: int, shares: int) -> list[int]:
    """Split a time into parts that sum to it exactly; the first parts take the odd milliseconds."""
    part, odd = divmod(total_ms, shares)
    return [part + (i < odd) for i in range(shares)]


def share_times(times: StageTimes, size: int) -> list[StageTimes]:
    """Split a batch's times over its takes, in parts that sum to them exactly."""
    stages = (times.plan_ms, times.encode_ms, times.diffuse_ms, times.decode_ms)
    shares = zip(*(share_ms(total_ms, size) for total_ms in stages), strict=True)
    return [StageTimes(plan_ms=p, encode_ms=e, diffuse_ms=d, decode_ms=a) for p, e, d, a in shares]
