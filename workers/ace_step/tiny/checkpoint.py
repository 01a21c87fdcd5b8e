"""The tiny checkpoint: ACE-Step's real classes with random weights in a few megabytes; its audio is noise.

It renders without a download or a GPU and takes every path the full model takes: frame rate, hop and number of
codes are the real ones, only the widths are small. Weight files are the same bytes on every machine.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.models.transformers.ace_step_transformer import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from diffusers.pipelines.ace_step.pipeline_ace_step import AceStepPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model
from transformers.utils import logging as transformers_logging

from workers.ace_step.tiny.planner import write_tiny_planner

TINY_VERSION: Final = 1  # raise it when the written files change, so that old copies are not used again
MANIFEST: Final = "random-weights.json"  # its presence says that the weights are random and the audio noise
PLANNER_FOLDER: Final = "planner"

_WIDTH = 32
_LATENT = 8
_TEXT_WIDTH = 16
# A tame decoder: with residual branches at full strength its 15 sines in a row would turn rounding errors of 1e-6
# in the latents into 6e-5 of audio, which no trained decoder does.
_RESIDUAL_GAIN = 0.3
_LAST_GAIN = 0.4  # brings the noise to the level of music: about -23 dBFS RMS, peaks near full scale
_HEADS: Final[dict[str, Any]] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
_END_OF_TEXT: Final = "<|endoftext|>"
_TOKENIZER_WORDS: Final = """
# Instruction
Fill the audio semantic mask based on the given conditions:
Generate audio semantic tokens based on the given conditions:
# Caption
calm warm bright soft slow fast deep airy gentle lively elegant smooth dreamy relaxed modern classic instrumental
piano guitar bass drums strings synth pads bells flute saxophone trumpet violin cello harp marimba vibraphone
ambient jazz house lounge soul funk disco techno bossa nova reggae folk rock pop classical orchestral electronic
morning evening night hotel lobby spa shop restaurant bar with and of the a in for over under light steady beat
melody harmony rhythm groove texture mood brushed acoustic electric mellow tempo reverb analog tape
# Metas
- bpm: 120
- timesignature: 4
- keyscale: C major F# minor Bb major
- duration: 30 seconds
# Languages
unknown en de fr it es ja zh
# Lyric
[Instrumental] [verse] [chorus] [bridge] [intro] [outro]
"""


def tiny_checkpoint(home: Path) -> Path:
    """The tiny checkpoint under `home`/cache, written when it is not there or not whole."""
    folder = home / "cache" / f"tiny-{TINY_VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not _is_whole(folder):
            draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}-"))
            try:
                write_tiny_checkpoint(draft)
                shutil.rmtree(folder, ignore_errors=True)
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return folder


def write_tiny_checkpoint(folder: Path, seed: int = 0) -> None:
    """Write model and planner with random weights into `folder`, in diffusers' layout; `seed` chooses the weights."""
    pipeline = AceStepPipeline(
        transformer=_filled(_transformer(), "transformer", seed),
        condition_encoder=_with_silence(_filled(_condition_encoder(), "condition_encoder", seed), seed),
        text_encoder=_filled(_text_encoder(), "text_encoder", seed),
        tokenizer=_tokenizer(),
        vae=_filled(_vae(), "vae", seed),
        audio_tokenizer=_filled(_code_module(AceStepAudioTokenizer, fsq_dim=_WIDTH), "audio_tokenizer", seed),
        audio_token_detokenizer=_filled(_code_module(AceStepAudioTokenDetokenizer), "audio_token_detokenizer", seed),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
    transformers_logging.disable_progress_bar()  # its bar over one tiny shard would stand in the worker's log
    pipeline.save_pretrained(folder, safe_serialization=True)
    write_tiny_planner(folder / PLANNER_FOLDER, seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "noise": "Random weights: whatever this model renders is noise.",
        "seed": seed,
        "files": {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def holds_random_weights(folder: Path) -> bool:
    """True when the checkpoint in `folder` declares that its weights are random."""
    return (folder / MANIFEST).is_file()


def _is_whole(folder: Path) -> bool:
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all(sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _transformer() -> AceStepTransformer1DModel:
    return AceStepTransformer1DModel(
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=4,
        in_channels=3 * _LATENT,
        audio_acoustic_hidden_dim=_LATENT,
        encoder_hidden_size=_WIDTH,
        is_turbo=True,
        model_version="turbo",
        **_HEADS,
    )


def _condition_encoder() -> AceStepConditionEncoder:
    return AceStepConditionEncoder(
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        text_hidden_dim=_TEXT_WIDTH,
        timbre_hidden_dim=_LATENT,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2,
        **_HEADS,
    )


def _text_encoder() -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=len(_tokenizer()),
        hidden_size=_TEXT_WIDTH,
        intermediate_size=2 * _TEXT_WIDTH,
        num_hidden_layers=2,
        max_position_embeddings=32_768,
        **_HEADS,
    )
    return Qwen3Model(config)


def _code_module(kind: Any, **extra: int) -> Any:
    return kind(hidden_size=_WIDTH, intermediate_size=2 * _WIDTH, audio_acoustic_hidden_dim=_LATENT, **_HEADS, **extra)


def _vae() -> AutoencoderOobleck:
    return AutoencoderOobleck(
        encoder_hidden_size=2 * _LATENT,
        downsampling_ratios=[2, 4, 4, 6, 10],  # 1,920 samples a latent, as in the real one
        channel_multiples=[1, 1, 1, 1, 1],
        decoder_channels=_LATENT,
        decoder_input_channels=_LATENT,
        audio_channels=2,
        sampling_rate=48_000,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE like the real one, so that every text has tokens, trained on the words above."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=1,
        special_tokens=[_END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TOKENIZER_WORDS.splitlines(keepends=True), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_END_OF_TEXT,
        eos_token=_END_OF_TEXT,
        padding_side="right",
        model_max_length=32_768,
    )


def _filled(module: Any, name: str, seed: int) -> Any:
    """`module` with every matrix random: uniform, of a size that keeps signals about as loud as they came in.

    Drawn by NumPy's PCG64 from integers alone, because torch's normal draws differ in the last bits between
    CPUs. Vectors (norms, biases, Snake's exponents) keep the value the constructor gives all their elements.
    """
    state = module.state_dict()
    for key, tensor in state.items():
        if key.endswith("weight_g"):
            state[key] = torch.full_like(tensor, _gain(key))
        elif key.endswith("bias"):
            state[key] = torch.zeros_like(tensor)
        elif sum(size > 1 for size in tensor.shape) > 1 and "silence" not in key:
            state[key] = _uniform(tensor.shape, f"{seed}/{name}/{key}", _bound(math.prod(tensor.shape[1:])))
        elif "special_token" in key or "null_condition" in key:
            state[key] = _uniform(tensor.shape, f"{seed}/{name}/{key}", 1.0)
    module.load_state_dict(state)
    return module.eval()


def _gain(key: str) -> float:
    """Norm of a VAE layer's rows."""
    if key == "decoder.conv2.weight_g":
        return _LAST_GAIN
    return _RESIDUAL_GAIN if "res_unit" in key and ".conv2." in key else 1.0


def _with_silence(encoder: Any, seed: int) -> Any:
    """The real silence is near a constant latent with little movement; so is this one."""
    silence = encoder.get_buffer("silence_latent")
    still = _uniform(torch.Size((1, 1, _LATENT)), f"{seed}/silence", 1.0)
    silence.copy_(still + _uniform(silence.shape, f"{seed}/silence/movement", 0.05))
    return encoder


def _bound(fan_in: int) -> float:
    return math.sqrt(3 / max(1, fan_in))  # a uniform draw in this bound has variance 1 / fan_in


def _uniform(shape: torch.Size, name: str, bound: float) -> torch.Tensor:
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
    draw = np.random.Generator(np.random.PCG64(key)).random(tuple(shape), dtype=np.float32)
    return torch.from_numpy((draw * 2 - 1) * np.float32(bound))
