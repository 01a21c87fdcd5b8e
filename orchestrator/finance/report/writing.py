"""Writing a pack: write all of its files or none, with the same bytes for the same month.

All files are first written into a hidden folder beside the pack and flushed to disk; then each is moved to its place,
the manifest last. When the disk is full or the writer dies, the old pack stays as it was. Files of other people in the
folder are left alone.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from catalog.errors import DisagreementError, SettingsError, StoreError, StoreFullError, TunemillError
from orchestrator.finance.report.contents import Contents
from orchestrator.finance.report.control import ControlTotals, totals_of
from orchestrator.finance.report.extract import write_costs, write_ledger
from orchestrator.finance.report.manifest import (
    COSTS,
    LEDGER,
    MANIFEST,
    Manifest,
    find_manifest,
    is_inside,
    make_manifest,
    seal_of,
)
from orchestrator.finance.report.page import write_page
from orchestrator.finance.report.workbook import write_workbook

WORKBOOK: Final = "report.xlsx"
PAGE: Final = "report.html"
OWN_FILES: Final = frozenset({WORKBOOK, PAGE, LEDGER, COSTS, MANIFEST})
NO_MORE: Final[Mapping[str, Callable[[Path], None]]] = MappingProxyType({})
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_pack(
    contents: Contents, folder: Path, extra_files: Mapping[str, Callable[[Path], None]] = NO_MORE
) -> Manifest:
    """Write the pack of a month into `folder`, which is made where it does not exist, and return its manifest.

    Each of `extra_files` is asked to write the file at the path it is given; its name may have folders in it. Raises
    SettingsError for a folder that holds the pack of another month, DisagreementError when rows and entries do not
    add up to the same, StoreFullError when the disk is full.
    """
    folder = folder.expanduser().absolute()
    _check_names(extra_files)
    with _words_for(folder), _written_beside(folder) as beside:
        _check_folder(folder, contents.period)
        write_costs(contents.rows, beside / COSTS)
        ledger = write_ledger(contents.extract(), beside / LEDGER)
        _check_totals(contents, ledger)
        write_workbook(contents, beside / WORKBOOK)
        write_page(contents, beside / PAGE)
        for name, write in sorted(extra_files.items()):
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            write(beside / name)
        names = sorted({*OWN_FILES - {MANIFEST}, *extra_files})
        _refuse_foreign(folder, names)
        manifest = make_manifest(contents, ledger, [seal_of(beside / name, name) for name in names])
        (beside / MANIFEST).write_text(manifest.as_text(), encoding="utf-8", newline="\n")
        _take_places(beside, folder, [*names, MANIFEST])
    return manifest


def _check_names(extra_files: Mapping[str, Callable[[Path], None]]) -> None:
    for name in extra_files:
        if not is_inside(name) or name in OWN_FILES:
            raise TunemillError(f"a pack cannot hold another file named {name!r}")


def _check_folder(folder: Path, period: str) -> None:
    there = find_manifest(folder)
    if there is not None and there.get("period") != period:
        raise SettingsError(
            f"{folder} holds the pack of {there.get('period')}",
            why=f"writing the pack of {period} there would mix two months",
            fix="choose another folder",
        )


def _refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder without a manifest that has a file with a pack's file name, because the file is not ours."""
    if (folder / MANIFEST).exists():
        return
    if foreign := sorted(name for name in names if (folder / name).exists()):
        raise SettingsError(
            f"{folder / foreign[0]} exists and is not part of a pack",
            why="a pack in this folder would overwrite the file",
            fix="choose another folder, or move the file away",
        )


def _check_totals(contents: Contents, ledger: ControlTotals) -> None:
    """Rows and entries are read separately; a pack in which they differ is worth nothing."""
    rows = totals_of(contents.rows).as_plain_values()
    entries = ledger.as_plain_values()
    differ = [
        f"{name}: rows {rows[name]}, entries {entries[name]}"
        for name in rows
        if name != "lines" and rows[name] != entries[name]
    ]
    if differ:
        raise DisagreementError(
            f"the roll-up of {contents.period} and its entries have different sums",
            why="; ".join(differ),
            fix="`tunemill costs verify` names the differences",
        )


@contextmanager
def _written_beside(folder: Path) -> Iterator[Path]:
    """A hidden folder on the same disk; it is gone afterwards."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.part"
    beside.mkdir()
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _take_places(beside: Path, folder: Path, names: list[str]) -> None:
    """Give every finished file its name, in that order, and remove those that only the pack before had."""
    for name in names:
        _flush(beside / name)
    folder.mkdir(exist_ok=True)
    old = find_manifest(folder)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (beside / name).replace(folder / name)
        _flush((folder / name).parent)
    for name, sealed in sorted(old["files"].items() if old else ()):
        left = folder / name
        is_left = name not in names and is_inside(name) and left.is_file()
        if is_left and seal_of(left, name).sha256 == sealed.get("sha256"):  # one that was changed since is not ours
            left.unlink()
    _flush(folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _words_for(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what, why = f"the pack cannot be written to {folder}", error.strerror or str(error) or type(error).__name__
        if error.errno in _FULL:
            fix = "free some space, or choose another folder; what was there before is whole"
            raise StoreFullError(what, why=why, fix=fix) from None
        raise StoreError(what, why=why, fix="choose a folder that this user may write to") from None
