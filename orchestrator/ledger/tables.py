"""The ledger's tables: rows hold what was observed, and their classes have no behaviour.

Facts: `attempt`, `loss`, `rendition`, `span`, `verdict`, `strike`, and `invoice` with its lines. Books: `posting`,
`cost_entry`, `closed_period` and `budget`. Facts and books are append-only (triggers refuse changes). State of work:
`take` and `run`. Roll-calls: `worker`, `rental`, `login` and `order_key`. `writer` names the process that may record,
and `set_aside` holds the records that could not be written. `standing` (an index of the books), `cost_monthly` (their
sums), `tally` (sums of facts), `score`, `chroma`, `chroma_code` and `duplicate` can be computed again. Instants are UTC
epoch milliseconds, money is integer micro-dollars.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    false,
    text,
    true,
)
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
KINDS = ("billed", "estimate", "work")
METERS = ("gpu", "disk", "egress", "credit", "tax", "topup")
MARKETS = ("on_demand", "spot")
BUDGET_SCOPES = ("month", "catalog", "run")
SPAN_STATES = ("startup", "plan", "render", "idle", "post", "teardown")


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=f"known_{column}")


# Counts up by itself; in SQLite only a key of its own integer type does.
UNHELD = "state = 'sent' and held_by is null"  # as statements must say it for that index
BIG_KEY: Any = BigInteger().with_variant(Integer(), "sqlite")

# Of columns that were added later: the value in the rows written before.
_EMPTY, _ZERO = {"server_default": text("''")}, {"server_default": text("0")}
_TRUE, _FALSE = {"server_default": true()}, {"server_default": false()}
_WARN = {"server_default": text("'warn'")}


class Row(SQLModel):
    """Base of all tables: one metadata with named constraints, so that migrations can refer to them."""

    metadata = MetaData(naming_convention=NAMING)


class RunRow(Row, table=True):
    """One dispatch of a plan; a second `run` of an unfinished catalog continues it."""

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
    wished_at_ms: int | None = Field(default=None, sa_type=BigInteger)  # the instant of the latest wish
    tries: int = Field(default=0, sa_column_kwargs=_ZERO)  # times a place may pass on from a take that was refused
    duplicates: str = Field(default="warn", sa_column_kwargs=_WARN)  # on takes that sound alike: warn, reroll or off
    choose_by: str = Field(default="", sa_column_kwargs=_EMPTY)  # scorers, comma-separated; "": of an earlier version


class TakeRow(Row, table=True):
    """One take of a plan, and the progress of its work."""

    __tablename__ = "take"
    __table_args__ = (
        # The feed's order in each queue: by bucket and, within one, by take id. An id is a hash, so a run that a
        # budget stops half-way has made a fair share of every zone and genre.
        Index("ix_take_run_id_state_queue_bucket_take_id", "run_id", "state", "queue", "bucket", "take_id"),
        Index("ix_take_catalog_track_key_number", "catalog", "track_key", "number"),
        # Takes on their way that no worker has named: few of those that are sent, and asked for every second.
        Index(
            "ix_take_unheld",
            "run_id",
            "state",
            "queue",
            "sent_at_ms",
            sqlite_where=text(UNHELD),  # and Postgres' in its migration: naming it here would import that dialect
        ),
        Index("ix_take_choice_due", "track_key", sqlite_where=text("is_choice_due")),  # and Postgres' in its migration
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
    orders: int = Field(default=0, sa_column_kwargs=_ZERO)  # times that it was sent to a queue, with any outcome
    tries: int = 0  # failures the take may have caused
    losses: int = 0  # times its worker fell silent; never held against the take
    rendition_id: str | None = None  # the rendition that counts: its `record_id`; None until accepted
    sound_id: str = Field(default="", sa_column_kwargs=_EMPTY)  # the same for takes that differ in finishing alone
    is_order_known: bool = Field(default=True, sa_column_kwargs=_TRUE)  # False: rebuilt, and nothing proves its order
    wanted: int = Field(default=0, sa_column_kwargs=_ZERO)  # good takes of its track; 0: planned by an earlier version
    keep: int = Field(default=0, sa_column_kwargs=_ZERO)  # of these the best so many are listed; 0: all
    is_choice_due: bool = Field(default=False, sa_column_kwargs=_FALSE)  # the takes of its track are to be compared


class AttemptRow(Row, table=True):
    """One try at one take. Written once, because a failed try costs money too."""

    __tablename__ = "attempt"
    __table_args__ = (
        Index("ix_attempt_run_id_at_ms", "run_id", "at_ms"),
        Index("ix_attempt_worker_id_at_ms", "worker_id", "at_ms"),
        _one_of("outcome", OUTCOMES),
    )

    record_id: str = Field(primary_key=True)
    take_id: str = Field(index=True)
    run_id: str
    worker_id: str
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


class LossRow(Row, table=True):
    """A take that a worker held when it fell silent."""

    __tablename__ = "loss"

    worker_id: str = Field(primary_key=True)
    take_id: str = Field(primary_key=True)
    run_id: str
    at_ms: int = Field(sa_type=BigInteger)  # when it was given up


class RenditionRow(Row, table=True):
    """One accepted rendition of a take, with its whole stored JSON in `sidecar`; the take names the one that counts.

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
    last_record: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)  # number of its latest record
    login: str = Field(default="", index=True, sa_column_kwargs=_EMPTY)  # at the broker; "": not proven
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)
    end_reason: str | None = None
    rental_id: str = Field(default="", index=True, sa_column_kwargs=_EMPTY)
    lane: str = Field(default="", sa_column_kwargs=_EMPTY)  # its device on the rented machine
    price_sku: str | None = None
    price_source: str | None = None
    rate_usd_micros_per_h: int | None = Field(default=None, sa_type=BigInteger)  # None: unknown, never zero
    # How far its time is in the tally: spans that begin before, attempts made before, and where those spans end.
    tally_spans_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    tally_attempts_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    tally_reached_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    # Of its engine, as the last heartbeat that knew them said.
    rss_mib: float | None = None
    device_mib: float | None = None
    growth_mib_per_100_takes: float | None = None  # of both together


