"""The choice among the takes of a track: the best are listed, and the other sound takes are spare.

A track's takes are compared with each other alone, since they follow one prompt. A listener's pick comes before every
score. The choice is made again whenever a take of the track becomes sound or is refused, and follows from the facts
alone; so after a kill the next controller comes to the same one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from sqlalchemy import Boolean, ColumnElement, Connection, and_, func, literal_column, select, update

from catalog.bounded import fit_words
from catalog.scores import DEFAULT_SCORERS, Score, read_scores
from catalog.verdicts import Verdict
from orchestrator.ledger.bulk import chunks, insert_into
from orchestrator.ledger.tables import RENDITION, RUN, SCORE, TAKE
from orchestrator.ledger.verdicts import Word, read_standing, record_verdicts

_TRACKS_AT_ONCE: Final = 200
_REASON_MAX: Final = 300  # characters: of many kept takes the first are named
_IS_DUE: Final[ColumnElement[bool]] = literal_column("take.is_choice_due", Boolean)  # as its index says it


class Candidate(NamedTuple):
    """A sound take of a track."""

    take_id: str
    number: int
    record_id: str
    sha256: str
    said: Word  # the newest word on it
    picked_ms: int  # when a listener chose it; 0: none did
    scores: Mapping[str, Score]  # by scorer

    @property
    def is_listed(self) -> bool:
        """True while nothing says that it is spare."""
        return not self.said.spare


class TrackTakes(NamedTuple):
    """The sound takes of one track, and how many of them its catalog keeps; 0: all."""

    catalog: str
    track_key: str
    keep: int
    candidates: tuple[Candidate, ...]  # by number


class Choice(NamedTuple):
    """The takes of a track that are listed from now on, and those that are spare."""

    track: TrackTakes
    kept: tuple[Candidate, ...]  # the best first
    spare: tuple[Candidate, ...]
    scorers: tuple[str, ...]  # that could compare all of them

    @property
    def leaving(self) -> list[Candidate]:
        """The takes that are listed now and will not be."""
        return [each for each in self.spare if each.is_listed]

    @property
    def entering(self) -> list[Candidate]:
        """The takes that are spare now and will be listed."""
        return [each for each in self.kept if not each.is_listed]


class Unscored(NamedTuple):
    """A rendition that lacks a score by which its catalog chooses."""

    record_id: str
    take_id: str


def choose(track: TrackTakes, choose_by: Sequence[str]) -> Choice:
    """The best `track.keep` takes: picked ones, newest first, then by mean rank over the scorers of `choose_by`.

    A scorer counts where every take has a score of one and the same version and weights. Among takes of equal rank the
    earlier scorers decide, then the lower number.
    """
    takes = track.candidates
    comparable = [name for name in choose_by if _is_comparable(name, takes)]
    ranks = {name: _ranks([each.scores[name].value for each in takes]) for name in comparable}
    by_take = [tuple(ranks[name][at] for name in comparable) for at in range(len(takes))]

    def order(at: int) -> tuple[Any, ...]:
        return (-takes[at].picked_ms, sum(by_take[at]), by_take[at], takes[at].number)

    best = [takes[at] for at in sorted(range(len(takes)), key=order)]
    keep = track.keep or len(best)
    return Choice(track, tuple(best[:keep]), tuple(best[keep:]), tuple(comparable))


def _is_comparable(name: str, takes: Sequence[Candidate]) -> bool:
    scores = [each.scores.get(name) for each in takes]
    kinds = {(score.version, score.weights) for score in scores if score}
    return None not in scores and len(kinds) == 1


def _ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, 0 for the greatest; equal ones share the mean of their ranks."""
    return [sum(other > each for other in values) + (values.count(each) - 1) / 2 for each in values]


def verdicts_of(choice: Choice, at_ms: int) -> list[Verdict]:
    """What has to be said so that the choice holds; nothing where it holds already."""
    best = ", ".join(f"take {each.number}{_in_words(each, choice.scorers)}" for each in choice.kept)
    entering = [_verdict(choice, each, at_ms, spare=False, reason="chosen by score") for each in choice.entering]
    before = fit_words(f"chosen before it: {best}", _REASON_MAX)
    return entering + [_verdict(choice, each, at_ms, spare=True, reason=before) for each in choice.leaving]


