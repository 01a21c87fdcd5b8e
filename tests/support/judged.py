"""A catalog whose takes are in all states that a list tells apart, with the machine time that they took."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import update

from catalog.flaws import Flaw
from catalog.messages import AttemptMade, Span, SpansClosed, WorkerStopped
from catalog.sidecar import BatchNote, StageTimes
from catalog.track import Take
from catalog.verdicts import Verdict
from orchestrator.ledger import Ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.machines import WorkerPrice
from orchestrator.ledger.tables import RUN
from orchestrator.ledger.verdicts import record_verdicts
from tests.support.farm import attempt, started
from tests.support.makers import SHA, a_track, exactly

DULL: Final = Flaw(kind="dull", text="dull: nothing above 4 kHz", stops=False, value=4.0, limit=6.0, unit="kHz")
CLICKS: Final = Flaw(
    **{"kind": "click", "text": "clicks: 3, at 0:01.0-0:01.1 (limit 0)", "stops": False, "value": 3, "limit": 0},
    spans_s=[(1.0, 1.1), (2.0, 2.1), (75.5, 75.6)],
)
VOICE: Final = Flaw(kind="voice", text="voice: maybe a singer", stops=False, value=0.6, limit=0.5, spans_s=[(0, 2.5)])
MASTERED: Final = "1.0 LU below the target: its peaks leave no room"

LISTED, REFUSED, HEARD, SPARE, VOICED, AGAIN, BY_ENGINE, SAME = (
    a_track(slot).take(number)
    for slot, number in (
        *(("0001", 1), ("0002", 1), ("0003", 1), ("0003", 2), ("0002", 2), ("0004", 1), ("0005", 1), ("0006", 1)),
    )
)
TAKES: Final = (LISTED, REFUSED, HEARD, SPARE, VOICED, AGAIN, BY_ENGINE, SAME)
MS_OF_TAKE: Final = 1_000


def judged_catalog(ledger: Ledger, *, rate_usd_micros_per_h: int | None = 1_000_000) -> str:
    """Make and record the catalog; returns its run. Every attempt took a second of a machine at this price."""
    price = WorkerPrice("gpu", "a test", rate_usd_micros_per_h)
    run_id = str(ledger.begin_or_resume_run("spa", "tone", exactly(TAKES), tries=1).run_id)
    refused = {"reasons": ["dull: 3 kHz (limit 6)", "clicks: 9"], "audio_ms": 10_000}
    made = [
        _made(LISTED, 1, run_id, DULL, CLICKS),
        _attempt(REFUSED, 2, run_id, "rejected", **refused),
        *(_made(HEARD, 3, run_id, DULL), _made(SPARE, 4, run_id, CLICKS), _made(VOICED, 5, run_id, VOICE)),
        *(_attempt(AGAIN, 6, run_id, "failed", reasons=["the engine died"], retry=True), _made(AGAIN, 7, run_id)),
        *(_attempt(BY_ENGINE, 8, run_id, "rejected", reasons=["the text is too long"]), _made(SAME, 9, run_id)),
    ]
    spans = [
        Span(state="render", start_ms=at * MS_OF_TAKE, end_ms=(at + 1) * MS_OF_TAKE, batch_id=f"b{at}")
        for at in range(1, len(made) + 1)
    ]
    end_ms = 12 * MS_OF_TAKE
    records = [started(started_at_ms=0), SpansClosed(worker_id="w1", spans=spans, at_ms=end_ms), *made]
    with ledger.write() as connection:
        stopped = WorkerStopped(worker_id="w1", reason="done", at_ms=end_ms)
        record_facts(connection, [*records, stopped], lambda machine, at_ms: price, end_ms)
        said = [
            _verdict(HEARD, outcome="rejected", reason="too busy"),
            _verdict(SPARE, outcome="accepted", reason="chosen before it: take 1", spare=True),
            _verdict(SAME, outcome="rejected", reason=f"same as take {LISTED.id}"),
        ]
        assert record_verdicts(connection, said) == len(said)
        connection.execute(update(RUN).values(state="finished", finished_at_ms=end_ms))
    return run_id


def _attempt(take: Take, at: int, run_id: str, outcome: str = "accepted", **more: Any) -> AttemptMade:
    batch = BatchNote(id=f"b{at}", size=1, position=0, takes=[take.id])
    times = StageTimes(diffuse_ms=MS_OF_TAKE)
    return attempt(take, outcome, run_id=run_id, at_ms=(at + 1) * MS_OF_TAKE, batch=batch, times=times, **more)


def _made(take: Take, at: int, run_id: str, *flaws: Flaw) -> AttemptMade:
    made = _attempt(take, at, run_id, audio_ms=10_000)
    assert made.sidecar is not None
    texts = [flaw.text for flaw in flaws]
    warnings = [*texts, MASTERED] if take is LISTED else texts
    measures = made.sidecar.measures.model_copy(update={"warnings": warnings, "flaws": list(flaws)})
    changed = {"record_id": made.record_id, "measures": measures, "created_at_ms": made.at_ms}
    return made.model_copy(update={"sidecar": made.sidecar.model_copy(update=changed)})


def _verdict(take: Take, **said: Any) -> Verdict:
    return Verdict(catalog="spa", take_id=take.id, audio_sha256=SHA, at_ms=20_000, **said)
