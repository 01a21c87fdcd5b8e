"""Weights that are pinned by their fingerprint are these or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import ModelError, SettingsError
from catalog.models import TINY
from catalog.settings import read_settings
from tests.contract.test_ace_step_loading import copy, home, one_thread, tiny  # noqa: F401 - fixtures
from workers.ace_step.engine import AceStepEngine
from workers.wiring import engine_recipe


def load(
    monkeypatch: pytest.MonkeyPatch, folder: Path, below: Path, model: str = "acestep-v15-turbo", **pins: str
) -> AceStepEngine:
    """As a worker does, from its environment."""
    monkeypatch.setenv("TUNEMILL_WEIGHTS", str(folder))
    monkeypatch.setenv("TUNEMILL_HOME", str(below))
    monkeypatch.setenv("TUNEMILL_DEVICE", "cpu")
    for name, value in pins.items():
        monkeypatch.setenv(f"TUNEMILL_{name}", value)
    return engine_recipe(read_settings(), model).build()  # type: ignore[return-value]


def test_pinned_weights_load_while_they_are_the_ones(monkeypatch, copy, home):  # noqa: F811
    found = load(monkeypatch, copy, home).card.fingerprints
    pins = {"WEIGHTS_SHA256": found.model, "PLANNER_WEIGHTS_SHA256": found.planner}
    assert load(monkeypatch, copy, home, **pins).card.fingerprints.model == found.model


@pytest.mark.parametrize("name", ["WEIGHTS_SHA256", "PLANNER_WEIGHTS_SHA256"])
def test_other_weights_are_refused_with_both_fingerprints(monkeypatch, copy, home, name):  # noqa: F811
    with pytest.raises(ModelError) as caught:
        load(monkeypatch, copy, home, **{name: "0" * 64})
    assert f"TUNEMILL_{name}" in caught.value.what
    assert "0" * 64 in caught.value.why
    assert f"TUNEMILL_{name}=" in caught.value.fix


def test_the_tiny_model_has_no_weights_to_pin(monkeypatch, copy, home):  # noqa: F811
    assert load(monkeypatch, copy, home, model=TINY.name, WEIGHTS_SHA256="0" * 64).card.fingerprints.noise


def test_a_pin_that_is_no_fingerprint_is_a_wrong_setting(monkeypatch):
    monkeypatch.setenv("TUNEMILL_WEIGHTS_SHA256", "latest")
    with pytest.raises(SettingsError, match="TUNEMILL_WEIGHTS_SHA256"):
        read_settings()
