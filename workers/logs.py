"""The log: this program's lines from INFO on, libraries' from WARNING on, on standard error, without secrets."""

from __future__ import annotations

import logging
import sys

from catalog.secrets import ScrubbingFormatter

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def start_log() -> None:
    """Set up the log; the worker and its engine process both call this first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ScrubbingFormatter(_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("workers").setLevel(logging.INFO)
    # diffusers imports torchao wherever it is there, which warns of kernels for GPUs that this machine does not have
    # and of names that will move; whoever asks for quantised weights gets an error if they cannot be had.
    for name in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
        logging.getLogger(name).setLevel(logging.ERROR)


def without_traceback(record: logging.LogRecord) -> bool:
    """A logging filter that drops the traceback and keeps the message."""
    record.exc_info = record.exc_text = None
    return True
