"""`tunemill presets`: list, show and check the library, and import prompts into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from catalog.errors import UnknownNameError
from catalog.settings import read_settings
from catalog.spec import Bounds, TrackSpec
from orchestrator.cli.console import JsonFlag, out, print_error, print_json, say, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.options import PresetsOption
from orchestrator.matrix.checking import PresetCheck, check_library
from orchestrator.matrix.imports import import_prompts
from orchestrator.matrix.names import quoted
from orchestrator.matrix.reading import (
    Kind,
    LoadedCatalog,
    PresetLibrary,
    find_presets_root,
    is_path,
    load_catalog,
    no_such_preset,
    open_library,
)
from orchestrator.matrix.summary import CatalogSummary, Group, summarise

KINDS: tuple[Kind, ...] = ("zones", "genres", "catalogs")
_CELLS_SHOWN_MAX = 40  # a larger matrix is shown by zone and by genre
_IMPORT_EXAMPLES = """\b
Examples:
  tunemill presets import prompts.csv --as spring
  tunemill presets import prompts.csv --as spring --zone hotel_lobby --force
  tunemill presets import examples/ --as samples    # ACE-Step example JSON"""
_METRES = {"2": "2/4", "3": "3/4", "4": "4/4", "6": "6/8"}

commands = typer.Typer(name="presets", help="List, show, check and import presets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(commands)


@commands.command("list")
def list_presets(
    kind: Annotated[str, typer.Argument(help="zones, genres or catalogs; all three without it.")] = "",
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """List the zones, genres and catalogs of the library."""
    library = open_library(presets, read_settings())
    found = {each: _listed(library, each) for each in _kinds(kind)}
    if json:
        print_json(found)
        return
    for place, (name, entries) in enumerate(found.items()):
        if place:
            out.print()
        _print_listed(name, entries)


def _print_listed(kind: Kind, entries: list[dict[str, Any]]) -> None:
    rows = []
    for entry in entries:
        size = entry["tracks"] if kind == "catalogs" else "-".join(str(bpm) for bpm in entry["tempo"])
        what = " ".join((entry["description"] or entry["title"]).split())
        rows.append((entry["name"], str(size or ""), what))
    heading = f"{len(entries)} {kind if len(entries) != 1 else kind.removesuffix('s')}"
    figures = number("tracks" if kind == "catalogs" else "bpm")
    print_table((Column(heading), figures, Column("what it is", least=20)), rows)


def _kinds(kind: str) -> tuple[Kind, ...]:
    if not kind:
        return KINDS
    for known in KINDS:
        if kind in (known, known.removesuffix("s")):
            return (known,)
    raise UnknownNameError(f"{quoted(kind)} is no kind of preset", fix="write zones, genres or catalogs")


def _listed(library: PresetLibrary, kind: Kind) -> list[dict[str, Any]]:
    if kind == "catalogs":
        return [
            {
                "name": name,
                "title": preset.content.title,
                "description": preset.content.description,
                "model": preset.content.model,
                "tracks": preset.content.tracks,
                "prompts": preset.content.prompts,
            }
            for name, preset in library.catalogs().items()
        ]
    found = library.zones() if kind == "zones" else library.genres()
    return [
        {
            "name": name,
            "title": preset.content.name,
            "description": preset.content.description,
            "tempo": list(preset.content.tempo),
        }
        for name, preset in found.items()
    ]


@commands.command()
def show(
    name: Annotated[str, typer.Argument(help="A zone, a genre, a catalog, or the path of a catalog file.")],
    cells: Annotated[bool, typer.Option("--cells", help="Print every cell of a large catalog.")] = False,
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Show a zone, a genre, or a catalog with its cells and a few of its prompts."""
    settings = read_settings()
    library = open_library(presets, settings)
    kinds = [kind for kind in KINDS if name in library.names(kind)]
    if is_path(name):
        kinds = ["catalogs"]
    if not kinds:
        raise no_such_preset(name, library)
    shown: dict[str, Any] = {}
    for kind in kinds:
        if kind == "catalogs":
            catalog = load_catalog(name, presets, settings)
            summary = summarise(catalog)
            shown["catalog"] = summary.as_dict()
            if not json:
                _print_catalog(catalog, summary, every_cell=cells)
        else:
            preset = library.zone(name) if kind == "zones" else library.genre(name)
            content = preset.content.model_dump(mode="json", exclude_unset=True)
            shown[kind.removesuffix("s")] = {"name": name, **content}
            if not json:
                _print_preset(kind.removesuffix("s"), name, content)
    if json:
        print_json(shown)


def _print_preset(kind: str, name: str, content: dict[str, Any]) -> None:
    say(Text(f"{kind} {name}", style="bold"))
    width = max(map(len, content)) + 2
    for key, value in content.items():
        if key == "tempo":
            texts = [f"{value[0]}-{value[1]} bpm"]
        elif isinstance(value, list):
            texts = [str(each) for each in value]
            texts = texts if any(len(text) > 30 for text in texts) else [", ".join(texts)]
        else:
            texts = [str(value)]
        for place, text in enumerate(texts):
            say(" ".join(text.split()), label=f"{'' if place else key:{width}}")


def _print_catalog(catalog: LoadedCatalog, summary: CatalogSummary, *, every_cell: bool) -> None:
    say(Text.assemble((summary.title, "bold"), f" ({catalog.name}), model {summary.model}"), hang=2)
    if catalog.preset.content.description:
        say(" ".join(catalog.preset.content.description.split()))
    say(f"{summary.tracks:,} tracks, {summary.takes:,} takes")
    out.print()
    if every_cell or len(summary.groups) <= _CELLS_SHOWN_MAX:
        _print_groups(("zone", "genre"), {(group.zone, group.genre): [group] for group in summary.groups})
    else:
        _print_groups(("zone",), _grouped(summary.groups, lambda group: group.zone))
        out.print()
        _print_groups(("genre",), _grouped(summary.groups, lambda group: group.genre))
        say(f"{len(summary.groups):,} pairs of zone and genre in all: --cells or --json shows each")
    if summary.left_out:
        warn(f"{len(summary.left_out):,} cells are left out because no tempo suits both zone and genre")
    out.print()
    say(Text("examples", style="bold"))
    for example in summary.examples:
        spec = example.spec
        metas = _metas(spec)
        say(Text.assemble(f"{example.title} ", (example.key, "dim")), label="  ", hang=4)
        say(Text.assemble(f"{spec.caption} ", (f"({metas})", "dim")), label="    ")


def _metas(spec: TrackSpec) -> str:
    """Format tempo, key, metre and length; a field that the planner chooses is called open, with its range if any."""
    bounds = spec.bounds or Bounds()
    tempo = f"{bounds.bpm[0]}-{bounds.bpm[1]} bpm open" if bounds.bpm else f"{spec.bpm} bpm"
    metre = _METRES[spec.timesignature] if spec.timesignature else "metre open"
    length = f"{spec.duration_s} s"
    if bounds.duration_s:
        length = f"{bounds.duration_s[0]}-{length} open"
    return ", ".join((tempo, spec.keyscale or "key open", metre, length))


def _grouped(groups: Sequence[Group], name: Callable[[Group], str]) -> dict[tuple[str, ...], list[Group]]:
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        found.setdefault((name(group),), []).append(group)
    return found


def _print_groups(headings: tuple[str, ...], groups: Mapping[tuple[str, ...], Sequence[Group]]) -> None:
    everything = [group for members in groups.values() for group in members]
    filled = any(group.open for group in everything)
    figures = (number("cells"), number("tracks"), number("bpm"), *([Column("open", least=8)] if filled else []))
    columns = (*(Column(heading, least=10) for heading in headings), *figures)
    rows = [(*names, *_figures(members, filled=filled)) for names, members in groups.items()]
    print_table(columns, rows, total=("total", *[""] * (len(headings) - 1), *_figures(everything, filled=filled)))
    if filled:
        say("open is what the planner chooses, for each track by itself")


def _figures(groups: Sequence[Group], *, filled: bool) -> tuple[str, ...]:
    low, high = min(group.bpm_low for group in groups), max(group.bpm_high for group in groups)
    cells, tracks = sum(group.cells for group in groups), sum(group.tracks for group in groups)
    open_fields = ", ".join(sorted({field for group in groups for field in group.open})) or "-"
    return (f"{cells:,}", f"{tracks:,}", f"{low}-{high}", *([open_fields] if filled else []))


@commands.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Check only these; the whole library without any.")] = None,
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Check presets: every file, and every catalog expanded to its last track."""
    settings = read_settings()
    findings = check_library(names or [], presets, settings)
    wrong = [finding for finding in findings if finding.error]
    if json:
        print_json({"ok": not wrong, "presets": [finding.as_dict() for finding in findings]})
    else:
        _print_findings(findings)
        for finding in wrong:
            if finding.error:
                print_error(finding.error)
        good = len(findings) - len(wrong)
        say(f"{good} of {len(findings)} presets are sound" + ("" if wrong else "; nothing to mend"))
    if wrong and wrong[0].error:
        raise typer.Exit(wrong[0].error.exit_code)


def _print_findings(findings: list[PresetCheck]) -> None:
    expanded = [finding for finding in findings if finding.kind == "catalog" and not finding.error]
    if not expanded:
        return
    rows = []
    for finding in expanded:
        counts = (finding.tracks, finding.takes, finding.prompts, finding.captions, finding.left_out)
        rows.append((finding.name, *(f"{count:,}" for count in counts)))
    headings = ("tracks", "takes", "prompts", "captions", "left out")
    print_table((Column("catalog", least=10), *map(number, headings)), rows)
    say("prompts and captions differ from all others of their catalog; left out are cells without a tempo")


@commands.command("import", epilog=_IMPORT_EXAMPLES)
def import_(
    file: Annotated[Path, typer.Argument(help="A CSV file, ACE-Step example JSON, or a folder of .json files.")],
    name: Annotated[str, typer.Option("--as", help="Name the catalog to write.")],
    zone: Annotated[str | None, typer.Option(help="Put prompts that name no zone into this one.")] = None,
    genre: Annotated[str | None, typer.Option(help="Put prompts that name no genre into this one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a catalog of that name.")] = False,
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Import prompts as a catalog: one track for each."""
    root = find_presets_root(presets, read_settings())
    done = import_prompts(file, name, root, zone=zone, genre=genre, force=force)
    if json:
        counts = {"prompts": done.rows, "duplicates": done.duplicates, "left_out": done.left_out}
        print_json({"catalog": str(done.catalog), "csv": str(done.prompts), **counts})
        return
    if done.left_out:
        warn(f"not used: {', '.join(done.left_out[:20])}")
    say(f"prompts: {done.rows:,}; of these duplicates, each a track of its own: {done.duplicates:,}", hang=2)
    say(str(done.catalog), label="wrote ")
    say(str(done.prompts), label="      ")
    say(f"tunemill plan {done.catalog if presets else name}", label="next: ")
