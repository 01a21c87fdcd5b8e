"""Refusals of an S3 service in words: the service's code and message, their meaning, and the remedy.

Services use different codes for the same refusal, so the HTTP status decides where a code is unknown. A service's
message may quote the credentials of the request; these are removed.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from typing import Final, NamedTuple

from botocore import exceptions as aws

from catalog.errors import StoreError, StoreFullError
from catalog.plain import plain
from catalog.secrets import HIDDEN, scrub

_MESSAGE_MAX: Final = 300  # characters of a service's message that are shown
_KEY_IDS: Final = re.compile(r"\b(AKIA|ASIA|AROA|GOOG)[A-Z0-9]{12,}\b")
_FULL: Final = frozenset((
    "QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity", "InsufficientStorage", "StorageFull", "507",
))  # fmt: skip
# Temporary refusals, with any HTTP status.
_PASSING: Final = frozenset((
    "SlowDown", "ServiceUnavailable", "InternalError", "InternalFailure", "RequestTimeout", "Throttling",
    "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "OperationAborted", "ConditionalRequestConflict",
    "XMinioServerNotInitialized", "Busy", "BandwidthLimitExceeded", "RequestThrottled", "ProvisionedThroughputExceeded",
))  # fmt: skip
_PASSING_STATUS: Final = frozenset((408, 409, 425, 429))

CREDENTIALS_FIX: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
_ADDRESSING: Final = re.compile(
    r"VirtualHost|Virtual-?styled?|SecondLevelDomain|PathStyle|InvalidPathAccess|path.style|host(ed)?.style"
)
_CHECKSUMS: Final = re.compile(r"checksum|x-amz-sdk|x-amz-trailer|aws-chunked|STREAMING-", re.IGNORECASE)


class _Explanation(NamedTuple):
    why: str
    fix: str


_DENIED: Final = _Explanation(
    "access denied",
    "allow s3:PutObject, s3:GetObject and s3:DeleteObject on the prefix and s3:ListBucket on the bucket "
    "(without s3:ListBucket, S3 answers that access is denied when an object is absent)",
)
_UNKNOWN_KEY: Final = _Explanation("the service does not know these credentials", CREDENTIALS_FIX)
_OTHER_REGION: Final = _Explanation("the bucket lies in another region", "set AWS_REGION to the bucket's region")
_CAUSES: Final = {
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccessForbidden", "Forbidden", "403"), _DENIED),
    "NoSuchBucket": _Explanation("there is no such bucket", "create it, or correct the bucket in TUNEMILL_STORE_URL"),
    "InvalidBucketName": _Explanation(
        "this is not the name of a bucket", "write the bucket's name in TUNEMILL_STORE_URL=s3://name"
    ),
    **dict.fromkeys(("InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSecurity", "401"), _UNKNOWN_KEY),
    "Unauthorized": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": _Explanation(
        "the secret key does not belong to the key id, or a proxy has changed the request", CREDENTIALS_FIX
    ),
    "ExpiredToken": _Explanation("the credentials have expired", "log in again, or use a role that renews itself"),
    "RequestTimeTooSkewed": _Explanation(
        "this machine's clock is wrong", "set the clock; S3 allows a difference of 15 minutes"
    ),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301"), _OTHER_REGION),
    "BadDigest": _Explanation("the data arrived changed", "try again; if the error comes back, test the network"),
    **dict.fromkeys(("SlowDown", "503", "429"), _Explanation("the service is busy", "wait, or use fewer workers")),
}
_BUSY: Final = _Explanation("the service has a fault at the moment", "wait, and read the service's status page")
_REFUSED: Final = _Explanation(
    "the service refused", "correct what the service's message names; docs/stores.md lists the requirements of services"
)


def code_of(error: aws.ClientError) -> str:
    """The service's word for a refusal, or the HTTP status where it sends none, as in answers to HEAD."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def status_of(error: aws.ClientError) -> int:
    """The HTTP status of a refusal; 0 where it is not known."""
    said = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(said or (code_of(error) if code_of(error).isdigit() else 0))


