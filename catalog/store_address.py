"""Addresses of stores: every common way to write a folder or a bucket, turned into one form.

Consoles, manuals and other programs show one bucket in many ways. Each way is turned into `s3://bucket/prefix` with the
address of a service, or is refused with a text that says what to write. No message repeats a part of an address that
could be a login.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from catalog.spellings import Misspelt, folder

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_S3: Final = frozenset(("s3", "s3a", "s3n"))
_OTHERS: Final = {
    "gs": "https://storage.googleapis.com",
    "gcs": "https://storage.googleapis.com",
    "r2": "https://<account>.r2.cloudflarestorage.com",
    "b2": "https://s3.<region>.backblazeb2.com",
    "oss": "https://s3.oss-<region>.aliyuncs.com",
    "cos": "https://cos.<region>.myqcloud.com",
    "cosn": "https://cos.<region>.myqcloud.com",
    "obs": "https://obs.<region>.myhuaweicloud.com",
    "wasabi": "https://s3.<region>.wasabisys.com",
    "minio": "https://<host>:9000",
}
_AZURE: Final = frozenset(("az", "azure", "abfs", "abfss", "wasb", "wasbs", "adl"))
# Hosts of services that also accept a bucket in front; the rest of the name must still be one of these.
_SERVICE: Final = re.compile(
    r"(s3[.-].*|s3)\.amazonaws\.com(\.cn)?"
    r"|[a-z0-9-]+(\.(eu|fedramp))?\.r2\.cloudflarestorage\.com"
    r"|s3\.[a-z0-9-]+\.(backblazeb2\.com|wasabisys\.com|scw\.cloud|io\.cloud\.ovh\.(net|us)|perf\.cloud\.ovh\.net)"
    r"|s3\.(wasabisys\.com|[a-z0-9.-]*cloud-object-storage\.appdomain\.cloud)"
    r"|[a-z0-9-]+\.(digitaloceanspaces\.com|linodeobjects\.com|your-objectstorage\.com)"
    r"|(s3\.)?oss-[a-z0-9-]+\.aliyuncs\.com|cos\.[a-z0-9-]+\.myqcloud\.com|obs\.[a-z0-9-]+\.myhuaweicloud\.com"
    r"|storage\.googleapis\.com"
)
_AWS: Final = re.compile(r"(^|\.)amazonaws\.com(\.cn)?$")
_REGION: Final = re.compile(
    r"(?:^|\.)s3[.-](?:dualstack\.)?([a-z0-9-]+)\."
    r"(?:amazonaws\.com|backblazeb2\.com|wasabisys\.com|scw\.cloud|(?:io|perf)\.cloud\.ovh\.)"
    r"|\.compat\.objectstorage\.([a-z0-9-]+)\.(?:oci\.customer-oci|oraclecloud)\.com"
    r"|(?:^|\.)(?:cos|obs)\.([a-z0-9-]+)\.my(?:qcloud|huaweicloud)\.com"
    r"|^([a-z0-9-]+)\.(?:digitaloceanspaces|linodeobjects|your-objectstorage)\.com"
)


class BucketAddress(NamedTuple):
    """A bucket and the part of it that is ours."""

    name: str
    prefix: str


def store_url(text: str) -> str:
    """`s3://bucket/prefix`, or the path of a folder. Raises Misspelt."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.casefold()
    if not text.strip():
        raise Misspelt("the value is empty", "write a folder or s3://bucket/prefix, or unset the variable")
    if not separator:
        if found := re.match(r"arn:[a-z-]+:s3:::(.+)", text) or re.match(r"s3[an]?:/?([^/].*)", text, re.IGNORECASE):
            raise Misspelt("the bucket is not written as an address", f"write s3://{found[1]}")
        if re.match(r"[^/\s]*:[^/\s]*@", text):
            raise Misspelt("the value is neither a folder nor an address", "write a folder or s3://bucket/prefix")
        return folder(text)
    if scheme == "file":
        return folder(text)
    if scheme in _S3:
        bucket = _bucket(rest)
        return f"s3://{bucket.name}/{bucket.prefix}".rstrip("/")
    if scheme in ("http", "https"):
        raise Misspelt(f"{scheme}:// is neither s3:// nor file://", _web_fix(text))
    if scheme in _AZURE:
        raise Misspelt(
            f"{scheme}:// is neither s3:// nor file://, and Azure Blob Storage has no S3 protocol",
            "write the folder where the container is mounted, or s3://bucket/prefix with the address of an S3 gateway "
            "before it in TUNEMILL_S3_ENDPOINT_URL",
        )
    raise Misspelt(
        f"{re.sub('[^a-z0-9+.-]', '?', scheme)[:20]}:// is neither s3:// nor file://",
        "write s3://bucket/prefix, and the service's S3-compatible address as TUNEMILL_S3_ENDPOINT_URL="
        + _OTHERS.get(scheme, "https://<host>"),
    )


