"""Names: the rules for names of presets, axes and models, and a safe way to show a text that breaks them.

A name becomes part of object keys, file names and commands, so few characters are allowed. An invalid name may hold any
text, so no message repeats it raw or in full.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"  # of a preset, an axis and an axis value
MODEL_NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
FILE_NAME: Final = r"^[^/\\]+$"

NAME_RULE: Final = "a name is made of a-z, 0-9, '_' and '-', begins with a letter or digit, and is at most 64 long"
MODEL_NAME_RULE: Final = NAME_RULE.replace("0-9,", "0-9, '.',")
RULES: Final = {
    NAME: NAME_RULE,
    MODEL_NAME: MODEL_NAME_RULE,
    FILE_NAME: "it must be the name of a file in the same folder, without '/' and '\\'",
}

_QUOTED_MAX: Final = 80


def is_name(text: str) -> bool:
    """True when `text` may be the name of a preset."""
    return re.fullmatch(NAME[1:-1], text) is not None


def is_model_name(text: str) -> bool:
    """True when `text` may be the name of a model."""
    return re.fullmatch(MODEL_NAME[1:-1], text) is not None


def bare(text: str) -> str:
    """`text` without parts that do not belong to a name: leading folders, a trailing '.yaml', surrounding blanks."""
    last = re.split(r"[/\\]", text.strip(" /\\"))[-1].strip()
    return re.sub(r"\.ya?ml$", "", last, flags=re.IGNORECASE)


def as_name(text: str) -> str:
    """The name nearest to `text`: small letters without accents, `_` for other signs; "" when nothing is left."""
    plain = unicodedata.normalize("NFKD", bare(text)).casefold().encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9_-]+", "_", plain).strip("_-")[:64]


def quoted(value: object) -> str:
    """`value` as Python writes it, with every strange character spelt out; of a long one the beginning and the size."""
    whole = repr(value)
    if len(whole) <= _QUOTED_MAX:
        return whole
    size = f" ({len(value):,} characters)" if isinstance(value, str) else ""
    return f"{whole[: _QUOTED_MAX - 4]}...{whole[-1]}{size}"


def printable(text: str) -> str:
    """`text` with control characters and invalid bytes spelt out, because a path may hold any byte."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def listed(names: list[str], most: int = 40) -> str:
    """The names that exist, in words."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"there are: {', '.join(names[:most])}{more}" if names else "there are none"
