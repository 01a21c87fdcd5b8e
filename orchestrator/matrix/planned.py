"""Planned tracks: what a catalog expands to, and the last check each text passes before it is one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from catalog.errors import CaptionTooLongError
from catalog.prompt import CAPTION_TOKENS_MAX, LYRICS_TOKENS_MAX, token_ceiling, words_over
from catalog.spec import DiffusionSpec, MasterSpec
from catalog.track import Track
from orchestrator.matrix.settling import Settings


class PlannedTrack(NamedTuple):
    """A track and how many takes of it the catalog asks for."""

    track: Track
    takes: int


@lru_cache(maxsize=1000)
def diffusion(steps: int, shift: float) -> DiffusionSpec:
    """One object for each pair, as thousands of tracks share a few."""
    return DiffusionSpec(steps=steps, shift=shift)


def master(settings: Settings) -> MasterSpec:
    """How the tracks of a cell are finished."""
    fields: dict[str, Any] = {
        name: getattr(settings, name) for name in ("format", "bit_depth", "loudness_lufs", "peak_dbtp")
    }
    return MasterSpec(**fields)


def with_suffix(caption: str, suffix: str) -> str:
    """`caption` with the catalog's suffix, joined by a comma unless the suffix brings its own sign."""
    if not suffix:
        return caption
    return caption + (suffix if suffix[0] in " ,.;:!?" else f", {suffix}")


def refuse_long_caption(caption: str, where: str, track: str) -> None:
    """Raise CaptionTooLongError when `caption` would push the metadata out of the model's text."""
    tokens = token_ceiling(caption)
    if tokens > CAPTION_TOKENS_MAX:
        raise CaptionTooLongError(
            f"{where}: the caption of {track} takes about {tokens} tokens; {CAPTION_TOKENS_MAX} fit",
            why=f"tempo, metre, key and duration stand after it and would be cut off: {caption[:100]!r}...",
            fix=f"cut about {words_over(caption, CAPTION_TOKENS_MAX)} words",
        )


def refuse_long_lyrics(lyrics: str, where: str, track: str) -> None:
    """Raise CaptionTooLongError when `lyrics` would lose their end."""
    tokens = token_ceiling(lyrics)
    if tokens > LYRICS_TOKENS_MAX:
        raise CaptionTooLongError(
            f"{where}: the lyrics of {track} take about {tokens:,} tokens; {LYRICS_TOKENS_MAX:,} fit",
            why=f"the model would not see their end: {lyrics[:60]!r}...",
            fix=f"cut about {words_over(lyrics, LYRICS_TOKENS_MAX)} words",
        )
