"""Bounded fields: every number and text in a message or a sidecar fits a database column, a log line and a screen.

A worker runs on a machine of a third party, so its messages may hold any value. A name or a number outside its bounds
is refused. Free text, such as a library's error message or a folder's name in an odd encoding, is never refused:
characters that cannot be stored or shown are replaced, and text that is too long is cut. Every bound is wide enough for
the values that our own workers write.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

INT32_MAX: Final = 2**31 - 1  # of a SQL INTEGER
INT64_MAX: Final = 2**63 - 1  # of a SQL BIGINT
INSTANT_MAX_MS: Final = 32_503_680_000_000  # the year 3000; calendars end at 9999, sums of time long before
AUDIO_MAX_MS: Final = 86_400_000  # a day
FILE_BYTES_MAX: Final = 2**40
WORDS_MAX: Final = 4_000
LABEL_MAX: Final = 255
TEXT_MAX: Final = 256 * 1024  # no message that carries a take is larger

NAME_PATTERN: Final = r"^[!-~]{1,128}$"

# Control characters that a terminal obeys (without tab and line feed), and lone surrogates, which UTF-8 lacks.
_UNFIT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def fit_words(text: str, length_max: int = WORDS_MAX) -> str:
    """`text` cut to `length_max` characters, with U+FFFD in place of characters that break a database or a terminal."""
    return _UNFIT.sub("\ufffd", text[:length_max])


def _words(value: Any) -> Any:
    return fit_words(value) if isinstance(value, str) else value


def _label(value: Any) -> Any:
    return fit_words(value, LABEL_MAX).replace("\n", " ") if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]  # of a worker, take, run, batch or record
NameOrNone = Annotated[str, Field(pattern=r"^[!-~]{0,128}$")]  # "" where there is none
Words = Annotated[str, BeforeValidator(_words)]  # for a person: reasons, warnings
Label = Annotated[str, BeforeValidator(_label)]  # names of machines and their parts
Key = Annotated[str, Field(pattern=r"^[!-~]{1,1024}$")]  # of an object in a store; S3 allows no longer one
Text = Annotated[str, Field(max_length=TEXT_MAX)]  # part of a take's identity: as it is, or not at all

Count = Annotated[int, Field(ge=0, le=INT32_MAX)]
BigCount = Annotated[int, Field(ge=0, le=INT64_MAX)]
StageMs = Annotated[int, Field(ge=0, le=2**29 - 1)]  # six days; four stages together fit a SQL INTEGER
Instant = Annotated[int, Field(ge=0, le=INSTANT_MAX_MS)]  # UTC epoch milliseconds
