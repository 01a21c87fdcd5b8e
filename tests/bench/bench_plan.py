"""100,000 takes: planned without a ledger, and held against a ledger that has them all, within 1 GiB."""

from __future__ import annotations

import tempfile
from pathlib import Path

from catalog.settings import Settings
from orchestrator.ledger import KnownTake
from orchestrator.matrix import load_catalog
from orchestrator.planning.plan import make_plan
from tests.bench.measuring import Figure, hand_back, peak_rss_mib, timed
from tests.support.preset_files import a_library, write

ZONES, GENRES, TAKES = 50, 40, 100_000


def write_presets(folder: Path, *, zones: int = ZONES, genres: int = GENRES, tracks: int = TAKES) -> Path:
    """A full matrix of so many zones and genres with `tracks` in all; the path of its catalog."""
    a_library(folder, zones, genres)
    catalog = {
        "title": "Bench",
        "description": "As large as catalogs get.",
        "model": "acestep-v15-turbo",
        "defaults": {"duration_s": [120, 150, 180]},
        "matrix": {"zones": "all", "genres": "all"},
        "tracks": tracks,
    }
    return write(folder / "catalogs" / "bench.yaml", catalog)


def main() -> None:
    """Measure and hand back."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_presets(Path(folder))
        with timed() as first:
            catalog = load_catalog(str(path), Path(folder), Settings())
            plan = make_plan(catalog, {})
        first_rss = peak_rss_mib()
        known = {(take.track.key, take.number): KnownTake(take.id, "accepted") for take in plan.takes()}
        with timed() as second:
            again = make_plan(catalog, known)
    if plan.counts.new != TAKES or again.counts.unchanged != TAKES:
        raise SystemExit(f"the plan does not add up: {plan.counts}, {again.counts}")
    hand_back(
        [
            Figure(f"first plan of {TAKES:,} takes", first.seconds, "s", 30),
            Figure("peak memory of it", first_rss, "MiB", 1024),
            Figure("plan again, all known", second.seconds, "s", 30),
            Figure("peak memory of all", peak_rss_mib(), "MiB", 1024),
        ]
    )


if __name__ == "__main__":
    main()