class SpanRow(Row, table=True):
    """A stretch of a worker's time and the work done in it."""

    __tablename__ = "span"
    __table_args__ = (_one_of("state", SPAN_STATES),)

    worker_id: str = Field(primary_key=True)
    start_ms: int = Field(primary_key=True, sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    state: str  # startup, plan, render, idle, post or teardown
    batch_id: str  # of a render span its batch, of a plan span the planner call
    cause: str  # of an idle span


class RentalRow(Row, table=True):
    """A rented machine. A worker that names no rental gets one of its own, at the provider "local"."""

    __tablename__ = "rental"
    __table_args__ = (_one_of("market", MARKETS),)

    rental_id: str = Field(primary_key=True)  # provider/external_id
    provider: str
    external_id: str
    gpu: str
    gpu_count: int  # 0: as many as had a worker
    market: str
    region: str
    account: str
    run_id: str | None = None  # who asked for it
    rate_usd_micros_per_h: int | None = Field(default=None, sa_type=BigInteger)  # of one GPU, as agreed
    billed_start_ms: int | None = Field(default=None, sa_type=BigInteger)
    billed_end_ms: int | None = Field(default=None, sa_type=BigInteger)
    settled: bool = Field(default=False, index=True)  # nothing has come since it was posted, and nothing is to come
    tally: str = Field(default="", sa_column_kwargs=_EMPTY)  # the state for which its tallies are valid; "": none
    posted_ms: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)  # with it: months before are posted


class TallyRow(Row, table=True):
    """A sum of one worker's time and results, on a rental that still runs."""

    __tablename__ = "tally"

    worker_id: str = Field(primary_key=True)
    period: str = Field(primary_key=True)
    category: str = Field(primary_key=True)  # "" of time that no span tells of
    catalog: str = Field(primary_key=True)  # as the next three "" of time that is shared
    zone: str = Field(primary_key=True)
    genre: str = Field(primary_key=True)
    run_id: str = Field(primary_key=True)
    ms: int = Field(sa_type=BigInteger)
    tracks: int = Field(sa_type=BigInteger)
    attempts: int = Field(sa_type=BigInteger)
    audio_ms: int = Field(sa_type=BigInteger)


