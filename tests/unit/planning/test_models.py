"""Models: what `auto` means, which names are slips of the keyboard, and what a machine lacks to render."""

from __future__ import annotations

import pytest

from catalog.errors import ModelError, UnknownNameError
from catalog.settings import Settings
from orchestrator.planning.models import find_missing_weights, resolve_model


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
