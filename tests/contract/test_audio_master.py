"""The finished file: its length, its level, its bits and its tags, read back by other code than made it."""

import hashlib
import io
import re
import struct
import sys
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from catalog.spec import MP3_RATES_KBPS, AudioFormat, Bounds, MasterSpec, PlannerSpec, with_metadata
from catalog.tags import Tags
from catalog.track import Take, Track
from tests.support.makers import a_spec
from tests.support.sounds import RATE, chords, sine, stereo, white_noise
from workers.audio import encode, ogg, tags, wav
from workers.audio.checks import check_audio
from workers.audio.loudness import measure_level
from workers.audio.master import fade_ends, master

LOSSLESS = [(AudioFormat.FLAC, 16), (AudioFormat.FLAC, 24), (AudioFormat.WAV, 16), (AudioFormat.WAV, 24)]


def a_take(duration_s=10, *, title="Überfahrt 東京", slot="0001", tags=None, moods=(), axes=None, **master) -> Take:
    """A take with a title that tests every format's characters; fields of its mastering may be named."""
    spec = a_spec(bpm=96, keyscale="F# minor", duration_s=duration_s, master=MasterSpec(**master))
    filed = {"catalog": "spring-2026", "zone": "hotel-lobby", "genre": "deep-house", "slot": slot}
    return Track(**filed, title=title, spec=spec, tags=tags, moods=moods, axes=axes or {}).take(1)


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


@pytest.mark.parametrize(
    ("audio_format", "depth"), [*LOSSLESS, (AudioFormat.MP3, 24), (AudioFormat.OGG, 24), (AudioFormat.OPUS, 24)]
)
def test_the_same_take_gives_the_same_bytes(audio_format, depth):
    first, second = (mastered(format=audio_format, bit_depth=depth) for _ in range(2))
    assert first.body == second.body


@pytest.mark.parametrize("audio_format", ["ogg", "opus"])
def test_ogg_is_made_from_the_same_samples_as_flac(audio_format):
    assert mastered(format=audio_format).pcm_sha256 == mastered(format="flac", peak_dbtp=-2).pcm_sha256


def test_three_minutes_of_vorbis_do_not_overflow_the_encoder():
    result = mastered(np.tile(chords(10), 18), duration_s=180, noise=True, format="ogg")
    assert soundfile.info(io.BytesIO(result.body)).frames == 180 * RATE


def test_floating_point_wav_holds_what_was_not_rounded():
    first, second = (mastered(format="wav", sample_type="float") for _ in range(2))
    assert first.body == second.body
    assert soundfile.info(io.BytesIO(first.body)).subtype == "FLOAT"
    n_bytes = 480_000 * 2 * 4
    assert hashlib.sha256(first.body[-n_bytes:]).hexdigest() == first.pcm_sha256
    faded, _ = fade_ends(chords(10))
    wanted = faded.T * np.float64(10 ** (first.measures.gain_db / 20))
    assert samples(first.body, "float32") == pytest.approx(wanted, rel=1e-4, abs=1e-9)  # the gain is noted to .001 dB
    assert decoded_by_ffmpeg(first.body) == (48_000, 2, 480_000)


def kilobits(**spec) -> float:
    return len(mastered(white_noise(10), noise=True, **spec).body) * 8 / 10_000


@pytest.mark.parametrize("rate", MP3_RATES_KBPS)
def test_mp3_has_the_bit_rate_that_is_asked_for(rate):
    assert kilobits(format="mp3", bitrate_kbps=rate) == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("rate", [64, 128, 256])
def test_opus_has_about_the_bit_rate_that_is_asked_for(rate):
    assert kilobits(format="opus", bitrate_kbps=rate) == pytest.approx(rate, rel=0.1)


@pytest.mark.parametrize("audio_format", ["mp3", "ogg"])
def test_a_better_quality_takes_more_room(audio_format):
    sizes = [kilobits(format=audio_format, vbr_quality=quality) for quality in (0.0, 0.5, 1.0)]
    assert sizes[0] < 0.8 * sizes[1] < 0.8 * sizes[2]


