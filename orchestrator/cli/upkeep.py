"""`tunemill catalog verify`, `repair`, `rebuild` and `gc`: keep ledger, sidecars and audio in agreement."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from catalog.errors import DisagreementError
from catalog.messages import now_ms
from catalog.orders import read_signer
from catalog.settings import Settings, read_settings
from catalog.store import Store, open_configured_store
from orchestrator.cli import completion
from orchestrator.cli.console import JsonFlag, out, print_json, say, warn
from orchestrator.cli.display import Column, counting, number, print_table
from orchestrator.cli.ledger import find_ledger
from orchestrator.cli.names import catalog_key
from orchestrator.ledger import Ledger, open_ledger, upkeep
from orchestrator.upkeep import survey
from orchestrator.upkeep.abreast import THREADS
from orchestrator.upkeep.digests import ReadDigests
from orchestrator.upkeep.rebuild import Rebuilt, rebuild
from orchestrator.upkeep.repair import MEANING as REMEDY_MEANING
from orchestrator.upkeep.repair import Remedy, Repaired, RepairStep, repair
from orchestrator.upkeep.survey import MEANING, Finding, FindingKind, Surveyor
from orchestrator.upkeep.sweep import Leftover, Swept, sweep
from orchestrator.upkeep.verdicts import repair_verdicts

_FINDINGS_SHOWN: Final = 20
_JOBS_MAX: Final = 32  # as many connections as there are to S3
_DAMAGED_SHOWN: Final = 10
_MS_PER_H: Final = 3_600_000
_COUNT_COLUMNS = (Column("finding"), number("takes"), Column("what it means", least=20))
_FINDING_COLUMNS = (Column("finding"), Column("object", least=24), Column("detail", least=16))
_REMEDY_COLUMNS = (Column("repair"), number("takes"), Column("what it means", least=20))
_SWEPT_COLUMNS = (Column("removed", least=12), number("objects"), number("size"))

CatalogName = Annotated[
    str | None,
    typer.Argument(
        help="A catalog's name; by default all catalogs.",
        autocompletion=completion.made_catalogs,
        callback=catalog_key,
    ),
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="Compare only the sizes of audio files, without reading them.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what the command would do, and change nothing.")]


def register(group: typer.Typer) -> None:
    """Add the commands to the group `tunemill catalog`."""
    group.command("verify")(verify)
    group.command("repair")(repair_catalog)
    group.command("rebuild")(rebuild_ledger)
    group.command("gc")(collect_garbage)


def verify(
    catalog: CatalogName = None,
    quick: QuickOption = False,
    jobs: Annotated[
        int, typer.Option(help="Number of objects that are read at the same time.", min=1, max=_JOBS_MAX)
    ] = THREADS,
    again: Annotated[
        bool, typer.Option("--again", help="Read all audio, even if a stopped check has read it already.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Compare ledger, sidecars and audio; nothing is changed.

    After a Ctrl-C, a kill or an outage the same command continues where it stopped: audio that was read within the last
    three days and was not written since is not read again.

    Exit codes: 0 when ledger, sidecars and audio agree, 52 when they differ.
    """
    settings = read_settings()
    store, ledger = _open(settings, catalog)
    survey.refuse_empty_store(store, ledger, catalog)
    with _digests(settings, catalog, quick=quick, again=again) as digests:
        found, findings = _survey(store, ledger, catalog, quick=quick, jobs=jobs, digests=digests)
        if digests is not None:
            digests.remove()
    if json:
        print_json(_survey_as_json(found, findings, quick=quick))
    else:
        _print_survey(found, findings, quick=quick)
    if findings:
        raise DisagreementError(
            f"ledger and store disagree in {len(findings):,} places",
            why=", ".join(f"{count:,} {kind}" for kind, count in found.counts.most_common()),
            fix=_fix(found.counts),
        )


