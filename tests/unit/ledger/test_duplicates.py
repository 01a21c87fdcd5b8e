"""Takes of one catalog that sound alike are found, each pair once, in whatever order they were recorded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update

from catalog.chroma import pack_codes
from catalog.sidecar import Sidecar
from catalog.track import Take
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.chroma import compare_due, is_comparison_due, note_codes, take_up
from orchestrator.ledger.duplicates import decide_due, listed_pairs, same_sounding, settle_due, uncompared
from orchestrator.ledger.tables import CHROMA_CODE, DUPLICATE, RUN, TAKE
from orchestrator.ledger.upkeep import write_from_sidecars
from orchestrator.ledger.verdicts import record_verdicts
from tests.support.chroma import codes_of_music, worn
from tests.support.makers import a_sidecar, a_take


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    opened = open_ledger("sqlite://")
    yield opened
    opened.close()


def made(take: Take, codes: list[int] | None, *, at_ms: int = 1, run_id: str = "run-1", noise: bool = False) -> Sidecar:
    """The sidecar of a take with that sound; None: its worker computed no codes."""
    sidecar = a_sidecar(take, run_id=run_id)
    return sidecar.model_copy(
        update={
            "record_id": f"{take.id}-{at_ms}",
            "created_at_ms": at_ms,
            "chroma": "" if codes is None else pack_codes(codes),
            "fingerprints": sidecar.fingerprints.model_copy(update={"noise": noise}),
        }
    )


def write(ledger: Ledger, *sidecars: Sidecar) -> None:
    with ledger.write() as connection:
        write_from_sidecars(connection, sidecars)


def compare(ledger: Ledger, *, asked_for: str = "") -> None:
    with ledger.write() as connection:
        while is_comparison_due(connection):
            compare_due(connection, asked_for=asked_for)


def pairs(ledger: Ledger) -> list[tuple[str, str]]:
    """Slots of the later and the earlier track."""
    with ledger.read() as connection:
        return [(each.later.track.slot, each.earlier.track.slot) for each in listed_pairs(connection, "spa")]


ONE, COPY = codes_of_music(1), worn(codes_of_music(1), share=0.5)


@pytest.mark.parametrize("is_later_recorded_first", [False, True])
def test_a_copy_in_another_run_is_found_and_the_later_rendering_is_the_copy(ledger, is_later_recorded_first):
    earlier = made(a_take("0001"), ONE, at_ms=1)
    later = made(a_take("0002"), COPY, at_ms=2, run_id="run-2")
    other = made(a_take("0003"), codes_of_music(3), at_ms=3)
    for sidecar in sorted(
        (earlier, later, other), key=lambda each: each.created_at_ms, reverse=is_later_recorded_first
    ):
        write(ledger, sidecar)
        compare(ledger)
    assert pairs(ledger) == [("0002", "0001")]
    with ledger.read() as connection:
        assert same_sounding(connection, "spa") == {a_take("0002").id: [a_take("0001").id]}


@given(order=st.permutations(range(6)), cuts=st.sets(st.integers(0, 5)))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_pairs_are_found_in_any_order_and_in_any_pieces(order, cuts):
    ledger = open_ledger("sqlite://")
    sounds = [ONE, COPY, codes_of_music(2), codes_of_music(3), worn(codes_of_music(3), share=0.3, shift=40), ONE]
    sidecars = [made(a_take(f"{n:04d}"), sound, at_ms=n) for n, sound in enumerate(sounds)]
    for place, n in enumerate(order):
        write(ledger, sidecars[n], sidecars[n])
        if place in cuts:
            compare(ledger)
    compare(ledger)
    compare(ledger)
    assert sorted(pairs(ledger)) == [("0001", "0000"), ("0004", "0003"), ("0005", "0000"), ("0005", "0001")]
    ledger.close()


def test_two_catalogs_may_have_the_same_music(ledger):
    take = a_take("0001")
    moved = take.model_copy(update={"track": take.track.model_copy(update={"catalog": "gym"})})
    write(ledger, made(take, ONE), made(moved, ONE, at_ms=2))
    compare(ledger)
    assert pairs(ledger) == []


def test_two_versions_of_one_take_are_no_copies(ledger):
    changed = a_take("0001", caption="a change of the words")
    write(ledger, made(a_take("0001"), ONE), made(changed, ONE, at_ms=2))
    compare(ledger)
    with ledger.write() as connection:
        connection.execute(update(TAKE).values(current=True))
    assert pairs(ledger) == []


def test_takes_of_one_track_are_copies_only_as_the_same_recording(ledger):
    variation = worn(worn(ONE, share=0.2, seed=2), share=0.2, seed=3)  # 5 % of the bits
    write(ledger, *(made(a_take("0001", number=n), codes, at_ms=n) for n, codes in ((1, ONE), (2, variation))))
    compare(ledger)
    assert pairs(ledger) == []
    write(ledger, made(a_take("0001", number=3), COPY, at_ms=3), made(a_take("0002"), variation, at_ms=4))
    compare(ledger)
    with ledger.read() as connection:
        found = [(each.later.track.slot, each.later.number) for each in listed_pairs(connection, "spa")]
    assert ("0001", 3) in found
    assert ("0002", 1) in found  # of another track the variation is one


def test_a_pair_counts_while_both_tracks_are_listed(ledger):
    write(ledger, made(a_take("0001"), ONE), made(a_take("0002"), COPY, at_ms=2))
    compare(ledger)
    for leaves in ("0001", "0002"):
        with ledger.write() as connection:
            connection.execute(update(TAKE).values(current=TAKE.c.track_key != a_take(leaves).track.key))
        assert pairs(ledger) == []


def test_codes_that_thousands_share_are_neither_found_nor_stored_without_end(ledger):
    drone = codes_of_music(9, 60)
    write(ledger, *(made(a_take(f"{n:04d}"), drone, at_ms=n) for n in range(300)))
    compare(ledger)
    with ledger.read() as connection:
        holders = select(func.count()).select_from(CHROMA_CODE).group_by(CHROMA_CODE.c.code)
        assert max(connection.execute(holders).scalars()) == 64
    write(ledger, made(a_take("0901"), ONE, at_ms=901), made(a_take("0902"), COPY, at_ms=902))
    compare(ledger)
    assert ("0902", "0901") in pairs(ledger)


def test_a_catalog_that_compares_nothing_is_compared_when_somebody_asks(ledger):
    write(ledger, made(a_take("0001"), ONE), made(a_take("0002"), COPY, at_ms=2))
    with ledger.write() as connection:
        connection.execute(update(RUN).values(duplicates="off"))
    compare(ledger)
    assert pairs(ledger) == []
    with ledger.write() as connection:
        take_up(connection, "gym")
        assert not is_comparison_due(connection)
        take_up(connection, "spa")
    compare(ledger, asked_for="spa")
    assert pairs(ledger) == [("0002", "0001")]


def test_what_has_no_codes_is_named_until_somebody_computes_them(ledger):
    silent = made(a_take("0003"), None, at_ms=3, noise=True)
    write(ledger, made(a_take("0001"), ONE), made(a_take("0002"), None, at_ms=2), silent)
    compare(ledger)
    with ledger.write() as connection:
        (missing,) = uncompared(connection, "spa")
        assert missing.take_id == a_take("0002").id
        note_codes(connection, [(missing.record_id, pack_codes(COPY))])
        assert uncompared(connection, "spa") == []
    compare(ledger)
    assert pairs(ledger) == [("0002", "0001")]


def test_of_three_alike_the_first_stays_and_each_of_the_others_is_rejected_once(ledger):
    write(ledger, *(made(a_take(f"{n:04d}"), ONE, at_ms=n) for n in (1, 2, 3)))
    with ledger.write() as connection:
        connection.execute(update(RUN).values(duplicates="reroll"))
    compare(ledger)
    with ledger.read() as connection:
        verdicts = decide_due(connection, 10)
        assert verdicts == decide_due(connection, 10)  # a command that was killed decides the same again
    first = a_take("0001").id
    said = {(each.take_id, each.outcome, each.reason, each.again) for each in verdicts}
    assert said == {(a_take(slot).id, "rejected", f"same as take {first}", True) for slot in ("0002", "0003")}
    with ledger.write() as connection:
        settle_due(connection, verdicts)
        assert decide_due(connection, 11) == []
    assert pairs(ledger) == []


def test_what_is_alike_only_to_a_rejected_copy_stays(ledger):
    sidecars = [made(a_take(f"{n:04d}"), codes_of_music(n), at_ms=n) for n in (1, 2, 3)]
    write(ledger, *sidecars)
    alike = {"share": 0.5, "bit_error_rate": 0.1, "is_due": True}
    with ledger.write() as connection:
        for earlier, later in pairwise(sidecars):
            ids = {"later_id": later.record_id, "earlier_id": earlier.record_id}
            connection.execute(insert(DUPLICATE).values(**ids, **alike))
        (verdict,) = decide_due(connection, 10)
        settle_due(connection, [verdict])
    assert verdict.take_id == sidecars[1].take_id
    assert pairs(ledger) == []


def test_a_person_who_accepts_a_copy_again_is_obeyed(ledger):
    write(ledger, made(a_take("0001"), ONE), made(a_take("0002"), ONE, at_ms=2))
    with ledger.write() as connection:
        connection.execute(update(RUN).values(duplicates="reroll"))
    compare(ledger)
    with ledger.write() as connection:
        (verdict,) = decide_due(connection, 10)
        settle_due(connection, [verdict])
        accepted = verdict.model_copy(update={"outcome": "accepted", "again": False, "reason": "", "at_ms": 11})
        record_verdicts(connection, [accepted])
        assert decide_due(connection, 12) == []
    assert pairs(ledger) == [("0002", "0001")]
