"""The ledger's tables: rows hold what was observed and do nothing clever.

`attempt`, `rendition` and `span` are facts and append-only (triggers refuse changes). `take` and `run` are
the state of work, `worker` a roll-call, `writer` says who may record. Instants are UTC epoch milliseconds, money
integer micro-dollars.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Index, MetaData, Table, text
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


RUN_STATES = ("active", "finished", "cancelled")
TAKE_STATES = ("waiting", "sent", "accepted", "rejected", "failed", "cancelled")
OUTCOMES = ("accepted", "rejected", "failed")
SPAN_STATES = ("startup", "plan", "render", "idle", "post", "teardown")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=f"known_{column}")


# Of columns that came later: what the rows written before them say.
_EMPTY, _ZERO = {"server_default": text("''")}, {"server_default": text("0")}


class Row(SQLModel):
    """Base of all tables: one metadata with named constraints, so that migrations can refer to them."""

    metadata = MetaData(naming_convention=NAMING)


class RunRow(Row, table=True):
    """One dispatch of a plan; a second `run` of an unfinished catalog goes on with it."""

    __tablename__ = "run"
    __table_args__ = (_one_of("state", RUN_STATES),)

    run_id: str = Field(primary_key=True)
    catalog: str = Field(index=True)
    model: str
    state: str  # active, finished or cancelled
    wish: str = Field(default="", sa_column_kwargs=_EMPTY)  # of an active run: "" go on, "pause" or "cancel"
    started_at_ms: int = Field(sa_type=BigInteger)
    finished_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    max_usd_micros: int | None = Field(default=None, sa_type=BigInteger)
    take_usd_micros: int | None = Field(default=None, sa_type=BigInteger)  # one take, as estimated at dispatch


class TakeRow(Row, table=True):
    """One take of a plan and how far its work has come."""

    __tablename__ = "take"
    __table_args__ = (
        # The feed's order in each queue: by bucket and, within one, by take id. An id is a hash, so a run that a
        # budget stops half-way has made a fair share of every zone and genre.
        Index("ix_take_run_id_state_queue_bucket_take_id", "run_id", "state", "queue", "bucket", "take_id"),
        Index("ix_take_catalog_track_key_number", "catalog", "track_key", "number"),
        _one_of("state", TAKE_STATES),
    )

    take_id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.run_id")  # the run that sends it now
    catalog: str
    zone: str
    genre: str
    track_key: str
    number: int
    title: str
    model: str
    queue: str
    bucket: str  # sorts into feed order
    duration_ms: int = Field(sa_type=BigInteger)
    message: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # the Take, complete
    state: str  # waiting, sent, accepted, rejected, failed, cancelled
    current: bool = True  # False once the preset has changed or dropped it
    alone: bool = False
    sent_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    held_by: str | None = Field(default=None, index=True)
    held_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    tries: int = 0  # failures the take may have caused
    losses: int = 0  # times its worker fell silent; never held against the take
    rendition_id: str | None = None  # the rendition that counts: its `record_id`; None until accepted


class AttemptRow(Row, table=True):
    """One try at one take. Written once: it cost money whether or not it worked."""

    __tablename__ = "attempt"
    __table_args__ = (Index("ix_attempt_run_id_at_ms", "run_id", "at_ms"), _one_of("outcome", OUTCOMES))

    record_id: str = Field(primary_key=True)
    take_id: str = Field(index=True)
    run_id: str
    worker_id: str = Field(index=True)
    outcome: str  # accepted, rejected or failed
    reasons: list[str] = Field(sa_column=Column(JSON, nullable=False))
    adopted: bool
    batch_id: str
    batch_size: int
    plan_id: str = Field(default="", sa_column_kwargs=_EMPTY)  # the planner call; "" without one
    plan_ms: int
    encode_ms: int
    diffuse_ms: int
    decode_ms: int
    post_ms: int
    audio_ms: int = Field(sa_type=BigInteger)
    at_ms: int = Field(sa_type=BigInteger)


class RenditionRow(Row, table=True):
    """One accepted rendition of a take, and `sidecar` its stored JSON, whole; the take names the one that counts.

    A take has a second one only when the first was lost from the store and the take was made anew.
    """

    __tablename__ = "rendition"

    record_id: str = Field(primary_key=True)  # as its sidecar says
    take_id: str = Field(index=True)
    run_id: str = Field(index=True)
    worker_id: str
    audio_key: str
    sha256: str
    pcm_sha256: str
    bytes: int = Field(sa_type=BigInteger)
    audio_ms: int = Field(sa_type=BigInteger)
    dit_seed: int = Field(sa_type=BigInteger)
    lm_seed: int = Field(sa_type=BigInteger)
    model_fingerprint: str
    planner_fingerprint: str
    code: str
    gpu: str
    noise: bool
    loudness_lufs: float | None
    created_at_ms: int = Field(sa_type=BigInteger)
    sidecar: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class WorkerRow(Row, table=True):
    """One worker's life, with the price that was in force when it started."""

    __tablename__ = "worker"

    worker_id: str = Field(primary_key=True)
    host: str
    gpu: str
    vram_gib: float
    model: str
    model_fingerprint: str
    code: str
    noise: bool
    batch_limit: int
    batch_limit_reason: str
    plan_limit: int = Field(default=0, sa_column_kwargs=_ZERO)  # takes in one planner call
    holds_max: int = Field(default=0, sa_column_kwargs=_ZERO)  # takes in hand at most; 0: not said
    started_at_ms: int = Field(sa_type=BigInteger)
    last_seen_ms: int = Field(sa_type=BigInteger)  # by the worker's own clock, as all but the next two
    heard_at_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)  # by the controller's clock
    clock_ahead_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)  # its clock against that one
    last_beat: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)  # number of its latest heartbeat
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    end_reason: str | None = None
    price_sku: str | None = None
    price_source: str | None = None
    rate_usd_micros_per_h: int | None = Field(default=None, sa_type=BigInteger)  # None: unknown, never zero
    # Of its engine, as the last heartbeat that knew them said.
    rss_mib: float | None = None
    device_mib: float | None = None
    growth_mib_per_100_takes: float | None = None  # of both together


class SpanRow(Row, table=True):
    """What a worker did with a stretch of its time."""

    __tablename__ = "span"
    __table_args__ = (_one_of("state", SPAN_STATES),)

    worker_id: str = Field(primary_key=True)
    start_ms: int = Field(primary_key=True, sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    state: str  # startup, plan, render, idle, post or teardown
    batch_id: str  # of a render span its batch, of a plan span the planner call
    cause: str  # of an idle span


class WriterRow(Row, table=True):
    """The one row that says who may feed and record: whoever took the lock last, and the how manieth that is."""

    __tablename__ = "writer"

    id: int = Field(primary_key=True)  # always 1
    epoch: int = Field(sa_type=BigInteger)
    holder: str
    since_ms: int = Field(sa_type=BigInteger)


# The same tables for statements that take and give plain rows; SQLModel does not tell type checkers of them.
RUN: Table = RunRow.__table__  # type: ignore[attr-defined]
TAKE: Table = TakeRow.__table__  # type: ignore[attr-defined]
ATTEMPT: Table = AttemptRow.__table__  # type: ignore[attr-defined]
RENDITION: Table = RenditionRow.__table__  # type: ignore[attr-defined]
WORKER: Table = WorkerRow.__table__  # type: ignore[attr-defined]
SPAN: Table = SpanRow.__table__  # type: ignore[attr-defined]
WRITER: Table = WriterRow.__table__  # type: ignore[attr-defined]
