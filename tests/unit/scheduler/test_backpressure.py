"""Audio on its way to the store never fills the memory, and never brings the engine to a halt either."""

from __future__ import annotations

from workers.scheduler.backpressure import Backpressure


def reserved(*sizes: int, bytes_max: int = 100) -> Backpressure:
    backpressure = Backpressure(bytes_max)
    for number, size in enumerate(sizes):
        backpressure.reserve(f"batch-{number}", size_bytes=size, takes=2)
    return backpressure


def test_batches_are_begun_until_the_bound_is_reached():
    assert reserved(30, 30).has_room(40)
    assert not reserved(30, 31).has_room(40)


def test_two_batches_fit_however_large_they_are():
    assert reserved(500).has_room(500)
    assert not reserved(500, 500).has_room(500)
    assert reserved().has_room(10_000)


def test_a_batch_keeps_its_memory_until_its_last_take_is_released():
    backpressure = reserved(100, bytes_max=100)
    backpressure.release_take("batch-0")
    assert not backpressure.has_room(1)
    backpressure.release_take("batch-0")
    assert backpressure.has_room(1)
    backpressure.release_take("batch-0")  # of a batch that is gone nothing is left to release


def test_a_batch_that_failed_frees_its_memory():
    backpressure = reserved(100, bytes_max=100)
    backpressure.cancel("batch-0")
    assert backpressure.has_room(100)
