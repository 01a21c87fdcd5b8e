"""A change of format or level alone leaves the music in its slot: there is nothing to render, and nothing leaves."""

from __future__ import annotations

import pytest

from catalog.spec import AudioFormat
from orchestrator.ledger import KnownTake
from orchestrator.matrix import PlannedTrack
from orchestrator.planning.changes import ChangeKind, list_changes
from orchestrator.planning.plan import CatalogPlan, StandingCounts, plan_tracks
from tests.support.makers import a_take, refinished

OLD = a_take(duration_s=60)
NEW = refinished(OLD, format=AudioFormat.MP3)
SLOT = (OLD.track.key, 1)


def known(take=OLD, state="accepted", **more) -> dict:
    return {SLOT: KnownTake(take.id, state, "tone", sound_id=take.sound_id, **more)}


def plan(known_takes, shelved=None, take=NEW, **more) -> CatalogPlan:
    return plan_tracks(
        lambda: [PlannedTrack(take.track, 1)],
        known_takes,
        shelved or {},
        catalog="spa",
        title="Spa",
        model="tone",
        **more,
    )


def test_another_format_is_to_be_finished_and_not_rendered():
    made = plan(known())
    assert made.counts == StandingCounts(to_finish=1)
    assert (made.counts.total, made.counts.kept, made.to_render, made.loads) == (1, 1, 0, ())
    assert made.finishing == {NEW.id: OLD.id}
    assert not made.changes


@pytest.mark.parametrize("refusal", [{"state": "rejected"}, {"is_refused": True}], ids=["by checks", "by a listener"])
def test_a_rejected_take_would_be_rejected_again_in_any_format(refusal):
    made = plan(known(**refusal))
    assert made.counts == StandingCounts(unchanged=1, empty=1)
    assert not made.finishing


@pytest.mark.parametrize("state", ["waiting", "sent", "failed", "cancelled"])
def test_what_was_not_made_is_made_in_the_new_format(state):
    assert plan(known(state=state)).counts == StandingCounts(changed=1)


def test_other_music_is_rendered_whatever_its_format():
    assert plan(known(a_take(bpm=91, duration_s=60))).counts == StandingCounts(changed=1)
    assert plan({SLOT: KnownTake(OLD.id, "accepted", "tone")}).counts == StandingCounts(
        changed=1
    )  # of an unknown sound


def test_a_format_changed_back_finds_its_file_and_takes_nothing_off_the_list():
    made = plan(known(NEW), {OLD.id: "accepted"}, take=OLD)
    assert made.counts == StandingCounts(unchanged=1)
    assert (made.restored, bool(made.changes)) == (1, False)


def test_the_list_of_changes_says_what_differs():
    (change,) = list_changes(plan(known()), lambda ids: {OLD.id: OLD}, known())
    assert (change.kind, change.replaced_id, change.is_leaving) == (ChangeKind.TO_FINISH, OLD.id, False)
    assert [each.field for each in change.differences] == ["master.format"]
