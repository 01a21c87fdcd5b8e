"""The finished file: its length, its level, its bits and its tags, read back by other code than made it."""

import hashlib
import io
import sys

import av
import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from catalog.spec import AudioFormat, Bounds, MasterSpec, PlannerSpec, with_metadata
from catalog.track import Take, Track
from tests.support.makers import a_spec
from tests.support.sounds import RATE, chords, sine, stereo, white_noise
from workers.audio import encode, tags
from workers.audio.checks import check_audio
from workers.audio.loudness import measure_level
from workers.audio.master import fade_ends, master

LOSSLESS = [(AudioFormat.FLAC, 16), (AudioFormat.FLAC, 24), (AudioFormat.WAV, 16), (AudioFormat.WAV, 24)]


def a_take(duration_s=10, *, title="Überfahrt 東京", **master) -> Take:
    """A take with a title that tests every format's characters; fields of its mastering may be named."""
    spec = a_spec(bpm=96, keyscale="F# minor", duration_s=duration_s, master=MasterSpec(**master))
    filed = {"catalog": "spring-2026", "zone": "hotel-lobby", "genre": "deep-house", "slot": "0001"}
    return Track(**filed, title=title, spec=spec).take(1)


def mastered(audio=None, *, duration_s=10, noise=False, model="acestep-v15-turbo", title="Überfahrt 東京", **spec):
    take = a_take(duration_s, title=title, **spec)
    audio = chords(duration_s) if audio is None else audio
    measures = check_audio(audio, take.spec, noise=noise)
    return master(audio, take, measures=measures, noise=noise, model=model)


def samples(body, dtype="float64"):
    read, rate = soundfile.read(io.BytesIO(body), dtype=dtype)
    assert rate == RATE
    return read


@pytest.mark.parametrize("audio_format", list(AudioFormat))
def test_every_format_is_48_khz_stereo_of_the_exact_length(audio_format):
    result = mastered(format=audio_format)
    with soundfile.SoundFile(io.BytesIO(result.body)) as file:
        # Lossy codecs pad their frames; libsndfile trims the padding by the counts the encoders leave in the file.
        assert (file.samplerate, file.channels, file.frames) == (48_000, 2, 480_000)
        assert len(file.read()) == 480_000
    assert result.n_samples == 480_000
    assert result.sha256 == hashlib.sha256(result.body).hexdigest()


@pytest.mark.parametrize(
    ("audio_format", "extension", "content_type"),
    [
        ("flac", "flac", "audio/flac"),
        ("wav", "wav", "audio/wav"),
        ("mp3", "mp3", "audio/mpeg"),
        ("ogg", "ogg", "audio/ogg"),
        ("opus", "opus", "audio/ogg"),
    ],
)
def test_formats_are_named_as_browsers_expect(audio_format, extension, content_type):
    container = encode.CONTAINERS[AudioFormat(audio_format)]
    assert (container.extension, container.content_type) == (extension, content_type)


@pytest.mark.parametrize("depth", [16, 24])
def test_wav_and_flac_hold_the_same_samples_and_the_same_identity(depth):
    wav, flac = (mastered(format=name, bit_depth=depth) for name in ("wav", "flac"))
    assert np.array_equal(samples(wav.body, "int32"), samples(flac.body, "int32"))
    assert wav.pcm_sha256 == flac.pcm_sha256
    assert soundfile.info(io.BytesIO(flac.body)).subtype == f"PCM_{depth}"


@pytest.mark.parametrize("depth", [16, 24])
def test_the_identity_is_the_hash_of_the_wav_files_samples(depth):
    result = mastered(format="wav", bit_depth=depth)
    n_bytes = 480_000 * 2 * depth // 8
    assert hashlib.sha256(result.body[-n_bytes:]).hexdigest() == result.pcm_sha256


def test_the_identity_is_what_the_flac_file_says_of_itself():
    wav, flac = mastered(format="wav"), mastered(format="flac")
    packed = wav.body[-480_000 * 2 * 3 :]
    assert f"{FLAC(io.BytesIO(flac.body)).info.md5_signature:032x}" == hashlib.md5(packed).hexdigest()  # noqa: S324


