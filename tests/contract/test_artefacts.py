"""Artefacts: stored once by digest, hashed by whoever fetches them, and kept on disk within a bound."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from pydantic import ValidationError

from catalog.artefacts import (
    FOLDER,
    Artefact,
    ArtefactCache,
    describe_file,
    has_artefact,
    list_artefacts,
    put_artefact,
    verify_artefact,
)
from catalog.errors import StoreError
from catalog.store import Store, open_store
from catalog.store.folder import FolderStore
from catalog.track import Track
from tests.support import servers
from tests.support.fakes import MemoryStore
from tests.support.makers import a_take


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    match request.param:
        case "folder":
            return open_store(str(tmp_path / "store"))
        case "s3":
            url = f"s3://{servers.BUCKET}/artefacts-{tmp_path.name}"
            return open_store(url, s3_endpoint_url=request.getfixturevalue("s3_endpoint"))
        case _:
            return MemoryStore()


def a_file(folder: Path, body: bytes, name: str = "weights.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(body)
    return folder / name


def test_what_is_put_is_fetched_verified_and_listed(store: Store, tmp_path: Path) -> None:
    artefact = put_artefact(store, "adapter", a_file(tmp_path / "from", b"lora" * 1000))
    assert artefact == describe_file("adapter", tmp_path / "from" / "weights.safetensors")
    assert verify_artefact(store, artefact)
    fetched = ArtefactCache(tmp_path / "cache", 10_000).fetch(store, artefact)
    assert fetched.read_bytes() == b"lora" * 1000
    assert list(list_artefacts(store)) == [artefact]
    assert list(list_artefacts(store, "weights")) == []


def test_the_same_file_is_stored_once(tmp_path: Path) -> None:
    store, path = MemoryStore(), a_file(tmp_path, b"once")
    put_artefact(store, "weights", path)
    store.on_put = lambda key: pytest.fail(f"{key} is written again")
    put_artefact(store, "weights", path)


def test_one_that_is_stored_in_part_is_stored_anew(tmp_path: Path) -> None:
    store, path = MemoryStore(), a_file(tmp_path, b"whole")
    artefact = describe_file("weights", path)
    store.objects[artefact.key] = b"who"
    assert not has_artefact(store, artefact)
    assert put_artefact(store, "weights", path) == artefact
    assert store.objects[artefact.key] == b"whole"


@pytest.mark.parametrize(
    "body", [b"hostile", b"sound and longer", b"so", b""], ids=["other", "longer", "shorter", "empty"]
)
def test_other_bytes_are_refused_and_leave_nothing_behind(tmp_path: Path, body: bytes) -> None:
    store = MemoryStore()
    artefact = put_artefact(store, "source", a_file(tmp_path, b"sound!!"))
    store.objects[artefact.key] = body
    with pytest.raises(StoreError, match="does not have the contents that its name states"):
        ArtefactCache(tmp_path / "cache", 100).fetch(store, artefact)
    assert not verify_artefact(store, artefact)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.suffix != ".lock" and path.is_file()] == []


def test_a_file_that_was_altered_on_disk_is_fetched_again(tmp_path: Path) -> None:
    store, cache = MemoryStore(), ArtefactCache(tmp_path / "cache", 100)
    artefact = put_artefact(store, "source", a_file(tmp_path, b"sound"))
    cache.fetch(store, artefact).write_bytes(b"noise")
    assert cache.fetch(store, artefact).read_bytes() == b"sound"


def test_the_cache_stays_within_its_bound_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    store, cache = MemoryStore(), ArtefactCache(tmp_path / "cache", 25)
    first, second, third = (put_artefact(store, "latents", a_file(tmp_path, b"%d" % n * 10)) for n in (1, 2, 3))
    kept = [cache.fetch(store, each) for each in (first, second)]
    cache.fetch(store, first)
    newest = cache.fetch(store, third)
    assert (kept[0].exists(), kept[1].exists(), newest.exists()) == (True, False, True)


def test_one_that_can_never_fit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    store = MemoryStore()
    artefact = put_artefact(store, "weights", a_file(tmp_path, b"x" * 11))
    store.refuse = -1
    with pytest.raises(StoreError, match="larger than the cache"):
        ArtefactCache(tmp_path / "cache", 10).fetch(store, artefact)


def test_an_absent_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not there"):
        ArtefactCache(tmp_path / "cache", 10).fetch(MemoryStore(), Artefact("weights", "0" * 64, 5))


@pytest.mark.parametrize("artefact", [Artefact("../up", "0" * 64, 1), Artefact("weights", "../../etc", 1)])
def test_what_names_no_artefact_has_no_key(artefact: Artefact) -> None:
    with pytest.raises(StoreError, match="is not the name of an artefact"):
        assert not artefact.key


def test_no_catalog_can_have_their_folder() -> None:
    track = a_take().track.model_dump()
    with pytest.raises(ValidationError, match="catalog"):
        Track.model_validate({**track, "catalog": FOLDER})


def _fetch(folder: Path, artefact: Artefact) -> None:
    ArtefactCache(folder / "cache", 1 << 20).fetch(FolderStore(folder / "store"), artefact)


def test_many_processes_may_fetch_at_once(tmp_path: Path) -> None:
    artefact = put_artefact(FolderStore(tmp_path / "store"), "weights", a_file(tmp_path, b"w" * 500_000))
    context = multiprocessing.get_context("spawn")
    fetching = [context.Process(target=_fetch, args=(tmp_path, artefact)) for _ in range(3)]
    for each in fetching:
        each.start()
    for each in fetching:
        each.join(60)
    assert [each.exitcode for each in fetching] == [0, 0, 0]
    assert ArtefactCache(tmp_path / "cache", 1 << 20).fetch(MemoryStore(), artefact).stat().st_size == 500_000
