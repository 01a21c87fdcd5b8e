"""Masters: what comes out of one is what the engine made, to a step of 24 bits, whatever its level."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import soundfile

from catalog.errors import StoreError
from catalog.keys import take_of_master
from tests.support.makers import a_take
from tests.support.sounds import chords
from workers.audio.masters import make_master, read_audio

STEP = 2.0**-23


@pytest.mark.parametrize("level", [1.0, 0.003, 4.0], ids=["as it is", "very quiet", "far above full scale"])
def test_a_master_gives_back_the_engines_audio(level):
    audio = chords(10) * np.float32(level)
    master, body = make_master(audio, a_take())
    again = read_audio(body, master.gain_db)
    # Half a step of the file, as loud as the file's gain makes it, and the rounding of float32.
    tolerance = STEP / 10 ** (master.gain_db / 20) + np.abs(audio).max() * 2.0**-23
    assert again.shape == audio.shape
    assert np.abs(again - audio).max() <= tolerance


def test_a_master_peaks_a_decibel_below_full_scale_and_is_named_by_its_bytes():
    take = a_take()
    master, body = make_master(chords(10), take)
    samples, rate = soundfile.read(io.BytesIO(body))
    assert 20 * np.log10(np.abs(samples).max()) == pytest.approx(-1, abs=0.001)
    assert (rate, samples.shape, soundfile.info(io.BytesIO(body)).subtype) == (48_000, (480_000, 2), "PCM_24")
    assert master.audio.sha256 == hashlib.sha256(body).hexdigest()
    assert (master.audio.bytes, master.audio.n_samples) == (len(body), 480_000)
    assert take_of_master(master.audio.key) == take.id
    assert make_master(chords(10), take)[1] == body


def test_what_is_no_audio_of_ours_is_refused_in_words():
    other = io.BytesIO()
    soundfile.write(other, np.zeros((100, 1)), 44_100, format="FLAC")
    for body in (b"fLaC and then nothing", other.getvalue()):
        with pytest.raises(StoreError, match="cannot be decoded"):
            read_audio(body, 0.0)
