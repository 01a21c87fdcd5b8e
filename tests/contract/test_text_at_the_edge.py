"""Text at the edge: whatever an old ledger, a preset, a price, an invoice or a file name holds, nobody gets it raw."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sqlite3
import sys
import zipfile
from collections.abc import Container
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from sqlalchemy import JSON
from sqlmodel import AutoString

from catalog.errors import TunemillError
from catalog.plain import plain, plain_json, plain_lines
from catalog.secrets import ScrubbingFormatter
from catalog.settings import Settings
from catalog.store import open_store
from orchestrator.cli import app as program
from orchestrator.cli import reference
from orchestrator.cli import worker as worker_command
from orchestrator.finance.accounts import contents_of
from orchestrator.finance.books.books import Updated
from orchestrator.finance.books.budgets import write_budget
from orchestrator.finance.books.invoices import write_invoice
from orchestrator.finance.budgets import BudgetScope
from orchestrator.finance.prices.book import read_price_book
from orchestrator.finance.report.control import ControlTotals
from orchestrator.finance.report.manifest import make_manifest
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.set_aside import SetAside, write_set_aside
from orchestrator.ledger.tables import CLOSED_PERIOD, LOGIN, Row
from tests.contract.test_upkeep import a_catalog, lose_audio, lose_both
from tests.support.cost_ledger import an_invoice, fill, random_lines
from tests.support.farm import enveloped
from tests.support.preset_files import GENRE, ZONE, write
from workers import __main__ as worker_program
from workers import all_gpus

MARK = "pwned"
HOSTILE = (
    f"\t=cmd|'{MARK}'!A1 \x1b]0;{MARK}\x07\x1b[2J\x1b[31m\x9b31m\x00\x08\x7f\x85\u202egpj\u2066\u2069\u2028"
    "\r\nerror: line\n<script>alert(1)</script>\ufffe"
)
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SPOKEN = "\u202egpj \u2066 \x85 \u2028 pwned"  # what presets and prices let in
PERIOD = "2026-11"
# What the program itself chooses from a few words, or makes and reads again as a number, an instant or a month.
OWN_WORDS = {
    *("run.state", "run.wish", "take.state", "attempt.outcome", "span.state", "rental.market", "rental.tally"),
    *("invoice_line.meter", "posting.kind", "posting.meter", "cost_entry.category", "cost_monthly.kind"),
    *("cost_monthly.category", "tally.category", "budget.scope", "verdict.outcome", "set_aside.fault"),
    *("posting.period", "posting.applies_to", "cost_entry.period", "cost_monthly.period", "cost_monthly.applies_to"),
    *("tally.period", "budget.period", "closed_period.period", "closed_period.time_zone", "invoice.usd_per_unit"),
    *("posting.method", "standing.method", "rendition.audio_key"),
}
READ_COMMANDS = {
    "presets list": [["presets", "list"]],
    "presets show": [["presets", "show", "c"], ["presets", "show", "z0"], ["presets", "show", "c", "--cells"]],
    "presets check": [["presets", "check"]],
    "plan": [["plan", "c"], ["plan", "c", "--max-usd", "0.000001"]],
    "status": [["status"], ["status", "--dead"]],
    "catalog list": [
        *(["catalog", "list", *more] for more in ([], ["--files"], ["--warnings"], ["--rejected", "--spare"])),
    ],
    "catalog yield": [["catalog", "yield", "c", "--by", cut] for cut in ("preset", "seed", "reason")],
    "catalog duplicates": [["catalog", "duplicates", "c"]],
    "catalog verify": [["catalog", "verify"], ["catalog", "verify", "--quick"]],
    "catalog repair": [["catalog", "repair", "--dry-run"]],
    "catalog rebuild": [["catalog", "rebuild", "--dry-run"]],
    "catalog gc": [["catalog", "gc", "--dry-run", "--older-than", "0"]],
    "costs report": [
        *(["costs", "report", "--by", cut] for cut in ("catalog", "zone", "genre", "run", "provider", "gpu", "market")),
        ["costs", "report", "--by", "month,zone", "--period", PERIOD],
    ],
    "costs forecast": [["costs", "forecast"]],
    "costs invoices": [["costs", "invoices"]],
    "costs reconcile": [
        ["costs", "reconcile", "--period", PERIOD],
        ["costs", "reconcile", "--period", PERIOD, "--all"],
    ],
    "costs periods": [["costs", "periods"]],
    "costs verify": [["costs", "verify"]],
    "costs prices": [["costs", "prices"]],
    "costs prices list": [["costs", "prices", "list"]],
    "costs rentals list": [["costs", "rentals", "list"], ["costs", "rentals", "list", "--local"]],
    "costs budgets list": [["costs", "budgets", "list", "--period", PERIOD]],
    "records list": [["records", "list"]],
    "records show": [["records", "show", "DIGEST"]],
    "worker-login list": [["worker-login", "list"]],
}
WRITE_COMMANDS = {
    *("presets import", "run", "refresh", "pause", "resume", "cancel", "retry", "catalog reject", "catalog accept"),
    *("catalog finish", "catalog choose", "catalog pick"),
    *("replay", "costs import-invoice", "costs close", "costs prices add", "costs prices import", "costs rentals add"),
    *("costs budgets set", "costs budgets clear", "worker", "worker calibrate", "controller", "records retry"),
    *("records drop", "costs strike", "worker-login new", "worker-login end", "worker-login key", "weights pull"),
    "presets new",
}
GROUPS = {"presets", "catalog", "costs", "costs rentals", "costs budgets", "records", "weights"}


# ------------------------------------------------------------ a hostile home


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A home whose ledger, presets, prices and store hold hostile text wherever text can stand."""
    folder = tmp_path_factory.mktemp("hostile\x1b[31m\u202e")
    store, ledger = open_store(str(folder / "store")), open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    with closing(ledger):
        a_catalog(store, ledger, 6)
        _add_odds(ledger, fill(ledger, 4, seed=7))
    _poison(folder / "ledger.sqlite")
    _write_presets(folder / "presets")
    price = {"sku": "a100-80gb", "match": ["A100"], "market": "on_demand", "usd_per_hour": "1.00", "vram_gib": 8}
    prices = {"valid_from": "2026-11-01", "currency": "USD", "prices": [{**price, "source": f"a {SPOKEN} list"}]}
    write(folder / "prices" / "2026-11-01.yaml", prices)
    return folder


