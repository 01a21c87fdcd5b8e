"""Readings of the ledger for people: runs, workers, tracks, reasons and money. This module writes nothing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from statistics import fmean, pstdev
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select

from catalog.errors import UnknownNameError
from catalog.flaws import Flaw, count_kinds
from catalog.track import Take, axes_of_key
from orchestrator.ledger.observations import MS_PER_H, time_usd_micros
from orchestrator.ledger.slots import is_listed, is_spare
from orchestrator.ledger.strikes import struck_ids
from orchestrator.ledger.tables import (
    ATTEMPT,
    RENDITION,
    RUN,
    SPAN,
    TAKE,
    VERDICT,
    WORKER,
    RenditionRow,
    RunRow,
    WorkerRow,
)
from orchestrator.ledger.time_use import TimeUse

_RATE_OF_MS = 120_000  # long enough for slow batches
_PAID_AFTER_MS = 600_000  # a machine that was silent for so long may have been given back
_ROWS_AT_ONCE = 500
_LATEST_ATTEMPTS = 200  # takes are sent by length, so the latest resemble the next
# Of a sidecar no more is read than these, because the whole is a hundred times as large.
_TREBLE_DB = RENDITION.c.sidecar["measures", "treble_db"].as_float().label("treble_db")
_WARNED = tuple(RENDITION.c.sidecar["measures", name].label(name) for name in ("warnings", "flaws"))


class LoudnessSpread(NamedTuple):
    """The loudness of finished tracks against the targets they were made for, in LU."""

    tracks: int  # that have a loudness and a target
    mean_lu: float
    least_lu: float
    most_lu: float
    deviation_lu: float  # standard deviation between the tracks


def loudness_spread(tracks: Iterable[ListedTrack]) -> LoudnessSpread | None:
    """The spread of the loudness of `tracks`; None when no track has a loudness and a target."""
    offsets_lu = [
        track.rendition.loudness_lufs - target
        for track in tracks
        if track.rendition.loudness_lufs is not None and (target := track.take.spec.master.loudness_lufs) is not None
    ]
    if not offsets_lu:
        return None
    return LoudnessSpread(len(offsets_lu), fmean(offsets_lu), min(offsets_lu), max(offsets_lu), pstdev(offsets_lu))


class TakeCounts(NamedTuple):
    """The takes of a run by state; they add up to its plan."""

    waiting: int = 0
    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """The number of all takes."""
        return sum(self)

    @property
    def ended(self) -> int:
        """The number of takes that are in a final state."""
        return self.accepted + self.rejected + self.failed

    @property
    def pending(self) -> int:
        """The number of takes still to be made."""
        return self.waiting + self.sent


class Spend(NamedTuple):
    """The cost of workers so far. `unpriced` names GPUs without a price; then `usd_micros` is too low."""

    usd_micros: int
    unpriced: tuple[str, ...]


class ListedTrack(NamedTuple):
    """One finished track of a catalog."""

    take: Take
    rendition: RenditionRow  # without its sidecar, which is a hundred times as large as all else
    metadata: dict[str, Any]  # chosen by the planner; empty where nothing was left to it
    is_order_known: bool = True  # False: the ledger was rebuilt, and no order for the take is proven
    wanted: int = 1  # good takes that the catalog plans of the track
    warnings: tuple[str, ...] = ()  # of the checks and the mastering
    flaws: tuple[Flaw, ...] = ()  # found by the checks
    treble_db: float | None = None  # energy above 8 kHz of all; None: of an earlier version


class UnlistedTake(NamedTuple):
    """A take that was rejected, or that is sound and not chosen."""

    take: Take
    state: str  # rejected or spare
    rejected_by: str  # checks, engine, listener or duplicates; "" of a spare take
    reasons: tuple[str, ...]
    at_ms: int  # of the attempt or the verdict
    audio_key: str = ""  # "" where no audio was stored
    warnings: tuple[str, ...] = ()
    flaws: tuple[Flaw, ...] = ()


class WarningCounts(NamedTuple):
    """The accepted takes with a warning; a take counts once for each of its kinds."""

    takes: int = 0
    by_kind: Mapping[str, int] = MappingProxyType({})  # the commonest first


def count_takes(connection: Connection, run_id: str) -> TakeCounts:
    """The run's takes by state."""
    query = select(TAKE.c.state, func.count()).where(TAKE.c.run_id == run_id).group_by(TAKE.c.state)
    return TakeCounts(**dict(connection.execute(query).all()))


