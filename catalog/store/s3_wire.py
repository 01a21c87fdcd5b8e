"""The request style of an S3 service: the place of the bucket's name, and the use of checksum headers.

Both choices are settings. Where a setting is unset, the first request that is refused is repeated in the other style,
and the style that works is kept as long as the process lives. Once the service has accepted a style, a later refusal is
never attributed to the style. Amazon's own service accepts the first style.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import exceptions as aws
from botocore.config import Config

from catalog.store.s3_words import code_of, is_passing, status_of
from catalog.store_address import is_aws, region_of, without_bucket

log = logging.getLogger(__name__)

ATTEMPTS: Final = 4  # at one request, with growing pauses
CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 60
CONNECTIONS_MAX: Final = 32  # a worker's threads and some to spare
_UNDERSTOOD: Final = frozenset(("NoSuchKey", "PreconditionFailed", "404", "412", "304", "ConditionalRequestConflict"))
# Wrong in every way of asking.
_OF_CREDENTIALS: Final = frozenset((
    "ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId", "RequestTimeTooSkewed", "TokenRefreshRequired",
))  # fmt: skip

Addressing = Literal["auto", "path", "virtual"]
Checksums = Literal["auto", "on", "off"]
_T = TypeVar("_T")
Request = Callable[[Any, bool], _T]  # asked of a client, with or without checksum headers


class Way(NamedTuple):
    """One way to ask."""

    addressing: Addressing  # auto: as the library does it for Amazon
    checksums: bool


class S3Wire:
    """The clients for one bucket, and the way to ask that its service understands. Safe for many threads."""

    def __init__(
        self, bucket: str, *, endpoint_url: str | None, addressing: Addressing = "auto", checksums: Checksums = "auto"
    ) -> None:
        self._bucket = bucket
        self._core = botocore.session.Session()
        # A session of our own: making clients from the default one is not safe between threads.
        self._session = boto3.session.Session(botocore_session=self._core)
        self.endpoint_url = endpoint_url or self._endpoint_of_library()
        self._ways = tuple(self._possible(addressing, checksums))
        self._way = self._ways[0]
        self._clients: dict[Way, Any] = {self._way: self._client(self._way)}
        self._is_placed = self._is_summed = False  # an answer has shown that the addressing, the headers are understood
        self._lock = threading.Lock()

    def ask(self, request: Request[_T], *, has_checksums: bool = False, writes: bool = False) -> _T:
        """The answer to `request`; `has_checksums`: it has checksum headers, `writes`: it sends a checksum.

        Raises the errors of the client.
        """
        way = self._way
        try:
            answer = request(self._clients[way], way.checksums)
        except (aws.ClientError, aws.ConnectionError, aws.HTTPClientError) as error:
            if not self._may_be_the_way(error, way):
                raise
            return self._ask_otherwise(request, way, error, has_checksums=has_checksums)
        self._is_placed = True
        self._is_summed = self._is_summed or writes
        return answer

    def secrets(self) -> list[str]:
        """The credentials that requests are signed with, key id included."""
        try:
            found = self._core.get_credentials()
            return [] if found is None else [str(part) for part in found.get_frozen_credentials() if part]
        except aws.BotoCoreError:
            return []

    @property
    def address(self) -> str:
        """The service as a person calls it."""
        parts = urlsplit(self.endpoint_url or "")
        place = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{place}" if place else "AWS"

    def _may_be_the_way(self, error: Exception, way: Way) -> bool:
        """True when another way of asking may be answered."""
        if not isinstance(error, aws.ClientError):
            return way.addressing == "virtual" and not self._is_placed  # such a host may not exist
        if is_passing(error) or code_of(error) in _UNDERSTOOD | _OF_CREDENTIALS:
            return False
        return 300 <= status_of(error) <= 501

    def _ask_otherwise(self, request: Request[_T], tried: Way, error: Exception, *, has_checksums: bool) -> _T:
        with self._lock:
            found = self._way
            if found == tried:
                for way in self._others(tried, has_checksums=has_checksums):
                    try:
                        answer = request(self._client(way, attempts=1), way.checksums)
                    except aws.ClientError as again:
                        if code_of(again) in _UNDERSTOOD:
                            self._keep(way, error)
                            raise
                    except aws.BotoCoreError:
                        continue
                    else:
                        self._keep(way, error)
                        return answer
                raise error
        return request(self._clients[found], found.checksums)  # another thread has found it meanwhile

    def _others(self, tried: Way, *, has_checksums: bool) -> Iterator[Way]:
        """The ways that are possible and could explain a refusal, those that differ in one thing first."""
        for way in sorted(self._ways, key=lambda way: sum(a != b for a, b in zip(way, tried, strict=True))):
            moves, drops = way.addressing != tried.addressing, way.checksums != tried.checksums
            in_question = not (moves and self._is_placed) and (not drops or (has_checksums and not self._is_summed))
            if (moves or drops) and in_question:
                yield way

    def _keep(self, way: Way, error: Exception) -> None:
        said = code_of(error) if isinstance(error, aws.ClientError) else type(error).__name__
        old, self._is_placed = self._way, True
        self._clients[way] = self._client(way)
        self._way = way
        if way.addressing != old.addressing:
            log.warning(
                "the service at %s takes the bucket by the %s style alone (%s); TUNEMILL_S3_ADDRESSING=%s saves asking",
                self.address, way.addressing, said, way.addressing,
            )  # fmt: skip
        if way.checksums != old.checksums:
            log.warning(
                "the service at %s takes no checksum headers (%s): what is written is proved by its MD5 or read back; "
                "TUNEMILL_S3_CHECKSUMS=off saves asking",
                self.address, said,
            )  # fmt: skip

    def _possible(self, addressing: Addressing, checksums: Checksums) -> Iterator[Way]:
        """Every way that the settings allow, the likeliest first."""
        headers = {"auto": (True, False), "on": (True,), "off": (False,)}[checksums]
        if self.endpoint_url is None:
            yield Way(addressing, headers[0])  # Amazon knows all of them
            return
        styles: list[Addressing] = [addressing]
        if addressing == "auto":
            said = (self._core.get_scoped_config().get("s3") or {}).get("addressing_style")
            styles = ["virtual", "path"] if said == "virtual" else ["path", "virtual"]
            if said != "virtual" and not _takes_a_name_in_front(self.endpoint_url):
                styles = ["path"]
        yield from (Way(style, header) for style in styles for header in headers)

    def _endpoint_of_library(self) -> str | None:
        """The address that the library's own settings name, AWS_ENDPOINT_URL among them; None for Amazon."""
        found = str(self._made(None, Config()).meta.endpoint_url)
        return None if is_aws(urlsplit(found).hostname or "") else without_bucket(found, self._bucket)

    def _client(self, way: Way, *, attempts: int | None = None) -> Any:
        """One client for all threads. Services other than Amazon's get no checksums unless a setting asks for them."""
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "adaptive", "total_max_attempts": attempts or ATTEMPTS},
            max_pool_connections=CONNECTIONS_MAX,
            s3={"addressing_style": way.addressing},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required" if self.endpoint_url else "when_supported",
        )
        return self._made(self.endpoint_url, config)

    def _made(self, endpoint_url: str | None, config: Config) -> Any:
        region = None
        if endpoint_url and self._session.region_name is None:
            region = region_of(urlsplit(endpoint_url).hostname or "")
        return self._session.client("s3", endpoint_url=endpoint_url, config=config, region_name=region)


def _takes_a_name_in_front(endpoint_url: str) -> bool:
    """False for a host that is a number, before which no bucket can stand."""
    try:
        ipaddress.ip_address(urlsplit(endpoint_url).hostname or "")
    except ValueError:
        return True
    return False