@contextmanager
def _digests(settings: Settings, catalog: str | None, *, quick: bool, again: bool) -> Iterator[ReadDigests | None]:
    """What a survey that was stopped has read, and says so; None for one that reads no audio."""
    if quick:
        yield None
        return
    place = f"{settings.store} {settings.s3_endpoint_url or ''}"
    with ReadDigests.opened(settings.home, place, catalog, again=again) as digests:
        if digests.found:
            begun = datetime.fromtimestamp(digests.begun_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
            warn(
                f"continuing the check of {begun}: {digests.found:,} audio objects are read already; --again reads all"
            )
        yield digests
        if digests.fault:
            warn(f"the list of read audio could not be kept below {settings.home}: {digests.fault}")


def _survey(
    store: Store, ledger: Ledger, catalog: str | None, *, quick: bool, jobs: int, digests: ReadDigests | None
) -> tuple[survey.Survey, list[Finding]]:
    findings: list[Finding] = []
    with counting("comparing", _count_accepted(ledger, catalog)) as on_take:
        surveyor = Surveyor(store, ledger, quick=quick, jobs=jobs, digests=digests, on_take=on_take)
        for case in surveyor.examine(catalog):
            findings += case.findings
    findings += surveyor.examine_verdicts()[1]
    return surveyor.survey, findings


def repair_catalog(
    catalog: CatalogName = None,
    quick: QuickOption = False,
    all_lost: Annotated[
        bool, typer.Option("--all-lost", help="Continue even if the store has no object of a catalog.")
    ] = False,
    dry_run: DryRunOption = False,
    json: JsonFlag = False,
) -> None:
    """Repair the faults that `verify` finds.

    Takes are recorded, restored, or marked as missing.

    Valid data in the ledger or in the store is kept. A take without valid data counts as missing, and `tunemill run`
    makes it again.
    """
    settings = read_settings()
    store, ledger = _open(settings, catalog)
    if not all_lost:
        survey.refuse_empty_store(store, ledger, catalog)
    if dry_run:
        steps, done = _repair(store, ledger, catalog, quick=quick, dry_run=True)
    else:
        with ledger.writer_lock() as lock:
            steps, done = _repair(store, ledger.fenced(lock), catalog, quick=quick)
    if json:
        print_json(_repaired_as_json(steps, done, dry_run=dry_run))
    else:
        _print_repaired(done, dry_run=dry_run)


def rebuild_ledger(
    database: Annotated[
        str | None, typer.Option(help="Make the ledger in this database instead of TUNEMILL_DATABASE_URL.")
    ] = None,
    dry_run: DryRunOption = False,
    json: JsonFlag = False,
) -> None:
    """Make a new ledger from the store alone.

    The new ledger has runs, accepted takes, their attempts, renditions and verdicts.

    An existing ledger with takes is refused. Exit codes: 52 when some objects could not be read.
    """
    settings = read_settings()
    store = open_configured_store(settings)
    signer = read_signer(settings.signing_key) if settings.signing_key.exists() else None
    with counting("reading sidecars", None) as on_take:
        if dry_run:
            found = rebuild(store, None, signer=signer, on_take=on_take)
        else:
            ledger = open_ledger(database or settings.database)
            with ledger.writer_lock() as lock:
                found = rebuild(store, ledger.fenced(lock), signer=signer, on_take=on_take)
    if json:
        print_json({**found._asdict(), "dry_run": dry_run})
    else:
        _print_rebuilt(found, dry_run=dry_run)
    if found.damaged:
        raise DisagreementError(
            f"{len(found.damaged):,} objects could not be read and were left out",
            why=", ".join(found.damaged[:_DAMAGED_SHOWN])
            + (" and more" if len(found.damaged) > _DAMAGED_SHOWN else ""),
            fix="`tunemill catalog verify` names the fault of each; `tunemill catalog repair` repairs or removes "
            "damaged objects, and `tunemill run CATALOG` then makes their takes again",
        )


def collect_garbage(
    older_than: Annotated[
        float,
        typer.Option(metavar="HOURS", help="Keep objects of the last hours, since a worker may still use them.", min=0),
    ] = 24.0,
    dry_run: DryRunOption = False,
    json: JsonFlag = False,
) -> None:
    """Remove unused objects from the store.

    These are audio that no sidecar names, leftover test objects and incomplete files.
    """
    if not math.isfinite(older_than):
        raise typer.BadParameter("it must be a number of hours", param_hint="--older-than")
    settings = read_settings()
    store = open_configured_store(settings)
    before_ms = now_ms() - round(older_than * _MS_PER_H)
    swept = list(sweep(store, find_ledger(settings), before_ms, dry_run=dry_run, note=warn))
    if json:
        print_json(
            {
                "dry_run": dry_run,
                "bytes": sum(each.info.size for each in swept),
                "removed": [{"kind": each.kind, "key": each.info.key, "bytes": each.info.size} for each in swept],
            }
        )
    else:
        _print_swept(swept, dry_run=dry_run)


def _open(settings: Settings, catalog: str | None) -> tuple[Store, Ledger]:
    store = open_configured_store(settings)
    ledger = survey.get_ledger(find_ledger(settings))
    if catalog is not None:
        survey.refuse_unknown(store, ledger, catalog)
    return store, ledger


def _count_accepted(ledger: Ledger, catalog: str | None) -> int:
    with ledger.read() as connection:
        return sum(upkeep.count_accepted(connection, catalog).values())


def _repair(
    store: Store, ledger: Ledger, catalog: str | None, *, quick: bool, dry_run: bool = False
) -> tuple[list[RepairStep], Repaired]:
    steps: list[RepairStep] = []
    done: Repaired | None = None
    with counting("comparing", _count_accepted(ledger, catalog)) as on_take:
        surveyor = Surveyor(store, ledger, quick=quick, on_take=on_take)
        for each in repair(store, ledger, surveyor.examine(catalog), quick=quick, dry_run=dry_run):
            if isinstance(each, Repaired):
                done = each
            else:
                steps.append(each)
    if done is None:
        raise AssertionError("a repair ends with its sum")
    # After the takes: a verdict may be about one whose sidecar has just been recorded.
    verdicts, _ = surveyor.examine_verdicts()
    if not dry_run:
        repair_verdicts(store, ledger, verdicts)
    done.remedies[Remedy.RECORD_VERDICT] = len(verdicts.unrecorded)
    done.remedies[Remedy.STORE_VERDICT] = len(verdicts.unstored)
    done.remedies[Remedy.REMOVE_VERDICT] = len(set(verdicts.damaged) - {each.key for each in verdicts.unstored})
    return steps, done


def _survey_as_json(found: survey.Survey, findings: Sequence[Finding], *, quick: bool) -> dict[str, Any]:
    return {
        "catalogs": found.catalogs,
        "quick": quick,
        "accepted": found.takes,
        "on_their_way": found.on_their_way,
        "sidecars": found.sidecars,
        "audio": found.audio,
        "counts": {kind: found.counts[kind] for kind in FindingKind},
        "findings": [finding._asdict() for finding in findings],
    }


def _print_survey(found: survey.Survey, findings: Sequence[Finding], *, quick: bool) -> None:
    how = "sizes compared" if quick else "every byte read"
    words = f"{found.takes:,} accepted takes, {found.sidecars:,} sidecars, {found.audio:,} audio objects; {how}"
    if found.on_their_way:
        words += f"; {found.on_their_way:,} takes are still to be made"
    say(words, hang=2)
    if not findings:
        say("ledger, sidecars and audio agree")
        return
    out.print()
    print_table(
        _COUNT_COLUMNS, [(kind, f"{found.counts[kind]:,}", MEANING[kind]) for kind in FindingKind if found.counts[kind]]
    )
    out.print()
    print_table(_FINDING_COLUMNS, [(each.kind, each.key, each.detail) for each in findings[:_FINDINGS_SHOWN]])
    if len(findings) > _FINDINGS_SHOWN:
        say(f"and {len(findings) - _FINDINGS_SHOWN:,} more; `--json` names them all")


_FIXES: Final = {
    FindingKind.ORPHAN_AUDIO: "`tunemill catalog gc` removes audio that no sidecar names once it is a day old",
    FindingKind.NEWER_SIDECAR: "upgrade this machine to read what a newer version wrote",
    FindingKind.UNREADABLE_OBJECT: "upgrade this machine, or let the store give the objects that it refuses",
}
_REPAIR: Final = "`tunemill catalog repair` repairs it; with `--dry-run` it only shows the changes"


def _fix(counts: Counter[FindingKind]) -> str:
    return "; ".join(dict.fromkeys(_FIXES.get(kind, _REPAIR) for kind in FindingKind if counts[kind]))


def _repaired_as_json(steps: Sequence[RepairStep], done: Repaired, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "repairs": {remedy: done.remedies[remedy] for remedy in Remedy},
        "waiting": done.waiting,
        "dropped": done.dropped,
        "orphans_left": done.left,
        "takes": [
            {
                "catalog": step.case.catalog,
                "take_id": step.case.take_id,
                "findings": sorted(step.case.kinds),
                "repair": step.remedy,
            }
            for step in steps
        ],
    }


def _print_repaired(done: Repaired, *, dry_run: bool) -> None:
    if not done.remedies.total():
        say("nothing to repair")
    else:
        rows = [(kind, f"{done.remedies[kind]:,}", REMEDY_MEANING[kind]) for kind in Remedy if done.remedies[kind]]
        print_table(_REMEDY_COLUMNS, rows)
        out.print()
    if cleaned := done.remedies[Remedy.MAKE_AGAIN] - done.waiting:
        say(f"{cleaned:,} of them are waiting already, or no catalog has them any more: only cleaned up", hang=2)
    if done.waiting and not dry_run:
        runs = " and ".join(f"`tunemill run {catalog}`" for catalog in done.catalogs)
        say(f"{done.waiting:,} takes wait to be made again: {runs} renders them", hang=2)
    elif done.waiting:
        say(f"{done.waiting:,} takes would wait to be made again", hang=2)
    if done.left:
        say(f"{done.left:,} audio objects that no sidecar names are left; `tunemill catalog gc` removes them", hang=2)
    if dry_run and done.remedies:
        say("nothing was changed")


def _print_rebuilt(found: Rebuilt, *, dry_run: bool) -> None:
    verb = "would be" if dry_run else "are"
    say(f"{found.takes:,} accepted takes of {found.runs:,} runs {verb} in the ledger again", hang=2)
    if found.verdicts:
        say(f"listeners' verdicts that {verb} recorded again: {found.verdicts:,}", hang=2)
    if found.catalogs:
        say(f"catalogs: {', '.join(found.catalogs)}", hang=2)
    if found.unordered:
        shown = ", ".join(found.unordered[:_DAMAGED_SHOWN]) + (" ..." if len(found.unordered) > _DAMAGED_SHOWN else "")
        warn(
            f"{len(found.unordered):,} takes have no proof of an order and are marked; an attacker may have added "
            f"them: {shown}"
        )
    warn(
        "rejected and failed attempts, workers, their time and their costs are not in the store and cannot be restored"
    )


def _print_swept(swept: Sequence[Swept], *, dry_run: bool) -> None:
    if not swept:
        say("nothing to remove")
        return
    rows = []
    for kind in Leftover:
        infos = [each.info for each in swept if each.kind is kind]
        if infos:
            rows.append((kind, f"{len(infos):,}", _size(sum(info.size for info in infos))))
    total = sum(each.info.size for each in swept)
    print_table(_SWEPT_COLUMNS, rows, total=("total", f"{len(swept):,}", _size(total)))
    say(f"{total:,} bytes {'would be freed; nothing was removed' if dry_run else 'freed'}")


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