def decoded_by_ffmpeg(body: bytes) -> tuple[int, int, int]:
    """Rate, channels and samples a channel, as a decoder that shares no code with ours counts them."""
    with av.open(io.BytesIO(body)) as container:
        stream = container.streams.audio[0]
        decoded = sum(frame.samples for frame in container.decode(stream))
        return stream.codec_context.sample_rate, stream.codec_context.channels, decoded


@pytest.mark.parametrize(("audio_format", "spare"), [("flac", 0), ("wav", 0), ("ogg", 0), ("opus", 0), ("mp3", 2_400)])
def test_another_decoder_finds_48_khz_stereo_of_the_right_length(audio_format, spare):
    rate, channels, decoded = decoded_by_ffmpeg(mastered(format=audio_format).body)
    assert (rate, channels) == (48_000, 2)
    assert 0 <= decoded - 480_000 <= spare  # an MP3 decoder may leave the encoder's padding of 50 ms in


@pytest.mark.parametrize(("audio_format", "depth"), [*LOSSLESS, (AudioFormat.MP3, 24)])
def test_the_same_take_gives_the_same_bytes(audio_format, depth):
    first, second = (mastered(format=audio_format, bit_depth=depth) for _ in range(2))
    assert first.body == second.body


@pytest.mark.parametrize("audio_format", ["ogg", "opus"])
def test_ogg_has_the_same_identity_though_its_bytes_differ(audio_format):
    first, second = (mastered(format=audio_format) for _ in range(2))
    assert first.pcm_sha256 == second.pcm_sha256 == mastered(format="flac", peak_dbtp=-2).pcm_sha256


def test_three_minutes_of_vorbis_do_not_overflow_the_encoder():
    result = mastered(np.tile(chords(10), 18), duration_s=180, format="ogg")
    assert soundfile.info(io.BytesIO(result.body)).frames == 180 * RATE


@pytest.mark.parametrize("depth", [16, 24])
def test_rounding_has_no_bias(depth):
    audio = stereo(np.linspace(-0.9, 0.9, 480_001)[:-1])
    pcm = encode.quantise(audio, gain=1.0, bit_depth=depth, dither_seed=1)
    error = pcm.samples - audio.T.astype(np.float64) * (2 ** (depth - 1) - 1)
    assert abs(error.mean()) < 0.005  # cutting instead would give -0.5
    assert np.abs(error).max() <= (1.5 if depth == 16 else 0.5)


def test_full_scale_does_not_wrap_around():
    for depth in (16, 24):
        pcm = encode.quantise(stereo(np.array([1.5, -1.5])), gain=1.0, bit_depth=depth, dither_seed=1)
        assert pcm.samples[:, 0].tolist() == [2 ** (depth - 1) - 1, -(2 ** (depth - 1))]


def test_dither_follows_the_seed():
    sounds = [encode.quantise(chords(10), gain=1.0, bit_depth=16, dither_seed=seed).sha256() for seed in (1, 1, 2)]
    assert sounds[0] == sounds[1] != sounds[2]


def test_the_file_has_the_loudness_that_the_measures_say():
    result = mastered(format="wav")
    level = measure_level(samples(result.body, "float32").T)
    assert result.measures.loudness_out_lufs == pytest.approx(level.loudness_lufs, abs=0.01)
    assert result.measures.true_peak_dbtp == pytest.approx(level.true_peak_dbtp, abs=0.01)
    assert result.measures.loudness_out_lufs == pytest.approx(
        result.measures.loudness_in_lufs + result.measures.gain_db, abs=0.011
    )


def test_music_reaches_the_target():
    assert mastered(loudness_lufs=-18).measures.loudness_out_lufs == pytest.approx(-18, abs=0.01)


def test_peaks_in_the_way_leave_it_below_the_target_and_it_says_so():
    result = mastered(loudness_lufs=-8, format="wav")
    assert result.measures.true_peak_dbtp == pytest.approx(-1, abs=0.01)
    assert any("LU below the target of -8 LUFS" in text for text in result.measures.warnings)


