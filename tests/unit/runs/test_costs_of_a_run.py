"""Costs before a run begins: without a price it goes on with a note, unless a cap or a budget must be kept."""

from __future__ import annotations

import pytest

from catalog.errors import PriceError
from catalog.settings import Settings
from orchestrator.finance.books import budgets
from orchestrator.finance.budgets import BudgetScope
from orchestrator.ledger import open_ledger
from orchestrator.runs.prepare import RunOptions, prepare
from tests.bench.bench_plan import write_presets


@pytest.fixture
def options(tmp_path) -> RunOptions:
    path = write_presets(tmp_path / "presets", zones=1, genres=1, tracks=2)
    return RunOptions(str(path), tmp_path / "presets", model="tone", gpu="mystery-9000")


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home", gpu=None, prices=None, presets=None, max_usd=None)


def test_without_a_price_a_run_goes_on_and_says_that_its_cost_is_unknown(options, settings):
    prepared = prepare(options, None, settings)
    assert (prepared.estimate.usd_micros, prepared.take_usd_micros) == (None, None)
    assert any("the cost is unknown: no price for GPU 'mystery-9000'" in note for note in prepared.notes)


def test_a_cap_or_a_setting_of_one_is_refused_without_a_price(options, settings):
    for asked, set_ in (
        (options._replace(max_usd="5"), settings),
        (options, settings.model_copy(update={"max_usd": "5"})),
    ):
        with pytest.raises(PriceError, match=r"the cap of \$5.00 cannot be kept") as caught:
            prepare(asked, None, set_)
        assert "costs prices add" in caught.value.fix


def test_a_budget_is_refused_without_a_price(options, settings, tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with ledger.write() as connection:
        budgets.write_budget(connection, BudgetScope.MONTH, "", "", 5_000_000, 1)
    with pytest.raises(PriceError, match="the budget for"):
        prepare(options, ledger, settings)


def test_the_cost_of_a_take_is_the_likely_one(options, settings):
    prepared = prepare(options._replace(gpu="cpu"), None, settings)
    assert prepared.take_usd_micros == -(-prepared.estimate.money.likely // prepared.estimate.takes)
