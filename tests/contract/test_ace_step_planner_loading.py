"""Loading a planner: the tiny checkpoint is always the same, and a damaged one is refused in words."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.errors import ModelError
from workers.ace_step.planner.planner import Planner
from workers.ace_step.tiny.planner import write_tiny_planner

CPU = torch.device("cpu")
GOLDEN_EMBEDDING = "eab0fddaa8aa88bc3323abda817ae422f752ec25514cb3dc440fed0c45312d93"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("planner")
    write_tiny_planner(folder)
    return folder


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "planner"))


def load(folder: Path) -> Planner:
    return Planner.load(folder, device=CPU, dtype=torch.float32)


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_tiny_planner_is_the_same_bytes_every_time(pristine, tmp_path):
    write_tiny_planner(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(pristine)
    assert set(contents(pristine)) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_the_tiny_planners_weights_never_change(pristine):
    tensors = load_file(pristine / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"].view(torch.int16).numpy().tobytes()
    assert sha256(embedding).hexdigest() == GOLDEN_EMBEDDING


def test_another_seed_gives_other_weights(pristine, tmp_path):
    write_tiny_planner(tmp_path, seed=1)
    assert load(tmp_path).fingerprint != load(pristine).fingerprint


def test_the_tiny_planner_is_small_and_has_the_real_number_of_codes(pristine):
    assert sum(path.stat().st_size for path in pristine.iterdir()) < 8e6
    names = json.loads((pristine / "tokenizer.json").read_text())["model"]["vocab"]
    assert sum(name.startswith("<|audio_code_") for name in names) == 65_535


def test_loading_needs_no_network(pristine, monkeypatch):
    def refuse(*_args, **_named):
        raise AssertionError("loading reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(load(pristine).fingerprint) == 64


def test_the_hash_of_the_weights_is_kept_under_home(pristine, tmp_path):
    planner = Planner.load(pristine, device=CPU, dtype=torch.bfloat16, home=tmp_path)
    assert (tmp_path / "cache" / "fingerprints.json").is_file()
    assert planner.fingerprint == load(pristine).fingerprint


def test_truncated_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)


def test_a_missing_tensor_is_named_and_not_made_up(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj"):
        load(folder)


def test_a_tensor_of_another_shape_is_refused(folder):
    edit_json(folder / "config.json", lambda config: config.update(intermediate_size=96))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)


def test_pickled_weights_are_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, which can run code"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[]"], ids=["absent", "empty", "broken", "wrong"])
def test_an_unreadable_file_is_named(folder, name, content):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ModelError) as refused:
        load(folder)
    assert str(folder) in str(refused.value)


def test_another_kind_of_model_is_refused(folder):
    edit_json(folder / "config.json", lambda config: config.update(model_type="llama"))
    with pytest.raises(ModelError, match="type 'llama'"):
        load(folder)


def test_code_that_a_checkpoint_brings_is_never_run(folder):
    (folder / "evil.py").write_text("raise AssertionError('remote code ran')")
    edit_json(folder / "config.json", lambda c: c.update(auto_map={"AutoModelForCausalLM": "evil.Model"}))
    edit_json(folder / "tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": ["evil.T", "evil.T"]}))
    assert load(folder).fingerprint


def test_codes_that_are_not_one_range_are_refused(folder):
    def swap(tokenizer: dict) -> None:
        names = tokenizer["model"]["vocab"]
        names["<|audio_code_10|>"], names["<|audio_code_11|>"] = names["<|audio_code_11|>"], names["<|audio_code_10|>"]

    edit_json(folder / "tokenizer.json", swap)
    with pytest.raises(ModelError, match="code 10 is token 272, but code 0 is 261, so 271 is due"):
        load(folder)


def test_a_tokenizer_without_codes_is_refused(folder):
    def forget(tokenizer: dict) -> None:
        names = tokenizer["model"]["vocab"]
        tokenizer["model"]["vocab"] = {name: i for name, i in names.items() if "audio_code" not in name}

    edit_json(folder / "tokenizer.json", forget)
    with pytest.raises(ModelError, match=r"it has no <\|audio_code_0\|>"):
        load(folder)


def test_a_tokenizer_that_spells_codes_out_is_refused(folder):
    edit_json(folder / "tokenizer.json", lambda tokenizer: tokenizer["model"].update(ignore_merges=False))
    with pytest.raises(ModelError, match=r"does not read <\|audio_code_0\|> as one token"):
        load(folder)


def test_a_tokenizer_larger_than_the_model_is_refused(folder):
    def grow(tokenizer: dict) -> None:
        tokenizer["model"]["vocab"]["surplus"] = len(tokenizer["model"]["vocab"])

    edit_json(folder / "tokenizer.json", grow)
    with pytest.raises(ModelError, match="its highest token is 65796, but the model has 65796"):
        load(folder)


def test_a_tokenizer_without_a_chat_template_is_refused(folder):
    edit_json(folder / "tokenizer_config.json", lambda config: config.pop("chat_template"))
    with pytest.raises(ModelError, match="no chat template"):
        load(folder)
