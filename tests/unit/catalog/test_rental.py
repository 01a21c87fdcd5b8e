"""The rented machine, as its environment names it."""

from __future__ import annotations

import pytest

from catalog.errors import SettingsError
from catalog.rental import RentalNote, parse_rental, rented_here
from catalog.settings import read_settings


def test_the_setting_goes_before_the_providers_own_variables():
    runpod = {"RUNPOD_POD_ID": "9xk2", "RUNPOD_GPU_COUNT": "2", "RUNPOD_DC_ID": "EU-RO-1"}
    assert rented_here(runpod) == RentalNote(provider="runpod", external_id="9xk2", gpu_count=2, region="EU-RO-1")
    named = rented_here(runpod, setting="lambda/0920582c", market="spot", region="us-east-1")
    assert named == RentalNote(provider="lambda", external_id="0920582c", market="spot", region="us-east-1")
    vast = rented_here({"VAST_CONTAINERLABEL": "C.1234567", "GPU_COUNT": "1"})
    assert vast is not None
    assert vast.rental_id == "vast/1234567"
    assert rented_here({"RUNPOD_GPU_COUNT": "2"}) is None


@pytest.mark.parametrize("value", ["two words", "a" * 200, "../up", ""])
def test_a_variable_that_is_no_id_names_no_machine(value):
    assert rented_here({"RUNPOD_POD_ID": value, "RUNPOD_GPU_COUNT": "many"}) is None


@pytest.mark.parametrize("text", ["", "abc", "RunPod/abc", "runpod/", "runpod/a b", "/abc", "runpod/../x"])
def test_a_setting_that_names_no_machine_is_refused_in_words(text, monkeypatch):
    with pytest.raises(SettingsError, match="TUNEMILL_RENTAL is wrong"):
        parse_rental(text)
    if text:
        monkeypatch.setenv("TUNEMILL_RENTAL", text)
        with pytest.raises(SettingsError, match="TUNEMILL_RENTAL is wrong"):
            read_settings()


@pytest.mark.parametrize("name", ["Mars/Olympus", "nonsense", "../etc/passwd", "/etc/localtime"])
def test_a_time_zone_that_does_not_exist_is_refused_in_words(name, monkeypatch):
    monkeypatch.setenv("TUNEMILL_FINANCE_TZ", name)
    with pytest.raises(SettingsError, match="TUNEMILL_FINANCE_TZ is wrong"):
        read_settings()
