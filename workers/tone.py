"""The tone engine: simple synthesis for rehearsals, in the key, tempo, metre and length that were asked for.

Chords, a bass, a plucked figure and a soft pulse; the seed chooses progression, figure and places in the
stereo field. No neural network and no torch. The same take gives the same samples, alone or in any batch.

On request the engine spoils a share of its takes, as a bad model would; the seed chooses which takes and how.
"""

from __future__ import annotations

import math
import platform
import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from catalog.buckets import Bucket
from catalog.errors import WorkerError
from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.messages import MemoryUse
from catalog.models import TONE
from catalog.seeds import stable_hash
from catalog.settings import TONE_FAULTS, Settings
from catalog.sidecar import Effective, Fingerprints, StageTimes, diffusion_used
from catalog.spec import TrackSpec
from catalog.spellings import shares
from catalog.tiers import BatchLimit
from catalog.track import Take
from workers.engine.memory import resident_mib
from workers.engine.process import EngineRecipe
from workers.engine.protocol import Audio, BatchResult, EngineCard, Finish, Job, PlanResult, Refusal, Rendition

BATCH = 8
PEAK = 0.5
REPEATED_S = 2  # of a loop
CUT_AT = 0.6  # of the length
BARS_IN_LOOP = 4

_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Degrees of the scale, one a bar, that work in major and minor alike.
_PROGRESSIONS = ((0, 5, 3, 4), (0, 3, 0, 4), (0, 3, 5, 4), (0, 2, 3, 4), (0, 5, 1, 4))
_FIGURES = ((0, 1, 2, 1), (0, 2, 1, 2), (2, 1, 0, 1), (0, 1, 2, 3))
_TABLE_SIZE = 1 << 14
_TABLE = np.sin(2 * np.pi * np.arange(_TABLE_SIZE) / _TABLE_SIZE).astype(np.float32)

Wave = npt.NDArray[np.float32]


class _Metre(NamedTuple):
    """The division of a bar: `steps` places for notes, `step_s` apart; the pulse falls on the `accents`."""

    steps: int
    step_s: float
    accents: tuple[int, ...]


class ToneEngine:
    """Renders takes one by one, so that neighbours cannot matter."""

    def __init__(self, faults: Mapping[str, float] | None = None) -> None:
        self._faults = faults or {}
        source = sha256(Path(__file__).read_bytes()).hexdigest()
        self._card = EngineCard(
            model=TONE.name,
            gpu="cpu",
            device="cpu",
            dtype="float32",
            vram_gib=0.0,
            fingerprints=Fingerprints(model=source, code=_code_version(), noise=False),
            guarantees=TONE.guarantees,
            notes=["simple synthesis for rehearsals; no neural network"],
        )

    @property
    def card(self) -> EngineCard:
        """The engine's card."""
        return self._card

    def batch_limit(self, bucket: Bucket) -> BatchLimit:
        """The batch limit of a usual GPU, so that a rehearsal batches like a model."""
        return BatchLimit(BATCH, "tone engine, needs no GPU")

    def plan_limit(self, bucket: Bucket) -> BatchLimit:
        """No takes, because there is no planner."""
        return BatchLimit(0, "the tone engine plans nothing")

    def plan(self, takes: Sequence[Take]) -> PlanResult:
        """Refuse: synthesis follows the spec alone."""
        return PlanResult([Refusal("the tone engine plans nothing") for _ in takes], plan_ms=0)

    def begin(self, jobs: Sequence[Job]) -> Finish:
        """Render the batch; there is nothing left to finish."""
        result = self.render(jobs)
        return lambda: result

    def memory(self) -> MemoryUse:
        """The memory of this process."""
        return MemoryUse(rss_mib=resident_mib())

    def render(self, jobs: Sequence[Job]) -> BatchResult:
        """Render each job by itself."""
        began_s = time.monotonic()
        outcomes = [self._outcome(job.take) for job in jobs]
        elapsed_ms = int((time.monotonic() - began_s) * 1000)
        return BatchResult(outcomes=outcomes, times=StageTimes(diffuse_ms=elapsed_ms))

    def _outcome(self, take: Take) -> Rendition | Refusal:
        """Render one take, spoilt where its seed says so. Raises WorkerError for a take that is to fail."""
        fault = fault_of(take, self._faults)
        if fault == "failure":
            raise WorkerError("the tone engine fails on purpose", why="TUNEMILL_TONE_FAULTS asks for it")
        if fault == "refusal":
            return Refusal("the tone engine refuses on purpose: TUNEMILL_TONE_FAULTS asks for it")
        audio = spoilt(synthesise(take), fault, take.dit_seed)
        return Rendition(audio=audio, plan=None, effective=_effective(take, self._card))


