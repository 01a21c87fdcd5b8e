"""ACE-Step checkpoints: both layouts load alike, and a bad one is refused with the file and the way to mend it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from catalog.buckets import Bucket
from catalog.errors import ModelError, SettingsError
from catalog.models import TINY, TURBO
from catalog.spec import PlannerSpec
from tests.support.ace_step_samples import a_plan, a_take, renditions, write_original_layout
from workers.ace_step.assembly import load_engine
from workers.ace_step.device.placement import choose_placement
from workers.ace_step.engine import AceStepEngine
from workers.ace_step.tiny.checkpoint import MANIFEST, TINY_VERSION, tiny_checkpoint, write_tiny_checkpoint
from workers.ace_step.weights import files as weights
from workers.engine.protocol import Job

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tiny(home: Path) -> Path:
    return tiny_checkpoint(home)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil, without the mark that its weights are random."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns(MANIFEST))
    return folder


@pytest.fixture
def original(tiny: Path, tmp_path: Path) -> Path:
    return write_original_layout(tiny, tmp_path / "original")


def _load(
    folder: Path | str, home: Path, *, planner: str | None = None, planned: bool = False, vram_gib: float | None = None
) -> AceStepEngine:
    return load_engine(
        TURBO.name,
        weights=str(folder),
        planner_weights=planner,
        device="cpu",
        vram_gib=vram_gib,
        home=home,
        planner_wanted=planned,
    )


def _refused(folder: Path | str, home: Path, **how: bool) -> ModelError:
    with pytest.raises(ModelError) as caught:
        _load(folder, home, **how)
    assert caught.value.fix
    return caught.value


def test_the_original_layout_sounds_bitwise_like_the_diffusers_layout(copy: Path, original: Path, home: Path):
    jobs = [
        Job(a_take(0, model=TURBO.name), a_plan()),
        Job(a_take(1, model=TURBO.name)),
        Job(a_take(2, model=TURBO.name)),
    ]
    ours, theirs = (renditions(_load(folder, home).render(jobs)) for folder in (copy, original))
    assert all(np.array_equal(one.audio, other.audio) for one, other in zip(ours, theirs, strict=True))


def test_the_planner_is_found_beside_the_weights_in_both_layouts(copy: Path, original: Path, home: Path):
    job = Job(a_take(0, model=TURBO.name, planner=PlannerSpec()))
    ours, theirs = (renditions(_load(folder, home, planned=True).render([job]))[0] for folder in (copy, original))
    assert ours.plan is not None
    assert theirs.plan is not None
    assert ours.plan.codes == theirs.plan.codes


def test_the_planner_may_lie_elsewhere(copy: Path, home: Path):
    elsewhere = copy.parent / "elsewhere"
    (copy / "planner").rename(elsewhere)
    assert "TUNEMILL_PLANNER_WEIGHTS" in _refused(copy, home, planned=True).fix
    assert _load(copy, home, planner=str(elsewhere), planned=True).card.fingerprints.planner


def test_silence_may_be_a_safetensors_file_in_the_original_layout(original: Path, home: Path):
    variant = original / TURBO.name
    job = Job(a_take(0, model=TURBO.name))
    (before,) = renditions(_load(original, home).render([job]))
    silence = torch.load(variant / "silence_latent.pt", weights_only=True)
    save_file({"silence_latent": silence}, variant / "silence_latent.safetensors")
    (variant / "silence_latent.pt").unlink()
    (after,) = renditions(_load(original, home).render([job]))
    assert np.array_equal(before.audio, after.audio)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _scribble(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [_truncate, _scribble, _empty, _remove])
@pytest.mark.parametrize(
    "name",
    [
        f"transformer/{WEIGHTS_FILE}",
        f"vae/{WEIGHTS_FILE}",
        "text_encoder/model.safetensors",
        "condition_encoder/config.json",
        "tokenizer/tokenizer.json",
        "planner/model.safetensors",
    ],
)
def test_a_spoilt_file_is_named(copy: Path, home: Path, name: str, spoil: Callable[[Path], None]):
    spoil(copy / name)
    error = _refused(copy, home, planned=True)
    assert name.split("/", maxsplit=1)[0] in error.what


@pytest.mark.parametrize("spoil", [_truncate, _scribble, _empty, _remove])
@pytest.mark.parametrize("name", ["model.safetensors", "silence_latent.pt"])
def test_a_spoilt_file_of_the_original_layout_is_named(
    original: Path, home: Path, name: str, spoil: Callable[[Path], None]
):
    spoil(original / TURBO.name / name)
    assert name in _refused(original, home).what


def test_a_pickle_that_would_run_code_runs_nothing(original: Path, home: Path, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save(Bomb(), original / TURBO.name / "silence_latent.pt")
    assert "silence_latent.pt" in _refused(original, home).what
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("suffix", ["bin", "pt", "ckpt"])
def test_pickled_weights_are_refused(copy: Path, home: Path, suffix: str):
    file = copy / "transformer" / WEIGHTS_FILE
    file.rename(file.with_suffix(f".{suffix}"))
    assert "pickle" in _refused(copy, home).what


def test_one_missing_tensor_refuses_the_checkpoint_by_name(copy: Path, home: Path):
    file = copy / "transformer" / WEIGHTS_FILE
    tensors = load_file(file)
    del tensors["norm_out.weight"]
    save_file(tensors, file)
    assert "norm_out.weight" in _refused(copy, home).why


def test_weights_of_another_width_are_refused(copy: Path, home: Path):
    config = copy / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 128}))
    assert "size mismatch" in _refused(copy, home).why


def test_sharded_weights_load_and_a_missing_shard_is_named(copy: Path, home: Path):
    file = copy / "transformer" / WEIGHTS_FILE
    tensors = sorted(load_file(file).items())
    shards = {"part-1.safetensors": dict(tensors[::2]), "part-2.safetensors": dict(tensors[1::2])}
    for name, shard in shards.items():
        save_file(shard, file.parent / name)
    index = {"weight_map": {key: name for name, shard in shards.items() for key in shard}}
    (file.parent / f"{WEIGHTS_FILE}.index.json").write_text(json.dumps(index))
    file.unlink()
    assert _load(copy, home).card.model == TURBO.name
    (file.parent / "part-2.safetensors").unlink()
    assert "part-2.safetensors" in _refused(copy, home).what


def test_codes_are_refused_when_the_checkpoint_cannot_read_them(copy: Path, home: Path):
    index = json.loads((copy / "model_index.json").read_text())
    absent = {"audio_tokenizer": [None, None], "audio_token_detokenizer": [None, None]}
    (copy / "model_index.json").write_text(json.dumps(index | absent))
    assert "audio_tokenizer" in _refused(copy, home, planned=True).why
    engine = _load(copy, home)
    assert renditions(engine.render([Job(a_take(model=TURBO.name))]))
    with pytest.raises(ModelError, match="planner codes"):
        engine.render([Job(a_take(model=TURBO.name), a_plan())])


def test_a_variant_that_needs_guidance_is_refused(copy: Path, home: Path):
    config = copy / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"is_turbo": False, "model_version": "base"}))
    assert "guidance" in _refused(copy, home).why


def test_a_tokenizer_that_pads_on_the_left_is_refused(copy: Path, home: Path):
    config = copy / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"padding_side": "left"}))
    assert "left" in _refused(copy, home).what


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path, home: Path):
    (tmp_path / "holiday-photos").mkdir()
    assert "holiday-photos" in _refused(tmp_path, home).why


@pytest.mark.parametrize("reference", ["ACE-Step/Ace-Step1.5", "ACE-Step/Ace-Step1.5@main", "ACE-Step/Ace-Step1.5@v1"])
def test_a_hub_id_without_a_pinned_commit_is_refused(home: Path, reference: str):
    error = _refused(reference, home)
    assert "pinned" in error.what
    assert "ACE-Step/Ace-Step1.5@<40-digit commit>" in error.fix


def test_a_folder_that_is_not_there_is_refused(home: Path):
    assert "/no/such/folder" in _refused("/no/such/folder", home).what


def test_no_weights_at_all_is_refused_with_the_setting_to_use(home: Path):
    with pytest.raises(ModelError) as caught:
        load_engine(TURBO.name, weights=None, planner_weights=None, device="cpu", vram_gib=None, home=home)
    assert "TUNEMILL_WEIGHTS" in caught.value.fix


def test_a_hub_snapshot_is_fetched_at_its_commit_without_code_or_pickles(
    copy: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, str]] = []

    def hub(name: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not [pattern for pattern in allow_patterns if pattern.endswith((".py", ".bin", "*", "*.pt"))]
        return str(copy)

    monkeypatch.setattr(weights, "snapshot_download", hub)
    _load(f"someone/acestep@{COMMIT}", home)
    assert asked == [("someone/acestep", COMMIT)]


def test_a_hub_that_does_not_answer_is_an_error_with_a_fix(home: Path, monkeypatch: pytest.MonkeyPatch):
    def hub(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("the hub does not answer")

    monkeypatch.setattr(weights, "snapshot_download", hub)
    assert "does not answer" in _refused(f"someone/acestep@{COMMIT}", home).why


def test_the_fingerprint_follows_the_weights_and_nothing_else(copy: Path, tiny: Path, home: Path, tmp_path: Path):
    first = _load(copy, home).card.fingerprints.model
    assert _load(copy, tmp_path / "another-home").card.fingerprints.model == first
    assert _load(tiny, home).card.fingerprints.model == first
    file = copy / "vae" / WEIGHTS_FILE
    tensors = load_file(file)
    tensors["decoder.conv2.weight_g"] *= 2
    save_file(tensors, file)
    assert _load(copy, home).card.fingerprints.model != first


def test_a_snapshots_blob_names_are_trusted_as_hashes(tmp_path: Path):
    content, name = b"weights", "a" * 64
    blob = tmp_path / "blobs" / name
    blob.parent.mkdir()
    blob.write_bytes(content)
    link = tmp_path / "snapshots" / "model.safetensors"
    link.parent.mkdir()
    link.symlink_to(blob)
    assert weights.fingerprint([link], link.parent, tmp_path) != weights.fingerprint([blob], blob.parent, tmp_path)
    blob.write_bytes(b"other")  # never read: a 10 GB snapshot is not hashed at every start
    assert len(weights.fingerprint([link], link.parent, tmp_path)) == 64


def test_trained_weights_are_limited_by_the_published_table(copy: Path, home: Path):
    engine = _load(copy, home, vram_gib=16)
    assert not engine.card.fingerprints.noise
    text, planned = (Bucket.of(a_take(model=TURBO.name, planner=p).spec) for p in (None, PlannerSpec()))
    assert (engine.batch_limit(text).takes, engine.batch_limit(planned).takes) == (8, 4)
    assert "TUNEMILL_VRAM_GIB" in engine.batch_limit(text).reason
    assert engine.card.vram_gib == 16


def test_a_trained_model_refuses_a_caption_whose_metadata_would_be_cut_off(copy: Path, home: Path):
    engine = _load(copy, home)
    (outcome,) = engine.render([Job(a_take(model=TURBO.name, caption="calm piano " * 120))]).outcomes
    assert "the model reads 256" in getattr(outcome, "reason", "")


def test_the_tiny_checkpoint_is_the_same_bytes_every_time(tiny: Path, tmp_path: Path):
    write_tiny_checkpoint(tmp_path / "again")
    write_tiny_checkpoint(tmp_path / "other", seed=1)
    names = sorted(path.relative_to(tiny) for path in tiny.rglob("*") if path.is_file())
    assert sum((tiny / name).stat().st_size for name in names) < 10_000_000
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tiny / name).read_bytes(), name
    for name in (f"transformer/{WEIGHTS_FILE}", "planner/model.safetensors"):
        assert (tmp_path / "other" / name).read_bytes() != (tiny / name).read_bytes()


def test_the_tiny_weights_are_those_that_its_version_stands_for(tiny: Path, home: Path):
    # Pinned: every machine of a fleet makes the same noise. Another value here is another TINY_VERSION.
    pinned = {1: "84c4cf41de6595f4f749ba57dfefed174e3879c69e7a6292fb5ec45a1010a29f"}
    assert _load(tiny, home).card.fingerprints.model == pinned[TINY_VERSION]


def test_a_damaged_tiny_checkpoint_is_written_anew_and_a_whole_one_is_left_alone(tmp_path: Path):
    folder = tiny_checkpoint(tmp_path)
    file = folder / "vae" / WEIGHTS_FILE
    whole, written_at = file.read_bytes(), file.stat().st_mtime_ns
    assert tiny_checkpoint(tmp_path) == folder
    assert file.stat().st_mtime_ns == written_at
    _truncate(file)
    tiny_checkpoint(tmp_path)
    assert file.read_bytes() == whole
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_the_tiny_model_needs_no_weights_even_where_trained_ones_are_set(tmp_path: Path):
    engine = load_engine(
        TINY.name,
        weights="/no/such/folder",
        planner_weights=None,
        device="cpu",
        vram_gib=None,
        home=tmp_path,
        planner_wanted=False,
    )
    assert engine.card.fingerprints.noise


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "", "CPU"])
def test_an_unknown_device_is_refused(name: str):
    if name:
        with pytest.raises(SettingsError, match="device"):
            choose_placement(name)
    else:
        assert choose_placement(name).device.type in {"cpu", "cuda", "mps"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_gpu_that_is_not_there_is_refused_with_a_fix():
    with pytest.raises(SettingsError) as caught:
        choose_placement("cuda")
    assert "TUNEMILL_DEVICE=cpu" in caught.value.fix
