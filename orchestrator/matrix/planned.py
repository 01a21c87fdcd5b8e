"""Planned tracks: the tracks to which a catalog expands, after the last checks of their texts."""

from __future__ import annotations

from typing import NamedTuple

from catalog.errors import CaptionTooLongError
from catalog.limits import planner_prompt_tokens_max
from catalog.prompt import CAPTION_TOKENS_MAX, LYRICS_TOKENS_MAX, PromptFit, TokenCounter
from catalog.spec import TrackSpec
from catalog.track import Track

_SHORT_LYRICS = 400  # letters that fit beside any caption and any length
_PLANNER_FRAME_TOKENS = 60  # at least, of the planner's own words around caption and lyrics


class PlannedTrack(NamedTuple):
    """A track and how many takes of it the catalog asks for."""

    track: Track
    takes: int


def with_suffix(caption: str, suffix: str) -> str:
    """`caption` with the catalog's suffix, joined by a comma unless the suffix brings its own sign."""
    if not suffix:
        return caption
    return caption + (suffix if suffix[0] in " ,.;:!?" else f", {suffix}")


def refuse_long_caption(caption: str, where: str, track: str, counter: TokenCounter) -> None:
    """Raise CaptionTooLongError when `caption` is sure to push the metadata out of the model's text."""
    if counter.fit(caption, CAPTION_TOKENS_MAX) is PromptFit.TOO_LONG:
        raise CaptionTooLongError(
            f"{where}: the caption of {track} takes {counter.in_words(caption, CAPTION_TOKENS_MAX)}",
            why=f"tempo, metre, key and duration stand after the caption and would be cut off: {caption[:100]!r}...",
            fix=counter.cut(caption, CAPTION_TOKENS_MAX),
        )


def refuse_long_lyrics(lyrics: str, where: str, track: str, counter: TokenCounter) -> None:
    """Raise CaptionTooLongError when `lyrics` are sure to lose their end."""
    if counter.fit(lyrics, LYRICS_TOKENS_MAX) is PromptFit.TOO_LONG:
        raise CaptionTooLongError(
            f"{where}: the lyrics of {track} take {counter.in_words(lyrics, LYRICS_TOKENS_MAX)}",
            why=f"the model would not read the end of the lyrics: {lyrics[:60]!r}...",
            fix=counter.cut(lyrics, LYRICS_TOKENS_MAX),
        )


def refuse_long_plan(spec: TrackSpec, where: str, track: str, counter: TokenCounter) -> None:
    """Raise CaptionTooLongError when caption and lyrics are sure to leave the planner no room for the codes."""
    if spec.planner is None or len(spec.lyrics) <= _SHORT_LYRICS:
        return
    room = planner_prompt_tokens_max(spec.duration_s) - _PLANNER_FRAME_TOKENS
    text = f"{spec.caption}\n{spec.lyrics}"
    if counter.fit(text, room) is PromptFit.TOO_LONG:
        raise CaptionTooLongError(
            f"{where}: caption and lyrics of {track} take {counter.in_words(text, room)} beside the planner's codes",
            why=f"the planner's context holds both, and {spec.duration_s} s of music are {spec.n_codes:,} codes",
            fix=f"{counter.cut(text, room)}, shorten the track, or write 'planner: false'",
        )
