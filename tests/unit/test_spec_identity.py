"""Identity: fingerprints, keys, seeds and ids are pinned, so that a change of any of them is a decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog.buckets import Bucket
from catalog.errors import OutOfRangeError
from catalog.queues import queue_of, queues_served
from catalog.seeds import SEED_LIMIT, Seeds, stable_hash, take_seeds
from catalog.spec import MasterSpec, PlannerSpec, TrackSpec
from catalog.tiers import TIERS, fits, least_tier, tier_of
from catalog.track import Take, Track

PLAIN = TrackSpec(caption="warm piano", bpm=90, keyscale="C major", duration_s=120)
RICH = TrackSpec(
    caption='曲 ☕ "quoted"',
    lyrics="[verse]\nla",
    language="ja",
    bpm=120,
    keyscale="F# minor",
    timesignature="3",
    duration_s=600,
    model="tone",
    planner=None,
    master=MasterSpec(format="opus", loudness_lufs=None),  # type: ignore[arg-type]
)


def a_track(seed: int | None = None) -> Track:
    axes = {"season": "winter", "daypart": "late"}
    return Track(catalog="spa", zone="thermal", genre="ambient", axes=axes, slot="0007", seed=seed, spec=PLAIN)


def test_fingerprints_are_what_they_were() -> None:
    assert PLAIN.fingerprint == "b1fa8e0b0de6a6d7aee02aefb75797d0"
    assert RICH.fingerprint == "894dd0e7963410363acc2e80a6d95f95"


def test_ids_and_seeds_are_what_they_were() -> None:
    first, second = a_track().take(1), a_track().take(2)
    assert a_track().key == "spa/thermal/ambient/daypart=late/season=winter/0007"
    assert first.seeds == Seeds(dit=2060377487422632464, lm=1862800447010402324)
    assert first.id == "813ea4ff3f8b7881e93af34d"
    assert second.seeds == Seeds(dit=505750736524602169, lm=5391001349593705596)
    assert second.id == "0a80e486f8c0164811294867"
    assert stable_hash("a", 1) == 9331952569449725121


def test_a_pinned_seed_is_the_diffusion_seed_of_take_one() -> None:
    assert a_track(seed=42).take(1).seeds == Seeds(dit=42, lm=5018471933481487818)
    assert a_track(seed=42).take(3).dit_seed == 44
    assert a_track(seed=42).take(1).id == "4444fe9da16cc98959ca83ff"


@given(st.text(max_size=40), st.integers(1, 1000), st.none() | st.integers(0, SEED_LIMIT - 1))
def test_seeds_fit_a_bigint(key: str, number: int, pinned: int | None) -> None:
    assert all(0 <= seed < SEED_LIMIT for seed in take_seeds(key, number, pinned))


def test_a_take_survives_its_own_json() -> None:
    take = a_track().take(2)
    again = Take.model_validate_json(take.model_dump_json())
    assert (again.id, again.spec.fingerprint, again.track.key) == (take.id, take.spec.fingerprint, take.track.key)


@pytest.mark.parametrize(
    "change",
    [
        *({"bpm": 29}, {"bpm": 301}, {"duration_s": 9}, {"duration_s": 601}, {"duration_s": 10.5}, {"caption": " "}),
        *({"keyscale": "H major"}, {"language": "xx"}, {"timesignature": "5"}, {"model": "A/b"}, {"unknown": 1}),
    ],
)
def test_a_spec_outside_the_published_limits_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrackSpec(**{**PLAIN.model_dump(), **change})


def test_a_bucket_holds_what_a_batch_shares_and_nothing_more() -> None:
    same = {"caption": "x", "bpm": 91, "keyscale": "D minor", "timesignature": "6", "lyrics": "la", "language": "en"}
    other = [{"duration_s": 121}, {"planner": None}, {"diffusion": {"steps": 4}}, {"diffusion": {"shift": 1}}]
    assert Bucket.of(TrackSpec(**{**PLAIN.model_dump(), **same})) == Bucket.of(PLAIN)
    for change in [*other, {"model": "tone"}]:
        assert Bucket.of(TrackSpec(**{**PLAIN.model_dump(), **change})) != Bucket.of(PLAIN)


@pytest.mark.parametrize(
    ("gib", "name"),
    [(0, "4g"), (4, "4g"), (6, "6g"), (8, "8g"), (12, "12g"), (15, "15g"), (15.6, "16g"), (24, "24g"), (80, "max")],
)
def test_a_device_belongs_to_the_published_tier(gib: float, name: str) -> None:
    assert tier_of(gib).name == name


def test_a_take_waits_where_the_smallest_sufficient_card_looks() -> None:
    assert queue_of(PLAIN) == "render.acestep-v15-turbo.15g"
    assert queue_of(RICH) == "render.tone.4g"
    assert queue_of(PLAIN) in queues_served(PLAIN.model, tier_of(80))
    assert queue_of(PLAIN) not in queues_served(PLAIN.model, tier_of(12))


@given(st.integers(10, 600), st.sampled_from([None, "0.6B", "1.7B", "4B"]))
def test_the_least_tier_fits_and_the_ones_below_do_not(duration_s: int, planner: str | None) -> None:
    chosen = PlannerSpec(model=f"acestep-5Hz-lm-{planner}") if planner else None
    spec = TrackSpec(**{**PLAIN.model_dump(), "duration_s": duration_s, "planner": chosen})
    least = least_tier(spec)
    assert fits(spec, least)
    assert not any(fits(spec, tier) for tier in TIERS[: TIERS.index(least)])


def test_an_unknown_planner_has_no_tier() -> None:
    with pytest.raises(OutOfRangeError, match="no GPU tier"):
        least_tier(TrackSpec(**{**PLAIN.model_dump(), "planner": {"model": "huge"}}))
