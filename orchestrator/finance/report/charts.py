"""Charts: inline SVG whose text keeps its size on every screen.

Lengths are percentages of the available width; heights are pixels. Every chart has a text that says what it shows, each
part has a title, and parts differ by pattern as well as by colour. So a reader needs neither colour nor a mouse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

_LABEL_MAX: Final = 60  # characters; a narrow phone cuts them sooner
_ROW_PX: Final = 46
_BAR_PX: Final = 16
_PLOT_PX: Final = 190
_TICKS_PX: Final = 64  # room for the numbers beside a plot
_TICKS_MAX: Final = 4
_SCALE: Final = 10_000  # steps of a percentage: two decimals
_BUDGETS_MAX_PER_MILLE: Final = 2_000  # a bar ends at twice its budget


class Part(NamedTuple):
    """A part of a bar: its name, look, length and printed amount."""

    name: str
    style: str
    amount: int
    text: str


class ChartBar(NamedTuple):
    """A labelled bar of one or more parts; negative parts extend to the other side."""

    label: str
    text: str
    parts: Sequence[Part]

    @property
    def low(self) -> int:
        """The sum of the negative parts."""
        return sum(min(0, part.amount) for part in self.parts)

    @property
    def high(self) -> int:
        """The sum of the positive parts."""
        return sum(max(0, part.amount) for part in self.parts)


class ForecastRange(NamedTuple):
    """A forecast between its bounds."""

    label: str
    text: str
    spread: str
    low: int
    middle: int
    high: int


class Fill(NamedTuple):
    """The used share of a budget, in tenths of a percent."""

    label: str
    text: str
    used_per_mille: int


def clipped(text: str, length: int = _LABEL_MAX) -> str:
    """`text`, or its beginning with an ellipsis."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def one_bar(ident: str, title: str, parts: Sequence[Part]) -> Markup:
    """The whole as one bar; its legend stands beside."""
    positive = [part._replace(amount=max(0, part.amount)) for part in parts]
    whole = sum(part.amount for part in positive)
    body = Markup("").join(_segments(positive, 0, whole, 0, 26)) if whole else Markup("")
    return _svg(ident, title, _in_words(parts), 26, body)


