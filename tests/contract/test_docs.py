"""The docs stay true: whatever a Markdown file of the repository names is there.

Links, headings, paths, `make` targets, modules, options, variables, exit codes, drawings, the commands of measured
figures, and the demo's output in the README.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalog.settings import Settings, variable_of
from orchestrator.cli import reference
from orchestrator.matrix import expand, load_catalog
from tests.bench.__main__ import find_benches
from tests.support import layers

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted(page for page in REPO.rglob("*.md") if not any(part[0] in "._" for part in page.relative_to(REPO).parts))
NAMES = [str(page.relative_to(REPO)) for page in PAGES]
_CODE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_PATH = re.compile(r"(?<![\w./-])((?:catalog|orchestrator|workers|presets|infra|tests|docs)/[\w./-]*)")
_MAKE = re.compile(
    r"(?:^|[$(] *)make ((?:[A-Z]+=(?:\"[^\"]*\"|\S*) )*)([a-z-]+)((?: [A-Z]+=(?:\"[^\"]*\"|\S+))*)", re.MULTILINE
)
_MODULE = re.compile(r"(?<![\w/])python3? -m ([\w.]+)((?: \S+)*)")
_VARIABLE = re.compile(r"\bTUNEMILL_[A-Z0-9_]+\b")
_EXIT_CODE = re.compile(r"exit codes? (\d+)", re.IGNORECASE)
# What is named and is not in the repository, and why.
ABSENT = {
    "infra/measurements/": "the bench makes it where there is a GPU",
    "tests/unit/FOLDER": "a blank to fill in",
    "TUNEMILL_MAXUSD": "an example of a mistake",
}
OTHER_MODULES = {"venv", "pip"}
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_OPTIONS = {"--help", "--version"} | {
    option
    for command in reference.commands()
    for parameter in command.click.params
    for option in (*parameter.opts, *parameter.secondary_opts)
}
_SOURCES = (path for room in ("catalog", "orchestrator", "workers", "tests") for path in (REPO / room).rglob("*.py"))
_VARIABLES = {variable_of(name) for name in Settings.model_fields} | {
    name
    for path in (*_SOURCES, REPO / "Makefile")
    if path.name not in ("reference.py", "test_docs.py")
    for name in _VARIABLE.findall(path.read_text(encoding="utf-8"))
}


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.casefold()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_page_and_a_heading_of_it(name: str) -> None:
    page = REPO / name
    for target in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name}: {target}"
        assert not anchor or anchor in _anchors(there), f"{name}: {target}"


def _spans(name: str) -> list[str]:
    """The code within the sentences of a page."""
    return _SPAN.findall(_CODE.sub("", (REPO / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_paths_in_the_pages_exist(name: str) -> None:
    page = REPO / name
    for path in (path for span in _spans(name) for path in _PATH.findall(span)):
        # What presets/README says is in a folder of the user's own lies in presets/ here, or beside an example.
        assert (REPO / path).exists() or (page.parent / path).exists() or path in ABSENT, f"{name}: {path}"


@pytest.mark.parametrize("name", NAMES)
def test_targets_of_make_and_modules_exist_and_take_what_they_are_given(name: str) -> None:
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    text = "\n".join([*_spans(name), *_CODE.findall((REPO / name).read_text(encoding="utf-8"))])
    for before, target, after in _MAKE.findall(text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name}: make {target}"
        for variable, value in re.findall(r'([A-Z]+)=("[^"]*"|\S*)', before + after):
            assert f"({variable})" in makefile, f"{name}: make {target} {variable}"
            if variable == "BENCH":
                assert set(value.strip('"').split()) <= set(find_benches()), f"{name}: make {target} {value}"
    for module, options in _MODULE.findall(text):
        path = REPO / module.replace(".", "/")
        source = next((each for each in (path.with_suffix(".py"), path / "__main__.py") if each.exists()), None)
        assert source or module in OTHER_MODULES, f"{name}: python -m {module}"
        for option in re.findall(r"--[a-z-]+", options) if source else ():
            assert f'"{option}"' in source.read_text(encoding="utf-8"), f"{name}: python -m {module} {option}"


@pytest.mark.parametrize("name", NAMES)
def test_options_variables_and_exit_codes_exist(name: str) -> None:
    text = (REPO / name).read_text(encoding="utf-8")
    # A span of an option alone; what stands after a command is tried with it (test_examples.py).
    for option in (span.split()[0].split("=")[0] for span in _spans(name) if span.startswith("--")):
        assert option in _OPTIONS, f"{name}: {option}"
    assert not sorted(set(_VARIABLE.findall(text)) - _VARIABLES - set(ABSENT)), name
    codes = (REPO / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    assert not [code for code in _EXIT_CODE.findall(text) if f"| {code} |" not in codes], name


def test_nothing_that_is_known_to_be_absent_is_there_or_no_longer_named() -> None:
    everything = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in ABSENT if name not in everything or (REPO / name).exists()] == []


def test_every_measured_figure_has_its_machine_its_date_and_its_command() -> None:
    page = (REPO / "docs" / "numbers.md").read_text(encoding="utf-8")
    figures = 0
    for section in page.split("\n## ")[1:]:
        rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
        if not rows:
            continue
        assert re.search(r"\d+ CPU cores|\b[AHL]\d+|RTX", section.splitlines()[0]), section.splitlines()[0]
        assert [cell.strip() for cell in rows[0]] == ["date", "what", "result", "command"]
        for row in rows[1:]:
            date, _, result, command = (cell.strip() for cell in row)
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", date), row
            assert re.search(r"\d", result), row
            run = _SPAN.fullmatch(command)
            assert run, row
            assert _MAKE.search(run[1]) or _MODULE.search(run[1]) or (REPO / run[1]).is_file(), row
            figures += 1
    assert figures > 10, "the pattern above no longer finds the rows"


def test_every_page_can_be_reached_from_the_index() -> None:
    seen, waiting = set(), [REPO / "docs" / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]
    assert not sorted(set((REPO / "docs").rglob("*.md")) - seen)


def test_the_drawing_of_the_import_layers_is_that_of_the_contracts() -> None:
    page = layers.PAGE.read_text(encoding="utf-8")
    assert "      finance · matrix\n      ledger\n" in page
    assert page == layers.with_drawing(page), "run `make docs`"


def test_every_decision_has_its_date_its_reason_and_what_would_change_it() -> None:
    folder = REPO / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    pages = sorted(folder.glob("2*.md"))
    assert pages
    for page in pages:
        text, date = page.read_text(encoding="utf-8"), page.name[:10]
        title = text.splitlines()[0].removeprefix("# ")
        assert f"- {date}: [{title}]({page.name})" in index
        assert re.findall(r"^(Decided on \d{4}-\d\d-\d\d\.|## .+)$", text, re.MULTILINE) == [
            *(f"Decided on {date}.", "## Choice", "## Reason", "## What would change our mind"),
        ]


def test_the_demo_in_the_readme_lists_the_tracks_of_the_demo() -> None:
    shown = (REPO / "README.md").read_text(encoding="utf-8")
    rows = re.search(r"^title +zone +genre +bpm +key +length +LUFS\n((?:.+\n)+)", shown, re.MULTILINE)
    assert rows
    catalog = load_catalog(REPO / "presets" / "catalogs" / "demo.yaml", None, Settings())
    tracks = [planned.track for planned in expand(catalog)]
    named = {(each.title, each.zone, each.genre, str(each.spec.bpm), each.spec.keyscale) for each in tracks}
    assert {tuple(re.split(r"  +", row)[:5]) for row in rows[1].splitlines()} == named


def test_the_readme_is_a_front_door_and_no_reference() -> None:
    lines = (REPO / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 150
