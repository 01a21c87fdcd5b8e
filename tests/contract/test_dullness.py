"""A track is dull for its genre when it has much less treble than the others; a dull genre as a whole is not."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from catalog.track import Track
from orchestrator.ledger import Ledger, readings
from orchestrator.ledger.dullness import TRACKS_LEAST, treble_by_genre, with_dullness
from orchestrator.ledger.facts import record_facts
from orchestrator.ledger.readings import ListedTrack
from orchestrator.ledger.tables import TAKE
from tests.support.farm import DOLLAR_AN_HOUR, attempt, started
from tests.support.makers import a_track, exactly

BRIGHT = [-30.0 + 2 * (number % 5) for number in range(TRACKS_LEAST)]  # median -26, median deviation 2


def listed(ledger: Ledger, treble_db: dict[str, list[float | None]]) -> dict[str, ListedTrack]:
    """A catalog whose genres have tracks of this much treble; the tracks by genre and number."""
    tracks: list[tuple[Track, float | None]] = [
        (a_track(f"{number:04d}").model_copy(update={"genre": genre}), value)
        for genre, values in treble_db.items()
        for number, value in enumerate(values)
    ]
    run_id = ledger.begin_or_resume_run("spa", "tone", exactly([track.take() for track, _ in tracks])).run_id
    records = []
    for track, value in tracks:
        made = attempt(track.take(), run_id=run_id)
        assert made.sidecar is not None
        measures = made.sidecar.measures.model_copy(update={"treble_db": value})
        records.append(made.model_copy(update={"sidecar": made.sidecar.model_copy(update={"measures": measures})}))
    with ledger.write() as connection:
        connection.execute(update(TAKE).values(orders=1))
        record_facts(connection, [started(), *records], lambda machine, at_ms: DOLLAR_AN_HOUR, 5_000)
    with ledger.read() as connection:
        found = with_dullness(readings.list_tracks(connection, "spa"), treble_by_genre(connection))
    return {f"{track.take.track.genre}/{track.take.track.slot}": track for track in found}


@pytest.fixture
def ledger(database_url):
    from orchestrator.ledger import open_ledger

    opened = open_ledger(database_url)
    yield opened
    opened.close()


def warned(tracks: dict[str, ListedTrack]) -> dict[str, tuple[str, ...]]:
    return {name: track.warnings for name, track in tracks.items() if track.warnings}


def test_a_track_is_compared_with_its_genre_alone(ledger):
    tracks = listed(ledger, {"jazz": [*BRIGHT, -60.0], "drone": [-60.0] * TRACKS_LEAST, "rare": [-20.0, -90.0]})
    assert warned(tracks) == {
        f"jazz/{TRACKS_LEAST:04d}": (
            "dull for its genre: 34 dB less energy above 8 kHz than the median of 21 tracks (limit 10 dB)",
        )
    }
    (flaw,) = tracks[f"jazz/{TRACKS_LEAST:04d}"].flaws
    assert (flaw.kind, flaw.value, flaw.unit) == ("dull", -60, "dB")


def test_tracks_of_an_earlier_version_are_neither_compared_nor_warned_of(ledger):
    assert warned(listed(ledger, {"jazz": [*BRIGHT[1:], None, -60.0], "folk": [None] * 30})) == {
        f"jazz/{TRACKS_LEAST:04d}": (
            "dull for its genre: 34 dB less energy above 8 kHz than the median of 20 tracks (limit 10 dB)",
        )
    }


def test_small_differences_are_no_warning_however_alike_the_others_are(ledger):
    assert warned(listed(ledger, {"jazz": [*[-26.0] * TRACKS_LEAST, -31.0]})) == {}
