"""Columns that are never folded or cut: what stands in them can be copied, however narrow the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from orchestrator.cli.console import out


def print_columns(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
    """Print `rows`, the first of which are the headings; columns named in `right` are aligned so."""
    # By hand: a table of rich folds or cuts what is wider than the terminal.
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for index, (text, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - cell_len(text))
            cells.append(padding + text if index in right else text + padding)
        out.print("  ".join(cells).rstrip(), soft_wrap=True, markup=False)
