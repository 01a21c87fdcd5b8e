"""The stages of one render, run by ourselves: text, conditions, context, noise, diffusion, decoding.

For one track the result is bitwise that of diffusers' `AceStepPipeline`. In a batch, unlike there, every take
brings its own tempo, key, metre, language, length of text, seed and planner codes, and hears none of the others.
Source: diffusers 0.42 `pipelines/ace_step/pipeline_ace_step.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from catalog.prompt import CODES_INSTRUCTION, TEXT_INSTRUCTION, lyric_prompt, text_prompt
from catalog.spec import TrackSpec
from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.graphs import Graphs
from workers.ace_step.device.placement import Placement, wait_for
from workers.ace_step.diffusion.attention import KernelNames, prefers_cudnn
from workers.ace_step.diffusion.transformer import GROUNDS_KEPT, Conditions, Sampler
from workers.ace_step.diffusion.vae import Decoder
from workers.ace_step.weights.loading import Components
from workers.ace_step.weights.offload import OffloadedParts

_TOKEN_STEP = 64
# Long enough for a window in blocks, and short enough for a dense one, whose rows are not a whole number of words.
_PROBED_LATENTS = (1200, 502)
_SHORT_LATENTS = 400
_ROUNDING_MAX = 0.05  # relative RMS; bfloat16 has steps of 2^-8
_TIMBRE_LATENTS = 750  # 30 s: what the timbre encoder was trained on

_log = logging.getLogger(__name__)


class TokenizedPrompt(NamedTuple):
    """What one take says to the model, in token ids. `text` holds instruction, caption and metadata."""

    instruction: str
    text: list[int]
    lyrics: list[int]


class _Probe(NamedTuple):
    kernels: str
    latents: torch.Tensor


class Stages:
    """One loaded model, stage by stage. Callers hold `torch.inference_mode()`."""

    def __init__(
        self,
        parts: Components,
        placement: Placement,
        *,
        residences: OffloadedParts | None = None,
        compiled: bool = False,
        graphs_kept: int = GROUNDS_KEPT,
    ) -> None:
        self.parts = parts
        self.homes = residences or OffloadedParts.on(placement.device)
        self.device, self.dtype = placement.device, placement.dtype
        compiler = Compiler(wanted=compiled)
        self._walk = Sampler(
            parts.transformer,
            compiler=compiler,
            graphs=Graphs(placement.device, graphs_kept),
            cudnn_first=prefers_cudnn(placement.device),
        )
        self.decode = Decoder(parts.vae, placement, compiler, self.homes.decoding)
        # Where shapes are compiled or recorded they should repeat: texts are then padded to a multiple of this.
        self.token_step = _TOKEN_STEP if self.device.type == "cuda" else 1
        self._width: int = parts.transformer.config["audio_acoustic_hidden_dim"]
        self._silence: torch.Tensor = parts.condition_encoder.silence_latent
        self._timbre = self._timbre_of_silence()

    def write_script(self, spec: TrackSpec, *, coded: bool) -> TokenizedPrompt:
        """Token ids of a settled `spec`; `coded`: planner codes guide it, which has an instruction of its own."""
        instruction = CODES_INSTRUCTION if coded else TEXT_INSTRUCTION
        tokenizer = self.parts.tokenizer
        return TokenizedPrompt(
            instruction,
            tokenizer(text_prompt(spec, instruction)).input_ids,
            tokenizer(lyric_prompt(spec)).input_ids,
        )

    def encode(self, scripts: Sequence[TokenizedPrompt]) -> Conditions:
        """Conditions of one batch. Each row is lyrics, timbre, text, and then padding to the longest row."""
        with self.homes.encoding:
            return self._conditions(scripts)

    def _conditions(self, scripts: Sequence[TokenizedPrompt]) -> Conditions:
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
        hidden = pad(hidden, (0, 0, 0, -hidden.shape[1] % self.token_step))
        if self.token_step == 1 and bool((lengths == hidden.shape[1]).all()):
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
            with self.homes.hinting:
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
        """Walk from `noise` to latents, (batch, latents, width)."""
        with self.homes.diffusion:
            return self._walk(noise, conditions, context, steps=steps, shift=shift)

    @torch.inference_mode()
    def warm_up(self, takes: int, n_latents: int) -> None:
        """Run an ordinary batch, so that what is compiled, chosen and recorded on the way is there for the next."""
        scripts = [_ordinary_script()] * takes
        conditions, context = self.encode(scripts), self.context([None] * takes, n_latents)
        latents = self.diffuse(self.noise(range(takes), n_latents), conditions, context, steps=3, shift=1.0)
        wait_for(self.device)
        with self.decode.stream():
            self.decode([latents[0], latents[0][:_SHORT_LATENTS]])  # in several windows, and in one

    def forget(self) -> None:
        """Let go of memory that is kept for speed alone."""
        self._walk.forget()

    def attention_kernels(self) -> str:
        """Names of the attention kernels that one small masked batch really runs on, such as "flash_attention".

        Where cuDNN's are preferred, they must first be seen to give what torch's own give.
        """
        # On the CPU only that it runs is of interest, elsewhere also how tracks of either kind find their window.
        lengths = (64,) if self.device.type == "cpu" else _PROBED_LATENTS
        plain = [self._probe(n_latents, cudnn_first=False) for n_latents in lengths]
        if not self._walk.cudnn_first:
            return plain[0].kernels
        try:
            preferred = [self._probe(n_latents, cudnn_first=True) for n_latents in lengths]
            refusals = [_difference(one.latents, other.latents) for one, other in zip(preferred, plain, strict=True)]
            refusal = next(filter(None, refusals), "")
        except RuntimeError as error:
            refusal = str(error).partition("\n")[0]
        if refusal:
            _log.warning("attention does without cuDNN: %s", refusal)
            self._walk.cudnn_first = False
            return plain[0].kernels
        return preferred[0].kernels

    def _probe(self, n_latents: int, *, cudnn_first: bool) -> _Probe:
        scripts = [_ordinary_script(), _ordinary_script(n_lyrics=16)]
        walk = Sampler(self.parts.transformer, cudnn_first=cudnn_first)
        # Not inference mode: there the call would be seen before torch has chosen a kernel for it.
        with torch.no_grad(), KernelNames() as kernels:
            conditions, context = self.encode(scripts), self.context([None, None], n_latents)
            kernels.seen.clear()  # the encoders' kernels, which run once, matter less than the transformer's
            with self.homes.diffusion:
                latents = walk(self.noise([0, 1], n_latents), conditions, context, steps=1, shift=1.0)
        return _Probe("+".join(sorted(kernels.seen)) or "math", latents)

    def _padded(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        # Right padding; the text encoder is causal, so the words in front never see it.
        filler: int = self.parts.tokenizer.pad_token_id or 0
        padded = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=filler)
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
        with self.homes.encoding:
            timbre = self.parts.condition_encoder.timbre_encoder(self._silence[:, :_TIMBRE_LATENTS], only)[0]
        return timbre[0]


def _difference(one: torch.Tensor, other: torch.Tensor) -> str:
    """By how much two ways to compute the same differ, where it is more than half precision explains, or ""."""
    share = float((one.float() - other.float()).norm() / other.float().norm())
    return "" if share <= _ROUNDING_MAX else f"its results are {share:.1%} off"


def _ordinary_script(n_lyrics: int = 8) -> TokenizedPrompt:
    return TokenizedPrompt("", [0] * 100, [0] * n_lyrics)
