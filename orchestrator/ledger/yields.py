"""The yield of a catalog: how many of the takes that were made it keeps, in groups, and the cost of the others.

A take counts in the state in which it is now. The money comes from the books by zone, genre and category. The money of
kept and spare takes, of rejected takes and of failed attempts is split over those of the same zone and genre; all other
money, such as start-up and idle time, over all attempts there. Engine time is the weight. So the groups add up to the
books exactly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, and_, case, func, or_, select

from catalog.flaws import kind_of_reason
from catalog.split import split
from orchestrator.ledger.observations import Category
from orchestrator.ledger.readings import judge_of
from orchestrator.ledger.slots import is_listed, is_spare
from orchestrator.ledger.strikes import struck_ids
from orchestrator.ledger.tables import ATTEMPT, RENDITION, TAKE, VERDICT

CUTS: Final = ("preset", "zone", "genre", "seed", "reason", "model")
WASTED: Final = {Category.REJECTED: "rejected", Category.FAILED: "failed", Category.LOST: "failed"}
_CARRIED_BY: Final = {Category.ACCEPTED: "accepted", **WASTED}  # the rest is carried by all attempts
_NO_SEED: Final = "of the track's key"  # one that no preset pins

Label = tuple[str, ...]
Place = tuple[str, str]  # zone and genre


@dataclass
class Yield:
    """The takes of one group, and their cost."""

    kept: int = 0
    spare: int = 0
    rejected_by_checks: int = 0  # or by the engine, or as a duplicate
    rejected_by_listeners: int = 0
    former: int = 0  # accepted, and no longer planned
    warned: int = 0  # of the kept and spare ones: they have warnings
    failed_attempts: int = 0
    engine_ms: int = 0
    usd_micros: int = 0
    wasted_usd_micros: int = 0  # of it: for rejected takes and failed attempts

    @property
    def made(self) -> int:
        """The takes that were made, without former ones."""
        return self.kept + self.spare + self.rejected_by_checks + self.rejected_by_listeners

    @property
    def kept_share(self) -> float | None:
        """The part of the takes that is kept; None when none was made."""
        return self.kept / self.made if self.made else None


@dataclass
class Yields:
    """The groups of a catalog's takes, and the weights by which money is split over them."""

    by: str
    groups: defaultdict[Label, Yield] = field(default_factory=lambda: defaultdict(Yield))
    # Place -> what carries the money (accepted, rejected or failed) -> engine time, and attempts, of each group.
    ms: defaultdict[Place, defaultdict[str, Counter[Label]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counter))
    )
    tries: defaultdict[Place, defaultdict[str, Counter[Label]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counter))
    )

    @property
    def total(self) -> Yield:
        """The sum of all groups."""
        names = [each.name for each in fields(Yield)]
        return Yield(**{name: sum(map(attrgetter(name), self.groups.values())) for name in names})

    @property
    def lines(self) -> list[tuple[Label, Yield]]:
        """The groups, the one that wastes most first."""
        return sorted(
            self.groups.items(),
            key=lambda each: (-each[1].wasted_usd_micros, each[1].kept_share or 0.0, -each[1].usd_micros, each[0]),
        )

    def share(self, money: Mapping[tuple[str, str, Category], int]) -> None:
        """Split micro-dollars by zone, genre and category over the groups."""
        for (zone, genre, category), usd_micros in money.items():
            for label, part in split(usd_micros, self._weights((zone, genre), category)).items():
                self.groups[label].usd_micros += part
                self.groups[label].wasted_usd_micros += part if category in WASTED else 0

    def _weights(self, place: Place, category: Category) -> Mapping[Label, int]:
        """The weights of the attempts that carry the money; of their number where none has engine time."""
        carrier = _CARRIED_BY.get(category)
        for known in (self.ms[place], self.tries[place]):
            if carrier and sum(known[carrier].values()):
                return known[carrier]
        for known in (self.ms[place], self.tries[place]):
            if sum((whole := sum(known.values(), Counter[Label]())).values()):
                return whole
        zone, genre = place
        return {{"zone": (zone,), "genre": (genre,), "preset": (zone, genre)}.get(self.by, ("",)): 1}


