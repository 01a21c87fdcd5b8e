"""An S3 bucket, or a bucket of any S3-compatible service, as the store.

"Only if absent" is the service's own conditional write (If-None-Match). Some services refuse the condition while they
accept the same write without it, or are found to ignore it. For these, the store looks for the object before each such
write; then two writers within the same milliseconds may both believe that they were first, and the later object stays.
`s3_wire` holds the request style of a service. Errors name the bucket and the action, never a credential.
"""

from __future__ import annotations

import logging
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import md5
from hashlib import sha256 as hash_sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as aws

from catalog.errors import StoreError
from catalog.keys import checked_key
from catalog.retry import Backoff
from catalog.store.base import ObjectInfo, Receiver
from catalog.store.integrity import CHECK_PREFIX, check_sha256, is_key, prove
from catalog.store.s3_wire import Addressing, Checksums, S3Wire
from catalog.store.s3_words import code_of, is_absent, is_full, is_passing, no_answer, refusal, status_of

log = logging.getLogger(__name__)

SHA256_BYTES: Final = 32
CONFLICT_TRIES: Final = 8  # a conflict means that another writer is at the same key right now
CONFLICT_BACKOFF: Final = Backoff(first_s=0.1, longest_s=0.8, jitter=0.8)

_CHUNK_BYTES: Final = 1 << 20
_THERE: Final = frozenset(("PreconditionFailed", "412", "304", "NotModified"))
_CONFLICTS: Final = frozenset(("ConditionalRequestConflict", "OperationAborted", "409"))
_FOR_EVER: Final = "max-age=31536000, immutable"  # the key of audio and artefacts holds their checksum
_EACH_TIME: Final = "no-cache"  # a sidecar or a verdict may be replaced


