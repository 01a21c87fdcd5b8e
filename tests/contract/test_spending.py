"""Budgets hold while a slow sum of spent money serves for a while: on SQLite and on Postgres alike."""

from __future__ import annotations

import pytest

from tests.unit.control.test_spending import PAUSE_S, TAKE_MS, TAKE_USD_MICROS, Month


@pytest.mark.parametrize("scope", ["month", "catalog", "run"])
def test_as_many_takes_are_made_as_a_budget_pays_for(monkeypatch, database_url, scope):
    month = Month(monkeypatch, "spring", "autumn", url=database_url)
    month.budget(scope, "" if scope == "month" else "spring", 9 * TAKE_USD_MICROS)
    for _ in range(12):
        month.feed("spring", window=3)
        month.make(2)
        assert not month.overrun()
        month.now_s += PAUSE_S / 3
    assert month.made == 9
    month.ledger.close()


def test_what_workers_have_cost_since_the_sum_counts(monkeypatch, database_url):
    month = Month(monkeypatch, "spring", "autumn", url=database_url)
    month.budget("month", "", 9 * TAKE_USD_MICROS)
    assert month.feed("spring", window=3) == 3
    month.make(2)
    month.idle(2 * TAKE_MS)
    assert (month.feed("autumn"), month.sums) == (4, 1)
    month.ledger.close()