def bars(ident: str, title: str, rows: Sequence[ChartBar], rest: ChartBar | None = None) -> Markup:
    """Bars under each other on one scale, each with its label and amount above it.

    `rest` is the bar of the omitted rows; it is drawn only if it is no longer than the others, which it would dwarf.
    """
    low, high = min((row.low for row in rows), default=0), max((row.high for row in rows), default=0)
    is_drawn = rest is not None and rest.high <= high and rest.low >= low
    body = []
    for index, row in enumerate(rows if rest is None else [*rows, rest]):
        top = index * _ROW_PX
        body.append(_labels(row.label, row.text, top))
        if row is rest and not is_drawn:
            body.append(_line("rest", "0", "100%", top + 21 + _BAR_PX // 2, top + 21 + _BAR_PX // 2))
            continue
        body.extend(_segments(row.parts, low, high, top + 21, _BAR_PX))
        if low < 0:
            zero = _percent(-low, high - low)
            body.append(_line("axis", zero, zero, top + 18, top + 24 + _BAR_PX))
    count = len(rows) + (rest is not None)
    words = "; ".join(f"{row.label} {row.text}" for row in (rows if rest is None else [*rows, rest]))
    return _svg(ident, title, words, count * _ROW_PX, Markup("").join(body))


def columns(ident: str, title: str, rows: Sequence[ChartBar], ticks: Sequence[tuple[int, str]]) -> Markup:
    """Stacked columns side by side; the label of each is below it, `ticks` are the lines behind them."""
    low = min([row.low for row in rows], default=0)
    high = max([*(row.high for row in rows), *(amount for amount, _ in ticks)], default=0)
    scale = _Heights(low, high)
    body, numbers = [], []
    for amount, text in ticks:
        y = scale.y(amount)
        body.append(_line("grid" if amount else "axis", "0", "100%", y, y))
        numbers.append(_text("tick", str(_TICKS_PX - 8), f"{float(y) + 4:.1f}", "end", text))
    for index, row in enumerate(rows):
        body.extend(_column(index, len(rows), row, scale))
    words = "; ".join(f"{row.label} {row.text}" for row in rows)
    height = _PLOT_PX + 48
    left = Markup('<svg class="chart numbers" width="{}" height="{}" aria-hidden="true">{}</svg>').format(
        _TICKS_PX, height, Markup("").join(numbers)
    )
    chart = _svg(ident, title, words, height, Markup("").join(body))
    return Markup('<div class="plot">{}{}</div>').format(left, chart)


def fills(ident: str, title: str, rows: Sequence[Fill]) -> Markup:
    """The used share of each budget: the line marks the budget, the part beyond it is over budget."""
    end = max([1_100, *(min(row.used_per_mille, _BUDGETS_MAX_PER_MILLE) for row in rows)])
    body = []
    budget = _percent(1000, end)
    for index, row in enumerate(rows):
        top = index * _ROW_PX
        used = max(0, min(row.used_per_mille, end))
        body.append(_labels(row.label, row.text, top))
        body.append(_rect("track", "0", budget, top + 21, _BAR_PX, ""))
        inside = min(used, 1000)
        if inside:
            body.append(_rect("f-direct", "0", _percent(inside, end), top + 24, _BAR_PX - 6, row.text))
        if used > 1000:
            body.append(_rect("f-wasted", budget, _percent(used - 1000, end), top + 24, _BAR_PX - 6, row.text))
        body.append(_line("mark", budget, budget, top + 18, top + 21 + _BAR_PX))
    words = "; ".join(f"{row.label}: {row.text}" for row in rows)
    return _svg(ident, title, words, len(rows) * _ROW_PX, Markup("").join(body))


def ranges(ident: str, title: str, rows: Sequence[ForecastRange]) -> Markup:
    """Each forecast as a dot between its bounds."""
    end = max((row.high for row in rows), default=0) * 105 // 100 or 1
    body = []
    for index, row in enumerate(rows):
        top = index * _ROW_PX
        body.append(_labels(row.label, row.text, top))
        body.append(_line("grid", "0", "100%", top + 29, top + 29))
        width = _percent(row.high - row.low, end)
        body.append(_rect("spread", _percent(row.low, end), width, top + 24, 10, row.spread))
        dot = Markup('<circle class="dot" cx="{}" cy="{}" r="6"/>')
        body.append(dot.format(_percent(row.middle, end), top + 29))
    words = "; ".join(f"{row.label}: {row.text}, from {row.spread}" for row in rows)
    return _svg(ident, title, words, len(rows) * _ROW_PX, Markup("").join(body))


def swatch(style: str) -> Markup:
    """A small square in the look of a part."""
    return Markup('<svg class="swatch" width="12" height="12" aria-hidden="true">') + _rect(
        style, "0", "12", 0, 12, ""
    ) + Markup("</svg>")  # fmt: skip


def tick_amounts(low: int, high: int) -> list[int]:
    """A few round amounts from `low` to above `high`, zero among them."""
    high = max(0, high)
    step = next(step for step in _steps() if -(-high // step) + -low // step <= _TICKS_MAX)
    return [step * number for number in range(-(-low // step), -(-high // step) + 1)]


def _steps() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


class _Heights:
    """The scale that places amounts in a plot of columns."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._whole = low, max(1, high - low)

    def y(self, amount: int) -> str:
        down = (self._whole - (amount - self._low)) * _PLOT_PX * 10 // self._whole
        return f"{down / 10 + 8:.1f}"


def _column(index: int, count: int, row: ChartBar, scale: _Heights) -> Iterator[Markup]:
    slot = _SCALE // max(1, count)
    left, width = f"{(index * slot + slot // 6) / 100:.2f}%", f"{slot * 2 // 3 / 100:.2f}%"
    up = down = 0
    for part in row.parts:
        if not part.amount:
            continue
        first = up if part.amount > 0 else down
        up, down = (up + part.amount, down) if part.amount > 0 else (up, down + part.amount)
        top, bottom = scale.y(max(first, first + part.amount)), scale.y(min(first, first + part.amount))
        hover = f"{row.label}: {part.name} {part.text}"
        yield _rect(part.style, left, width, top, f"{max(0.5, float(bottom) - float(top)):.1f}", hover)
    middle = f"{(index * slot + slot // 2) / 100:.2f}%"
    name, _, year = row.label.partition(" ")
    # Twelve names collide on a phone: every other one gives way there, never the last.
    yield _text("name" if (count - index) % 2 else "name alternate", middle, str(_PLOT_PX + 28), "middle", name[:3])
    if year and (index == 0 or name.startswith("Jan")):
        yield _text("tick", middle, str(_PLOT_PX + 43), "middle", year)


def _segments(parts: Sequence[Part], low: int, high: int, y: int, height: int) -> Iterator[Markup]:
    """The parts of a bar, from zero to both sides."""
    whole = high - low
    up = down = -low
    for part in parts:
        if not part.amount or not whole:
            continue
        width = abs(part.amount)
        start = up if part.amount > 0 else down - width
        up, down = (up + width, down) if part.amount > 0 else (up, down - width)
        yield _rect(part.style, _percent(start, whole), _percent(width, whole), y, height, f"{part.name} {part.text}")


def _labels(label: str, text: str, top: int) -> Markup:
    """A bar's label, which ends where its amount may begin, and the amount."""
    name = _text("name", "0", "14", "start", clipped(label), label)
    box = Markup('<svg x="0" y="{}" width="52%" height="20" overflow="hidden">{}</svg>').format(top, name)
    return box + _text("value", "100%", str(top + 14), "end", text)


def _svg(ident: str, title: str, words: str, height: int, body: Markup) -> Markup:
    return Markup(
        '<svg class="chart" role="img" width="100%" height="{height}" aria-labelledby="{id}-title {id}-words">'
        '<title id="{id}-title">{title}</title><desc id="{id}-words">{words}</desc>{body}</svg>'
    ).format(height=height, id=ident, title=title, words=words, body=body)


def _rect(style: str, x: str, width: str, y: int | str, height: int | str, hover: str) -> Markup:
    return Markup('<rect class="{}" x="{}" width="{}" y="{}" height="{}">{}</rect>').format(
        style, x, width, y, height, Markup("<title>{}</title>").format(hover) if hover else ""
    )


def _text(style: str, x: str, y: str, anchor: str, text: str, whole: str = "") -> Markup:
    hover = Markup("<title>{}</title>").format(whole) if whole not in ("", text) else ""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}{}</text>').format(
        style, x, y, anchor, hover, text
    )


def _line(style: str, x1: str, x2: str, y1: int | str, y2: int | str) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(style, x1, x2, y1, y2)


def _percent(part: int, whole: int) -> str:
    return f"{part * _SCALE // whole / 100:.2f}%" if whole else "0%"


def _in_words(parts: Sequence[Part]) -> str:
    return "; ".join(f"{part.name} {part.text}" for part in parts)
