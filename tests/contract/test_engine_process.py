"""An engine promises the same in this process and in its own; what only its own can suffer is tested here too."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.buckets import Bucket
from catalog.errors import ModelError, OutOfVram, TunemillError
from tests.support.fakes import EngineHere, FakeEngine, a_plan
from tests.support.makers import a_spec, a_take, takes
from workers.engine.process import EngineDied, EngineGone, EngineProcess, EngineRecipe
from workers.engine.protocol import Finish, Job, Refusal, Rendition
from workers.tone import synthesise

ROOT = Path(__file__).parents[2]
OPTIONS = {"limit": 4, "fits": 4, "plan_limit": 8, "plans_fit": 8, "decodes": 3}
FAKE = EngineRecipe("tests.support.fakes:fake_engine", OPTIONS)


def jobs(*some: Any) -> list[Job]:
    return [Job(take) for take in some]


@pytest.fixture(params=["here", "process"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineHere | EngineProcess]:
    engine = EngineHere(FakeEngine(**OPTIONS)) if request.param == "here" else EngineProcess(FAKE)
    yield engine
    engine.close()


@pytest.fixture
def process() -> Iterator[EngineProcess]:
    engine = EngineProcess(FAKE)
    engine.wait_until_loaded()
    yield engine
    engine.close()


def test_an_engine_says_what_it_is_and_how_much_it_takes(engine):
    assert (engine.card.model, engine.card.vram_gib) == ("tone", 24.0)
    assert engine.batch_limit(Bucket.of(a_spec())) == (4, "fake")
    assert engine.plan_limit(Bucket.of(a_spec())) == (8, "fake planner")


def test_plans_come_in_the_order_of_the_takes(engine):
    some = [a_take("1"), a_take("2", caption="unplannable"), a_take("3")]
    result = engine.plan(some)
    assert result.outcomes == [a_plan(some[0]), Refusal("the fake was told not to plan it"), a_plan(some[2])]
    assert result.plan_ms == 31
    with pytest.raises(OutOfVram, match="cannot be planned at once"):
        engine.plan(takes(9))


def test_a_batch_follows_the_plans_it_is_given(engine):
    take = a_take()
    assert engine.render([Job(take, a_plan(take))]).outcomes[0].plan == a_plan(take)


def test_an_engine_says_what_it_holds(engine):
    engine.render(jobs(a_take()))
    assert 10 < engine.memory().rss_mib < 10_000


def test_a_batch_that_cannot_be_decoded_fails_where_its_audio_was_expected(engine):
    too_many, fine = engine.begin(jobs(*takes(4))), engine.begin(jobs(*takes(3)))
    with pytest.raises(OutOfVram, match="4 takes cannot be decoded"):
        too_many.result(20)
    assert len(fine.result(20).outcomes) == 3


def test_outcomes_come_in_the_order_of_the_jobs(engine):
    some = [a_take("1"), a_take("2", caption="refuse"), a_take("3", keyscale="F minor")]
    result = engine.render(jobs(*some))
    first, refused, third = result.outcomes
    assert isinstance(first, Rendition)
    assert isinstance(third, Rendition)
    assert refused == Refusal("the fake was told to refuse")
    np.testing.assert_array_equal(first.audio, synthesise(some[0]))
    np.testing.assert_array_equal(third.audio, synthesise(some[2]))
    assert third.effective.dit_seed == some[2].dit_seed
    assert result.times.diffuse_ms == 30


def test_audio_outlives_the_next_batch_and_the_engine(engine):
    first = engine.render(jobs(a_take("1"))).outcomes[0]
    engine.render(jobs(a_take("2")))
    engine.close()
    np.testing.assert_array_equal(first.audio, synthesise(a_take("1")))


def test_a_batch_that_does_not_fit_says_so_and_a_smaller_one_is_rendered(engine):
    with pytest.raises(OutOfVram, match="5 takes"):
        engine.render(jobs(*takes(5)))
    assert len(engine.render(jobs(*takes(3))).outcomes) == 3


def test_an_error_in_words_keeps_its_words(engine):
    with pytest.raises(TunemillError, match="told to err"):
        engine.render(jobs(a_take(caption="error")))
    assert len(engine.render(jobs(a_take())).outcomes) == 1


def test_an_unknown_fault_becomes_the_engines_death_with_its_class_and_message(process):
    with pytest.raises(EngineDied, match="RuntimeError: CUDA error"):
        process.render(jobs(a_take(caption="fault")))
    with pytest.raises(EngineDied):
        process.render(jobs(a_take()))


def test_a_killed_engine_is_noticed_at_once(process):
    began_s = time.monotonic()
    with pytest.raises(EngineDied, match="SIGKILL"):
        process.render(jobs(a_take(caption="die")))
    assert time.monotonic() - began_s < 20


def test_an_engine_killed_while_idle_is_not_blamed_on_the_next_batch(process):
    os.kill(process.pid, 9)
    process._reader.join(10)  # all its threads have ended, not only the first
    with pytest.raises(EngineGone):
        process.render(jobs(a_take()))


@pytest.mark.parametrize("words", ["choke", "perish", "die"])
def test_whoever_waits_for_a_dying_engine_is_told_so(process, words):
    """Planning, decoding or rendering: one of them kills the engine, and all that is under way ends."""
    before = process.begin(jobs(a_take()))
    take = a_take("0099", caption=words)
    call = (lambda: process.plan([take])) if words == "choke" else (lambda: process.render(jobs(take)))
    with pytest.raises(EngineDied, match="SIGKILL"):
        call()
    assert isinstance(before.exception(20), EngineDied | None)  # it was done just before, or has ended too
    with pytest.raises(EngineGone):
        process.plan([a_take()])


class Crowded(FakeEngine):
    """Finishes no batch before the one after the next has been begun: it works only if they overlap."""

    def __init__(self) -> None:
        super().__init__(in_process=False)
        self._begun = threading.Semaphore(0)

    def begin(self, jobs: list[Job]) -> Finish:
        finish = super().begin(jobs)
        self._begun.release()
        return lambda: self._after_the_next_two(finish)

    def _after_the_next_two(self, finish: Finish) -> Any:
        number = sum(call == "finish" for call, _ in self.calls) + 1
        if number == 1:
            for _ in range(3):
                assert self._begun.acquire(timeout=20)
            time.sleep(0.2)  # so that a third batch that did not wait would be seen to have been let in
        return finish()


def test_the_next_batch_is_begun_beside_the_decoding_and_a_third_waits_for_its_place():
    with closing(EngineProcess(EngineRecipe(f"{__name__}:Crowded"))) as engine:
        first, second = engine.begin(jobs(a_take("1"))), engine.begin(jobs(a_take("2")))
        assert not first.done()
        third = engine.begin(jobs(a_take("3")))
        assert first.done()
        for audio, slot in ((first, "1"), (second, "2"), (third, "3")):
            np.testing.assert_array_equal(audio.result(20).outcomes[0].audio, synthesise(a_take(slot)))


def test_replies_in_between_never_tear_audio_from_its_batch(process):
    for n in range(5):
        some = takes(3, keyscale="CDEFG"[n] + " major")
        coming = process.begin(jobs(*some))
        while not coming.done():
            assert process.batch_limit(Bucket.of(a_spec())) == (4, "fake")
        for take, outcome in zip(some, coming.result().outcomes, strict=True):
            np.testing.assert_array_equal(outcome.audio, synthesise(take))


def test_an_engine_that_gains_nothing_by_it_is_done_with_a_batch_before_the_next():
    with closing(EngineProcess(EngineRecipe(FAKE.factory, {**OPTIONS, "overlaps": False}))) as engine:
        fine, too_many = engine.begin(jobs(*takes(3))), engine.begin(jobs(*takes(4)))
        assert fine.done()
        assert isinstance(too_many.exception(0), OutOfVram)
        np.testing.assert_array_equal(fine.result().outcomes[0].audio, synthesise(takes(1)[0]))


class Stuck(FakeEngine):
    """Never finishes anything."""

    def __init__(self) -> None:
        super().__init__(in_process=False)

    def begin(self, jobs: list[Job]) -> Finish:
        super().begin(jobs)
        return lambda: time.sleep(60)  # type: ignore[return-value]


def test_a_decoding_that_hangs_is_noticed_while_nobody_waits_for_it():
    with closing(EngineProcess(EngineRecipe(f"{__name__}:Stuck"), timeout_s=0.5)) as engine:
        error = engine.begin(jobs(a_take())).exception(20)
    assert isinstance(error, EngineDied)
    assert "gave no answer" in error.what


def test_closing_an_engine_leaves_nobody_waiting():
    engine = EngineProcess(EngineRecipe(f"{__name__}:Stuck"))
    left = engine.begin(jobs(a_take()))
    engine.close()
    assert isinstance(left.exception(0), EngineDied)


def test_an_engine_killed_from_another_thread_answers_all_who_wait():
    with closing(EngineProcess(EngineRecipe("tests.support.fakes:fake_engine"))) as engine:
        engine.wait_until_loaded()
        killer = threading.Timer(0.1, engine.kill)
        killer.start()
        with pytest.raises(EngineDied):
            _render_for_ever(engine)
        killer.join()


@pytest.mark.skipif(sys.platform != "linux", reason="open descriptors are read from /proc")
def test_neither_a_batch_nor_a_killed_child_leaves_any_shared_memory_behind():
    before = _descriptors()
    engine = EngineProcess(FAKE)
    kept = engine.render(jobs(*takes(3)))
    assert _descriptors()["/memfd:tunemill-audio (deleted)"] == 1  # without a name: it ends with its last user
    killer = threading.Timer(0.05, engine.kill)
    killer.start()
    with pytest.raises(EngineDied):
        _render_for_ever(engine)
    killer.join()
    engine.close()
    del kept
    after = _descriptors()
    assert after["/memfd:tunemill-audio (deleted)"] == 0
    assert after.total() <= before.total()


def _render_for_ever(engine: EngineProcess) -> None:
    while True:
        engine.render(jobs(*takes(3)))


def _descriptors() -> Counter[str]:
    """The open files of this process."""
    gc.collect()
    links = list(Path("/proc/self/fd").iterdir())
    return Counter(str(link.readlink()) for link in links if link.is_symlink())


def test_a_model_that_cannot_load_keeps_its_words():
    error = ModelError("no weights", why="the folder is empty", fix="download them")
    engine = EngineProcess(EngineRecipe("tests.support.fakes:broken_engine", {"error": error}))
    with pytest.raises(ModelError) as raised:
        engine.wait_until_loaded()
    engine.close()
    assert (raised.value.what, raised.value.why, raised.value.fix) == (error.what, error.why, error.fix)


def test_an_engine_that_hangs_is_killed_and_called_dead(tmp_path):
    recipe = EngineRecipe("tests.support.fakes:SlowEngine", {"batch_s": 60, "folder": tmp_path})
    engine = EngineProcess(recipe, timeout_s=0.5)
    engine.wait_until_loaded()
    with pytest.raises(EngineDied, match="gave no answer"):
        engine.render(jobs(a_take()))
    engine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal of a parent is Linux's")
def test_the_engine_dies_with_its_parent_even_in_the_middle_of_a_batch(tmp_path):
    program = f"""
        import os, threading
        from pathlib import Path
        from tests.support.makers import a_take
        from workers.engine.protocol import Job
        from workers.engine.process import EngineProcess, EngineRecipe
        folder = Path({str(tmp_path)!r})
        engine = EngineProcess(EngineRecipe("tests.support.fakes:SlowEngine", {{"batch_s": 60, "folder": folder}}))
        engine.wait_until_loaded()
        print(engine.pid, flush=True)
        engine.render([Job(a_take())])
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _wait_until_gone(child)


def _wait_until_gone(pid: int) -> None:
    for _ in range(100):
        if _is_gone(pid):
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    pytest.fail("the engine's process did not end")


def _is_gone(pid: int) -> bool:
    if sys.platform != "linux":
        time.sleep(1)
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_an_engine_has_its_loading_time_however_long_the_machine_has_been_up(monkeypatch):
    from workers.engine import process as engine_process

    up_for_a_day = type("Clock", (), {"monotonic": staticmethod(lambda: time.monotonic() + 86_400.0)})
    monkeypatch.setattr(engine_process, "time", up_for_a_day)
    engine = EngineProcess(FAKE, loading_timeout_s=1_800.0)
    try:
        assert engine.card.model == "tone"
    finally:
        engine.close()
