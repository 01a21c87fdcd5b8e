"""Duplicates: 15,000 tracks of two minutes compared from the beginning, and one more track among them.

The codes are made: those of real music share less. A part of the tracks are drones, whose codes hundreds have in
common, and every hundredth is a copy of another, worn as by an MP3 or shifted by some seconds.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from pathlib import Path

from catalog.chroma import pack_codes
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.chroma import compare_due, is_comparison_due
from orchestrator.ledger.duplicates import listed_pairs
from orchestrator.ledger.upkeep import write_from_sidecars
from tests.bench.measuring import Figure, hand_back, peak_rss_mib
from tests.support.chroma import codes_of_music, worn
from tests.support.makers import a_sidecar, a_take

TRACKS = 15_000
MORE = 50  # tracks that come one by one afterwards
_COPIED_EVERY, _DRONE_EVERY = 100, 20
_DRONES = [random.Random(0).getrandbits(32) for _ in range(200)]


def chroma(number: int) -> str:
    """The codes of track `number`: a copy of the one before, a drone, or music of its own."""
    if number % _COPIED_EVERY == 1:
        is_shifted = number % (2 * _COPIED_EVERY) == 1
        codes = codes_of_music(number - 1)
        return pack_codes(worn(codes, share=0.2 if is_shifted else 0.5, shift=40 if is_shifted else 0))
    if number % _DRONE_EVERY == 7:
        return pack_codes(random.Random(number).choices(_DRONES, k=948))
    return pack_codes(codes_of_music(number))


def write(ledger: Ledger, numbers: range) -> None:
    """Record these tracks as accepted."""
    for at in range(numbers.start, numbers.stop, 1000):
        sidecars = [
            a_sidecar(a_take(f"{number:06d}")).model_copy(
                update={"chroma": chroma(number), "record_id": f"{number:06d}", "created_at_ms": number}
            )
            for number in range(at, min(at + 1000, numbers.stop))
        ]
        with ledger.write() as connection:
            write_from_sidecars(connection, sidecars)


def compare_all(ledger: Ledger) -> float:
    """Seconds of CPU that it takes to compare what is due."""
    began_s = time.process_time()
    while True:
        with ledger.read() as connection:
            if not is_comparison_due(connection):
                return time.process_time() - began_s
        with ledger.write() as connection:
            compare_due(connection)


def main() -> None:
    """Measure and hand back."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        ledger = open_ledger(f"sqlite:///{file}")
        write(ledger, range(TRACKS))
        first_s = compare_all(ledger)
        with ledger.read() as connection:
            pairs = {(pair.later.track.slot, pair.earlier.track.slot) for pair in listed_pairs(connection, "spa")}
        planted = {(f"{n:06d}", f"{n - 1:06d}") for n in range(1, TRACKS, _COPIED_EVERY)}
        one_s = 0.0
        for number in range(TRACKS, TRACKS + MORE):
            write(ledger, range(number, number + 1))
            one_s += compare_all(ledger)
        ledger.close()
        with sqlite3.connect(file) as raw:
            indexed = raw.execute("select sum(pgsize) from dbstat where name = 'chroma_code'").fetchone()[0]
    hand_back(
        [
            Figure(f"{TRACKS:,} tracks compared from the beginning", first_s, "s of CPU", 60),
            Figure("one track more", one_s / MORE * 1000, "ms", 50),
            Figure("copies found", len(pairs & planted) / len(planted), "of all", at_least=1),
            Figure("pairs that are no copies", len(pairs - planted), "", 0),
            Figure("index of each track", indexed / (TRACKS + MORE) / 1024, "KiB", 2),
            Figure("peak memory", peak_rss_mib(), "MiB", 512),
        ]
    )


if __name__ == "__main__":
    main()
