"""Replay: renders a stored take again from its own sidecar, and compares the result with the stored audio.

The stored plan and seeds are used, so nothing is planned anew. Lossless audio is compared as integer samples. Lossy
audio is compared after decoding, because its encoder may differ between machines.
"""

from __future__ import annotations

import io
import math
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import ValidationError

from catalog.errors import MessageError, StoreError, WorkerError
from catalog.forms import Frozen
from catalog.settings import Settings
from catalog.sidecar import Sidecar
from catalog.spec import AudioFormat
from workers.audio.checks import Rejected, check_audio
from workers.audio.master import Mastered, master
from workers.audio.offset import high_pass
from workers.engine.process import EngineProcess
from workers.engine.protocol import EngineCard, Job, Refusal, Rendition
from workers.wiring import engine_recipe, open_worker_store

TOLERANCE_DB = -60.0  # level of the difference below the track itself; a thousandth is not heard beside music
_LOSSLESS = frozenset({AudioFormat.FLAC, AudioFormat.WAV})

Samples = npt.NDArray[np.float64]


class ReplayVerdict(Frozen):
    """The comparison of the stored take with the take rendered again."""

    take_id: str
    verdict: Literal["bit-equal", "within tolerance", "different"]
    pcm_sha256_then: str
    pcm_sha256_now: str
    max_abs_diff: float | None  # of full scale; None: the lengths differ
    rms_diff_db: float | None  # level of the difference relative to the track; None: no difference, or no telling
    tolerance_db: float = TOLERANCE_DB
    model_fingerprint_then: str
    model_fingerprint_now: str
    notes: list[str]


def replay_sidecar(body: bytes, settings: Settings) -> ReplayVerdict:
    """Render the take of the sidecar `body` (JSON) once more, and compare the result with the stored audio."""
    try:
        sidecar = Sidecar.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise MessageError(
            f"the sidecar cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            why="it is damaged, or was written by a newer version",
            fix="upgrade this machine to the version that wrote it",
        ) from None
    stored = _stored_audio(sidecar, settings)
    _decode(stored, sidecar.audio.format)  # a damaged file is found before anything is rendered
    card, finished = _render_again(sidecar, settings)
    return compare(sidecar, stored, finished, card)


def compare(sidecar: Sidecar, stored: bytes, finished: Mastered, card: EngineCard) -> ReplayVerdict:
    """The verdict on `finished` against the bytes in the store."""
    then, now = _decode(stored, sidecar.audio.format), _decode(finished.body, sidecar.audio.format)
    same_length = then.shape == now.shape
    diff = now - then if same_length else None
    level_db = None if diff is None else _relative_db(diff, then)
    verdict: Literal["bit-equal", "within tolerance", "different"] = "different"
    if diff is not None and not diff.any():
        verdict = "bit-equal"
    elif level_db is not None and level_db <= TOLERANCE_DB:
        verdict = "within tolerance"
    return ReplayVerdict(
        take_id=sidecar.take_id,
        verdict=verdict,
        pcm_sha256_then=sidecar.audio.pcm_sha256,
        pcm_sha256_now=finished.pcm_sha256,
        max_abs_diff=None if diff is None else float(np.abs(diff).max()),
        rms_diff_db=None if level_db is None else round(level_db, 2),
        model_fingerprint_then=sidecar.fingerprints.model,
        model_fingerprint_now=card.fingerprints.model,
        notes=[
            *_notes(sidecar, stored, card),
            *([] if same_length else [f"lengths differ: {then.shape}, {now.shape}"]),
        ],
    )


def _render_again(sidecar: Sidecar, settings: Settings) -> tuple[EngineCard, Mastered]:
    take = sidecar.take
    planned = sidecar.plan is not None
    # The stored plan stands in for the planner, so its weights are not needed.
    recipe = engine_recipe(settings, take.spec.model, planner_wanted=False)
    engine = EngineProcess(recipe)
    try:
        card = engine.wait_until_loaded()
        outcome = engine.render([Job(take, sidecar.plan if planned else None)]).outcomes[0]
    finally:
        engine.close()
    if isinstance(outcome, Refusal):
        raise WorkerError(f"the engine refuses the take: {outcome.reason}")
    return card, _finish(sidecar, outcome, noise=card.fingerprints.noise)


def _finish(sidecar: Sidecar, rendition: Rendition, *, noise: bool) -> Mastered:
    take, spec = sidecar.take, sidecar.rendered_spec
    # Audio with an offset was not filtered before this program could.
    audio = high_pass(rendition.audio) if sidecar.measures.high_pass_hz else rendition.audio
    try:
        measures = check_audio(audio, spec, noise=True)  # an accepted take is not judged again by newer checks
    except Rejected as error:
        raise WorkerError(f"the take passed its checks then, and does not now: {error}") from None
    return master(audio, take, measures=measures, noise=noise, model=spec.model, rendered_spec=spec)


def _stored_audio(sidecar: Sidecar, settings: Settings) -> bytes:
    store = open_worker_store(settings)
    body = store.find(sidecar.audio.key)
    if body is None:
        raise StoreError(
            f"the audio of take {sidecar.take_id} is not in the store",
            why=f"no object at {store.locate(sidecar.audio.key)}",
            fix="point TUNEMILL_STORE_URL at the store that the take was rendered into",
        )
    return body


def _decode(body: bytes, audio_format: AudioFormat) -> Samples:
    """Samples as (frames, 2), in units of full scale; exact for lossless formats."""
    kind: Any = "int32" if audio_format in _LOSSLESS else "float64"
    try:
        samples, _ = soundfile.read(io.BytesIO(body), dtype=kind, always_2d=True)
    except soundfile.LibsndfileError as error:
        raise StoreError(
            "the stored audio cannot be decoded",
            why=f"{error}; it was changed or damaged in the store",
            fix="restore the file, for example from a backup or an older version of the object",
        ) from None
    exact: Samples = samples.astype(np.float64)
    return exact / 2.0**31 if audio_format in _LOSSLESS else exact


def _relative_db(diff: Samples, then: Samples) -> float | None:
    """Level of the difference relative to the track, in dB; None when there is none."""
    noise, music = float(np.square(diff).mean()), float(np.square(then).mean())
    if noise == 0 or music == 0:
        return None
    return 10 * math.log10(noise / music)


def _notes(sidecar: Sidecar, stored: bytes, card: EngineCard) -> list[str]:
    notes = []
    if sidecar.batch.size > 1:
        notes.append(f"was rendered in a batch of {sidecar.batch.size}, now alone: the last bits may differ")
    if sha256(stored).hexdigest() != sidecar.audio.sha256:
        notes.append("the stored file no longer matches its checksum: it was changed or damaged in the store")
    then, now = sidecar.fingerprints, card.fingerprints
    if then.model != now.model:
        notes.append("other model weights than then")
    if then.code != now.code:
        notes.append(f"other versions than then: {then.code!r}, now {now.code!r}")
    if sidecar.effective.device != card.device or sidecar.effective.dtype != card.dtype:
        notes.append(
            f"then on {sidecar.effective.device} in {sidecar.effective.dtype}, now on {card.device} in {card.dtype}"
        )
    if now.noise:
        notes.append("random weights: the audio is noise by design")
    return notes
