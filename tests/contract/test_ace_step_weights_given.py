"""Weights that cannot work are refused at load for what they are, with the place to point at instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from catalog.errors import ModelError
from catalog.models import TURBO
from tests.support.ace_step_samples import write_original_layout
from workers.ace_step.assembly import load_engine
from workers.ace_step.tiny.checkpoint import MANIFEST, tiny_checkpoint
from workers.ace_step.weights.loading import check_layout

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


def put(folder: Path, **files: Any) -> Path:
    """Files with the given contents; `__` in a name stands for '/', and a text ends up as it is."""
    for name, content in files.items():
        path = folder.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def refused(folder: Path, model: str = TURBO.name) -> ModelError:
    with pytest.raises(ModelError) as caught:
        check_layout(folder, model)
    assert caught.value.exit_code == 41
    assert caught.value.fix
    return caught.value


OURS = {"architectures": ["AceStepConditionGenerationModel"], "model_type": "acestep"}
PLANNER = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}


@pytest.mark.parametrize(
    ("files", "what", "fix"),
    [
        ({"config.json": PLANNER}, "planner", "TUNEMILL_PLANNER_WEIGHTS"),
        ({"config.json": {"architectures": ["Qwen3Model"], "model_type": "qwen3"}}, "text encoder alone", "above"),
        ({"config.json": OURS, "model.safetensors": ""}, "without VAE", "the folder above it"),
        ({"config.json": {"_class_name": "AutoencoderOobleck"}}, "VAE alone", "TUNEMILL_WEIGHTS"),
        ({"config.json": {"model_type": "musicgen"}}, "another kind, 'musicgen'", "download ACE-Step 1.5"),
        ({"model_index.json": {"_class_name": "StableAudioPipeline"}}, "StableAudioPipeline", "ACE-Step 1.5"),
        ({"adapter_config.json": {}, "adapter_model.safetensors": ""}, "LoRA", "model that the adapter"),
        ({"lokr_weights.safetensors": ""}, "adapter", "model that the adapter"),
        ({"ace_step_transformer__config.json": {}}, "ACE-Step 1.0", "ACE-Step 1.5"),
        (
            {"acestep-v15-sft__config.json": OURS, "vae__config.json": {}},
            "acestep-v15-sft",
            "download acestep-v15-turbo",
        ),
        ({"acestep-v15-turbo-shift1__config.json": OURS}, "not acestep-v15-turbo", "--model acestep-v15-turbo-shift1"),
        ({"acestep-v15-turbo__model.safetensors": ""}, "no config.json", "again"),
        ({"checkpoints__acestep-v15-turbo__config.json": OURS}, "further down", "checkpoints"),
        ({"snapshots__abc__model_index.json": {}}, "further down", "snapshots/abc"),
        ({"acestep-v15-turbo-Q8_0.gguf": ""}, "GGUF", "ACE-Step 1.5"),
        ({"ace_step_1.5_turbo_aio.safetensors": ""}, "single files", "ACE-Step 1.5"),
        ({"blobs__abc.incomplete": ""}, "not finished", "again"),
        ({"holiday.jpg": ""}, "holds neither", "point TUNEMILL_WEIGHTS"),
    ],
)
def test_a_folder_of_something_else_is_named_for_what_it_is(tmp_path: Path, files: dict, what: str, fix: str):
    error = refused(put(tmp_path / "given", **files))
    assert what in error.what
    assert fix in error.fix


@pytest.mark.parametrize("name", ["acestep-v15-base", "acestep-v15-xl-sft"])
def test_a_variant_that_needs_guidance_says_so(tmp_path: Path, name: str):
    assert "guidance" in refused(put(tmp_path, **{f"{name}__config.json": OURS})).why


@pytest.mark.parametrize(
    ("name", "what"),
    [("m.gguf", "GGUF"), ("m.safetensors", "single file"), ("m.CKPT", "pickled"), ("m.zip", "archive"), ("m", "file")],
)
def test_a_file_that_is_given_for_the_folder_is_named_for_what_it_is(tmp_path: Path, name: str, what: str):
    error = _refused_at_load(put(tmp_path, **{name: "x"}) / name, tmp_path)
    assert what in error.what


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(tiny_checkpoint(home), tmp_path / "copy", ignore=shutil.ignore_patterns(MANIFEST)))


def _refused_at_load(folder: Path, home: Path, model: str = TURBO.name, **planner: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_engine(
            model,
            weights=str(folder),
            planner_weights=planner.get("planner"),
            device="cpu",
            vram_gib=None,
            home=home,
            planner_wanted=bool(planner),
        )
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("places", [[], ["a"], {}, {"x": 3}, {"x": None}, "a", None])
def test_an_index_of_another_shape_is_no_traceback(copy: Path, home: Path, places: Any):
    file = copy / "transformer" / WEIGHTS_FILE
    file.unlink()
    put(copy / "transformer", **{f"{WEIGHTS_FILE}.index.json": {"weight_map": places}})
    assert "weight_map" in _refused_at_load(copy, home).why


def test_files_that_an_index_names_and_that_are_missing_are_counted(copy: Path, home: Path):
    file = copy / "transformer" / WEIGHTS_FILE
    shards = [f"part-{n}.safetensors" for n in range(3)]
    for n, (name, tensor) in enumerate(load_file(file).items()):
        save_file({name: tensor}, file.with_name(shards[n % 3]))
    put(file.parent, **{f"{WEIGHTS_FILE}.index.json": {"weight_map": {str(n): name for n, name in enumerate(shards)}}})
    file.unlink()
    for name in shards[1:]:
        (file.parent / name).unlink()
    error = _refused_at_load(copy, home)
    assert "2 of the 3 files" in error.what
    assert "part-1.safetensors, part-2.safetensors" in error.what


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "pointer of Git LFS", "git lfs pull"),
        (b"", "is empty", "again"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page", "again"),
        (b"\x00" * 64, "corrupt or truncated", "again"),
    ],
)
@pytest.mark.parametrize("name", [f"transformer/{WEIGHTS_FILE}", "vae/config.json"])
def test_a_file_that_is_not_what_its_name_says_is_named_for_what_it_is(
    copy: Path, home: Path, name: str, content: bytes, what: str, fix: str
):
    (copy / name).write_bytes(content)
    error = _refused_at_load(copy, home)
    assert what in error.what
    assert fix in error.fix


@pytest.mark.parametrize("content", [{}, {"hidden_size": None}, {"hidden_size": "wide"}, {"layer_types": 3}, OURS])
def test_a_configuration_of_another_family_is_no_traceback(home: Path, tmp_path: Path, content: Any):
    folder = write_original_layout(tiny_checkpoint(home), tmp_path / "original")
    put(folder / TURBO.name, **{"config.json": content})
    assert str(folder) in _refused_at_load(folder, home).what


def test_weights_of_another_size_than_the_model_has_are_refused(copy: Path, home: Path):
    config = copy / "transformer" / "config.json"
    wide = json.loads(config.read_text()) | {"hidden_size": 2560}
    config.write_text(json.dumps(wide))
    error = _refused_at_load(copy, home)
    assert "XL" in error.what
    assert "--model acestep-v15-xl-turbo" in error.fix
    # Weights of somebody's own may have any size.
    assert "XL" not in _refused_at_load(copy, home, "my-own").what


def test_a_whole_checkpoint_given_for_the_planner_points_at_the_planner_in_it(copy: Path, home: Path):
    error = _refused_at_load(copy, home, planner=str(copy))
    assert f"TUNEMILL_PLANNER_WEIGHTS={copy / 'planner'}" in error.fix


def test_what_is_right_is_not_refused(copy: Path, home: Path, tmp_path: Path):
    original: Callable[..., Path] = write_original_layout
    check_layout(copy, TURBO.name)
    check_layout(original(tiny_checkpoint(home), tmp_path / "original"), TURBO.name)
