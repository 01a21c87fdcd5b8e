"""Audio on its way to the store never fills the memory, and never brings the lane to a halt either."""

from __future__ import annotations

from workers.scheduler.backpressure import Backpressure


def a_shelf(*sizes: int, bytes_max: int = 100) -> Backpressure:
    shelf = Backpressure(bytes_max)
    for number, size in enumerate(sizes):
        shelf.put(f"batch-{number}", size_bytes=size, takes=2)
    return shelf


def test_batches_are_begun_until_the_bound_is_reached():
    assert a_shelf(30, 30).has_room(40)
    assert not a_shelf(30, 31).has_room(40)


def test_two_batches_find_room_however_large_they_are():
    assert a_shelf(500).has_room(500)
    assert not a_shelf(500, 500).has_room(500)
    assert a_shelf().has_room(10_000)


def test_a_batch_holds_its_place_until_its_last_take_is_done_with():
    shelf = a_shelf(100, bytes_max=100)
    shelf.take_one("batch-0")
    assert not shelf.has_room(1)
    shelf.take_one("batch-0")
    assert shelf.has_room(1)
    shelf.take_one("batch-0")  # and of one that is gone nothing is left to give up


def test_a_batch_that_came_to_nothing_gives_up_its_place():
    shelf = a_shelf(100, bytes_max=100)
    shelf.clear("batch-0")
    assert shelf.has_room(100)
