"""The tokenizer: found where the weights or the home have it, exact, and fetched only when told to and whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from catalog import tokenizer
from catalog.errors import CaptionTooLongError, ModelError
from catalog.prompt import PromptFit, TokenCounter
from catalog.settings import Settings
from orchestrator.matrix import expand, load_catalog
from tests.support.preset_files import a_library, write

WORDS = " kalimba santoor duduk rain"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a small tokenizer of the real kind: bytes, merged into pieces."""
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers library is an extra")
    small = tokenizers.Tokenizer(tokenizers.models.BPE())
    small.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    small.train_from_iterator([WORDS] * 50, trainer)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    small.save(str(file))
    return file.read_bytes()


@pytest.fixture
def hub(made: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that answers with the small tokenizer, as if that were the pinned one; yields what it was asked for."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(made)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}/")
    monkeypatch.setattr(tokenizer, "SHA256", sha256(made).hexdigest())
    monkeypatch.setattr(tokenizer, "SIZE_BYTES", len(made))
    yield asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("place", ["weights/tokenizer", "weights/Qwen3-Embedding-0.6B", "home/tokenizer"])
def test_the_tokenizer_of_either_layout_of_the_weights_or_of_the_home_counts(
    tmp_path: Path, made: bytes, place: str
) -> None:
    settings = Settings(home=tmp_path / "home", weights=str(tmp_path / "weights"))
    assert tokenizer.open_tokenizer(settings) is None
    file = tmp_path / place / "tokenizer.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(made)
    count = tokenizer.open_tokenizer(settings)
    assert count is not None
    assert [count(text) for text in ("", " duduk", " kalimba rain", "xyz")] == [0, 1, 2, 3]


def test_a_caption_that_only_a_tokenizer_can_judge_is_planned_or_refused_by_it(tmp_path: Path, made: bytes) -> None:
    root, home = a_library(tmp_path / "lib", 1, 1), tmp_path / "home"
    write(root / "catalogs/g.yaml", {"title": "G", "prompts": "g.csv"})
    fits, too_long = "kalimba santoor duduk " * 60, "zyx " * 180  # for this tokenizer about 180 and 720 tokens
    write(root / "catalogs/g.csv", f"caption\n{fits}\n{too_long}\n")
    settings = Settings(home=home)
    assert all(TokenCounter().fit(text, 198) is PromptFit.IN_DOUBT for text in (fits, too_long))
    assert len(list(expand(load_catalog("g", root, settings)))) == 2
    file = home / "tokenizer/tokenizer.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(made)
    with pytest.raises(
        CaptionTooLongError, match=r"g\.csv:3: column 'caption'.* takes \d+ tokens, and 198 fit"
    ) as raised:
        list(expand(load_catalog("g", root, settings)))
    cut = int(raised.value.fix.split()[1])
    write(root / "catalogs/g.csv", f"caption\n{fits}\n{'zyx ' * (180 - cut)}\n")
    assert len(list(expand(load_catalog("g", root, settings)))) == 2


def test_nothing_is_fetched_but_on_demand_and_then_once(tmp_path: Path, hub: list[str], made: bytes) -> None:
    settings = Settings(home=tmp_path)
    assert tokenizer.open_tokenizer(settings) is None
    assert hub == []
    file = tokenizer.pull_tokenizer(settings)
    assert file.read_bytes() == made
    assert hub == [f"/{tokenizer.REPOSITORY}/resolve/{tokenizer.REVISION}/tokenizer.json"]
    tokenizer.pull_tokenizer(settings)
    assert len(hub) == 1
    file.write_bytes(b"{}")  # damaged since
    assert tokenizer.pull_tokenizer(settings).read_bytes() == made
    assert [each.name for each in file.parent.iterdir()] == ["tokenizer.json"]


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(
    tmp_path: Path, hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "SHA256", "0" * 64)
    with pytest.raises(ModelError, match="is not the tokenizer"):
        tokenizer.pull_tokenizer(Settings(home=tmp_path))
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("endpoint", ["file:///etc", "ftp://x", "nowhere", "http://"])
def test_an_endpoint_that_is_no_web_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ModelError, match="HF_ENDPOINT is not a web address"):
        tokenizer.pull_tokenizer(Settings(home=tmp_path))


def test_a_hub_that_is_away_is_told_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match="cannot be fetched") as raised:
        tokenizer.pull_tokenizer(Settings(home=tmp_path))
    assert "copy tokenizer.json from the weights" in raised.value.fix


def test_a_tokenizer_that_cannot_be_read_is_told_when_it_is_needed(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the tokenizers library is an extra")
    file = write(tmp_path / "tokenizer/tokenizer.json", "{}")
    count = tokenizer.open_tokenizer(Settings(home=tmp_path))
    assert count is not None
    with pytest.raises(ModelError, match="cannot be read as a tokenizer"):
        count("piano")
    assert file.exists()
