"""Decoding: turns latents into audio, in windows of one size, in parallel to other work on the device.

The decoder reads 8.33 latents to each side. So windows that overlap by 12 give the same audio as one piece, and the
memory does not grow with the duration. All windows of a take are equally long, so shapes repeat. Several windows of one
take may be decoded at once, but never with another take's, so that a take's sound does not depend on its neighbours.

On CUDA, decoding has a stream of its own: the next batch's diffusion runs meanwhile, and audio is copied to the host
while the next take is decoded.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

from catalog.limits import LATENTS_PER_S, SAMPLE_RATE_HZ
from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.graphs import RECORDING
from workers.ace_step.device.placement import Placement, free_cache, is_out_of_memory
from workers.ace_step.weights.offload import Offloaded

_SAMPLES_PER_LATENT = SAMPLE_RATE_HZ // LATENTS_PER_S
_CORE_LATENTS = 512  # 20 s of new audio a window: about 1 GiB while it is decoded
_CPU_CORE_LATENTS = 128  # larger windows leave the caches, and their memory is fetched from the system every time
_OVERLAP_LATENTS = 12  # on each side; costs 4.8 % more work
_ROOMY_GIB = 40  # from here on memory for a few windows at once is no question
_WINDOWS_TOGETHER = 4

_log = logging.getLogger(__name__)


class Windows(NamedTuple):
    """The windows over one take's latents, by their starts; each is `size` long, and the last ends with the take."""

    size: int
    starts: list[int]

    def cores(self) -> Iterator[slice]:
        """The samples to keep of each window: neighbours meet in the middle of their overlap."""
        for place, start in enumerate(self.starts):
            after = self.starts[place + 1 : place + 2]
            begin = _OVERLAP_LATENTS if place else 0
            end = after[0] + _OVERLAP_LATENTS - start if after else self.size
            yield slice(begin * _SAMPLES_PER_LATENT, end * _SAMPLES_PER_LATENT)


def windows_over(n_latents: int, core: int = _CORE_LATENTS) -> Windows:
    """The fewest windows of one size, of about `core` new latents each, with every inner edge far enough inside.

    A take that fits into the largest window has one window, for any `core`.
    """
    shared = 2 * _OVERLAP_LATENTS
    count = 1 if n_latents <= _CORE_LATENTS + shared else math.ceil((n_latents - shared) / core)
    size = math.ceil((n_latents + shared * (count - 1)) / count)
    return Windows(size, [min(place * (size - shared), n_latents - size) for place in range(count)])


class Decoder:
    """The decoder half of one VAE. Takes go through one after the other; one thread at a time."""

    def __init__(
        self, vae: AutoencoderOobleck, placement: Placement, compiler: Compiler, offloaded: Offloaded | None = None
    ) -> None:
        self._offloaded = offloaded or Offloaded(placement.device)
        self._decode: Callable[..., torch.Tensor] = compiler(vae.decoder)
        self._placement = placement
        self._on_gpu = placement.device.type == "cuda"
        self._core = _CPU_CORE_LATENTS if placement.device.type == "cpu" else _CORE_LATENTS
        self._together = _WINDOWS_TOGETHER if self._on_gpu and placement.vram_gib >= _ROOMY_GIB else 1
        self._stream = torch.cuda.Stream(placement.device) if self._on_gpu else None

    def stream(self) -> AbstractContextManager[object]:
        """The stream on which decoding is queued, so that it can be timed there."""
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()

    def __call__(self, takes: Sequence[torch.Tensor]) -> list[npt.NDArray[np.float32]]:
        """Audio of each take's latents (latents, width): float32 (2, samples) at 48 kHz, as the model made it.

        The latents must be there, not only queued on another stream.
        """
        with self._offloaded:
            copies = [self._copy_to_host(self.wave(latents)) for latents in takes]
        return [copy.audio() for copy in copies]

    def wave(self, latents: torch.Tensor) -> torch.Tensor:
        """One take's audio, (2, samples), still on the device."""
        try:
            with RECORDING:  # only while it is queued
                return self._wave(latents, self._together)
        except RuntimeError as error:
            if self._together == 1 or not is_out_of_memory(error):
                raise
        _log.warning("decoding one window at a time from now on: %d did not fit", self._together)
        self._together = 1
        free_cache(self._placement.device)
        with RECORDING:
            return self._wave(latents, 1)

    def _wave(self, latents: torch.Tensor, together: int) -> torch.Tensor:
        windows = windows_over(len(latents), self._core)
        channels = latents.T.to(self._placement.vae_dtype)
        pieces = torch.stack([channels[:, start : start + windows.size] for start in windows.starts])
        groups = pieces.tensor_split(math.ceil(len(pieces) / together))
        waves = [wave for group in groups for wave in self._decode(group)]
        if len(waves) == 1:
            return waves[0]
        return torch.cat([wave[:, core] for wave, core in zip(waves, windows.cores(), strict=True)], dim=-1)

    def _copy_to_host(self, wave: torch.Tensor) -> _HostCopy:
        if not self._on_gpu:
            return _HostCopy(wave.float().cpu(), None)
        # Pinned memory is filled by the device itself, while the host queues the next take.
        host = torch.empty(wave.shape, dtype=torch.float32, pin_memory=True)
        host.copy_(wave.float(), non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return _HostCopy(host, copied)


class _HostCopy(NamedTuple):
    """Audio on its way to the host."""

    host: torch.Tensor
    copied: torch.cuda.Event | None

    def audio(self) -> npt.NDArray[np.float32]:
        if self.copied is not None:
            self.copied.synchronize()
        audio: npt.NDArray[np.float32] = self.host.numpy()
        return audio
