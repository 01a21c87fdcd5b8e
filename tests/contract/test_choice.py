"""The best takes of a track: chosen as they come, the same after every kill and in a rebuilt ledger, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from catalog.errors import StoreError
from catalog.keys import sidecar_key
from catalog.messages import AttemptMade
from catalog.scores import Score
from catalog.store import Store
from catalog.track import Take
from orchestrator.control import choice as choice_module
from orchestrator.control.choice import TakeChoice
from orchestrator.control.controller import Controller
from orchestrator.ledger import Ledger, open_ledger, readings, slots
from orchestrator.ledger.choice import decide_tracks, note_scores, read_tracks, tracks_of
from orchestrator.ledger.observations import Category
from orchestrator.ledger.tables import TAKE
from orchestrator.ledger.verdicts import decide, record_verdicts
from orchestrator.matrix import PlannedTrack
from orchestrator.planning.keeping import Unchosen
from orchestrator.planning.plan import CatalogPlan, StandingCounts, plan_tracks
from orchestrator.upkeep.rebuild import rebuild
from orchestrator.upkeep.verdicts import store_verdicts
from tests.support.fakes import MemoryStore
from tests.support.farm import DOLLAR_AN_HOUR, FakeBroker, as_of, attempt, started
from tests.support.makers import a_track

TRACKS = [a_track(f"{slot:04d}") for slot in (1, 2)]


class Scene:
    """A catalog of two tracks with three takes each, of which one is kept; what the takes score is said by number."""

    def __init__(self, ledger: Ledger, store: Store, *, keep: int = 1, tries: int = 0) -> None:
        self.ledger, self.store, self.keep, self.tries = ledger, store, keep, tries
        self.now_ms = 10_000_000_000_000
        self.broker, self.queued = FakeBroker(), list[Take]()
        self.run_id = self.begin()
        self.restart()
        self.broker.deliver(as_of(started(), self.now_ms, self.run_id))
        self.step()

    def plan(self, *, takes: int = 3) -> CatalogPlan:
        known, shelved = self.ledger.known_takes("spa"), self.ledger.shelved_takes("spa")
        return plan_tracks(
            lambda: [PlannedTrack(track, takes) for track in TRACKS],
            *(known, shelved),
            refused=self.ledger.refused_takes("spa"),
            **{"tries": self.tries, "keep": self.keep, "catalog": "spa", "title": "Spa", "model": "tone"},
        )

    def begin(self, *, takes: int = 3) -> str:
        due = self.plan(takes=takes).due
        return str(self.ledger.begin_or_resume_run("spa", "tone", due, tries=self.tries, choose_by="variation").run_id)

    def restart(self) -> None:
        self.controller = Controller(
            self.ledger,
            self.broker,
            price_of=lambda machine, at_ms: DOLLAR_AN_HOUR,
            window=100,
            silent_after_s=60,
            clock=lambda: self.now_ms,
            choice=TakeChoice(self.ledger, lambda: self.store, lambda: self.now_ms),
        )

    def render(self, *numbers: int, scores: dict[int, float] | None = None, rejected: tuple[int, ...] = ()) -> None:
        """The takes on the queues with these numbers are made; their scores are by number, .5 where none is given."""
        self.queued += (message.take for message in self.broker.receive_all())
        taken = sorted((take for take in self.queued if take.number in numbers), key=lambda take: take.id)
        self.queued = [take for take in self.queued if take.number not in numbers]
        for take in taken:
            self.now_ms += 1
            if take.number in rejected:
                bad = attempt(take, "rejected", run_id=self.run_id, reasons=["silent"], audio_ms=10_000)
                self.broker.deliver(as_of(bad, self.now_ms, self.run_id))
                continue
            made = scored(take, self.run_id, (scores or {}).get(take.number, 0.5), at_ms=self.now_ms)
            self.store.put_if_absent(sidecar_key(take), made.sidecar.to_json(), content_type="application/json")
            self.broker.deliver(made)

    def step(self) -> tuple[str, ...]:
        return self.controller.step().finished

    def say(self, track: int, number: int, outcome: Any = "accepted", **more: Any) -> None:
        """A listener's word, with what follows from it, as the commands have it."""
        self.now_ms += 1
        take = TRACKS[track].take(number)
        for _ in range(2):
            with self.ledger.write() as connection:
                found = [readings.find_rendition(connection, take.id)]
                said = decide(connection, found, outcome, "heard", self.now_ms, **more)
                said += decide_tracks(connection, tracks_of(connection, [take.id]), self.now_ms) if not said else []
                store_verdicts(self.store, said)
                record_verdicts(connection, said)


