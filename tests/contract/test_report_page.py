"""The page needs nothing but itself, every table on it adds up along and down, and no name breaks it."""

from __future__ import annotations

import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings

from orchestrator.finance.allocation.charges import CostGroup
from orchestrator.finance.report import charts
from orchestrator.finance.report.charts import ChartBar, Part, tick_amounts
from orchestrator.finance.report.page import render_page
from orchestrator.ledger.observations import Category
from tests.support.cost_contents import a_big_month, a_full_month, a_row, contents_of, example_rows, months

VOID = {"meta", "link", "br", "rect", "circle", "line"}
GROUPS = {str(group) for group in CostGroup}
NO_SUM = {"per track", "per audio min", "of the zone's costs", "used", "past error", "note", "group"}
ALONG = (GROUPS, "fully loaded"), ({"rejected", "failed", "lost"}, "wasted")


class Page(HTMLParser):
    """Reads tables, and sees to it that every element is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tables, self.ids, self.words, self.references = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.references += [value for name, value in attrs if name in ("href", "src", "xlink:href", "data", "action")]
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "table":
            self.tables.append({"thead": [], "tbody": [], "tfoot": [], "caption": ""})
        if tag in ("thead", "tbody", "tfoot"):
            self.part = self.tables[-1][tag]
        if tag == "tr":
            self.part.append([])
        if tag in ("td", "th"):
            self.part[-1].append("")
        if tag not in VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass  # closed at once

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)
        if self.open and self.open[-1] in ("td", "th"):
            self.part[-1][-1] += text
        if self.open and self.open[-1] == "caption":
            self.tables[-1]["caption"] += text


def amount(cell):
    """The number in a cell, or None for a word."""
    plain = cell.replace("−", "-").replace("$", "").replace(",", "").removesuffix(" %")
    return Decimal(plain) if re.fullmatch(r"-?\d+(\.\d+)?", plain) else None


def check_sums(page):
    """Add every table up; how many columns there were."""
    columns = 0
    for table in page.tables:
        (heads,) = table["thead"]
        lines = [*table["tbody"], *table["tfoot"]]
        for line in lines:
            for parts, whole in ALONG:
                if whole in heads and parts & set(heads) and len(line) == len(heads):
                    total = amount(line[heads.index(whole)]) or 0
                    found = sum(amount(cell) or 0 for head, cell in zip(heads, line, strict=True) if head in parts)
                    assert found == total, (table["caption"], line)
        for index, head in enumerate(heads):
            if not table["tfoot"] or head in NO_SUM or amount(table["tfoot"][0][index]) is None:
                continue
            body = [line for line in table["tbody"] if len(line) == len(heads)]
            total = sum(amount(line[index]) or 0 for line in body)
            assert total == amount(table["tfoot"][0][index]), (table["caption"], head)
            columns += 1
    return columns


def test_the_worked_example_reads_as_finance_knows_it():
    page = Page(render_page(a_full_month(example_rows())))
    text = " ".join(" ".join(page.words).split())
    assert "Fully loaded $2.55" in text
    assert "Per accepted track $0.001244" in text
    assert "$0.364200 14.3 % of all" in text
    assert "direct $1.766600, 69.3 %" in text or "69.3 %" in text
    zones = next(table for table in page.tables if table["caption"] == "Costs by zone")
    assert zones["tbody"][0][0] == "A"
    assert zones["tbody"][0][5] == "$1.577907"
    assert check_sums(page) > 20


@pytest.mark.parametrize("rows", [a_big_month(), a_big_month(zones=200, genres=3, scale=300), [a_row()], []])
def test_every_table_adds_up_along_and_down(rows):
    for contents in (a_full_month(rows), contents_of(rows)):
        page = Page(render_page(contents))
        check_sums(page)
        assert len(page.ids) == len(set(page.ids))


@settings(max_examples=40, deadline=None)
@given(rows=months())
def test_whatever_the_rows_are_the_page_is_whole_and_adds_up(rows):
    page = Page(render_page(a_full_month(rows)))
    check_sums(page)
    assert "nan" not in page.words


def test_nothing_is_fetched():
    text = render_page(a_full_month(a_big_month()))
    page = Page(text)
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<img|<iframe|\son[a-z]+=", text)


def test_the_same_month_gives_the_same_page():
    rows = a_big_month()
    assert render_page(a_full_month(rows)) == render_page(a_full_month(list(rows)))


def test_a_name_is_never_markup():
    name = '<script>alert("x")</script>&amp;'
    contents = a_full_month([a_row(zone=name, genre=name, run_id=name, provider=name, gpu=name)], notes=[name])
    text = render_page(contents)
    assert "<script" not in text
    assert name in "".join(Page(text).words)


def test_what_is_unknown_is_never_zero():
    rows = [a_row(zone="spa", usd_micros=0, unpriced_ms=7_200_000), a_row(zone="bar")]
    page = Page(render_page(contents_of(rows)))
    zones = next(table for table in page.tables if table["caption"] == "Costs by zone")
    spa = next(line for line in zones["tbody"] if line[0] == "spa")
    assert [spa[1], spa[5], spa[8], spa[-1]] == ["unknown", "unknown", "unknown", "2.00"]
    assert zones["tfoot"][0][8] == "unknown"
    assert "2.00 h more have no known price" in page.words


def test_a_line_without_tracks_has_no_unit_cost():
    page = Page(render_page(contents_of([a_row(category=Category.IDLE)])))
    zones = next(table for table in page.tables if table["caption"] == "Costs by zone")
    assert zones["tbody"][0][-2:] == ["none", "none"]


def test_of_two_hundred_zones_the_chart_shows_the_dearest_and_the_table_all():
    page = Page(render_page(contents_of(a_big_month(zones=200, genres=2, runs=1))))
    zones = next(table for table in page.tables if table["caption"] == "Costs by zone")
    assert len(zones["tbody"]) == 201  # and a line of nobody
    assert "190 others together" in page.words


def test_more_lines_than_a_page_holds_become_one():
    rows = [a_row(run_id=f"run {number}", usd_micros=number + 1) for number in range(1_400)]
    page = Page(render_page(contents_of(rows, trend=[])))
    runs = next(table for table in page.tables if table["caption"] == "Costs by run")
    assert len(runs["tbody"]) == 1_000
    assert runs["tbody"][-1][0] == "401 others"
    check_sums(page)


def test_every_chart_has_a_name_and_says_what_it_shows():
    text = render_page(a_full_month(a_big_month()))
    drawn = re.findall(r'<svg class="chart" role="img"[^>]*aria-labelledby="(\S+) (\S+)"', text)
    assert len(drawn) == 7
    for title, words in drawn:
        assert re.search(rf'<title id="{title}">[^<]+</title><desc id="{words}">[^<]+</desc>', text)


def test_a_negative_part_goes_to_the_other_side():
    rows = [ChartBar("a", "", [Part("direct", "d", 300, ""), Part("adjustment", "a", -100, "")])]
    text = charts.bars("x", "t", rows)
    assert 'class="d" x="25.00%" width="75.00%"' in text
    assert 'class="a" x="0.00%" width="25.00%"' in text


def test_ticks_are_round_few_and_hold_zero():
    for low, high in ((0, 7), (0, 700_910_000), (-30, 45), (-5_000, 0), (0, 0)):
        ticks = tick_amounts(low, high)
        assert 0 in ticks
        assert len(ticks) <= 6
        assert max(ticks) >= high
