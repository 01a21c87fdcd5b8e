"""Wiring: which engine and which store this worker uses; the only place that chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalog.buckets import Bucket
from catalog.models import EngineName, find_model
from catalog.settings import Settings
from catalog.spec import DiffusionSpec
from catalog.store import Store, open_store
from workers.engine.process import EngineRecipe

TYPICAL_DURATION_S = 120  # what the batch limit in the first log line is about


def engine_recipe(settings: Settings, model: str, *, planner_wanted: bool = True, trial: bool = False) -> EngineRecipe:
    """How the engine process builds the engine of `model`; nothing is imported here.

    `trial`: to find its limits, so it begins batches that may not fit.
    """
    return _RECIPES[find_model(model).engine](settings, model, planner_wanted, trial)


def _tone(settings: Settings, model: str, planner_wanted: bool, trial: bool) -> EngineRecipe:
    return EngineRecipe("workers.tone:load_engine")


def _ace_step(settings: Settings, model: str, planner_wanted: bool, trial: bool) -> EngineRecipe:
    options = {
        "model": model,
        "weights": settings.weights,
        "planner_weights": settings.planner_weights,
        "weights_sha256": settings.weights_sha256,
        "planner_weights_sha256": settings.planner_weights_sha256,
        "device": settings.device,
        "vram_gib": settings.vram_gib,
        "home": settings.home,
        "planner_wanted": planner_wanted,
        "quantize": settings.quantize,
        "offload": settings.offload,
        "trial": trial,
        "compiled": settings.compile,
    }
    return EngineRecipe("workers.ace_step.assembly:load_engine", options)


_RECIPES: Final[dict[EngineName, Callable[[Settings, str, bool, bool], EngineRecipe]]] = {
    "tone": _tone,
    "ace_step": _ace_step,
}


def open_checked_store(settings: Settings) -> Store:
    """The store, proven to take an object. Raises StoreError."""
    store = open_store(settings.store, s3_endpoint_url=settings.s3_endpoint_url)
    store.check()
    return store


def typical_bucket(model: str, *, planner_wanted: bool = True) -> Bucket:
    """The bucket of an ordinary take of `model`."""
    planner = find_model(model).planner if planner_wanted else ""
    return Bucket(model, planner, DiffusionSpec(), TYPICAL_DURATION_S)
