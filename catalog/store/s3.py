"""An S3 bucket, or any service that speaks S3, as the store.

"Only if absent" is the service's own conditional write (If-None-Match). A service that refuses the condition, or
that `check` catches ignoring it, gets a look before each such write instead: two writers within the same
milliseconds could then both believe they were first, and the later one's object stays.
One client serves all threads. Errors name the bucket and the action, never a credential.
"""

from __future__ import annotations

import logging
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256 as hash_sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as aws
from botocore.config import Config

from catalog.errors import StoreError, StoreFullError
from catalog.keys import checked_key
from catalog.retry import Backoff
from catalog.settings import without_secrets
from catalog.store.base import ObjectInfo, Receiver
from catalog.store.integrity import CHECK_PREFIX, check_sha256, is_key, prove

log = logging.getLogger(__name__)

ATTEMPTS: Final = 4  # at one request, with growing pauses
CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 60
CONNECTIONS_MAX: Final = 32  # a worker's threads and some to spare
SHA256_BYTES: Final = 32
CONFLICT_TRIES: Final = 8  # a conflict means that another writer is at the same key right now
CONFLICT_BACKOFF: Final = Backoff(first_s=0.1, longest_s=0.8, jitter=0.8)

_CREDENTIALS_FIX: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
_CHUNK_BYTES: Final = 1 << 20
_ABSENT: Final = {"NoSuchKey", "404"}
_FULL: Final = {"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "InsufficientStorage", "507"}


class _Cause(NamedTuple):
    why: str
    fix: str


_DENIED: Final = _Cause(
    "access denied",
    "allow s3:PutObject, s3:GetObject and s3:DeleteObject on the prefix and s3:ListBucket on the bucket "
    "(without the last, S3 answers for an absent object as for a forbidden one)",
)
_CAUSES: Final = {
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "NoSuchBucket": _Cause("there is no such bucket", "create it, or correct TUNEMILL_STORE_URL"),
    "InvalidBucketName": _Cause("that is no bucket name", "correct TUNEMILL_STORE_URL"),
    "InvalidAccessKeyId": _Cause("the service does not know these credentials", _CREDENTIALS_FIX),
    "InvalidClientTokenId": _Cause("the service does not know these credentials", _CREDENTIALS_FIX),
    "SignatureDoesNotMatch": _Cause("the secret key does not belong to the key id", _CREDENTIALS_FIX),
    "ExpiredToken": _Cause("the credentials have expired", "log in again, or use a role that renews itself"),
    "RequestTimeTooSkewed": _Cause("this machine's clock is wrong", "set it; S3 allows 15 minutes"),
    "PermanentRedirect": _Cause("the bucket lies in another region", "set AWS_REGION to the bucket's region"),
    "BadDigest": _Cause("what arrived is not what was sent", "try again; test the network if it goes on"),
}


class S3Store:
    """The store below one prefix of a bucket. Safe for many threads and machines."""

    def __init__(self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url
        self._conditional_writes = True
        with self._words_for("open"):
            self._client = _client(endpoint_url)

    def put(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        """See Store. The service checks the sum again on what reaches it."""
        check_sha256(key, body, sha256)
        with self._words_for(f"write {key}"):
            self._client.put_object(**self._object(key, body, content_type))

    def put_if_absent(self, key: str, body: bytes, *, content_type: str) -> bool:
        """See Store. When an answer is lost on the way and the write is repeated, False may mean one's own first."""
        arguments = self._object(key, body, content_type)
        with self._words_for(f"write {key}"):
            for wait_s in islice(CONFLICT_BACKOFF.waits_s(), CONFLICT_TRIES):
                if not self._conditional_writes:
                    return self._put_after_a_look(arguments)
                try:
                    self._client.put_object(**arguments, IfNoneMatch="*")
                except aws.ClientError as error:
                    if _code(error) in {"PreconditionFailed", "412"}:
                        return False
                    if _code(error) in {"NotImplemented", "501"}:
                        self._give_up_conditions("refuses")
                    elif _code(error) not in {"ConditionalRequestConflict", "409"}:
                        raise
                    else:
                        time.sleep(wait_s)
                else:
                    return True
        raise StoreError(
            f"{self.locate(key)} could not be written",
            why=f"other writers were at it {CONFLICT_TRIES} times in a row",
            fix="try again",
        )

    def find(self, key: str) -> bytes | None:
        """See Store."""
        with self._words_for(f"read {key}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._full(key))
                return bytes(answer["Body"].read())
            except aws.ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise

    def stat(self, key: str) -> ObjectInfo | None:
        """See Store. The checksum is the one that the service checked and kept when the object was written."""
        with self._words_for(f"look at {key}"):
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=self._full(key), ChecksumMode="ENABLED")
            except aws.ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
            return ObjectInfo(key, head["ContentLength"], _ms(head["LastModified"]), _hex(head.get("ChecksumSHA256")))

    def sha256_of(self, key: str) -> str | None:
        """See Store."""
        digest = hash_sha256()
        for chunk in (chunks := self._chunks(key)) or ():
            digest.update(chunk)
        return None if chunks is None else digest.hexdigest()

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """See Store. A large file goes in parts, each of which the service checks."""
        arguments = {"ContentType": content_type, "ChecksumAlgorithm": "SHA256"}
        with self._words_for(f"write {key}"):
            try:
                self._client.upload_file(str(path), self._bucket, self._full(key), ExtraArgs=arguments)
            except S3UploadFailedError as error:  # in front of what was raised
                raise (error.__context__ or error) from None

    def read_into(self, key: str, receiver: Receiver) -> bool:
        """See Store."""
        chunks = self._chunks(key)
        for chunk in chunks or ():
            receiver.write(chunk)
        return chunks is not None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Store."""
        if prefix:
            checked_key(prefix.rstrip("/"))
        with self._words_for(f"list {prefix or 'everything'}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for found in page.get("Contents", []):
                    key = found["Key"].removeprefix(self._prefix)
                    if is_key(key):
                        yield ObjectInfo(key, found["Size"], _ms(found["LastModified"]))

    def delete(self, key: str) -> None:
        """See Store."""
        with self._words_for(f"remove {key}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._full(key))

    def sweep(self, before_ms: int, *, remove: bool = True) -> Sequence[ObjectInfo]:
        """See Store. An upload that did not come to its end leaves nothing here."""
        return ()

    def check(self) -> None:
        """See Store. Also finds out whether the service knows conditional writes."""
        key = f"{CHECK_PREFIX}{secrets.token_hex(8)}"
        body = b"Tunemill wrote this to test the store. It can be removed.\n"
        self.put(key, body, content_type="text/plain", sha256=hash_sha256(body).hexdigest())
        overwritten = self.put_if_absent(key, body, content_type="text/plain")
        self.delete(key)
        if overwritten:
            self._give_up_conditions("ignores")
        prove(self)

    def locate(self, key: str) -> str:
        """See Store."""
        return f"s3://{self._bucket}/{self._full(key)}"

    def _chunks(self, key: str) -> Iterator[bytes] | None:
        """The object's bytes as they arrive; None when there is none."""
        with self._words_for(f"read {key}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._full(key))
            except aws.ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
        return self._arriving(key, answer["Body"])

    def _arriving(self, key: str, body: Any) -> Iterator[bytes]:
        with self._words_for(f"read {key}"):
            yield from body.iter_chunks(_CHUNK_BYTES)

    def _full(self, key: str) -> str:
        return self._prefix + checked_key(key)

    def _object(self, key: str, body: bytes, content_type: str) -> dict[str, Any]:
        return {
            "Bucket": self._bucket,
            "Key": self._full(key),
            "Body": body,
            "ContentType": content_type,
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": b64encode(hash_sha256(body).digest()).decode(),
        }

    def _put_after_a_look(self, arguments: dict[str, Any]) -> bool:
        try:
            self._client.head_object(Bucket=arguments["Bucket"], Key=arguments["Key"])
        except aws.ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            self._client.put_object(**arguments)
            return True
        return False

    def _give_up_conditions(self, how: str) -> None:
        self._conditional_writes = False
        log.warning(
            "the service behind s3://%s %s conditional writes (If-None-Match): looking before each such write instead",
            self._bucket,
            how,
        )

    @contextmanager
    def _words_for(self, action: str) -> Iterator[None]:
        try:
            yield
        except aws.ClientError as error:
            raise self._refusal(action, error) from None
        except (aws.BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no address
            raise StoreError(f"bucket {self._bucket}: cannot {action}", **self._cause(error)._asdict()) from None

    def _refusal(self, action: str, error: aws.ClientError) -> StoreError:
        """The service's answer in words; its own text is left out, it may quote the key id."""
        code = _code(error)
        what = f"bucket {self._bucket}: cannot {action}"
        if code in _FULL:
            return StoreFullError(
                what, why=f"the service has no room left ({code})", fix="free space or raise the quota"
            )
        why, fix = _CAUSES.get(code, _Cause("the service refused", "look the code up in the service's documentation"))
        return StoreError(what, why=f"{why} ({code})", fix=fix)

    def _cause(self, error: Exception) -> _Cause:
        if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
            return _Cause("there are no complete credentials", _CREDENTIALS_FIX)
        if isinstance(error, (aws.ConnectionError, aws.HTTPClientError)):
            address = without_secrets(self._endpoint_url) if self._endpoint_url else "AWS"
            return _Cause(
                f"{address} does not answer ({type(error).__name__})",
                "check the network and TUNEMILL_S3_ENDPOINT_URL",
            )
        return _Cause(type(error).__name__, "check AWS_REGION, AWS_PROFILE, ~/.aws and TUNEMILL_S3_ENDPOINT_URL")


def _client(endpoint_url: str | None) -> Any:
    """One client for all threads; other services than AWS get the path style and no surplus checksums."""
    other = endpoint_url is not None
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS_MAX,
        s3={"addressing_style": "path" if other else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required" if other else "when_supported",
    )
    # A session of our own: making clients from the default one is not safe between threads.
    return boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _hex(checksum: str | None) -> str | None:
    """A checksum of the whole object in hex; one of parts (`...-3`) says nothing about the whole."""
    try:
        digest = b64decode(checksum or "", validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == SHA256_BYTES else None


def _code(error: aws.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
