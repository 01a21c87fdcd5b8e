"""Figures: the roll-up rows of a month, grouped, summed and rounded for print.

Sums are exact micro-dollars. Rounding happens only for print, for all cells of a table together: the cells of a column
add up to the column's total, the cells of a row to the row's total, and the bottom line of every table about the month
is the same. A unit cost is None when its divisor is zero or when it covers time without a known price.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from catalog.errors import UnknownNameError
from catalog.split import split
from orchestrator.finance.allocation.charges import WASTED, CostGroup, CostRow, group_of
from orchestrator.finance.money import MICROS_PER_USD
from orchestrator.ledger.observations import UNALLOCATED, Category

FIELD_OF_CUT: Final = {
    "catalog": "catalog",
    "zone": "zone",
    "genre": "genre",
    "run": "run_id",
    "provider": "provider",
    "gpu": "gpu",
    "market": "market",
    "month": "period",  # in which it is booked
    "belongs to": "applies_to",
}
DIRECT: Final = (CostGroup.DIRECT,)
LOADED: Final = (CostGroup.DIRECT, CostGroup.WASTED)
FULLY_LOADED: Final = tuple(CostGroup)
WASTE_REASONS: Final = WASTED

MICRO: Final = 1
CENT: Final = MICROS_PER_USD // 100
_CENTS_FROM: Final = 10 * MICROS_PER_USD  # below ten dollars a cent is too coarse to tell rows apart
_MS_PER_MIN: Final = 60_000
_NO_NAME: Final = "(none)"

Key = TypeVar("Key", bound=str | tuple[str, ...])


@dataclass(slots=True)
class Sums:
    """The sums of some rows: money in micro-dollars, and the time that has no known price."""

    usd_micros: Counter[Category] = field(default_factory=Counter)
    unpriced_ms: Counter[Category] = field(default_factory=Counter)
    ms: Counter[Category] = field(default_factory=Counter)
    attempts_at: Counter[Category] = field(default_factory=Counter)
    tracks: int = 0  # accepted
    audio_ms: int = 0  # accepted

    def add(self, row: CostRow) -> None:
        """Add a row."""
        self.usd_micros[row.category] += row.usd_micros
        self.unpriced_ms[row.category] += row.unpriced_ms
        self.ms[row.category] += row.ms
        self.attempts_at[row.category] += row.attempts
        self.tracks += row.tracks
        self.audio_ms += row.audio_ms

    def merge(self, other: Sums) -> None:
        """Add other sums."""
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            mine.update(theirs)
        self.tracks += other.tracks
        self.audio_ms += other.audio_ms

    def _counters(self) -> tuple[Counter[Category], ...]:
        return self.usd_micros, self.unpriced_ms, self.ms, self.attempts_at

    def usd(self, groups: Iterable[CostGroup] = FULLY_LOADED) -> int:
        """Micro-dollars of some columns; of all of them when none is named."""
        chosen = set(groups)
        return sum(micros for category, micros in self.usd_micros.items() if group_of(category) in chosen)

    def unpriced(self, groups: Iterable[CostGroup] = FULLY_LOADED) -> int:
        """Milliseconds in them that have no known price."""
        chosen = set(groups)
        return sum(ms for category, ms in self.unpriced_ms.items() if group_of(category) in chosen)

    def is_unknown(self, groups: Iterable[CostGroup] = FULLY_LOADED) -> bool:
        """True when the rows have time and none of it has a known price."""
        groups = tuple(groups)
        return bool(self.unpriced(groups)) and not self.usd(groups)

    @property
    def attempts(self) -> int:
        """The number of tries, with any outcome."""
        return sum(self.attempts_at.values())

    @property
    def total_ms(self) -> int:
        """Paid time."""
        return sum(self.ms.values())

    def per_track(self, groups: Sequence[CostGroup] = FULLY_LOADED) -> int | None:
        """Micro-dollars of an accepted track, rounded; None without any, or where a price is unknown."""
        return None if self.unpriced(groups) else quotient(self.usd(groups), self.tracks)

    def per_audio_min(self, groups: Sequence[CostGroup] = FULLY_LOADED) -> int | None:
        """Micro-dollars of an accepted minute of audio, rounded; None as for a track."""
        return None if self.unpriced(groups) else quotient(self.usd(groups) * _MS_PER_MIN, self.audio_ms)


def quotient(amount: int, count: int) -> int | None:
    """`amount` by `count`, rounded to the nearest; None where there is nothing to divide by."""
    return (2 * amount + count) // (2 * count) if count > 0 else None


class Line(NamedTuple):
    """One line of a pivot; `name` holds the values of its cuts."""

    name: tuple[str, ...]
    sums: Sums


class Pivot(NamedTuple):
    """Rows summed up by some cuts, the dearest line first, and the sum of all."""

    cuts: tuple[str, ...]
    lines: list[Line]
    total: Sums


def shown(name: str) -> str:
    """A name as tables show it: rows that have none say so."""
    return name if name.strip() else _NO_NAME


def pivot(rows: Iterable[CostRow], *cuts: str) -> Pivot:
    """Sum `rows` up by `cuts`. Months come in order, other names by amount; amounts without a payer come last.

    Raises UnknownNameError for a cut that does not exist.
    """
    for cut in cuts:
        if cut not in FIELD_OF_CUT:
            raise UnknownNameError(f"there is no pivot by {cut!r}", fix=f"choose from {', '.join(FIELD_OF_CUT)}")
    fields = [FIELD_OF_CUT[cut] for cut in cuts]
    sums: defaultdict[tuple[str, ...], Sums] = defaultdict(Sums)
    total = Sums()
    for row in rows:
        sums[tuple(getattr(row, each) for each in fields)].add(row)
        total.add(row)
    lines = [Line(name, each) for name, each in sums.items()]
    if cuts[:1] in (("month",), ("belongs to",)):
        lines.sort()
    else:
        lines.sort(key=lambda line: (UNALLOCATED.catalog in line.name, -line.sums.usd(), line.name))
    return Pivot(cuts, lines, total)


def shares_of(weights: Mapping[Key, int]) -> dict[Key, int] | None:
    """Shares in tenths of a percent that add up to a thousand; None where the whole is not above zero.

    Credits make a share negative: those of the others then add up to more than a thousand.
    """
    whole = sum(weights.values())
    if whole <= 0:
        return None
    if min(weights.values()) >= 0:
        return split(1000, weights)
    return _largest_remainders(1000, {key: divmod(1000 * weight, whole) for key, weight in weights.items()})


def rounded_together(cells: Mapping[Key, int], unit: int, total: int | None = None) -> dict[Key, int]:
    """Cells as whole units that add up to `total`, which by default is the rounded sum of the cells.

    As `split`, for amounts of both signs: each cell is within one unit of its exact amount, and zero stays zero. A
    total that is no rounding of the sum, such as that of a line whose other cells were rounded, moves a cell once more.
    """
    if total is None:
        total = rounded(sum(cells.values()), unit)
    return _largest_remainders(total, {key: divmod(amount, unit) for key, amount in cells.items()})


def rounded(amount: int, unit: int) -> int:
    """`amount` in units, the half rounded up."""
    return (amount + unit // 2) // unit


def _largest_remainders(total: int, parts: Mapping[Key, tuple[int, int]]) -> dict[Key, int]:
    """Whole parts, and one more for the largest remainders, until they add up to `total`; ties go by key."""
    shares = {key: whole for key, (whole, _) in parts.items()}
    left_over = total - sum(shares.values())
    step = 1 if left_over >= 0 else -1
    carriers = [key for key, part in parts.items() if part != (0, 0)] or list(parts)
    order = sorted(carriers, key=lambda key: (-step * parts[key][1], key))
    for turn in range(abs(left_over)):
        shares[order[turn % len(order)]] += step
    return shares


def unit_of(amounts: Iterable[int]) -> int:
    """The unit to print a table in: a cent, or a micro-dollar when nothing reaches ten dollars and it would show."""
    amounts = tuple(amounts)
    is_coarse_enough = max(map(abs, amounts), default=0) >= _CENTS_FROM or not any(each % CENT for each in amounts)
    return CENT if is_coarse_enough else MICRO


class RoundedTable(NamedTuple):
    """The month's money rounded for print, in units, by column of the report."""

    unit: int  # micro-dollars
    groups: Mapping[CostGroup, int]

    @property
    def total(self) -> int:
        """All of it, in units."""
        return sum(self.groups.values())

    def lines(self, table: Pivot) -> list[dict[CostGroup, int]]:
        """Units of each cell of a pivot over all rows of the month: each column adds up to this paper's.

        So that a line's own sum, too, is a rounding of what it was, cells that were rounded up are exchanged for
        others of their column wherever that is possible.
        """
        names = [f"{index:09d}" for index in range(len(table.lines))]
        sums = {name: line.sums for name, line in zip(names, table.lines, strict=True)}
        cells = {group: {name: each.usd([group]) for name, each in sums.items()} for group in self.groups}
        units = {group: rounded_together(cells[group], self.unit, total) for group, total in self.groups.items()}
        wanted = rounded_together({name: each.usd() for name, each in sums.items()}, self.unit, self.total)
        _settle(units, cells, self.unit, wanted)
        return [{group: units[group][name] for group in CostGroup} for name in names]

    def categories(self, total: Sums) -> dict[Category, int]:
        """Units by category: those of a column add up to it."""
        cells: dict[Category, int] = {}
        for group, units in self.groups.items():
            of_group = {each: total.usd_micros[each] for each in Category if group_of(each) is group}
            cells.update(rounded_together(of_group, self.unit, units))
        return cells