class InvoiceRow(Row, table=True):
    """A provider's bill, with the whole text of its file."""

    __tablename__ = "invoice"
    __table_args__ = (Index("ix_invoice_provider_number", "provider", "number"),)

    invoice_id: str = Field(primary_key=True)  # SHA-256 of the file
    provider: str
    number: str
    currency: str
    usd_per_unit: str
    rate_source: str
    start_ms: int = Field(sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    file_name: str
    text: str
    total_usd_micros: int = Field(sa_type=BigInteger)  # without money paid in advance
    topup_usd_micros: int = Field(sa_type=BigInteger)
    replaces: str | None = None  # the invoice that this one takes the place of
    imported_ms: int = Field(sa_type=BigInteger)


class InvoiceLineRow(Row, table=True):
    """One line of an invoice."""

    __tablename__ = "invoice_line"
    __table_args__ = (
        _one_of("meter", METERS),
        Index("ix_invoice_line_provider_external_id", "provider", "external_id"),
    )

    line_id: str = Field(primary_key=True)
    invoice_id: str = Field(foreign_key="invoice.invoice_id", index=True)
    number: int
    provider: str
    meter: str
    external_id: str
    sku: str
    description: str
    start_ms: int | None = Field(default=None, sa_type=BigInteger)
    end_ms: int | None = Field(default=None, sa_type=BigInteger)
    quantity: str
    unit: str
    unit_price: str
    usd_micros: int = Field(sa_type=BigInteger)


class PostingRow(Row, table=True):
    """A charge in the books, or the reversal of one."""

    __tablename__ = "posting"
    __table_args__ = (_one_of("kind", KINDS), Index("ix_posting_period_rental_id", "period", "rental_id"))

    posting_id: int = Field(primary_key=True, sa_type=BIG_KEY)
    posted_ms: int = Field(sa_type=BigInteger)
    period: str  # YYYY-MM it is booked in
    applies_to: str  # YYYY-MM it belongs to
    key: str = Field(index=True)
    kind: str
    meter: str
    rental_id: str | None = None
    provider: str
    gpu: str
    market: str
    region: str
    sku: str
    start_ms: int = Field(sa_type=BigInteger)
    end_ms: int = Field(sa_type=BigInteger)
    usd_micros: int | None = Field(default=None, sa_type=BigInteger)  # None: the price is unknown
    rate_usd_micros_per_h: int | None = Field(default=None, sa_type=BigInteger)
    source: str
    invoice_line_id: str | None = None
    method: str
    digest: str  # of the charge and its entries
    reverses_id: int | None = Field(default=None, sa_type=BigInteger, unique=True)


class CostEntryRow(Row, table=True):
    """A part of a posting: the payer and the purpose of an amount."""

    __tablename__ = "cost_entry"
    __table_args__ = (Index("ix_cost_entry_period_entry_id", "period", "entry_id"),)

    entry_id: int = Field(primary_key=True, sa_type=BIG_KEY)
    posting_id: int = Field(foreign_key="posting.posting_id", index=True, sa_type=BigInteger)
    period: str
    category: str
    catalog: str
    zone: str
    genre: str
    run_id: str
    usd_micros: int | None = Field(default=None, sa_type=BigInteger)
    ms: int = Field(sa_type=BigInteger)
    tracks: int
    attempts: int
    audio_ms: int = Field(sa_type=BigInteger)


class StandingRow(Row, table=True):
    """The active posting of a charge: its last posting that was not reversed."""

    __tablename__ = "standing"

    key: str = Field(primary_key=True)
    posting_id: int = Field(sa_type=BigInteger)
    rental_id: str | None = Field(default=None, index=True)
    digest: str
    method: str  # how it was reckoned, and by the months of which time zone
    is_priced: bool


class CostMonthlyRow(Row, table=True):
    """The sums of the entries that agree in every column by which a report can group."""

    __tablename__ = "cost_monthly"
    __table_args__ = (
        Index("ix_cost_monthly_period", "period"),
        Index("ix_cost_monthly_run_id", "run_id"),
        Index("ix_cost_monthly_applies_to", "applies_to"),
    )

    period: str = Field(primary_key=True)
    applies_to: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    category: str = Field(primary_key=True)
    catalog: str = Field(primary_key=True)
    zone: str = Field(primary_key=True)
    genre: str = Field(primary_key=True)
    run_id: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)
    gpu: str = Field(primary_key=True)
    market: str = Field(primary_key=True)
    usd_micros: int = Field(sa_type=BigInteger)
    unpriced_ms: int = Field(sa_type=BigInteger)
    ms: int = Field(sa_type=BigInteger)
    tracks: int = Field(sa_type=BigInteger)
    attempts: int = Field(sa_type=BigInteger)
    audio_ms: int = Field(sa_type=BigInteger)


