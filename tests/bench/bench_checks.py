"""How many made defects the checks find on made music, how often they are wrong about sound pieces, and what they cost.

Found is what got a flaw that the sound piece does not have; of the gross defects nearly all must be. Real recordings
are measured by `python -m tests.bench.real_music`, which fetches them.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import time

import numpy as np

from tests.bench.measuring import Figure, hand_back
from tests.support.defects import DEFECTS
from tests.support.makers import a_spec
from tests.support.music import made_music
from tests.support.sounds import Sound
from workers.audio.checks import Rejected, check_and_analyse, check_audio
from workers.audio.scoring import with_scores

PIECES = 6
SECONDS = 18
MODEL = "acestep-v15-turbo"


def kinds_found(sound: Sound) -> tuple[set[str], bool]:
    """The kinds of flaw that the checks name, and whether they reject the take."""
    spec = a_spec(duration_s=sound.shape[1] // 48_000, model=MODEL)
    try:
        return {flaw.kind for flaw in check_audio(sound, spec, noise=False).flaws}, False
    except Rejected as rejected:
        return {flaw.kind for flaw in rejected.flaws}, True


def defect_figures() -> list[Figure]:
    """Shares of made defects that are found, and of sound pieces that are named or rejected."""
    pieces = [made_music(SECONDS, seed=seed) for seed in range(PIECES)]
    clean = [kinds_found(piece) for piece in pieces]
    figures, gross = [], []
    for name, defect in DEFECTS.items():
        rng = np.random.default_rng(len(name))
        found = [
            bool(kinds_found(defect.make(piece, rng))[0] - kinds)
            for piece, (kinds, _) in zip(pieces, clean, strict=True)
        ]
        gross += found if defect.gross else []
        figures.append(Figure(f"found: {name}", 100 * sum(found) / PIECES, "%"))
    return [
        *figures,
        Figure("found: all gross defects", 100 * sum(gross) / len(gross), "%", at_least=99),
        Figure("sound pieces rejected", 100 * sum(stops for _, stops in clean) / PIECES, "%", at_most=1),
        Figure("sound pieces warned of", 100 * sum(bool(kinds) for kinds, _ in clean) / PIECES, "%", at_most=20),
    ]


def costs() -> list[Figure]:
    """CPU seconds of the checks of three minutes, and of the scores after them."""
    sound = np.concatenate([made_music(60, seed=seed) for seed in (1, 2, 3)], axis=1)
    spec = a_spec(duration_s=180, model=MODEL)
    check_and_analyse(sound, spec, noise=True)
    began_s = time.process_time()
    measures, analysis = check_and_analyse(sound, spec, noise=True)
    checked_s = time.process_time()
    with_scores(measures, sound, spec, analysis)
    return [
        Figure("CPU of 180 s", checked_s - began_s, "s", at_most=2),
        Figure("CPU of its scores", time.process_time() - checked_s, "s", at_most=0.25),
    ]


def main() -> None:
    """Measure and hand back."""
    hand_back([*defect_figures(), *costs()])


if __name__ == "__main__":
    main()
