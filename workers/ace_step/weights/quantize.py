"""Quantisation: stores the diffusion transformer's matrices in one byte per weight, so that smaller cards hold them.

Only the linear layers of its blocks are quantised; they hold nearly all weights. The layers before and after the
blocks, norms and biases keep their precision, and so does all computation. The planner is not quantised, because some
of its codes would change; its weights can wait in host memory when they do not fit beside the others.

Source: torchao. Relative error of one layer's output: 0.6 % with int8, 3.5 % with fp8 (Gaussian weights).
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any, Final

import torch

from catalog.errors import WorkerError

_CONFIGS: Final = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}
_FP8_NEEDS: Final = (8, 9)  # compute capability of the first GPUs that know eight-bit floats: Ada


def check_quantization(number_format: str, device: torch.device) -> None:
    """Raise WorkerError when weights of `number_format` ("int8", "fp8"; "": as loaded) cannot be used on `device`."""
    if not number_format:
        return
    _torchao(number_format)
    if device.type == "mps":
        raise _unable(number_format, "torchao has no kernels for MPS")
    if device.type == "cuda" and number_format == "fp8":
        capability = torch.cuda.get_device_capability(device)
        if capability < _FP8_NEEDS:
            has, needs = (".".join(map(str, each)) for each in (capability, _FP8_NEEDS))
            raise _unable(number_format, f"this GPU has compute capability {has}; eight-bit floats need {needs}")


def quantize_blocks(transformer: torch.nn.Module, number_format: str) -> None:
    """Turn the linear layers of `transformer`'s blocks into `number_format`, in place; "" leaves them as they are."""
    if not number_format:
        return
    torchao = _torchao(number_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torchao's own future, which nobody here can change
        torchao.quantize_(transformer.get_submodule("layers"), getattr(torchao, _CONFIGS[number_format])())


def _torchao(number_format: str) -> Any:
    try:
        return importlib.import_module("torchao.quantization")
    except ImportError as error:
        raise _unable(number_format, f"torchao cannot be imported ({error})") from None


def _unable(number_format: str, why: str) -> WorkerError:
    return WorkerError(
        f"weights cannot be quantised to {number_format}",
        why=why,
        fix='choose another TUNEMILL_QUANTIZE or set it to none; torchao comes with pip install "tunemill[worker]"',
    )
