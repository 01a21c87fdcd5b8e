"""`tunemill plan`: tables and JSON, the cap, the missing price, and that it only reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from catalog.errors import BudgetError, PriceError, SettingsError, UnknownNameError
from orchestrator.cli import plan as plan_command
from orchestrator.ledger import open_ledger
from orchestrator.ledger.facts import record_facts
from orchestrator.planning.plan import make_plan
from tests.bench.bench_plan import write_presets
from tests.support.farm import attempt
from tests.support.makers import exactly
from tests.support.preset_files import a_library, write
from tests.unit.finance.test_prices import SHIPPED
from tests.unit.finance.test_readings import a_worker, an_attempt, record

BOTH = {"title": "Both", "model": "acestep-v15-turbo", "matrix": {"zones": "all", "genres": "all"}, "tracks": 8}
PRICES = """\
valid_from: 2020-01-01
prices:
  - {sku: a100-80gb, match: [A100-SXM4-80GB], usd_per_hour: "1.80", source: a test}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("BROKER_URL", "DATABASE_URL", "WEIGHTS", "GPU", "PRESETS", "PRICES"):
        monkeypatch.delenv(f"TUNEMILL_{name}", raising=False)
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    prices = tmp_path / "prices"
    prices.mkdir()
    (prices / "p.yaml").write_text(PRICES)
    monkeypatch.setenv("TUNEMILL_PRICES", str(prices))
    return tmp_path


@pytest.fixture
def small(home) -> list[str]:
    path = write_presets(home / "presets", zones=2, genres=2, tracks=8)
    return ["plan", str(path), "--presets", str(home / "presets")]


def run(arguments: list[str]):
    app = typer.Typer()
    plan_command.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, arguments)


def test_json_adds_up_and_names_what_it_rests_on(small):
    found = json.loads(run([*small, "--json"]).stdout)
    assert found["takes"]["new"] == found["takes"]["to_render"] == 8
    assert sum(cell["total"] for cell in found["cells"]) == 8
    assert sum(bucket["takes"] for bucket in found["buckets"]) == found["estimate"]["takes"] == 8
    assert found["estimate"]["source"].startswith("arithmetic")
    assert found["estimate"]["price"]["sku"] == "a100-80gb"
    assert found["estimate"]["usd_micros"] > 0


def test_the_plan_fits_80_columns_and_shows_source_and_price_age(small, terminal):
    terminal(80)
    result = run(small)
    assert result.exit_code == 0, result.exception
    assert max(map(len, result.stdout.splitlines())) <= 80
    for words in ("z0", "g1", "unchanged", "arithmetic", "valid from 2020-01-01", "days ago", "a test"):
        assert words in " ".join(result.stdout.split())


def test_lengths_that_the_planner_chooses_are_reckoned_at_their_longest_and_it_says_so(home):
    planner = {"metadata": "fill", "open": ["duration"]}
    root = a_library(home / "presets", 1, 1)
    write(root / "catalogs/given.yaml", {**BOTH, "defaults": {"duration_s": [60, 90]}})
    write(root / "catalogs/open.yaml", {**BOTH, "defaults": {"duration_s": [60, 90], "planner": planner}})
    given, chosen = (["plan", str(root / f"catalogs/{name}.yaml")] for name in ("given", "open"))
    found = json.loads(run([*chosen, "--json"]).stdout)
    assert (found["open_lengths"], found["estimate"]["audio_s"]) == (8, 8 * 90)
    assert "planner chooses the length of 8 takes; here they have their longest" in run(chosen).stdout
    assert json.loads(run([*given, "--json"]).stdout)["open_lengths"] == 0
    assert "longest" not in run(given).stdout


def test_a_large_matrix_is_shown_by_zone_and_by_genre(home):
    path = write_presets(home / "presets", zones=9, genres=5, tracks=90)
    lines = run(["plan", str(path), "--presets", str(home / "presets")]).stdout.splitlines()
    assert sum(line.split()[:1] == ["z3"] for line in lines) == 1
    assert sum(line.split()[:1] == ["g3"] for line in lines) == 1
    assert not any("z3" in line.split() and "g3" in line.split() for line in lines)


def test_over_the_cap_the_plan_is_shown_and_the_command_fails(small):
    result = run([*small, "--max-usd", "0.000001"])
    assert isinstance(result.exception, BudgetError)
    assert "to render" in result.stdout
    assert run([*small, "--max-usd", "1000"]).exit_code == 0


def test_a_cap_that_is_no_amount_is_refused_before_anything_else(small):
    assert isinstance(run([*small, "--max-usd", "lots"]).exception, SettingsError)


def test_without_a_price_the_plan_is_shown_and_its_cost_is_unknown(small):
    shown = run([*small, "--gpu", "mystery-9000"])
    assert shown.exit_code == 0, shown.exception
    assert "estimate   unknown" in shown.stdout
    assert "no price for GPU 'mystery-9000'" in shown.stderr
    found = json.loads(run([*small, "--gpu", "mystery-9000", "--json"]).stdout)
    assert found["takes"]["new"] == 8
    assert (found["estimate"]["usd_micros"], found["estimate"]["price"]) == (None, None)
    assert found["estimate"]["gpu_ms"] > 0


def test_a_cap_that_cannot_be_kept_without_a_price_is_refused_after_the_plan_is_shown(small):
    refused = run([*small, "--gpu", "mystery-9000", "--max-usd", "5"])
    assert "8 takes" in refused.stdout
    assert isinstance(refused.exception, PriceError)
    assert "the cap of $5.00 cannot be kept" in refused.exception.what


