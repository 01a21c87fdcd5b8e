"""Parallel calls: many calls on the store at once, with their results in order and a bounded number in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

THREADS: Final = 16  # a request at S3 takes tens of milliseconds, so that some hundreds a second are answered
_AHEAD: Final = 4  # items in hand for each thread

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def abreast(call: Callable[[_In], _Out], items: Iterable[_In], jobs: int = THREADS) -> Iterator[_Out]:
    """`call` of each item, `jobs` at once, in the items' order; `items` is read only a little ahead."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="upkeep") as threads:
        under_way: deque[Future[_Out]] = deque()
        try:
            for item in items:
                under_way.append(threads.submit(call, item))
                if len(under_way) >= _AHEAD * jobs:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for each in under_way:
                each.cancel()
