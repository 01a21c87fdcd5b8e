"""Devices: what cannot be there is refused before anything is opened or loaded."""

import pytest

from catalog.errors import SettingsError
from workers import __main__ as program
from workers import devices

CUDA_BUILD = {"__version__": "2.9.0+cu128", "cuda": "12.8", "hip": None}


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many CUDA devices (None: no driver), and torch built in this way."""

    def set_up(count, build=CUDA_BUILD, platform="linux"):
        monkeypatch.setattr(devices, "_count_cuda_devices", lambda: count)
        monkeypatch.setattr(devices, "_torch_build", lambda: build)
        monkeypatch.setattr(devices.sys, "platform", platform)

    return set_up


@pytest.mark.parametrize("name", [None, "cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_there_passes(machine, name):
    machine(2)
    devices.check_device(name)


@pytest.mark.parametrize(
    ("name", "count", "build", "why"),
    [
        ("cuda", None, CUDA_BUILD, "no NVIDIA driver"),
        ("cuda", 0, CUDA_BUILD, "shows 0 CUDA devices"),
        ("cuda:7", 1, CUDA_BUILD, "shows 1 CUDA device"),
        ("cuda", 1, {"__version__": "2.9.0+cpu", "cuda": None, "hip": None}, "2.9.0+cpu is built without CUDA"),
        ("mps", 1, CUDA_BUILD, "Apple"),
    ],
)
def test_a_device_that_cannot_be_there_is_refused(machine, name, count, build, why):
    machine(count, build)
    with pytest.raises(SettingsError, match="is not there") as caught:
        devices.check_device(name)
    assert why in caught.value.why
    assert "TUNEMILL_DEVICE=cpu" in caught.value.fix


def test_amds_devices_are_left_to_torch(machine):
    machine(None, {"__version__": "2.9.0+rocm6", "cuda": None, "hip": "6.4"})
    devices.check_device("cuda")


def test_a_machine_without_torch_is_judged_by_its_driver(machine):
    machine(1, {})
    devices.check_device("cuda")


def test_the_build_is_read_without_importing_torch():
    import torch

    assert devices._torch_build().get("cuda") == torch.version.cuda


def test_a_worker_asks_for_its_device_before_anything_else_if_its_model_needs_one(machine, monkeypatch):
    machine(None)
    monkeypatch.setenv("TUNEMILL_DEVICE", "cuda")
    with pytest.raises(SettingsError):
        program._read_settings_for("tiny-random")
    program._read_settings_for("tone")