def get_run(connection: Connection, run_id: str) -> RunRow:
    """The run with that id."""
    row = connection.execute(select(RUN).where(RUN.c.run_id == run_id)).mappings().one()
    return RunRow(**row)


def find_run_ids(connection: Connection, prefix: str) -> list[str]:
    """The ids of runs that begin with that text."""
    return list(
        connection.execute(select(RUN.c.run_id).where(RUN.c.run_id.startswith(prefix, autoescape=True))).scalars()
    )


def latest_runs(connection: Connection, limit: int) -> list[RunRow]:
    """Runs, newest first."""
    query = select(RUN).order_by(RUN.c.started_at_ms.desc(), RUN.c.run_id).limit(limit)
    return [RunRow(**row) for row in connection.execute(query).mappings()]


def latest_workers(connection: Connection, limit: int) -> list[WorkerRow]:
    """Workers, last seen first."""
    query = select(WORKER).order_by(WORKER.c.last_seen_ms.desc(), WORKER.c.worker_id).limit(limit)
    return [WorkerRow(**row) for row in connection.execute(query).mappings()]


def last_heard_ms(connection: Connection, model: str) -> int | None:
    """The control side's time of the last message of any worker of a model; None before the first."""
    said = connection.execute(select(func.max(WORKER.c.heard_at_ms)).where(WORKER.c.model == model)).scalar()
    return None if said is None else int(said)


def held_takes(connection: Connection) -> Counter[str]:
    """The number of takes that each worker holds."""
    query = select(TAKE.c.held_by, func.count()).where(TAKE.c.state == "sent", TAKE.c.held_by.is_not(None))
    return Counter(dict(connection.execute(query.group_by(TAKE.c.held_by)).all()))


def latest_time_use(connection: Connection, worker_ids: Sequence[str], last_ms: int) -> dict[str, TimeUse]:
    """The time use of each worker in the last `last_ms` before its last message, as far as it has reported."""
    since = WORKER.c.last_seen_ms - last_ms
    begin = case((SPAN.c.start_ms < since, since), else_=SPAN.c.start_ms)
    query = (
        select(SPAN.c.worker_id, SPAN.c.state, SPAN.c.cause, func.sum(SPAN.c.end_ms - begin))
        .join(WORKER, WORKER.c.worker_id == SPAN.c.worker_id)
        .where(SPAN.c.worker_id.in_(worker_ids), SPAN.c.end_ms > since)
        .group_by(SPAN.c.worker_id, SPAN.c.state, SPAN.c.cause)
    )
    used: dict[str, dict[tuple[str, str], int]] = {worker_id: {} for worker_id in worker_ids}
    for worker_id, state, cause, ms in connection.execute(query):
        used[worker_id][state, cause] = int(ms)
    return {worker_id: TimeUse(ms) for worker_id, ms in used.items()}


def spend_of_run(connection: Connection, run: RunRow) -> Spend:
    """The cost of the workers of the run's model since the run began, busy or idle.

    A guard, not a bill: workers that other runs share are counted whole, which can only stop a run early. A
    worker that is still loading has not named its GPU; its time counts from its start once it has.
    """
    until = run.finished_at_ms
    ours_ms = WORKER.c.last_seen_ms - WORKER.c.clock_ahead_ms  # by the control side's clock, as the run's instants
    query = select(WORKER).where(WORKER.c.model == run.model, ours_ms > run.started_at_ms)
    if until:
        query = query.where(WORKER.c.started_at_ms - WORKER.c.clock_ahead_ms < until)
    micros, unpriced = 0, set()
    for worker in connection.execute(query):
        if worker.rate_usd_micros_per_h is None:
            unpriced.update({worker.gpu} - {""})
            continue
        end = (worker.ended_at_ms or worker.last_seen_ms) - worker.clock_ahead_ms
        end = min(end, until) if until and worker.ended_at_ms is None else end
        life_ms = max(0, end - max(worker.started_at_ms - worker.clock_ahead_ms, run.started_at_ms))
        micros += time_usd_micros(life_ms, worker.rate_usd_micros_per_h)  # rounded as the cost report rounds it
    return Spend(micros, tuple(sorted(unpriced)))


