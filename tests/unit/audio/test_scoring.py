"""Scores: a fault costs, a loop scores low, and no plug-in can lose a take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.errors import SettingsError
from catalog.flaws import Flaw
from catalog.forms import without_later_fields
from catalog.sidecar import Measures
from tests.support.makers import a_take
from workers.audio import scoring
from workers.audio.checks.analysis import Analysis
from workers.audio.scoring import load_scorers, technical, variation, with_scores

RATE_HZ = 48_000
SPEC = a_take().spec
CLEAN = Measures(rms_dbfs=-20, peak_dbfs=-3, spectral_flatness=0.1)
PLUGIN = """
class Scorer:
    name, version, weights, licence, needs = "brightness", "3", "w" * 8, "MIT", ("numpy",)

    def score(self, audio, spec, measures):
        return abs(audio).mean() + spec.duration_s

class Failing(Scorer):
    name = "failing"

    def score(self, audio, spec, measures):
        raise RuntimeError("out of memory")

class NoNumber(Scorer):
    name = "nan"

    def score(self, audio, spec, measures):
        return float("nan")

class Needy(Scorer):
    name, needs = "needy", ("no_such_module",)

class Nested(Scorer):
    name, needs = "nested", ("no_such_module.part",)

class Half:
    name = "half"

class Numbered(Scorer):
    name, version = "numbered", 3

class Writing(Scorer):
    name = "writing"

    def score(self, audio, spec, measures):
        audio *= 0
        return 1.0

def broken():
    raise ImportError("no CUDA")
