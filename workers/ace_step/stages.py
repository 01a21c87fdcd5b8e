"""The stages of one render, run by ourselves: text, conditions, context, noise, diffusion, decoding.

For one track the result is bitwise that of diffusers' `AceStepPipeline`. In a batch, unlike there, every take
brings its own tempo, key, metre, language, length of text, seed and planner codes, and hears none of the others.
Source: diffusers 0.42 `pipelines/ace_step/pipeline_ace_step.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from catalog.prompt import CODES_INSTRUCTION, TEXT_INSTRUCTION, lyric_prompt, text_prompt
from catalog.track import Take
from workers.ace_step.device import Placement
from workers.ace_step.loading import Components
from workers.ace_step.masking import KernelNames, install

_TIMBRE_LATENTS = 750  # 30 s: what the timbre encoder was trained on
_TILE_LATENTS = 512  # 20.48 s a tile: about 1 GiB while it is decoded
# The decoder reaches 8.33 latents to each side, so 9 and more is exact; 12 costs 4.8 % more work.
_TILE_OVERLAP_LATENTS = 12


class Script(NamedTuple):
    """What one take says to the model, in token ids. `text` holds instruction, caption and metadata."""

    instruction: str
    text: list[int]
    lyrics: list[int]


class Conditions(NamedTuple):
    """What cross-attention sees: (batch, tokens, width), and which tokens are real (None: all are)."""

    hidden: torch.Tensor
    keep: torch.Tensor | None


class Stages:
    """One loaded model, stage by stage. Callers hold `torch.inference_mode()`."""

    def __init__(self, parts: Components, placement: Placement) -> None:
        self.parts = parts
        self.device, self.dtype = placement.device, placement.dtype
        self._placement = placement
        self._padding = install(parts.transformer)
        self._width: int = parts.transformer.config["audio_acoustic_hidden_dim"]
        self._silence: torch.Tensor = parts.condition_encoder.silence_latent
        self._timbre = self._timbre_of_silence()
        parts.vae.enable_tiling()
        parts.vae.tile_latent_min_length = _TILE_LATENTS
        parts.vae.tile_latent_overlap = _TILE_OVERLAP_LATENTS

    def write_script(self, take: Take, *, coded: bool) -> Script:
        """Token ids of `take`; `coded` says that planner codes guide it, which has an instruction of its own."""
        instruction = CODES_INSTRUCTION if coded else TEXT_INSTRUCTION
        tokenizer = self.parts.tokenizer
        return Script(
            instruction,
            tokenizer(text_prompt(take.spec, instruction)).input_ids,
            tokenizer(lyric_prompt(take.spec)).input_ids,
        )

    def encode(self, scripts: Sequence[Script]) -> Conditions:
        """Conditions of one batch. Each row is lyrics, timbre, text, and then padding to the longest row."""
        encoder = self.parts.condition_encoder
        text = self.parts.text_encoder(input_ids=self._padded([s.text for s in scripts])).last_hidden_state
        text = encoder.text_projector(text.to(self.dtype))
        # Lyrics pass only the word table here; the condition encoder has an encoder of its own for them.
        words = self.parts.text_encoder.get_input_embeddings()(self._padded([s.lyrics for s in scripts]))
        sizes = torch.tensor([len(s.lyrics) for s in scripts])
        real = torch.arange(words.shape[1])[None, :] < sizes[:, None]
        lyrics = encoder.lyric_encoder(inputs_embeds=words.to(self.dtype), attention_mask=real.to(self.device))
        rows = [
            torch.cat([lyrics[i, : len(s.lyrics)], self._timbre, text[i, : len(s.text)]]) for i, s in enumerate(scripts)
        ]
        lengths = torch.tensor([len(row) for row in rows])
        hidden = pad_sequence(rows, batch_first=True)
        if bool((lengths == hidden.shape[1]).all()):
            return Conditions(hidden, None)
        keep = torch.arange(hidden.shape[1])[None, :] < lengths[:, None]
        return Conditions(hidden, keep.to(self.device))

    def context(self, codes: Sequence[Sequence[int] | None], n_latents: int) -> torch.Tensor:
        """What the noise is laid over, (batch, `n_latents`, 2 x width): planner hints or silence, and a mask of ones.

        `codes` holds five a second for each take that has a plan and None for the others.
        """
        source = self._silence[:, :n_latents].expand(len(codes), -1, -1).clone()
        coded = [row for row, some in enumerate(codes) if some is not None]
        if coded:
            source[coded] = self._hints([codes[row] or [] for row in coded])
        return torch.cat([source, torch.ones_like(source)], dim=-1)

    def noise(self, seeds: Sequence[int], n_latents: int) -> torch.Tensor:
        """Where each take starts, (batch, `n_latents`, width). Drawn on the CPU: no device and no neighbour matters."""
        draws = [
            torch.randn(
                (1, n_latents, self._width), generator=torch.Generator("cpu").manual_seed(seed), dtype=self.dtype
            )
            for seed in seeds
        ]
        return torch.cat(draws).to(self.device)

    def diffuse(
        self, noise: torch.Tensor, conditions: Conditions, context: torch.Tensor, *, steps: int, shift: float
    ) -> torch.Tensor:
        """Walk from `noise` to latents, (batch, latents, width), by Euler steps whose sum is kept in float32."""
        times = schedule(steps, shift)
        latents = noise
        with self._padding.hidden(conditions.keep):
            for now, step in zip(times[:-1].tolist(), times.diff().tolist(), strict=True):
                time = torch.full((len(latents),), now, device=self.device, dtype=self.dtype)
                (velocity,) = self.parts.transformer(
                    hidden_states=latents,
                    timestep=time,
                    timestep_r=time,
                    encoder_hidden_states=conditions.hidden,
                    context_latents=context,
                    return_dict=False,
                )
                latents = (latents.float() + step * velocity).to(velocity.dtype)
        return latents

    def decode(self, latents: torch.Tensor) -> npt.NDArray[np.float32]:
        """Audio of ONE take's latents (latents, width): float32 (2, samples) at 48 kHz, as the model made it.

        One at a time and in tiles, so that memory depends neither on the batch nor on the duration.
        """
        wave = self.parts.vae.decode(latents.T[None].to(self._placement.vae_dtype)).sample[0]
        audio: npt.NDArray[np.float32] = wave.float().cpu().numpy()
        return audio

    def attention_kernels(self) -> str:
        """Names of the attention kernels that one small masked batch really runs on, such as "flash_attention"."""
        scripts = [Script("", [0] * 24, [0] * length) for length in (8, 16)]
        # Not inference mode: there the call would be seen before torch has chosen a kernel for it.
        with torch.no_grad(), KernelNames() as kernels:
            conditions, context = self.encode(scripts), self.context([None, None], n_latents=64)
            kernels.seen.clear()  # the encoders' kernels, which run once, matter less than the transformer's
            self.diffuse(self.noise([0, 1], n_latents=64), conditions, context, steps=1, shift=1.0)
        return "+".join(sorted(kernels.seen)) or "math"

    def _padded(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        # Right padding; the text encoder is causal, so the words in front never see it.
        pad: int = self.parts.tokenizer.pad_token_id or 0
        padded = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
        return padded.to(self.device)

    def _hints(self, codes: Sequence[Sequence[int]]) -> torch.Tensor:
        tokenizer, detokenizer = self.parts.audio_tokenizer, self.parts.audio_token_detokenizer
        if tokenizer is None or detokenizer is None:
            raise ValueError("codes were given to a model without code modules")
        indices = torch.tensor(codes, device=self.device)[..., None]
        quantized = tokenizer.quantizer.get_output_from_indices(indices).to(self.dtype)
        hints: torch.Tensor = detokenizer(quantized).to(self.dtype)
        return hints

    @torch.inference_mode()
    def _timbre_of_silence(self) -> torch.Tensor:
        """(1, width). Without reference audio the timbre is always that of silence, so it is encoded once."""
        only = torch.zeros(1, dtype=torch.long, device=self.device)
        timbre: torch.Tensor = self.parts.condition_encoder.timbre_encoder(self._silence[:, :_TIMBRE_LATENTS], only)[0]
        return timbre[0]


def schedule(steps: int, shift: float) -> torch.Tensor:
    """Times from 1 to 0, `steps` + 1 of them in float32; a larger `shift` spends more steps near the noise."""
    even = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float32)
    return even if shift == 1.0 else shift * even / (1 + (shift - 1) * even)
