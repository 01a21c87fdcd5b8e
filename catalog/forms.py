"""Published forms: the values that are stored or sent, and the rule by which new fields are added to them.

A field of the first recipe is written for ever, even when it has its default. A field that is added later declares a
neutral value: at this value, the program behaves as it did before the field existed, and every published form leaves
the field out. So a new field changes no fingerprint, message or sidecar that does not use it, and an older version
still reads them. A neutral value never changes. A default that is offered to people may change; it is declared where it
is offered.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

_Form = TypeVar("_Form", bound=BaseModel)


class Frozen(BaseModel):
    """Base of values that are complete when they are made and refuse unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def neutral(value: Any, **constraints: Any) -> Any:
    """A field that was added after the first recipe, at any depth: `field: float = neutral(1.0, ge=0)`.

    `value` is the value that a form without the field stands for.
    """
    return Field(default=value, exclude_if=lambda given: type(given) is type(value) and given == value, **constraints)


def without_later_fields(value: _Form) -> _Form:
    """`value` with each of its own later fields at its neutral value: as the first recipe would have written it."""
    later = {name: field.default for name, field in type(value).model_fields.items() if field.exclude_if is not None}
    return value.model_copy(update=later)


def canonical_json(value: dict[str, Any]) -> bytes:
    """The bytes that an identity is hashed from: keys sorted, no blanks, UTF-8 (halves of surrogate pairs included)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")
