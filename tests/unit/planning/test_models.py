"""Models: what `auto` means, which names are slips of the keyboard, and what a machine lacks to render."""

from __future__ import annotations

import pytest

from catalog.buckets import Bucket
from catalog.errors import ModelError, UnknownNameError
from catalog.models import MODELS, NOT_RENDERED
from catalog.settings import Settings
from catalog.spec import DiffusionSpec, TrackSpec
from orchestrator.planning.models import advise_on_settings, find_missing_weights, resolve_model
from orchestrator.planning.plan import BucketLoad


def test_auto_means_the_turbo_model_where_something_can_run_it():
    alone, weights = Settings(), Settings(weights="/weights")
    fleet = Settings(broker_url="redis://broker")
    for attended in (True, False):
        assert resolve_model("auto", None, weights, attended=attended) == ("acestep-v15-turbo", None)
        assert resolve_model("auto", None, fleet, attended=attended) == ("acestep-v15-turbo", None)
    model, warning = resolve_model("auto", None, alone, attended=True)
    assert model == "tiny-random"
    assert "noise" in warning


def test_auto_is_the_random_model_only_in_somebodys_sight_and_where_there_was_nothing_else():
    alone = Settings()
    assert resolve_model("auto", None, alone, known={"tiny-random"}, attended=True).model == "tiny-random"
    assert resolve_model("auto", None, alone, known={"tiny-random", "tone"}, attended=True).model == "acestep-v15-turbo"
    assert resolve_model("auto", None, alone, attended=False).model == "acestep-v15-turbo"


def test_the_option_comes_before_the_catalogs_model():
    assert resolve_model("acestep-v15-turbo", None, Settings(), attended=True).model == "acestep-v15-turbo"
    assert resolve_model("acestep-v15-turbo", "tone", Settings(), attended=False) == ("tone", None)
    assert resolve_model("tone", "auto", Settings(), attended=True).model == "tiny-random"


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("acestep-v15-turb", "acestep-v15-turbo"),
        ("acestep-v1.5-turbo", "acestep-v15-turbo"),
        ("tiny-randm", "tiny-random"),
        ("tones", "tone"),
    ],
)
def test_a_slip_of_the_keyboard_is_told_with_the_right_name(slip, meant):
    with pytest.raises(UnknownNameError) as told:
        resolve_model("tone", slip, Settings(), attended=True)
    assert f"write {meant!r}" in told.value.fix


@pytest.mark.parametrize("name", ["acestep-v15-xl-turbo", "acestep-v15-turbo-spring", "acestep-v15-turbo2", "my-lora"])
def test_names_of_weights_of_ones_own_are_taken_as_they_are(name):
    assert resolve_model("tone", name, Settings(), attended=False).model == name


def test_only_a_machine_that_renders_itself_needs_weights(tmp_path):
    alone = Settings()
    assert isinstance(find_missing_weights("acestep-v15-turbo", alone), ModelError)
    assert "--model tone" in find_missing_weights("acestep-v15-turbo", alone).fix
    assert find_missing_weights("tone", alone) is find_missing_weights("tiny-random", alone) is None
    assert find_missing_weights("acestep-v15-turbo", Settings(broker_url="redis://broker")) is None
    assert find_missing_weights("acestep-v15-turbo", Settings(weights=str(tmp_path))) is None


def test_weights_that_cannot_be_there_are_told_before_anything_starts(tmp_path):
    assert "no weights at" in find_missing_weights("my-lora", Settings(weights=str(tmp_path / "gone"))).what
    assert isinstance(find_missing_weights("my-lora", Settings(weights="owner/name@main")), ModelError)
    assert find_missing_weights("my-lora", Settings(weights=f"owner/name@{'0' * 40}")) is None


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ("turbo", "acestep-v15-turbo"),
        ("acestep-v15", "acestep-v15-turbo"),
        ("ACE-Step/acestep-v15-turbo", "acestep-v15-turbo"),
        ("ACE-Step/Ace-Step1.5", "acestep-v15-turbo"),
        ("Ace-Step1.5", "acestep-v15-turbo"),
        ("acestep_v15_turbo", "acestep-v15-turbo"),
        ("ACESTEP-V15-TURBO", "acestep-v15-turbo"),
        ("ace-step-v1.5-xl-turbo", "acestep-v15-xl-turbo"),
        ("xl", "acestep-v15-xl-turbo"),
        ("acestep-v15-4B-turbo", "acestep-v15-xl-turbo"),
        ("turbo_shift3", "acestep-v15-turbo-shift3"),
        ("Tone", "tone"),
        ("tiny_random", "tiny-random"),
    ],
)
def test_another_spelling_of_a_published_name_is_told_with_the_right_one(spelling, meant):
    for option, catalog in ((spelling, "tone"), (None, spelling)):
        with pytest.raises(UnknownNameError) as told:
            resolve_model(catalog, option, Settings(weights="/w"), attended=True)
        assert f"write {meant!r}" in told.value.fix


