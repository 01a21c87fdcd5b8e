"""Failures: what becomes of the takes when a call of the engine has failed, and who pays for it.

A call that did not fit is halved. When the engine died, all who were aboard are suspects: each is tried again alone,
behind those that are above suspicion, and only a take that keeps killing the engine alone is given up. An error in
words is treated the same way, without the engine's death. What the takes cannot be blamed for costs them nothing.
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
    """A call that failed; without a flight when no take was aboard."""

    flight: InFlight | None
    error: BaseException


@dataclass(slots=True)
class Aftermath:
    """Where everybody goes from here."""

    again: list[Request] = field(default_factory=list)  # to their old places in the line
    behind: list[Request] = field(default_factory=list)  # behind all others
    given_up: list[tuple[Request, TakeFailed]] = field(default_factory=list)
    fatal: BaseException | None = None  # the model or the lane itself is at fault: the lane must end


def aftermath_of(mishaps: Iterable[FailedCall], capacities: Mapping[CallKind, Capacity]) -> Aftermath:
    """What follows from `mishaps`, which one engine suffered; limits that turned out too high are lowered."""
    end = Aftermath()
    suspects: list[tuple[InFlight, EngineDied]] = []
    for flight, error in mishaps:
        if flight is None:
            continue
        if isinstance(error, EngineGone):
            end.again += flight.takes
        elif isinstance(error, EngineDied):
            suspects.append((flight, error))
        elif isinstance(error, OutOfVram):
            _halve(end, flight, error, capacities[flight.step.call])
        elif isinstance(error, TunemillError) and not isinstance(error, ModelError):
            _blame(end, flight, error)
        else:
            end.again += flight.takes
            end.fatal = error
    _suspect(end, suspects)
    return end


def _halve(end: Aftermath, flight: InFlight, error: OutOfVram, capacity: Capacity) -> None:
    step, takes = flight.step, flight.takes
    if len(takes) > 1:
        limit = len(takes) // 2
        capacity.shrink(step.bucket, limit)
        log.warning("%s limit %d for %s: %d takes did not fit (%s)", step.call, limit, step.bucket, len(takes), error)
        for each in takes:
            each.oom_limit = limit if step.call == "render" else each.oom_limit
        end.again += takes
    elif not takes[0].alone:
        log.warning("%s did not fit beside what was under way (%s); it is tried again alone", _ONE[step.call], error)
        takes[0].alone = True
        end.again += takes
    else:
        _give_up(end, flight, f"{_ONE[step.call]} does not fit the device: {error}", retry=True)


def _suspect(end: Aftermath, suspects: list[tuple[InFlight, EngineDied]]) -> None:
    takes = [each for flight, _ in suspects for each in flight.takes]
    if not takes:
        return
    flight, error = suspects[0]
    log.warning("the engine died with %d takes aboard (%s); each is tried again alone", len(takes), error)
    for each in takes:
        each.alone = True
        each.deaths_alone += len(takes) == 1
    if takes[0].deaths_alone < DEATHS_ALONE_MAX:
        end.behind += takes
    else:
        reason = f"the engine died {DEATHS_ALONE_MAX} times with this take alone aboard: {error.what}"
        _give_up(end, flight, reason, retry=False)


def _blame(end: Aftermath, flight: InFlight, error: TunemillError) -> None:
    """Whose fault an error in words is shows when each is tried alone."""
    takes = flight.takes
    if len(takes) == 1:
        _give_up(end, flight, str(error), retry=False)
        return
    log.warning("a call for %d takes was refused (%s); each is tried again alone", len(takes), error)
    for each in takes:
        each.alone = True
    end.behind += takes


def _give_up(end: Aftermath, flight: InFlight, reason: str, *, retry: bool) -> None:
    (only,) = flight.takes
    end.given_up.append((only, TakeFailed(reason, retry=retry, batch=flight.note_of(only))))