def scored(take: Take, run_id: str, value: float, *, at_ms: int) -> AttemptMade:
    made = attempt(take, run_id=run_id, at_ms=at_ms)
    assert made.sidecar is not None
    scores = [Score(name="variation", version="1", value=value)]
    measures = made.sidecar.measures.model_copy(update={"scores": scores})
    changes = {"record_id": made.record_id, "measures": measures, "created_at_ms": at_ms}
    return made.model_copy(update={"sidecar": made.sidecar.model_copy(update=changes)})


def listed(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return [f"{each.take.track.slot}/{each.take.number}" for each in readings.list_tracks(connection, "spa")]


def spare(ledger: Ledger) -> int:
    return sum(each.is_spare for each in ledger.known_takes("spa").values())


@pytest.fixture
def scene(ledger: Ledger, store: Store) -> Scene:
    return Scene(ledger, store)


def test_one_take_of_each_track_is_listed_and_the_others_are_spare_not_waste(scene):
    scene.render(1, 2, 3, scores={2: 0.9})
    assert scene.step() == (scene.run_id,)
    assert listed(scene.ledger) == ["0001/2", "0002/2"]
    assert spare(scene.ledger) == 4
    done = scene.plan()
    assert done.counts == StandingCounts(unchanged=6, spare=4, to_choose_from=4)
    assert (done.counts.wanted, done.counts.kept, done.counts.missing, done.to_render) == (2, 2, 0, 0)
    assert done.unchosen == Unchosen()
    assert slots.category_of(slots.SlotState.SPARE) is Category.ACCEPTED


def test_at_no_step_are_more_listed_than_the_catalog_keeps(scene):
    for number, value in ((1, 0.2), (2, 0.9), (3, 0.4)):
        scene.render(number, scores={number: value})
        scene.step()
        assert len(listed(scene.ledger)) == 2
    assert listed(scene.ledger) == ["0001/2", "0002/2"]


def test_a_store_that_is_away_keeps_the_run_open_and_the_choice_is_made_when_it_is_back(scene, monkeypatch):
    def away(*_: Any, **__: Any) -> None:
        raise StoreError("away", why="", fix="")

    with monkeypatch.context() as patch:
        patch.setattr(type(scene.store), "put_if_absent", away)
        for message in scene.broker.receive_all():
            scene.broker.deliver(scored(message.take, scene.run_id, 0.1 * message.take.number, at_ms=scene.now_ms))
        assert scene.step() == ()
        assert len(listed(scene.ledger)) == 6
    assert scene.step() == (scene.run_id,)
    assert listed(scene.ledger) == ["0001/3", "0002/3"]


@pytest.mark.parametrize("at", ["store", "ledger"])
def test_a_controller_that_was_killed_is_followed_by_one_that_chooses_the_same(scene, monkeypatch, at):
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        place = (choice_module, "settle_due") if at == "ledger" else (type(scene.store), "put_if_absent")
        patch.setattr(*place, killed)
        for message in scene.broker.receive_all():
            scene.broker.deliver(scored(message.take, scene.run_id, 0.1 * message.take.number, at_ms=scene.now_ms))
        with pytest.raises(KeyboardInterrupt):
            scene.step()
    scene.restart()
    assert scene.step() == (scene.run_id,)
    assert listed(scene.ledger) == ["0001/3", "0002/3"]


def test_a_rebuilt_ledger_lists_the_same(scene, tmp_path):
    scene.render(1, 2, 3, scores={2: 0.9})
    scene.step()
    scene.say(0, 1, picked=True)
    again = open_ledger(f"sqlite:///{tmp_path / 'again.sqlite'}")
    rebuild(scene.store, again)
    assert listed(again) == listed(scene.ledger) == ["0001/1", "0002/2"]
    assert again.known_takes("spa").keys() == scene.ledger.known_takes("spa").keys()
    assert spare(again) == 4


def test_a_rejected_take_is_followed_by_the_next_best_and_no_other_is_made(ledger, store):
    scene = Scene(ledger, store, tries=2)
    scene.render(1, 2, 3, scores={2: 0.9, 3: 0.7})
    scene.step()
    scene.say(0, 2, "rejected", again=True)
    assert listed(ledger) == ["0001/3", "0002/2"]
    assert scene.plan().to_render == 0
    scene.say(0, 3, "rejected", again=True)
    scene.say(0, 1, "rejected", again=True)
    assert listed(ledger) == ["0002/2"]
    assert [(each.take.number, each.place) for each in scene.plan().due() if each.is_further] == [(4, 3)]
    assert (scene.plan().to_render, scene.plan().counts.missing) == (1, 1)


def test_refused_takes_are_made_again_only_until_enough_are_good(ledger, store):
    scene = Scene(ledger, store, tries=2)
    scene.render(1, 2, 3, rejected=(1, 2))
    assert scene.step() == (scene.run_id,)
    with ledger.read() as connection:
        assert slots.count_made_again(connection, scene.run_id) == 4, "no place is left empty"
    assert listed(ledger) == ["0001/3", "0002/3"]
    scene = Scene(ledger, MemoryStore(), keep=2, tries=2)
    assert [each.take.number for each in scene.plan().due() if each.is_further] == [4, 4]


def test_a_pick_outlives_later_takes_and_an_acceptance_competes_again(scene):
    scene.render(1, 2, 3, scores={2: 0.9})
    scene.step()
    scene.say(0, 3, picked=True)
    assert listed(scene.ledger) == ["0001/3", "0002/2"]
    scene.begin(takes=4)
    scene.restart()
    scene.step()
    scene.render(4, scores={4: 1.0})
    scene.step()
    assert listed(scene.ledger) == ["0001/3", "0002/4"]
    scene.say(1, 4, "rejected")
    assert listed(scene.ledger) == ["0001/3", "0002/2"]
    scene.say(1, 4)
    assert listed(scene.ledger) == ["0001/3", "0002/4"]


def test_scores_that_were_computed_later_count_like_those_of_the_sidecar(scene):
    scene.render(1, 2, 3, scores={2: 0.9})
    scene.step()
    with scene.ledger.write() as connection:
        (track, _) = read_tracks(connection, [track.key for track in TRACKS])
        note_scores(connection, track.candidates[0].record_id, [Score(name="variation", version="1", value=0.95)])
        (track, _) = read_tracks(connection, [track.key for track in TRACKS])
        assert [each.scores["variation"].value for each in track.candidates] == [0.95, 0.9, 0.5]


def test_takes_made_before_the_catalog_kept_the_best_stay_and_the_plan_says_so(ledger, store):
    scene = Scene(ledger, store, keep=0)
    scene.render(1, 2, 3)
    assert scene.step() == (scene.run_id,)
    assert len(listed(ledger)) == 6
    scene.keep = 1
    plan = scene.plan()
    assert (plan.to_render, plan.counts.wanted, plan.counts.kept, plan.unchosen) == (0, 2, 6, Unchosen(beyond=4))
    assert "`tunemill catalog choose spa`" in plan.unchosen.in_words("spa")[0]
    scene.say(0, 1, "rejected")
    assert len(listed(ledger)) == 5, "nothing else leaves the list unasked"


def test_a_larger_number_to_keep_is_told_of_spare_takes(scene):
    scene.render(1, 2, 3)
    scene.step()
    scene.keep = 2
    assert scene.plan().unchosen == Unchosen(to_list=2)
    scene.keep = 0
    assert scene.plan().unchosen == Unchosen(to_list=4)


def test_states_of_slots_by_sql_are_those_by_rule(scene):
    scene.render(1, 2, 3)
    scene.step()
    with scene.ledger.read() as connection:
        by_sql = {
            name: set(connection.execute(TAKE.select().with_only_columns(TAKE.c.take_id).where(where)).scalars())
            for name, where in (("listed", slots.is_listed()), ("spare", slots.is_spare()))
        }
    known = scene.ledger.known_takes("spa").values()
    assert by_sql["listed"] == {each.take_id for each in known if each.is_listed}
    assert by_sql["spare"] == {each.take_id for each in known if each.is_spare}
    with scene.ledger.write() as connection:
        connection.execute(update(TAKE).values(current=False))
        assert not connection.execute(TAKE.select().where(slots.is_spare())).all()