"""


def music(seed: int, seconds: int) -> np.ndarray:
    """Notes of half a second at random pitches."""
    random = np.random.default_rng(seed)
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    notes = [
        np.sin(2 * np.pi * random.uniform(100, 2000) * t) * np.exp(-t * random.uniform(1, 9))
        for _ in range(2 * seconds)
    ]
    return np.stack([np.concatenate(notes)] * 2).astype(np.float32)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that offers scorers, found by the machinery that finds all others."""
    (tmp_path / "brightness_scorer.py").write_text(PLUGIN)
    info = tmp_path / "brightness_scorer-3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness-scorer\nVersion: 3.0\n")
    names = {"brightness": "Scorer", "failing": "Failing", "nan": "NoNumber", "needy": "Needy", "half": "Half"}
    names |= {"nested": "Nested", "numbered": "Numbered", "writing": "Writing"}
    points = {**names, "other": "Scorer", "broken": "broken"}
    listed = "\n".join(f"{name} = brightness_scorer:{made}" for name, made in points.items())
    (info / "entry_points.txt").write_text(f"[tunemill.scorers]\n{listed}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("brightness_scorer", None)


def flaw(kind: str) -> Flaw:
    return Flaw(kind=kind, text=kind, stops=False, value=1, limit=0)


def test_each_kind_of_fault_costs_once_and_a_voice_most():
    def with_flaws(*kinds: str) -> float:
        return technical(CLEAN.model_copy(update={"flaws": [flaw(kind) for kind in kinds]}), SPEC)

    assert with_flaws() == 1
    assert with_flaws("dull", "dull") == with_flaws("dull") == 0.9
    assert with_flaws("voice") < with_flaws("click") < with_flaws("dull") < with_flaws("hum")
    assert with_flaws("voice", "noise", "noise-in-part", "loop", "clipping") == 0


def test_music_that_misses_the_request_scores_less():
    def score(**measures: Any) -> float:
        return technical(CLEAN.model_copy(update=measures), SPEC)

    assert score(tempo_fit=1.0, key_fit=1.0, loudness_out_lufs=SPEC.master.loudness_lufs) == 1
    assert score(tempo_fit=0.0) == score(key_fit=0.0) == pytest.approx(0.85)
    assert score(loudness_out_lufs=SPEC.master.loudness_lufs - 2) == pytest.approx(0.9)
    assert score(loudness_out_lufs=SPEC.master.loudness_lufs - 20) == pytest.approx(0.8)


def test_a_loop_varies_least_and_music_that_goes_on_most():
    loop, whole = music(1, 8), music(2, 48)
    half = np.concatenate([np.tile(loop, 3), music(3, 24)], axis=1)
    scores = [variation(Analysis(audio)) for audio in (np.tile(loop, 6), half, whole)]
    assert scores[0] == pytest.approx(0, abs=0.01)
    assert scores[0] < scores[1] < scores[2]
    assert variation(Analysis(np.tile(0.1 * loop, 6))) == pytest.approx(scores[0], abs=0.001), "level is no variation"
    assert variation(Analysis(music(2, 11))) is None, "too short to tell"


def test_built_in_scores_are_always_there_and_an_older_control_side_gets_none():
    audio = music(1, 16)
    scored = with_scores(CLEAN, audio, SPEC, Analysis(audio))
    assert [each.name for each in scored.scores] == ["technical", "variation"]
    assert scored.tempo_fit is not None
    assert Measures.model_validate_json(scored.model_dump_json()) == scored
    assert without_later_fields(scored) == CLEAN


def test_a_plug_in_adds_its_score(plugins):
    audio = music(1, 16)
    scorers = load_scorers(" brightness, brightness ")
    last = with_scores(CLEAN, audio, SPEC, Analysis(audio), scorers).scores[-1]
    assert (last.name, last.version, last.weights) == ("brightness", "3", "w" * 8)
    assert last.value == pytest.approx(np.abs(audio).mean() + SPEC.duration_s)


def test_a_plug_in_that_fails_costs_a_warning_and_no_take(plugins):
    audio = music(1, 16)
    scored = with_scores(CLEAN, audio, SPEC, Analysis(audio), load_scorers("failing,nan,brightness"))
    assert [each.name for each in scored.scores] == ["technical", "variation", "brightness"]
    assert scored.warnings == [
        "scorer failing gave no score: RuntimeError: out of memory",
        "scorer nan gave no score: the value is no number",
    ]


def test_a_plug_in_cannot_change_the_audio_that_the_master_is_made_of(plugins):
    audio = music(1, 16)
    scored = with_scores(CLEAN, audio, SPEC, Analysis(audio), load_scorers("writing"))
    np.testing.assert_array_equal(audio, music(1, 16))
    assert "read-only" in scored.warnings[0]
    audio[0, 0] = 0  # it stays the worker's own


def test_the_faults_of_a_scorer_are_logged_once(plugins, monkeypatch, caplog):
    monkeypatch.setattr(scoring, "_TOLD", set())
    audio, scorers = music(1, 16), load_scorers("failing")
    warnings = [with_scores(CLEAN, audio, SPEC, Analysis(audio), scorers).warnings for _ in range(2)]
    assert warnings[0] == warnings[1] != []
    assert [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()] != []
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_plug_in_is_never_called_twice_at_once(plugins, monkeypatch):
    audio, scorers = music(1, 16), load_scorers("brightness")
    monkeypatch.setattr(scorers[0], "score", lambda *_: float(scoring._ONE_AT_A_TIME.locked()))
    assert with_scores(CLEAN, audio, SPEC, Analysis(audio), scorers).scores[-1].value == 1


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("clap", "there are: brightness, broken"),
        ("technical", "it always runs"),
        ("needy", "not installed: no_such_module"),
        ("nested", "not installed: no_such_module.part"),
        ("numbered", "version: Input should be a valid string"),
        ("half", "lacks a part of the protocol"),
        ("other", "has another name"),
        ("broken", "ImportError: no CUDA"),
        (",".join(f"s{n}" for n in range(20)), "14 can run"),
    ],
)
def test_a_worker_refuses_a_scorer_that_cannot_run(plugins, named, why):
    with pytest.raises(SettingsError) as refused:
        load_scorers(named)
    assert why in refused.value.why
    assert "TUNEMILL_SCORERS" in refused.value.fix


def test_without_plug_ins_the_error_says_so():
    assert load_scorers("") == ()
    with pytest.raises(SettingsError, match="no scorer 'clap'") as refused:
        load_scorers("clap")
    assert refused.value.why == "no plug-in is installed"
