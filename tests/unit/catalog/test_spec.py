"""Identity: fingerprints, keys, seeds and ids are pinned, so that a change of any of them is a decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog.buckets import Bucket
from catalog.errors import OutOfRangeError
from catalog.prompt import text_prompt
from catalog.queues import queue_of, queues_served
from catalog.seeds import SEED_LIMIT, Seeds, stable_hash, take_seeds
from catalog.spec import Bounds, MasterSpec, PlannerSpec, TrackSpec, with_metadata
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
FILLED = PlannerSpec(metadata="fill", open=("duration", "bpm", "keyscale"))
BOUNDS = Bounds(bpm=(60, 90), keyscales=("C major", "A minor"), duration_s=(120, 180), duration_step_s=30)
OPEN = TrackSpec(caption="warm piano", bpm=None, keyscale=None, duration_s=180, planner=FILLED, bounds=BOUNDS)


def a_track(seed: int | None = None, spec: TrackSpec = PLAIN) -> Track:
    axes = {"season": "winter", "daypart": "late"}
    return Track(catalog="spa", zone="thermal", genre="ambient", axes=axes, slot="0007", seed=seed, spec=spec)


def changed(spec: TrackSpec, **change: object) -> TrackSpec:
    return TrackSpec(**{**spec.model_dump(), **change})


def test_fingerprints_are_what_they_were() -> None:
    assert PLAIN.fingerprint == "b1fa8e0b0de6a6d7aee02aefb75797d0"
    assert RICH.fingerprint == "894dd0e7963410363acc2e80a6d95f95"
    assert OPEN.fingerprint == "69043a38b3494db7e915ced88ab4e1f5"


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


def test_a_spec_with_its_metadata_is_the_one_in_which_all_was_given() -> None:
    complete = with_metadata(OPEN, {"bpm": 90, "keyscale": "C major", "duration": 120, "caption": "not asked for"})
    assert (OPEN.is_open, complete.is_open) == (True, False)
    assert complete == PLAIN.model_copy(update={"planner": complete.planner})
    assert complete.fingerprint == PLAIN.fingerprint
    assert text_prompt(complete) == text_prompt(PLAIN)


def test_a_spec_that_is_not_open_stays_as_it_is() -> None:
    assert with_metadata(PLAIN, {"bpm": 61}) is PLAIN
    assert with_metadata(RICH, {}) is RICH


def test_a_metre_is_a_number_in_a_plan_and_a_word_in_a_spec() -> None:
    planner = PlannerSpec(metadata="fill", open=("timesignature",))
    bounds = Bounds(timesignatures=("6", "3"))
    spec = changed(PLAIN, timesignature=None, planner=planner, bounds=bounds)
    assert with_metadata(spec, {"timesignature": 3}).timesignature == "3"
    with pytest.raises(OutOfRangeError, match="'4' for timesignature; the spec leaves open 3, 6"):
        with_metadata(spec, {"timesignature": 4})


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        *(({"bpm": 91}, "91 for bpm"), ({"bpm": None}, "None for bpm"), ({"duration": 121}, "121 for duration")),
        *(({"keyscale": "G major"}, "'G major' for keyscale"), ({"bpm": "72"}, "'72' for bpm")),
    ],
)
def test_a_choice_outside_the_bounds_is_refused_by_name(choice: dict[str, str | int], named: str) -> None:
    with pytest.raises(OutOfRangeError, match=named):
        with_metadata(OPEN, {"bpm": 72, "keyscale": "A minor", "duration": 150, **choice})


def test_a_field_that_was_chosen_stays_in_the_think_block() -> None:
    planner = FILLED.model_copy(update={"think_fields": ("caption", "bpm")})
    complete = with_metadata(changed(OPEN, planner=planner), {"bpm": 72, "keyscale": "A minor", "duration": 150})
    assert complete.planner is not None
    assert set(complete.planner.think_fields) == {"caption", "bpm", "keyscale", "duration"}


@pytest.mark.parametrize(
    "change",
    [
        *({"bpm": 72}, {"keyscale": "C major"}, {"timesignature": None}, {"duration_s": 150}, {"bounds": None}),
        *({"planner": None}, {"planner": PlannerSpec()}, {"bounds": Bounds()}, {"bounds": Bounds(bpm=(60, 90))}),
        {"planner": PlannerSpec(metadata="fill")},
    ],
)
def test_a_spec_is_open_exactly_where_it_has_bounds_and_a_planner_that_fills(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        changed(OPEN, **change)


def test_what_is_left_to_the_planner_has_a_name_and_its_ranges_rise() -> None:
    for wrong in ({"bpm": (90, 60)}, {"bpm": (20, 60)}, {"duration_s": (5, 60)}, {"keyscales": ("H major",)}):
        with pytest.raises(ValidationError):
            Bounds(**wrong)
    with pytest.raises(ValidationError, match="names no field"):
        PlannerSpec(metadata="fill", open=())


def test_the_order_in_which_choices_are_listed_means_nothing() -> None:
    other = Bounds(**{**dict(BOUNDS), "keyscales": ("A minor", "C major", "A minor")})
    planner = PlannerSpec(metadata="fill", open=("keyscale", "bpm", "duration"))
    assert changed(OPEN, bounds=other, planner=planner).fingerprint == OPEN.fingerprint


def test_every_bound_is_part_of_the_identity() -> None:
    for change in ({"bpm": (60, 91)}, {"keyscales": ("C major",)}, {"duration_step_s": 60}):
        assert changed(OPEN, bounds=Bounds(**{**dict(BOUNDS), **change})).fingerprint != OPEN.fingerprint


def test_an_open_spec_has_no_text_prompt_yet() -> None:
    with pytest.raises(ValueError, match="still open"):
        text_prompt(OPEN)


def test_an_open_spec_counts_as_long_as_it_may_become() -> None:
    assert Bucket.of(OPEN).duration_s == 180
    assert least_tier(OPEN) == least_tier(TrackSpec(**{**PLAIN.model_dump(), "duration_s": 180}))


def test_an_open_take_survives_its_own_json() -> None:
    take = a_track(spec=OPEN).take(2)
    again = Take.model_validate_json(take.model_dump_json())
    assert (again.id, again.spec, again.spec.bounds) == (take.id, OPEN, BOUNDS)


def test_takes_that_reuse_a_plan_share_the_planners_seed_and_no_other() -> None:
    reusing = changed(PLAIN, planner=PlannerSpec(reuse=True))
    for pinned in (None, 42):
        first, second = (a_track(pinned, reusing).take(number) for number in (1, 2))
        assert second.lm_seed == first.lm_seed
        assert second.dit_seed == a_track(pinned).take(2).dit_seed != first.dit_seed
        # A first take is the same with and without it, so switching it on renders only the further ones again.
        assert first.id == a_track(pinned).take(1).id
        assert second.id != a_track(pinned).take(2).id
