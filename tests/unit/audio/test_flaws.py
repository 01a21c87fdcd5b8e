"""Each made defect is found by its kind, and sound music has none."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import pytest

from catalog.flaws import KINDS, in_words, kind_of_reason
from tests.support.defects import DEFECTS, gap, loop, noise, silent_tail, tone
from tests.support.makers import a_spec, a_take
from tests.support.music import made_music
from tests.support.sounds import RATE, chords, sine, stereo, white_noise
from workers.audio.checks import Rejected, check_audio, voice
from workers.audio.checks.analysis import Analysis
from workers.audio.checks.repetition import find_loops
from workers.audio.checks.timbre import comb_of
from workers.tone import synthesise

SECONDS = 18
TRAINED = "acestep-v15-turbo"


@cache
def music(seed=3):
    sound = made_music(SECONDS, seed=seed)
    sound.flags.writeable = False
    return sound


def flaws(sound, *, model=TRAINED, noise=False, **given):
    spec = a_spec(duration_s=sound.shape[1] // RATE, model=model)
    try:
        return check_audio(sound, spec, noise=noise, **given).flaws
    except Rejected as rejected:
        return rejected.flaws


def kinds(sound, **given):
    return {flaw.kind for flaw in flaws(sound, **given)}


def rng_of(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_sound_music_has_no_flaw(seed):
    assert flaws(music(seed)) == []


@pytest.mark.parametrize("name", [name for name, defect in DEFECTS.items() if defect.gross])
def test_a_gross_defect_is_found_by_its_kind(name):
    found = kinds(DEFECTS[name].make(music(), rng_of(name)))
    assert found & set(DEFECTS[name].kinds), found


@pytest.mark.parametrize(
    "name",
    [
        *("dropouts of 50 ms", "3 s of one frame", "mono", "hum at -15 dB"),
    ],
)
def test_a_finer_defect_is_found_by_its_kind(name):
    found = kinds(DEFECTS[name].make(music(), rng_of(name)))
    assert found & set(DEFECTS[name].kinds), found


def test_a_steady_tone_is_found_with_its_frequency():
    (flaw,) = flaws(tone(music(), rng_of(""), hz=3000, db=-8))
    assert flaw.kind == "steady-tone"
    assert flaw.text.startswith("steady tone: 3000 Hz")


def test_a_click_in_a_quiet_place_is_found_at_its_second():
    seconds = np.arange(music().shape[1]) / RATE
    clicked = music() * (1 - 0.9 * np.exp(-np.square(seconds - 5))).astype(np.float32)
    clicked[0, 5 * RATE] += np.float32(0.3)
    (flaw,) = [flaw for flaw in flaws(clicked) if flaw.kind == "click"]
    assert (flaw.value, flaw.spans_s, flaw.stops) == (1, [(5.0, 5.1)], False)


@pytest.mark.parametrize("at_s", [3, 7])
def test_a_gap_names_its_seconds(at_s):
    holed = music().copy()
    holed[:, at_s * RATE : (at_s + 1) * RATE] = 0
    flaw = next(flaw for flaw in flaws(holed) if flaw.kind == "silence-inside")
    ((begin_s, end_s),) = flaw.spans_s
    assert (begin_s, end_s) == pytest.approx((at_s, at_s + 1), abs=0.03)
    assert f"0:0{at_s}.0-0:0{at_s + 1}.0" in flaw.text
    assert flaw.stops


def test_noise_in_part_names_its_seconds():
    noisy = music().copy()
    level = np.sqrt(np.square(noisy).mean())
    noisy[:, 5 * RATE : 7 * RATE] += level * np.random.default_rng(1).standard_normal((2, 2 * RATE)).astype(np.float32)
    flaw = next(flaw for flaw in flaws(noisy) if flaw.kind == "noise-in-part")
    assert all(4.4 < begin_s < end_s < 7.6 for begin_s, end_s in flaw.spans_s)


def test_noise_of_any_colour_for_some_seconds_stops_a_take():
    assert [flaw.stops for flaw in flaws(DEFECTS["3 s of pink noise at 0 dB"].make(music(), rng_of("pink")))] == [True]


def test_a_comb_makes_the_spectrum_ripple():
    combed = DEFECTS["a comb of 3 ms"].make(music(), rng_of("comb"))
    assert comb_of(Analysis(combed)) > 2 * comb_of(Analysis(music()))


def test_music_that_dies_away_and_goes_on_is_a_rest():
    resting = music().copy()
    fall = 10 ** (-np.arange(2 * RATE) / RATE * 70 / 20)
    resting[:, 5 * RATE : 7 * RATE] *= fall.astype(np.float32)
    resting[:, 7 * RATE : 7 * RATE + 480] *= np.linspace(0, 1, 480, dtype=np.float32)
    assert kinds(resting) == set()


def test_a_short_silence_is_only_a_warning():
    soft = music() - gap(music(), rng_of("short"), seconds=0.3)
    (flaw,) = flaws(music() - np.float32(0.9999) * soft)
    assert (flaw.kind, flaw.stops) == ("silence-inside", False)


def test_a_long_end_in_silence_warns_and_half_a_take_stops():
    def tail(share):
        return next(each for each in flaws(silent_tail(music(), rng_of(""), share=share)) if each.kind == "silent-tail")

    assert tail(0.5).stops
    assert kinds(silent_tail(music(), rng_of(""), share=0.2)) == set()


def test_one_sign_of_noise_rejects_nothing():
    crash = music().copy()
    crash[:, 6 * RATE :] += stereo(
        0.5
        * np.random.default_rng(2).standard_normal(crash.shape[1] - 6 * RATE)
        * np.exp(-np.arange(crash.shape[1] - 6 * RATE) / RATE / 0.25)
    )  # flat, and not steady
    assert not [flaw for flaw in flaws(crash) if flaw.stops]


def test_a_loop_stops_our_own_take_and_warns_of_foreign_audio():
    analysis = Analysis(loop(music(), rng_of("loop"), seconds=2))
    assert [flaw.stops for flaw in find_loops(analysis)] == [True]
    assert [flaw.stops for flaw in find_loops(analysis, foreign=True)] == [False]


def test_a_held_tone_is_no_loop():
    assert list(find_loops(Analysis(sine((-6, 10), hz=220)))) == []


@pytest.mark.parametrize(("bpm", "metre"), [(60, "4"), (90, "3"), (120, "6"), (174, "4"), (240, "2")])
def test_simple_synthesis_may_repeat_its_phrase_and_nothing_shorter(bpm, metre):
    take = a_take(bpm=bpm, timesignature=metre, duration_s=40)
    sound = synthesise(take)
    assert check_audio(sound, take.spec, noise=False).flaws == []
    with pytest.raises(Rejected, match="loop"):
        check_audio(loop(sound, rng_of("tone"), seconds=0.9), take.spec, noise=False)


def test_noise_by_design_is_never_rejected():
    found = flaws(white_noise(10), noise=True)
    assert {flaw.kind for flaw in found} == {"noise"}
    assert not any(flaw.stops for flaw in found)


def test_how_much_treble_there_is_is_measured_for_comparisons_within_a_genre():
    muffled = DEFECTS["low-pass at 4 kHz"].make(music(), rng_of("dull"))
    assert "dull" in kinds(muffled)
    spec = a_spec(duration_s=muffled.shape[1] // RATE, model=TRAINED)
    clear, dull = (check_audio(audio, spec, noise=True).treble_db for audio in (music(), muffled))
    assert dull < -84 < clear - 20


def test_clean_synthesis_has_no_treble_to_miss():
    assert flaws(chords(10)) == []


def test_every_reason_tells_its_kind():
    for name in ("a gap of 1 s", "only white noise", "an inverted channel", "20 clicks", "a loop of 1 s"):
        for flaw in flaws(DEFECTS[name].make(music(), rng_of(name))):
            assert kind_of_reason(flaw.text) == flaw.kind
    for flaw in flaws(np.zeros((2, 10 * RATE), np.float32)):
        assert kind_of_reason(flaw.text) == flaw.kind
    assert kind_of_reason("3 samples are not finite (limit 0)") == "not-finite"
    assert kind_of_reason("the engine died") == ""
    assert len(set(KINDS.values())) == len(KINDS)


def test_spans_are_read_as_times():
    assert in_words([(41, 43.5), (70.24, 71), (600, 601), (610, 611)]) == (
        "0:41.0-0:43.5, 1:10.2-1:11.0, 10:00.0-10:01.0 and 1 more"
    )


def test_two_kinds_of_noise_do_not_name_the_same_second_twice():
    whole = flaws(noise(music(), rng_of("whole"), seconds=1000))
    assert {flaw.kind for flaw in whole} <= {"noise", "noise-in-part"}


def test_a_voice_is_the_first_warning(monkeypatch):
    likely = np.zeros(560, np.float32)
    likely[100:200] = 0.9
    monkeypatch.setattr(voice, "has_voice_check", lambda: True)
    monkeypatch.setattr(voice, "voice_of", lambda mono: likely)
    first = flaws(DEFECTS["low-pass at 4 kHz"].make(music(), rng_of("dull")))[0]
    assert (first.kind, first.value, first.spans_s, first.stops) == ("voice", 0.179, [(3.2, 6.4)], False)
    sung = a_spec(duration_s=SECONDS, model=TRAINED, lyrics="la la la")
    assert check_audio(music(), sung, noise=False).flaws == []


def test_without_the_extra_nothing_is_said_of_voices(monkeypatch):
    monkeypatch.setattr(voice, "_weights", lambda: None)
    assert list(voice.find_voice(Analysis(music()))) == []


def test_the_network_hears_no_voice_in_music():
    pytest.importorskip("onnxruntime")
    if not voice.has_voice_check():
        pytest.skip("the extra `voice` is not installed")
    likely = voice.voice_of(Analysis(music()).mono)
    assert likely.size == SECONDS * 16_000 // 512
    assert (likely > 0.5).mean() < 0.1
