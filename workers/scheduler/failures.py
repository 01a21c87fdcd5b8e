"""Failures: the next step for the takes of an engine call that failed, and the rule that finds the take at fault.

A batch that did not fit is halved. After the engine died, every take of the call is a suspect: each one is tried again
alone, after all takes that are not suspects. Only a take that keeps killing the engine while alone fails for good. An
error that the engine reports is treated in the same way, except that the engine lives on. A failure that no take caused
is never counted against the takes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from catalog.errors import ModelError, OutOfVram, TunemillError
from workers.engine.wire import EngineDied, EngineGone
from workers.scheduler.limits import Capacity
from workers.scheduler.request import CallKind, InFlight, Request, TakeFailed

log = logging.getLogger(__name__)

DEATHS_ALONE_MAX = 3
_ONE = {"plan": "a planner call for one take", "render": "a batch of one"}


class FailedCall(NamedTuple):
    """An engine call that failed, with its error."""

    in_flight: InFlight | None  # None: the engine was only asked for its limits
    error: BaseException


@dataclass(slots=True)
class Recovery:
    """The decision for each take of the failed calls."""

    requeued: list[Request] = field(default_factory=list)  # at their old places among the waiting
    requeued_last: list[Request] = field(default_factory=list)  # behind all others
    given_up: list[tuple[Request, TakeFailed]] = field(default_factory=list)
    fatal: BaseException | None = None  # the model or this program is at fault: the worker must end


def recover(failed_calls: Iterable[FailedCall], capacities: Mapping[CallKind, Capacity]) -> Recovery:
    """Decide the next step for the takes of one engine's `failed_calls`; lower the limits that were too high."""
    recovery = Recovery()
    deaths: list[tuple[InFlight, EngineDied]] = []
    for in_flight, error in failed_calls:
        if in_flight is None:
            continue
        if isinstance(error, EngineGone):
            recovery.requeued += in_flight.takes
        elif isinstance(error, EngineDied):
            deaths.append((in_flight, error))
        elif isinstance(error, OutOfVram):
            _halve(recovery, in_flight, error, capacities[in_flight.call.kind])
        elif isinstance(error, TunemillError) and not isinstance(error, ModelError):
            _try_each_alone(recovery, in_flight, error)
        else:
            recovery.requeued += in_flight.takes
            recovery.fatal = error
    _suspect_all(recovery, deaths)
    return recovery


def _halve(recovery: Recovery, in_flight: InFlight, error: OutOfVram, capacity: Capacity) -> None:
    call, takes = in_flight.call, in_flight.takes
    if len(takes) > 1:
        limit = len(takes) // 2
        capacity.shrink(call.bucket, limit)
        log.warning("%s limit %d for %s: %d takes did not fit (%s)", call.kind, limit, call.bucket, len(takes), error)
        for each in takes:
            each.oom_limit = limit if call.kind == "render" else each.oom_limit
        recovery.requeued += takes
    elif not takes[0].alone:
        log.warning("%s did not fit beside what was under way (%s); it is tried again alone", _ONE[call.kind], error)
        takes[0].alone = True
        recovery.requeued += takes
    else:
        _give_up(recovery, in_flight, f"{_ONE[call.kind]} does not fit the device: {error}", retry=True)


def _suspect_all(recovery: Recovery, deaths: list[tuple[InFlight, EngineDied]]) -> None:
    takes = [each for in_flight, _ in deaths for each in in_flight.takes]
    if not takes:
        return
    in_flight, error = deaths[0]
    log.warning("the engine died with %d takes aboard (%s); each is tried again alone", len(takes), error)
    for each in takes:
        each.alone = True
        each.deaths_alone += len(takes) == 1
    if takes[0].deaths_alone < DEATHS_ALONE_MAX:
        recovery.requeued_last += takes
    else:
        reason = f"the engine died {DEATHS_ALONE_MAX} times with this take alone aboard: {error.what}"
        _give_up(recovery, in_flight, reason, retry=False)


def _try_each_alone(recovery: Recovery, in_flight: InFlight, error: TunemillError) -> None:
    """Fail a take that the engine refused alone; queue several for rendering alone, to find the one at fault."""
    takes = in_flight.takes
    if len(takes) == 1:
        _give_up(recovery, in_flight, str(error), retry=False)
        return
    log.warning("a call for %d takes was refused (%s); each is tried again alone", len(takes), error)
    for each in takes:
        each.alone = True
    recovery.requeued_last += takes


def _give_up(recovery: Recovery, in_flight: InFlight, reason: str, *, retry: bool) -> None:
    (only,) = in_flight.takes
    recovery.given_up.append((only, TakeFailed(reason, retry=retry, batch=in_flight.note_of(only))))