class PaidMeanwhile(NamedTuple):
    """The cost that the machines of a paused run still cause."""

    machines: int
    usd_micros_per_h: int | None  # None: the price of one is unknown
    usd_micros: int | None  # since the pause


def paid_meanwhile(connection: Connection, run: RunRow, at_ms: int) -> PaidMeanwhile:
    """The cost, since the run's latest wish, of its model's workers that are still running."""
    heard = WORKER.c.heard_at_ms > at_ms - _PAID_AFTER_MS
    query = select(WORKER).where(WORKER.c.model == run.model, WORKER.c.ended_at_ms.is_(None), heard)
    workers = connection.execute(query).all()
    machines = len({each.rental_id or each.worker_id for each in workers})
    if any(each.rate_usd_micros_per_h is None for each in workers):
        return PaidMeanwhile(machines, None, None)
    micros = 0
    for each in workers:
        since_ms = max(each.started_at_ms - each.clock_ahead_ms, run.wished_at_ms or at_ms)
        micros += time_usd_micros(max(0, at_ms - since_ms), each.rate_usd_micros_per_h)
    return PaidMeanwhile(machines, sum(each.rate_usd_micros_per_h for each in workers), micros)


class RecordedRate(NamedTuple):
    """The time of workers on one GPU, as it was priced when they started."""

    gpu: str
    usd_micros_per_h: int | None  # None: no price was known
    workers: int
    ms: int
    first_ms: int


def recorded_rates(connection: Connection) -> list[RecordedRate]:
    """The recorded time of each GPU and rate, without struck workers, in order of the GPU's name."""
    rate, ended_ms = WORKER.c.rate_usd_micros_per_h, func.coalesce(WORKER.c.ended_at_ms, WORKER.c.last_seen_ms)
    query = (
        select(
            WORKER.c.gpu,
            rate,
            func.count(),
            func.sum(ended_ms - WORKER.c.started_at_ms),
            func.min(WORKER.c.started_at_ms),
        )
        .where(WORKER.c.gpu != "", WORKER.c.worker_id.not_in(struck_ids()))
        .group_by(WORKER.c.gpu, rate)
        .order_by(WORKER.c.gpu, rate)
    )
    return [
        RecordedRate(gpu, micros, workers, int(ms), int(first_ms))
        for gpu, micros, workers, ms, first_ms in connection.execute(query)
    ]


def takes_per_min(connection: Connection, run: RunRow, at_ms: int) -> float | None:
    """The recent rate, per minute, at which takes of an active run ended; None before the first has ended."""
    since_ms = max(run.started_at_ms, at_ms - _RATE_OF_MS)
    ended = ATTEMPT.c.outcome.in_(("accepted", "rejected")) & (ATTEMPT.c.at_ms > since_ms)
    count = connection.execute(select(func.count()).where(ATTEMPT.c.run_id == run.run_id, ended)).scalar()
    return count * 60_000 / (at_ms - since_ms) if count and at_ms > since_ms else None