def test_opus_keeps_room_for_its_overshoot():
    audio = white_noise(10)
    result = mastered(audio, loudness_lufs=-8, format="opus", noise=True)
    assert result.measures.true_peak_dbtp == pytest.approx(-2, abs=0.01)


def test_without_a_target_the_level_is_left_alone():
    result = mastered(loudness_lufs=None)
    assert result.measures.gain_db == 0
    assert result.measures.loudness_out_lufs == result.measures.loudness_in_lufs


def test_without_a_target_nothing_clips():
    result = mastered(chords(10) * 8, loudness_lufs=None)
    assert result.measures.true_peak_dbtp == pytest.approx(-1, abs=0.01)


def test_a_take_far_below_the_meters_gate_is_still_brought_up():
    result = mastered(white_noise(10) * np.float32(1e-6), noise=True)
    assert result.measures.loudness_out_lufs == pytest.approx(-16, abs=0.01)


def test_the_files_begin_and_end_at_zero():
    read = samples(mastered(sine((-20, 10), hz=997)).body)
    assert np.abs(read[[0, -1]]).max() == 0


def test_music_that_ends_by_itself_gets_only_a_safety_fade():
    faded, warnings = fade_ends(chords(10))
    assert warnings == []
    assert np.array_equal(faded[:, 480:-2400], chords(10)[:, 480:-2400])


def test_music_that_is_cut_off_is_faded_and_flagged():
    audio = sine((-20, 10))
    faded, (warning,) = fade_ends(audio)
    assert warning.startswith("still playing at its end (")
    assert faded.shape == audio.shape
    halfway = np.abs(faded[:, -RATE - 100 : -RATE + 100]).max() / np.abs(audio).max()
    assert halfway == pytest.approx(0.5, abs=0.01)
    assert np.array_equal(audio, sine((-20, 10)))


def test_what_the_checks_found_is_kept():
    result = mastered(white_noise(10), noise=True)
    assert sum(text.startswith("like noise") for text in result.measures.warnings) == 2


EXPECTED = {
    "TITLE": "Überfahrt 東京",
    "GENRE": "Deep House",
    "ALBUM": "Spring 2026",
    "BPM": "96",
    "INITIALKEY": "F#m",
    "ZONE": "hotel-lobby",
    "MODEL": "acestep-v15-turbo",
    "SEED": str(a_take().dit_seed),
    "DIGITAL_SOURCE_TYPE": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}


@pytest.mark.parametrize(("audio_format", "kind"), [("flac", FLAC), ("ogg", OggVorbis), ("opus", OggOpus)])
def test_flac_and_ogg_carry_every_tag(audio_format, kind):
    comments = kind(io.BytesIO(mastered(format=audio_format).body))
    assert {name: comments[name] for name in EXPECTED} == {name: [text] for name, text in EXPECTED.items()}
    for part in ("zone hotel-lobby", "96 BPM", "F# minor", "trainedAlgorithmicMedia"):
        assert part in comments["COMMENT"][0]


def test_mp3_carries_every_tag():
    read = ID3(io.BytesIO(mastered(format="mp3").body), translate=False)
    assert read.version == (2, 3, 0)
    frames = {"TIT2": "TITLE", "TCON": "GENRE", "TALB": "ALBUM", "TBPM": "BPM", "TKEY": "INITIALKEY"}
    for frame, name in frames.items():
        assert read[frame].text == [EXPECTED[name]]
    for name in ("SEED", "MODEL", "DIGITAL_SOURCE_TYPE", "ZONE"):
        assert read[f"TXXX:{name}"].text == [EXPECTED[name]]
    assert "trainedAlgorithmicMedia" in read["COMM::eng"].text[0]


