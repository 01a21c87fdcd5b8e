"""The page: the costs of a month in one HTML file that loads no other file.

The page needs no script, font or picture from elsewhere. Its layout suits a phone, a large screen, dark mode and paper.
Every table about the month has the same bottom line, and the printed cells add up to it by row and by column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from catalog.plain import plain_lines
from orchestrator.finance.report.charts import swatch
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.figures import paper_of, pivot
from orchestrator.finance.report.outlook import outlook_sections
from orchestrator.finance.report.sections import Month, headline, money_sections
from orchestrator.finance.report.words import DEFINITIONS, coverage_sentence, instant, month_name, state_sentence

_TEMPLATE: Final = "page.html"


def write_page(contents: Contents, path: Path) -> None:
    """Write the page of a month."""
    path.write_text(render_page(contents), encoding="utf-8", newline="\n")


def render_page(contents: Contents) -> str:
    """The page as text; the same month gives the same."""
    total = pivot(contents.rows).total
    month = Month(contents, total, paper_of(total))
    page = _templates().get_template(_TEMPLATE).render(
        title=month_name(contents.period),
        contents=contents,
        state=state_sentence(contents),
        first=instant(contents.start_ms, contents.time_zone),
        last=instant(contents.end_ms, contents.time_zone),
        complete_through=instant(contents.coverage.complete_through_ms, contents.time_zone),
        coverage=coverage_sentence(contents),
        headline=headline(month),
        sections=[*money_sections(month), *outlook_sections(month)],
        definitions=DEFINITIONS,
    )  # fmt: skip
    return plain_lines(page)  # the templates escape HTML's characters, but no control or bidirectional characters


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"swatch": swatch}
    environment.filters.update(filters)
    return environment