def attempt_cost_of_run(connection: Connection, run: RunRow) -> int | None:
    """The cost of one attempt of the run; None before the first.

    The cost is that of its engine time, on average of the latest, or of its planning and the time in which the run's
    workers rendered and waited, shared by all attempts, whichever is more: where mastering holds up the engine, the
    engine's time alone is too little. Planner calls run far ahead of the attempts, so planning is the time charged to
    the attempts, not the time of the spans. Start-up is left out: `spend_of_run` counts it already, and the next take
    adds none.
    """
    engine_ms = ATTEMPT.c.plan_ms + ATTEMPT.c.encode_ms + ATTEMPT.c.diffuse_ms + ATTEMPT.c.decode_ms
    made = select(engine_ms.label("engine_ms"), ATTEMPT.c.plan_ms).where(
        ATTEMPT.c.run_id == run.run_id, ~ATTEMPT.c.adopted, ATTEMPT.c.worker_id.not_in(struck_ids())
    )
    latest = made.order_by(ATTEMPT.c.at_ms.desc()).limit(_LATEST_ATTEMPTS).subquery()
    count, total_ms = connection.execute(select(func.count(), func.sum(latest.c.engine_ms))).one()
    ours = (WORKER.c.model == run.model) & (WORKER.c.last_seen_ms > run.started_at_ms)
    rate = connection.execute(select(func.max(WORKER.c.rate_usd_micros_per_h)).where(ours)).scalar()
    if not count or rate is None:
        return None
    in_use = (
        select(func.sum(SPAN.c.end_ms - SPAN.c.start_ms))
        .join(WORKER, WORKER.c.worker_id == SPAN.c.worker_id)
        .where(ours, SPAN.c.start_ms >= run.started_at_ms, SPAN.c.state.in_(("render", "idle")))
    )
    in_use_ms = connection.execute(in_use).scalar() or 0
    every = made.subquery()
    attempts, planned_ms = connection.execute(select(func.count(), func.sum(every.c.plan_ms))).one()
    attempt_ms = max(int(total_ms) / int(count), int(in_use_ms + planned_ms) / int(attempts))
    return math.ceil(attempt_ms * int(rate) / MS_PER_H)


class TakeName(NamedTuple):
    """The names of one take: its track's key and its number for people, its id for commands."""

    track_key: str
    number: int
    take_id: str


def takes_by_reason(connection: Connection, run_id: str, outcome: str) -> dict[str, list[TakeName]]:
    """The takes of the run that were rejected or failed, by reason, the commonest first; each take once a reason."""
    query = (
        select(TAKE.c.track_key, TAKE.c.number, TAKE.c.take_id, ATTEMPT.c.reasons)
        .join(TAKE, TAKE.c.take_id == ATTEMPT.c.take_id)
        .where(TAKE.c.run_id == run_id, TAKE.c.state == outcome, ATTEMPT.c.outcome == outcome)
        .order_by(ATTEMPT.c.at_ms, ATTEMPT.c.record_id)
    )
    found: dict[str, dict[TakeName, None]] = {}
    for key, number, take_id, reasons in connection.execute(query):
        for reason in reasons:
            found.setdefault(reason, {})[TakeName(key, number, take_id)] = None
    return {reason: list(takes) for reason, takes in sorted(found.items(), key=lambda each: -len(each[1]))}


def reasons_of_run(connection: Connection, run_id: str, outcome: str) -> Counter[str]:
    """Count the reasons why takes of the run were rejected or failed; a reason counts once per take, not per try."""
    return Counter({reason: len(takes) for reason, takes in takes_by_reason(connection, run_id, outcome).items()})


def list_tracks(
    connection: Connection,
    catalog: str | None = None,
    *,
    run_id: str | None = None,
    zone: str | None = None,
    genre: str | None = None,
    spread: int | None = None,
    where: Sequence[ColumnElement[bool]] = (),
) -> list[ListedTrack]:
    """The tracks that catalogs have, by track; with `spread` so many, from as many cells as there are."""
    wanted = {"catalog": catalog, "run_id": run_id, "zone": zone, "genre": genre}
    finished = [is_listed(), *where]
    finished += [TAKE.c[name] == value for name, value in wanted.items() if value is not None]
    query = (
        select(TAKE.c.message, TAKE.c.is_order_known, TAKE.c.wanted, *_WARNED)
        .add_columns(RENDITION.c.sidecar["plan", "metadata"].label("metadata"), _TREBLE_DB)
        .add_columns(*(column for column in RENDITION.c if column is not RENDITION.c.sidecar))
        .join(RENDITION, RENDITION.c.record_id == TAKE.c.rendition_id)
        .order_by(TAKE.c.track_key, TAKE.c.number)
    )
    query = query.where(*finished) if spread is None else query.where(TAKE.c.take_id.in_(_spread(finished, spread)))
    return [
        ListedTrack(
            Take.model_validate(row["message"]),
            _rendition({**row, "sidecar": {}}),
            row["metadata"] or {},
            row["is_order_known"],
            row["wanted"],
            *_warned(row),
            row["treble_db"],
        )
        for row in connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}).mappings()
    ]


