"""The decode core: many rows of one language model, each written one token at a time.

Everything that a step reads or writes lies in buffers that keep their address: the cache, the next tokens, their
positions, the mask. So a step has no state in Python, the host waits for nothing, and on CUDA the step is captured once
and replayed. The caller chooses each next token; planner codes (`codes`) and planner metadata choose differently.

Prompts are left-padded to one width, so that all rows write the same column. Attention sees only the columns up to
the next multiple of `COLUMNS`, which follows from the number of the step alone. The columns beyond are not written
yet and would be masked, so leaving them out changes nothing.

Promise: in number formats narrower than float32, a row's results depend only on its own prompt and tokens and on the
shape of the decoding (rows, prompt width). They do not depend on other rows, on the row's place, or on the length of
the cache. In float32, they are the same up to rounding for any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache

from workers.ace_step.device.graphs import Graphs
from workers.ace_step.planner.layers import step_through

COLUMNS = 128  # attention grows by this many columns at a time; each width is one captured graph
PREFILL_ROWS = 8  # prompts read in one call: enough to fill a GPU, few enough for their activations to stay small
_KEPT_GRAPHS = 128  # more than any decoding needs: one or two for each width of a 4096-token context


class Shape(NamedTuple):
    """The sizes of a decoding. The result does not depend on `columns`, which only have to suffice."""

    rows: int
    prompt: int  # columns that every prompt is left-padded to
    columns: int  # of prompt and written tokens together

    @classmethod
    def of(cls, rows: int, prompt: int, n_tokens: int) -> Shape:
        """A shape with columns for `n_tokens` after the prompt, which is a whole number of `COLUMNS`."""
        return cls(rows, prompt, whole_columns(prompt + n_tokens))


def whole_columns(columns: int) -> int:
    """`columns` rounded up to a width to which the cache is narrowed."""
    return -(-columns // COLUMNS) * COLUMNS


def wants_fixed_shapes(dtype: torch.dtype) -> bool:
    """True when rows computed in `dtype` keep their results only if every call has the same shape."""
    return dtype != torch.float32


class _Destination(NamedTuple):
    """The rows that the prompts of one prefill call go to; the same prompt may serve several rows."""

    rows: torch.Tensor  # int64 (copies,), rows of the cache
    source: torch.Tensor  # int64 (copies,), prompts of the call


class _NarrowedCache(Cache):
    """Keys and values of all layers, (layers, rows, heads, columns, head_dim), seen as far as they are needed.

    transformers' own static cache hands out its whole length at every step, and counts its columns once a layer.
    """

    def __init__(self, config: Any, shape: Shape, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(layers=[])
        sizes = (config.num_hidden_layers, shape.rows, config.num_key_value_heads, shape.columns, config.head_dim)
        # Zeros, because what is masked is multiplied by nought all the same, and nought times "not a number" is none.
        self._keys = torch.zeros(sizes, dtype=dtype, device=device)
        self._values = torch.zeros(sizes, dtype=dtype, device=device)
        self.column = torch.full((1,), shape.prompt, dtype=torch.int64, device=device)  # the one a step writes
        self.visible = shape.columns  # columns that a step sees
        self.destination: _Destination | None = None  # while prompts are read

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_args: Any, **_named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep the states of one layer and return those to attend to."""
        return self._place(self._keys[layer_idx], key_states), self._place(self._values[layer_idx], value_states)

    def _place(self, kept: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        if self.destination is None:
            kept.index_copy_(2, self.column, states)
            return kept[:, :, : self.visible]
        rows, source = self.destination
        kept[:, :, : states.shape[2]].index_copy_(0, rows, states.index_select(0, source))
        return states


class Decoding:
    """Rows that are written side by side: `prefill`, then `step` by `step`.

    One object serves any number of texts one after the other. `model` is a causal language model of transformers with
    full attention in every layer. Not thread-safe.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, shape: Shape, *, recorded: bool = True) -> None:
        device, dtype = model.device, model.dtype
        self.shape = shape
        self.device: torch.device = device
        self.graphs = Graphs(device, keep=_KEPT_GRAPHS if recorded else 0)
        self._body = model.model
        self._head = model.get_output_embeddings()
        self._fixed = wants_fixed_shapes(dtype)
        self._cache = _NarrowedCache(model.config, shape, device, dtype)
        self._mask = torch.full((shape.rows, 1, 1, shape.columns), -torch.inf, dtype=dtype, device=device)
        self._positions = torch.zeros(shape.rows, 1, dtype=torch.int64, device=device)
        self._hidden = torch.zeros(shape.rows, model.config.hidden_size, dtype=dtype, device=device)
        self.ids = torch.zeros(shape.rows, dtype=torch.int64, device=device)  # the input of the next `forward`
        self._written = 0

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int] | None]) -> torch.Tensor:
        """Read one prompt a row, and return the hidden states (rows, width) after each prompt's last token.

        Rows without a prompt (None, and all beyond the last) are idle: computed along and of no meaning. Equal prompts
        are read once. The result is overwritten by the next step. Raises ValueError for more than the shape allows.
        """
        lengths = [len(prompt) if prompt else 0 for prompt in prompts]
        if len(prompts) > self.shape.rows or max(lengths) > self.shape.prompt:
            raise ValueError(f"{len(prompts)} prompts of up to {max(lengths)} tokens do not fit {self.shape}")
        self._begin(lengths)
        places: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            if prompt:
                places.setdefault(tuple(prompt), []).append(row)
        for first in range(0, len(places), PREFILL_ROWS):
            self._read(list(places)[first : first + PREFILL_ROWS], list(places.values())[first : first + PREFILL_ROWS])
        return self._hidden

    def _begin(self, lengths: list[int]) -> None:
        """Stand where nothing is written after prompts of these lengths; idle rows have a prompt of length 0."""
        padding = torch.full((self.shape.rows, 1), self.shape.prompt, device=self.device)
        padding[: len(lengths), 0] -= torch.tensor(lengths, device=self.device)
        column = torch.arange(self.shape.columns, device=self.device)
        seen = (column >= padding) & (column < self.shape.prompt)
        self._mask.fill_(-torch.inf).masked_fill_(seen[:, None, None], 0)
        self._positions.copy_(self.shape.prompt - padding)
        self._cache.column.fill_(self.shape.prompt)
        self._written = 0

    def _read(self, prompts: list[tuple[int, ...]], rows: list[list[int]]) -> None:
        """Read `prompts` in one call; prompt i goes to `rows[i]`."""
        source = [place for place, copies in enumerate(rows) for _ in copies]
        if self._fixed:
            full = min(PREFILL_ROWS, self.shape.rows)
            prompts = prompts + [prompts[0]] * (full - len(prompts))
        width = self.shape.prompt
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=self.device)
        padding = torch.tensor([width - len(prompt) for prompt in prompts], device=self.device)
        column = torch.arange(width, device=self.device)
        into = torch.tensor([row for copies in rows for row in copies], device=self.device)
        self._cache.destination = _Destination(into, torch.tensor(source, device=self.device))
        try:
            hidden = self._body(
                input_ids=ids,
                # Additive: SDPA would turn a boolean mask into this once a layer.
                attention_mask={"full_attention": _causal_mask(padding, width, self._mask.dtype)},
                position_ids=(column - padding[:, None]).clamp(min=0),
                past_key_values=self._cache,
                use_cache=True,
            ).last_hidden_state
        finally:
            self._cache.destination = None
        self._hidden.index_copy_(0, into, hidden[source, -1])

    @torch.inference_mode()
    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Write `ids` (int64; one for each of the first rows) and return the hidden states (rows, width) after them.

        The result is overwritten by the next step.
        """
        self.ids[: len(ids)].copy_(ids)
        return self.run("step", self.forward)

    def run(self, name: str, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Run `step`, which calls `forward` once and is known by `name`, as a captured graph where there are graphs."""
        width = self.shape.prompt + self._written + 1
        if width > self.shape.columns:
            raise ValueError(f"no room for token {self._written + 1} after the prompt in {self.shape}")
        self._cache.visible = whole_columns(width)
        self._written += 1
        return self.graphs.run((name, self._cache.visible), step)

    def forward(self) -> torch.Tensor:
        """One step of the model on the tokens in `ids`: device work alone, to be called by `run`."""
        self._mask.index_fill_(3, self._cache.column, 0)
        mask = self._mask[..., : self._cache.visible]
        self._hidden.copy_(step_through(self._body, self.ids, self._positions, mask, self._cache))
        self._cache.column.add_(1)
        self._positions.add_(1)
        return self._hidden

    def logits(self, hidden: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Float32 logits (rows, last - first) of the tokens from `first` up to, not including, `last`."""
        return torch.nn.functional.linear(hidden, self._head.weight[first:last]).float()


def _causal_mask(padding: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor:
    """The additive mask (prompts, 1, width, width) of left-padded prompts; padding sees itself, lest it see nothing."""
    column = torch.arange(width, device=padding.device)
    seen = (column <= column[:, None]) & (column >= padding[:, None, None]) | (column == column[:, None])
    return torch.zeros(seen.shape, dtype=dtype, device=padding.device).masked_fill_(~seen, -torch.inf)[:, None]
