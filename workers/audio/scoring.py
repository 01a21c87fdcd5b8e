"""Scoring: the scores of a take by the built-in scorers, and by plug-ins that the worker was told to run.

A plug-in is a distribution with an entry point in the group `tunemill.scorers`: a callable without arguments that
returns a `Scorer`. `TUNEMILL_SCORERS` names those that run. A plug-in that fails on a take costs the take its score and
nothing else.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import threading
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol, runtime_checkable

import numpy as np
from pydantic import ValidationError

from catalog.bounded import fit_words
from catalog.errors import SettingsError
from catalog.scores import DEFAULT_SCORERS, SCORES_MAX, Score
from catalog.sidecar import Measures
from catalog.spec import TrackSpec
from workers.audio.checks.analysis import FRAME_S, SHORT_S, Analysis, Floats
from workers.audio.music import fit_key, fit_tempo
from workers.engine.protocol import Audio

log = logging.getLogger(__name__)

GROUP: Final = "tunemill.scorers"
_BUILT_IN_VERSION: Final = "1"
_REASON_MAX: Final = 200

# What a warning takes from the technical score: a listener hears a voice or noise at once, and hum hardly.
_LOST_BY_FLAW: Final = {
    **dict.fromkeys(("voice", "noise", "noise-in-part"), 0.3),
    **dict.fromkeys(("clipping", "click", "loop"), 0.2),
    "hum": 0.05,
}
_LOST_BY_OTHER_FLAW: Final = 0.1
_LOST_BY_LU: Final = 0.05  # for each LU from the loudness that was asked for, at most so much:
_LOST_BY_LOUDNESS: Final = 0.2
_LOST_BY_TEMPO: Final = 0.15  # where nothing of the request fits
_LOST_BY_KEY: Final = 0.15

_BLOCK_S: Final = 4.0
_BLOCKS_LEAST: Final = 3


@runtime_checkable
class Scorer(Protocol):
    """Tells how good a take is by one measure. Only takes of one prompt are compared by it."""

    @property
    def name(self) -> str:
        """The word by which `choose_by` of a catalog names it: lower-case letters, digits, _ and -."""

    @property
    def version(self) -> str:
        """Changes whenever the same audio may get another score."""

    @property
    def weights(self) -> str:
        """The digest of its weights; "" without weights."""

    @property
    def licence(self) -> str:
        """The SPDX name of the licence under which code and weights may be used; it is logged."""

    @property
    def needs(self) -> Sequence[str]:
        """The modules that it imports when it scores."""

    def score(self, audio: Audio, spec: TrackSpec, measures: Measures) -> float:
        """The score of raw audio, float32 (2, n) at 48 kHz, which cannot be written to; higher is better.

        It is called from several threads, and never twice at once.
        """


def with_scores(
    measures: Measures, audio: Audio, spec: TrackSpec, analysis: Analysis, scorers: Sequence[Scorer] = ()
) -> Measures:
    """`measures` of a finished take with its scores, and with the tempo and key that are heard."""
    measures = _with_music(measures, spec, analysis)
    built_in = {"technical": technical(measures, spec), "variation": variation(analysis)}
    scores = [
        Score(name=name, version=_BUILT_IN_VERSION, value=round(value, 4))
        for name, value in built_in.items()
        if value is not None
    ]
    warnings: list[str] = []
    read_only = audio.view()  # the master is made from the same samples
    read_only.flags.writeable = False
    for scorer in scorers:
        try:
            with _ONE_AT_A_TIME:
                value = float(scorer.score(read_only, spec, measures))
            scores.append(_score_of(scorer, value))
        except Exception as error:
            _tell_once(scorer.name, repr(error))
            is_value = isinstance(error, ValidationError)
            said = "the value is no number" if is_value else f"{type(error).__name__}: {error}"
            warnings.append(fit_words(f"scorer {scorer.name} gave no score: {said}", _REASON_MAX))
    return measures.model_copy(update={"scores": scores, "warnings": [*measures.warnings, *warnings]})


def _score_of(scorer: Scorer, value: float) -> Score:
    return Score(name=scorer.name, version=scorer.version, weights=scorer.weights, value=value)


_ONE_AT_A_TIME: Final = threading.Lock()  # few libraries promise more
_TOLD: Final[set[str]] = set()


def _tell_once(name: str, fault: str) -> None:
    """Log the first fault of a scorer; each take has its own in its warnings."""
    if name not in _TOLD:
        _TOLD.add(name)
        log.warning("scorer %s gave no score, and later faults of it are not logged: %s", name, fault)


def _with_music(measures: Measures, spec: TrackSpec, analysis: Analysis) -> Measures:
    if spec.is_open:
        return measures
    tempo, key = fit_tempo(analysis, spec.music.bpm), fit_key(analysis, spec.music.keyscale)
    heard = {"tempo_bpm": float(tempo.heard) if tempo.heard else None, "key": key.heard}
    return measures.model_copy(update={**heard, "tempo_fit": tempo.fit, "key_fit": key.fit})


def technical(measures: Measures, spec: TrackSpec) -> float:
    """1 for a take without a fault; less for each kind of warning, and where level, tempo or key miss the request."""
    lost = sum(_LOST_BY_FLAW.get(kind, _LOST_BY_OTHER_FLAW) for kind in {flaw.kind for flaw in measures.flaws})
    asked, got = spec.master.loudness_lufs, measures.loudness_out_lufs
    if asked is not None and got is not None:
        lost += min(_LOST_BY_LOUDNESS, _LOST_BY_LU * abs(got - asked))
    for fit, most in ((measures.tempo_fit, _LOST_BY_TEMPO), (measures.key_fit, _LOST_BY_KEY)):
        lost += most * (1 - fit) if fit is not None else 0
    return max(0.0, 1 - lost)


def variation(analysis: Analysis) -> float | None:
    """How little the music repeats itself: 1 less the 90th percentile of the likeness of blocks of 4 s, 0 to 1.

    Neighbouring blocks are not compared, since all music goes on for a while. None below 12 s. A score that rewards
    regular onsets picks the most repetitive take; this one was chosen for the opposite.
    """
    spectrum, level = analysis.spectra.mel_db, analysis.short_db
    n_blocks = min(int(len(spectrum) * FRAME_S / _BLOCK_S), int(len(level) * SHORT_S / _BLOCK_S))
    if n_blocks < _BLOCKS_LEAST:
        return None
    shapes = [_shape_of_block(spectrum, level, block) for block in range(n_blocks)]
    features = np.stack(shapes)
    features = features - features.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    features = features / np.maximum(norms, 1e-9)
    likeness = features @ features.T
    first, second = np.triu_indices(n_blocks, k=2)
    return float(np.clip(1 - np.quantile(likeness[first, second], 0.9), 0, 1))


def _shape_of_block(spectrum: Floats, level: Floats, block: int) -> Floats:
    """The spectrum in eighths of a block, and the level's course in it; both weigh the same."""
    frames = spectrum[round(block * _BLOCK_S / FRAME_S) :][: int(_BLOCK_S / FRAME_S)]
    mel = np.concatenate([part.mean(axis=0) for part in np.array_split(frames, 8)])
    course = level[round(block * _BLOCK_S / SHORT_S) :][: int(_BLOCK_S / SHORT_S)].clip(min=-60)
    return np.concatenate([_normed(mel), _normed(course)])