def read_yields(connection: Connection, catalog: str, by: str) -> Yields:
    """The takes of a catalog in groups by `by`, one of `CUTS`; without money."""
    found = Yields(by)
    reasons = _reasons_of_checks(connection, catalog) if by == "reason" else {}
    attempts = _attempts(connection, catalog)
    for row in _takes(connection, catalog):
        label, place, state = _label(row, by, reasons), (row.zone, row.genre), _state(row)
        group = found.groups[label]
        if state:
            setattr(group, state, getattr(group, state) + 1)
        group.warned += bool(row.warnings) and state in ("kept", "spare")
        for outcome, tries, ms in attempts[row.take_id]:
            carrier = outcome
            if outcome != "failed":
                carrier = "rejected" if state.startswith("rejected") else "accepted"
            group.failed_attempts += tries if outcome == "failed" else 0
            group.engine_ms += ms
            found.ms[place][carrier][label] += ms
            found.tries[place][carrier][label] += tries
    for label in [label for label, group in found.groups.items() if group == Yield()]:
        del found.groups[label]  # planned, and nothing was made
    return found


def _takes(connection: Connection, catalog: str) -> Any:
    newest = select(func.max(VERDICT.c.verdict_id)).group_by(VERDICT.c.record_id)
    names = ("take_id", "zone", "genre", "track_key", "number", "model", "state")
    query = (
        select(*(TAKE.c[name] for name in names), VERDICT.c.outcome, VERDICT.c.reason)
        .add_columns(is_listed().label("is_listed"), is_spare().label("is_spare"))
        .add_columns(TAKE.c.message["track", "seed"].label("seed"))
        .add_columns(RENDITION.c.sidecar["measures", "warnings"].label("warnings"))
        .outerjoin(RENDITION, RENDITION.c.record_id == TAKE.c.rendition_id)
        .outerjoin(VERDICT, and_(VERDICT.c.record_id == TAKE.c.rendition_id, VERDICT.c.verdict_id.in_(newest)))
        .where(TAKE.c.catalog == catalog)
    )
    return connection.execute(query, execution_options={"yield_per": 500})


def _attempts(connection: Connection, catalog: str) -> defaultdict[str, list[tuple[str, int, int]]]:
    """Take id -> the outcome of attempts, their number and their engine time, as far as the books count it."""
    engine_ms = ATTEMPT.c.plan_ms + ATTEMPT.c.encode_ms + ATTEMPT.c.diffuse_ms + ATTEMPT.c.decode_ms
    is_free = or_(ATTEMPT.c.adopted, ATTEMPT.c.worker_id.in_(struck_ids()))
    query = (
        select(ATTEMPT.c.take_id, ATTEMPT.c.outcome, func.count(), func.sum(case((is_free, 0), else_=engine_ms)))
        .join(TAKE, TAKE.c.take_id == ATTEMPT.c.take_id)
        .where(TAKE.c.catalog == catalog)
        .group_by(ATTEMPT.c.take_id, ATTEMPT.c.outcome)
    )
    found: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for take_id, outcome, tries, ms in connection.execute(query):
        found[take_id].append((outcome, tries, int(ms)))
    return found


def _reasons_of_checks(connection: Connection, catalog: str) -> dict[str, str]:
    """Take id -> the first reason of its newest rejected attempt."""
    query = (
        select(ATTEMPT.c.take_id, ATTEMPT.c.reasons)
        .join(TAKE, TAKE.c.take_id == ATTEMPT.c.take_id)
        .where(TAKE.c.catalog == catalog, TAKE.c.state == "rejected", ATTEMPT.c.outcome == "rejected")
        .order_by(ATTEMPT.c.at_ms, ATTEMPT.c.record_id)
    )
    return {take_id: next(iter(reasons), "") for take_id, reasons in connection.execute(query)}


def _state(row: Any) -> str:
    """The field of `Yield` in which a take counts; "" of one that has no audio."""
    if row.state == "rejected":
        return "rejected_by_checks"
    if row.state != "accepted":
        return ""
    if row.outcome == "rejected":
        return "rejected_by_listeners" if judge_of(row.reason) == "listener" else "rejected_by_checks"
    return "kept" if row.is_listed else "spare" if row.is_spare else "former"


def _label(row: Any, by: str, reasons: Mapping[str, str]) -> Label:
    if by == "preset":
        return tuple(row.track_key.split("/")[1:-1])
    if by == "seed":
        return (_NO_SEED if row.seed is None else str(row.seed), f"take {row.number}")
    if by != "reason":
        return (str(getattr(row, by)),)
    if row.state == "rejected":
        reason = reasons.get(row.take_id, "")
        return (kind_of_reason(reason) or reason,)
    if _state(row).startswith("rejected"):
        return (row.reason if judge_of(row.reason) == "listener" else "duplicate",)
    return ("",)