def _warned(row: Mapping[Any, Any]) -> tuple[tuple[str, ...], tuple[Flaw, ...]]:
    """The warnings and the flaws of a row that has the columns `_WARNED`."""
    return tuple(row["warnings"] or ()), tuple(map(Flaw.model_validate, row["flaws"] or ()))


def list_unlisted(
    connection: Connection,
    catalog: str | None = None,
    *,
    states: Collection[str] = ("rejected", "spare"),
    where: Sequence[ColumnElement[bool]] = (),
) -> list[UnlistedTake]:
    """The takes of the last plans that are in one of these states, by track and number."""
    conditions = [TAKE.c.current, *where, *([] if catalog is None else [TAKE.c.catalog == catalog])]
    found = list(_judged(connection, states, conditions))
    if "rejected" in states:
        found += _refused_at_once(connection, conditions)
    return sorted(found, key=lambda each: (each.take.track.key, each.take.number))


def _judged(
    connection: Connection, states: Collection[str], conditions: Sequence[ColumnElement[bool]]
) -> Iterator[UnlistedTake]:
    """The takes with audio that the newest verdict on it keeps off the list."""
    newest = select(func.max(VERDICT.c.verdict_id)).group_by(VERDICT.c.record_id)
    kept_off = {"rejected": VERDICT.c.outcome == "rejected", "spare": is_spare()}
    query = (
        select(TAKE.c.message, VERDICT.c.spare, VERDICT.c.reason, VERDICT.c.at_ms, RENDITION.c.audio_key, *_WARNED)
        .join(RENDITION, RENDITION.c.record_id == TAKE.c.rendition_id)
        .join(VERDICT, VERDICT.c.record_id == RENDITION.c.record_id)
        .where(TAKE.c.state == "accepted", VERDICT.c.verdict_id.in_(newest), *conditions)
        .where(or_(*(kept_off[state] for state in states)))
    )
    for row in connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}).mappings():
        take, reasons = Take.model_validate(row["message"]), tuple(filter(None, [row["reason"]]))
        state, by = ("spare", "") if row["spare"] else ("rejected", judge_of(row["reason"]))
        yield UnlistedTake(take, state, by, reasons, row["at_ms"], row["audio_key"], *_warned(row))


def judge_of(reason: str) -> str:
    """Who rejected a take with audio, by the reason in the verdict: a listener, or the search for duplicates."""
    return "duplicates" if reason.startswith("same as take ") else "listener"


