"""Recognition: names the contents of a folder that was given as ACE-Step 1.5 weights and is something else.

Users have many files that belong to the model: planners, adapters, single files for other programs, variants that need
guidance, the previous model. A message names the kind that was found and the path to give instead. Recognition reads
only file names and small JSON files, so it takes no time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from catalog.errors import ModelError
from catalog.models import MODELS, find_not_rendered

_WIDTHS: Final = {2048: "of the 2B model", 2560: "of the XL model"}
_MODEL_INDEX: Final = "model_index.json"
_ADAPTER_FILES: Final = (
    *("adapter_config.json", "adapter_model.safetensors", "pytorch_lora_weights.safetensors"),
    "lokr_weights.safetensors",
)
_OLD_PARTS: Final = ("ace_step_transformer", "music_dcae_f8c8", "music_vocoder", "umt5-base")  # of ACE-Step 1.0
_UNFINISHED: Final = ("*.incomplete", "*.part", "*.aria2", "*.crdownload")
_POINT_AT: Final = "point TUNEMILL_WEIGHTS at the folder that holds model_index.json or the folder of the model"


class Found(NamedTuple):
    """The content that was found, as the end of a sentence, and the remedy."""

    what: str
    fix: str
    why: str = ""


def file_given(path: Path, setting: str) -> ModelError:
    """The error for a file that is given by `setting`, where a folder is wanted."""
    kinds = {
        ".gguf": "is a GGUF file, quantised for acestep.cpp",
        ".safetensors": "is a single file, as ComfyUI loads it",
        **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt", ".pkl"), "is a file of pickled weights, which can run code"),
        **dict.fromkeys((".zip", ".tar", ".gz", ".7z"), "is an archive"),
    }
    return ModelError(
        f"{path} {kinds.get(path.suffix.lower(), 'is a file, and no folder')}",
        why="the weights are a folder in diffusers' or the original ACE-Step layout",
        fix=_fetch(f"point {setting} at the folder"),
    )


def refuse_other(folder: Path, model: str) -> None:
    """Raise ModelError when `folder` is recognised as something else than the weights of `model`."""
    found = _of_folder(folder, model)
    if found is not None:
        why = found.why or f"the weights of {model} are a folder in diffusers' or the original ACE-Step layout"
        raise ModelError(f"{folder} {found.what}", why=why, fix=found.fix)


def refuse_width(config: dict[str, Any], model: str, source: Path) -> None:
    """Raise ModelError for the transformer of another size than a published `model` has."""
    width, row = config.get("hidden_size"), next((each for each in MODELS if each.name == model), None)
    if row is not None and row.needs_weights and width in _WIDTHS and width != row.width:
        names = [each.name for each in MODELS if each.width == width and each.needs_weights]
        raise ModelError(
            f"{source.parent} holds weights {_WIDTHS[width]}, and not of {model}",
            why=f"its config.json says hidden_size {width}; {model} has {row.width}",
            fix=f"render with --model {names[0]}, or point TUNEMILL_WEIGHTS at the weights of {model}",
        )


def _of_folder(folder: Path, model: str) -> Found | None:
    names = _names_in(folder)
    if _MODEL_INDEX in names:
        return _of_pipeline(folder)
    if f"{model}/config.json" in names:
        return None
    return (
        _of_adapter(names)
        or _of_config(folder, model)
        or _of_old_model(names)
        or _of_other_variants(folder, names, model)
        or _of_lower_folder(folder, model)
        or _of_single_files(folder, names)
    )


def _of_pipeline(folder: Path) -> Found | None:
    """A pipeline of diffusers is ours, unless its index names another class."""
    kind = _read_json(folder / _MODEL_INDEX).get("_class_name")
    if not isinstance(kind, str) or kind.startswith("AceStep"):
        return None
    return Found(f"holds another pipeline of diffusers, {kind[:60]}", _fetch(_POINT_AT))


def _of_adapter(names: Sequence[str]) -> Found | None:
    if not any(name in names for name in _ADAPTER_FILES):
        return None
    return Found(
        "holds a LoRA or another adapter, not a model",
        "point TUNEMILL_WEIGHTS at the model that the adapter was trained for; adapters cannot be rendered yet",
        why="an adapter changes a model and is none",
    )


def _of_config(folder: Path, model: str) -> Found | None:
    """A folder of one part alone: its config.json says which."""
    config = _read_json(folder / "config.json")
    kind, parts = config.get("model_type"), " ".join(map(str, config.get("architectures") or []))
    if config.get("_class_name") == "AutoencoderOobleck":
        return Found("holds the VAE alone", f"point TUNEMILL_WEIGHTS at {folder.parent}, if that has the other parts")
    if kind == "qwen3":
        if "CausalLM" in parts and "embedding" not in folder.name.lower():
            return Found(
                "holds a planner, the language model that writes codes, and no diffusion model",
                f"set TUNEMILL_PLANNER_WEIGHTS={folder}, and point TUNEMILL_WEIGHTS at the folder of {model}",
            )
        return Found("holds the text encoder alone", f"point TUNEMILL_WEIGHTS at the folder above it, {folder.parent}")
    if "AceStep" in parts or str(kind).startswith("acestep"):
        beside = "" if (folder.parent / "vae").is_dir() else ", and put vae/ and Qwen3-Embedding-0.6B/ beside it"
        return Found(
            f"is the folder of the model alone ({folder.name}), without VAE and text encoder",
            f"point TUNEMILL_WEIGHTS at the folder above it, {folder.parent}{beside}",
            why=f"in the original layout {folder.name}/, vae/ and Qwen3-Embedding-0.6B/ lie side by side",
        )
    if isinstance(kind, str):
        return Found(f"holds a model of another kind, {kind[:60]!r}", _fetch(_POINT_AT))
    return None


def _of_old_model(names: Sequence[str]) -> Found | None:
    if not any(name in names for name in _OLD_PARTS):
        return None
    return Found("holds ACE-Step 1.0", _fetch(_POINT_AT), why="version 1.5 is another model with other parts")


def _of_other_variants(folder: Path, names: Sequence[str], model: str) -> Found | None:
    """The original layout with other variants than the one that is asked for."""
    variants = sorted(name for name in names if name.startswith("acestep-v15") and (folder / name).is_dir())
    usable = [
        name for name in variants if find_not_rendered(name) is None and (folder / name / "config.json").is_file()
    ]
    if model in variants:
        return Found(
            f"has the folder {model}, and no config.json in it",
            "download that folder again, all of its files",
            why=_unfinished(folder / model) or "the download did not come to its end",
        )
    if usable:
        return Found(
            f"holds {', '.join(variants)}, and not {model}",
            f"render with --model {usable[0]}, or download {model} into it",
        )
    if variants:
        return Found(
            f"holds {', '.join(variants)}, and not {model}",
            f"download {model} into it",
            why=f"{variants[0]} needs guidance at every step, which this engine does not do",
        )
    return None


def _of_lower_folder(folder: Path, model: str) -> Found | None:
    """The weights lie a little further down: in `checkpoints`, or in a snapshot of a hub's cache."""
    for below in (*sorted(folder.glob("*")), *sorted(folder.glob("snapshots/*"))):
        if below.is_dir() and ((below / _MODEL_INDEX).is_file() or (below / model / "config.json").is_file()):
            return Found("holds the weights in a folder further down", f"point TUNEMILL_WEIGHTS at {below}")
    return None


