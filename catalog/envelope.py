"""The envelope of a message on a queue, read without trust in its writer.

The readers of Celery and kombu obey the envelope: it chooses the serializer, the compression and further tasks to call.
This module reads only the form that this program writes: plain JSON in base64, for one queue. So a writer on a queue
can ask for a rendering or report a fact, and can ask for nothing else.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from catalog.bounded import INT32_MAX
from catalog.errors import MessageError


class Opened(NamedTuple):
    """The labels and the body of an opened envelope."""

    task: str  # of a render message; "" for a record
    shown_id: str  # the take's id, as the sender shows it outside
    body: Any
    receipt: str = ""  # of an order: as catalog.orders has it, unverified
    signature: str = ""  # the same
    reads: int = 1  # of an order: `catalog.messages.FORMS_READ` of the control side; 1: of one that says nothing


class _Delivery(BaseModel):
    exchange: Literal[""]
    routing_key: str


class _Properties(BaseModel):
    body_encoding: Literal["base64"]
    delivery_info: _Delivery


class _Headers(BaseModel):
    task: str = ""
    kwargsrepr: str = Field(default="", max_length=200)
    compression: None = None  # a few bytes could become gigabytes
    eta: None = None
    receipt: str = Field(default="", max_length=64)
    signature: str = Field(default="", max_length=128)
    reads: int = Field(default=1, ge=1, le=INT32_MAX)


class _Envelope(BaseModel):
    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


def most_values(json_text: bytes) -> int:
    """As many values as a JSON text may have at most: each follows a comma or opens its list or mapping."""
    return json_text.count(b",") + json_text.count(b"[") + json_text.count(b"{") + 1


def open_envelope(raw: bytes, *, queue: str, bytes_max: int, values_max: int | None = None) -> Opened:
    """Read a message from `queue`. Raises MessageError for any wrong content, also for too many values."""
    if len(raw) > bytes_max:
        raise _refused(f"it has {len(raw):,} bytes, and at most {bytes_max:,} are read")
    try:
        envelope = _Envelope.model_validate(json.loads(raw))
        inner = b64decode(envelope.body, validate=True)
        if values_max is not None and most_values(inner) > values_max:
            raise _refused(f"it has more than {values_max:,} values")
        body = json.loads(inner)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _refused(f"{'.'.join(map(str, first['loc'])) or 'envelope'}: {first['msg']}") from None
    except (ValueError, RecursionError, binascii.Error):  # no JSON, no UTF-8, no base64, or nested without end
        raise _refused("it is no JSON") from None
    if envelope.properties.delivery_info.routing_key != queue:
        raise _refused("it was written for another queue")
    headers = envelope.headers
    return Opened(headers.task, headers.kwargsrepr, body, headers.receipt, headers.signature, headers.reads)


def _refused(why: str) -> MessageError:
    return MessageError(
        "a message was refused unread",
        why=why,
        fix="send only through `tunemill run`; let no other program write to these queues",
    )