def _refused_at_once(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> Iterator[UnlistedTake]:
    """The takes whose newest attempt was rejected by the checks, or by the engine before there was any audio."""
    columns = (TAKE.c.take_id, TAKE.c.message, ATTEMPT.c.reasons, ATTEMPT.c.audio_ms, ATTEMPT.c.at_ms)
    query = (
        select(*columns)
        .join(ATTEMPT, ATTEMPT.c.take_id == TAKE.c.take_id)
        .where(TAKE.c.state == "rejected", ATTEMPT.c.outcome == "rejected", *conditions)
        .order_by(ATTEMPT.c.at_ms, ATTEMPT.c.record_id)
    )
    for row in {row.take_id: row for row in connection.execute(query)}.values():
        by = "checks" if row.audio_ms else "engine"
        yield UnlistedTake(Take.model_validate(row.message), "rejected", by, tuple(row.reasons), row.at_ms)


def count_warnings(connection: Connection, run_id: str) -> WarningCounts:
    """The accepted takes of a run that have warnings, by kind."""
    query = select(*_WARNED).join(TAKE, TAKE.c.rendition_id == RENDITION.c.record_id)
    rows = connection.execute(query.where(TAKE.c.run_id == run_id, TAKE.c.state == "accepted")).mappings()
    found = [kinds for row in rows if (kinds := count_kinds(*_warned(row)))]
    return WarningCounts(len(found), dict(Counter(kind for kinds in found for kind in kinds).most_common()))


def _spread(finished: list[ColumnElement[bool]], limit: int) -> Select[tuple[str]]:
    """Ids of `limit` takes: the first of every cell, then the second; among equals by id, which is a hash."""
    cell, order = (TAKE.c.zone, TAKE.c.genre), (TAKE.c.track_key, TAKE.c.number)
    place = func.row_number().over(partition_by=cell, order_by=order)
    placed = select(TAKE.c.take_id, place.label("place")).where(*finished).subquery()
    return select(placed.c.take_id).order_by(placed.c.place, placed.c.take_id).limit(limit)


def in_places(
    zones: Collection[str], genres: Collection[str], axes: Mapping[str, Collection[str]]
) -> list[ColumnElement[bool]]:
    """SQL condition on a take's row: it lies in one of these zones, genres and values of each axis; empty means any.

    Axes stand in the track's key, between the genre and the slot: `spa/thermal/ambient/season=winter/0007`.
    """
    where: list[ColumnElement[bool]] = []
    if zones:
        where.append(TAKE.c.zone.in_(zones))
    if genres:
        where.append(TAKE.c.genre.in_(genres))
    for axis, values in axes.items():
        where.append(or_(*(TAKE.c.track_key.contains(f"/{axis}={value}/", autoescape=True) for value in values)))
    return where


class KnownPlaces(NamedTuple):
    """The zones, genres and values of further axes of the takes that catalogs have or had."""

    zones: set[str]
    genres: set[str]
    axes: dict[str, set[str]]


def known_places(connection: Connection, catalog: str | None = None) -> KnownPlaces:
    """The places of `catalog`, or of all catalogs."""
    found = KnownPlaces(set(), set(), {})
    query = select(TAKE.c.zone, TAKE.c.genre, TAKE.c.track_key)
    for zone, genre, key in connection.execute(query if catalog is None else query.where(TAKE.c.catalog == catalog)):
        found.zones.add(zone)
        found.genres.add(genre)
        for axis, value in axes_of_key(key).items():
            found.axes.setdefault(axis, set()).add(value)
    return found


def catalogs(connection: Connection) -> list[str]:
    """Names of the catalogs the ledger has takes of."""
    return sorted(connection.execute(select(TAKE.c.catalog).distinct()).scalars())


def read_takes(connection: Connection, take_ids: Sequence[str]) -> dict[str, Take]:
    """The takes with these ids, as they were planned, by id."""
    found: dict[str, Take] = {}
    for first in range(0, len(take_ids), _ROWS_AT_ONCE):
        some = take_ids[first : first + _ROWS_AT_ONCE]
        rows = connection.execute(select(TAKE.c.take_id, TAKE.c.message).where(TAKE.c.take_id.in_(some)))
        found.update({take_id: Take.model_validate(message) for take_id, message in rows})
    return found


def find_rendition(connection: Connection, take_id_prefix: str) -> RenditionRow | None:
    """The rendition whose take id begins so; UnknownNameError when several do."""
    if not re.fullmatch(r"[0-9a-f]+", take_id_prefix):
        return None
    within = RENDITION.c.take_id.between(take_id_prefix, take_id_prefix + "g")  # ids are hex digits
    query = select(RENDITION).join(TAKE, TAKE.c.rendition_id == RENDITION.c.record_id).where(within)
    rows = connection.execute(query.order_by(RENDITION.c.take_id).limit(3)).mappings().all()
    exact = [row for row in rows if row["take_id"] == take_id_prefix] or rows
    if len(exact) > 1:
        raise UnknownNameError(
            f"{take_id_prefix!r} is the beginning of several take ids",
            why=", ".join(row["take_id"] for row in rows) + (" and maybe more" if len(rows) == 3 else ""),
            fix="write more of the take's id",
        )
    return _rendition(exact[0]) if exact else None


def _rendition(row: Mapping[Any, Any]) -> RenditionRow:
    return RenditionRow(**{column.name: row[column.name] for column in RENDITION.c})
