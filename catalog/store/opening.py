"""Opening a store: from an address (a folder, file:// or s3://) to a store that has been tested."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from catalog import store_address
from catalog.errors import SettingsError, StoreError, StoreFullError
from catalog.retry import Backoff
from catalog.settings import Settings
from catalog.spellings import Misspelt
from catalog.store.base import Store
from catalog.store.folder import FolderStore

log = logging.getLogger(__name__)

# A restart of the store passes in two minutes; an outage that lasts longer stops the worker.
STORE_BACKOFF: Final = Backoff(first_s=0.5, longest_s=15.0, patience_s=120.0)


def open_configured_store(settings: Settings) -> Store:
    """The store that the settings name; nothing is read or written yet."""
    return open_store(
        settings.store,
        s3_endpoint_url=settings.s3_endpoint_url,
        s3_addressing=settings.s3_addressing,
        s3_checksums=settings.s3_checksums,
    )


def open_proven_store(settings: Settings) -> Store:
    """The configured store, after it has accepted a test object; an unreachable or busy store is waited for.

    Raises StoreError when the patience is over, and at once for an error that only a person can mend.
    """
    store = open_configured_store(settings)
    began_s = time.monotonic()
    waits_s = replace(STORE_BACKOFF, patience_s=settings.store_patience_s).waits_s()
    while True:
        try:
            store.check()
        except StoreError as error:
            is_over = time.monotonic() - began_s > settings.store_patience_s
            wait_s = next(waits_s, None)
            if error.needs_person or isinstance(error, StoreFullError) or is_over or wait_s is None:
                raise
            log.warning("the store cannot be used yet, trying again in %g s: %s (%s)", wait_s, error.what, error.why)
            time.sleep(wait_s)
        else:
            return store


def open_store(
    url: str,
    *,
    s3_endpoint_url: str | None = None,
    s3_addressing: Literal["auto", "path", "virtual"] = "auto",
    s3_checksums: Literal["auto", "on", "off"] = "auto",
) -> Store:
    """The store at `url`; nothing is read or written yet (`check` does that).

    `s3_endpoint_url` names an S3-compatible service instead of AWS; the others are the settings of these names. Raises
    SettingsError for an address that cannot be one.
    """
    url = _understood("TUNEMILL_STORE_URL", store_address.store_url, url)
    if not url.startswith("s3://"):
        return FolderStore(Path(url))
    bucket, prefix = store_address.parse_bucket(url)
    if s3_endpoint_url is not None:
        s3_endpoint_url = _understood("TUNEMILL_S3_ENDPOINT_URL", store_address.endpoint_url, s3_endpoint_url)
        s3_endpoint_url = store_address.without_bucket(s3_endpoint_url, bucket)
    from catalog.store.s3 import S3Store

    return S3Store(bucket, prefix, endpoint_url=s3_endpoint_url, addressing=s3_addressing, checksums=s3_checksums)


def _understood(variable: str, spelling: Callable[[str], str], text: str) -> str:
    try:
        return spelling(text)
    except Misspelt as slip:
        raise SettingsError(f"{variable} is wrong: {slip}", fix=slip.fix) from None
