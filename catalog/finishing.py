"""Finishing: a take that differs from a stored one in format or level alone is made from stored audio.

The source is the take's master, or its finished file where that is lossless and was not limited. The control side
orders such work from a process of the data plane, one line of JSON for each take, and reads one line back for each.
"""

from __future__ import annotations

from typing import NamedTuple

from catalog.bounded import Name, Words
from catalog.forms import Frozen
from catalog.orders import Receipt
from catalog.sidecar import AudioFile, Sidecar
from catalog.spec import AudioFormat
from catalog.track import Take

LOSSLESS = frozenset({AudioFormat.FLAC, AudioFormat.WAV})


class Source(NamedTuple):
    """Stored audio that a take can be finished from."""

    audio: AudioFile
    gain_db: float  # of that audio against what the engine made


class FinishJob(Frozen):
    """One take to make from the stored audio of another."""

    take: Take
    stored: Sidecar  # of the take whose audio is there: same slot, same sound
    run_id: Name  # under which the ledger files what is finished
    receipt: Receipt = ""  # that the control side has ordered `take`; "" where it signs no orders


class FinishResult(Frozen):
    """The end of one job: the sidecar that the take has now, or the fault that prevents it."""

    take_id: str
    sidecar: Sidecar | None = None
    fault: Words = ""


def find_source(sidecar: Sidecar) -> Source | None:
    """The audio from which the take of `sidecar` can be finished anew; None when a lossy or limited file is all."""
    if sidecar.master is not None:
        return Source(sidecar.master.audio, sidecar.master.gain_db)
    if sidecar.audio.format in LOSSLESS and sidecar.measures.limited_db is None:
        return Source(sidecar.audio, sidecar.measures.gain_db)
    return None