@pytest.mark.parametrize("audio_format", ["flac", "mp3", "ogg", "opus"])
def test_a_setting_of_another_format_changes_no_sample(audio_format):
    plain, set_ = (mastered(format=audio_format, **spec) for spec in ({}, {"sample_type": "float"}))
    assert np.array_equal(samples(plain.body), samples(set_.body))


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


def test_with_a_limiter_peaks_give_way_and_it_is_told_by_how_much():
    plain, limited = (mastered(loudness_lufs=-12, format="wav", limiter_db=bound) for bound in (0, 5))
    assert plain.measures.loudness_out_lufs < -14
    assert limited.measures.loudness_out_lufs == pytest.approx(-12, abs=0.1)
    assert limited.measures.true_peak_dbtp <= -1
    level = measure_level(samples(limited.body, "float32").T)
    assert (level.loudness_lufs, level.true_peak_dbtp) == pytest.approx(
        (limited.measures.loudness_out_lufs, limited.measures.true_peak_dbtp), abs=0.02
    )
    assert 2 < limited.measures.limited_db <= 5
    assert 0 < limited.measures.limited_share < 1
    assert not any("below the target" in text for text in limited.measures.warnings)


def test_a_limiter_that_does_not_suffice_says_so():
    result = mastered(loudness_lufs=-8, format="wav", limiter_db=2)
    assert result.measures.limited_db == 2
    assert "of which the limiter takes 2 dB at most" in result.measures.warnings[-1]


def test_a_limiter_that_is_not_needed_changes_no_bit():
    plain, limited = (mastered(loudness_lufs=-20, limiter_db=bound) for bound in (0, 5))
    assert plain.pcm_sha256 == limited.pcm_sha256
    assert limited.measures.limited_db is None


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


STATED = Tags(
    artist="The Löbby Trio",
    album_artist="Various",
    date="2026-05-01",
    licence="https://example.com/terms",
    copyright="2026 Example Ltd",
)
STATED_FIELDS = {
    "ARTIST": "The Löbby Trio",
    "ALBUMARTIST": "Various",
    "DATE": "2026-05-01",
    "TRACKNUMBER": "1",
    "MOOD": "warm, calm",
    "LICENSE": "https://example.com/terms",
    "COPYRIGHT": "2026 Example Ltd",
    "AXIS_SEASON": "winter",
}


def stated(audio_format, **spec):
    return mastered(format=audio_format, tags=STATED, moods=("warm", "calm"), axes={"season": "winter"}, **spec)


@pytest.mark.parametrize(("audio_format", "kind"), [("flac", FLAC), ("ogg", OggVorbis), ("opus", OggOpus)])
def test_what_the_catalog_states_is_in_flac_and_ogg(audio_format, kind):
    comments = kind(io.BytesIO(stated(audio_format).body))
    found = {name: comments[name] for name in STATED_FIELDS}
    assert found == {name: [text] for name, text in STATED_FIELDS.items()}
    assert "TRACK" not in comments  # FFmpeg reads it as the track's number


@pytest.mark.parametrize("audio_format", ["mp3", "wav"])
def test_what_the_catalog_states_is_in_id3(audio_format):
    body = stated(audio_format).body
    read = ID3(io.BytesIO(body), translate=False) if audio_format == "mp3" else WAVE(io.BytesIO(body)).tags
    frames = {"TPE1": "ARTIST", "TPE2": "ALBUMARTIST", "TRCK": "TRACKNUMBER", "TCOP": "COPYRIGHT"}
    assert {read[frame].text[0] for frame in frames} == {STATED_FIELDS[name] for name in frames.values()}
    for name in ("MOOD", "LICENSE", "AXIS_SEASON"):
        assert read[f"TXXX:{name}"].text == [STATED_FIELDS[name]]
    if audio_format == "mp3":
        assert (read["TYER"].text, read["TDAT"].text) == (["2026"], ["0105"])


