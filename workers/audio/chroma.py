"""Chroma codes of audio, where the extra `duplicates` is installed: Chromaprint through the module of pyacoustid."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from catalog.chroma import pack_codes
from catalog.limits import SAMPLE_RATE_HZ

HEARD_S: Final = 120  # of a take, from its beginning
_PEAK: Final = 0.9 * 32767


def has_chromaprint() -> bool:
    """True when codes can be computed: the Python module and the C library are both there."""
    return _chromaprint() is not None


def chroma_of(audio: npt.NDArray[np.float32]) -> str:
    """The codes of `audio`, (2 channels, samples) at 48 kHz, as a sidecar has them; "" without the extra.

    They do not depend on the level. 0.3 s of one core for 120 s.
    """
    chromaprint = _chromaprint()
    if chromaprint is None:
        return ""
    mono = audio[:, : HEARD_S * SAMPLE_RATE_HZ].mean(axis=0)
    peak = float(np.abs(mono).max(initial=0.0))
    if not peak:
        return ""
    listener = chromaprint.Fingerprinter()
    try:
        listener.start(SAMPLE_RATE_HZ, 1)
        listener.feed((mono * np.float32(_PEAK / peak)).astype("<i2").tobytes())
        codes, _ = chromaprint.decode_fingerprint(listener.finish())
    except chromaprint.FingerprintError:  # a take without codes is a good take
        return ""
    return pack_codes([code & 0xFFFFFFFF for code in codes])


@cache
def _chromaprint() -> Any | None:
    try:
        module = import_module("chromaprint")
    except ImportError:  # of the module, or of the C library that it loads
        return None
    # A package of the same name on PyPI colours terminals.
    return module if hasattr(module, "Fingerprinter") else None
