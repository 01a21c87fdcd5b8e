"""Writing audio codes: guide, choose and write on, with nothing for the host to wait for.

The rows of the decoding are all conditional prompts, then, when guided, all unconditional ones in the same order;
both rows of a take get the same code. Only the 64,000 rows of the output matrix that are codes are computed, so
nothing else can be written, and the end of a text cannot come: exactly as many codes are written as are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch

from catalog.errors import ModelError
from catalog.limits import CODEBOOK_SIZE
from catalog.spec import PlannerSpec
from workers.ace_step.planner.decoding import Decoding
from workers.ace_step.planner.sampling import Settings, choose, choose_unseen, guide


class DecodeRequest(NamedTuple):
    """What one take is to be written from."""

    conditional: Sequence[int]
    unconditional: Sequence[int] | None  # None: no guidance
    planner: PlannerSpec
    seed: int
    n_codes: int


_IDLE: Final = DecodeRequest([], None, PlannerSpec(), seed=0, n_codes=0)  # what a slot that no take has is sampled like


class CodeWriter:
    """Writes the codes of up to `slots` takes at a time, all guided or all not. Not thread-safe."""

    @torch.inference_mode()
    def __init__(self, decoding: Decoding, *, guided: bool, first_code: int, unseen: bool | None = None) -> None:
        device, rows = decoding.device, decoding.shape.rows
        self.decoding = decoding
        self.slots = rows // 2 if guided else rows
        self._guided = guided
        self._first_code = first_code
        self._unseen = device.type != "cpu" if unseen is None else unseen
        self._settings = Settings.of([_IDLE.planner] * self.slots, [_IDLE.seed] * self.slots, device)
        self._idle = torch.ones(self.slots, dtype=torch.bool, device=device)
        self._limited = True  # whether some take uses top-k
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        room = decoding.shape.columns - decoding.shape.prompt
        self._codes = torch.zeros(self.slots, room, dtype=torch.int64, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    @torch.inference_mode()
    def write(self, scores: Sequence[DecodeRequest]) -> list[list[int]]:
        """The codes of `scores`, each as many as it asks for. Raises ModelError when the model yields no numbers.

        All run as long as the longest; what shorter ones write beyond their own length is cut off.
        """
        self.begin(scores)
        self.go_on(max(score.n_codes for score in scores) - 1)
        return self.read(scores)

    @torch.inference_mode()
    def begin(self, scores: Sequence[DecodeRequest]) -> None:
        """Read the prompts of `scores` and write the first code of each."""
        self._take_up(scores)
        self._draw(self.decoding.prefill(self._prompts(scores)))

    @torch.inference_mode()
    def go_on(self, steps: int) -> None:
        """Write so many codes more, without waiting for the device."""
        step = self._limited_step if self._limited else self._free_step
        for _ in range(steps):
            self.decoding.run(step.__name__, step)

    def read(self, scores: Sequence[DecodeRequest]) -> list[list[int]]:
        """What was written for `scores`, once the device is done. Raises ModelError when it came to no numbers."""
        if not bool(self._finite):
            raise ModelError(
                "the planner yields values that are not numbers",
                why="its weights are damaged, or their range is wider than the data type",
                fix="fetch the planner's weights again",
            )
        codes = self._codes[: len(scores), : max(score.n_codes for score in scores)].tolist()
        return [row[: score.n_codes] for row, score in zip(codes, scores, strict=True)]

    def _take_up(self, scores: Sequence[DecodeRequest]) -> None:
        slots = [*scores, *[_IDLE] * (self.slots - len(scores))]
        fresh = Settings.of([slot.planner for slot in slots], [slot.seed for slot in slots], self._idle.device)
        for kept, column in zip(self._settings, fresh, strict=True):
            kept.copy_(column)
        self._limited = any(score.planner.top_k for score in scores)
        self._idle.fill_(True)
        self._idle[: len(scores)] = False
        self._step.zero_()
        self._finite.fill_(True)

    def _prompts(self, scores: Sequence[DecodeRequest]) -> list[Sequence[int] | None]:
        """One prompt a row; slots that no take has are idle."""
        idle: list[Sequence[int] | None] = [None] * (self.slots - len(scores))
        rows = [*(score.conditional for score in scores), *idle]
        return [*rows, *(score.unconditional for score in scores), *idle] if self._guided else rows

    def _free_step(self) -> torch.Tensor:
        return self._draw(self.decoding.forward())

    def _limited_step(self) -> torch.Tensor:
        """The same work where some take uses top-k: a graph of its own."""
        return self._draw(self.decoding.forward())

    def _draw(self, hidden: torch.Tensor) -> torch.Tensor:
        """Draw a code a slot from the `hidden` states of all rows, and hand it to the decoding."""
        logits = self.decoding.logits(hidden, self._first_code, self._first_code + CODEBOOK_SIZE)
        if self._guided:
            logits = guide(logits[: self.slots], logits[self.slots :], self._settings.cfg_scale)
        # A sum is finite when all it adds up is; one pass, and no tensor in between.
        self._finite.logical_and_((logits.sum(dim=1).isfinite() | self._idle).all())
        if self._unseen:
            codes = choose_unseen(logits, self._settings, self._step, limited=self._limited)
        else:
            codes = choose(logits, self._settings, self._step)
        self._codes.index_copy_(1, self._step, codes[:, None])
        self.decoding.ids.view(-1, self.slots).copy_(codes + self._first_code)
        self._step.add_(1)
        return codes