def engine_recipe(settings: Settings, model: str, *, planner_wanted: bool, trial: bool) -> EngineRecipe:
    """The recipe of the tone engine."""
    return EngineRecipe("workers.tone:load_engine", {"faults": shares(settings.tone_faults, TONE_FAULTS)})


def load_engine(faults: Mapping[str, float] | None = None) -> ToneEngine:
    """Make the engine; there is nothing to load."""
    return ToneEngine(faults)


def fault_of(take: Take, faults: Mapping[str, float]) -> str:
    """The way in which the take is spoilt, "" for a sound one: each fault hits its share of all seeds."""
    place = stable_hash("tone fault", take.dit_seed) / 2**64
    for fault, share in faults.items():
        place -= share
        if place < 0:
            return fault
    return ""


def spoilt(audio: Audio, fault: str, seed: int) -> Audio:
    """The audio with that fault: all of it silent or noise, its beginning repeated to the end, or its end missing."""
    if fault == "silence":
        return np.zeros_like(audio)
    if fault == "noise":
        return np.random.default_rng(seed).uniform(-PEAK, PEAK, audio.shape).astype(np.float32)
    if fault == "loop":
        return _repeated(audio)
    if fault == "cut":
        audio[:, round(audio.shape[1] * CUT_AT) :] = 0
    return audio


def _repeated(audio: Audio) -> Audio:
    n_repeated = REPEATED_S * SAMPLE_RATE_HZ
    times = -(-audio.shape[1] // n_repeated)
    return np.ascontiguousarray(np.tile(audio[:, :n_repeated], times)[:, : audio.shape[1]])


def synthesise(take: Take) -> Audio:
    """Audio of `take`, float32 (2, n_samples), peak 0.5."""
    spec = take.spec
    loop = _loop(spec, np.random.default_rng(take.dit_seed))[:, : spec.n_samples]
    loop *= np.float32(PEAK / max(float(loop.max()), -float(loop.min())))
    audio = np.empty((CHANNELS, spec.n_samples), np.float32)
    for start in range(0, spec.n_samples, loop.shape[1]):
        end = min(start + loop.shape[1], spec.n_samples)
        audio[:, start:end] = loop[:, : end - start]
    n_fade = SAMPLE_RATE_HZ // 2
    audio[:, -n_fade:] *= np.linspace(1, 0, n_fade, dtype=np.float32)
    return audio


def _loop(spec: TrackSpec, rng: np.random.Generator) -> Wave:
    """A few bars that repeat, (2, samples): each bar fades out at its end, so that the seam is not heard."""
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    figure = _FIGURES[rng.integers(len(_FIGURES))]
    pluck_pan, detune = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(0.0008, 0.002))
    metre = _metre(spec)
    bars = [_bar(_chord(spec, degree), figure, metre, pluck_pan, detune) for degree in progression[:BARS_IN_LOOP]]
    return np.concatenate(bars, axis=1)