@pytest.mark.parametrize("model", [row.name for row in MODELS])
def test_published_names_are_taken_without_a_word(model):
    assert resolve_model(model, None, Settings(weights="/w"), attended=False) == (model, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((row.name, "guidance") for row in NOT_RENDERED),
        ("acestep-v15-sft-spring", "guidance"),
        ("sft", "guidance"),
        ("base", "guidance"),
        ("ACE-Step/acestep-v15-base", "guidance"),
        ("acestep-v1", "1.0"),
        ("ACE-Step-v1-3.5B", "1.0"),
        ("acestep-5hz-lm-1.7b", "planner"),
        ("musicgen-large", "another maker"),
    ],
)
def test_what_no_engine_renders_is_refused_before_anything_is_planned(name, words):
    with pytest.raises(ModelError) as told:
        resolve_model(name, None, Settings(weights="/w"), attended=True)
    assert words in f"{told.value.what} {told.value.why}"
    assert "acestep-v15-" in told.value.fix
    resolve_model(told.value.fix.split("'")[1] if "'" in told.value.fix else "tone", None, Settings(), attended=False)


@pytest.mark.parametrize("name", ["sft", "turbo", "acestep-v15-base", "tones"])
def test_a_catalog_that_has_takes_of_such_a_name_goes_on_with_a_warning(name):
    choice = resolve_model(name, None, Settings(weights="/w"), made={name}, attended=False)
    assert choice.model == name
    assert "write 'acestep-v15-turbo'" in choice.warning or "write 'tone'" in choice.warning
    with pytest.raises((ModelError, UnknownNameError)):
        resolve_model(name, None, Settings(weights="/w"), known={name}, made={"tone"}, attended=False)


def test_names_of_ones_own_are_taken_and_said():
    for name, kind in (("my-lora", "acestep-v15-turbo"), ("acestep-v15-xl-turbo-7", "acestep-v15-xl-turbo")):
        choice = resolve_model(name, None, Settings(weights="/w"), attended=False)
        assert choice.model == name
        assert f"your own weights, of the kind of {kind}" in choice.warning


def loads(model: str, **diffusion) -> list[BucketLoad]:
    spec = TrackSpec(
        caption="a", bpm=90, keyscale="C major", duration_s=60, model=model, diffusion=DiffusionSpec(**diffusion)
    )
    return [BucketLoad(Bucket.of(spec), 12)]


@pytest.mark.parametrize(
    ("model", "diffusion", "words"),
    [
        ("acestep-v15-turbo", {"steps": 50}, "12 takes ask for 50 steps"),
        ("acestep-v15-turbo", {"shift": 4.5}, "shift 4.5, and acestep-v15-turbo was trained for 1, 2, 3"),
        ("acestep-v15-turbo-shift1", {"shift": 3}, "trained for 1"),
    ],
)
def test_settings_that_a_model_was_not_trained_for_are_a_note(model, diffusion, words):
    (note,) = advise_on_settings(loads(model, **diffusion))
    assert words in note


@pytest.mark.parametrize(
    ("model", "diffusion"),
    [
        ("acestep-v15-turbo", {}),
        ("acestep-v15-turbo", {"steps": 20, "shift": 1}),
        ("acestep-v15-turbo-continuous", {"shift": 4.2}),
        ("tone", {"steps": 90, "shift": 4.2}),
    ],
)
def test_settings_that_suit_the_model_need_no_word(model, diffusion):
    assert advise_on_settings(loads(model, **diffusion)) == []
