"""Writing audio codes: guide, choose and append one code per step, without making the host wait.

The rows of the decoding are first all conditional prompts and then, when guided, all unconditional ones in the same
order; the two rows of a take get the same code. Only the 64,000 rows of the output matrix that stand for codes are
computed. So no other token can be written, the text cannot end early, and exactly as many codes are written as were
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch

from catalog.errors import ModelError
from catalog.limits import CODEBOOK_SIZE
from catalog.spec import PlannerSpec
from workers.ace_step.planner.decoding import Decoding
from workers.ace_step.planner.sampling import SamplingParams, choose, choose_on_device, guide


class DecodeRequest(NamedTuple):
    """The prompts and settings that the codes of one take follow from."""

    conditional: Sequence[int]
    unconditional: Sequence[int] | None  # None: no guidance
    planner: PlannerSpec
    seed: int
    n_codes: int


_IDLE: Final = DecodeRequest([], None, PlannerSpec(), seed=0, n_codes=0)  # sampling settings of a slot without a take


class CodeWriter:
    """Writes the codes of up to `slots` takes at a time, all guided or all not. Not thread-safe."""

    @torch.inference_mode()
    def __init__(self, decoding: Decoding, *, guided: bool, first_code: int, on_device: bool | None = None) -> None:
        device, rows = decoding.device, decoding.shape.rows
        self.decoding = decoding
        self.slots = rows // 2 if guided else rows
        self._guided = guided
        self._first_code = first_code
        self._on_device = device.type != "cpu" if on_device is None else on_device
        self._params = SamplingParams.of([_IDLE.planner] * self.slots, [_IDLE.seed] * self.slots, device)
        self._idle = torch.ones(self.slots, dtype=torch.bool, device=device)
        self._limited = True  # whether some take uses top-k
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        columns = decoding.shape.columns - decoding.shape.prompt
        self._codes = torch.zeros(self.slots, columns, dtype=torch.int64, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    @torch.inference_mode()
    def write(self, requests: Sequence[DecodeRequest]) -> list[list[int]]:
        """The codes of `requests`, as many as each asks for. Raises ModelError when the model yields no numbers.

        All requests run as long as the longest; the surplus codes of shorter ones are cut off.
        """
        self.begin(requests)
        self.write_on(max(request.n_codes for request in requests) - 1)
        return self.read(requests)

    @torch.inference_mode()
    def begin(self, requests: Sequence[DecodeRequest]) -> None:
        """Read the prompts of `requests` and write the first code of each."""
        self._load(requests)
        self._draw(self.decoding.prefill(self._prompts(requests)))

    @torch.inference_mode()
    def write_on(self, steps: int) -> None:
        """Write so many codes more, without waiting for the device."""
        step = self._limited_step if self._limited else self._free_step
        for _ in range(steps):
            self.decoding.run(step.__name__, step)

    def read(self, requests: Sequence[DecodeRequest]) -> list[list[int]]:
        """The codes written for `requests`, once the device is done. Raises ModelError when it yields no numbers."""
        if not bool(self._finite):
            raise ModelError(
                "the planner yields values that are not numbers",
                why="its weights are damaged, or their range is wider than the data type",
                fix="fetch the planner's weights again",
            )
        codes = self._codes[: len(requests), : max(request.n_codes for request in requests)].tolist()
        return [row[: request.n_codes] for row, request in zip(codes, requests, strict=True)]

    def _load(self, requests: Sequence[DecodeRequest]) -> None:
        slots = [*requests, *[_IDLE] * (self.slots - len(requests))]
        fresh = SamplingParams.of([slot.planner for slot in slots], [slot.seed for slot in slots], self._idle.device)
        for kept, column in zip(self._params, fresh, strict=True):
            kept.copy_(column)
        self._limited = any(request.planner.top_k for request in requests)
        self._idle.fill_(True)
        self._idle[: len(requests)] = False
        self._step.zero_()
        self._finite.fill_(True)

    def _prompts(self, requests: Sequence[DecodeRequest]) -> list[Sequence[int] | None]:
        """One prompt a row; slots that no take has are idle."""
        idle: list[Sequence[int] | None] = [None] * (self.slots - len(requests))
        rows = [*(request.conditional for request in requests), *idle]
        return [*rows, *(request.unconditional for request in requests), *idle] if self._guided else rows

    def _free_step(self) -> torch.Tensor:
        return self._draw(self.decoding.forward())

    def _limited_step(self) -> torch.Tensor:
        """`_free_step` where some take uses top-k, under a name, and so with a graph, of its own."""
        return self._draw(self.decoding.forward())

    def _draw(self, hidden: torch.Tensor) -> torch.Tensor:
        """Draw a code a slot from the `hidden` states of all rows, and hand it to the decoding."""
        logits = self.decoding.logits(hidden, self._first_code, self._first_code + CODEBOOK_SIZE)
        if self._guided:
            logits = guide(logits[: self.slots], logits[self.slots :], self._params.cfg_scale)
        # A sum is finite when all it adds up is; one pass, and no tensor in between.
        self._finite.logical_and_((logits.sum(dim=1).isfinite() | self._idle).all())
        if self._on_device:
            codes = choose_on_device(logits, self._params, self._step, limited=self._limited)
        else:
            codes = choose(logits, self._params, self._step)
        self._codes.index_copy_(1, self._step, codes[:, None])
        self.decoding.ids.view(-1, self.slots).copy_(codes + self._first_code)
        self._step.add_(1)
        return codes
