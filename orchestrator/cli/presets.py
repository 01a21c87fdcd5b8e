"""`tunemill presets`: list, show and check the library, and import prompts into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from catalog.errors import UnknownNameError
from catalog.settings import read_settings
from orchestrator.cli.console import JsonFlag, out, print_error, print_json, warn
from orchestrator.matrix.checking import Finding, check_library
from orchestrator.matrix.imports import import_prompts
from orchestrator.matrix.problems import closest
from orchestrator.matrix.reading import (
    Kind,
    LoadedCatalog,
    PresetLibrary,
    find_presets_root,
    load_catalog,
    open_library,
)
from orchestrator.matrix.summary import CatalogSummary, summarise

KINDS: tuple[Kind, ...] = ("zones", "genres", "catalogs")
_ROWS_SHOWN = 60
_METRES = {"2": "2/4", "3": "3/4", "4": "4/4", "6": "6/8"}

PresetsOption = Annotated[
    Path | None, typer.Option("--presets", help="Folder with zones/, genres/ and catalogs/.", file_okay=False)
]

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
    for name, entries in found.items():
        table = Table(title=f"{len(entries)} {name}", title_justify="left")
        for heading in ("name", "bpm" if name != "catalogs" else "tracks", "what it is"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "bpm")
        for entry in entries:
            numbers = entry["tracks"] if name == "catalogs" else "-".join(str(bpm) for bpm in entry["tempo"])
            table.add_row(entry["name"], str(numbers or ""), escape(entry["description"] or entry["title"]))
        out.print(table)


def _kinds(kind: str) -> tuple[Kind, ...]:
    if not kind:
        return KINDS
    for known in KINDS:
        if kind in (known, known.removesuffix("s")):
            return (known,)
    raise UnknownNameError(f"{kind!r} is no kind of preset", fix="write zones, genres or catalogs")


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
    presets: PresetsOption = None,
    json: JsonFlag = False,
) -> None:
    """Show a zone, a genre, or a catalog with its cells and a few of its prompts."""
    settings = read_settings()
    library = open_library(presets, settings)
    kinds = [kind for kind in KINDS if name in library.names(kind)]
    if name.endswith((".yaml", ".yml")) or "/" in name:
        kinds = ["catalogs"]
    if not kinds:
        names = [each for kind in KINDS for each in library.names(kind)]
        guess = closest(name, names)
        raise UnknownNameError(
            f"there is no zone, genre or catalog {name!r}", fix=f"write {guess!r}" if guess else "try `presets list`"
        )
    shown: dict[str, Any] = {}
    for kind in kinds:
        if kind == "catalogs":
            catalog = load_catalog(name, presets, settings)
            summary = summarise(catalog)
            shown["catalog"] = summary.as_dict()
            if not json:
                _print_catalog(catalog, summary)
        else:
            preset = library.zone(name) if kind == "zones" else library.genre(name)
            content = preset.content.model_dump(mode="json", exclude_unset=True)
            shown[kind.removesuffix("s")] = {"name": name, **content}
            if not json:
                _print_preset(kind.removesuffix("s"), name, content)
    if json:
        print_json(shown)


def _print_preset(kind: str, name: str, content: dict[str, Any]) -> None:
    table = Table(title=f"{kind} {name}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in content.items():
        if key == "tempo":
            text = f"{value[0]}-{value[1]} bpm"
        elif isinstance(value, list):
            text = ("\n" if any(len(str(each)) > 30 for each in value) else ", ").join(str(each) for each in value)
        else:
            text = str(value)
        table.add_row(key, escape(text))
    out.print(table)


def _print_catalog(catalog: LoadedCatalog, summary: CatalogSummary) -> None:
    out.print(f"[bold]{escape(summary.title)}[/] ({catalog.name}), model {summary.model}")
    if catalog.preset.content.description:
        out.print(escape(catalog.preset.content.description))
    table = Table(title=f"{summary.tracks:,} tracks, {summary.takes:,} takes", title_justify="left")
    for heading in ("zone", "genre"):
        table.add_column(heading, overflow="fold")
    for heading in ("cells", "tracks", "bpm"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in summary.groups[:_ROWS_SHOWN]:
        tempo = f"{group.bpm_low}-{group.bpm_high}"
        table.add_row(group.zone, group.genre, f"{group.cells:,}", f"{group.tracks:,}", tempo)
    out.print(table)
    if len(summary.groups) > _ROWS_SHOWN:
        out.print(f"... and {len(summary.groups) - _ROWS_SHOWN} more; --json has them all")
    if summary.left_out:
        warn(f"{len(summary.left_out)} cells are left out because no tempo suits both zone and genre")
    out.print("[bold]Examples[/]")
    for example in summary.examples:
        spec = example.spec
        metas = f"{spec.bpm} bpm, {spec.keyscale}, {_METRES[spec.timesignature]}, {spec.duration_s} s"
        out.print(f"  {escape(example.title)} [dim]{escape(example.key)}[/]", soft_wrap=False)
        out.print(f"    {escape(spec.caption)} [dim]({metas})[/]")


@commands.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Only these; the whole library without any.")] = None,
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
        out.print(f"{good} of {len(findings)} presets are sound" + ("" if wrong else "; nothing to mend"))
    if wrong and wrong[0].error:
        raise typer.Exit(wrong[0].error.exit_code)


def _print_findings(findings: list[Finding]) -> None:
    expanded = [finding for finding in findings if finding.kind == "catalog" and not finding.error]
    if not expanded:
        return
    table = Table(title="catalogs", title_justify="left")
    table.add_column("name", overflow="fold")
    for heading in ("tracks", "takes", "prompts", "captions", "cells left out"):
        table.add_column(heading, justify="right")
    for finding in expanded:
        counts = (finding.tracks, finding.takes, finding.prompts, finding.captions, finding.left_out)
        table.add_row(finding.name, *(f"{count:,}" for count in counts))
    out.print(table)
    out.print("[dim]prompts and captions: how many differ from all others of their catalog[/]")


@commands.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A CSV file, ACE-Step example JSON, or a folder of .json files.")],
    name: Annotated[str, typer.Option("--as", help="Name of the catalog to write.")],
    zone: Annotated[str | None, typer.Option(help="Zone label of prompts that name none.")] = None,
    genre: Annotated[str | None, typer.Option(help="Genre label of prompts that name none.")] = None,
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
    out.print(f"prompts: {done.rows:,}; of these duplicates, each a track of its own: {done.duplicates:,}")
    out.print(f"wrote {escape(str(done.catalog))}\n      {escape(str(done.prompts))}", soft_wrap=True)
    out.print(f"next: tunemill plan {escape(str(done.catalog) if presets else name)}", soft_wrap=True)
