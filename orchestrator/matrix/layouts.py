"""Layouts: the meaning of the headings and keys that other programs use, and of their requests.

A request for another task, for other weights or from given audio cannot become a catalog's track; it is refused and
never converted. Sampler settings that the catalog decides are counted and reported. Unknown headings are reported as
unused.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from catalog.errors import PresetError
from catalog.models import DEFAULT_PLANNER, TURBO
from catalog.spec import INSTRUMENTAL
from orchestrator.matrix.names import printable, quoted
from orchestrator.matrix.rows import ALIASES, COLUMNS, column_of, is_empty, is_same, plain_heading
from orchestrator.matrix.values import UnusableValue, is_not_set, read_flag, read_length_s, read_tempo

Meaning = Literal[
    "column",
    "measure",  # a number in a unit of its own, or under a heading that may also hold words
    "instrumental",
    "vocals",
    "random_seed",
    "task",
    "audio",
    "weights",
    "setting",
    "nested",
    "misspelt",
    "ignored",
    "unused",
]


class HeadingRole(NamedTuple):
    """The meaning of a heading: a column, or an instruction that changes the reading of the row."""

    meaning: Meaning
    column: str = ""
    unit_s: float = 1.0  # of a length


# Lengths in a unit of their own, and so many seconds each.
_UNITS_S: Final = {
    **dict.fromkeys(("duration_ms", "length_ms", "music_length_ms", "duration_milliseconds", "milliseconds"), 0.001),
    **dict.fromkeys(("duration_min", "duration_minutes", "length_min", "length_minutes", "minutes"), 60.0),
}
_ROLES: Final[dict[str, HeadingRole]] = {
    **{name: HeadingRole("measure", "duration_s", unit_s) for name, unit_s in _UNITS_S.items()},
    # Read where they hold a number; "slow" and "short" are words for people.
    **{"tempo": HeadingRole("measure", "bpm"), "length": HeadingRole("measure", "duration_s")},
    **dict.fromkeys(
        ("instrumental", "is_instrumental", "make_instrumental", "instrumental_only", "force_instrumental"),
        HeadingRole("instrumental"),
    ),
    **dict.fromkeys(("vocals", "has_vocals", "with_vocals", "vocal"), HeadingRole("vocals")),
    **dict.fromkeys(
        ("use_random_seed", "random_seed", "random_seed_checkbox", "randomize_seed"), HeadingRole("random_seed")
    ),
    **dict.fromkeys(("task", "task_type", "lm_mode"), HeadingRole("task")),
    **dict.fromkeys(
        "src_audio src_audio_path source_audio source_audio_path ctx_audio ctx_audio_path reference_audio "
        "reference_audio_path ref_audio ref_audio_path ref_audio_input input_audio init_audio audio_prompt "
        "audio2audio_enable audio_codes audio_code_string text2music_audio_code_string continue_clip_id".split(),
        HeadingRole("audio"),
    ),
    **dict.fromkeys(
        "model model_name model_id dit_model synth_model config_path checkpoint checkpoint_path lora lora_path "
        "lora_name lora_name_or_path adapter mv model_version".split(),
        HeadingRole("weights"),
    ),
    **dict.fromkeys(
        "inference_steps infer_step infer_steps num_inference_steps steps guidance_scale cfg cfg_scale shift "
        "infer_method scheduler scheduler_type sampler sampler_name timesteps use_adg negative_prompt negative_tags "
        "lm_negative_prompt lm_model lm_model_path".split(),
        HeadingRole("setting"),
    ),
    **dict.fromkeys(
        "param_obj params parameters meta metas metadata user_metadata input inputs request row generation_params "
        "generation_config".split(),
        HeadingRole("nested"),
    ),
}
# Headings of other programs for the caption, the likeliest first.
_NEAR_CAPTIONS: Final = (
    *("description", "desc", "text", "text_prompt", "prompt_text", "music_prompt", "positive_prompt", "tags", "style"),
    *("styles", "style_prompt", "style_tags", "gpt_description_prompt", "sample_query", "query", "music_description"),
    *("song_description", "track_description", "caption_text", "music_caption", "beschreibung", "concept", "idea"),
)
# Words that a heading for captions has among others, the likeliest first, and words that make it another one.
_CAPTION_WORDS: Final = ("caption", "prompt", "description", "beschreibung", "style", "tags")
_NO_CAPTION_WORDS: Final = frozenset(
    "id ids path file filename url length count negative lang language suffix hash title".split()
)
_OUR_TASKS: Final = frozenset("text2music text_to_music t2m generate generation generate_music music create".split())
_OUR_WEIGHTS: Final = frozenset(
    (TURBO.name, "turbo", "acestep", "ace_step", "acestep_v15", "ace_step_v1_5", "ace_step1_5")
)
# The values of a setting that ask for nothing that a catalog does not make.
_USUAL: Final = {
    **dict.fromkeys(("inference_steps", "infer_step", "infer_steps", "num_inference_steps", "steps"), ("0", "8")),
    **dict.fromkeys(("guidance_scale", "cfg", "cfg_scale"), ("0", "1", "7")),  # the turbo model has none
    **{"shift": ("0", "3"), "infer_method": ("ode",), "lm_negative_prompt": ("no user input",)},
    **dict.fromkeys(("lm_model", "lm_model_path"), (DEFAULT_PLANNER.lower(),)),
}
_BLANK: Final = frozenset(("n/a", "#n/a", "nan", "null", "undefined", "-", "--", "–", "—"))  # in a column of text
_NO_VOICE: Final = re.compile(
    r"\W*(inst(r|rumental)?( only| track| music)?|(no|without) (vocals?|lyrics|singing|voice)"
    r"|纯音乐|純音楽|インスト)\W*"
)
_SECTION: Final = re.compile(r"\[\s*(verse|chorus|pre-chorus|bridge|hook|outro)\b", re.IGNORECASE)
_TAG_LINE: Final = re.compile(r"\s*(\[[^\]]*\]|\([^)]*\))?\s*")


def is_typo(name: str, known: str) -> bool:
    """True when one slip of the finger makes `name` of `known`: a letter too many, too few, wrong or swapped."""
    if len(known) < 5 or abs(len(name) - len(known)) > 1 or name == f"{known}s":
        return False
    start = next((at for at, pair in enumerate(zip(name, known, strict=False)) if pair[0] != pair[1]), len(known))
    ours, theirs = name[start:], known[start:]
    return (
        ours[1:] == theirs
        or ours == theirs[1:]
        or ours[1:] == theirs[1:]
        or (ours[:2] == theirs[1::-1] and ours[2:] == theirs[2:])
    )


class Layout:
    """The meaning of each heading in one import, and the counts of settings that are not used."""

    def __init__(self, columns: Mapping[str, str], ignored: Iterable[str]) -> None:
        self._own = {plain_heading(heading): _own_role(column) for heading, column in columns.items()}
        self._own.update(dict.fromkeys(map(plain_heading, ignored), HeadingRole("ignored")))
        self._taken = {role.column for role in self._own.values() if role.meaning in ("column", "measure")}
        self._roles: dict[str, HeadingRole] = {}
        self.unused: dict[str, None] = {}
        self.unheeded: Counter[str] = Counter()  # settings that the catalog decides, by heading

    def role(self, heading: str) -> HeadingRole:
        """The meaning of `heading`; a column that a person has named otherwise is taken from there alone."""
        if (role := self._roles.get(heading)) is None:
            role = self._roles[heading] = self._find_role(plain_heading(heading))
        return role

    def _find_role(self, plain: str) -> HeadingRole:
        if own := self._own.get(plain):
            return own
        column = column_of(plain)
        role = HeadingRole("column", column) if column else _ROLES.get(plain, HeadingRole("unused"))
        if role.column in self._taken and role.meaning in ("column", "measure"):
            return HeadingRole("unused")
        if role.meaning == "unused" and (meant := next((name for name in ALIASES if is_typo(plain, name)), "")):
            return HeadingRole("misspelt", ALIASES[meant])
        return role

    def misspelt(self, headings: Iterable[str]) -> list[tuple[str, str]]:
        """Headings that are probably slips, with the column that each was meant for and no other heading has."""
        roles = {heading: self.role(heading) for heading in headings}
        there = {role.column for role in roles.values() if role.meaning != "misspelt"}
        return [
            (name, role.column)
            for name, role in roles.items()
            if role.meaning == "misspelt" and role.column not in there
        ]

    def read(self, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """The raw values of a row by column. Raises UnusableValue for a request that a catalog cannot express."""
        row = _Request(self)
        row.add(pairs)
        return row.values()


def _own_role(column: str) -> HeadingRole:
    """The role that a person gives a heading. Raises UnusableValue for a column that there is not."""
    plain = plain_heading(column)
    if found := column_of(plain):
        return HeadingRole("column", found)
    role = _ROLES.get(plain, HeadingRole("unused"))
    if role.meaning in ("measure", "instrumental", "vocals"):
        return role
    raise UnusableValue(
        f"{quoted(column)} is not a column here",
        f"the columns are {', '.join(COLUMNS)}, instrumental, duration_ms and duration_min",
    )


class _Request:
    """One row of another program while it is read."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._found: dict[str, Any] = {}
        self._from: dict[str, str] = {}  # column -> heading
        self._misspelt: list[tuple[str, str]] = []
        self._near: list[str] = []
        self._demands: dict[str, str] = {}  # heading -> a property that no track of a catalog can have
        self._instrumental: bool | None = None
        self._flag_heading = ""  # that says so
        self._drop_seed = False

    def add(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Take in headings and values; those of nested objects after the others."""
        nested: list[Mapping[str, Any]] = []
        for heading, value in pairs:
            role = self._layout.role(heading)
            if role.meaning == "column":
                self._take(role.column, heading, value)
            elif role.meaning == "nested" and (inner := _object(value)) is not None:
                nested.append(inner)
            else:
                self._weigh(role, heading, value)
        for inner in nested:  # what stands further out counts
            known = set(self._found)
            self.add((key, value) for key, value in inner.items() if self._layout.role(key).column not in known)

    def _take(self, column: str, heading: str, value: Any) -> None:
        if isinstance(value, dict):
            self._layout.unused[printable(heading)] = None
            return
        if isinstance(value, list):
            value = ("\n" if column == "lyrics" else ", ").join(str(each) for each in value)
        if column == "seed":
            value = self._first_seed(value)
        if _is_blank(value, column):
            return
        other = self._found.setdefault(column, value)
        if column == "language" and other == "unknown":
            self._found[column] = value
        elif not is_same(column, other, value) and (column, value) != ("language", "unknown"):
            first = self._from[column]
            raise _refused(
                f"{quoted(first)} and {quoted(heading)} both say the {column}, and differ",
                f"take one of them away, or leave one unread with {ignore_option(heading)}",
            )
        self._from.setdefault(column, heading)

    def _first_seed(self, value: Any) -> Any:
        """The first seed of several; the others are counted, since the takes of a track number theirs on from it."""
        first, *others = str(value).strip("[] ").split(",")
        if others:
            self._layout.unheeded["seeds after the first"] += 1
        return first if others else value

    def _weigh(self, role: HeadingRole, heading: str, value: Any) -> None:
        """Interpret a heading that is no column: a flag, a demand, a setting, or an unknown heading."""
        unset = value is None or value in ("", [], {}) or is_not_set(value, "")
        match role.meaning:
            case "measure" if not unset:
                self._measure(role, heading, value)
            case "instrumental" if not unset:
                self._instrumental, self._flag_heading = self._flag(heading, value), heading
            case "vocals" if value not in (None, ""):
                self._vocals(heading, value)
            case "random_seed" if not unset:
                self._drop_seed |= _is_true(value)
            case "task" if not unset and plain_heading(str(value)) not in _OUR_TASKS:
                self._demands[heading] = f"the task {quoted(value)}"
            case "audio" if not unset and not _is_false(value):
                self._demands[heading] = f"given audio ({printable(heading)})"
            case "weights" if not unset and not _is_ours(value):
                self._demands[heading] = f"other weights ({printable(heading)}: {quoted(value)})"
            case "setting":
                usual = _USUAL.get(plain_heading(heading), ())
                self._layout.unheeded[printable(heading)] += not unset and _plain_number(value) not in usual
            case "misspelt":
                self._misspelt += [] if unset else [(heading, role.column)]
                self._layout.unused[printable(heading)] = None
            case "unused" | "nested":
                self._layout.unused[printable(heading)] = None
                self._near += [] if unset else [heading]

    def _measure(self, role: HeadingRole, heading: str, value: Any) -> None:
        """Take a length in its own unit, or a tempo or length under a heading that may also hold words."""
        try:
            self._take(
                role.column, heading, read_tempo(value) if role.column == "bpm" else read_length_s(value, role.unit_s)
            )
        except UnusableValue as error:
            if error.kind is not PresetError or plain_heading(heading) not in ("tempo", "length"):
                raise UnusableValue(f"{heading}: {quoted(value)} {error.words}", error.fix, error.kind) from None
            self._layout.unused[printable(heading)] = None

    def _flag(self, heading: str, value: Any) -> bool:
        if _NO_VOICE.fullmatch(str(value).casefold()):
            return True
        try:
            return read_flag(value)
        except UnusableValue as error:
            raise _refused(f"{heading}: {quoted(value)} {error.words}", error.fix) from None

    def _vocals(self, heading: str, value: Any) -> None:
        """A flag says whether there is a voice; a text describes it, and has no place here."""
        if _NO_VOICE.fullmatch(text := str(value).strip().casefold()) or text == "none" or _is_false(value):
            self._instrumental, self._flag_heading = True, heading
        elif _is_true(value):
            self._instrumental, self._flag_heading = False, heading
        else:
            self._layout.unused[printable(heading)] = None

    def values(self) -> dict[str, Any]:
        """The row by column. Raises UnusableValue where its parts contradict each other."""
        found = self._found
        if self._demands:
            ignored = " ".join(map(ignore_option, self._demands))
            raise _refused(
                f"it asks for {', '.join(self._demands.values())}",
                f"to make new music of it with the catalog's model, add {ignored}",
            )
        for heading, column in self._misspelt:
            if column not in found:
                raise _refused(
                    f"{quoted(heading)} is not a column here, and probably a slip",
                    f"add {column_option(column, heading)}, or {ignore_option(heading)}",
                )
        if self._drop_seed:
            found.pop("seed", None)
        if "caption" not in found and (near := near_captions(self._near)):
            raise no_caption(near[0])
        self._refuse_lyrics_as_caption()
        found.update(self._lyrics())
        return found

    def _refuse_lyrics_as_caption(self) -> None:
        """Some services call the lyrics the prompt, and the prompt the style or the tags."""
        if "lyrics" not in self._found and _SECTION.search(str(self._found.get("caption", ""))):
            heading = self._from["caption"]
            style = next(iter(near_captions(self._near)), "HEADING")
            raise _refused(
                f"{quoted(heading)} holds lyrics, with sections such as [Verse], and no description",
                f"add {column_option('lyrics', heading)} {column_option('caption', style)}",
            )

    def _lyrics(self) -> dict[str, str]:
        """The lyrics by the row's flags for vocals. Raises UnusableValue when these are contradictory or incomplete."""
        lyrics = self._found.get("lyrics")
        sung = lyrics is not None and not _NO_VOICE.fullmatch(str(lyrics).casefold())
        if lyrics is not None and not sung:
            return {"lyrics": INSTRUMENTAL}
        if self._instrumental and sung and not _is_structure(str(lyrics)):
            raise _refused(
                "it is marked instrumental and has lyrics to sing",
                f"empty one of the two, or leave the mark unread with {ignore_option(self._flag_heading)}",
            )
        if self._instrumental and lyrics is None:
            return {"lyrics": INSTRUMENTAL}
        if self._instrumental is False and lyrics is None:
            raise _refused(
                "it asks for singing and has no lyrics",
                f"write its lyrics, or leave the mark unread with {ignore_option(self._flag_heading)}",
            )
        return {}


def column_option(column: str, heading: str) -> str:
    """The option that reads `heading` as `column`, as a shell takes it."""
    return f"--column {shlex.quote(f'{column}={heading}')}"


def ignore_option(heading: str) -> str:
    """The option that leaves `heading` unread, as a shell takes it."""
    return f"--ignore {shlex.quote(heading)}"


def near_captions(headings: Iterable[str]) -> list[str]:
    """Those of `headings` that may mean the caption, the likeliest first."""
    ranks = {heading: _caption_rank(plain_heading(heading)) for heading in headings}
    return sorted((heading for heading, rank in ranks.items() if rank is not None), key=lambda each: ranks[each] or 0)


def _caption_rank(plain: str) -> int | None:
    if plain in _NEAR_CAPTIONS:
        return _NEAR_CAPTIONS.index(plain)
    words = plain.split("_")
    found = [place for place, word in enumerate(_CAPTION_WORDS) if word in words]
    return len(_NEAR_CAPTIONS) + found[0] if found and not _NO_CAPTION_WORDS & set(words) else None


def no_caption(near: str) -> UnusableValue:
    """The error for a row or a heading without a caption, where `near` may be meant."""
    return _refused(f"there is no caption; {quoted(near)} may be meant", f"add {column_option('caption', near)}")


def _refused(words: str, fix: str) -> UnusableValue:
    return UnusableValue(words, fix, PresetError)


def _object(value: Any) -> Mapping[str, Any] | None:
    """`value` as an object, also where it is written as text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _is_blank(value: Any, column: str) -> bool:
    return is_empty(value, column) or str(value).strip().casefold() in _BLANK


def _is_true(value: Any) -> bool:
    try:
        return read_flag(value)
    except UnusableValue:
        return False


def _is_false(value: Any) -> bool:
    try:
        return not read_flag(value)
    except UnusableValue:
        return False


def _is_ours(value: Any) -> bool:
    """True for the weights that a catalog uses unless it says otherwise, as other programs call them."""
    name = re.split(r"[/\\]", str(value).strip().casefold())[-1]
    return name in _OUR_WEIGHTS or plain_heading(name) in _OUR_WEIGHTS


def _plain_number(value: Any) -> str:
    text = str(value).strip().casefold()
    return text.removesuffix(".0")


def _is_structure(lyrics: str) -> bool:
    """True for lyrics of tags alone: the parts of a piece, and not a word to sing."""
    return all(_TAG_LINE.fullmatch(line) for line in lyrics.splitlines())