@pytest.fixture(scope="module")
def hostile_store(tmp_path_factory) -> Path:
    """A home whose ledger has no other catalog than its store: what is wrong about it is found take by take."""
    folder = tmp_path_factory.mktemp("store\x1b[31m\u202e")
    store, ledger = open_store(str(folder / "store")), open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    with closing(ledger):
        sidecars = a_catalog(store, ledger, 6)
    lose_both(store, sidecars[0])
    lose_audio(store, sidecars[1])
    (folder / "store" / "spring" / f".{'0' * 32}.part").write_bytes(b"half")
    _poison(folder / "ledger.sqlite", {*OWN_WORDS, "take.catalog", "take.take_id", "rendition.take_id"})
    return folder


def _add_odds(ledger: Ledger, pods: list[str]) -> None:
    """An invoice, budgets, and a record that was set aside."""
    record = {"kind": HOSTILE, "worker_id": HOSTILE + "\ud800", "v": 1, "more": [HOSTILE]}
    with ledger.write() as connection:
        write_invoice(connection, an_invoice(list(random_lines(pods, 3))), 1_800_000_000_000)
        for scope, name in ((BudgetScope.MONTH, ""), (BudgetScope.CATALOG, "hotels")):
            write_budget(connection, scope, name, PERIOD, 5, 1)
        of_month = {"period": "2026-10", "closed_ms": 1, "closed_by": "us", "time_zone": "UTC", "sha256": ""}
        connection.execute(
            CLOSED_PERIOD.insert(), {**of_month, "high_water_id": 0, "entries": 0, "control_usd_micros": 0}
        )
        connection.execute(LOGIN.insert(), {"login": "pods", "made_at_ms": 1})
        for raw in (enveloped(record), HOSTILE.encode("utf-16")):
            write_set_aside(connection, [SetAside(raw, None, "unreadable", HOSTILE)], 1_700_000_000_000)


def _poison(path: Path, kept: Container[str] = OWN_WORDS) -> None:
    """Put hostile text before every text of every table, by SQL, as if an earlier version had let it in."""
    with closing(sqlite3.connect(path)) as connection:
        for (trigger,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            connection.execute(f'drop trigger "{trigger}"')
        for table in Row.metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, JSON):
                    _poison_json(connection, table.name, column.name)
                elif isinstance(column.type, AutoString) and str(column) not in kept:
                    statement = f'update "{table.name}" set "{column.name}" = ? || "{column.name}"'  # noqa: S608
                    connection.execute(statement, [HOSTILE])
        connection.commit()


def _poison_json(connection: sqlite3.Connection, table: str, column: str) -> None:
    """JSON holds lone surrogates, too: its escapes get past every encoding."""
    for row_id, text in connection.execute(f'select rowid, "{column}" from "{table}"').fetchall():  # noqa: S608
        value = json.loads(text)
        if column == "reasons":
            value = [HOSTILE + "\ud800"]
        elif column == "message" and value:
            value["track"]["title"] += HOSTILE  # no surrogate: a title that holds one was never a message
        elif column == "sidecar" and value.get("plan"):
            value["plan"]["metadata"]["keyscale"] = HOSTILE
        statement = f'update "{table}" set "{column}" = ? where rowid = ?'  # noqa: S608
        connection.execute(statement, [json.dumps(value), row_id])


