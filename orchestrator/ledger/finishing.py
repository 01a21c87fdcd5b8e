"""Finished takes in the ledger: a take whose file was made from another take's audio has its place from then on.

Such a take was rendered with that other one, so its attempt took no worker's time. The other one stays as it is and
can have its place back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, select, update

from catalog.finishing import find_source
from catalog.sidecar import Sidecar
from catalog.track import Take
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.tables import RENDITION, TAKE, RenditionRow
from orchestrator.ledger.upkeep import write_from_sidecars

_PENDING = ("waiting", "sent")
_AT_ONCE = 200  # sidecars in memory


def takes_without_source(connection: Connection, catalog: str) -> frozenset[str]:
    """The listed takes of which no audio is kept that another file could be made from."""
    query = (
        select(TAKE.c.take_id, RENDITION.c.sidecar)
        .join(RENDITION, RENDITION.c.record_id == TAKE.c.rendition_id)
        .where(TAKE.c.catalog == catalog, TAKE.c.current, TAKE.c.state == "accepted")
        .execution_options(yield_per=_AT_ONCE)
    )
    return frozenset(take_id for take_id, values in connection.execute(query) if not _has_source(values))


def _has_source(values: dict[str, Any]) -> bool:
    try:
        return find_source(Sidecar.model_validate(values)) is not None
    except ValidationError:  # of a newer version of this program
        return False


def masters_of_finished(connection: Connection) -> set[str]:
    """Keys of the masters that takes were finished from."""
    origin, key = RENDITION.c.sidecar["origin"]["take_id"].as_string(), RENDITION.c.sidecar["master"]["audio"]["key"]
    query = select(key.as_string()).where(origin.is_not(None))
    return {found for found in connection.execute(query).scalars() if found}


def read_sidecars(ledger: Ledger, take_ids: Sequence[str]) -> dict[str, Sidecar]:
    """Take id -> its sidecar as the ledger has it; what cannot be read is left out."""
    query = (
        select(RENDITION.c.sidecar)
        .join(TAKE, TAKE.c.rendition_id == RENDITION.c.record_id)
        .where(TAKE.c.take_id.in_(take_ids))
    )
    found: dict[str, Sidecar] = {}
    with ledger.read() as connection:
        for values in connection.execute(query).scalars():
            try:
                sidecar = Sidecar.model_validate(values)
            except ValidationError:  # of a newer version of this program
                continue
            found[sidecar.take_id] = sidecar
    return found


def with_origins(connection: Connection, renditions: Sequence[RenditionRow]) -> list[RenditionRow]:
    """`renditions` with those that they were finished from: the same music, whose rendering has cost the money."""
    named = [each.sidecar["origin"] for each in renditions if each.sidecar.get("origin")]
    found = list(renditions)
    for origin in named:
        query = select(RENDITION).where(
            RENDITION.c.take_id == origin["take_id"], RENDITION.c.sha256 == origin["audio_sha256"]
        )
        found += [RenditionRow(**row) for row in connection.execute(query).mappings()]
    return found


def record_finished(connection: Connection, sidecars: Sequence[Sidecar]) -> int:
    """Give the takes of `sidecars` their slots; returns the number of them.

    A take that a run is about to send is left to the worker that will find it in the store.
    """
    named = [sidecar.take_id for sidecar in sidecars]
    query = select(TAKE.c.take_id).where(TAKE.c.take_id.in_(named), TAKE.c.state.in_(_PENDING))
    pending = set(connection.execute(query).scalars())
    ours = [sidecar for sidecar in sidecars if sidecar.take_id not in pending]
    write_from_sidecars(connection, ours)
    for sidecar in ours:
        give_slot(connection, sidecar.take)
    return len(ours)


def give_slot(connection: Connection, take: Take) -> None:
    """From now on `take` is the one that its catalog has in its slot."""
    slot = (TAKE.c.track_key == take.track.key) & (TAKE.c.number == take.number)
    others = update(TAKE).where(slot, TAKE.c.take_id != take.id, TAKE.c.current, TAKE.c.state.not_in(_PENDING))
    connection.execute(others.values(current=False))
    connection.execute(update(TAKE).where(TAKE.c.take_id == take.id).values(current=True))
