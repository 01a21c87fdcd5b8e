"""A tiny planner with random weights: the real model class, layout and vocabulary of codes in a few megabytes.

With it, everything around the planner runs and is tested on a laptop; the codes that it writes are noise. Its files are
the same bytes on every machine, because the weights come from a hash and not from a library's random generator.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import Qwen3Config, Qwen3ForCausalLM

from catalog.seeds import stable_hash
from workers.ace_step.planner.sampling import hash_uniform

N_CODES: Final = 65_535  # names in the real vocabulary; the last 1,535 never occur
SPECIAL_TOKENS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK_TOKENS: Final = ("<think>", "</think>")

# Large enough that the top few thousand codes hold most of the probability, as in a trained model.
WEIGHT_SD: Final = 0.8

# Qwen's rule for cutting text into words, with code names kept whole in front.
_WORDS: Final = (
    r"<\|audio_code_[0-9]+\|>|"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# What Qwen3's own template does with the turns a planner has; a think block is separated from what follows it.
_CHAT_TEMPLATE: Final = """\
{%- for message in messages %}
{%- set content = message.content %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and '</think>' in content %}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def write_tiny_planner(folder: Path, seed: int = 0) -> None:
    """Write config.json, model.safetensors and the tokenizer's files into `folder`; `seed` chooses the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tiny_tokenizer()
    config = _tiny_config(tokenizer.get_vocab_size())
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": config["max_position_embeddings"],
            "chat_template": _CHAT_TEMPLATE,
        },
    )
    _write_json(folder / "config.json", config)
    (folder / "model.safetensors").write_bytes(save(_random_weights(config, seed), metadata={"format": "pt"}))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _tiny_tokenizer() -> Tokenizer:
    """Bytes, five control tokens, then the codes, all in one contiguous range of ids.

    The real tokenizer adds the codes on top of its vocabulary, which takes seconds to load; here they are words of the
    vocabulary itself. To the caller there is no difference: each name is one token.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    codes = [f"<|audio_code_{code}|>" for code in range(N_CODES)]
    names = [*alphabet, *SPECIAL_TOKENS, *THINK_TOKENS, *codes]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Twice: a name inside a run of punctuation must be cut out before that run is taken as one word.
            pre_tokenizers.Split(Regex(r"<\|audio_code_[0-9]+\|>"), behavior="isolated"),
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in THINK_TOKENS])
    return tokenizer


def _tiny_config(vocab_size: int) -> dict[str, Any]:
    """The real model's config with every size made small."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 40_960,
        # Its tokens are bytes, so a prompt has several times the real one's tokens.
        "context_tokens": 32_768,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1_000_000,
        "attention_bias": False,
        "initializer_range": WEIGHT_SD,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def _random_weights(config: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Weights for every tensor of the real class; the output matrix is the embedding, so it is not stored."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Qwen3ForCausalLM(Qwen3Config(**config)).state_dict().items()}
    del shapes["lm_head.weight"]
    return {name: _random_weight(name, shape, seed) for name, shape in shapes.items()}


def _random_weight(name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    """Uniform with standard deviation WEIGHT_SD, bfloat16; scales of norms are one."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    key = torch.tensor([stable_hash("tiny-planner", seed, name) >> 1])
    uniform = hash_uniform(key, 0, torch.arange(shape.numel()))
    return ((uniform - 0.5) * (WEIGHT_SD * math.sqrt(12))).to(torch.bfloat16).reshape(shape)
