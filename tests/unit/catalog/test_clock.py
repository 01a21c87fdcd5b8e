"""A process keeps the right time for months, and no clock that is set makes its work longer or turns it back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import clock, messages
from catalog.clock import Clock, SuspendDetector, find_steady_clock

S = 1_000_000_000
HOUR_S = 3600
DAY_S = 24 * HOUR_S
BEGAN_NS = 1_790_000_000 * S
SLEW_MS_AN_HOUR = 1_800


class Machine:
    """The clocks of a machine: true time, the wall clock, and two steady ones that may drift."""

    def __init__(self, drift_ppm: int = 0) -> None:
        self.drift_ppm = drift_ppm
        self.true_ns = BEGAN_NS
        self.wall_ns = BEGAN_NS
        self.steady_ns = 77 * S
        self.awake_ns = 55 * S
        self.clock = Clock(lambda: self.wall_ns, lambda: self.steady_ns)

    def work(self, seconds: float, step_s: float | None = None) -> int:
        """Let time pass, in which somebody asks for it every `step_s`; how wrong it was at most, in milliseconds."""
        worst_ms, step_ns = 0, round((step_s or seconds) * S)
        for _ in range(round(seconds * S / step_ns)):
            self.true_ns += step_ns
            self.wall_ns += step_ns
            self.steady_ns += step_ns + step_ns * self.drift_ppm // 1_000_000
            self.awake_ns += step_ns
            worst_ms = max(worst_ms, abs(self.error_ms))
        return worst_ms

    def suspend(self, seconds: int) -> None:
        self.true_ns += seconds * S
        self.wall_ns += seconds * S
        self.steady_ns += seconds * S

    @property
    def error_ms(self) -> int:
        return self.clock.now_ms() - self.true_ns // 1_000_000


@pytest.mark.parametrize("drift_ppm", [-50, 50, 300])
@pytest.mark.parametrize("step_s", [10, HOUR_S, 5 * DAY_S])
def test_a_month_of_drift_leaves_the_time_right(drift_ppm, step_s):
    assert Machine(drift_ppm).work(30 * DAY_S, step_s) <= 2


def test_a_wall_clock_that_ntp_corrects_by_seconds_once_a_day_is_followed():
    machine = Machine()
    for _ in range(30):
        machine.true_ns += 3 * S
        machine.wall_ns += 3 * S
        machine.work(DAY_S, 60)
        assert abs(machine.error_ms) <= 2


def test_the_time_for_which_the_machine_is_suspended_counts():
    machine = Machine(drift_ppm=50)
    machine.work(HOUR_S, 10)
    before_ms = machine.clock.now_ms()
    machine.suspend(8 * HOUR_S)
    assert abs(machine.error_ms) <= 2
    assert abs(machine.clock.now_ms() - before_ms - 8 * HOUR_S * 1000) <= 2


@pytest.mark.parametrize("ahead_s", [-HOUR_S, HOUR_S, 8 * HOUR_S])
def test_an_hour_in_which_the_clock_was_set_is_an_hour(ahead_s):
    machine = Machine()
    machine.work(HOUR_S, 10)
    before_ms = machine.clock.now_ms()
    machine.wall_ns += ahead_s * S
    machine.work(HOUR_S, 10)
    lasted_ms = machine.clock.now_ms() - before_ms
    assert abs(lasted_ms - HOUR_S * 1000) <= SLEW_MS_AN_HOUR
    assert (lasted_ms > HOUR_S * 1000) is (ahead_s > 0), "the set clock is followed, slowly"


def test_a_clock_that_is_set_there_and_back_leaves_the_time_right():
    machine = Machine()
    machine.wall_ns += HOUR_S * S
    machine.work(HOUR_S, 10)
    machine.wall_ns -= HOUR_S * S
    machine.work(HOUR_S + 10, 10)
    assert abs(machine.error_ms) <= 2


def test_a_pause_that_no_steady_clock_has_counted_is_taken_for_a_clock_that_was_set():
    """The limit that the module states: an hour that was never worked is worse than a time that stays behind."""
    machine = Machine()
    machine.true_ns += 8 * HOUR_S * S
    machine.wall_ns += 8 * HOUR_S * S
    machine.work(HOUR_S, 10)
    assert machine.error_ms == -8 * HOUR_S * 1000 + SLEW_MS_AN_HOUR


steps = st.lists(
    st.tuples(st.integers(0, 10 * HOUR_S * S), st.integers(-DAY_S * S, DAY_S * S)), min_size=1, max_size=30
)


@given(steps)
def test_whatever_becomes_of_the_wall_clock_time_passes_as_the_steady_clock_says(steps):
    machine = Machine()
    last_ms = machine.clock.now_ms()
    for passed_ns, set_by_ns in steps:
        machine.steady_ns += passed_ns
        machine.wall_ns += passed_ns + set_by_ns
        now_ms = machine.clock.now_ms()
        passed_ms = passed_ns / 1e6
        assert now_ms >= last_ms
        assert abs(now_ms - last_ms - passed_ms) <= passed_ms / clock.SLEW + 1
        last_ms = now_ms


def test_a_steady_clock_that_is_none_stops_the_time_and_does_not_turn_it_back():
    machine = Machine()
    now_ms = machine.clock.now_ms()
    machine.steady_ns -= 5 * S
    assert machine.clock.now_ms() == now_ms
    machine.steady_ns += 6 * S
    machine.wall_ns += S
    assert machine.clock.now_ms() == now_ms + 1000


@pytest.mark.parametrize("ahead_s", [-30, 30])
def test_a_clock_that_was_set_is_logged_once_and_drift_is_not(caplog, ahead_s):
    machine = Machine(drift_ppm=-100)
    machine.work(30 * DAY_S, HOUR_S)
    assert caplog.messages == []
    machine.wall_ns += ahead_s * S
    machine.work(60, 1)
    (said,) = caplog.messages
    assert f"{ahead_s:+} s off" in said
    assert "1.8 s an hour" in said
    machine.work(3 * DAY_S, 60)  # it has caught up
    machine.wall_ns += ahead_s * S
    machine.work(60, 1)
    assert len(caplog.messages) == 2


class Preempted(int):
    """A reading of a clock that lets other threads work while something is subtracted from it."""

    def __sub__(self, other):
        time.sleep(0)
        return int(self) - other


def test_no_thread_sees_less_than_another_has_seen_before():
    began_ns = time.monotonic_ns()
    shared = Clock(lambda: Preempted(time.monotonic_ns()), lambda: Preempted(time.monotonic_ns()))
    backwards = []
    latest_ms, until_s = [0], time.monotonic() + 0.5

    def look():
        while time.monotonic() < until_s:
            before_ms = latest_ms[0]
            now_ms = shared.now_ms()
            if now_ms < before_ms:
                backwards.append(before_ms - now_ms)
            latest_ms[0] = max(latest_ms[0], now_ms)

    threads = [threading.Thread(target=look) for _ in range(6)]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        sys.setswitchinterval(interval_s)
    assert backwards == []
    assert latest_ms[0] * 1_000_000 <= time.monotonic_ns(), "no stretch of time has been counted twice"
    assert latest_ms[0] * 1_000_000 > began_ns + 0.4 * S


def test_a_signal_handler_may_ask_for_the_time_while_its_thread_is_asking():
    asked, is_due = [], []

    def interrupted_ns():
        now_ns = time.monotonic_ns()
        if is_due:
            is_due.clear()
            signal.raise_signal(signal.SIGUSR1)
        return now_ns

    shared = Clock(time.time_ns, interrupted_ns)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: asked.append(shared.now_ms()))
    try:
        for count in range(1, 101):
            is_due.append(True)
            time.sleep(0.001)
            assert shared.now_ms() >= asked[-1]
            assert len(asked) == count
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no CLOCK_BOOTTIME")
def test_the_steady_clock_is_the_one_that_goes_on_in_a_suspended_machine(monkeypatch):
    asked = []
    monkeypatch.setattr(time, "clock_gettime_ns", lambda number: asked.append(number) or 5)
    assert find_steady_clock()() == 5
    assert set(asked) == {time.CLOCK_BOOTTIME}


def test_a_system_that_has_no_such_clock_has_a_steady_one_all_the_same(monkeypatch):
    def refuse(number):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(time, "clock_gettime_ns", refuse)
    assert find_steady_clock() is time.monotonic_ns
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.delattr(time, "CLOCK_MONOTONIC", raising=False)
    assert find_steady_clock() is time.monotonic_ns


def test_a_machine_that_was_suspended_is_noticed_once_and_one_that_worked_is_not():
    machine = Machine()
    detector = SuspendDetector(lambda: machine.steady_ns, lambda: machine.awake_ns)
    machine.work(HOUR_S, 10)
    assert not detector.was_suspended()
    machine.suspend(2)
    assert detector.was_suspended()
    assert not detector.was_suspended()
    machine.wall_ns += HOUR_S * S  # only set
    machine.work(60)
    assert not detector.was_suspended()
    for _ in range(4):
        machine.suspend(1)
        machine.work(1)
        assert detector.was_suspended()


def test_the_time_of_a_process_that_begins_is_that_of_its_machine():
    ask = "import time; from catalog import clock; print(clock.now_ms(), time.time_ns() // 1_000_000)"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert abs(int(said[0]) - int(said[1])) <= 50
    assert messages.now_ms is clock.now_ms
    assert not SuspendDetector().was_suspended()
