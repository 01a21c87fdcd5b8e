"""A model's nature is its row; weights of somebody's own count as the row that their name begins with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from catalog.models import MODELS, TINY, TONE, TURBO, Model, find_model
from tests.support.makers import a_message
from tests.unit.workers.test_render import a_context
from workers.audio.resample import at_our_rate
from workers.engine.protocol import Rendition
from workers.render import render_take

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("acestep-v15-turbo", "acestep-v15-turbo"),
        ("acestep-v15-xl-turbo", "acestep-v15-xl-turbo"),
        ("acestep-v15-turbo-spring", "acestep-v15-turbo"),
        ("acestep-v15-xl-turbo.2", "acestep-v15-xl-turbo"),
        ("my-lora", "acestep-v15-turbo"),
        ("tone-deaf", "acestep-v15-turbo"),
        ("tiny-random-2", "acestep-v15-turbo"),
    ],
)
def test_weights_of_ones_own_count_as_the_row_that_their_name_begins_with(name, like):
    row = find_model(name)
    assert row.name == name
    assert row.needs_weights
    assert (row.family, row.dit_cost) == (find_model(like).family, find_model(like).dit_cost)


def test_of_rows_whose_names_begin_alike_the_longest_counts():
    slower = Model("acestep-v15-turbo-shift1", dit_cost=2.0)
    assert find_model("acestep-v15-turbo-shift1-spring", [TURBO, slower]).dit_cost == 2.0
    assert find_model("acestep-v15-turbo-spring", [TURBO, slower]).dit_cost == 1.0


def test_what_needs_no_weights_is_a_rehearsal_and_says_so():
    assert [model for model in MODELS if not model.needs_weights] == [TONE, TINY]
    assert [model for model in MODELS if model.is_noise] == [TINY]
    assert not TONE.planner
    assert TURBO.guarantees.neighbours
    assert not TONE.guarantees.codes_replayed


def test_no_other_module_compares_a_models_name():
    names = "|".join(re.escape(model.name) for model in MODELS)
    compared = re.compile(rf"""([!=]=|\bin) *[("']*(?:{names})["']|([!=]=|\bin\b) *\(?(TONE|TINY|TURBO)\.name""")
    for package in ("catalog", "orchestrator", "workers"):
        for file in (ROOT / package).rglob("*.py"):
            if file != ROOT / "catalog" / "models.py":
                assert not compared.search(file.read_text()), f"{file} compares a model's name"


def test_audio_of_another_rate_keeps_its_length_and_its_tone():
    seconds = np.arange(44_100) / 44_100
    audio = np.stack([np.sin(2 * np.pi * 1_000 * seconds)] * 2).astype(np.float32)
    ours = at_our_rate(audio, 44_100)
    assert (ours.shape, ours.dtype) == ((2, 48_000), np.float32)
    spectrum = np.abs(np.fft.rfft(ours[0][4_800:-4_800]))
    assert np.argmax(spectrum) * 48_000 / 38_400 == 1_000
    assert at_our_rate(ours, 48_000) is ours


def test_an_engine_of_another_rate_and_without_plans_is_finished_like_any_other():
    context, message = a_context(), a_message()
    card, render = context.card, context.renderer.render
    object.__setattr__(card, "sample_rate_hz", 24_000)

    def at_half_the_rate(take, **options):
        rendered = render(take, **options)
        outcome = rendered.outcome
        assert isinstance(outcome, Rendition)
        half = Rendition(outcome.audio[:, ::2].copy(), None, outcome.effective)
        return rendered.__class__(half, rendered.batch, rendered.times)

    context.renderer.render = at_half_the_rate
    render_take(message.model_dump(mode="json"), context, shown_id=message.take.id)
    (attempt,) = context.recorder.attempts()
    assert attempt.outcome == "accepted", attempt.reasons
    assert attempt.sidecar.audio.n_samples == message.take.spec.n_samples
    assert attempt.audio_ms == message.take.spec.duration_s * 1000
