"""Importing prompts: from CSV and ACE-Step JSON, whatever the text, and every bad row named."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import CaptionTooLongError, OutOfRangeError, PresetError, TunemillError, UnreadableFileError
from catalog.settings import Settings
from catalog.track import Track
from orchestrator.matrix import expand, load_catalog
from orchestrator.matrix.imports import Import, ReadingOptions, import_prompts
from orchestrator.matrix.rows import slugified
from tests.support.preset_files import a_library, write


def imported(tmp_path: Path, file: Path, **options: str) -> list[Track]:
    """The tracks of `file` after it was imported."""
    root = a_library(tmp_path / "lib", 1, 1)
    import_prompts(file, "mine", root, force=True, **options)  # type: ignore[arg-type]
    return [planned.track for planned in expand(load_catalog("mine", root, Settings()))]


def test_a_row_says_all_there_is_to_say(tmp_path: Path) -> None:
    text = (
        "Prompt;Lyrics;BPM;Key;Time Signature;Duration;Vocal Language;Zone;Genre;Title;Takes;Seed;ID\n"
        '"a ""warm"" piano; soft";"[verse]\nla";90;Am;3/4;30.0;EN;Hôtel Lobby;Jazz;My Title;3;9007199254740993;No 7\n'
    )
    (track,) = imported(tmp_path, write(tmp_path / "p.csv", text))
    spec = track.spec
    assert (spec.caption, spec.lyrics) == ('a "warm" piano; soft', "[verse]\nla")
    assert (spec.bpm, spec.keyscale, spec.timesignature, spec.duration_s, spec.language) == (
        90,
        "A minor",
        "3",
        30,
        "en",
    )
    assert (track.key, track.title, track.seed) == ("mine/hotel_lobby/jazz/no-7", "My Title", 9007199254740993)


def test_a_new_title_or_more_takes_leave_a_track_what_it_is(tmp_path: Path) -> None:
    first, second, other = imported(
        tmp_path,
        write(tmp_path / "p.csv", "caption,title,takes,bpm\nrain,Rain,1,80\nrain,Drops,3,80\nrain,Rain,1,81\n"),
    )
    assert second.slot == f"{first.slot}-2"  # the same sound a second time is a track of its own
    assert other.slot not in {first.slot, second.slot}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_delimiters_line_endings_and_the_byte_order_mark_do_not_matter(
    tmp_path: Path, delimiter: str, ending: str
) -> None:
    rows = [["caption", "bpm"], ["warm, soft; calm\there", "90"], ["静か ☕ “x”", ""]]
    file = tmp_path / "p.csv"
    with file.open("w", encoding="utf-8-sig", newline="") as out:
        csv.writer(out, delimiter=delimiter, lineterminator=ending).writerows(rows)
    assert [track.spec.caption for track in imported(tmp_path, file)] == ["warm, soft; calm here", "静か ☕ “x”"]


COMMANDS = "".join(map(chr, {*range(32), *range(127, 160)} - {*map(ord, "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85")}))
NO_CAPTIONS = ("", "n/a", "#n/a", "nan", "null", "undefined", "-", "--", "–", "—")
CAPTIONS = st.text(st.characters(codec="utf-8", exclude_characters=COMMANDS), min_size=1, max_size=30)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        CAPTIONS.filter(lambda text: text.strip().casefold() not in NO_CAPTIONS and "<|" not in text),
        min_size=1,
        max_size=8,
    )
)
def test_any_text_survives_and_duplicates_stay_tracks_of_their_own(tmp_path: Path, captions: list[str]) -> None:
    file = tmp_path / "p.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["caption"], *([text] for text in captions)])
    tracks = imported(tmp_path, file)
    assert [track.spec.caption for track in tracks] == [" ".join(text.split()) for text in captions]
    assert len({track.key for track in tracks}) == len(captions) == len({track.take().dit_seed for track in tracks})


def test_control_characters_never_reach_a_terminal_or_a_tag(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("caption,title\nsoft\x1b[31m piano\x07,\x1b]0;owned\x07Dawn\n", encoding="utf-8")
    (track,) = imported(tmp_path, tmp_path / "p.csv")
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in track.spec.caption + str(track.title))


def test_other_rows_may_come_and_go_around_a_row(tmp_path: Path) -> None:
    short = imported(tmp_path, write(tmp_path / "a.csv", "caption\none\ntwo\ntwo\n"))
    long = imported(tmp_path, write(tmp_path / "b.csv", "caption\nzero\ntwo\none\nfive\ntwo\n"))
    before, after = ({track.key: track.take().id for track in tracks} for tracks in (short, long))
    assert before.items() <= after.items()


def test_what_a_row_leaves_open_is_decided_without_chance(tmp_path: Path) -> None:
    text = "caption\n" + "".join(f"piece {number}\n" for number in range(100))
    tracks = imported(tmp_path, write(tmp_path / "p.csv", text))
    assert {track.spec.duration_s for track in tracks} == {120}
    assert len({track.spec.keyscale for track in tracks}) == 10
    assert all(84 <= track.spec.bpm <= 124 for track in tracks)
    again = imported(tmp_path, tmp_path / "p.csv")
    assert [track.take().id for track in again] == [track.take().id for track in tracks]


def test_the_catalog_beside_the_prompts_gives_their_defaults(tmp_path: Path) -> None:
    root = a_library(tmp_path / "lib", 1, 1)
    write(root / "catalogs/x.csv", "caption,zone,think\none,spa,\ntwo,bar,true\n")
    content = {
        "title": "X",
        "prompts": "x.csv",
        "defaults": {"duration_s": 33, "tempo": [60, 61], "keys": ["D major"], "takes": 2, "planner": False},
        "rules": [{"zone": "bar", "set": {"steps": 4}}],
    }
    write(root / "catalogs/x.yaml", content)
    one, two = expand(load_catalog("x", root, Settings()), model="tone")
    spec = one.track.spec
    assert (spec.duration_s, spec.keyscale, one.takes, spec.planner, spec.model) == (33, "D major", 2, None, "tone")
    assert spec.bpm in (60, 61)
    assert (spec.diffusion.steps, two.track.spec.diffusion.steps) == (8, 4)
    assert two.track.spec.planner is not None


EXAMPLE = {
    "think": True,
    "caption": "soft piano",
    "lyrics": "",
    "bpm": 90,
    "duration": -1,
    "keyscale": "C major",
    "language": "en",
    "timesignature": "4",
}


def test_example_json_comes_as_object_list_lines_or_folder(tmp_path: Path) -> None:
    other = {**EXAMPLE, "caption": "loud\ndrums", "instrumental": True, "think": False}
    files = [
        write(tmp_path / "list.json", json.dumps([EXAMPLE, other], indent=2)),
        write(tmp_path / "lines.jsonl", f"{json.dumps(EXAMPLE)}\n\n{json.dumps(other)}\n"),
        write(tmp_path / "f/a.json", json.dumps(EXAMPLE)).parent,
    ]
    write(tmp_path / "f/b.json", json.dumps(other, ensure_ascii=False))
    found = [imported(tmp_path, file, zone="Day Spa", genre="Piano") for file in files]
    assert [[track.spec.caption for track in tracks] for tracks in found] == [["soft piano", "loud drums"]] * 3
    first, second = found[0]
    assert (first.zone, first.genre, first.spec.lyrics, first.spec.duration_s) == (
        "day_spa",
        "piano",
        "[Instrumental]",
        120,
    )
    assert first.spec.planner is not None
    assert second.spec.planner is None


def told(tmp_path: Path, file: Path, **reading: Any) -> Import:
    """What the import of `file` tells."""
    return import_prompts(file, "mine", a_library(tmp_path / "lib"), force=True, reading=ReadingOptions(**reading))


def test_a_bad_row_costs_no_other_unless_all_or_nothing_is_asked_for(tmp_path: Path) -> None:
    text = 'caption,bpm,duration\n"two\nlines",400,30\nfine,90,30\n,90,5\nx,90,30,extra\n'
    file = write(tmp_path / "p.csv", text)
    done = told(tmp_path, file)
    assert (done.rows, len(done.left_out)) == (1, 4)
    assert all(problem.fix for problem in done.left_out)
    (tmp_path / "lib/catalogs/mine.csv").unlink()
    with pytest.raises(OutOfRangeError) as raised:
        told(tmp_path, file, strict=True)
    assert [line.split("p.csv:")[1][:20] for line in raised.value.what.splitlines()] == [
        "2: column 'bpm': '40",
        "5: column 'duration_",
        "5: column 'caption':",
        "6: 4 cells, but 3 co",
    ]
    assert not (tmp_path / "lib/catalogs/mine.csv").exists()


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("p.csv", b"", UnreadableFileError, "is empty"),
        ("p.csv", b"caption\n\n", UnreadableFileError, "no row"),
        ("p.csv", b"\x89PNG\x00", UnreadableFileError, "binary"),
        ("p.csv", "caption\nтихое фортепиано\n".encode("cp1251"), UnreadableFileError, ":2: the file is not UTF-8"),
        ("p.csv", b"PK\x03\x04", UnreadableFileError, "a workbook"),
        ("p.csv", b'caption\n"open\n', UnreadableFileError, ":2: this row is not CSV"),
        ("p.csv", b"words,bpm\nx,90\n", PresetError, "no column 'caption'"),
        ("p.csv", b"text,bpm\nx,90\n", PresetError, "'text' may be meant.*\n  fix: add --column caption=text"),
        ("p.csv", b"caption,duraton\nx,90\n", PresetError, ":1: 'duraton' is not a column"),
        ("p.csv", b"caption,prompt\nx,y\n", PresetError, "both say the caption"),
        ("p.csv", b"caption,key\nx,H major\n", OutOfRangeError, ":2: column 'keyscale'"),
        ("p.csv", b"caption,language\nx,klingon\n", OutOfRangeError, "the model's languages"),
        (
            "p.csv",
            b"caption\n" + b"wonderful " * 300,
            CaptionTooLongError,
            r":2: column 'caption'.*at least 300 tokens, and 198 fit\n  fix: cut 246 of its 300 words",
        ),
        ("p.csv", b"caption\n<|endoftext|>\n", PresetError, "control token"),
        ("p.json", b'[{"caption": "x"}', UnreadableFileError, "the list has no end"),
        ("p.json", b'[{"caption": "x"},\n{"caption": }]', UnreadableFileError, ":2: this is not JSON"),
        ("p.json", b"[1]", PresetError, ":1: an object with a caption"),
        ("p.json", b'{"lyrics": "x"}', PresetError, "there is no caption"),
        ("p.json", b"[" * 100_000, UnreadableFileError, "not JSON"),
        ("p.json", b'{"caption": "x", "bpm": ' + b"9" * 5_000 + b"}", UnreadableFileError, "a number too long"),
        ("p.json", b"[]", UnreadableFileError, "the file has no prompt"),
    ],
)
def test_a_file_that_cannot_be_imported_is_answered_in_words(
    tmp_path: Path, name: str, content: bytes, kind: type[TunemillError], words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TunemillError, match=words) as raised:
        imported(tmp_path, tmp_path / name)
    assert type(raised.value) is kind


def test_an_existing_catalog_is_not_overwritten_unasked(tmp_path: Path) -> None:
    root, file = a_library(tmp_path), write(tmp_path / "p.csv", "caption\nx\n")
    import_prompts(file, "mine", root)
    with pytest.raises(PresetError, match="exists already"):
        import_prompts(file, "mine", root)
    with pytest.raises(PresetError, match="cannot be the name"):
        import_prompts(file, "../evil", root)


@pytest.mark.parametrize(
    ("name", "proposed"),
    [("", "spring"), ("..", "spring"), ("../Seehof", "seehof"), ("Seehof.yaml", "seehof"), ("$(id)", "id")],
)
def test_a_name_that_no_catalog_can_have_is_answered_with_one_it_can(tmp_path: Path, name: str, proposed: str) -> None:
    file = write(tmp_path / "p.csv", "caption\nx\n")
    with pytest.raises(PresetError, match="cannot be the name of a catalog") as raised:
        import_prompts(file, name, a_library(tmp_path / "lib"))
    assert raised.value.fix == f"write --as {proposed}, or another such name"


def test_a_name_of_64_letters_is_a_name(tmp_path: Path) -> None:
    file = write(tmp_path / "p.csv", "caption\nx\n")
    assert import_prompts(file, "a" * 64, a_library(tmp_path / "lib")).rows == 1
    with pytest.raises(PresetError) as raised:
        import_prompts(file, "a" * 5_000, tmp_path / "lib")
    assert len(str(raised.value)) < 500


def test_a_heading_that_means_nothing_here_is_told_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    for file in (
        write(tmp_path / "p.csv", "caption,x\x1b[31m\nsoft,1\n"),
        write(tmp_path / "p.json", '{"caption": "soft", "x\\u001b[31m": 1, "\\ud800": 1}'),
    ):
        (first, *others) = import_prompts(file, "mine", a_library(tmp_path / "lib"), force=True).unused
        assert (first, others) in ((r"x\x1b[31m", []), (r"x\x1b[31m", [r"\ud800"]))


def test_half_a_character_becomes_a_blank(tmp_path: Path) -> None:
    (track,) = imported(tmp_path, write(tmp_path / "p.json", '{"caption": "soft\\ud800piano", "\\ud801": 1}'))
    assert track.spec.caption == "soft piano"


def test_a_file_whose_name_is_no_text_can_be_imported_and_its_catalog_read(tmp_path: Path) -> None:
    (tmp_path / "\udcff.csv").write_text("caption\nsoft piano\n")
    assert [track.spec.caption for track in imported(tmp_path, tmp_path / "\udcff.csv")] == ["soft piano"]


def test_what_cannot_be_read_or_written_is_told_in_words(tmp_path: Path) -> None:
    file = write(tmp_path / "p.csv", "caption\nx\n")
    with pytest.raises(PresetError, match=r"p\.csv/catalogs: cannot be written: ") as raised:
        import_prompts(file, "mine", file)  # a file where the preset folder should be
    assert "--presets" in raised.value.fix
    with pytest.raises(UnreadableFileError, match="cannot be read: File name too long"):
        import_prompts(tmp_path / ("x" * 300), "mine", a_library(tmp_path / "lib"))


def test_labels_that_lose_letters_stay_apart() -> None:
    assert slugified("Hôtel Lobby!") == "hotel_lobby"
    assert slugified("静か") != slugified("曲")
    assert all(
        slugified(text)[0].isalnum() and slugified(text).isascii() for text in ("静か", "", "--", "☕ bar", "x" * 99)
    )


def test_ten_thousand_rows_take_a_few_seconds(tmp_path: Path) -> None:
    text = "caption,bpm\n" + "".join(f'"warm piano number {n}, ""soft"" and slow, café",90\n' for n in range(10_000))
    file = write(tmp_path / "p.csv", text)
    began_s = time.process_time()
    assert len(imported(tmp_path, file)) == 10_000
    assert time.process_time() - began_s < 15  # 2 s on an idle core; the bound only catches a quadratic mistake


# ------------------------------------------------------------ what people really bring


def test_one_id_on_two_prompts_leaves_the_later_one_out(tmp_path: Path) -> None:
    done = told(tmp_path, write(tmp_path / "p.csv", "caption,id\nx,a\ny,a\nx,a\n"))
    assert done.rows == 2
    assert [problem.what for problem in done.left_out] == [
        f"the id 'a' names another prompt already, at {tmp_path / 'p.csv'}:2"
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_text_of_any_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "p.csv").write_bytes("caption\tbpm\ncafé piano\t90\n".encode(encoding))
    (track,) = imported(tmp_path, tmp_path / "p.csv")
    assert (track.spec.caption, track.spec.bpm) == ("café piano", 90)


def test_windows_1252_is_read_and_said_and_another_encoding_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("caption\nein café mit Klavier\n".encode("cp1252"))
    assert told(tmp_path, tmp_path / "p.csv").assumed == {str(tmp_path / "p.csv"): "cp1252"}
    (tmp_path / "p.csv").write_bytes("caption\nтихое фортепиано\n".encode("cp1251"))
    assert told(tmp_path, tmp_path / "p.csv", encoding="cp1251").assumed == {}
    assert "тихое фортепиано" in (tmp_path / "lib/catalogs/mine.csv").read_text(encoding="utf-8")
    with pytest.raises(UnreadableFileError, match="no encoding 'nonsense'"):
        told(tmp_path, tmp_path / "p.csv", encoding="nonsense")


def test_a_row_that_is_no_csv_costs_no_other(tmp_path: Path) -> None:
    done = told(tmp_path, write(tmp_path / "p.csv", 'caption,bpm\none,90\n"bad" one,80\ntwo,90\n"open,90\nx,80\n'))
    assert done.rows == 2
    assert [problem.where.rpartition(":")[2] for problem in done.left_out] == ["3", "5"]
    assert "the lines down to 6" in done.left_out[1].what


def test_excels_own_first_line_names_the_delimiter(tmp_path: Path) -> None:
    done = told(tmp_path, write(tmp_path / "p.csv", "sep=|\r\ncaption|bpm\r\na; b|90\r\nc|999\r\n"))
    assert (done.rows, done.left_out[0].where) == (1, f"{tmp_path / 'p.csv'}:4")


def test_a_folder_is_walked_and_one_bad_file_costs_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    write(folder / "a.json", '{"caption": "one"}')
    write(folder / "deep/down/b.jsonl", '{"caption": "two"}\n{bad\n{"caption": "three"}\n')
    write(folder / "deep/c.csv", "prompt\nfour\n")
    write(folder / "song_prompt.txt", "folk duet")
    write(folder / "song_lyrics.txt", "[verse]\nla la")
    write(folder / "broken.json", "{")
    for hidden in (".git/x.json", "deep/._c.csv", "__MACOSX/c.csv", "README.txt"):
        write(folder / hidden, '{"caption": "hidden"}')
    tracks = imported(tmp_path, folder)
    assert sorted(track.spec.caption for track in tracks) == ["folk duet", "four", "one", "three", "two"]
    assert [track.spec.lyrics for track in tracks if track.spec.caption == "folk duet"] == ["[verse]\nla la"]
    assert [problem.where for problem in told(tmp_path, folder).left_out] == [
        *(f"{folder / 'broken.json'}:1", f"{folder / 'deep/down/b.jsonl'}:2")
    ]


def test_a_list_inside_an_object_is_taken(tmp_path: Path) -> None:
    songs = [{"prompt": "one", "bpm": 90}, {"prompt": "two", "bpm": 999}]
    done = told(tmp_path, write(tmp_path / "p.json", json.dumps({"album": "x", "songs": songs})))
    assert (done.rows, done.left_out[0].where) == (1, f"{tmp_path / 'p.json'}:1 (songs, number 2)")


@pytest.mark.parametrize(
    "content", [{"input": {"prompt": "one", "bpm": 90}}, {"data": [{"caption": "one", "tempo": 90}]}]
)
def test_a_prompt_inside_an_envelope_is_taken(tmp_path: Path, content: dict[str, Any]) -> None:
    (track,) = imported(tmp_path, write(tmp_path / "p.json", json.dumps(content)))
    assert (track.spec.caption, track.spec.bpm) == ("one", 90)


def test_what_stands_beside_prompts_holds_for_each_that_does_not_say_otherwise(tmp_path: Path) -> None:
    songs = [{"prompt": "one"}, {"prompt": "two", "tempo": 80}]
    content = {"id": 7, "title": "Album", "mood": "calm", "bpm": 90, "songs": songs}
    source = write(tmp_path / "p.json", json.dumps(content))
    assert [track.spec.bpm for track in imported(tmp_path, source)] == [90, 80]
    assert told(tmp_path, source).unused == ["mood"]
    cover = write(tmp_path / "c.json", json.dumps({"task_type": "cover", "input": {"prompt": "one"}}))
    with pytest.raises(PresetError, match="it asks for the task 'cover'"):
        imported(tmp_path, cover)


@pytest.mark.parametrize(
    ("headings", "option"),
    [
        ("Title,Style of Music,Mood", "--column 'caption=Style of Music'"),
        ("location,alt_caption,prompt_aug", "--column caption=alt_caption"),
        ("caption_id,caption_path,userPrompt", "--column caption=userPrompt"),
    ],
)
def test_a_heading_that_speaks_of_captions_is_offered_as_a_shell_takes_it(
    tmp_path: Path, headings: str, option: str
) -> None:
    with pytest.raises(PresetError) as raised:
        imported(tmp_path, write(tmp_path / "p.csv", f"{headings}\na,b,c\n"))
    assert raised.value.fix == f"add {option}"


def test_headings_that_only_name_captions_are_not_offered(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="there is no column 'caption' or 'prompt'"):
        imported(tmp_path, write(tmp_path / "p.csv", "caption_id,negative_style\na,b\n"))


def test_words_that_a_planner_would_write_first_are_no_caption(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="it asks for the task 'inspire'"):
        imported(tmp_path, write(tmp_path / "p.json", json.dumps({"caption": "a song", "lm_mode": "inspire"})))


def test_a_text_file_holds_one_prompt_a_line(tmp_path: Path) -> None:
    tracks = imported(tmp_path, write(tmp_path / "p.txt", "warm piano, soft\n\nslow bossa\n"))
    assert [track.spec.caption for track in tracks] == ["warm piano, soft", "slow bossa"]


def test_a_workflow_of_nodes_is_named_for_what_it_is(tmp_path: Path) -> None:
    workflow = {"3": {"class_type": "TextEncode", "inputs": {"tags": "x"}}}
    with pytest.raises(UnreadableFileError, match="ComfyUI workflow"):
        told(tmp_path, write(tmp_path / "p.json", json.dumps(workflow)))


def test_a_heading_that_is_no_slip_of_a_missing_column_is_only_unused(tmp_path: Path) -> None:
    done = told(tmp_path, write(tmp_path / "p.csv", "caption_id,lyricist,captoin,caption\n1,Bob,x,soft\n"))
    assert (done.rows, done.unused) == (1, ["caption_id", "lyricist", "captoin"])


def test_what_was_asked_for_and_not_kept_is_counted(tmp_path: Path) -> None:
    items = [
        {"prompt": "x", "steps": 60, "batch_size": 3},
        {"prompt": "y", "model": "other", "steps": 60},
        {"prompt": "z"},
    ]
    done = told(tmp_path, write(tmp_path / "p.json", json.dumps(items)))
    assert (done.rows, done.takes, done.unsaid, dict(done.unheeded)) == (2, 4, 2, {"steps": 2})
    assert told(tmp_path, tmp_path / "p.json", ignored=("model",)).rows == 3


def test_a_column_that_is_given_by_name_is_taken_from_there_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "p.csv", "caption,style,laenge\nold,new,90000\n")
    columns = {"style": "caption", "laenge": "duration_ms"}
    done = told(tmp_path, file, columns=columns)
    assert (done.rows, done.unused) == (1, ["caption"])
    assert (tmp_path / "lib/catalogs/mine.csv").read_text() == "caption,duration_s\nnew,90\n"
    with pytest.raises(PresetError, match="'colour' is not a column"):
        told(tmp_path, file, columns={"style": "colour"})


# Ids of a catalog of prompts as the version before planned them (2026-11-30): a row keeps what it is.
OLDER_CSV = """\
id,zone,Genre,Title,Prompt,Lyrics,bpm,key,time_signature,duration,vocal_language,takes,seed,think
a,Hôtel Lobby,Jazz,None,"warm   piano, soft",,90.5,D♭ Major,4/4,30.0,EN,2,9007199254740993,yes
b,spa,Auto,T,calm drone,instrumental,N/A,F# minor,3,-1,unknown,,0,0
,,,,"slow bossa, rain","[verse]
la la",auto,c,6/8,61.5,pt,,,off
,,,,"piano two",-,1e2,Bb,none,null,auto,1.0,42.0,
,,,,"piano three",(instrumental),,a m,2.0,600,no,,-1,true
,,,,"piano four",no vocals,,G sharp minor,,10,zh,,,On
"""
OLDER_IDS = [
    *("1fee9ed165ad1fe8363c7b3e", "2f11b9440d108b54d5061dfb", "669602ef1905886db32aac0b"),
    *("5900d3e165dbd8d5f2db461f", "1302c5b1f1b7a68d8bd4e432", "2a3181f3ba23c051b421fec0"),
]


def test_a_catalog_of_prompts_that_was_planned_before_plans_the_same_takes(tmp_path: Path) -> None:
    root = a_library(tmp_path / "lib", 1, 1)
    write(root / "catalogs/g.csv", OLDER_CSV)
    write(
        root / "catalogs/g.yaml", {"title": "G", "prompts": "g.csv", "defaults": {"duration_s": [33, 44], "takes": 2}}
    )
    tracks = [planned.track for planned in expand(load_catalog("g", root, Settings()))]
    assert [track.take(1).id for track in tracks] == OLDER_IDS