def _settle(
    units: Mapping[CostGroup, dict[str, int]],
    cells: Mapping[CostGroup, Mapping[str, int]],
    unit: int,
    wanted: Mapping[str, int],
) -> None:
    """Move units between lines, within their columns, until every line that can be has the wanted sum."""
    excess = {name: sum(column[name] for column in units.values()) - want for name, want in wanted.items()}
    for name in [name for name, more in excess.items() for _ in range(more)]:
        came_from, end = _find_taker(name, units, cells, unit, excess)
        if end:
            excess[name], excess[end] = excess[name] - 1, excess[end] + 1
            _exchange(units, came_from, end)


def _find_taker(
    name: str,
    units: Mapping[CostGroup, Mapping[str, int]],
    cells: Mapping[CostGroup, Mapping[str, int]],
    unit: int,
    excess: Mapping[str, int],
) -> tuple[dict[str, tuple[str, CostGroup]], str]:
    """The nearest line that wants a unit more, and the way to it: from which line, in which column, it would come.

    A cell gives when it was rounded up, and takes when it was rounded down.
    """
    came_from: dict[str, tuple[str, CostGroup]] = {}
    queue = [name]
    for giver in queue:
        for group, column in units.items():
            if column[giver] * unit <= cells[group][giver]:
                continue
            for taker, units_of_it in column.items():
                if taker == name or taker in came_from or units_of_it * unit >= cells[group][taker]:
                    continue
                came_from[taker] = (giver, group)
                if excess[taker] < 0:
                    return came_from, taker
                queue.append(taker)
    return came_from, ""


