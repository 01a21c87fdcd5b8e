"""Weight files: find, read and fingerprint them, and never execute them.

A reference is a folder, or a hub id with a pinned commit (`owner/name@<40 hex digits>`); with a branch, the same preset
could sound different tomorrow. Only safetensors are read, because the pickle formats can run code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from catalog.errors import ModelError
from workers.ace_step.weights.recognition import file_given

Tensors = dict[str, torch.Tensor]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HEAD_BYTES = 200
SILENCE_FILE = "silence_latent.pt"
# Weights, configurations and tokenizer files; no remote code and no pickles but the one `convert` explains.
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.jinja", f"*{SILENCE_FILE}"]


def open_weights(reference: str, setting: str = "TUNEMILL_WEIGHTS") -> Path:
    """The folder that `reference` (a folder, or `owner/name@<commit>`) stands for; downloads only the latter.

    Raises ModelError for a folder that is not there, a hub id without a pinned commit, or a failed download.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise file_given(folder, setting)
    name, _, revision = reference.partition("@")
    if not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"no weights at {reference!r}",
            why="it is neither a folder on this machine nor a hub id",
            fix="name an existing folder, or owner/name@<40-digit commit>",
        )
    if not _COMMIT.fullmatch(revision):
        raise ModelError(
            f"weights {reference!r} have no pinned revision",
            why="it is no folder here, and a hub id without a commit may mean other weights tomorrow",
            fix=f"write {name}@<40-digit commit>; the repository's page lists its commits",
        )
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:  # the hub client lets through the errors of whichever HTTP library it uses
        raise ModelError(
            f"weights {reference!r} cannot be fetched",
            why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}",
            fix="check the id, the commit, access rights (HF_TOKEN) and the network, or download to a folder first",
        ) from None


class WeightReader:
    """Reads the files of one checkpoint folder, and remembers which weight files it read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[Path] = []

    def json(self, path: Path) -> dict[str, Any]:
        """The JSON object in `path`. Raises ModelError when it is absent or broken."""
        try:
            content = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise self.missing(path) from None
        except (OSError, ValueError) as error:
            raise self.corrupt(path, error) from None
        if not isinstance(content, dict):
            raise self.corrupt(path, "it holds no JSON object")
        return content

    def tensors(self, folder: Path, stem: str) -> Tensors:
        """Every tensor of `<stem>.safetensors` in `folder`, or of the shards its index names.

        Raises ModelError when a file is absent, truncated, corrupt or in a pickle format.
        """
        single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
        if single.is_file():
            return self._read(single)
        if not index.is_file():
            raise self._pickled_or_missing(single)
        shards = self._shards(index)
        if absent := [shard.name for shard in shards if not shard.is_file()]:
            raise ModelError(
                f"{len(absent)} of the {len(shards)} files that {index} names are missing: {', '.join(absent[:3])}",
                why="the weights were not downloaded to their end",
                fix="download the missing files, of the same revision",
            )
        tensors: Tensors = {}
        for shard in shards:
            tensors |= self._read(shard)
        return tensors

    def _shards(self, index: Path) -> list[Path]:
        """The files that an index names. Raises ModelError for an index of another shape."""
        places = self.json(index).get("weight_map")
        if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
            raise self.corrupt(index, "its weight_map does not say which file holds which tensor")
        # A shard's name comes from a downloaded file: only a plain name may be joined to the folder.
        return [index.parent / name for name in sorted({Path(name).name for name in places.values()})]

    def _read(self, path: Path) -> Tensors:
        if not path.is_file():
            raise self.missing(path)
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise self.corrupt(path, error) from None
        self.files.append(path)
        return tensors

    def missing(self, path: Path) -> ModelError:
        """The error for a file that is not there."""
        return ModelError(
            f"{path} is missing",
            why=f"the checkpoint in {self.root} is incomplete",
            fix="download the checkpoint again, all files of the pinned revision",
        )

    def corrupt(self, path: Path, error: Exception | str) -> ModelError:
        """The error for a file that cannot be read as the type that its name states."""
        if instead := _content_instead(path):
            return ModelError(f"{path} {instead.what}", why=instead.why, fix=instead.fix)
        return ModelError(
            f"{path} is corrupt or truncated",
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="download this file again and compare its size with the repository's",
        )

    def _pickled_or_missing(self, path: Path) -> ModelError:
        pickles = [file.name for pattern in _PICKLES for file in sorted(path.parent.glob(pattern))]
        if not pickles:
            return self.missing(path)
        return ModelError(
            f"{path.parent} holds pickled weights ({', '.join(pickles)}) and no {path.name}",
            why="reading a pickle can run any code, so only safetensors are accepted",
            fix="use the safetensors revision of these weights, or convert them on a machine you can throw away",
        )


class _Content(NamedTuple):
    what: str
    why: str
    fix: str


def _content_instead(path: Path) -> _Content | None:
    """The real kind of a file whose content does not match its name; None when it cannot be told."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        return _Content(f"cannot be read: {error.strerror}", "", "give this user the right to read it")
    if not head:
        return _Content("is empty", "the download broke off, or the disk was full", "download this file again")
    if head.startswith(b"version https://git-lfs"):
        return _Content(
            "is a pointer of Git LFS, and not the file itself",
            "the repository was cloned without Git LFS, which fetches the large files",
            "run `git lfs pull` in the repository, or download the file from its page",
        )
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return _Content(
            "is a web page, and not the file itself", "the address led to a page, such as a login", "download it again"
        )
    return None


def fingerprint(files: Sequence[Path], root: Path, home: Path) -> str:
    """SHA-256 over the names and contents of `files` below `root`: equal exactly when the weights are.

    A hub snapshot already names its large files by their SHA-256. Others are read once (about 10 GB for the
    full model); the hash is kept under `home`/cache and trusted while size and time of change stay the same.
    """
    cache_file = home / "cache" / "fingerprints.json"
    known = _read_cache(cache_file)
    fresh = {str(file.resolve()): _file_sha256(file, known) for file in files}
    if any(known.get(path) != entry for path, entry in fresh.items()):
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        draft = cache_file.with_suffix(f".{os.getpid()}.tmp")  # workers of one machine start together
        draft.write_text(json.dumps(known | fresh))
        draft.replace(cache_file)
    lines = [f"{file.relative_to(root).as_posix()} {fresh[str(file.resolve())][2]}" for file in files]
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()


def check_pinned(folder: Path, found: str, pinned: str | None, setting: str) -> None:
    """Raise ModelError when the fingerprint `found` is not the one that `setting` pins (None: it pins none)."""
    if pinned is not None and found != pinned:
        raise ModelError(
            f"the weights in {folder} are not the ones that {setting} names",
            why=f"their fingerprint is {found}, not {pinned}: files were changed, or are of another version",
            fix=f"fetch the right weights again; if these are meant, set {setting}={found}",
        )


Entry = list[Any]  # [bytes, time of change in ns, sha256]


def _file_sha256(file: Path, known: dict[str, Entry]) -> Entry:
    target = file.resolve()
    stat = target.stat()
    if target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
        return [stat.st_size, stat.st_mtime_ns, target.name]
    entry = known.get(str(target))
    if entry is not None and entry[:2] == [stat.st_size, stat.st_mtime_ns]:
        return entry
    with target.open("rb") as stream:
        return [stat.st_size, stat.st_mtime_ns, file_digest(stream, "sha256").hexdigest()]


def _read_cache(path: Path) -> dict[str, Entry]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # absent or broken: everything is hashed anew
    return content if isinstance(content, dict) else {}
