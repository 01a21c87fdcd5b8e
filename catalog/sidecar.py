"""The sidecar: one JSON object beside the audio of each accepted take, with everything that is known of the take.

A sidecar is complete, so that the ledger can be rebuilt from sidecars alone and a take can be rendered again from its
own. A worker writes the sidecar last, and only if the take has none; so a take with a sidecar is done.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from catalog.bounded import (
    AUDIO_MAX_MS,
    FILE_BYTES_MAX,
    INT32_MAX,
    INT64_MAX,
    BigCount,
    Count,
    Instant,
    Key,
    Label,
    Name,
    NameOrNone,
    StageMs,
    Text,
    Words,
    fit_words,
)
from catalog.chroma import ChromaText
from catalog.errors import MessageError
from catalog.flaws import Flaw
from catalog.forms import Frozen, neutral
from catalog.keys import take_of_audio, take_of_master
from catalog.limits import CODEBOOK_SIZE
from catalog.models import Guarantees
from catalog.orders import Receipt
from catalog.scores import SCORES_MAX, Score
from catalog.spec import AudioFormat, DiffusionSpec, TrackSpec, with_metadata
from catalog.track import Take

SIDECAR_VERSION: Final = 1
Int64 = Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX)]


class Plan(Frozen):
    """The planner's output for one take; replay feeds the plan back instead of planning again."""

    codes: list[Annotated[int, Field(ge=0, lt=CODEBOOK_SIZE)]]  # five a second
    metadata: dict[Text, Text | Int64]  # the fields of the think block, as the model was given them
    prompt_sha256: Label  # of the rendered conditional prompt
    batch_key: Words  # weights, dtype, device, versions and shapes that the codes depend on


class Fingerprints(Frozen):
    """Hashes of the weights and versions of the code that made the audio."""

    model: Label  # sha256 over the weight files of the diffusion side
    planner: Label = ""  # the same for the planner; empty when it was off
    code: Words  # version of this program and of the libraries that matter
    noise: bool  # random weights: the audio is noise by design


class StageTimes(Frozen):
    """Milliseconds of each stage of work on one take; the engine's stages are the take's share of its batch's time."""

    plan_ms: StageMs = 0
    encode_ms: StageMs = 0  # text and conditions
    diffuse_ms: StageMs = 0
    decode_ms: StageMs = 0  # latents to audio
    post_ms: Count = 0  # check, master, encode and the audio's upload, beside the engine

    @property
    def engine_ms(self) -> int:
        """The engine time of the take."""
        return self.plan_ms + self.encode_ms + self.diffuse_ms + self.decode_ms


class BatchNote(Frozen):
    """The batch in which a take was rendered, because the last bits of the audio may differ between batch shapes."""

    id: NameOrNone  # "" when it did not come to a batch
    size: Count
    position: Count
    takes: list[Name]
    plan_id: NameOrNone = ""  # the planner call that wrote its plan; "" when there was none
    plan_size: Count = 0  # takes in that call


class Effective(Frozen):
    """The settings that the engine really used, whatever the take asked for."""

    dit_seed: BigCount
    lm_seed: BigCount
    steps: Count
    shift: float
    diffusion: DiffusionSpec | None = neutral(None)  # whole, where it has more than steps and shift
    device: Label
    dtype: Label
    attention: Label = ""  # kernel the masked attention ran on
    instruction: Words = ""
    text_tokens: Count = 0
    extra: dict[Label, Words | Int64 | float | bool] = {}


def diffusion_used(diffusion: DiffusionSpec) -> dict[str, Any]:
    """The diffusion settings in the form of `Effective`."""
    whole = diffusion if diffusion.further else None
    return {"steps": diffusion.steps, "shift": diffusion.shift, "diffusion": whole}


class Measures(Frozen):
    """The measurements of the checks and the mastering. Levels in dB relative to full scale."""

    rms_dbfs: float
    peak_dbfs: float
    spectral_flatness: float
    loudness_in_lufs: float | None = None
    loudness_out_lufs: float | None = None
    true_peak_dbtp: float | None = None
    gain_db: float = 0.0
    warnings: list[Words] = []
    high_pass_hz: float = neutral(0.0)  # of the filter that took out an offset; 0: there was none
    flaws: list[Flaw] = neutral([])  # found by the checks; `warnings` has their texts and those of the mastering
    max_momentary_lufs: float | None = neutral(None)  # of 400 ms
    max_short_term_lufs: float | None = neutral(None)  # of 3 s
    loudness_range_lu: float | None = neutral(None)  # EBU Tech 3342
    limited_db: float | None = neutral(None)  # the most that the limiter took off; None: it was not used
    limited_share: float | None = neutral(None)  # part of the time in which it took off 0.1 dB or more
    treble_db: float | None = neutral(None)  # energy above 8 kHz of all; dull or bright against others of its genre
    tempo_bpm: float | None = neutral(None)  # as heard; the music may be felt in half or double time
    tempo_fit: float | None = neutral(None)  # of the tempo asked for: 1 heard best, 0 not at all
    key: Label = neutral("")  # as heard, such as "E minor"; "": not measured
    key_fit: float | None = neutral(None)  # of the key asked for: 1 fits best of all, 0 worst
    scores: list[Score] = neutral([], max_length=SCORES_MAX)  # by which the best takes of a track are found


