"""docs/metrics.md: what each command prints for scripts is exactly what its table says, in name, type and null."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app as program
from orchestrator.cli import figures, reference
from orchestrator.finance.books.budgets import write_budget
from orchestrator.finance.books.invoices import write_invoice
from orchestrator.finance.budgets import BudgetScope
from orchestrator.ledger import open_ledger
from orchestrator.ledger.set_aside import SetAside, write_set_aside
from orchestrator.ledger.tables import CLOSED_PERIOD, LOGIN
from tests.support.cost_ledger import an_invoice, fill, random_lines
from tests.support.farm import enveloped
from tests.support.judged import judged_catalog
from tests.support.preset_files import write

MONTH = "2026-11"
CATALOG = {
    "title": "Spring",
    "model": "tone",
    "defaults": {"duration_s": 10},
    "matrix": {"zones": ["hotel_lobby"], "genres": ["piano_solo"], "axes": {"season": {"spring": {}}}},
    "tracks": 1,
}
# How a command is asked, where its name alone is not enough.
ASKED = {
    "plan": "plan spring.yaml --changes",
    "run": "run spring.yaml",
    "catalog verify": "catalog verify spring",
    "catalog list --rejected --spare": "catalog list spa --rejected --spare",
    "catalog yield": "catalog yield spa",
    "costs reconcile": f"costs reconcile --period {MONTH} --all",
    "costs budgets list": f"costs budgets list --period {MONTH}",
    "costs rentals list": "costs rentals list --local",
}
# Lists and objects that are empty in what is tried here, so that what lies below them is not seen.
UNSEEN = {
    "run": (
        *("changes.", "rejected", "failed", "unpriced[]"),
        *("warned.by_kind.", "tracks[].warnings[]", "tracks[].flaws[]"),
    ),
    "catalog yield": ("unpriced[]",),
    "catalog list --rejected --spare": ("[].axes.",),
    "plan": ("changes.retired", "changes.restored"),
    "status": ("queues.", "runs[].paid_meanwhile.", "workers[].warnings[]"),
    "status --dead": ("[].reasons[]",),
    "costs report": ("unpriced[].",),
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each name of a document that holds no further names, and its value."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, f"{path}[]")
    else:
        yield path, value


def pattern_of(figure: figures.JsonFigure) -> re.Pattern[str]:
    name = re.escape(figure.name).replace(r"\{cut\}", "zone")  # which the report is cut by here
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^.]+(?:[.][^.]+)*?", name))


def is_of(kind: figures.Kind, value: Any) -> bool:
    """True when the value has the kind's JSON type; in Python a bool is an int as well."""
    return kind.may_be is object or (
        isinstance(value, kind.may_be) and isinstance(value, bool) is (kind.may_be is bool)
    )


def faults_of(document: figures.Document, printed: Any) -> list[str]:
    """Names without a line in the table, values of another type, and lines that no name fits (or only those UNSEEN)."""
    seen: set[str] = set()
    faults: list[str] = []
    figures_by_pattern = [(pattern_of(figure), figure) for figure in document.figures]
    for path, value in leaves(printed):
        # A name that is there in so many letters goes before one with a blank; null stands for the whole object.
        matching = [figure for pattern, figure in figures_by_pattern if pattern.fullmatch(path)]
        figure = min(matching, key=lambda each: (each.name.count("{"), -len(each.name)), default=None)
        if figure is None:
            if value is not None or not any(each.name.startswith(f"{path}.") for each in document.figures):
                faults.append(f"{path} stands in no line")
            continue
        seen.add(figure.name)
        if value is None and not figure.is_nullable:
            faults.append(f"{path} is null")
        if value is not None and not is_of(figure.kind, value):
            faults.append(f"{path} is {value!r}")
    unseen = {each.name for each in document.figures if each.name.startswith(UNSEEN.get(document.command, ("-",)))}
    missing = {each.name for each in document.figures} - seen
    return [*dict.fromkeys(faults), *(f"{name} is not printed" for name in missing ^ unseen)]


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, Any]:
    """What each command prints, in a home with a real run and the books of a made-up month."""
    folder = tmp_path_factory.mktemp("metrics")
    write(folder / "spring.yaml", CATALOG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TUNEMILL_HOME", str(folder / "home"))
        program._register()
        found = {"run": ask("run")}
        add_a_month(f"sqlite:///{folder / 'home' / 'ledger.sqlite'}")
        write(folder / "spring.yaml", {**CATALOG, "tracks": 2, "defaults": {"duration_s": 12}})
        [audio] = (folder / "home" / "store" / "spring" / "audio").rglob("*.flac")
        audio.unlink()
        return found | {each.command: ask(each.command) for each in figures.DOCUMENTS if each.command != "run"}


def ask(command: str) -> Any:
    done = CliRunner().invoke(program.app, [*shlex.split(ASKED.get(command, command)), "--json"])
    return json.loads(done.stdout)


def add_a_month(url: str) -> None:
    """Rentals with their work, an invoice, budgets, a closed month, a login and a record that was set aside."""
    with closing(open_ledger(url)) as ledger:
        pods = fill(ledger, 4, seed=7)
        judged_catalog(ledger)
        of_month = {"period": "2026-10", "closed_ms": 1, "closed_by": "us", "time_zone": "UTC", "sha256": ""}
        with ledger.write() as connection:
            write_invoice(connection, an_invoice(list(random_lines(pods, 3))), 1_800_000_000_000)
            write_budget(connection, BudgetScope.MONTH, "", MONTH, 5, 1)
            write_budget(connection, BudgetScope.CATALOG, "spring", "", 5, 1)
            connection.execute(
                CLOSED_PERIOD.insert(), {**of_month, "high_water_id": 0, "entries": 0, "control_usd_micros": 0}
            )
            connection.execute(LOGIN.insert(), {"login": "pods", "made_at_ms": 1})
            write_set_aside(connection, [SetAside(enveloped({"v": 1}), None, "unreadable", "broken")], 1)


@pytest.mark.parametrize("document", figures.DOCUMENTS, ids=lambda each: each.command)
def test_a_command_prints_exactly_what_its_table_says(printed, document):
    assert faults_of(document, printed[document.command]) == []


def test_every_document_is_of_a_command_with_json():
    with_json = {each.name for each in reference.commands() if any(one.name == "json" for one in each.click.params)}
    assert {f"tunemill {each.command.partition(' --')[0]}" for each in figures.DOCUMENTS} <= with_json


def test_each_unit_is_the_one_that_the_name_says():
    of_ending = {
        "_usd_micros": {"micro-dollars"},
        "usd_micros_per_h": {"micro-dollars an hour"},
        "_ms": {"milliseconds", "milliseconds since 1970, UTC"},
        "_at_ms": {"milliseconds since 1970, UTC"},
        "_s": {"seconds"},
        "_mib": {"MiB"},
        "_gib": {"GiB"},
        "_share": {"1 = all"},
        "_lufs": {"LUFS"},
    }
    wrong = [
        figure.name
        for document in figures.DOCUMENTS
        for figure in document.figures
        for ending, units in of_ending.items()
        if figure.name.endswith(ending) and figure.kind.unit not in units
    ]
    assert wrong == []
