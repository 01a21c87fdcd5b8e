"""Tags: the facts about a track that its maker states for players and libraries, and that its sound does not depend on.

They are no part of a spec: a take keeps its id whatever its tags become. A file has the tags of the order it was made
by. There is no clock in them, so the same order gives the same file.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from catalog.forms import Frozen, neutral

TAG_MAX: Final = 1000  # characters; the fields of some players show 30


def _text(value: Any) -> Any:
    """A year may be written as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _known_date(value: str) -> str:
    try:
        if value and not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", value):
            raise ValueError
        date.fromisoformat(value + "2000-01-01"[len(value) :])
    except ValueError:
        words = f"{value!r} is no year, month or day; write it as 2026, 2026-05 or 2026-05-01"
        raise ValueError(words) from None
    return value


TagText = Annotated[str, Field(max_length=TAG_MAX)]


class Tags(Frozen):
    """The stated facts; an empty one is not written."""

    artist: TagText = neutral("", description="Who is named as the performer.")
    album_artist: TagText = neutral("", description="Who is named for the album as a whole.")
    album: TagText = neutral("", description="Instead of the catalog's name.")
    date: Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int), AfterValidator(_known_date)] = (
        neutral("", description="Of release: a year, a month or a day, such as 2026-05-01.")
    )
    licence: TagText = neutral("", description="Its name or its address.")
    copyright: TagText = neutral("", description="The notice, such as '2026 Example Ltd'.")
