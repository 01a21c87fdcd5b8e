"""Flaws: what the checks found wrong with a take's audio, for programs to count and for people to read.

A reason or a warning of the checks begins with the words of its kind. So takes can be counted by kind from their
reasons alone, also where the flaws themselves were not kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field

from catalog.bounded import Label, Words
from catalog.forms import Frozen

Seconds = Annotated[float, Field(ge=0, le=86_400)]

# A kind keeps its slug; a newer worker may report kinds that are not listed here.
KINDS: Final[dict[str, str]] = {
    "voice": "voice",
    "wrong-length": "shape",
    "not-finite": "samples are not finite",
    "digital-silence": "digital silence",
    "near-silence": "near silence",
    "silent-head": "silent head",
    "silence-inside": "silence inside",
    "silent-tail": "silent tail",
    "dropout": "dropouts",
    "dead-channel": "dead channel",
    "unbalanced": "unbalanced channels",
    "antiphase": "channels in antiphase",
    "polarity": "one channel inverted",
    "mono": "mono",
    "noise": "like noise",
    "noise-in-part": "noise in part",
    "clipping": "clipped",
    "click": "clicks",
    "loop": "loop",
    "frozen": "frozen",
    "shuffled": "shuffled",
    "dull": "dull",
    "steady-tone": "steady tone",
    "hum": "hum",
    "comb": "comb filter",
}
# Broken audio, of which no catalog can have a use.
BROKEN: Final = frozenset({"wrong-length", "not-finite", "digital-silence"})
# What a catalog may say of a kind of flaw: the take is rejected, or accepted with a warning, or nothing is said.
FlawPolicy = Literal["reject", "warn", "off"]
_SLUGS: Final = {words: slug for slug, words in KINDS.items()}
_BEGINNING: Final = re.compile(rf"(?:\d+ )?({'|'.join(map(re.escape, _SLUGS))})\b")


class Flaw(Frozen):
    """One fault of one take: its kind, the measured value with its limit, and the seconds it concerns."""

    kind: Label
    text: Words  # for a person; begins with the words of the kind
    stops: bool  # True: the take is rejected for it
    value: float
    limit: float
    unit: Label = ""
    spans_s: list[tuple[Seconds, Seconds]] = []  # from, to; none: it concerns the whole take


def kind_of_reason(reason: str) -> str:
    """The kind of flaw that a reason or a warning tells of; "" when it tells of none."""
    found = _BEGINNING.match(reason)
    return _SLUGS[found[1]] if found else ""


def count_kinds(warnings: Iterable[str], flaws: Iterable[Flaw] = ()) -> Counter[str]:
    """Kind -> number of places in the take, 1 for the whole; a warning of no kind comes from the mastering."""
    known = {flaw.text: flaw for flaw in flaws}
    places: Counter[str] = Counter()
    for text in warnings:
        flaw = known.get(text)
        places[flaw.kind if flaw else kind_of_reason(text) or "mastering"] += len(flaw.spans_s) if flaw else 0
    return Counter({kind: max(1, count) for kind, count in places.items()})


def in_words(spans_s: list[tuple[float, float]], shown_max: int = 3) -> str:
    """Spans as a person reads them: "0:41.0-0:43.5, 1:10.2-1:11.0 and 4 more"."""
    shown = [f"{_clock(begin_s)}-{_clock(end_s)}" for begin_s, end_s in spans_s[:shown_max]]
    further = f" and {len(spans_s) - shown_max} more" if len(spans_s) > shown_max else ""
    return ", ".join(shown) + further


def _clock(seconds: float) -> str:
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"
