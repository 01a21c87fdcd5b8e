"""Verdicts: what somebody decided about a finished track after listening. The newest word on a rendition counts.

A rejected track stays in the store and in the ledger, leaves its catalog's list, and its cost counts as wasted. The
same seed would sound the same again, so it is not rendered anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select

from orchestrator.ledger.facts import unsettle_makers
from orchestrator.ledger.tables import VERDICT, RenditionRow


def write_verdicts(
    connection: Connection, renditions: Sequence[RenditionRow], outcome: str, reason: str, at_ms: int
) -> int:
    """Accept or reject renditions; how many had another verdict before, or none and are rejected."""
    standing = _standing(connection, [each.record_id for each in renditions])
    changed = [each for each in renditions if standing.get(each.record_id, "accepted") != outcome]
    rows = [
        {"record_id": each.record_id, "take_id": each.take_id, "outcome": outcome, "reason": reason, "at_ms": at_ms}
        for each in changed
    ]
    if rows:
        connection.execute(insert(VERDICT), rows)
        unsettle_makers(connection, [each.take_id for each in changed])
    return len(changed)


def is_kept(record_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Of a rendition: nobody has rejected it, or somebody has accepted it again since."""
    newest = select(func.max(VERDICT.c.verdict_id)).group_by(VERDICT.c.record_id)
    rejected = select(VERDICT.c.record_id).where(VERDICT.c.verdict_id.in_(newest), VERDICT.c.outcome == "rejected")
    return record_id.not_in(rejected)


def _standing(connection: Connection, record_ids: list[str]) -> dict[str, Any]:
    query = select(VERDICT.c.record_id, VERDICT.c.outcome).where(VERDICT.c.record_id.in_(record_ids))
    return {row.record_id: row.outcome for row in connection.execute(query.order_by(VERDICT.c.verdict_id))}
