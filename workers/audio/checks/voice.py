"""Voice: how much of an instrumental take sounds like somebody speaking or singing.

Silero VAD decides, whose weights lie in its wheel; without the extra `voice` nothing is decided. It was trained on
speech: it misses some singing, and now and then hears a voice in piano or strings. So a voice is a warning, and the
first one that a listener should follow. Source: silero-vad 6, 16 kHz, 32 ms frames with 4 ms of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from catalog.flaws import Flaw, in_words
from catalog.limits import SAMPLE_RATE_HZ
from workers.audio.checks.analysis import Analysis, spans_of

VOICED_SHARE: Final = 0.1  # of the frames; 19 of 20 instrumental pieces: at most .005; speech 10 dB below: .4 and more
SURE: Final = 0.5  # of 1, that a frame is voice
_RATE_HZ: Final = 16_000
_FRAME_SAMPLES: Final = 512
_CONTEXT_SAMPLES: Final = 64
_STATE_SHAPE: Final = (2, 128)
_ROW_S: Final = 16  # seconds that are read one after the other; rows are read side by side
_WEIGHTS: Final = "data/silero_vad.onnx"


def find_voice(analysis: Analysis) -> Iterator[Flaw]:
    """Voice in more than a tenth of the take; nothing without the extra."""
    if not has_voice_check():
        return
    voiced = voice_of(analysis.mono) > SURE
    share = float(voiced.mean()) if voiced.size else 0.0
    if share > VOICED_SHARE:
        spans_s = spans_of(voiced, _FRAME_SAMPLES / _RATE_HZ)
        longest = sorted(sorted(spans_s, key=lambda span: span[0] - span[1])[:20])
        text = f"voice: in {share:.0%} of it (limit {VOICED_SHARE:.0%}), at {in_words(longest)}"
        yield Flaw(kind="voice", text=text, stops=False, value=round(share, 3), limit=VOICED_SHARE, spans_s=longest)


def has_voice_check() -> bool:
    """True where the extra `voice` is installed."""
    return _weights() is not None and find_spec("onnxruntime") is not None


def voice_of(mono: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Likelihood of a voice in each 32 ms of audio at 48 kHz."""
    audio = resample_poly(mono / max(float(np.abs(mono).max()), 1e-9), _RATE_HZ, SAMPLE_RATE_HZ).astype(np.float32)
    n_frames = audio.size // _FRAME_SAMPLES
    steps = min(n_frames, _ROW_S * _RATE_HZ // _FRAME_SAMPLES)
    if not steps:
        return np.zeros(0, np.float32)
    rows = -(-n_frames // steps)
    padded = np.zeros(rows * steps * _FRAME_SAMPLES, np.float32)
    padded[: n_frames * _FRAME_SAMPLES] = audio[: n_frames * _FRAME_SAMPLES]
    frames = padded.reshape(rows, steps, _FRAME_SAMPLES)
    context = np.zeros((rows, _CONTEXT_SAMPLES), np.float32)
    state = np.zeros((_STATE_SHAPE[0], rows, _STATE_SHAPE[1]), np.float32)
    likely = np.empty((rows, steps), np.float32)
    for step in range(steps):
        heard = np.concatenate([context, frames[:, step]], axis=1)
        given = {"input": heard, "state": state, "sr": np.array(_RATE_HZ, np.int64)}
        sure, state = _session().run(None, given)
        likely[:, step], context = sure[:, 0], heard[:, -_CONTEXT_SAMPLES:]
    return likely.ravel()[:n_frames]


def _weights() -> Path | None:
    """The weights in the wheel, found without importing it: it would load torch."""
    spec = find_spec("silero_vad")
    folders = spec.submodule_search_locations if spec else None
    file = Path(folders[0]) / _WEIGHTS if folders else None
    return file if file and file.is_file() else None


@cache
def _session() -> Any:
    import onnxruntime  # noqa: PLC0415 - an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(_weights()), options, providers=["CPUExecutionProvider"])