def _exchange(
    units: Mapping[CostGroup, dict[str, int]], came_from: Mapping[str, tuple[str, CostGroup]], end: str
) -> None:
    """Hand one unit along a path of lines."""
    while end in came_from:
        giver, group = came_from[end]
        units[group][giver] -= 1
        units[group][end] += 1
        end = giver


def paper_of(total: Sums) -> RoundedTable:
    """The rounded table for a month with these sums."""
    amounts = {group: total.usd([group]) for group in CostGroup}
    unit = unit_of((*amounts.values(), total.usd()))
    return RoundedTable(unit, rounded_together(amounts, unit))


def money(units: int, unit: int = MICRO) -> str:
    """Units of money as dollars: two decimals for cents, six for micro-dollars, and a true minus sign."""
    whole, part = divmod(abs(units), MICROS_PER_USD // unit)
    places = len(str(MICROS_PER_USD // unit)) - 1
    return f"{'−' if units < 0 else ''}${whole:,}.{part:0{places}d}"


def brief_money(micros: int) -> str:
    """An amount on its own: two decimals, or six where two would hide a part of less than a dollar."""
    is_exact_in_cents = micros % CENT == 0
    if abs(micros) >= MICROS_PER_USD or is_exact_in_cents:
        return money(rounded(micros, CENT), CENT)
    return money(micros)
