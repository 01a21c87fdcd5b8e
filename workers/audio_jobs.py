"""Jobs on stored audio: one line of JSON in for each, one line out, for commands of the control side.

What is wrong with one piece of audio is the answer to its job; a store that stays away ends the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import TypeVar

from pydantic import ValidationError

from catalog.errors import MessageError
from catalog.forms import Frozen
from workers.storage import TakeStorage

_Job = TypeVar("_Job", bound=Frozen)


class UnusableAudioError(Exception):
    """Stored audio is gone, or is not what its sidecar says."""


def answer_all(lines: Iterable[str], form: type[_Job], answer: Callable[[_Job], Frozen]) -> Iterator[str]:
    """The answer to each job of `lines`, which are of that form. Raises MessageError for a line that is none."""
    for line in lines:
        try:
            job = form.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise MessageError(f"a job cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        yield answer(job).model_dump_json()


def read_stored(storage: TakeStorage, key: str, digest: str) -> bytes:
    """The bytes of stored audio, which hash to `digest` (SHA-256). Raises UnusableAudioError, ObjectRefused."""
    body = storage.find_object(key)
    if body is None:
        raise UnusableAudioError(f"{key} is not in the store; `tunemill catalog verify` tells what else is gone")
    if sha256(body).hexdigest() != digest:
        raise UnusableAudioError(f"{key} was changed or damaged in the store")
    return body