def _in_words(candidate: Candidate, scorers: Sequence[str]) -> str:
    if candidate.picked_ms:
        return " (picked)"
    scores = ", ".join(f"{name} {candidate.scores[name].value:.3g}" for name in scorers)
    return f" ({scores})" if scores else ""


def _verdict(choice: Choice, candidate: Candidate, at_ms: int, *, spare: bool, reason: str) -> Verdict:
    return Verdict(
        catalog=choice.track.catalog,
        take_id=candidate.take_id,
        audio_sha256=candidate.sha256,
        outcome="accepted",
        reason=reason,
        at_ms=max(at_ms, candidate.said.at_ms + 1),
        spare=spare,
    )


# ---------------------------------------------------------------- what the ledger knows


def note_changed(connection: Connection, take_ids: Collection[str]) -> None:
    """Let the takes of these takes' tracks be compared, where their catalogs keep the best ones."""
    for ids in chunks(sorted(take_ids)):
        ours = and_(TAKE.c.take_id.in_(ids), TAKE.c.keep > 0)
        connection.execute(update(TAKE).where(ours).values(is_choice_due=True))


def is_choice_due(connection: Connection) -> bool:
    """True when the takes of some track are to be compared."""
    return connection.execute(select(TAKE.c.take_id).where(_IS_DUE).limit(1)).first() is not None


def decide_due(connection: Connection, at_ms: int, *, limit: int) -> tuple[list[str], list[Verdict]]:
    """Up to `limit` tracks that are due, and the verdicts by which their best takes are listed. Nothing is written."""
    query = select(TAKE.c.track_key).where(_IS_DUE).distinct().order_by(TAKE.c.track_key).limit(limit)
    keys = list(connection.execute(query).scalars())
    return keys, decide_tracks(connection, keys, at_ms)


def settle_due(connection: Connection, keys: Sequence[str], verdicts: Sequence[Verdict]) -> None:
    """Record what was decided of these tracks."""
    record_verdicts(connection, verdicts)
    settled = update(TAKE).where(TAKE.c.track_key.in_(keys), _IS_DUE)
    connection.execute(settled.values(is_choice_due=False))


def decide_tracks(connection: Connection, keys: Collection[str], at_ms: int) -> list[Verdict]:
    """The verdicts by which the best takes of these tracks are listed, where their catalogs keep the best ones."""
    by_catalog: dict[str, tuple[str, ...]] = {}
    verdicts: list[Verdict] = []
    for track in read_tracks(connection, keys):
        if track.keep:
            if track.catalog not in by_catalog:
                by_catalog[track.catalog] = scorers_of(connection, track.catalog)
            verdicts += verdicts_of(choose(track, by_catalog[track.catalog]), at_ms)
    return verdicts


def scorers_of(connection: Connection, catalog: str) -> tuple[str, ...]:
    """The scorers by which the catalog's last run chooses."""
    query = select(RUN.c.choose_by).where(RUN.c.catalog == catalog, RUN.c.choose_by != "")
    found = connection.execute(query.order_by(RUN.c.started_at_ms.desc()).limit(1)).scalar()
    return tuple(found.split(",")) if found else DEFAULT_SCORERS


def tracks_of(connection: Connection, take_ids: Collection[str]) -> list[str]:
    """The keys of these takes' tracks."""
    query = select(TAKE.c.track_key).where(TAKE.c.take_id.in_(sorted(take_ids))).distinct()
    return sorted(connection.execute(query).scalars())


def tracks_with_several(connection: Connection, catalog: str) -> list[str]:
    """The tracks of a catalog that have more than one sound take."""
    ours = and_(TAKE.c.catalog == catalog, TAKE.c.current, TAKE.c.state == "accepted")
    query = select(TAKE.c.track_key).where(ours).group_by(TAKE.c.track_key).having(func.count() > 1)
    return sorted(connection.execute(query).scalars())