@pytest.mark.parametrize("audio_format", list(AudioFormat))
@pytest.mark.parametrize("masked", [False, True])
def test_ffmpeg_reads_the_usual_fields_and_the_disclosure_from_every_format(audio_format, masked, monkeypatch):
    if masked:
        monkeypatch.setitem(sys.modules, "mutagen", None)
    with av.open(io.BytesIO(stated(audio_format).body)) as container:
        found = {**container.metadata, **container.streams.audio[0].metadata}
    read = {name.lower(): text for name, text in found.items()}
    assert read["track"] == "1"
    assert read["album"] == "Spring 2026"
    assert read["artist"] in ("The Löbby Trio", "The Lobby Trio")
    assert read.get("date", read.get("tyer", ""))[:4] == "2026"
    for part in ("made by AI", "trainedAlgorithmicMedia", "96 BPM", "F# minor", "warm, calm", STATED.licence):
        assert part in read["comment"]


def chunks_of(body: bytes) -> dict[str, bytes]:
    found, at = {}, 12
    while at < len(body):
        (size,) = struct.unpack_from("<I", body, at + 4)
        found[body[at : at + 4].decode()] = body[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    assert at == len(body) == struct.unpack_from("<I", body, 4)[0] + 8
    return found


@pytest.mark.parametrize("masked", [False, True])
def test_wav_says_everything_before_its_samples(masked, monkeypatch):
    if masked:
        monkeypatch.setitem(sys.modules, "mutagen", None)
    result = stated("wav")
    chunks = chunks_of(result.body)
    assert list(chunks) == ["fmt ", "bext", "iXML", "LIST", *([] if masked else ["id3 "]), "data"]
    user = ElementTree.fromstring(chunks["iXML"]).find("USER")  # noqa: S314 - ours
    found = {field.tag: field.text for field in user}
    same_everywhere = {name: text for name, text in EXPECTED.items() if name != "SEED"}
    assert found.items() >= {**same_everywhere, **STATED_FIELDS}.items()


def test_the_broadcast_extension_has_the_disclosure_first_and_the_levels():
    result = stated("wav")
    bext = chunks_of(result.body)["bext"]
    assert bext[:256].startswith(b"made by AI, digital source type http://cv.iptc.org/")
    assert bext[256:288].rstrip(b"\0") == b"Tunemill"
    assert bext[320:330] == b"2026-05-01"
    version, *levels = struct.unpack_from("<H64x5h", bext, 346)
    measures = result.measures
    wanted = (
        *(measures.loudness_out_lufs, measures.loudness_range_lu, measures.true_peak_dbtp),
        *(measures.max_momentary_lufs, measures.max_short_term_lufs),
    )
    assert version == 2
    assert levels == [round(100 * level) for level in wanted]
    assert len(bext) == 602


def test_a_wav_chunk_of_odd_length_is_padded():
    body = wav.wav_file(b"\1" * 6, 24, is_float=False, chunks={"odd ": b"abc"})
    assert chunks_of(body)["odd "] == b"abc"
    assert body.endswith(b"\1" * 6)


def test_the_serial_number_of_an_ogg_stream_follows_from_the_take():
    body = mastered(format="opus").body
    serials = {body[match.start() + 14 : match.start() + 18] for match in re.finditer(b"OggS\0", body)}
    assert serials == {struct.pack("<I", int(a_take(format="opus").id[:8], 16))}


def test_a_page_whose_checksum_is_wrong_would_be_refused_by_the_decoder():
    body = bytearray(mastered(format="ogg").body)
    body[14:18] = b"abcd"  # another serial number, and the old checksum
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(io.BytesIO(bytes(body)))


def test_what_is_no_ogg_file_is_refused():
    with pytest.raises(ValueError, match="no Ogg page begins at byte 0"):
        ogg.with_serial(b"RIFF", 1)


def test_a_track_that_is_not_numbered_has_no_track_number():
    labels = tags.labels_of(a_take(slot="a1b2"), model="m", noise=False)
    assert "TRACKNUMBER" not in labels
    assert tags.labels_of(a_take(slot="0042"), model="m", noise=False)["TRACKNUMBER"] == "42"


def test_tags_change_no_id():
    assert a_take(tags=STATED, moods=("warm",)).id == a_take().id


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
