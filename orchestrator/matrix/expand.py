"""Expanding: a catalog becomes its tracks, one after the other, the same on every machine.

Tracks stream: a cell at a time, never the whole catalog. Each has everything it needs, has been held to the
model's limits, and fits the model's text prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from catalog.errors import UnknownNameError
from catalog.models import TURBO
from catalog.prompt import CAPTION_TOKENS_MAX, token_ceiling
from catalog.seeds import stable_hash
from catalog.spec import OpenField, TrackSpec
from catalog.track import Track
from orchestrator.matrix.captions import Template, as_genre, tempo_parts, tempo_word
from orchestrator.matrix.cells import Cell, cells
from orchestrator.matrix.files import AUTO_MODEL
from orchestrator.matrix.filling import bounds_of, refuse_without_planner
from orchestrator.matrix.names import MODEL_NAME_RULE, is_model_name, quoted
from orchestrator.matrix.planned import (
    PlannedTrack,
    diffusion,
    master,
    refuse_long_caption,
    refuse_long_lyrics,
    with_suffix,
)
from orchestrator.matrix.prompt_tracks import expand_prompts
from orchestrator.matrix.reading import LoadedCatalog
from orchestrator.matrix.rotation import lane_order, odometer
from orchestrator.matrix.titles import Titles

_OPTIONS = ("duration_s", "takes", "steps", "shift", "lyrics", "language")
_WHEELS: Final[dict[OpenField, str]] = {
    **{"bpm": "tempo", "keyscale": "key", "timesignature": "metre", "duration": "duration_s"},
}
_MERGE_MARGIN = 8  # tokens by which a filled caption may exceed the sum of its parts, where words run together


def expand(catalog: LoadedCatalog, model: str | None = None) -> Iterator[PlannedTrack]:
    """Every track of `catalog`, streaming, in a fixed order.

    `model` is the model to write into the specs once 'auto' has been resolved; without it, the one the catalog
    names (the turbo model for 'auto'). Raises what `cells` raises, CaptionTooLongError, UnknownNameError for what
    can be no model's name, and PresetError when something is left to the planner of a model that has none.
    """
    chosen = model or (TURBO.name if catalog.model == AUTO_MODEL else catalog.model)
    if not is_model_name(chosen):
        raise UnknownNameError(
            f"there is no model {quoted(chosen)}", why=MODEL_NAME_RULE, fix="write a model's name after --model"
        )
    if catalog.preset.content.prompts is not None:
        yield from expand_prompts(catalog, chosen)
        return
    for cell in cells(catalog):
        yield from expand_cell(catalog, cell, chosen)


def expand_cell(catalog: LoadedCatalog, cell: Cell, model: str = TURBO.name) -> Iterator[PlannedTrack]:
    """The tracks of one cell."""
    maker = _CellTracks(catalog, cell, model)
    return (maker.track(number) for number in range(cell.tracks))


class _CellTracks:
    """Makes the n-th track of a cell from n alone."""

    def __init__(self, catalog: LoadedCatalog, cell: Cell, model: str) -> None:
        self._catalog, self._cell, self._model = catalog.name, cell, model
        self._settings, self._master = cell.settings, master(cell.settings)
        refuse_without_planner(cell.settings, model)
        self._open = frozenset(cell.settings.open)
        self._tempos = (cell.settings.tempo.low, cell.settings.tempo.high)
        self._tempo_parts = tempo_parts(*self._tempos)
        tempos = (self._tempos, *self._tempo_parts)
        self._bounds = {each: bounds_of(cell.settings, self._open, each) for each in tempos}
        self._genre = catalog.library.genre(cell.genre)
        zone, genre = catalog.library.zone(cell.zone).content, self._genre.content
        self._genre_word = as_genre(genre.name)
        self._moods = cell.settings.moods or zone.moods
        taken = {mood.casefold() for mood in self._moods}
        self._more_moods = tuple(mood for mood in genre.moods if mood.casefold() not in taken)
        self._lists = {"instruments": genre.instruments, "texture": genre.textures, "scene": zone.scenes}
        self._templates = [Template.parse(text) for text in genre.captions]
        self._key = stable_hash("cell", catalog.name, cell.name)
        self._wheels = [self._sizes(template) for template in self._templates]
        self._odometers = [odometer(self._key, sizes, len(self._templates)) for sizes in self._wheels]
        self._tight = [self._may_overflow(template) for template in self._templates]
        self._titles = Titles(catalog.name, cell.zone, cell.genre, (zone.title_words, genre.title_words))
        for lyrics in cell.settings.lyrics:
            refuse_long_lyrics(lyrics, str(catalog.preset.at("defaults", "lyrics")), cell.name)

    def track(self, number: int) -> PlannedTrack:
        """Track `number` of the cell, counted from 0."""
        cell, settings = self._cell, self._settings
        block, position = divmod(number, len(self._templates))
        lane = (position + lane_order(self._key, len(self._templates), block)) % len(self._templates)
        places = self._odometers[lane].places(block, lane)
        at = {name: place for (name, _), place in zip(self._wheels[lane], places, strict=True)}
        tempo = self._tempo(self._templates[lane], at)
        caption = with_suffix(self._templates[lane].fill(self._words(at, tempo[0])), settings.caption_suffix)
        slot = f"{number + 1:04d}"
        if self._tight[lane]:
            refuse_long_caption(caption, str(self._genre.at("captions", lane)), f"{cell.name}/{slot}")
        option: dict[str, Any] = {name: getattr(settings, name)[at.get(name, 0)] for name in _OPTIONS}
        keyscale, timesignature = settings.keys[at.get("key", 0)], settings.timesignatures[at.get("metre", 0)]
        spec = TrackSpec(
            caption=caption,
            lyrics=option["lyrics"],
            language=option["language"],
            bpm=None if "bpm" in self._open else tempo[0],
            keyscale=None if "keyscale" in self._open else keyscale,
            timesignature=None if "timesignature" in self._open else timesignature,
            duration_s=max(settings.duration_s) if "duration" in self._open else option["duration_s"],
            bounds=self._bounds.get(tempo, self._bounds[self._tempos]),
            model=self._model,
            diffusion=diffusion(option["steps"], option["shift"]),
            planner=settings.planner,
            master=self._master,
        )
        track = Track(
            catalog=self._catalog,
            zone=cell.zone,
            genre=cell.genre,
            axes=cell.axes,
            slot=slot,
            title=self._titles.title(number * cell.places + cell.place),
            seed=settings.seed,
            spec=spec,
        )
        return PlannedTrack(track, option["takes"])

    def _tempo(self, template: Template, at: dict[str, int]) -> tuple[int, int]:
        """From which tempo to which: one and the same, unless the planner chooses.

        Where the caption has a word for the tempo, the planner chooses among those that the word is true of.
        """
        if "bpm" not in self._open:
            bpm = self._tempos[0] + at.get("tempo", 0)
            return bpm, bpm
        return self._tempo_parts[at.get("tempo", 0)] if "tempo_word" in template.places else self._tempos

    def _sizes(self, template: Template) -> list[tuple[str, int]]:
        """The wheels that turn under `template`: what its caption uses first, then what stands beside it.

        What the planner chooses has no wheel; of an open tempo the caption's word for it has one.
        """
        settings, used = self._settings, template.places
        if "mood2" in used:
            moods = [("mood", len(self._moods)), ("mood2", len(self._more_moods) or len(self._moods) - 1)]
        else:
            moods = [("mood", len(self._moods) + len(self._more_moods))]
        sizes = [("instruments", len(self._lists["instruments"])), *moods]
        sizes += [(name, len(self._lists[name])) for name in ("texture", "scene") if name in used]
        worded = "bpm" in self._open and "tempo_word" in used
        sizes += [("tempo", len(self._tempo_parts) if worded else settings.tempo.high - settings.tempo.low + 1)]
        sizes += [("key", len(settings.keys)), ("metre", len(settings.timesignatures))]
        sizes += [(name, len(getattr(settings, name))) for name in _OPTIONS]
        still = {_WHEELS[field] for field in self._open} - ({"tempo"} if worded else set())
        return [(name, size) for name, size in sizes if size > 1 and name not in still]

    def _words(self, at: dict[str, int], bpm: int) -> dict[str, str]:
        words = {name: entries[at.get(name, 0)] for name, entries in self._lists.items()}
        first = at.get("mood", 0)
        if self._more_moods:
            words["mood"] = (*self._moods, *self._more_moods)[first]
            words["mood2"] = self._more_moods[at.get("mood2", 0)]
        else:
            # All of the genre's moods are the zone's too: two different ones of these.
            words["mood"] = self._moods[first]
            words["mood2"] = self._moods[(first + 1 + at.get("mood2", 0)) % len(self._moods)]
        return {**words, "genre": self._genre_word, "tempo_word": tempo_word(bpm)}

    def _may_overflow(self, template: Template) -> bool:
        """Whether some caption of `template` could be too long; if not, none needs to be measured."""
        words = {name: max(entries, key=token_ceiling) for name, entries in self._lists.items()}
        mood = max((*self._moods, *self._more_moods), key=token_ceiling)
        longest = template.fill(
            {**words, "mood": mood, "mood2": mood, "genre": self._genre_word, "tempo_word": "mid-tempo"}
        )
        ceiling = token_ceiling(with_suffix(longest, self._settings.caption_suffix))
        return ceiling + _MERGE_MARGIN > CAPTION_TOKENS_MAX