class AudioFile(Frozen):
    """The stored audio file of a take."""

    key: Key
    sha256: Label  # of the file's bytes
    pcm_sha256: Label  # of the decoded integer samples; the same for every lossless format
    bytes: int = Field(ge=1, le=FILE_BYTES_MAX)
    content_type: Label
    format: AudioFormat
    sample_rate_hz: int = Field(ge=1, le=INT32_MAX)
    channels: Count
    n_samples: BigCount

    @model_validator(mode="after")
    def _ends_within_a_day(self) -> Self:
        if self.duration_ms > AUDIO_MAX_MS:
            raise ValueError("the audio is longer than a day")
        return self

    @property
    def duration_ms(self) -> int:
        """The length of the audio."""
        return self.n_samples * 1000 // self.sample_rate_hz


class MasterFile(Frozen):
    """A stored master: checked, lossless audio at a known gain, before its ends are trimmed and its loudness is set.

    Every file in which the take is delivered can be made from it, without a GPU.
    """

    audio: AudioFile
    gain_db: float = Field(ge=-300, le=300)  # laid on the engine's audio, so that the master peaks below full scale


class Origin(Frozen):
    """The rendition from whose master a take was finished: another take of the same slot with the same sound."""

    take_id: Name
    audio_sha256: Label


class Sidecar(Frozen):
    """The complete description of one accepted take."""

    v: Literal[1] = SIDECAR_VERSION
    take_id: Name
    record_id: NameOrNone = ""  # of the attempt that made it; the ledger identifies this rendition by it
    run_id: Name
    take: Take
    effective: Effective
    plan: Plan | None
    fingerprints: Fingerprints
    measures: Measures
    audio: AudioFile
    times: StageTimes
    batch: BatchNote
    worker_id: Name
    gpu: Label
    created_at_ms: Instant
    receipt: Receipt = neutral("")  # of the order; "": the control side signed none
    guarantees: Guarantees | None = neutral(None)  # of an engine that came after the first ones, whose rows have theirs
    master: MasterFile | None = neutral(None)  # None: none was kept
    chroma: ChromaText = neutral("")  # codes of its sound; "": of a worker without the extra `duplicates`
    origin: Origin | None = neutral(None)  # None: it was rendered; else its file was made from another take's
    # Machine-readable disclosure, in IPTC's vocabulary.
    digital_source_type: Text = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

    @property
    def rendered_spec(self) -> TrackSpec:
        """The take's spec with the planner's choices."""
        return with_metadata(self.take.spec, self.plan.metadata if self.plan else {})

    def to_json(self) -> bytes:
        """The bytes of the stored object."""
        return self.model_dump_json(indent=1).encode()


class NewerSidecarError(MessageError):
    """A valid sidecar that only a newer version of this program can read; `repair` must not change it."""


def parse_sidecar(body: bytes, take_id: str) -> Sidecar:
    """The sidecar of that take. Raises MessageError when it cannot be read or belongs to another take.

    Raises NewerSidecarError when it has a later version number or unknown fields.
    """
    fix = "`tunemill catalog repair` restores it or has the take made again"
    try:
        sidecar = Sidecar.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = fit_words(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 300)
        what = f"the sidecar of take {take_id} cannot be read: {said}"
        if _is_newer(error):
            raise NewerSidecarError(
                what,
                why="a newer version of this program wrote the sidecar",
                fix="upgrade this machine to that version",
            ) from None
        raise MessageError(what, why="the sidecar is damaged", fix=fix) from None
    if sidecar.take_id != take_id:
        raise MessageError(
            f"the sidecar of take {take_id} is that of take {sidecar.take_id}",
            why="somebody has moved or overwritten the sidecar",
            fix=fix,
        )
    if take_of_audio(sidecar.audio.key) != take_id:
        raise MessageError(
            f"the sidecar of take {take_id} names {fit_words(sidecar.audio.key, 100)}, which is not audio of that take",
            why="it is damaged, or somebody has changed it",
            fix=fix,
        )
    if sidecar.master and take_of_master(sidecar.master.audio.key) not in _master_takes(sidecar):
        raise MessageError(
            f"the sidecar of take {take_id} names {fit_words(sidecar.master.audio.key, 100)}, which is no master of it",
            why="it is damaged, or somebody has changed it",
            fix=fix,
        )
    return sidecar


def _master_takes(sidecar: Sidecar) -> set[str]:
    """The takes whose master may be that of the sidecar: its own, or the one that it was finished from."""
    return {sidecar.take_id} if sidecar.origin is None else {sidecar.take_id, sidecar.origin.take_id}


def _is_newer(error: ValidationError) -> bool:
    faults = error.errors(include_url=False)
    versions = [fault["input"] for fault in faults if fault["loc"] == ("v",)]
    if any(isinstance(version, int) and version > SIDECAR_VERSION for version in versions):
        return True
    return all(fault["type"] == "extra_forbidden" for fault in faults)
