"""Verdicts in ledger and store: every verdict that one of them has is copied to the other.

A verdict is written to the store first. If the writer dies before it writes the ledger, the next repair finds the
difference and copies the newer verdict in either direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from catalog.errors import MessageError
from catalog.keys import take_of_verdict
from catalog.store import ObjectInfo, Store
from catalog.verdicts import NewerVerdictError, Verdict, parse_verdict
from orchestrator.ledger import Ledger
from orchestrator.ledger.verdicts import read_verdicts, record_verdicts, unrecorded
from orchestrator.upkeep.abreast import abreast
from orchestrator.upkeep.reading import UnreadableError, ask


@dataclass(slots=True)
class VerdictDifferences:
    """The differences between the ledger's and the store's verdicts."""

    unstored: list[Verdict] = field(default_factory=list)
    unrecorded: list[Verdict] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # keys of objects that are no verdict of their key
    unread: list[str] = field(default_factory=list)  # keys of those that a newer version wrote or the store refuses


class Unread(NamedTuple):
    """An object in a verdict's place that could not be read."""

    key: str
    is_damaged: bool  # False: a newer version wrote it, or the store refuses it


def store_verdicts(store: Store, verdicts: Iterable[Verdict]) -> None:
    """Write verdicts to the store; those that are there stay as they are."""
    for _ in abreast(lambda each: _put(store, each), verdicts):
        pass


def stored_verdicts(store: Store, catalog: str) -> Iterator[Verdict | Unread]:
    """Every verdict that the store has of a catalog, by take and instant."""

    def read(info: ObjectInfo) -> Verdict | Unread | None:
        try:
            body = ask(store, info.key, lambda: store.find(info.key))
            return None if body is None else parse_verdict(body, info.key)  # None: removed since it was listed
        except (MessageError, UnreadableError) as error:
            is_damaged = isinstance(error, MessageError) and not isinstance(error, NewerVerdictError)
            return Unread(info.key, is_damaged)

    listed = (info for info in store.list(f"{catalog}/verdicts/") if take_of_verdict(info.key))
    return (each for each in abreast(read, listed) if each is not None)


def compare_verdicts(store: Store, ledger: Ledger, catalogs: Iterable[str]) -> VerdictDifferences:
    """Collect the differences to mend. Two verdicts that disagree are both kept: the newest counts on both sides."""
    found = VerdictDifferences()
    for catalog in catalogs:
        stored: dict[str, Verdict] = {}
        for each in stored_verdicts(store, catalog):
            if isinstance(each, Verdict):
                stored[each.key] = each
            else:
                (found.damaged if each.is_damaged else found.unread).append(each.key)
        with ledger.read() as connection:
            ours = read_verdicts(connection, catalog)
            found.unrecorded += unrecorded(connection, catalog, stored.values())
        there = {*stored, *found.unread}
        found.unstored += [each for each in ours if each.key not in there]
    return found


def repair_verdicts(store: Store, ledger: Ledger, found: VerdictDifferences) -> None:
    """Copy to each side the verdicts that it lacks; a damaged object is replaced by the ledger's verdict or deleted.

    `ledger` must be fenced by the writer's lock.
    """
    with ledger.write():
        pass  # nothing is removed on behalf of a writer whose lock has passed to another
    for key in found.damaged:
        store.delete(key)
    store_verdicts(store, found.unstored)
    with ledger.write() as connection:
        record_verdicts(connection, found.unrecorded)


def _put(store: Store, verdict: Verdict) -> None:
    store.put_if_absent(verdict.key, verdict.to_json(), content_type="application/json")