def _write_presets(folder: Path) -> None:
    """Presets refuse control characters; what else there is, they let in."""
    words = {"name": f"Spa {SPOKEN}", "description": f"Rest. {SPOKEN}"}
    write(folder / "zones/z0.yaml", {**ZONE, **words, "scenes": [f"a {SPOKEN} spa", "a warm pool"]})
    write(folder / "genres/g0.yaml", {**GENRE, **words})
    matrix = {"zones": "all", "genres": "all"}
    write(folder / "catalogs/c.yaml", {"title": f"C {SPOKEN}", "description": SPOKEN, "matrix": matrix, "tracks": 4})


@pytest.fixture
def tunemill(hostile, hostile_store, monkeypatch, capsys):
    """Runs a command as a person types it, with all that it writes to either stream."""
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    monkeypatch.setattr(program, "app", app)
    program._register()
    monkeypatch.setattr(program, "_register", lambda wanted=None: None)

    def ask(*arguments: str) -> tuple[str, str]:
        is_of_store = arguments[:2] in [("catalog", each) for each in ("verify", "repair", "rebuild", "gc")]
        home = hostile_store if is_of_store else hostile
        for name, value in {"HOME": "", "PRESETS": "presets", "PRICES": "prices", "STORE_URL": "store"}.items():
            monkeypatch.setenv(f"TUNEMILL_{name}", str(home / value))
        monkeypatch.setattr(sys, "argv", ["tunemill", *arguments])
        with pytest.raises(SystemExit) as end:
            program.run()
        said = capsys.readouterr()
        assert end.value.code != 2, said.err
        return said.out, said.err

    return ask


def harmful(text: str) -> list[str]:
    """What of `text` must never be sent, with what stands before it."""
    return [ascii(text[max(0, found.start() - 30) : found.end()]) for found in FORBIDDEN.finditer(text)]


def digests(tunemill) -> list[str]:
    return [row["digest"] for row in json.loads(tunemill("records", "list", "--json")[0])]


# ------------------------------------------------------------ commands


def test_every_command_is_tried_here_or_known_to_write():
    known = {command.name.removeprefix("tunemill ") for command in reference.commands() if command.runs}
    assert known - WRITE_COMMANDS == set(READ_COMMANDS) - GROUPS | {"costs prices"}


@pytest.mark.parametrize("way", ["a pipe", "a terminal", "json"])
@pytest.mark.parametrize("command", sorted(READ_COMMANDS))
def test_no_command_prints_what_steers_a_terminal(tunemill, terminal, command, way):
    if way == "a terminal":
        terminal(200)
    for arguments in READ_COMMANDS[command]:
        if "--files" in arguments and way == "json":
            continue
        for name in digests(tunemill) if "DIGEST" in arguments else [""]:
            typed = [name if each == "DIGEST" else each for each in arguments]
            out, err = tunemill(*typed, *(["--json"] if way == "json" else []))
            assert out or err
            assert harmful(out) == harmful(err) == []
            if way == "json" and out:
                json.loads(out)
            assert "\nerror: line" not in out + err


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--dead"],
        ["catalog", "list"],
        ["presets", "show", "c"],
        ["plan", "c"],
        ["records", "list"],
    ]
    + [["costs", *each] for each in (["report"], ["rentals", "list"], ["prices"], ["invoices"])]
    + [["costs", "budgets", "list", "--period", PERIOD]],
    ids=" ".join,
)
def test_what_a_stranger_said_can_still_be_read(tunemill, arguments):
    assert "pwned" in tunemill(*arguments)[0]
    assert "pwned" in tunemill(*arguments, "--json")[0]


def test_json_gives_every_text_back_as_it_is(tunemill):
    [first, *_] = json.loads(tunemill("status", "--dead", "--json")[0])
    assert first["reasons"] == [HOSTILE + "\ud800"]
    assert HOSTILE in first["title"]


def test_one_error_of_a_strangers_words_is_one_error(tunemill):
    _, err = tunemill("costs", "reconcile", "--period", PERIOD)
    assert harmful(err) == []
    assert [line.split(":")[0] for line in err.splitlines() if not line.startswith("    ")] == [
        "error",
        "  why",
        "  fix",
    ]


def test_a_defect_shows_its_traceback_plain_and_without_secrets(tunemill, monkeypatch, capsys):
    monkeypatch.setenv("SOME_TOKEN", "planted-secret")

    def break_down(wanted=None) -> None:
        raise RuntimeError(f"{HOSTILE} planted-secret")

    monkeypatch.setattr(program, "_register", break_down)
    with pytest.raises(SystemExit) as end:
        program.run()
    assert end.value.code == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "pwned" in shown
    assert "planted" not in shown
    assert harmful(shown) == []


