"""Wiring: makes the engine and the store that the settings and the model name; no other module chooses them."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from catalog.buckets import Bucket
from catalog.models import find_model
from catalog.settings import Settings
from catalog.spec import DiffusionSpec
from catalog.store import Store, open_configured_store, open_proven_store
from workers.engine.process import EngineRecipe

TYPICAL_DURATION_S: Final = 120  # of the takes that the batch limit in the first log lines is for


def engine_recipe(settings: Settings, model: str, *, planner_wanted: bool = True, trial: bool = False) -> EngineRecipe:
    """The recipe by which the engine process builds the engine of `model`.

    The model's row in `catalog.models` names the engine, and `workers.<engine>` is the module or package that has its
    `engine_recipe`, so that another engine needs no change here. It imports no model library; the engine's process
    does. A `trial` engine is there to find its limits, so it begins batches that may not fit.
    """
    engine = import_module(f"workers.{find_model(model).engine}")
    return cast(EngineRecipe, engine.engine_recipe(settings, model, planner_wanted=planner_wanted, trial=trial))


def open_checked_store(settings: Settings) -> Store:
    """The store, proven to take an object, which a busy one may take its time for. Raises StoreError."""
    return open_proven_store(settings)


def open_worker_store(settings: Settings) -> Store:
    """The store that the settings name; nothing is read or written yet."""
    return open_configured_store(settings)


def typical_bucket(model: str, *, planner_wanted: bool = True) -> Bucket:
    """The bucket of an ordinary take of `model`."""
    planner = find_model(model).planner if planner_wanted else ""
    return Bucket(model, planner, DiffusionSpec(), TYPICAL_DURATION_S)
