"""Loading the planner: only safetensors, only from disk, and only a model whose codes have the expected token ids.

Codes and token ids are converted by adding a constant. Therefore the constant and its preconditions are checked against
the tokenizer before any GPU time is spent.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

from catalog.errors import ModelError
from catalog.limits import CODEBOOK_SIZE
from workers.ace_step.weights.files import fingerprint

CONTROL_TOKENS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_FETCH_AGAIN: Final = "fetch the planner's weights again"


class Vocabulary(NamedTuple):
    """The token ids that matter to planning."""

    first_code: int  # code c is token first_code + c
    pad: int
    reserved: frozenset[int]  # control tokens and codes, which no caption may contain


def fingerprint_weights(folder: Path, home: Path | None = None) -> str:
    """SHA-256 over the weight files in `folder`; with a `home`, a hash that is stored there is not computed again."""
    with tempfile.TemporaryDirectory() as nowhere:
        return fingerprint(_weight_files(folder), folder, home or Path(nowhere))


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("model*.safetensors"))
    if files:
        return files
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    raise ModelError(
        f"the planner in {folder} has no safetensors file",
        why=f"it has {', '.join(pickled)}, which can run code when opened" if pickled else "there are no weights",
        fix="use a checkpoint in safetensors format",
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer exactly as its files describe it, with a chat template that opens the assistant's turn."""
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"the planner in {folder} has no tokenizer.json", fix=_FETCH_AGAIN)
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(
            f"the planner's tokenizer in {folder} cannot be read", why=str(error), fix=_FETCH_AGAIN
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(f"the planner's tokenizer in {folder} has no chat template", fix=_FETCH_AGAIN)
    return tokenizer


def load_model(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The Qwen3 model in `folder`, on `device`, with every tensor read from its safetensors files."""
    _require_qwen3(folder / "config.json")
    _weight_files(folder)
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = Qwen3ForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # OSError, SafetensorError, RuntimeError, ValueError: all say that the files are wrong
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"the planner in {folder} cannot be loaded", why=why, fix=_FETCH_AGAIN) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers would fill them with random numbers.
        raise ModelError(
            f"the planner in {folder} is incomplete",
            why=f"{len(missing)} tensors are missing, such as {missing[0]}",
            fix=_FETCH_AGAIN,
        )
    # A checkpoint's own defaults (sampling, an end token) would otherwise fill in what we leave unset.
    model.generation_config = GenerationConfig()
    try:
        return model.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the planner in {folder} does not fit on {device}",
            why=str(error).splitlines()[0],
            fix="use a smaller planner or a larger GPU, or turn the planner off",
        ) from None


def _require_qwen3(path: Path) -> None:
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"the planner's {path} cannot be read", why=str(error) or "no JSON object", fix=_FETCH_AGAIN
        ) from error
    if kind != "qwen3":
        raise ModelError(
            f"{path} describes a model of type {kind!r}",
            why="the planner is a Qwen3 language model",
            fix="point the planner's folder at an acestep-5Hz-lm checkpoint",
        )


def read_vocabulary(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> Vocabulary:
    """Find the token ids for planning; `vocab_size` is the model's. Raises ModelError that names a difference."""
    ids: Mapping[str, int] = tokenizer.get_vocab()
    absent = [name for name in (*CONTROL_TOKENS, "<|audio_code_0|>") if name not in ids]
    if absent:
        raise _mismatch(f"it has no {', '.join(absent)}")
    first_code = ids["<|audio_code_0|>"]
    for code in range(CODEBOOK_SIZE):
        found = ids.get(f"<|audio_code_{code}|>")
        if found != first_code + code:
            raise _mismatch(f"code {code} is token {found}, but code 0 is {first_code}, so {first_code + code} is due")
    highest = max(ids.values())
    if highest >= vocab_size:
        raise _mismatch(f"its highest token is {highest}, but the model has {vocab_size}")
    for name in (*CONTROL_TOKENS, "<|audio_code_0|>", f"<|audio_code_{CODEBOOK_SIZE - 1}|>"):
        encoded = tokenizer(f"a {name}b", add_special_tokens=False)["input_ids"]
        if encoded.count(ids[name]) != 1:
            raise _mismatch(f"it does not read {name} as one token")
    codes = {number for name, number in ids.items() if name.startswith("<|audio_code_")}
    return Vocabulary(
        first_code=first_code,
        pad=ids["<|endoftext|>"],
        reserved=frozenset(codes.union(tokenizer.get_added_vocab().values())),
    )


def _mismatch(why: str) -> ModelError:
    return ModelError(
        "the planner's tokenizer does not fit the model",
        why=why,
        fix="point the planner's folder at an acestep-5Hz-lm checkpoint, with its own tokenizer",
    )