# ------------------------------------------------------------ the pack


@pytest.fixture
def pack(tunemill, hostile) -> Path:
    """The pack of a month, with its FOCUS files; it is written once, and every test only reads it."""
    folder = hostile / "pack"
    if not folder.exists():
        out, err = tunemill("costs", "report", "--period", PERIOD, "--out", str(folder), "--focus")
        assert (folder / "manifest.json").exists(), (out, err)
    return folder


def test_no_file_of_a_pack_holds_what_steers_a_terminal_or_a_reader(pack):
    seen = set()
    for path in sorted(pack.rglob("*")):
        if path.suffix in (".csv", ".json", ".html"):
            text = path.read_bytes().decode()
            assert harmful(text.replace("\r\n", "\n") if path.suffix == ".csv" else text) == [], path
            seen |= {path.name} if "pwned" in text else set()
    assert seen >= {"costs.csv", "ledger.csv", "report.html", "focus-rental.csv", "focus-allocation.csv"}


def test_no_cell_of_a_csv_file_is_a_formula_or_broken_over_lines_and_numbers_stay_numbers(pack):
    numbers = 0
    for path in sorted(pack.rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.reader(file, strict=True):
                for cell in line:
                    assert "\n" not in cell
                    if cell.strip()[:1] in tuple("=+-@"):
                        numbers += float(cell) < 0
    assert numbers  # a credit


def test_a_manifest_escapes_who_closed_the_month(hostile):
    with closing(open_ledger(f"sqlite:///{hostile / 'ledger.sqlite'}")) as ledger, ledger.snapshot() as connection:
        settings = Settings()
        book = read_price_book(hostile / "prices")
        contents = contents_of(connection, settings, book, Updated(), "2026-10")
    manifest = make_manifest(contents, ControlTotals(), [])
    assert harmful(manifest.as_text()) == []
    assert HOSTILE in json.loads(manifest.as_text())["closed_by"]


def test_a_workbook_holds_well_formed_xml_and_no_formula_of_a_stranger(pack):
    texts = 0
    with zipfile.ZipFile(pack / "report.xlsx") as book:
        for name in book.namelist():
            body = book.read(name).decode()
            ElementTree.fromstring(body)  # noqa: S314 - ours
            assert harmful(body.replace("\r\n", "\n")) == [], name
            assert "_x00" not in body  # how the format writes controls
            assert not [formula for formula in re.findall("<f>[^<]*</f>", body) if "pwned" in formula]
            texts += body.count("pwned")
    assert texts


def test_a_page_escapes_what_html_means(pack):
    page = (pack / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


# ------------------------------------------------------------ the rest


def test_a_log_entry_is_plain_and_later_lines_of_it_are_indented():
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "worker %s is silent", (HOSTILE,), None)
    entry = ScrubbingFormatter("%(message)s").format(record)
    assert harmful(entry) == []
    assert all(line.startswith("  ") for line in entry.splitlines()[1:])


def test_the_log_of_a_command_that_sets_up_none_is_plain(tunemill):
    tunemill("status")
    record = logging.LogRecord("x", logging.WARNING, "f", 1, HOSTILE, (), None)
    assert harmful(logging.lastResort.format(record)) == []


def test_what_a_worker_and_its_children_say_is_passed_on_plain(monkeypatch, capsys):
    def refuse(arguments) -> int:
        raise TunemillError(HOSTILE, why=HOSTILE)

    monkeypatch.setattr(worker_program, "start_log", lambda: None)
    monkeypatch.setitem(worker_program._COMMANDS, "tiny", refuse)
    assert worker_program.main(["tiny"]) == 1
    all_gpus._echo("0", io.StringIO(f"{HOSTILE}\n"))
    monkeypatch.setattr(worker_command, "_WORKERS", (sys.executable, "-c", f"import sys; sys.exit({HOSTILE[1:]!r})"))
    with pytest.raises(typer.Exit):
        worker_command._replay({})
    said = capsys.readouterr().err
    assert said.count("pwned") >= 4
    assert harmful(said) == []


@pytest.mark.parametrize("make_plain", [plain, plain_lines, plain_json])
def test_plain_text_can_be_encoded_and_is_left_as_it_is(make_plain):
    made = make_plain(HOSTILE.replace("\n", " ") + "\ud800\udc00")
    assert harmful(made) == []
    assert make_plain(made) == made
    assert made.encode()
    assert "\ufffe" not in made  # XML cannot hold it
    assert make_plain("Zürich 🎷 שלום =1") == "Zürich 🎷 שלום =1"
