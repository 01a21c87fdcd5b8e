"""Fault-tolerant reading: an unreadable object is reported and skipped; an unreachable store ends the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from catalog.errors import StoreError
from catalog.sidecar import Sidecar, parse_sidecar
from catalog.store import Store

_T = TypeVar("_T")


class UnreadableError(Exception):
    """The store gives other objects and refuses this one; the message says why."""


def ask(store: Store, key: str, question: Callable[[], _T]) -> _T:
    """The store's answer about the object at `key`.

    Raises UnreadableError when it refuses this object alone, StoreError when it does not answer at all.
    """
    try:
        return question()
    except StoreError:
        next(store.list(f"{key.partition('/')[0]}/"), None)
    try:
        return question()  # the store answers, so the first refusal may have been its moment's, not the object's
    except StoreError as error:
        raise UnreadableError(": ".join(filter(None, (error.what, error.why)))) from None


def read_sidecar(store: Store, key: str, take_id: str) -> Sidecar | None:
    """The sidecar at `key`; None when there is none.

    Raises UnreadableError for an object that the store refuses, NewerSidecarError for one that only a newer version
    can read, MessageError for a damaged one.
    """
    body = ask(store, key, lambda: store.find(key))
    return None if body is None else parse_sidecar(body, take_id)