class S3Store:
    """The store below one prefix of a bucket. Safe for many threads and machines."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        addressing: Addressing = "auto",
        checksums: Checksums = "auto",
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._conditional_writes = True
        self._conditions_hold = False  # a write has met its condition: not every one is said to fail
        try:
            self._wire = S3Wire(bucket, endpoint_url=endpoint_url, addressing=addressing, checksums=checksums)
        except (aws.BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no address
            raise no_answer(f"bucket {bucket}: cannot open", error, endpoint_url or "AWS") from None

    def put(self, key: str, body: bytes, *, content_type: str, sha256: str, file_name: str = "") -> None:
        """See Store. The service compares the checksum again with the bytes that it received."""
        check_sha256(key, body, sha256)
        arguments = self._object(key, body, content_type) | {"CacheControl": _FOR_EVER}
        if file_name:
            arguments["ContentDisposition"] = _disposition(file_name)
        with self._words_for(f"write {key}"):
            is_proved = self._write(arguments)
        if not is_proved:
            self._prove_kept(key, sha256)

    def put_if_absent(self, key: str, body: bytes, *, content_type: str) -> bool:
        """See Store. When an answer is lost on the way and the write is repeated, False may mean one's own first."""
        arguments = self._object(key, body, content_type) | {"CacheControl": _EACH_TIME}
        with self._words_for(f"write {key}"):
            is_proved = self._write_if_absent(arguments)
        if is_proved is False:
            self._prove_kept(key, hash_sha256(body).hexdigest())
        return is_proved is not None

    def find(self, key: str) -> bytes | None:
        """See Store."""
        chunks = self._chunks(key)
        return None if chunks is None else b"".join(chunks)

    def stat(self, key: str) -> ObjectInfo | None:
        """See Store. The checksum is the one that the service checked and kept when the object was written."""
        place = {"Bucket": self._bucket, "Key": self._full(key)}

        def look(client: Any, checksums: bool) -> Any:
            return client.head_object(**place, **({"ChecksumMode": "ENABLED"} if checksums else {}))

        with self._words_for(f"look at {key}"):
            try:
                head = self._wire.ask(look, has_checksums=True)
            except aws.ClientError as error:
                if is_absent(error):
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
        arguments = {"ContentType": content_type, "CacheControl": _FOR_EVER}

        def upload(client: Any, **sums: str) -> None:
            try:
                client.upload_file(str(path), self._bucket, self._full(key), ExtraArgs=arguments | sums)
            except S3UploadFailedError as error:  # in front of the error's own text
                raise (error.__context__ or error) from None

        def upload_with_sums(client: Any, checksums: bool) -> None:
            try:
                upload(client, **({"ChecksumAlgorithm": "SHA256"} if checksums else {}))
            except aws.ClientError as error:
                # Of a stream the sum follows in a trailer, which services refuse that take it in a header.
                if not checksums or is_passing(error) or is_full(error):
                    raise
                upload(client)

        with self._words_for(f"write {key}"):
            self._wire.ask(upload_with_sums)
        kept, sent = self.stat(key), path.stat().st_size
        if kept is None or kept.size != sent:
            raise self._not_kept(key, f"it has {kept.size if kept else 0:,} bytes of {sent:,}")

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
            for found in self._listed(self._prefix + prefix):
                key = found["Key"].removeprefix(self._prefix)
                if is_key(key):
                    yield ObjectInfo(key, found["Size"], _ms(found["LastModified"]))

    def delete(self, key: str) -> None:
        """See Store."""
        place = {"Bucket": self._bucket, "Key": self._full(key)}
        with self._words_for(f"remove {key}"):
            try:
                self._wire.ask(lambda client, _: client.delete_object(**place))
            except aws.ClientError as error:
                if not is_absent(error):  # some services say so
                    raise

    def sweep(self, before_ms: int, *, remove: bool = True) -> Sequence[ObjectInfo]:
        """See Store. An upload that did not come to its end leaves nothing here."""
        return ()

    def check(self) -> None:
        """See Store. Also finds out how the service wants to be asked, and whether it knows conditional writes."""
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

    # ------------------------------------------------------------ writing

    def _object(self, key: str, body: bytes, content_type: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._full(key), "Body": body, "ContentType": content_type}

    def _write(self, arguments: dict[str, Any]) -> bool:
        """Write an object; True when the service has proved by a digest that it has the same bytes."""
        digest = md5(arguments["Body"], usedforsecurity=False)
        proof = {
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": b64encode(hash_sha256(arguments["Body"]).digest()).decode(),
        }
        old_proof = {"ContentMD5": b64encode(digest.digest()).decode()}

        def write(client: Any, checksums: bool) -> bool:
            answer = client.put_object(**arguments, **(proof if checksums else old_proof))
            return checksums or str(answer.get("ETag", "")).strip('"').lower() == digest.hexdigest()

        return self._wire.ask(write, has_checksums=True, writes=True)

    def _write_if_absent(self, arguments: dict[str, Any]) -> bool | None:
        """The same for an object that is not there yet; None when it is."""
        for wait_s in islice(CONFLICT_BACKOFF.waits_s(), CONFLICT_TRIES):
            if not self._conditional_writes:
                return None if self._is_there(arguments) else self._write(arguments)
            try:
                is_proved = self._write(arguments | {"IfNoneMatch": "*"})
            except aws.ClientError as error:
                code = code_of(error)
                is_conflict = code in _CONFLICTS or status_of(error) == 409
                if code in _THERE and (self._conditions_hold or self._is_there(arguments)):
                    return None
                if is_conflict and code not in _CONFLICTS and self._is_there(arguments):
                    return None  # some services say so
                if is_conflict:
                    time.sleep(wait_s)
                elif is_passing(error) or is_full(error):
                    raise
                else:
                    return self._write_without_condition(arguments, error)
            else:
                self._conditions_hold = True
                return is_proved
        if self._is_there(arguments):
            return None
        raise StoreError(
            f"s3://{self._bucket}/{arguments['Key']} could not be written",
            why=f"other programs wrote it {CONFLICT_TRIES} times in a row",
            fix="run the same command again; if the error comes back, find out which other program writes below this "
            "prefix",
        )

    def _write_without_condition(self, arguments: dict[str, Any], refused: aws.ClientError) -> bool | None:
        """Write after a look. Raises `refused` when the same write is refused without its condition too."""
        try:
            if self._is_there(arguments):
                return None
            is_proved = self._write(arguments)
        except aws.ClientError:
            raise refused from None
        self._give_up_conditions("refuses", code_of(refused))
        return is_proved

    def _is_there(self, arguments: dict[str, Any]) -> bool:
        place = {"Bucket": arguments["Bucket"], "Key": arguments["Key"]}
        try:
            self._wire.ask(lambda client, _: client.head_object(**place))
        except aws.ClientError as error:
            if is_absent(error):
                return False
            raise
        return True

    def _give_up_conditions(self, how: str, code: str = "") -> None:
        self._conditional_writes = False
        log.warning(
            "the service behind s3://%s %s conditional writes (If-None-Match%s): "
            "looking before each such write instead",
            self._bucket,
            how,
            f": {code}" if code else "",
        )

    def _prove_kept(self, key: str, sha256: str) -> None:
        """Read an object back whose bytes no digest of the service has proved. Raises StoreError."""
        if (found := self.sha256_of(key)) != sha256:
            raise self._not_kept(key, "it was read back as other bytes" if found else "it could not be read back")

    def _not_kept(self, key: str, why: str) -> StoreError:
        return StoreError(
            f"{self.locate(key)} differs from what was written",
            why=why,
            fix="use a store with consistent reads; `tunemill catalog verify` finds what else is affected",
        )

    # ------------------------------------------------------------ reading

    def _chunks(self, key: str) -> Iterator[bytes] | None:
        """The object's bytes as they arrive; None when there is none."""
        place = {"Bucket": self._bucket, "Key": self._full(key)}
        with self._words_for(f"read {key}"):
            try:
                answer = self._wire.ask(lambda client, _: client.get_object(**place))
            except aws.ClientError as error:
                if is_absent(error):
                    return None
                raise
        return self._arriving(key, answer["Body"])

    def _arriving(self, key: str, body: Any) -> Iterator[bytes]:
        with self._words_for(f"read {key}"):
            yield from body.iter_chunks(_CHUNK_BYTES)

    def _listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Every object below `prefix` as the service describes it, page by page."""
        further: dict[str, str] = {}
        last = ""
        while True:
            asked = {"Bucket": self._bucket, "Prefix": prefix} | further
            page = self._wire.ask(lambda client, _, asked=asked: client.list_objects_v2(**asked))  # type: ignore[misc]
            found = page.get("Contents", [])
            yield from found
            if not page.get("IsTruncated"):
                return
            if token := page.get("NextContinuationToken"):
                further = {"ContinuationToken": token}
            else:  # a service that knows only the older listing
                further = {"StartAfter": found[-1]["Key"] if found else ""}
                if further["StartAfter"] <= last:
                    raise StoreError(
                        f"bucket {self._bucket}: the service never ends the list of its objects",
                        why="the service repeats the first page: it does not know ListObjectsV2",
                        fix="use a service with ListObjectsV2; docs/stores.md names some",
                    )
                last = further["StartAfter"]

    def _full(self, key: str) -> str:
        return self._prefix + checked_key(key)

    @contextmanager
    def _words_for(self, action: str) -> Iterator[None]:
        what = f"bucket {self._bucket}: cannot {action}"
        try:
            yield
        except aws.ClientError as error:
            raise refusal(what, error, self._wire.secrets()) from None
        except (aws.BotoCoreError, ValueError) as error:
            raise no_answer(what, error, self._wire.address) from None


def _disposition(file_name: str) -> str:
    """The header by which a browser that saves the object names the file (RFC 6266), for old ones in ASCII."""
    plain = "".join(sign if sign.isascii() and sign.isprintable() and sign not in '"\\%' else "_" for sign in file_name)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _hex(checksum: str | None) -> str | None:
    """A checksum of the whole object in hex; one of parts (`...-3`) says nothing about the whole."""
    try:
        digest = b64decode(checksum or "", validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == SHA256_BYTES else None
