"""What a worker refuses of a spec is refused when it is planned, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import CaptionTooLongError, TunemillError
from catalog.limits import control_text_in, planner_prompt_tokens_max
from orchestrator.matrix import expand
from tests.support.preset_files import GENRE, a_catalog, a_library, write

DEFAULTS = {"model": "acestep-v15-turbo", "tracks": 4}


def plan(root: Path, **content: object) -> None:
    list(expand(a_catalog(root, **{**DEFAULTS, **content})))


@pytest.mark.parametrize(
    "token",
    # Those of the planner's vocabulary (Qwen3 with the audio codes).
    [*"<|im_end|> <|audio_code_7|> <think> </think> <tool_call> </tool_call> <tool_response> </tool_response>".split()],
)
@pytest.mark.parametrize("place", ["caption", "suffix", "lyrics", "negative prompt", "csv"])
def test_a_control_token_of_the_planner_is_no_text_of_a_preset(tmp_path, token, place):
    root, text = a_library(tmp_path), f"slow {token} piano"
    if place == "caption":
        write(root / "genres" / "g0.yaml", {**GENRE, "instruments": [text, "b", "c", "d"]})
    if place == "csv":
        write(root / "catalogs" / "p.csv", f"caption\n{text}\n")
    content = {
        "suffix": {"defaults": {"caption_suffix": text}},
        "lyrics": {"defaults": {"lyrics": text}},
        "negative prompt": {"defaults": {"planner": {"negative_prompt": text}}},
        "csv": {"prompts": "p.csv", "matrix": None, "tracks": None},
    }
    with pytest.raises(TunemillError):
        plan(root, **content.get(place, {}))


@pytest.mark.parametrize("text", ["5 < 7 | 3", "a <b> c", "x|y", "<think", "think", "<3"])
def test_signs_that_only_look_like_one_are_text(text):
    assert control_text_in(text) is None


@pytest.mark.parametrize(("duration_s", "tokens"), [(10, 2048), (400, 2048), (500, 1596), (600, 1096)])
def test_a_long_track_leaves_less_room_for_the_planners_prompt(duration_s, tokens):
    assert planner_prompt_tokens_max(duration_s) == tokens


def test_lyrics_that_leave_the_planner_no_room_for_its_codes_are_refused_for_long_tracks_only(tmp_path):
    root, lyrics = a_library(tmp_path), "a b c d e f g h i j " * 120  # 1,200 words, so as many tokens at the least
    plan(root, defaults={"lyrics": lyrics, "duration_s": 300})
    plan(root, defaults={"lyrics": lyrics, "duration_s": 600, "planner": False})
    with pytest.raises(CaptionTooLongError) as told:
        plan(root, defaults={"lyrics": lyrics, "duration_s": 600})
    assert "3,000 codes" in told.value.why
    assert "planner: false" in told.value.fix
