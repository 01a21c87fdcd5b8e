"""Tracks and takes: the entries of a catalog, and the seeded renditions of each entry.

A track keeps its key as long as its slot exists in the catalog, even when its spec changes. A take's id changes with
every change that changes its sound. So a plan can tell new, changed and unchanged takes apart.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from typing import Annotated

from pydantic import Field

from catalog.bounded import Text
from catalog.flaws import FlawPolicy
from catalog.forms import Frozen, neutral
from catalog.seeds import SEED_LIMIT, Seeds, take_seeds
from catalog.spec import TrackSpec
from catalog.tags import Tags

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Track(Frozen):
    """One catalog entry: its place (catalog, zone, genre, further axes, slot), its title and its spec."""

    catalog: Slug
    zone: Slug
    genre: Slug
    axes: dict[Text, Text] = {}  # the further axes of the matrix, such as {"daypart": "morning"}
    # Names the entry among those of its cell: the running number, or for imported prompts a content key.
    slot: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: Text = ""
    seed: int | None = Field(default=None, ge=0, lt=SEED_LIMIT)  # pinned; None: follows from the key
    spec: TrackSpec
    tags: Tags | None = neutral(None)  # stated facts for players; None: the catalog states none
    moods: tuple[Text, ...] = neutral(())  # that its caption names, where the catalog states tags
    keeps_master: bool = neutral(True)  # False: the finished file alone is stored
    checks: dict[Slug, FlawPolicy] = neutral({})  # by kind of flaw, where the catalog judges otherwise than the checks

    @cached_property
    def key(self) -> str:
        """The track's permanent name, such as `spa/thermal/ambient/season=winter/0007`."""
        axes = [f"{name}={value}" for name, value in sorted(self.axes.items())]
        return "/".join([self.catalog, self.zone, self.genre, *axes, self.slot])

    def take(self, number: int = 1, *, own_plan: bool = False) -> Take:
        """Take `number`, counted from 1; with `own_plan` it has one even where the takes of the track share a plan."""
        seeds = take_seeds(self.key, number, self.seed, one_plan=self.shares_plan and not own_plan)
        return Take(track=self, number=number, dit_seed=seeds.dit, lm_seed=seeds.lm)

    @property
    def shares_plan(self) -> bool:
        """True when further takes of the track follow the plan of its first."""
        return self.spec.planner is not None and self.spec.planner.reuse


def axes_of_key(key: str) -> dict[str, str]:
    """The values of the further axes in a track's key, between its genre and its slot."""
    pairs = (part.partition("=") for part in key.split("/")[3:-1])
    return {axis: value for axis, _, value in pairs}


class Take(Frozen):
    """One seeded rendition of a track; a render message carries exactly one."""

    track: Track
    number: int = Field(default=1, ge=1, le=1000)
    dit_seed: int = Field(ge=0, lt=SEED_LIMIT)
    lm_seed: int = Field(ge=0, lt=SEED_LIMIT)

    @cached_property
    def id(self) -> str:
        """24 hex digits; equal exactly when slot, spec, number and seeds are equal."""
        return self._hash(self.spec.fingerprint)

    @cached_property
    def sound_id(self) -> str:
        """24 hex digits: the same for takes of one slot that differ at most in their finishing."""
        return self._hash(self.spec.sound)

    def _hash(self, of_spec: str) -> str:
        text = f"{self.track.key}\n{of_spec}\n{self.number}\n{self.dit_seed}\n{self.lm_seed}"
        return blake2b(text.encode(), digest_size=12).hexdigest()

    @property
    def spec(self) -> TrackSpec:
        """The spec of the take's track."""
        return self.track.spec

    @property
    def follows_first_plan(self) -> bool:
        """True when the take is rendered from the plan of its track's first take, whose planner seed it then has."""
        return self.track.shares_plan and self.number > 1 and self.lm_seed == self.track.take().lm_seed

    @property
    def seeds(self) -> Seeds:
        """The take's two seeds: for the diffusion model and for the language model."""
        return Seeds(dit=self.dit_seed, lm=self.lm_seed)
