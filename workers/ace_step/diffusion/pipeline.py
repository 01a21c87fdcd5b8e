"""The pipeline of one render, stage by stage: text, conditions, source latents, noise, diffusion, decoding.

For one track, the result is bitwise that of diffusers' `AceStepPipeline`. In a batch, unlike in diffusers, every take
has its own tempo, key, metre, language, length of text, seed and planner codes, and the other takes do not affect it.
The take's task decides which of these inputs it needs (`workers.ace_step.tasks`).

Source: diffusers 0.42 `pipelines/ace_step/pipeline_ace_step.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from catalog.prompt import lyric_prompt, text_prompt
from catalog.spec import DiffusionSpec, TrackSpec
from workers.ace_step.device.compiling import Compiler
from workers.ace_step.device.graphs import Graphs
from workers.ace_step.device.placement import Placement, wait_for
from workers.ace_step.diffusion.attention import KernelNames, prefers_cudnn
from workers.ace_step.diffusion.conditions import Conditions
from workers.ace_step.diffusion.sampler import SHAPES_KEPT, Sampler, StepInputs, constant_steps
from workers.ace_step.diffusion.vae import Decoder
from workers.ace_step.weights.loading import Components
from workers.ace_step.weights.offload import OffloadedParts

_TOKEN_MULTIPLE = 64
# Long enough for a window in blocks, and short enough for a dense one, whose rows are not a whole number of words.
_CHECKED_LATENTS = (1200, 502)
_SHORT_LATENTS = 400
_ROUNDING_MAX = 0.05  # relative RMS; bfloat16 has steps of 2^-8
_TIMBRE_LATENTS = 750  # 30 s: the length on which the timbre encoder was trained

_ONE_STEP: Final = DiffusionSpec(steps=1, shift=1.0)

_log = logging.getLogger(__name__)


class TokenizedPrompt(NamedTuple):
    """The words of one take as token ids. `text` holds instruction, caption and metadata."""

    instruction: str
    text: list[int]
    lyrics: list[int]


class _KernelCheck(NamedTuple):
    kernels: str  # that attention ran on
    latents: torch.Tensor  # that came out


class Pipeline:
    """One loaded model, stage by stage. Callers hold `torch.inference_mode()`."""

    def __init__(
        self,
        parts: Components,
        placement: Placement,
        *,
        offload: OffloadedParts | None = None,
        compiled: bool = False,
        graphs_kept: int = SHAPES_KEPT,
    ) -> None:
        self.parts = parts
        self.offload = offload or OffloadedParts.on(placement.device)
        self.device, self.dtype = placement.device, placement.dtype
        compiler = Compiler(wanted=compiled)
        self._sampler = Sampler(
            parts.transformer,
            compiler=compiler,
            graphs=Graphs(placement.device, graphs_kept),
            cudnn_first=prefers_cudnn(placement.device),
        )
        self.decode = Decoder(parts.vae, placement, compiler, self.offload.decoding)
        # Where shapes are compiled or recorded they should repeat: texts are then padded to a multiple of this.
        self.token_multiple = _TOKEN_MULTIPLE if self.device.type == "cuda" else 1
        self._width: int = parts.transformer.config["audio_acoustic_hidden_dim"]
        self._silence: torch.Tensor = parts.condition_encoder.silence_latent
        self._timbre = self._timbre_of_silence()

    def tokenize(self, spec: TrackSpec, instruction: str) -> TokenizedPrompt:
        """Token ids of `spec` under `instruction`, which is its task's."""
        tokenizer = self.parts.tokenizer
        return TokenizedPrompt(
            instruction,
            tokenizer(text_prompt(spec, instruction)).input_ids,
            tokenizer(lyric_prompt(spec)).input_ids,
        )

    def encode(self, prompts: Sequence[TokenizedPrompt]) -> Conditions:
        """Conditions of one batch. Each row is lyrics, timbre, text, and then padding to the longest row."""
        with self.offload.encoding:
            return self._conditions(prompts)

    def _conditions(self, prompts: Sequence[TokenizedPrompt]) -> Conditions:
        encoder = self.parts.condition_encoder
        text = self.parts.text_encoder(input_ids=self._padded([prompt.text for prompt in prompts])).last_hidden_state
        text = encoder.text_projector(text.to(self.dtype))
        # Lyrics pass only the word table here; the condition encoder has an encoder of its own for them.
        words = self.parts.text_encoder.get_input_embeddings()(self._padded([prompt.lyrics for prompt in prompts]))
        sizes = torch.tensor([len(prompt.lyrics) for prompt in prompts])
        real = torch.arange(words.shape[1])[None, :] < sizes[:, None]
        lyrics = encoder.lyric_encoder(inputs_embeds=words.to(self.dtype), attention_mask=real.to(self.device))
        rows = [
            torch.cat([lyrics[row, : len(prompt.lyrics)], self._timbre, text[row, : len(prompt.text)]])
            for row, prompt in enumerate(prompts)
        ]
        lengths = torch.tensor([len(row) for row in rows])
        hidden = pad_sequence(rows, batch_first=True)
        hidden = pad(hidden, (0, 0, 0, -hidden.shape[1] % self.token_multiple))
        if self.token_multiple == 1 and bool((lengths == hidden.shape[1]).all()):
            return Conditions(hidden, None, encoder.null_condition_emb)
        keep = torch.arange(hidden.shape[1])[None, :] < lengths[:, None]
        return Conditions(hidden, keep.to(self.device), encoder.null_condition_emb)

    def hints_or_silence(self, codes: Sequence[Sequence[int] | None], n_latents: int) -> torch.Tensor:
        """Source latents (batch, `n_latents`, width): decoded from planner codes, or silence where there are none.

        `codes` holds five a second for each take that has a plan and None for the others.
        """
        source = self._silence[:, :n_latents].expand(len(codes), -1, -1).clone()
        coded = [row for row, some in enumerate(codes) if some is not None]
        if coded:
            with self.offload.hinting:
                source[coded] = self._hints([codes[row] or [] for row in coded])
        return source

    def noise(self, seeds: Sequence[int], n_latents: int) -> torch.Tensor:
        """Noise (batch, `n_latents`, width) from each take's seed, always drawn on the CPU."""
        draws = [
            torch.randn(
                (1, n_latents, self._width), generator=torch.Generator("cpu").manual_seed(seed), dtype=self.dtype
            )
            for seed in seeds
        ]
        return torch.cat(draws).to(self.device)

    def diffuse(self, noise: torch.Tensor, steps: Sequence[StepInputs], diffusion: DiffusionSpec) -> torch.Tensor:
        """From `noise` to latents, (batch, latents, width); `steps` has the inputs of each step of `diffusion`."""
        with self.offload.diffusion:
            return self._sampler(noise, steps, diffusion)

    @torch.inference_mode()
    def warm_up(self, takes: int, n_latents: int, diffusion: DiffusionSpec) -> None:
        """Run an ordinary batch, so that compiled code, kernel choices and recordings exist before the first take."""
        steps = self._ordinary_steps([_ordinary_prompt()] * takes, n_latents, diffusion)
        latents = self.diffuse(self.noise(range(takes), n_latents), steps, diffusion)
        wait_for(self.device)
        with self.decode.stream():
            self.decode([latents[0], latents[0][:_SHORT_LATENTS]])  # in several windows, and in one

    def forget(self) -> None:
        """Let go of memory that is kept for speed alone."""
        self._sampler.forget()

    def attention_kernels(self) -> str:
        """Names of the attention kernels that one small masked batch really runs on, such as "flash_attention".

        Before cuDNN's kernels are preferred, their results are compared with those of torch's own.
        """
        # On the CPU only that it runs is of interest, elsewhere also how tracks of either kind find their window.
        lengths = (64,) if self.device.type == "cpu" else _CHECKED_LATENTS
        plain = [self._check_kernels(n_latents, cudnn_first=False) for n_latents in lengths]
        if not self._sampler.cudnn_first:
            return plain[0].kernels
        try:
            preferred = [self._check_kernels(n_latents, cudnn_first=True) for n_latents in lengths]
            refusals = [_difference(one.latents, other.latents) for one, other in zip(preferred, plain, strict=True)]
            refusal = next(filter(None, refusals), "")
        except RuntimeError as error:
            refusal = str(error).partition("\n")[0]
        if refusal:
            _log.warning("attention does without cuDNN: %s", refusal)
            self._sampler.cudnn_first = False
            return plain[0].kernels
        return preferred[0].kernels

    def _check_kernels(self, n_latents: int, *, cudnn_first: bool) -> _KernelCheck:
        prompts = [_ordinary_prompt(), _ordinary_prompt(n_lyrics=16)]
        sampler = Sampler(self.parts.transformer, cudnn_first=cudnn_first)
        with torch.no_grad(), KernelNames() as kernels:
            steps = self._ordinary_steps(prompts, n_latents, _ONE_STEP)
            kernels.seen.clear()  # the encoders' kernels, which run once, matter less than the transformer's
            with self.offload.diffusion:
                latents = sampler(self.noise([0, 1], n_latents), steps, _ONE_STEP)
        return _KernelCheck("+".join(sorted(kernels.seen)) or "math", latents)

    def _ordinary_steps(
        self, prompts: Sequence[TokenizedPrompt], n_latents: int, diffusion: DiffusionSpec
    ) -> list[StepInputs]:
        source = self.hints_or_silence([None] * len(prompts), n_latents)
        return constant_steps(self.encode(prompts), context_of(source, torch.ones_like(source)), diffusion)

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
        with self.offload.encoding:
            timbre = self.parts.condition_encoder.timbre_encoder(self._silence[:, :_TIMBRE_LATENTS], only)[0]
        return timbre[0]


def context_of(source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The context (batch, latents, 2 x width) of source latents and a mask, both (batch, latents, width)."""
    return torch.cat([source, mask], dim=-1)


def _difference(one: torch.Tensor, other: torch.Tensor) -> str:
    """By how much two ways to compute the same differ, where it is more than half precision explains, or ""."""
    share = float((one.float() - other.float()).norm() / other.float().norm())
    return "" if share <= _ROUNDING_MAX else f"its results are {share:.1%} off"


def _ordinary_prompt(n_lyrics: int = 8) -> TokenizedPrompt:
    return TokenizedPrompt("", [0] * 100, [0] * n_lyrics)
