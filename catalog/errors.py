"""Errors a person can mend: what happened, why, and how to put it right.

Every class is one kind of mistake with its own exit code, so that a script can tell them apart. The tens
group them: 10 presets, 20 money, 30 services, 40 workers and models, 50 results.
"""

from __future__ import annotations

from typing import ClassVar


class TunemillError(Exception):
    """Base of all errors that are answered with words instead of a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.fix = what, why, fix

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
    """A zone, genre, catalog, take or other name that does not exist."""

    exit_code = 10


class PresetError(TunemillError):
    """A preset file with a key or a structure that the language does not have."""

    exit_code = 11


class OutOfRangeError(PresetError):
    """A value outside the model's published limits: tempo, duration, key, language."""

    exit_code = 12


class CaptionTooLongError(PresetError):
    """A caption that would push the metadata out of the model's 256 text tokens."""

    exit_code = 13


class EmptyMatrixError(PresetError):
    """A catalog that stands for no track at all."""

    exit_code = 14


class UnreadableFileError(PresetError):
    """A file that is absent, empty, binary or not the format its name says."""

    exit_code = 15


class PriceError(TunemillError):
    """A price that is missing; it is never taken for zero."""

    exit_code = 20


class BudgetError(TunemillError):
    """An estimate, or money already spent, above the cap that was given."""

    exit_code = 21


class InvoiceError(TunemillError):
    """An invoice that cannot be booked as it is."""

    exit_code = 22


class PeriodError(TunemillError):
    """A month that cannot be closed, or that is closed and cannot be changed."""

    exit_code = 23


class BrokerError(TunemillError):
    """The message broker is absent, refuses, or does not answer."""

    exit_code = 30


class StoreError(TunemillError):
    """The object store is absent or refuses."""

    exit_code = 31


class StoreFullError(StoreError):
    """The disk under the store, the ledger or the broker is full."""

    exit_code = 32


class LedgerError(TunemillError):
    """The ledger's database is absent, refuses, or has a newer schema."""

    exit_code = 33


class BusyError(TunemillError):
    """Another process holds the lock: two controllers never both act."""

    exit_code = 34
    holder = ""  # which one, where it is known


class SettingsError(TunemillError):
    """A setting (environment variable or option) with a wrong value."""

    exit_code = 35


class PausedError(TunemillError):
    """The run was paused by a person; nothing is sent until it is resumed."""

    exit_code = 36


class WorkerError(TunemillError):
    """The worker could not start or could not go on."""

    exit_code = 40


class ModelError(WorkerError):
    """Model weights that are absent, incomplete, corrupt or of the wrong kind."""

    exit_code = 41


class MessageError(WorkerError):
    """A message this version cannot read, such as one from a newer version."""

    exit_code = 42


class OutdatedError(MessageError):
    """A message that is sound, and that only a newer version of this program can read."""

    exit_code = 43


class IncompleteError(TunemillError):
    """The run ended, but some takes were rejected or failed."""

    exit_code = 50


class DifferentAudioError(TunemillError):
    """A replay that does not match what was stored."""

    exit_code = 51


class DisagreementError(TunemillError):
    """Ledger, sidecars and audio that do not agree."""

    exit_code = 52


INTERRUPTED_EXIT_CODE = 130  # the shell's convention for SIGINT


class OutOfVram(Exception):
    """A batch did not fit the device's memory; a smaller one may."""
