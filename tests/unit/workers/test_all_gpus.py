"""A worker that crashed is started again; one that a person must mend is not."""

from __future__ import annotations

import signal
from itertools import islice

import pytest

from workers.all_gpus import DEATHS_MAX, RESTART_BACKOFF, Device, Fate, fate_of, find_devices


@pytest.mark.parametrize(
    ("code", "deaths", "stopping", "fate"),
    [
        (0, 1, False, Fate.ENDED),  # somebody drained this one
        (0, 1, True, Fate.ENDED),
        (-signal.SIGTERM, 1, True, Fate.ENDED),  # told to stop while it was starting
        (130, 1, True, Fate.ENDED),
        (-signal.SIGKILL, 1, True, Fate.NEEDS_A_PERSON),
        (-signal.SIGKILL, 1, False, Fate.START_AGAIN),
        (-signal.SIGSEGV, DEATHS_MAX - 1, False, Fate.START_AGAIN),
        (-signal.SIGSEGV, DEATHS_MAX, False, Fate.GIVEN_UP),
        (40, 1, False, Fate.START_AGAIN),
        (40, DEATHS_MAX, False, Fate.GIVEN_UP),
        (40, 1, True, Fate.NEEDS_A_PERSON),
        (1, 1, False, Fate.START_AGAIN),
        *((code, 1, False, Fate.NEEDS_A_PERSON) for code in (2, 35, 41, 43)),
        *((code, DEATHS_MAX + 9, False, Fate.WAIT_OUT) for code in (30, 31, 32)),
        (30, 1, True, Fate.NEEDS_A_PERSON),
    ],
)
def test_a_crash_is_started_again_until_it_has_no_life_left_and_a_mistake_is_not(code, deaths, stopping, fate):
    assert fate_of(code, deaths=deaths, stopping=stopping) is fate


def test_devices_named_twice_have_one_worker():
    assert find_devices({"CUDA_VISIBLE_DEVICES": "1, 0,1"}) == [Device("1", "1"), Device("0", "0")]


def test_the_waits_before_new_starts_grow_and_stay_within_half_a_minute_until_the_device_is_given_up():
    waits_s = list(islice(RESTART_BACKOFF.waits_s(), DEATHS_MAX - 1))
    assert waits_s == sorted(set(waits_s))
    assert waits_s[0] == 1
    assert sum(waits_s) < 30
