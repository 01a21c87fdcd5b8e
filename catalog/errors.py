"""Errors a person can mend: what happened, why, and how to put it right.

Every class is one kind of mistake with its own exit code, so that a script can tell them apart. The tens
group them: 10 presets, 20 money, 30 services, 40 workers and models, 50 results. The first sentence of a class tells
when it is raised, its `Mend:` how to put it right; docs/exit-codes.md is made from both.
"""

from __future__ import annotations

import re
from typing import ClassVar


class TunemillError(Exception):
    """Base of all errors that are answered with words instead of a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.fix = what, why, fix

    @classmethod
    def kind(cls) -> str:
        """The kind of mistake in words, as docs/exit-codes.md lists it: "unknown name"."""
        listed = next(each for each in cls.__mro__ if each.__module__ == __name__)
        return re.sub(r"(?<!^)(?=[A-Z])", " ", listed.__name__.removesuffix("Error")).lower()

    def as_plain_values(self) -> dict[str, dict[str, str | int]]:
        """The error as the one JSON document that a script gets."""
        said = {"what": self.what, "why": self.why, "fix": self.fix}
        return {"error": {"code": self.exit_code, "kind": self.kind(), **said}}

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"why: {self.why}")
        if self.fix:
            parts.append(f"fix: {self.fix}")
        return "\n  ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only fields are lost by the default pickling, and errors cross from engine to worker.
        return (_rebuild, (type(self), self.what, self.why, self.fix))


def _rebuild(kind: type[TunemillError], what: str, why: str, fix: str) -> TunemillError:
    return kind(what, why=why, fix=fix)


class UnknownNameError(TunemillError):
    """A zone, genre, catalog, take or other name that does not exist.

    Mend: write a name that the matching `list` command shows; the message suggests a similar name, if there is one.
    """

    exit_code = 10


class PresetError(TunemillError):
    """A preset file with an unknown key or a wrong structure.

    Mend: change the line that the message names; presets/README.md lists every key.
    """

    exit_code = 11


class OutOfRangeError(PresetError):
    """A value outside the model's published limits: tempo, duration, key, language.

    Mend: choose a value within the bounds that the message gives.
    """

    exit_code = 12


class CaptionTooLongError(PresetError):
    """A caption so long that tempo, metre, key and duration would not fit into the model's 256 text tokens.

    Mend: remove as many words as the message says.
    """

    exit_code = 13


class EmptyMatrixError(PresetError):
    """A catalog without any track.

    Mend: remove entries of `exclude`, or ask for at least one track.
    """

    exit_code = 14


class UnreadableFileError(PresetError):
    """A file that is absent, empty, binary, or not in the format of its name.

    Mend: name the right file, or export the file again; text must be UTF-8.
    """

    exit_code = 15


class PriceError(TunemillError):
    """A price that is missing; a missing price never counts as zero.

    Mend: add the price with `tunemill costs prices add`, or name another GPU with --gpu or TUNEMILL_GPU.
    """

    exit_code = 20


class BudgetError(TunemillError):
    """An estimate, or money already spent, above the cap or the budget.

    Mend: raise --max-usd, or the budget with `tunemill costs budgets set`; then run the same command again.
    """

    exit_code = 21


class InvoiceError(TunemillError):
    """An invoice that cannot be booked.

    Mend: export the file again, or add missing data with options such as --number or --period.
    """

    exit_code = 22


class PeriodError(TunemillError):
    """A month that cannot be closed, or a closed month that cannot be changed.

    Mend: first do the step that the message names, such as closing an earlier month; corrections go to the open month.
    """

    exit_code = 23


class BrokerError(TunemillError):
    """The message broker is absent, refuses, or does not answer.

    Mend: start the broker or correct TUNEMILL_BROKER_URL; without that variable `tunemill run` starts its own broker.
    """

    exit_code = 30
    needs_person = False  # True: waiting does not help, such as for a login that is refused


class StoreError(TunemillError):
    """The object store is absent, unreachable or refuses.

    Mend: correct TUNEMILL_STORE_URL, TUNEMILL_S3_ENDPOINT_URL, the credentials or their rights.
    """

    exit_code = 31
    needs_person = False  # True: waiting does not help, such as for a right that is missing


class StoreFullError(StoreError):
    """The disk under the store, the ledger or the broker is full.

    Mend: free some space or choose another disk, and run the same command again; no track or record is lost.
    """

    exit_code = 32


class LedgerError(TunemillError):
    """The ledger's database is absent, refuses, or has a newer schema.

    Mend: start the database, correct TUNEMILL_DATABASE_URL, or give its user the right that the message names; for a
    newer schema, upgrade this program.
    """

    exit_code = 33
    needs_person = False  # True: waiting does not help, such as for a right that is missing


class BusyError(TunemillError):
    """Another run or controller holds the lock of the ledger.

    Mend: wait until the process that the message names has ended, or stop it.
    """

    exit_code = 34
    holder = ""  # which one, where it is known


class SettingsError(TunemillError):
    """A setting (environment variable or option) with a wrong value, or a variable whose name is almost a setting's.

    Mend: write the variable or option as the message says.
    """

    exit_code = 35


class PausedError(TunemillError):
    """A person has paused the run; no take is sent until the run is resumed.

    Mend: `tunemill resume` continues the run, `tunemill cancel` ends it.
    """

    exit_code = 36


class WorkerError(TunemillError):
    """The worker could not start, or had to stop.

    Mend: correct the fault in the message or at the end of the log; a supervisor may restart the worker automatically.
    """

    exit_code = 40


class ModelError(WorkerError):
    """Model weights that are absent, incomplete, corrupt or of the wrong kind.

    Mend: set TUNEMILL_WEIGHTS or TUNEMILL_PLANNER_WEIGHTS to complete weights, or correct their pinned fingerprints.
    """

    exit_code = 41


class MessageError(WorkerError):
    """A message or sidecar that this version cannot read.

    Mend: use the version that wrote it, or a newer one.
    """

    exit_code = 42


class OutdatedError(MessageError):
    """A valid message that only a newer version of this program can read.

    Mend: upgrade the worker; its takes have gone back to their queues.
    """

    exit_code = 43


class NoWorkerError(TunemillError):
    """An unattended run of a fleet without a heartbeat of any worker for too long; its takes stay in the queues.

    Mend: start workers and run the same command again.
    """

    exit_code = 44


class IncompleteError(TunemillError):
    """The run ended, but some takes failed or were rejected without a further try, or it was cancelled.

    Mend: retry failed takes with `tunemill run` or `tunemill retry --failed`; change the presets of rejected takes.
    """

    exit_code = 50


class DifferentAudioError(TunemillError):
    """A replay that differs from the stored audio.

    Mend: replay with the weights, versions and device that the take's sidecar names.
    """

    exit_code = 51


class DisagreementError(TunemillError):
    """Ledger, sidecars and audio that contradict each other, or the books do; a bill for an unknown machine.

    Mend: for store and ledger, `tunemill catalog repair`; for a bill, add the machine or dispute the bill.
    """

    exit_code = 52


class ReplacementError(TunemillError):
    """A run that would replace or retire accepted tracks, and --no-replace or a person forbids it.

    Mend: read `tunemill plan CATALOG --changes`; undo the change in the presets, or allow it with --yes.
    """

    exit_code = 53


class DuplicatesError(TunemillError):
    """Tracks of a catalog that sound alike, where the command was told to fail for them.

    Mend: reject one of each pair with `tunemill catalog reject TAKE --again --reason duplicate`.
    """

    exit_code = 54


INTERRUPTED_EXIT_CODE = 130  # the shell's convention for SIGINT


class OutOfVram(Exception):
    """A batch did not fit the device's memory; a smaller one may."""
