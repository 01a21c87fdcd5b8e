"""The store: a folder or an S3-compatible bucket that holds audio and sidecars, behind one Protocol."""

from catalog.store.base import ObjectInfo, Store
from catalog.store.opening import STORE_BACKOFF, open_configured_store, open_proven_store, open_store

__all__ = ["STORE_BACKOFF", "ObjectInfo", "Store", "open_configured_store", "open_proven_store", "open_store"]
