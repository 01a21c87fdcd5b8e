"""`tunemill presets`: list, show and check the library, begin a new preset, and import prompts."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from catalog.errors import UnknownNameError
from catalog.settings import read_settings
from catalog.spec import Bounds, TrackSpec
from orchestrator.cli import completion, imports
from orchestrator.cli.console import JsonFlag, err, out, print_error, print_json, say, warn
from orchestrator.cli.display import Column, number, print_table
from orchestrator.cli.options import PresetsOption
from orchestrator.matrix.checking import PresetCheck, check_library
from orchestrator.matrix.layers import holds_presets, writable_root
from orchestrator.matrix.listing import ListedPreset, list_presets
from orchestrator.matrix.located import shown
from orchestrator.matrix.names import printable, quoted
from orchestrator.matrix.notes import notes_of
from orchestrator.matrix.reading import (
    Kind,
    LoadedCatalog,
    PresetLibrary,
    is_path,
    load_catalog,
    no_such_preset,
    open_library,
    refuse_misspelt_path,
)
from orchestrator.matrix.starters import write_copy, write_starter
from orchestrator.matrix.summary import CatalogSummary, CellSummary, Group, summarise

KINDS: tuple[Kind, ...] = ("zones", "genres", "catalogs")
_CELLS_SHOWN_MAX = 40  # a larger matrix is shown by zone and by genre
_NEW_EXAMPLES = """\b
Examples:
  tunemill presets new zone rooftop_bar
  tunemill presets new genre samba --from bossa_nova
  tunemill presets new catalog spring"""
_LAYER_WIDTH = 11
_METRES = {"2": "2/4", "3": "3/4", "4": "4/4", "6": "6/8"}

commands = typer.Typer(name="presets", help="List, show, check, make and import presets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(commands)


@commands.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="zones, genres or catalogs; by default all three.")] = "",
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """List the zones, genres and catalogs of every layer.

    The command also shows the folders of the layers.

    A name of several layers is listed once, from the highest layer, with the layers whose file it replaces.
    """
    library = open_library(presets, read_settings())
    found = {each: list_presets(library, each) for each in _kinds(kind)}
    if json:
        print_json({name: [entry.as_dict() for entry in entries] for name, entries in found.items()})
    else:
        for name, entries in found.items():
            _print_listed(name, entries)
            out.print()
        for layer in library.layers:
            say(printable(str(layer.root)), label=f"{layer.layer:{_LAYER_WIDTH}}")
    broken = [entry.error for entries in found.values() for entry in entries if entry.error]
    for error in broken:
        print_error(error)
    if broken:
        raise typer.Exit(broken[0].exit_code)


def _print_listed(kind: Kind, entries: list[ListedPreset]) -> None:
    rows = []
    for entry in entries:
        facts = entry.facts
        size = facts.get("tracks") if kind == "catalogs" else "-".join(map(str, facts.get("tempo", ())))
        what = facts.get("description") or facts.get("title") or "cannot be read; see the error below"
        origin = f"{entry.layer}, over {', '.join(entry.shadows)}" if entry.shadows else str(entry.layer)
        rows.append((entry.name, str(size or ""), origin, " ".join(what.split())))
    heading = f"{len(entries)} {kind if len(entries) != 1 else kind.removesuffix('s')}"
    figures = number("tracks" if kind == "catalogs" else "bpm", spare=1)
    print_table((Column(heading), figures, Column("from"), Column("what it is", least=20)), rows)


def _kinds(kind: str) -> tuple[Kind, ...]:
    if not kind:
        return KINDS
    for known in KINDS:
        if kind in (known, known.removesuffix("s")):
            return (known,)
    raise UnknownNameError(f"{quoted(kind)} is not a kind of preset", fix="write zones, genres or catalogs")


@commands.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A zone, a genre, a catalog, or the path of a catalog file.", autocompletion=completion.presets
        ),
    ],
    cells: Annotated[bool, typer.Option("--cells", help="Print every cell, with its value on each axis.")] = False,
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Show a zone, a genre, or a catalog with its cells and prompts."""
    settings = read_settings()
    library = open_library(presets, settings)
    refuse_misspelt_path(name, library)
    kinds = [kind for kind in KINDS if name in library.names(kind)]
    if is_path(name):
        kinds = ["catalogs"]
    if not kinds:
        raise no_such_preset(name, library)
    told: dict[str, Any] = {}
    for kind in kinds:
        if kind == "catalogs":
            catalog = load_catalog(name, presets, settings)
            summary, notes = summarise(catalog), notes_of(catalog)
            told["catalog"] = {**summary.as_dict(), "notes": notes, **_place(catalog.library, catalog.preset.path)}
            if not json:
                _print_catalog(catalog, summary, every_cell=cells)
                for note in notes:
                    warn(note)
        else:
            preset = library.zone(name) if kind == "zones" else library.genre(name)
            content = preset.content.model_dump(mode="json", exclude_unset=True)
            place = _place(library, preset.path)
            told[kind.removesuffix("s")] = {"name": name, **content, **place}
            if not json:
                _print_preset(kind.removesuffix("s"), name, {**content, **place})
    if json:
        print_json(told)


