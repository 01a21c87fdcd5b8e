"""Policy: the rule that chooses the engine's next call, a planner call or a render batch, from the waiting takes.

A full batch goes first. Then takes that need a plan are planned, many at once and with takes of similar length
together, because a planner call costs about the same for one take as for all it can hold. Then follows a batch that is
not full. A take that many younger ones have overtaken goes before all of these, so that no take starves. A suspect is
called alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from catalog.buckets import Bucket
from workers.scheduler.request import EngineCall, Request

PATIENCE_ROUNDS = 4  # rounds of younger takes that may be rendered before a take; a round is the largest call

LimitOf = Callable[[Bucket], int]


class CallLimits(NamedTuple):
    """The most takes of a bucket in one call of each kind; a planner limit of 0 means that there is no planner."""

    batch: LimitOf
    plan: LimitOf


def next_call(waiting: Sequence[Request], limits: CallLimits) -> EngineCall | None:
    """The engine's next call; `waiting` is in order of age, oldest first."""
    if not waiting:
        return None
    pressing = [each for each in waiting if _is_overdue(each, limits)]
    if not pressing and waiting[0].alone:
        # One suspect until it is cleared or given up: in turns, the worker would end before any of them is.
        pressing = [max((each for each in waiting if each.alone), key=lambda each: each.deaths_alone)]
    if pressing:
        return _call_for(pressing[0], waiting, limits)
    return _full_batch(waiting, limits) or planner_call(waiting, limits) or _call_for(waiting[0], waiting, limits)


def planner_call(waiting: Sequence[Request], limits: CallLimits) -> EngineCall | None:
    """The next planner call; None when no take needs a plan."""
    first = next((each for each in waiting if _is_unplanned(each, limits) and not each.alone), None)
    return _plan_with(first, waiting, limits) if first else None


def take_out(call: EngineCall, waiting: Sequence[Request]) -> list[Request]:
    """The requests that still wait when `call` is removed; each one that a younger take overtook counts it."""
    taken, younger, left = set(map(id, call.takes)), 0, []
    for each in reversed(waiting):
        if id(each) in taken:
            younger += call.kind == "render"
        else:
            each.overtaken += younger
            left.append(each)
    return left[::-1]


def _is_unplanned(each: Request, limits: CallLimits) -> bool:
    # Without a planner the take goes to the engine as it is, which refuses it in words.
    return each.wants_plan and limits.plan(each.bucket) > 0


def _is_overdue(each: Request, limits: CallLimits) -> bool:
    return each.overtaken >= PATIENCE_ROUNDS * max(1, limits.batch(each.bucket), limits.plan(each.bucket))


def _call_for(first: Request, waiting: Sequence[Request], limits: CallLimits) -> EngineCall:
    """The next call for `first`, with the takes that may share it."""
    if first.alone:
        return EngineCall("plan" if _is_unplanned(first, limits) else "render", [first], is_full=True)
    if _is_unplanned(first, limits):
        return _plan_with(first, waiting, limits)
    return _batch_with(first, waiting, limits)


def _batch_with(first: Request, waiting: Sequence[Request], limits: CallLimits) -> EngineCall:
    limit = max(1, limits.batch(first.bucket))
    mates = [each for each in waiting if _is_ready(each, limits) and each.bucket == first.bucket and each is not first]
    takes = [first, *mates][:limit]
    return EngineCall("render", takes, is_full=len(takes) >= limit)


def _full_batch(waiting: Sequence[Request], limits: CallLimits) -> EngineCall | None:
    """A full batch, of the bucket that has waited longest among those with enough takes; None without one."""
    seen: set[Bucket] = set()
    for first in waiting:
        if _is_ready(first, limits) and first.bucket not in seen:
            seen.add(first.bucket)
            call = _batch_with(first, waiting, limits)
            if call.is_full:
                return call
    return None


def _is_ready(each: Request, limits: CallLimits) -> bool:
    return not each.alone and not _is_unplanned(each, limits)


def _plan_with(first: Request, waiting: Sequence[Request], limits: CallLimits) -> EngineCall:
    """`first` and the takes nearest in length, as many as fit a call of the longest of them; shortest first."""
    mates = [each for each in waiting if _is_unplanned(each, limits) and not each.alone and each is not first]
    takes, limit = [first], limits.plan(first.bucket)
    for each in sorted(mates, key=lambda mate: abs(mate.spec.duration_s - first.spec.duration_s)):
        with_it = min(limit, limits.plan(each.bucket))
        if len(takes) >= with_it:
            return EngineCall("plan", _by_length(takes), is_full=True)
        takes, limit = [*takes, each], with_it
    return EngineCall("plan", _by_length(takes), is_full=len(takes) >= limit)


def _by_length(takes: Iterable[Request]) -> list[Request]:
    return sorted(takes, key=lambda each: each.spec.duration_s)
