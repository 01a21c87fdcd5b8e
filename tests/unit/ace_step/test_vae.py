"""Decoding in windows. The decoder is a stand-in with the real one's reach and one sample a latent."""

from __future__ import annotations

import logging
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.placement import choose_placement
from workers.ace_step.diffusion import vae as decode
from workers.ace_step.diffusion.vae import Decoder, windows_over
from workers.ace_step.tiny.checkpoint import _filled, _vae
from workers.ace_step.weights.folding import fold

REACH = 9  # latents to each side, rounded up from 8.33


class Smear(torch.nn.Module):
    """Mixes each latent with the nine to each side of it; `fits` is how many windows it can take at once."""

    def __init__(self, fits: int = 100) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(3, 2, 2 * REACH + 1, padding=REACH)
        self.fits = fits
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(latents.shape))
        if len(latents) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB")
        return self.conv(latents)


@pytest.fixture
def one_sample_a_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_SAMPLES_PER_LATENT", 1)


def _decoder(smear: Smear, together: int = 1, core: int = 512) -> Decoder:
    vae: Any = SimpleNamespace(decoder=smear)
    decoder = Decoder(vae, choose_placement("cpu"), Compiler(wanted=False))
    decoder._together = together
    decoder._core = core
    return decoder


@given(n_latents=st.integers(1, 15_000), core=st.sampled_from([128, 512]))
def test_windows_are_of_one_size_cover_the_take_and_keep_their_inner_edges_out_of_it(n_latents: int, core: int):
    windows = windows_over(n_latents, core)
    assert windows.size <= 512 + 2 * 12
    assert windows.starts[0] == 0
    assert windows.starts[-1] + windows.size == n_latents
    for one, other in pairwise(windows.starts):
        assert one < other <= one + windows.size - 2 * 12
    kept = list(windows.cores())
    assert sum(piece.stop - piece.start for piece in kept) == n_latents * 1920
    assert all(piece.start >= 12 * 1920 for piece in kept[1:])
    assert all(piece.stop <= (windows.size - 12) * 1920 for piece in kept[:-1])


@pytest.mark.parametrize("n_latents", [20, 536, 537, 1500, 15_000])  # the last is ten minutes
@torch.inference_mode()
def test_windows_give_what_one_piece_gives(n_latents: int, one_sample_a_latent: None):
    smear = Smear()
    latents = torch.randn(n_latents, 3)
    whole = smear(latents.T[None])[0].numpy()
    for together, core in ((1, 512), (4, 512), (1, 128)):
        (audio,) = _decoder(smear, together, core)([latents])
        assert audio.shape == (2, n_latents)
        assert np.abs(audio - whole).max() < 1e-5


@torch.inference_mode()
def test_takes_never_share_a_call(one_sample_a_latent: None):
    smear = Smear()
    takes = [torch.randn(1500, 3) for _ in range(3)]
    _decoder(smear, together=2)(takes)
    assert [shape[0] for shape in smear.shapes] == [2, 1] * 3
    assert {shape[2] for shape in smear.shapes} == {windows_over(1500).size}


@torch.inference_mode()
def test_windows_that_do_not_fit_together_are_decoded_one_by_one(
    one_sample_a_latent: None, caplog: pytest.LogCaptureFixture
):
    smear = Smear(fits=1)
    decoder, takes = _decoder(smear, together=4), [torch.randn(1500, 3) for _ in range(2)]
    one, other = decoder(takes)
    assert np.abs(one - Smear.forward(smear, takes[0].T[None])[0].numpy()).max() < 1e-5
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert [shape[0] for shape in smear.shapes[:7]] == [3, 1, 1, 1, 1, 1, 1]
    assert other.shape == one.shape


@torch.inference_mode()
def test_one_window_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        _decoder(Smear(fits=0), together=4)([torch.randn(1500, 3)])


@torch.inference_mode()
def test_folding_changes_not_one_bit():
    stock, folded = _filled(_vae(), "vae", 3), _filled(_vae(), "vae", 3)
    for name, parameter in stock.decoder.named_parameters():
        if "snake" in name:  # the tiny ones are all alike
            parameter.data.uniform_(-1, 1)
    folded.load_state_dict(stock.state_dict())
    fold(folded)
    latents = torch.randn(1, 8, 40)
    assert torch.equal(folded.decoder(latents), stock.decoder(latents))
    assert not [name for name, _ in folded.named_parameters() if "weight_g" in name or "encoder" in name]