def _place(library: PresetLibrary, path: Path) -> dict[str, Any]:
    """The layer and the path of a preset's file; no layer for a file outside of all."""
    layer = library.layer_of(path)
    return {"layer": str(layer.layer) if layer else None, "path": shown(path)}


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
    if every_cell and summary.cells:
        axes = list(summary.cells[0].axes)
        _print_groups(("zone", "genre", *axes), {_name_of(cell): [_as_group(cell)] for cell in summary.cells})
    elif len(summary.groups) <= _CELLS_SHOWN_MAX:
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


def _name_of(cell: CellSummary) -> tuple[str, ...]:
    return (cell.zone, cell.genre, *cell.axes.values())


def _as_group(cell: CellSummary) -> Group:
    return Group(cell.zone, cell.genre, 1, cell.tracks, cell.bpm_low, cell.bpm_high, cell.open)


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
        say("open: the planner chooses the value, for each take separately")


def _figures(groups: Sequence[Group], *, filled: bool) -> tuple[str, ...]:
    low, high = min(group.bpm_low for group in groups), max(group.bpm_high for group in groups)
    cells, tracks = sum(group.cells for group in groups), sum(group.tracks for group in groups)
    open_fields = ", ".join(sorted({field for group in groups for field in group.open})) or "-"
    return (f"{cells:,}", f"{tracks:,}", f"{low}-{high}", *([open_fields] if filled else []))


@commands.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Check only these presets; by default all of the highest layer.", autocompletion=completion.catalogs
        ),
    ] = None,
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Check every preset file, and expand every catalog.

    Without NAMES the command checks your own folder; if you have none, the home; else the installed presets.
    """
    settings = read_settings()
    findings = check_library(names or [], presets, settings)
    wrong = [finding for finding in findings if finding.error]
    if json:
        print_json({"ok": not wrong, "presets": [finding.as_dict() for finding in findings]})
    else:
        _print_findings(findings)
        _print_wrong(wrong)
        good = len(findings) - len(wrong)
        say(f"{good} of {len(findings)} presets are valid" + ("" if wrong else "; nothing to correct"))
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
    for finding in expanded:
        for note in finding.notes:
            warn(f"{finding.name}: {note}")


def _print_wrong(findings: Sequence[PresetCheck]) -> None:
    """Print each mistake once, with the other presets that it breaks: those that use the broken one."""
    broken_by: dict[str, list[PresetCheck]] = {}
    for finding in findings:
        broken_by.setdefault(str(finding.error), []).append(finding)
    for first, *others in broken_by.values():
        if first.error:
            print_error(first.error)
        if others:
            names = ", ".join(f"{each.kind} {each.name}" for each in others)
            say(names, to=err, label="  it breaks as well: ")


@commands.command(epilog=_NEW_EXAMPLES)
def new(
    kind: Annotated[str, typer.Argument(help="zone, genre or catalog.")],
    name: Annotated[str, typer.Argument(help="Name of the new preset; the file gets the same name.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PRESET",
            help="Copy this preset, of the same kind and any layer.",
            autocompletion=completion.presets,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file of that name.")] = False,
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Write a new preset to edit: a small commented one, or a copy.

    The file goes to your own folder (--presets, TUNEMILL_PRESETS or ./presets), or to the home if you have none. A copy
    does not follow later changes of the original. For a preset that follows another one, write 'extends: PRESET' and
    only the keys that differ.
    """
    settings = read_settings()
    (wanted,) = _kinds(kind or "?")
    root, option = writable_root(presets, settings), presets
    if not holds_presets(root):  # the first of its folder
        presets, settings = None, settings.model_copy(update={"presets": None})
    library = open_library(presets, settings)
    if source is None:
        path = write_starter(wanted, name, root, library, force=force)
    else:
        path = write_copy(wanted, name, source, root, library, force=force)
    if json:
        print_json({"kind": wanted.removesuffix("s"), "name": name, "path": shown(path), "from": source})
        return
    where = f" --presets {shlex.quote(str(option))}" if option else ""
    say(shown(path), label="wrote ")
    say(f"edit it, then `tunemill presets check {name}{where}`", label="next: ")


imports.register(commands)
