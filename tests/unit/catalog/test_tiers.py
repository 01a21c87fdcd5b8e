"""The published table says how a model is made to fit, and settings may say otherwise."""

from __future__ import annotations

import pytest
import torch

from catalog.errors import SettingsError
from catalog.models import TINY
from catalog.settings import read_settings
from catalog.tiers import TIERS, tier_of
from workers.ace_step.device.fitting import AS_LOADED, Fit, choose_fit
from workers.ace_step.device.placement import Placement
from workers.wiring import engine_recipe


def a_placement(vram_gib: float, device: str = "cuda") -> Placement:
    half = torch.bfloat16
    return Placement(torch.device(device), half, half, half, half, "a GPU", vram_gib, "said by a test")


def test_what_is_offloaded_and_quantised_stands_in_the_published_table():
    published = {
        "4g": (True, True, "int8"),
        "6g": (True, True, "int8"),
        "8g": (True, True, "int8"),
        "12g": (True, True, "int8"),
        "15g": (True, False, "int8"),
        "16g": (True, False, "int8"),
        "24g": (False, False, ""),
        "max": (False, False, ""),
    }
    assert {tier.name: (tier.offload, tier.offload_dit, tier.quantize) for tier in TIERS} == published


@pytest.mark.parametrize("gib", [4, 8, 12, 15, 16, 24, 80])
def test_left_to_itself_a_gpu_does_what_its_tier_says(gib: float):
    tier = tier_of(gib)
    assert choose_fit(a_placement(gib)) == Fit(tier.quantize, tier.offload, tier.offload_dit)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_left_to_itself_nothing_else_than_cuda_offloads_or_quantises(device: str):
    assert choose_fit(a_placement(8, device)) == AS_LOADED


def test_a_setting_goes_before_the_tier():
    assert choose_fit(a_placement(8), quantize="none", offload="off") == AS_LOADED
    assert choose_fit(a_placement(80), quantize="fp8") == Fit("fp8")
    assert choose_fit(a_placement(80), offload="on") == Fit("", offload=True, offload_dit=True)
    assert choose_fit(a_placement(8, "cpu"), quantize="int8") == Fit("int8")


def test_the_environment_decides_and_a_wrong_word_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TUNEMILL_QUANTIZE", "int8")
    monkeypatch.setenv("TUNEMILL_OFFLOAD", "off")
    arguments = engine_recipe(read_settings(), TINY.name).arguments
    assert (arguments["quantize"], arguments["offload"], arguments["trial"]) == ("int8", "off", False)
    monkeypatch.setenv("TUNEMILL_QUANTIZE", "int4")
    with pytest.raises(SettingsError, match="TUNEMILL_QUANTIZE"):
        read_settings()
