"""The checks on real recordings: pieces of game music from Debian packages, fetched for this and never committed.

`python -m tests.bench.real_music FOLDER` downloads the packages into FOLDER (some 600 MB; needs Debian's apt), reads up
to a minute of each piece, and prints how many the checks reject and warn of, with the reasons. `--defects N` also
spoils every Nth piece in each known way and prints what is found. Limits were chosen on `tuning`; `held-out` proves
them.
"""

from __future__ import annotations

import argparse
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from tests.bench.bench_checks import kinds_found
from tests.support.defects import DEFECTS
from tests.support.sounds import RATE, Sound

PACKAGES = {
    "tuning": (
        *("warzone2100-music", "hyperrogue-music", "planetblupi-music-ogg", "singularity-music"),
        *("asc-music", "fb-music-high", "xblast-tnt-musics"),
    ),
    "held-out": ("wesnoth-1.16-music", "nexuiz-music", "ufoai-music", "boswars-data", "lincity-ng-data"),
}
SECONDS_MAX = 60
SECONDS_MIN = 20
EXCERPT_S = 18
SUFFIXES = (".flac", ".mp3", ".ogg", ".opus")


def fetch(packages: tuple[str, ...], folder: Path) -> None:
    """Download and unpack what is not there yet."""
    for package in packages:
        if (folder / package).is_dir():
            continue
        subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder / package], check=True)


def pieces(packages: tuple[str, ...], folder: Path) -> Iterator[tuple[str, Sound]]:
    """Name and sound, whole seconds at 48 kHz, of each piece that is long enough."""
    for package in packages:
        for file in sorted((folder / package).rglob("*")):
            if file.suffix.lower() not in SUFFIXES or file.is_symlink():
                continue
            sound = read_piece(file)
            if sound.shape[1] >= SECONDS_MIN * RATE:
                yield f"{package}/{file.name}", sound


def read_piece(file: Path) -> Sound:
    """Stereo at 48 kHz; nothing for a file that cannot be read, or is silent."""
    try:
        rate = soundfile.info(file).samplerate
        frames, _ = soundfile.read(file, frames=SECONDS_MAX * rate, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return np.zeros((2, 0), np.float32)
    both = frames[:, [0, -1 if frames.shape[1] == 2 else 0]]
    sound = resample_poly(both, RATE // gcd(rate, RATE), rate // gcd(rate, RATE), axis=0).T
    whole = sound[:, : sound.shape[1] // RATE * RATE]
    return np.asarray(whole if whole.any() else whole[:, :0], np.float32)


def excerpt(sound: Sound, rng: np.random.Generator) -> Sound:
    begin = int(rng.integers(0, sound.shape[1] - EXCERPT_S * RATE + 1))
    return sound[:, begin : begin + EXCERPT_S * RATE]


def main() -> None:
    """Fetch, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real_music", description=__doc__)
    parser.add_argument("folder", type=Path, help="where packages are kept; no folder of this repository")
    parser.add_argument("--set", choices=PACKAGES, default="held-out", dest="which")
    parser.add_argument("--defects", type=int, default=0, metavar="N", help="also spoil every Nth piece")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    fetch(PACKAGES[arguments.which], arguments.folder)
    outcomes, hits, tries = Counter[str](), Counter[str](), Counter[str]()
    for number, (name, sound) in enumerate(pieces(PACKAGES[arguments.which], arguments.folder)):
        kinds, rejected = kinds_found(sound)
        outcomes["rejected" if rejected else "warned of" if kinds else "passed"] += 1
        if kinds:
            print(f"{name}: {'rejected' if rejected else 'warned of'}: {', '.join(sorted(kinds))}")  # noqa: T201
        if arguments.defects and number % arguments.defects == 0 and sound.shape[1] > EXCERPT_S * RATE:
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            part = excerpt(sound, rng)
            own, _ = kinds_found(part)
            for defect in DEFECTS:
                tries[defect] += 1
                hits[defect] += bool(kinds_found(DEFECTS[defect].make(part, rng))[0] - own)
    for words, count in outcomes.most_common():
        print(f"{words}: {count} of {outcomes.total()}")  # noqa: T201
    for defect, count in tries.items():
        print(f"found: {defect}: {hits[defect]} of {count}{', gross' if DEFECTS[defect].gross else ''}")  # noqa: T201


if __name__ == "__main__":
    main()