def test_tags_name_what_the_planner_chose():
    bounds = Bounds(bpm=(60, 90), keyscales=("C major", "E♭ minor"))
    planner = PlannerSpec(metadata="fill", open=bounds.open)
    spec = a_spec(bpm=None, keyscale=None, planner=planner, bounds=bounds)
    take = Track(catalog="spa", zone="bar", genre="jazz", slot="1", spec=spec).take()
    spec_with_metadata = with_metadata(spec, {"bpm": 72, "keyscale": "E♭ minor"})
    measures = check_audio(chords(10), spec_with_metadata, noise=False)
    made = master(chords(10), take, measures=measures, noise=False, model="m", rendered_spec=spec_with_metadata)
    comments = FLAC(io.BytesIO(made.body))
    assert (comments["BPM"], comments["KEY"], comments["TAKE"]) == (["72"], ["Ebm"], [take.id])
    with pytest.raises(ValueError, match="still open"):
        master(chords(10), take, measures=measures, noise=False, model="m")


def test_wav_stays_untagged():
    assert mutagen.File(io.BytesIO(mastered(format="wav").body)).tags is None


@pytest.mark.parametrize("audio_format", ["flac", "mp3", "opus"])
def test_tags_do_not_touch_the_audio(audio_format):
    pcm = encode.quantise(chords(10), gain=0.5, bit_depth=24, dither_seed=1)
    bare = encode.encode(pcm, AudioFormat(audio_format), {})
    labels = tags.labels_of(a_take(), model="m", noise=False)
    assert np.array_equal(samples(bare), samples(tags.write_tags(bare, AudioFormat(audio_format), labels)))


def test_noise_is_labelled_in_title_and_comment():
    comments = FLAC(io.BytesIO(mastered(white_noise(10), noise=True, model="tiny-random").body))
    assert comments["TITLE"] == ["Überfahrt 東京 [NOISE (random weights)]"]
    assert comments["COMMENT"][0].startswith("NOISE (random weights); ")


def test_the_tone_engine_is_not_called_a_trained_model():
    comments = FLAC(io.BytesIO(mastered(model="tone").body))
    assert comments["DIGITAL_SOURCE_TYPE"][0].endswith("/algorithmicMedia")
    assert "AI" not in comments["COMMENT"][0]


@pytest.mark.parametrize("audio_format", ["flac", "mp3", "ogg", "opus"])
def test_without_mutagen_the_codec_library_writes_what_it_can(audio_format, monkeypatch):
    monkeypatch.setitem(sys.modules, "mutagen", None)
    result = mastered(white_noise(10), format=audio_format, noise=True)
    with soundfile.SoundFile(io.BytesIO(result.body)) as file:
        title = "Uberfahrt ??" if audio_format == "mp3" else "Überfahrt 東京"
        assert (file.title, file.genre, file.album) == (
            f"{title} [NOISE (random weights)]",
            "Deep House",
            "Spring 2026",
        )
        assert file.comment.startswith("NOISE (random weights); zone hotel-lobby, 96 BPM, F# minor, seed ")
        assert "trainedAlgorithmicMedia" in file.comment
        assert file.frames == 480_000


def test_without_mutagen_the_bytes_are_the_same_each_time(monkeypatch):
    monkeypatch.setitem(sys.modules, "mutagen", None)
    assert mastered().body == mastered().body


@pytest.mark.parametrize("title", ["", "a\x00b\nc", "“quotes” & <tags>", "😀" * 200])
@pytest.mark.parametrize("audio_format", ["flac", "mp3"])
@pytest.mark.parametrize("masked", [False, True])
def test_any_title_can_be_written(title, audio_format, masked, monkeypatch):
    if masked:
        monkeypatch.setitem(sys.modules, "mutagen", None)
    result = mastered(title=title, format=audio_format)
    with soundfile.SoundFile(io.BytesIO(result.body)) as file:
        assert file.frames == 480_000
        assert file.title


@pytest.mark.parametrize(
    ("keyscale", "short"), [("A minor", "Am"), ("F# minor", "F#m"), ("E♭ major", "Eb"), ("C♯ minor", "C#m")]
)
def test_keys_are_shortened_as_dj_software_reads_them(keyscale, short):
    assert tags.short_key(keyscale) == short