def test_the_estimate_is_a_range_with_the_likely_figure_between_its_bounds(small):
    found = json.loads(run([*small, "--json"]).stdout)["estimate"]
    for key in ("usd_micros", "gpu_ms"):
        bounds = found[f"{key}_range"]
        assert bounds["low"] < bounds["likely"] == found[key] < bounds["high"]
    assert "(likely; $" in run(small).stdout


def test_a_common_name_of_a_gpu_is_taken_and_said_where_it_could_mean_another(small):
    found = json.loads(run([*small, "--json", "--gpu", "A100"]).stdout)
    assert found["estimate"]["gpu"] == "a100-80gb"
    assert "A100 is taken for a100-80gb; it may also mean a100-40gb" in found["notes"]
    assert json.loads(run([*small, "--json", "--gpu", "h100"]).stdout)["estimate"]["gpu"] == "h100-80gb"


def test_planning_does_not_make_a_ledger(small, home):
    assert run(small).exit_code == 0
    assert not (home / "home").exists()


def test_what_the_ledger_has_is_not_planned_again(small, home):
    catalog = plan_command.load_catalog(small[1], Path(small[3]), plan_command.read_settings())
    takes = list(make_plan(catalog, {}).takes())
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    ledger.begin_or_resume_run(catalog.name, catalog.model, exactly(takes))
    ledger.close()
    found = json.loads(run([*small, "--json"]).stdout)
    assert (found["takes"]["unfinished"], found["takes"]["new"], found["dropped"]) == (8, 0, 0)


def test_a_plan_with_nothing_to_render_says_so_and_estimates_nothing(small, home):
    catalog = plan_command.load_catalog(small[1], Path(small[3]), plan_command.read_settings())
    takes = list(make_plan(catalog, {}).takes())
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    run_id = ledger.begin_or_resume_run(catalog.name, catalog.model, exactly(takes)).run_id
    with ledger.write() as connection:
        made = [attempt(take, run_id=run_id) for take in takes]
        record_facts(connection, made, lambda machine, at_ms: None, 1)
    ledger.close()
    shown = run(small)
    assert "nothing to do" in shown.stdout
    assert not {"rejects", "estimate", "price"} & {line.split()[0] for line in shown.stdout.splitlines() if line}
    assert shown.stderr.count("note:") == 1  # of titles that two tracks share


def test_rejected_takes_are_missing_and_the_plan_says_how_many_are_made_again_and_what_that_costs(small, home):
    catalog = plan_command.load_catalog(small[1], Path(small[3]), plan_command.read_settings())
    takes = list(make_plan(catalog, {}).takes())
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    run_id = ledger.begin_or_resume_run(catalog.name, catalog.model, exactly(takes)).run_id
    fates = [("rejected", 9_000), ("rejected", 9_000), ("rejected", 0), *[("accepted", 9_000)] * 5]
    with ledger.write() as connection:
        ended = [
            attempt(take, outcome, run_id=run_id, audio_ms=audio_ms)
            for take, (outcome, audio_ms) in zip(takes, fates, strict=True)
        ]
        record_facts(connection, ended, lambda machine, at_ms: None, 1)
    ledger.close()
    shown = " ".join(run(small).stdout.split())
    assert "wanted 8, kept 5, missing 3" in shown
    found = json.loads(run([*small, "--json"]).stdout)
    cost = found["estimate"]["usd_micros"]
    assert found["estimate"]["again_usd_micros"] == cost > 0
    assert f"another take is made for 2 places: their takes were rejected; cost ${cost / 1e6:.6f}, within" in shown
    assert "1 place stays empty: the engine refused the track" in shown
    assert (found["takes"]["again"], found["takes"]["empty"], found["takes"]["to_render"]) == (2, 1, 2)
    assert found["empty"] == {"out_of_tries": 0, "by_engine": 1, "by_listener": 0}


def test_what_run_would_lack_is_noted_and_no_error(small):
    result = run(small)
    assert result.exit_code == 0
    assert "TUNEMILL_WEIGHTS" in result.stderr
    assert isinstance(run([*small, "--model", "acestep-v15-turb"]).exception, UnknownNameError)


def test_the_estimate_rests_on_the_ledgers_own_measurements_once_there_are_some(small, home):
    catalog = plan_command.load_catalog(small[1], Path(small[3]), plan_command.read_settings())
    takes = list(make_plan(catalog, {}).takes())
    ledger = open_ledger(f"sqlite:///{home / 'home' / 'ledger.sqlite'}")
    ledger.begin_or_resume_run(catalog.name, catalog.model, exactly(takes))
    worker = a_worker(gpu="NVIDIA A100-SXM4-80GB", model=catalog.model, sku=None, end=6_000)
    record(ledger, worker, an_attempt("r1", takes[0].id, engine_ms=6_000, audio_ms=60_000))
    ledger.close()
    found = json.loads(run([*small, "--json"]).stdout)["estimate"]
    assert found["source"].startswith("measured on 1 take;")
    assert found["gpu_ms"] == found["audio_s"] * 100
    slower = json.loads(run([*small, "--json", "--gpu", "cpu", "--prices", str(SHIPPED)]).stdout)["estimate"]
    assert slower["source"].startswith("assumed")