def parse_bucket(url: str) -> BucketAddress:
    """The parts of an address that `store_url` has given."""
    return _bucket(url.removeprefix("s3://"))


def _bucket(rest: str) -> BucketAddress:
    name, _, prefix = rest.partition("/")
    if "@" in name:
        raise Misspelt(
            "the address holds credentials, and addresses are printed and logged",
            "write s3://bucket/prefix and put the credentials into the AWS environment or ~/.aws",
        )
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(name) or {"", ".", ".."} & set(prefix.split("/") if prefix else ["x"]) or "?" in prefix:
        raise Misspelt("the address has no valid bucket and prefix", "write s3://bucket or s3://bucket/prefix")
    return BucketAddress(name, prefix)


def _web_fix(url: str) -> str:
    """The settings that stand for the web address of a bucket, as far as it tells them."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        host = ""
    if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?", host) or parts.query or parts.username or "@" in url:
        return "write s3://bucket/prefix, and the service's address in TUNEMILL_S3_ENDPOINT_URL=https://host"
    path = parts.path.strip("/")
    first, _, service = host.partition(".")
    if _SERVICE.fullmatch(service) and not _SERVICE.fullmatch(host):
        bucket, host = f"{first}/{path}".rstrip("/"), service
    else:
        bucket = path or "bucket/prefix"
    if _AWS.search(host):
        region = region_of(host)
        return f"write TUNEMILL_STORE_URL=s3://{bucket}" + (f" and AWS_REGION={region}" if region else "")
    return f"write TUNEMILL_STORE_URL=s3://{bucket} and TUNEMILL_S3_ENDPOINT_URL={parts.scheme.lower()}://{host}"


def endpoint_url(text: str) -> str:
    """The address of a service, without path or query. Raises Misspelt."""
    try:
        parts = urlsplit(text)
        host, port_is_wrong = parts.hostname, parts.port == 0
    except ValueError:
        host, port_is_wrong = None, True
    if parts_without_scheme := re.fullmatch(r"[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._/-]*)?", text):
        place = parts_without_scheme[0]
        raise Misspelt(
            "the address has no scheme", f"write https://{place}, or http://{place} where the service has no TLS"
        )
    if not host or port_is_wrong or parts.scheme.casefold() not in {"http", "https"}:
        raise Misspelt("the value is not the address of a service", "write http://host:port or https://host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Misspelt(
            "the address has more than a scheme, a host and a path",
            "write https://host, and the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    return f"{parts.scheme.casefold()}://{parts.netloc}{parts.path.rstrip('/')}"


def without_bucket(endpoint: str, bucket: str) -> str:
    """`endpoint` without the bucket, which consoles show in its path (Cloudflare) or in front of its host (Spaces)."""
    parts = urlsplit(endpoint)
    if parts.path.strip("/") == bucket:
        parts = parts._replace(path="")
    host = parts.netloc.removeprefix(f"{bucket}.")
    if host != parts.netloc and _SERVICE.fullmatch(host.partition(":")[0]):
        parts = SplitResult(parts.scheme, host, parts.path, "", "")
    return parts.geturl()


def is_aws(host: str) -> bool:
    """True for Amazon's own service, and not one that speaks as it does."""
    return _AWS.search(host) is not None


def region_of(host: str) -> str | None:
    """The region that a service's host name tells, by which requests to it are signed; None where it tells none."""
    if host.endswith(".r2.cloudflarestorage.com"):
        return "auto"
    found = _REGION.search(host)
    return next(filter(None, found.groups()), None) if found else None
