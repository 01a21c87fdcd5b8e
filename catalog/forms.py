"""Published forms: the values that are written down or sent, and the rule by which they may grow.

What the first recipe writes it writes for ever, whether or not a value is the default. A field that is added later
declares its neutral value, at which everything is as it was before there was the field. Every form leaves it out as
long as it has that value. So a new field changes neither the fingerprint of a spec nor the bytes of a message or a
sidecar that do not use it, and a version that does not know it reads them. A neutral value never changes; a default
that people are offered may, and belongs where the choice is offered.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of values that are complete when made and refuse what they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def neutral(value: Any, **constraints: Any) -> Any:
    """A field that came after the first recipe, at whatever depth: `field: float = neutral(1.0, ge=0)`.

    `value` is what a form says that does not have the field.
    """
    return Field(default=value, exclude_if=lambda given: type(given) is type(value) and given == value, **constraints)


def canonical_json(value: dict[str, Any]) -> bytes:
    """The bytes that an identity is hashed from: keys sorted, no blanks, UTF-8 (halves of surrogate pairs included)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")