def is_absent(error: aws.ClientError) -> bool:
    """True for the answer that there is no such object."""
    code = code_of(error)
    return code in {"NoSuchKey", "404"} or (status_of(error) == 404 and code != "NoSuchBucket")


def is_full(error: aws.ClientError) -> bool:
    """True for the answer that there is no room left."""
    return code_of(error) in _FULL


def is_passing(error: aws.ClientError) -> bool:
    """True for a refusal that waiting may mend."""
    status = status_of(error)
    return code_of(error) in _PASSING or status in _PASSING_STATUS or (status >= 500 and status != 501)


def refusal(what: str, error: aws.ClientError, secrets: Collection[str]) -> StoreError:
    """The error that a person sees, with the service's own words but for the `secrets`."""
    code, said = code_of(error), _said(error, secrets)
    if is_full(error):
        return StoreFullError(what, why=f"the service has no room left ({said})", fix="free space or raise the quota")
    cause = _CAUSES.get(code, _BUSY if is_passing(error) else _REFUSED)
    if _ADDRESSING.search(said):
        cause = cause._replace(fix="set TUNEMILL_S3_ADDRESSING to virtual; if it is virtual already, set it to path")
    elif _CHECKSUMS.search(said) and code != "BadDigest":
        cause = cause._replace(fix="set TUNEMILL_S3_CHECKSUMS=off")
    raised = StoreError(what, why=f"{cause.why} ({said})", fix=cause.fix)
    raised.needs_person = not is_passing(error)
    return raised


def _said(error: aws.ClientError, secrets: Collection[str]) -> str:
    """Code, message and request id, as the service gave them."""
    details, metadata = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    message = str(details.get("Message") or "")
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        message = message.replace(secret, HIDDEN)
    message = plain(_KEY_IDS.sub(HIDDEN, scrub(message))).strip()[:_MESSAGE_MAX]
    request = plain(str(metadata.get("RequestId") or ""))[:64]
    said = f"{plain(code_of(error))[:64]}: {message}" if message else plain(code_of(error))[:64]
    return f"{said}; request {request}" if request else said


def no_answer(what: str, error: Exception, address: str) -> StoreError:
    """The error that a person sees where no answer came from `address`, or no request could be made."""
    cause, needs_person = _unanswered(error, address)
    raised = StoreError(what, **cause._asdict())
    raised.needs_person = needs_person
    return raised


def _unanswered(error: Exception, address: str) -> tuple[_Explanation, bool]:
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        return _Explanation("there are no complete credentials", CREDENTIALS_FIX), True
    if isinstance(error, aws.SSLError):
        fix = "write the host that its certificate names, or give the certificate's authority in AWS_CA_BUNDLE"
        return _Explanation(f"{address} does not prove who it is (SSLError)", fix), True
    if isinstance(error, (aws.ConnectionError, aws.HTTPClientError)):
        if _has_no_name(error):
            why = f"the name of {address} does not resolve: it is misspelt, or this machine's name server is away"
            return _Explanation(
                why, "write the service's address in TUNEMILL_S3_ENDPOINT_URL as its console shows it"
            ), False
        why = f"{address} does not answer ({type(error).__name__})"
        return _Explanation(why, "start the service or the network; TUNEMILL_S3_ENDPOINT_URL holds its address"), False
    fix = "check AWS_REGION, AWS_PROFILE, ~/.aws, AWS_ENDPOINT_URL and TUNEMILL_S3_ENDPOINT_URL"
    return _Explanation(type(error).__name__, fix), True


def _has_no_name(error: Exception) -> bool:
    """True when the host's name is not known, which a wrong address explains better than an outage."""
    seen: object = getattr(error, "kwargs", {}).get("error")
    while isinstance(seen, BaseException):
        if isinstance(seen, socket.gaierror):
            return seen.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
        seen = seen.__cause__ or seen.__context__
    return False