class ClosedPeriodRow(Row, table=True):
    """A closed month, to which no entry is added any more."""

    __tablename__ = "closed_period"

    period: str = Field(primary_key=True)
    closed_ms: int = Field(sa_type=BigInteger)
    closed_by: str
    time_zone: str
    high_water_id: int = Field(sa_type=BigInteger)  # of its last entry
    entries: int = Field(sa_type=BigInteger)
    control_usd_micros: int = Field(sa_type=BigInteger)
    sha256: str  # of its entries


class BudgetRow(Row, table=True):
    """A limit on spending; the newest row of a scope, name and period counts."""

    __tablename__ = "budget"
    __table_args__ = (_one_of("scope", BUDGET_SCOPES),)

    budget_id: int = Field(primary_key=True, sa_type=BIG_KEY)
    scope: str
    name: str  # a catalog or a run; "" for a month
    period: str  # YYYY-MM; "" for every month, and for a run
    usd_micros: int | None = Field(default=None, sa_type=BigInteger)  # None: no budget any more
    set_ms: int = Field(sa_type=BigInteger)


class VerdictRow(Row, table=True):
    """A person's later decision about an accepted rendition; the newest counts."""

    __tablename__ = "verdict"
    __table_args__ = (_one_of("outcome", ("accepted", "rejected")),)

    verdict_id: int = Field(primary_key=True, sa_type=BIG_KEY)
    record_id: str = Field(index=True)
    take_id: str
    outcome: str
    reason: str
    at_ms: int = Field(sa_type=BigInteger)
    again: bool = Field(default=False, sa_column_kwargs=_FALSE)  # of a rejection: another take is to have the place
    spare: bool = Field(default=False, sa_column_kwargs=_FALSE)  # sound, and others of its track were chosen before it
    picked: bool = Field(default=False, sa_column_kwargs=_FALSE)  # chosen by a listener, whatever the scores say


class ScoreRow(Row, table=True):
    """The scores of a rendition that were computed after it was stored; other scores are in its sidecar."""

    __tablename__ = "score"

    record_id: str = Field(primary_key=True)
    scores: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))


class ChromaRow(Row, table=True):
    """A rendition whose chroma codes are known, so that it can be compared with the others of its catalog."""

    __tablename__ = "chroma"
    __table_args__ = (
        _one_of("state", ("due", "compared", "left")),
        Index("ix_chroma_due", "chroma_id", sqlite_where=text("state = 'due'")),  # and Postgres' in its migration
    )

    chroma_id: int = Field(primary_key=True, sa_type=BIG_KEY)
    record_id: str = Field(unique=True)
    codes: str | None = None  # None: its sidecar has them
    state: str = "due"  # due to be compared, compared, or left out by the catalog's choice


class ChromaCodeRow(Row, table=True):
    """One of the codes by which renditions are found that may sound alike: an index, whose rows say nothing new."""

    __tablename__ = "chroma_code"
    __table_args__ = ({"sqlite_with_rowid": False},)

    code: int = Field(primary_key=True, sa_type=BigInteger)  # with a hash of the catalog in its higher half
    chroma_id: int = Field(primary_key=True, sa_type=BigInteger)


class DuplicateRow(Row, table=True):
    """Two renditions of one catalog that sound alike; listed or not."""

    __tablename__ = "duplicate"

    later_id: str = Field(primary_key=True)  # a record id, as the next
    earlier_id: str = Field(primary_key=True, index=True)
    share: float  # of their codes that both have
    bit_error_rate: float
    is_due: bool = False  # the later one is to be rejected and made again


