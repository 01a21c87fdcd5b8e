"""The tokenizer: counts a text's tokens exactly as the model's text encoder does, where the tokenizer's file exists.

The file is the one of the weights, or the one that `tunemill weights pull --tokenizer` has put below the home: a pinned
revision whose digest is checked. This module downloads only on request. Without the `tokenizers` library, there is no
exact count.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from catalog.errors import ModelError
from catalog.secrets import without_secrets
from catalog.settings import Settings

# Qwen's text encoder, as ACE-Step 1.5 uses it (its published weights hold the same file, 2026-11).
REPOSITORY: Final = "Qwen/Qwen3-Embedding-0.6B"
REVISION: Final = "97b0c614be4d77ee51c0cef4e5f07c00f9eb65b3"
SHA256: Final = "def76fb086971c7867b829c23a26261e38d9d74e02139253b38aeb9df8b4b50a"
SIZE_BYTES: Final = 11_423_705
_ENDPOINT: Final = "https://huggingface.co"
_TIMEOUT_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 20
_IN_WEIGHTS: Final = ("tokenizer", "Qwen3-Embedding-0.6B")  # diffusers' layout and the original one


def fetched_file(settings: Settings) -> Path:
    """The place of the tokenizer below the home."""
    return settings.home / "tokenizer" / "tokenizer.json"


def find_tokenizer(settings: Settings) -> Path | None:
    """The tokenizer's file: that of the weights, where they are a folder, else the one that was fetched; or None."""
    weights = [Path(settings.weights).expanduser() / name for name in _IN_WEIGHTS] if settings.weights else []
    files = [*(folder / "tokenizer.json" for folder in weights), fetched_file(settings)]
    return next((file for file in files if os.path.isfile(file)), None)  # noqa: PTH113 (False where it may not look)


def open_tokenizer(settings: Settings) -> Callable[[str], int] | None:
    """A function that counts the tokens of a text, or None where file or library is absent or the file is no good.

    Reading the file takes a second or so; it happens when the first text is counted.
    """
    file = find_tokenizer(settings)
    if file is None or not has_library():
        return None
    return _Tokenizer(file)


def has_library() -> bool:
    """True when the `tokenizers` library can be imported."""
    return find_spec("tokenizers") is not None


class _Tokenizer:
    """Counts tokens; the file is read at the first count."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tokenizer: Any = None

    def __call__(self, text: str) -> int:
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self._file)
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def load_tokenizer(file: Path) -> Any:
    """The tokenizer in `file`. Raises ModelError when it cannot be read."""
    from tokenizers import Tokenizer  # noqa: PLC0415 (an extra; the control plane runs without)

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(
            f"{file} cannot be read as a tokenizer",
            why=str(error)[:200],
            fix="fetch it again with `tunemill weights pull --tokenizer`, or correct TUNEMILL_WEIGHTS",
        ) from None


# ---------------------------------------------------------------- fetching


def pull_tokenizer(settings: Settings) -> Path:
    """Fetch the pinned tokenizer to its place below the home, unless it is there already. Raises ModelError."""
    file = fetched_file(settings)
    if file.is_file() and sha256(file.read_bytes()).hexdigest() == SHA256:
        return file
    url = f"{_endpoint()}/{REPOSITORY}/resolve/{REVISION}/tokenizer.json"
    content = _download(url)
    if (digest := sha256(content).hexdigest()) != SHA256:
        raise ModelError(
            f"what {without_secrets(url)} answers is not the tokenizer",
            why=f"{len(content):,} bytes with the digest {digest}; it must be {SIZE_BYTES:,} with {SHA256}",
            fix=f"check HF_ENDPOINT and the proxy, or copy the right file to {file}",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(file)
    return file


def _endpoint() -> str:
    """The model hub, or the mirror that HF_ENDPOINT names. Raises ModelError for a value that is no web address."""
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or _ENDPOINT
    if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).netloc:
        raise ModelError(
            f"HF_ENDPOINT is not a web address: {without_secrets(endpoint)!r}",
            fix="write HF_ENDPOINT=https://HOST, or unset HF_ENDPOINT",
        )
    return endpoint


def _download(url: str) -> bytes:
    from urllib.request import Request, urlopen  # noqa: PLC0415 (slow to import, and rarely needed)

    headers = {"User-Agent": "tunemill"}
    if token := os.environ.get("HF_TOKEN", "").strip():
        headers["Authorization"] = f"Bearer {token}"
    content = bytearray()
    try:
        with urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:  # noqa: S310 (checked: http or https)
            while chunk := answer.read(_CHUNK_BYTES):
                content += chunk
                if len(content) > SIZE_BYTES:  # no more is needed to know that it is another file
                    break
    except (OSError, ValueError) as error:
        code = getattr(error, "code", None)
        reason = f"HTTP {code}" if code else str(getattr(error, "reason", error))
        raise ModelError(
            "the tokenizer cannot be fetched",
            why=f"{without_secrets(url)}: {re.sub(r'[^ -~]', '?', reason)[:200]}",
            fix="check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT; or copy tokenizer.json from the weights "
            "into the folder tokenizer/ of the home",
        ) from None
    return bytes(content)
