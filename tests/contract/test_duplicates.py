"""Copies at acceptance: told or made again as the catalog says, whatever is killed and whatever the store does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from catalog.chroma import pack_codes, unpack_codes
from catalog.errors import DuplicatesError, LedgerError, UnknownNameError
from catalog.keys import sidecar_key
from catalog.messages import AttemptMade
from catalog.store import Store
from catalog.track import Take
from orchestrator.cli import app as program
from orchestrator.control import duplicates
from orchestrator.control.controller import Controller
from orchestrator.control.duplicates import DuplicateCheck
from orchestrator.ledger import Ledger, open_ledger, readings
from orchestrator.ledger.duplicates import RunDuplicates, count_of_run, listed_pairs
from orchestrator.ledger.tables import TAKE, VERDICT
from orchestrator.upkeep.rebuild import rebuild
from tests.support import sounds
from tests.support.chroma import codes_of_music, worn
from tests.support.fakes import FakeRenderer, MemoryStore, a_context
from tests.support.farm import DOLLAR_AN_HOUR, FakeBroker, as_of, attempt, started, takes
from tests.support.makers import a_message, a_take, exactly
from workers.audio.chroma import chroma_of, has_chromaprint
from workers.render import render_take

program._register()

needs_chromaprint = pytest.mark.skipif(not has_chromaprint(), reason="the extra `duplicates` is not installed")
ONE, OTHER = codes_of_music(1), codes_of_music(2)
COPY = worn(ONE, share=0.5)


class Scene:
    """A ledger with a run of `plan`, a broker in memory, a store, and a controller that may be started anew."""

    def __init__(self, ledger: Ledger, store: Store, plan: list[Take], policy: str) -> None:
        self.ledger, self.store, self.now_ms = ledger, store, 10_000_000_000_000
        self.broker = FakeBroker()
        run = ledger.begin_or_resume_run("spring", "tone", exactly(plan), tries=2, duplicates=policy)
        self.run_id = str(run.run_id)
        self.restart()

    def restart(self) -> None:
        self.controller = Controller(
            self.ledger,
            self.broker,
            price_of=lambda machine, at_ms: DOLLAR_AN_HOUR,
            window=100,
            silent_after_s=60,
            clock=lambda: self.now_ms,
            duplicates=DuplicateCheck(self.ledger, lambda: self.store, lambda: self.now_ms),
        )

    def render(self, sound_of: dict[str, list[int]]) -> None:
        """What is on the queues is rendered with these sounds, by slot and number; others have one of their own."""
        for take in sorted((message.take for message in self.broker.receive_all()), key=named):
            self.now_ms += 1
            codes = sound_of.get(named(take), codes_of_music(self.now_ms))
            made = accepted(take, self.run_id, codes, at_ms=self.now_ms)
            self.store.put_if_absent(sidecar_key(take), made.sidecar.to_json(), content_type="application/json")
            self.broker.deliver(made)

    def step(self) -> tuple[str, ...]:
        return self.controller.step().finished

    def listed(self) -> list[str]:
        with self.ledger.read() as connection:
            return [named(each.take) for each in readings.list_tracks(connection, "spring")]

    def pairs(self) -> list[tuple[str, str]]:
        with self.ledger.read() as connection:
            return [(named(each.later), named(each.earlier)) for each in listed_pairs(connection, "spring")]

    def verdicts(self) -> list[tuple[str, str, bool]]:
        with self.ledger.read() as connection:
            query = select(TAKE.c.message, VERDICT.c.reason, VERDICT.c.again)
            rows = connection.execute(query.join(VERDICT, VERDICT.c.take_id == TAKE.c.take_id)).all()
        return [(named(Take.model_validate(message)), reason, again) for message, reason, again in rows]

    def told(self) -> RunDuplicates:
        with self.ledger.read() as connection:
            return count_of_run(connection, readings.get_run(connection, self.run_id))


def named(take: Take) -> str:
    """Such as `0001/2`."""
    return f"{take.track.slot}/{take.number}"


def accepted(take: Take, run_id: str, codes: list[int], *, at_ms: int) -> AttemptMade:
    made = attempt(take, run_id=run_id, at_ms=at_ms)
    assert made.sidecar is not None
    sidecar = made.sidecar.model_copy(
        update={"record_id": made.record_id, "chroma": pack_codes(codes), "created_at_ms": at_ms}
    )
    return made.model_copy(update={"sidecar": sidecar})


def a_scene(ledger: Ledger, store: Store, policy: str, *, tracks: int = 3) -> Scene:
    scene = Scene(ledger, store, takes(tracks), policy)
    scene.broker.deliver(as_of(started(), scene.now_ms, scene.run_id))
    scene.step()
    return scene


def test_a_copy_is_told_and_stays_where_the_catalog_says_nothing_else(ledger, store):
    scene = a_scene(ledger, store, "warn")
    scene.render({"0000/1": ONE, "0002/1": COPY})
    assert scene.step() == (scene.run_id,)
    assert scene.pairs() == [("0002/1", "0000/1")]
    assert scene.told() == RunDuplicates(listed=1, rejected=0)
    assert scene.listed() == ["0000/1", "0001/1", "0002/1"]
    assert scene.verdicts() == []


def test_a_copy_makes_room_for_the_next_take_before_its_run_is_over(ledger, store):
    scene = a_scene(ledger, store, "reroll")
    scene.render({"0000/1": ONE, "0002/1": COPY})
    assert scene.step() == ()
    assert scene.verdicts() == [("0002/1", f"same as take {takes(1)[0].id}", True)]
    scene.render({})
    assert scene.step() == (scene.run_id,)
    assert scene.listed() == ["0000/1", "0001/1", "0002/2"]
    assert scene.told() == RunDuplicates(listed=0, rejected=1)


def test_copies_without_end_end_with_the_tries(ledger, store):
    scene = a_scene(ledger, store, "reroll", tracks=2)
    for _ in range(3):
        scene.render({f"{slot}/{number}": ONE for slot in ("0000", "0001") for number in (1, 2, 3)})
        finished = scene.step()
    assert finished == (scene.run_id,)
    assert scene.listed() == ["0000/1"]
    assert [name for name, *_ in scene.verdicts()] == ["0001/1", "0001/2", "0001/3"]


def test_a_catalog_that_compares_nothing_keeps_all(ledger, store):
    scene = a_scene(ledger, store, "off")
    scene.render({"0000/1": ONE, "0002/1": COPY})
    assert scene.step() == (scene.run_id,)
    assert scene.pairs() == []


@pytest.mark.parametrize("dies_in", ["compare_due", "decide_due", "settle_due"])
def test_a_controller_that_is_killed_is_followed_by_one_that_does_the_same(ledger, store, monkeypatch, dies_in):
    scene = a_scene(ledger, store, "reroll")
    scene.render({"0000/1": ONE, "0002/1": COPY})

    def killed(*_: Any) -> None:
        raise LedgerError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(duplicates, dies_in, killed)
        with pytest.raises(LedgerError):
            scene.step()
    scene.restart()
    assert scene.step() == ()
    scene.render({})
    assert scene.step() == (scene.run_id,)
    assert [name for name, *_ in scene.verdicts()] == ["0002/1"]
    assert len(list(store.list("spring/verdicts/"))) == 1
    assert scene.listed() == ["0000/1", "0001/1", "0002/2"]


def test_a_run_waits_for_a_store_that_is_away_before_it_ends(tmp_path):
    store, ledger = MemoryStore(), open_ledger("sqlite://")
    scene = a_scene(ledger, store, "reroll")
    scene.render({"0000/1": ONE, "0002/1": COPY})
    store.refuse = -1
    assert scene.step() == ()
    assert scene.verdicts() == []
    store.refuse = 0
    scene.step()
    scene.render({})
    assert scene.step() == (scene.run_id,)
    assert scene.listed() == ["0000/1", "0001/1", "0002/2"]
    ledger.close()


def test_a_rebuilt_ledger_finds_the_same_pairs_and_keeps_the_rejections(ledger, store, tmp_path):
    scene = a_scene(ledger, store, "reroll", tracks=4)
    scene.render({"0000/1": ONE, "0001/1": OTHER, "0002/1": COPY})
    scene.step()
    scene.render({})
    scene.step()
    new = open_ledger(f"sqlite:///{tmp_path / 'rebuilt.sqlite'}")
    rebuild(store, new)
    DuplicateCheck(new, lambda: store, lambda: 1).step()
    with new.read() as connection:
        listed = [named(each.take) for each in readings.list_tracks(connection, "spring")]
        assert listed_pairs(connection, "spring") == []
    new.close()
    assert listed == scene.listed() == ["0000/1", "0001/1", "0002/2", "0003/1"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    scene = Scene(open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}"), MemoryStore(), takes(3), "off")
    scene.broker.deliver(as_of(started(), scene.now_ms, scene.run_id))
    scene.step()
    scene.render({"0000/1": ONE, "0002/1": COPY})
    scene.step()
    scene.ledger.close()
    return scene


def test_the_command_lists_pairs_for_people_scripts_and_cron(home):
    first, _, copy = takes(3)
    shown = CliRunner().invoke(program.app, ["catalog", "duplicates", "spring"])
    assert shown.exit_code == 0, shown.output
    assert copy.id in shown.stdout
    assert first.id in shown.stdout
    assert "1 track sounds like an earlier one" in shown.stdout
    (pair,) = json.loads(CliRunner().invoke(program.app, ["catalog", "duplicates", "spring", "--json"]).stdout)["pairs"]
    assert (pair["take_id"], pair["same_as"]["take_id"]) == (copy.id, first.id)
    assert pair["share"] == pytest.approx(0.5, abs=0.1)
    failed = CliRunner().invoke(program.app, ["catalog", "duplicates", "spring", "--fail-on-found"])
    assert isinstance(failed.exception, DuplicatesError)
    unknown = CliRunner().invoke(program.app, ["catalog", "duplicates", "sprung"])
    assert isinstance(unknown.exception, UnknownNameError)


# ---------------------------------------------------------------- real codes


def test_without_the_extra_a_take_has_no_codes_and_is_accepted(monkeypatch):
    monkeypatch.setattr("workers.audio.chroma._chromaprint", lambda: None)
    context = a_context()
    render_take(a_message(a_take()).model_dump(mode="json"), context)
    (made,) = context.recorder.attempts()
    assert made.sidecar.chroma == ""


@needs_chromaprint
def test_a_take_is_stored_with_the_codes_of_its_sound():
    renderer = FakeRenderer(spoil=lambda audio: sounds.chords(audio.shape[-1] // sounds.RATE))
    context = a_context(renderer=renderer)
    render_take(a_message(a_take(duration_s=30)).model_dump(mode="json"), context)
    (made,) = context.recorder.attempts()
    assert made.sidecar.chroma == chroma_of(sounds.chords(30))


@needs_chromaprint
def test_noise_by_design_has_no_codes_because_it_always_sounds_alike():
    context = a_context()
    noisy = context.card.fingerprints.model_copy(update={"noise": True})
    context = replace(context, card=replace(context.card, fingerprints=noisy))
    render_take(a_message(a_take(duration_s=30)).model_dump(mode="json"), context)
    (made,) = context.recorder.attempts()
    assert (made.outcome, made.sidecar.chroma) == ("accepted", "")


@needs_chromaprint
@pytest.mark.parametrize("cut_s", [0, 0.5, 5])
def test_a_quieter_copy_that_begins_later_is_the_same_recording(cut_s):
    sound = sounds.chords(60, seed=1)
    copy = sound[:, round(cut_s * sounds.RATE) :] * np.float32(0.2)
    one, other = unpack_codes(chroma_of(sound)), unpack_codes(chroma_of(copy))
    assert one.likeness(other).is_same
    assert not one.likeness(unpack_codes(chroma_of(sounds.chords(60, seed=2)))).is_same