class SetAsideRow(Row, table=True):
    """A record that could not be written to the ledger, in its form on the queue."""

    __tablename__ = "set_aside"

    digest: str = Field(primary_key=True)  # SHA-256 of its bytes
    set_aside_ms: int = Field(sa_type=BigInteger, index=True)
    login: str = Field(default="", sa_column_kwargs=_EMPTY)  # on whose list it lay
    worker_id: str = Field(index=True)  # as it claims; "" where that cannot be read
    kind: str  # the same
    version: int  # the same; 0 where that cannot be read
    fault: str  # newer, unreadable or refused
    reason: str
    raw: bytes = Field(sa_column=Column(LargeBinary, nullable=False))  # only the beginning, of one that is too large
    size_bytes: int = Field(sa_type=BigInteger)  # of the whole
    is_due: bool = False  # to be tried again


class StrikeRow(Row, table=True):
    """A correction: a worker whose life is false is taken off the roll-call and the books, or is put back.

    The newest row of a worker counts.
    """

    __tablename__ = "strike"

    strike_id: int = Field(primary_key=True, sa_type=BIG_KEY)
    worker_id: str = Field(index=True)
    is_struck: bool  # False: it was struck by mistake, and is back
    reason: str
    worker: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))  # its row as it was on the roll-call
    at_ms: int = Field(sa_type=BigInteger)


class LoginRow(Row, table=True):
    """One workers' login at the broker."""

    __tablename__ = "login"

    login: str = Field(primary_key=True)
    made_at_ms: int = Field(sa_type=BigInteger)
    ended_at_ms: int | None = Field(default=None, sa_type=BigInteger)  # its records since then are not written


class OrderKeyRow(Row, table=True):
    """A public key with which orders were signed; the newest one is in use."""

    __tablename__ = "order_key"

    public_key: str = Field(primary_key=True)  # Ed25519, base64
    made_at_ms: int = Field(sa_type=BigInteger)


class WriterRow(Row, table=True):
    """The table's only row: the process that last took the writer lock, and how often the lock was taken."""

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
LOSS: Table = LossRow.__table__  # type: ignore[attr-defined]
TALLY: Table = TallyRow.__table__  # type: ignore[attr-defined]
RENTAL: Table = RentalRow.__table__  # type: ignore[attr-defined]
INVOICE: Table = InvoiceRow.__table__  # type: ignore[attr-defined]
INVOICE_LINE: Table = InvoiceLineRow.__table__  # type: ignore[attr-defined]
POSTING: Table = PostingRow.__table__  # type: ignore[attr-defined]
COST_ENTRY: Table = CostEntryRow.__table__  # type: ignore[attr-defined]
STANDING: Table = StandingRow.__table__  # type: ignore[attr-defined]
COST_MONTHLY: Table = CostMonthlyRow.__table__  # type: ignore[attr-defined]
CLOSED_PERIOD: Table = ClosedPeriodRow.__table__  # type: ignore[attr-defined]
BUDGET: Table = BudgetRow.__table__  # type: ignore[attr-defined]
VERDICT: Table = VerdictRow.__table__  # type: ignore[attr-defined]
SCORE: Table = ScoreRow.__table__  # type: ignore[attr-defined]
CHROMA: Table = ChromaRow.__table__  # type: ignore[attr-defined]
CHROMA_CODE: Table = ChromaCodeRow.__table__  # type: ignore[attr-defined]
DUPLICATE: Table = DuplicateRow.__table__  # type: ignore[attr-defined]
SET_ASIDE: Table = SetAsideRow.__table__  # type: ignore[attr-defined]
STRIKE: Table = StrikeRow.__table__  # type: ignore[attr-defined]
LOGIN: Table = LoginRow.__table__  # type: ignore[attr-defined]
ORDER_KEY: Table = OrderKeyRow.__table__  # type: ignore[attr-defined]
WRITER: Table = WriterRow.__table__  # type: ignore[attr-defined]
