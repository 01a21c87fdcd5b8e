"""Verdicts in the store: each decision on a finished track is stored beside the track, so it survives a lost ledger.

Each verdict is an object of its own that is written once and never changed; the newest verdict on a rendition counts. A
verdict names the audio that was heard and not a row of a ledger, so it also applies in a rebuilt ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from catalog.bounded import Instant, Name, Words, fit_words
from catalog.errors import MessageError
from catalog.forms import Frozen, neutral
from catalog.keys import take_of_verdict
from catalog.track import Slug

VERDICT_VERSION: Final = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
VerdictOutcome = Literal["accepted", "rejected"]


class Verdict(Frozen):
    """One decision about one rendition: a listener's, or the choice by score among the takes of a track."""

    v: Literal[1] = VERDICT_VERSION
    catalog: Slug
    take_id: Name
    audio_sha256: Sha256  # of the file that was heard
    outcome: VerdictOutcome
    reason: Words = ""
    at_ms: Instant
    again: bool = neutral(False)  # of a rejection: another take is to have the place
    spare: bool = neutral(False)  # of an accepted one: it is sound, and others of its track were chosen before it
    picked: bool = neutral(False)  # of an accepted one: a listener has chosen it, whatever the scores say

    @property
    def key(self) -> str:
        """The verdict's key in the store: take, then instant, so that a listing gives a take's verdicts in order."""
        digest = blake2b(self.to_json(), digest_size=4).hexdigest()
        return f"{self.catalog}/verdicts/{self.take_id}-{self.at_ms:014d}-{digest}.json"

    @property
    def rendition(self) -> tuple[str, str]:
        """The rendition that was judged: the take, and the checksum of its audio."""
        return self.take_id, self.audio_sha256

    def to_json(self) -> bytes:
        """The bytes that are stored."""
        return self.model_dump_json(indent=1).encode()


class NewerVerdictError(MessageError):
    """A verdict that only a newer version of this program can read."""


def parse_verdict(body: bytes, key: str) -> Verdict:
    """The verdict that lies at `key`. Raises MessageError for a damaged one, NewerVerdictError for a newer one."""
    try:
        verdict = Verdict.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        said = fit_words(f"{'.'.join(map(str, faults[0]['loc']))}: {faults[0]['msg']}", 300)
        if _is_newer(faults) and take_of_verdict(key):
            raise NewerVerdictError(
                f"{key} cannot be read: {said}",
                why="a newer version of this program wrote the verdict",
                fix="upgrade this machine to that version",
            ) from None
        raise MessageError(f"{key} cannot be read: {said}", why="the object is damaged") from None
    if verdict.key != key:
        raise MessageError(
            f"{key} holds another verdict than its name states", why="somebody has moved or changed the object"
        )
    return verdict


def _is_newer(faults: Sequence[ErrorDetails]) -> bool:
    """True for a later version of the form, or for fields or outcomes that this version does not know."""
    versions = [fault["input"] for fault in faults if fault["loc"] == ("v",)]
    if any(isinstance(version, int) and version > VERDICT_VERSION for version in versions):
        return True
    return all(fault["type"] == "extra_forbidden" or fault["loc"] == ("outcome",) for fault in faults)
