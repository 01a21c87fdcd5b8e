"""Makers: functions that build valid values for tests, so that a test names only the fields that it is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from catalog.limits import CHANNELS, SAMPLE_RATE_HZ
from catalog.messages import RenderMessage
from catalog.models import TONE
from catalog.sidecar import AudioFile, BatchNote, Effective, Fingerprints, Measures, Sidecar, StageTimes
from catalog.spec import AudioFormat, MasterSpec, TrackSpec
from catalog.track import Take, Track
from orchestrator.ledger.due import DueTake
from orchestrator.ledger.plans import PlannedTakes

SHA = "ab" * 32


def a_spec(**fields: Any) -> TrackSpec:
    """A ten-second tone take without a planner."""
    known = {
        "caption": "warm felt piano over a slow pad",
        "bpm": 90,
        "keyscale": "C major",
        "duration_s": 10,
        "model": TONE.name,
        "planner": None,
    }
    return TrackSpec(**{**known, **fields})


def a_track(slot: str = "0001", **fields: Any) -> Track:
    """A track of the catalog `spa`; fields of its spec may be named."""
    return Track(catalog="spa", zone="thermal", genre="ambient", slot=slot, title="Warm Stone", spec=a_spec(**fields))


def a_take(slot: str = "0001", *, number: int = 1, **fields: Any) -> Take:
    """Take `number` of `a_track(slot, **fields)`."""
    return a_track(slot, **fields).take(number)


def refinished(take: Take, **master: Any) -> Take:
    """The same take as its catalog plans it after a change of nothing but mastering."""
    # A copy of the spec would take its fingerprint along.
    given = {name: getattr(take.spec, name) for name in TrackSpec.model_fields}
    spec = TrackSpec(**{**given, "master": MasterSpec(**master)})
    return take.track.model_copy(update={"spec": spec}).take(take.number)


def takes(count: int, **fields: Any) -> list[Take]:
    """The takes of `count` different tracks."""
    return [a_take(f"{slot:04d}", **fields) for slot in range(1, count + 1)]


def a_message(take: Take | None = None, *, run_id: str = "run-1", alone: bool = False) -> RenderMessage:
    """The render message of a take."""
    return RenderMessage(run_id=run_id, take=take or a_take(), alone=alone)


def a_batch(take: Take, *, size: int = 1) -> BatchNote:
    """The note of a batch in which `take` came first."""
    others = [f"{n:024x}" for n in range(1, size)]
    return BatchNote(id="batch-7", size=size, position=0, takes=[take.id, *others])


def an_effective(take: Take) -> Effective:
    """The settings that a fake engine really used."""
    return Effective(
        dit_seed=take.dit_seed,
        lm_seed=take.lm_seed,
        steps=take.spec.diffusion.steps,
        shift=take.spec.diffusion.shift,
        device="cpu",
        dtype="float32",
    )


def a_sidecar(take: Take | None = None, *, run_id: str = "run-1", worker_id: str = "worker-1") -> Sidecar:
    """The sidecar of an accepted take."""
    take = take or a_take()
    audio = AudioFile(
        key=f"{take.track.catalog}/audio/{take.track.zone}/{take.track.genre}/{take.id}-{SHA[:16]}.flac",
        sha256=SHA,
        pcm_sha256=SHA,
        bytes=1_000_000,
        content_type="audio/flac",
        format=AudioFormat.FLAC,
        sample_rate_hz=SAMPLE_RATE_HZ,
        channels=CHANNELS,
        n_samples=take.spec.n_samples,
    )
    return Sidecar(
        take_id=take.id,
        run_id=run_id,
        take=take,
        effective=an_effective(take),
        plan=None,
        fingerprints=Fingerprints(model=SHA, code="test", noise=False),
        measures=Measures(rms_dbfs=-20.0, peak_dbfs=-6.0, spectral_flatness=0.001, loudness_out_lufs=-16.0),
        audio=audio,
        times=StageTimes(diffuse_ms=900, post_ms=100),
        batch=a_batch(take),
        worker_id=worker_id,
        gpu="A100",
        created_at_ms=1_767_225_600_000,
    )


def exactly(takes: Iterable[Take]) -> PlannedTakes:
    """A plan of these takes and no others, whatever the catalog holds."""
    return lambda held: (DueTake(take, place=take.number, wanted=1) for take in takes)