def _bar(chord: list[float], figure: tuple[int, ...], metre: _Metre, pluck_pan: float, detune: float) -> Wave:
    """One bar, (2, samples): pad, bass, plucked figure and pulse."""
    n = round(metre.steps * metre.step_s * SAMPLE_RATE_HZ)
    bar = np.zeros((CHANNELS, n), np.float32)
    swell = _swell(n)
    for hz in chord:
        bar[0] += _sine(hz * (1 - detune), n) * swell * np.float32(0.16)
        bar[1] += _sine(hz * (1 + detune), n) * swell * np.float32(0.16)
    bar += _sine(chord[0] / 4, n) * swell * np.float32(0.3)
    for step in range(metre.steps):
        at = round(step * metre.step_s * SAMPLE_RATE_HZ)
        hz = [*chord, chord[0] * 2][figure[step % len(figure)]] * 2
        pluck = _struck(hz, min(n - at, SAMPLE_RATE_HZ), decay_s=0.18) * np.float32(0.22)
        bar[0, at : at + pluck.size] += pluck * np.float32(math.sqrt((1 - pluck_pan) / 2))
        bar[1, at : at + pluck.size] += pluck * np.float32(math.sqrt((1 + pluck_pan) / 2))
        if step in metre.accents:
            pulse = _struck(chord[0] / 2, min(n - at, SAMPLE_RATE_HZ // 2), decay_s=0.07) * np.float32(0.5)
            bar[:, at : at + pulse.size] += pulse
    n_seam = min(n, SAMPLE_RATE_HZ // 50)
    bar[:, -n_seam:] *= np.linspace(1, 0, n_seam, dtype=np.float32)
    return bar


def _metre(spec: TrackSpec) -> _Metre:
    """The tempo counts quarters; 6 means six eighths in two groups of three."""
    quarter_s = 60 / spec.music.bpm
    if spec.music.timesignature == "6":
        return _Metre(steps=6, step_s=quarter_s / 2, accents=(0, 3))
    beats = int(spec.music.timesignature)
    return _Metre(steps=beats * 2, step_s=quarter_s / 2, accents=tuple(range(0, beats * 2, 2)))


def _chord(spec: TrackSpec, degree: int) -> list[float]:
    """Root, third and fifth on `degree` of the key, in Hz, the root between 175 and 330 Hz."""
    note, accidental, mode = re.fullmatch(r"([A-G])(.?) (\w+)", spec.music.keyscale).groups()  # type: ignore[union-attr]
    scale = _SCALES[mode]
    tonic = _SEMITONES[note] + _ACCIDENTALS[accidental]
    steps = [scale[(degree + third) % 7] + 12 * ((degree + third) // 7) for third in (0, 2, 4)]
    root = 53 + (tonic + steps[0] - 53) % 12  # MIDI numbers; 53 is F3
    return [440.0 * 2 ** ((root + step - steps[0] - 69) / 12) for step in steps]


def _sine(hz: float, n: int) -> Wave:
    """A sine from a table: three times as fast as computing it, and 78 dB cleaner than its signal."""
    phase = np.arange(n, dtype=np.float64)
    phase *= hz * _TABLE_SIZE / SAMPLE_RATE_HZ
    wave: Wave = _TABLE[phase.astype(np.int64) & (_TABLE_SIZE - 1)]
    return wave


def _struck(hz: float, n: int, *, decay_s: float) -> Wave:
    """A note that is struck and dies away."""
    envelope = np.exp(np.arange(n, dtype=np.float32) * np.float32(-1 / (decay_s * SAMPLE_RATE_HZ)))
    n_attack = min(n, SAMPLE_RATE_HZ // 200)
    envelope[:n_attack] *= np.linspace(0, 1, n_attack, dtype=np.float32)
    wave: Wave = _sine(hz, n) * envelope
    return wave


def _swell(n: int) -> Wave:
    """A pad's envelope: up in a tenth of a second, and gently down over the bar."""
    swell = np.linspace(1, 0.55, n, dtype=np.float32)
    n_attack = min(n, SAMPLE_RATE_HZ // 10)
    swell[:n_attack] *= np.linspace(0, 1, n_attack, dtype=np.float32)
    return swell


def _effective(take: Take, card: EngineCard) -> Effective:
    extra: dict[str, Any] = {"bpm": take.spec.bpm, "keyscale": take.spec.keyscale}
    return Effective(
        dit_seed=take.dit_seed,
        lm_seed=take.lm_seed,
        **diffusion_used(take.spec.diffusion),
        device=card.device,
        dtype=card.dtype,
        extra=extra,
    )


@cache
def _code_version() -> str:
    try:
        own = version("tunemill")
    except PackageNotFoundError:
        own = "source"
    return f"tunemill {own}, numpy {np.__version__}, python {platform.python_version()}"