def _of_single_files(folder: Path, names: Sequence[str]) -> Found | None:
    for suffix, what in ((".gguf", "GGUF files, quantised for acestep.cpp"), (".safetensors", "single files")):
        files = [name for name in names if name.lower().endswith(suffix)]
        if files:
            return Found(f"holds {what} ({', '.join(files[:3])})", _fetch(_POINT_AT))
    if unfinished := _unfinished(folder):
        return Found("holds a download that is not finished", "download the weights again", why=unfinished)
    return None


def _unfinished(folder: Path) -> str:
    """Files of a download that was broken off, in words; "" when there are none."""
    files = sorted(path.name for pattern in _UNFINISHED for path in folder.rglob(pattern))
    return f"it was broken off: {', '.join(files[:3])}" if files else ""


def _fetch(then: str) -> str:
    return f"download ACE-Step 1.5 (such as ACE-Step/Ace-Step1.5), all of its files, and {then}"


def _names_in(folder: Path) -> list[str]:
    """Names in `folder` and paths of the config files one level below."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be read: {error.strerror}",
            why="the weights lie in a folder that this user may not look into",
            fix="give this user the right to read it",
        ) from None
    return [*names, *(f"{name}/config.json" for name in names if (folder / name / "config.json").is_file())]


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; an empty one for anything else, which loading reports."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
