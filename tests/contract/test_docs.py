"""The docs stay true: links, paths, drawings and the demo's output in the README are what the repository says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalog.settings import Settings
from orchestrator.matrix import expand, load_catalog
from tests.support import layers

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / "README.md", REPO / "presets" / "README.md", *(REPO / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(REPO)) for page in PAGES]
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


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


@pytest.mark.parametrize("name", NAMES)
def test_paths_in_the_pages_exist(name: str) -> None:
    text = (REPO / name).read_text(encoding="utf-8")
    roots = "catalog|orchestrator|workers|presets|infra|tests|docs"
    for path in re.findall(rf"`((?:{roots})/[\w./-]*)`", text):
        # What presets/README says is in a folder of the user's own lies in presets/ here.
        assert (REPO / path).exists() or path == "infra/measurements/", f"{name}: {path}"


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
