"""Planned tracks: the tracks that a catalog expands to, and the last checks of their texts."""

from __future__ import annotations

from typing import NamedTuple

from catalog.errors import CaptionTooLongError
from catalog.prompt import CAPTION_TOKENS_MAX, LYRICS_TOKENS_MAX, token_ceiling, words_over
from catalog.track import Track


class PlannedTrack(NamedTuple):
    """A track and how many takes of it the catalog asks for."""

    track: Track
    takes: int


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