def read_tracks(connection: Connection, keys: Collection[str]) -> Iterable[TrackTakes]:
    """The sound takes of each of these tracks that has any."""
    listed = sorted(keys)
    for at in range(0, len(listed), _TRACKS_AT_ONCE):
        yield from _read_tracks(connection, listed[at : at + _TRACKS_AT_ONCE])


def _read_tracks(connection: Connection, keys: Sequence[str]) -> Iterable[TrackTakes]:
    columns = (TAKE.c.catalog, TAKE.c.track_key, TAKE.c.number, TAKE.c.take_id, TAKE.c.sound_id, TAKE.c.keep)
    rendition = (RENDITION.c.record_id, RENDITION.c.sha256, SCORE.c.scores.label("later"))
    query = (
        select(*columns, TAKE.c.current, TAKE.c.state, *rendition)
        .add_columns(RENDITION.c.sidecar["measures", "scores"].label("first"))
        .join(RENDITION, RENDITION.c.record_id == TAKE.c.rendition_id)
        .outerjoin(SCORE, SCORE.c.record_id == RENDITION.c.record_id)
        .where(TAKE.c.track_key.in_(keys))
        .order_by(TAKE.c.track_key, TAKE.c.number)
    )
    rows = connection.execute(query).all()
    said = read_standing(connection, [row.record_id for row in rows])
    for key, group in groupby(rows, key=attrgetter("track_key")):
        takes = list(group)
        current = [row for row in takes if row.current and row.state == "accepted"]
        sound = [row for row in current if said.get(row.record_id, Word()).outcome == "accepted"]
        keeps = [row.keep for row in current if row.keep]
        if sound:
            candidates = tuple(_candidate(row, takes, said) for row in sound)
            yield TrackTakes(sound[0].catalog, key, keeps[-1] if keeps else 0, candidates)


def _candidate(row: Any, takes: Sequence[Any], said: Mapping[str, Word]) -> Candidate:
    """A take with what is known of its music, of which earlier takes of its slot may have other files."""
    others = [each for each in takes if each.record_id != row.record_id]
    same = [row, *(each for each in others if (each.number, each.sound_id) == (row.number, row.sound_id))]
    words = [said.get(each.record_id, Word()) for each in same]
    scores: dict[str, Score] = {}
    for each in reversed(same):
        scores |= {score.name: score for stored in (each.first, each.later) for score in _scores(stored)}
    picked_ms = max((word.at_ms for word in words if word.picked), default=0)
    return Candidate(row.take_id, row.number, row.record_id, row.sha256, words[0], picked_ms, scores)


def _scores(stored: Any) -> list[Score]:
    try:
        return read_scores(stored or [])
    except ValidationError:  # of a newer version of this program
        return []


def unscored(connection: Connection, keys: Collection[str], choose_by: Sequence[str]) -> list[Unscored]:
    """The sound takes of these tracks that lack one of these scores."""
    return [
        Unscored(each.record_id, each.take_id)
        for track in read_tracks(connection, keys)
        for each in track.candidates
        if not set(choose_by) <= each.scores.keys()
    ]


def sidecars_of(connection: Connection, record_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Record id -> the sidecar of that rendition, as plain values."""
    query = select(RENDITION.c.record_id, RENDITION.c.sidecar).where(RENDITION.c.record_id.in_(record_ids))
    return dict(connection.execute(query).all())


def note_scores(connection: Connection, record_id: str, scores: Sequence[Score]) -> None:
    """Write the scores of a rendition that were computed now; they replace those computed earlier."""
    row = {"record_id": record_id, "scores": [each.model_dump(mode="json") for each in scores]}
    statement = insert_into(connection, SCORE).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["record_id"], set_={"scores": row["scores"]}))


def set_keep(connection: Connection, catalog: str, keep: int) -> None:
    """From now on the best `keep` takes of each of the catalog's tracks are listed; 0: all."""
    ours = and_(TAKE.c.catalog == catalog, TAKE.c.current, TAKE.c.keep != keep)
    connection.execute(update(TAKE).where(ours).values(keep=keep))
