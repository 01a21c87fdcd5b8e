"""Tracks and takes: a catalog's entries, and the seeded renditions of each.

A track keeps its key as long as its slot exists in the catalog, whatever its spec becomes; a take's id
changes with anything that changes its sound. So "new", "changed" and "unchanged" can be told apart.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from typing import Annotated

from pydantic import Field

from catalog.bounded import Text
from catalog.forms import Frozen
from catalog.seeds import SEED_LIMIT, Seeds, take_seeds
from catalog.spec import TrackSpec

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

    @cached_property
    def key(self) -> str:
        """The track's lasting name, such as `spa/thermal/ambient/season=winter/0007`."""
        axes = [f"{name}={value}" for name, value in sorted(self.axes.items())]
        return "/".join([self.catalog, self.zone, self.genre, *axes, self.slot])

    def take(self, number: int = 1) -> Take:
        """Take `number`, counted from 1."""
        planner = self.spec.planner
        seeds = take_seeds(self.key, number, self.seed, one_plan=planner is not None and planner.reuse)
        return Take(track=self, number=number, dit_seed=seeds.dit, lm_seed=seeds.lm)


def axes_of_key(key: str) -> dict[str, str]:
    """The further axes that stand in a track's key, between its genre and its slot."""
    pairs = (part.partition("=") for part in key.split("/")[3:-1])
    return {axis: value for axis, _, value in pairs}


class Take(Frozen):
    """One seeded rendition of a track; what one render message carries."""

    track: Track
    number: int = Field(default=1, ge=1, le=1000)
    dit_seed: int = Field(ge=0, lt=SEED_LIMIT)
    lm_seed: int = Field(ge=0, lt=SEED_LIMIT)

    @cached_property
    def id(self) -> str:
        """24 hex digits: the same for the same slot, spec, number and seeds, and for nothing else."""
        text = f"{self.track.key}\n{self.spec.fingerprint}\n{self.number}\n{self.dit_seed}\n{self.lm_seed}"
        return blake2b(text.encode(), digest_size=12).hexdigest()

    @property
    def spec(self) -> TrackSpec:
        """The track's spec, which the model is told."""
        return self.track.spec

    @property
    def seeds(self) -> Seeds:
        """The take's two seeds: for the diffusion model and for the language model."""
        return Seeds(dit=self.dit_seed, lm=self.lm_seed)