def _normed(values: Floats) -> Floats:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread * math.sqrt(values.size) if spread > 0 else 1))


# ---------------------------------------------------------------- plug-ins


def load_scorers(named: str) -> tuple[Scorer, ...]:
    """The plug-ins with these names, comma-separated. Raises SettingsError for one that cannot run here."""
    names = list(dict.fromkeys(name for name in (part.strip() for part in named.split(",")) if name))
    found = {point.name: point for point in entry_points(group=GROUP)}
    if len(names) > SCORES_MAX - len(DEFAULT_SCORERS):
        raise _refused(f"{len(names)} scorers are named", f"{SCORES_MAX - len(DEFAULT_SCORERS)} can run", "name fewer")
    return tuple(_load(name, found) for name in names)


def _load(name: str, found: dict[str, EntryPoint]) -> Scorer:
    if name in DEFAULT_SCORERS:
        raise _refused(f"the scorer {name!r} is built in", "it always runs", "leave it out")
    if name not in found:
        there = f"there are: {', '.join(sorted(found))}" if found else "no plug-in is installed"
        raise _refused(f"there is no scorer {name!r}", there, "install its plug-in, or correct the name")
    scorer = _made(found[name])
    if not isinstance(scorer, Scorer) or scorer.name != name:
        why = "it lacks a part of the protocol, or has another name"
        raise _refused(f"the plug-in {name!r} is no scorer of that name", why, "ask its maker for a version that is")
    try:
        _score_of(scorer, 0.0)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{first['loc'][0]}: {first['msg']}"
        raise _refused(f"the plug-in {name!r} is no scorer", why, "ask its maker for a version that is") from None
    if missing := [module for module in scorer.needs if not _is_installed(module)]:
        raise _refused(f"the scorer {name!r} cannot run", f"not installed: {', '.join(missing)}", "install them")
    log.info("scorer %s %s runs (%s)", name, scorer.version, scorer.licence)
    return scorer


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of the package that it is in
        return False


def _made(point: EntryPoint) -> object:
    try:
        return point.load()()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise _refused(
            f"the scorer {point.name!r} cannot be loaded", said, "mend the plug-in, or leave it out"
        ) from None


def _refused(what: str, why: str, fix: str) -> SettingsError:
    return SettingsError(what, why=why, fix=f"{fix} (TUNEMILL_SCORERS)")
