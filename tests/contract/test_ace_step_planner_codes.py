"""Writing codes: both ways of drawing agree, steps need nothing but the device, and only codes are written."""

from __future__ import annotations

import logging

import pytest
import torch

from catalog.limits import CODEBOOK_SIZE
from tests.support import tape
from tests.support.planner_takes import CPU, a_take, mixed_takes
from workers.ace_step.device.graphs import Graphs
from workers.ace_step.planner.codes import CodeWriter, DecodeRequest
from workers.ace_step.planner.decoding import Decoding, Shape
from workers.ace_step.planner.planner import Planner
from workers.ace_step.tiny.planner import write_tiny_planner


@pytest.fixture(scope="module")
def planner(tmp_path_factory) -> Planner:
    folder = tmp_path_factory.mktemp("planner")
    write_tiny_planner(folder)
    return Planner.load(folder, device=CPU, dtype=torch.float32)


def a_writer(
    planner: Planner, requests: list[DecodeRequest], *, slots: int = 0, on_device: bool | None = None
) -> CodeWriter:
    guided = requests[0].unconditional is not None
    rows = (slots or len(requests)) * (1 + guided)
    longest = max(len(prompt) for request in requests for prompt in (request.conditional, request.unconditional or []))
    decoding = Decoding(planner.model, Shape.of(rows, longest, max(request.n_codes for request in requests)))
    return CodeWriter(decoding, guided=guided, first_code=planner.vocabulary.first_code, on_device=on_device)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_drawing_unseen_writes_the_same_codes(planner, cfg_scale):
    requests = planner.requests(mixed_takes(cfg_scale=cfg_scale))
    seen = a_writer(planner, requests, on_device=False).write(requests)
    assert a_writer(planner, requests, on_device=True).write(requests) == seen


@pytest.mark.parametrize("takes", [mixed_takes(), [a_take(1), a_take(2)]], ids=["with top-k", "without"])
def test_recorded_steps_write_the_same_codes_and_never_make_the_host_wait(planner, takes, caplog):
    requests = planner.requests(takes)
    expected = a_writer(planner, requests).write(requests)
    writer = a_writer(planner, requests, on_device=True)
    writer.decoding.graphs = Graphs(CPU, keep=9, recorder=tape.record)
    with caplog.at_level(logging.WARNING):
        assert writer.write(requests) == expected
        # From replays alone, for takes that the tape has not seen.
        assert writer.write(requests[::-1]) == expected[::-1]
    assert not caplog.records
    assert len(writer.decoding.graphs._kept) > 0


def test_drawing_seen_makes_the_host_wait_so_the_tape_would_know(planner, caplog):
    requests = planner.requests([a_take(1)])
    writer = a_writer(planner, requests, on_device=False)
    writer.decoding.graphs = Graphs(CPU, keep=9, recorder=tape.record)
    with caplog.at_level(logging.WARNING):
        writer.write(requests)
    assert "HostWaits" in caplog.text


def test_slots_without_a_take_change_nothing(planner):
    requests = planner.requests(mixed_takes())
    expected = a_writer(planner, requests).write(requests)
    writer = a_writer(planner, requests, slots=7)
    assert writer.write(requests) == expected
    assert writer.write(requests[:2]) == expected[:2]  # beside what others left in their slots


def test_only_codes_can_be_written_however_much_else_is_wanted(planner, monkeypatch):
    # Text, the end of text and the code names that never occur get by far the best logits; codes keep theirs.
    requests = planner.requests([a_take()])
    expected = a_writer(planner, requests).write(requests)
    first = planner.vocabulary.first_code
    original = torch.nn.functional.linear

    def insistent(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        logits = original(hidden, weight, bias)
        if len(weight) == planner.model.config.vocab_size:
            logits[..., :first] += 1000
            logits[..., first + CODEBOOK_SIZE :] += 1000
        return logits

    monkeypatch.setattr(torch.nn.functional, "linear", insistent)
    assert a_writer(planner, requests).write(requests) == expected
