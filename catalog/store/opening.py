"""Opening a store by its address: a folder, file:// or s3://."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from catalog.errors import SettingsError
from catalog.settings import Settings, without_secrets
from catalog.store.base import Store
from catalog.store.folder import FolderStore

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_configured_store(settings: Settings) -> Store:
    """The store that the settings name; nothing is read or written yet."""
    return open_store(settings.store, s3_endpoint_url=settings.s3_endpoint_url)


def open_store(url: str, *, s3_endpoint_url: str | None = None) -> Store:
    """The store at `url`; nothing is read or written yet (`check` does that).

    `s3_endpoint_url` names an S3-compatible service instead of AWS. Raises SettingsError for an address that
    cannot be one.
    """
    scheme, separator, rest = url.partition("://")
    if not url.strip():
        raise SettingsError("TUNEMILL_STORE_URL is empty", fix="give a folder or s3://bucket/prefix, or unset it")
    if not separator:
        return FolderStore(Path(url))
    match scheme.lower():
        case "file":
            return FolderStore(_file_path(url))
        case "s3":
            return _open_s3(rest, s3_endpoint_url)
        case _:
            raise SettingsError(
                f"no store is known for {without_secrets(url)}",
                why=f"{scheme}:// is neither s3:// nor file://",
                fix="other services are reached by their S3-compatible address: s3://bucket/prefix with "
                "TUNEMILL_S3_ENDPOINT_URL",
            )


def _file_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"} or not parts.path:
        raise SettingsError(
            f"{without_secrets(url)} names no folder on this machine", fix="write file:///absolute/path"
        )
    return Path(unquote(parts.path))


def _open_s3(rest: str, endpoint_url: str | None) -> Store:
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise SettingsError(
            "TUNEMILL_STORE_URL holds credentials",
            why="an address is printed and logged; a secret must not be",
            fix="write s3://bucket/prefix and put the credentials into the AWS environment or ~/.aws",
        )
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket) or {"", ".", ".."} & set(prefix.split("/") if prefix else ["x"]):
        raise SettingsError(f"s3://{rest} names no bucket and prefix", fix="write s3://bucket or s3://bucket/prefix")
    if endpoint_url is not None and urlsplit(endpoint_url).scheme not in {"http", "https"}:
        raise SettingsError(
            f"TUNEMILL_S3_ENDPOINT_URL is {without_secrets(endpoint_url)}", fix="write http://host:port or https://host"
        )
    from catalog.store.s3 import S3Store  # noqa: PLC0415 - boto3 takes long to import, and a folder needs none of it

    return S3Store(bucket, prefix, endpoint_url=endpoint_url)
