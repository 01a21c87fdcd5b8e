"""Messages about wrong prices: the fault of a value, and a right value to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError

# The valid value of each key of a price file, as a person would write it.
_RIGHT: Final = {
    "valid_from": "the first day that the prices hold: 2026-12-01",
    "currency": "USD",
    "prices": "a list of prices, each beginning with `- sku:`",
    "sku": "a name in small letters, digits, dots, hyphens and underscores: a100-80gb",
    "match": 'a list of GPU names as drivers print them: ["A100-SXM4-80GB"]',
    "market": "on_demand or spot",
    "unit": "hour, gb_month, gb or song",
    "usd_per_hour": 'dollars as a decimal number with a point, in quotes: "1.64"',
    "usd": 'dollars as a decimal number with a point, in quotes: "0.10"',
    "songs_per_request": "a whole number from 1",
    "vram_gib": "the GPU's memory in GiB as a number: 80",
    "provider": "the provider's name in small letters, as TUNEMILL_RENTAL names it: vast, runpod, lambda",
    "region": "the region's name in quotes",
    "source": "who says so, and when it was read, as text",
}
_FILE_KEYS: Final = ("valid_from", "currency", "prices")
_SHOWN_MAX: Final = 60  # letters of a wrong value


def problem_of(
    error: ValidationError, options: Mapping[str, str] | None = None
) -> tuple[tuple[int | str, ...], str, str]:
    """The first fault: its place in the file, a sentence about it, and the text to write.

    With `options`, by key, the values come from the command line and not from a file.
    """
    first = error.errors(include_url=False)[0]
    place, kind = first["loc"], first["type"]
    key = next((str(part) for part in reversed(place) if isinstance(part, str)), "")
    right = _RIGHT.get(key, "")
    if options and kind not in ("value_error", "price"):
        what = f"{options.get(key, key)} is wrong: {_shown(first['input'])}"
        return place, what, f"write for {options.get(key, key)} {right}"
    if kind == "extra_forbidden":
        keys = _FILE_KEYS if len(place) == 1 else tuple(name for name in _RIGHT if name not in _FILE_KEYS)
        close = get_close_matches(key, keys, n=1)
        fix = f"write {close[0]!r}" if close else f"take it out; the keys there are {', '.join(keys)}"
        return place, f"{key!r} is not a key of a price file there", fix
    if kind == "missing":
        return place, f"{key!r} is missing", f"add `{key}:` with {right}"
    if kind in ("value_error", "price"):
        said = first["msg"].removeprefix("Value error, ")
        named = f"`{key}:` with" if not options else f"for {options.get(key, key)}"
        fix = str(first.get("ctx", {}).get("fix") or f"write {named} {right}")
        return place, f"{key}: {said}" if right and key != "prices" else said, fix
    if not place or place[-1:] == ("prices",) or isinstance(place[-1], int):
        what = "a price file is made of keys with values" if not place else f"{key} is not the list that belongs there"
        what = "the file has no price" if kind == "too_short" and key == "prices" else what
        return place, what, f"write `{key or 'prices'}:` with {right or _RIGHT['prices']}"
    return place, f"{key} is wrong: {_shown(first['input'])}", f"write `{key}:` with {right}"


def _shown(value: object) -> str:
    text = repr(value) if value != "" else "it is empty"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
