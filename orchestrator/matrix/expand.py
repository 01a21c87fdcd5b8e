"""Expanding: turns a catalog into its tracks, in an order that is the same on every machine.

Tracks are made one cell at a time, so the whole catalog is never in memory. Each track is complete, lies within the
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
from orchestrator.matrix.bounds import bounds_of, refuse_without_planner
from orchestrator.matrix.captions import Template, as_genre, tempo_parts, tempo_word
from orchestrator.matrix.cells import Cell, cells
from orchestrator.matrix.files import AUTO_MODEL
from orchestrator.matrix.names import MODEL_NAME_RULE, is_model_name, quoted
from orchestrator.matrix.planned import (
    PlannedTrack,
    refuse_long_caption,
    refuse_long_lyrics,
    refuse_long_plan,
    with_suffix,
)
from orchestrator.matrix.prompt_tracks import expand_prompts
from orchestrator.matrix.reading import LoadedCatalog
from orchestrator.matrix.rotation import odometer, sequence_order
from orchestrator.matrix.titles import Titles

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
            f"there is no model {quoted(chosen)}", why=MODEL_NAME_RULE, fix="write the name of a model after --model"
        )
    if catalog.preset.content.prompts is not None:
        planned = expand_prompts(catalog, chosen)
    else:
        planned = (each for cell in cells(catalog) for each in expand_cell(catalog, cell, chosen))
    if catalog.preset.content.masters:
        yield from planned
        return
    for each in planned:
        yield each._replace(track=each.track.model_copy(update={"keeps_master": False}))


def expand_cell(catalog: LoadedCatalog, cell: Cell, model: str = TURBO.name) -> Iterator[PlannedTrack]:
    """The tracks of one cell."""
    maker = _CellTracks(catalog, cell, model)
    return (maker.track(number) for number in range(cell.tracks))


class _CellTracks:
    """Makes the n-th track of a cell from n alone."""

    def __init__(self, catalog: LoadedCatalog, cell: Cell, model: str) -> None:
        self._catalog, self._cell, self._model = catalog.name, cell, model
        self._counter = catalog.counter
        self._settings = cell.settings
        self._options = cell.settings.options
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
        self._titles = Titles(catalog.name, cell.zone_key, cell.genre_key, (zone.title_words, genre.title_words))
        self._where_lyrics = str(catalog.preset.at("defaults", "lyrics"))
        for lyrics in cell.settings.lyrics:
            refuse_long_lyrics(lyrics, self._where_lyrics, cell.name, catalog.counter)

    def track(self, number: int) -> PlannedTrack:
        """Track `number` of the cell, counted from 0."""
        cell, settings = self._cell, self._settings
        at, template_index = self._positions(number)

        def turned(name: str, choices: tuple[Any, ...]) -> Any:
            return choices[at.get(name, 0)]

        tempo = self._tempo(self._templates[template_index], at)
        slot = f"{number + 1:04d}"
        option = {name: turned(name, choices) for name, choices in self._options.items()}
        keyscale = turned("key", settings.keys)
        timesignature = turned("metre", settings.timesignatures)
        spec = TrackSpec(
            caption=self._caption(template_index, at, tempo[0], f"{cell.name}/{slot}"),
            lyrics=option["lyrics"],
            language=option["language"],
            bpm=None if "bpm" in self._open else tempo[0],
            keyscale=None if "keyscale" in self._open else keyscale,
            timesignature=None if "timesignature" in self._open else timesignature,
            duration_s=max(settings.duration_s) if "duration" in self._open else option["duration_s"],
            bounds=self._bounds.get(tempo, self._bounds[self._tempos]),
            model=self._model,
            diffusion=settings.diffusion.picked(turned),
            planner=settings.planner,
            master=settings.master,
        )
        refuse_long_plan(spec, self._where_lyrics, f"{cell.name}/{slot}", self._counter)
        track = Track(
            catalog=self._catalog,
            zone=cell.zone_key,
            genre=cell.genre_key,
            axes=cell.axes,
            slot=slot,
            title=self._titles.title(number * cell.combinations + cell.combination),
            seed=settings.seed,
            spec=spec,
            tags=settings.tags,
            checks=settings.checks,
            moods=self._named_moods(template_index, at) if settings.tags else (),
        )
        return PlannedTrack(track, option["takes"])

    def _positions(self, number: int) -> tuple[dict[str, int], int]:
        """The position in each list for track `number`, and the index of its caption's template.

        Each template has a sequence of its own, and they take turns.
        """
        count = len(self._templates)
        block, turn = divmod(number, count)
        index = (turn + sequence_order(self._key, count, block)) % count
        positions = self._odometers[index].positions(block, index)
        return {name: each for (name, _), each in zip(self._wheels[index], positions, strict=True)}, index

    def _caption(self, template_index: int, at: dict[str, int], bpm: int, track: str) -> str:
        """The caption of `track`. Raises CaptionTooLongError."""
        filled = self._templates[template_index].fill(self._words(at, bpm))
        caption = with_suffix(filled, self._settings.caption_suffix)
        if self._tight[template_index]:
            refuse_long_caption(caption, str(self._genre.at("captions", template_index)), track, self._counter)
        return caption

    def _named_moods(self, template_index: int, at: dict[str, int]) -> tuple[str, ...]:
        """The moods that the caption names."""
        words = self._words(at, bpm=0)
        used = self._templates[template_index].placeholders
        return tuple(words[name] for name in ("mood", "mood2") if name in used)

    def _tempo(self, template: Template, at: dict[str, int]) -> tuple[int, int]:
        """Lowest and highest tempo: one and the same, unless the planner chooses.

        Where the caption has a word for the tempo, the planner chooses among those that the word is true of.
        """
        if "bpm" not in self._open:
            bpm = self._tempos[0] + at.get("tempo", 0)
            return bpm, bpm
        return self._tempo_parts[at.get("tempo", 0)] if "tempo_word" in template.placeholders else self._tempos

    def _sizes(self, template: Template) -> list[tuple[str, int]]:
        """The wheels that turn under `template`: those of its caption first, then those of the other fields.

        A field that the planner chooses has no wheel; of an open tempo the caption's word for it has one.
        """
        settings, used = self._settings, template.placeholders
        if "mood2" in used:
            moods = [("mood", len(self._moods)), ("mood2", len(self._more_moods) or len(self._moods) - 1)]
        else:
            moods = [("mood", len(self._moods) + len(self._more_moods))]
        sizes = [("instruments", len(self._lists["instruments"])), *moods]
        sizes += [(name, len(self._lists[name])) for name in ("texture", "scene") if name in used]
        worded = "bpm" in self._open and "tempo_word" in used
        sizes += [("tempo", len(self._tempo_parts) if worded else settings.tempo.high - settings.tempo.low + 1)]
        sizes += [("key", len(settings.keys)), ("metre", len(settings.timesignatures))]
        sizes += [(name, len(choices)) for name, choices in self._options.items()]
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
        """True when some caption of `template` could be too long; if not, none needs to be measured."""
        words = {name: max(entries, key=token_ceiling) for name, entries in self._lists.items()}
        mood = max((*self._moods, *self._more_moods), key=token_ceiling)
        longest = template.fill(
            {**words, "mood": mood, "mood2": mood, "genre": self._genre_word, "tempo_word": "mid-tempo"}
        )
        ceiling = token_ceiling(with_suffix(longest, self._settings.caption_suffix))
        return ceiling + _MERGE_MARGIN > CAPTION_TOKENS_MAX
