"""Takes for benches: no two have the same prompt or seed, so that nothing is read, written or remembered twice."""

from __future__ import annotations

from typing import Any

from catalog.limits import BPM_MAX, BPM_MIN
from catalog.track import Take
from tests.support.makers import a_take

_TEMPI = BPM_MAX - BPM_MIN + 1


def different_takes(first: int, count: int, **fields: Any) -> list[Take]:
    """Takes `first` up to `first + count` of an endless row; fields of their spec may be named."""
    caption = fields.pop("caption", "warm felt piano over a slow pad")
    return [
        a_take(
            f"{number:06d}",
            caption=f"{caption}, part {number // _TEMPI}" if number >= _TEMPI else caption,
            bpm=BPM_MIN + number % _TEMPI,
            **fields,
        )
        for number in range(first, first + count)
    ]
