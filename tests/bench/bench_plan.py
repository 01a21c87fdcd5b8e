"""100,000 takes: planned without a ledger, and held against a ledger that has them all, within 1 GiB."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from catalog.settings import Settings
from orchestrator.matrix import load_catalog
from orchestrator.plan import make_plan
from tests.bench.measuring import Figure, hand_back, peak_rss_mib, timed

ZONES, GENRES, TAKES = 50, 40, 100_000


class Known(NamedTuple):
    """What the ledger would know of a take."""

    take_id: str
    state: str


def write_presets(folder: Path, *, zones: int = ZONES, genres: int = GENRES, tracks: int = TAKES) -> Path:
    """A full matrix of so many zones and genres with `tracks` in all; the path of its catalog."""
    for index in range(zones):
        _write(folder / "zones" / f"zone{index:02d}.yaml", a_zone(index))
    for index in range(genres):
        _write(folder / "genres" / f"genre{index:02d}.yaml", a_genre(index))
    catalog = {
        "title": "Bench",
        "description": "As large as catalogs get.",
        "model": "acestep-v15-turbo",
        "defaults": {"duration_s": [120, 150, 180]},
        "matrix": {"zones": "all", "genres": "all"},
        "tracks": tracks,
    }
    return _write(folder / "catalogs" / "bench.yaml", catalog)


def a_zone(index: int) -> dict[str, object]:
    """One zone preset."""
    return {
        "name": f"Zone {index}",
        "description": "A place with music in the background.",
        "energy": 1 + index % 5,
        "tempo": [60, 140],
        "moods": ["calm", "warm", "bright", "polished"],
        "scenes": ["an evening lobby", "a quiet shop", "a slow morning"],
        "title_words": ["Lobby", "Marble", "Arrival", "Lamp", "Garden", "Window"],
    }


def a_genre(index: int) -> dict[str, object]:
    """One genre preset."""
    return {
        "name": f"Genre {index}",
        "description": "Music of some kind.",
        "captions": [
            "{tempo_word} music led by {instruments}, {mood} and {mood2}, {texture}, for {scene}, instrumental",
            "{mood} instrumental with {instruments}, {texture}, background music for {scene}",
        ],
        "instruments": ["nylon guitar and brushes", "felt piano", "upright bass and vibraphone", "soft synth pads"],
        "textures": ["a dry close room", "wide reverb", "tape warmth"],
        "moods": ["sunlit", "tender", "velvet", "airy"],
        "tempo": [70, 130],
        "keys": ["C major", "A minor", "G major", "E minor"],
        "timesignatures": ["4"],
        "title_words": ["Copacabana", "Harbour", "Sunday", "Letter", "Balcony", "Drift"],
    }


def main() -> None:
    """Measure and hand back."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_presets(Path(folder))
        with timed() as first:
            catalog = load_catalog(str(path), Path(folder), Settings())
            plan = make_plan(catalog, {})
        first_rss = peak_rss_mib()
        known = {(take.track.key, take.number): Known(take.id, "accepted") for take in plan.takes()}
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


def _write(path: Path, content: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
