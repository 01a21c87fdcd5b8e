"""A field that is added later changes nothing that does not use it, and reaches everything that must know it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.buckets import Bucket
from catalog.errors import MessageError, OutdatedError
from catalog.forms import Frozen, neutral
from catalog.messages import RenderMessage, parse_record, parse_render
from catalog.sidecar import Effective, Sidecar, diffusion_used
from catalog.spec import DiffusionSpec, MasterSpec, PlannerSpec, TrackSpec
from catalog.track import Take, Track
from orchestrator.ledger.plans import take_row
from orchestrator.planning.estimate import SpeedKey
from tests.support.farm import attempt, takes
from tests.support.makers import a_sidecar, a_spec


class Guided(DiffusionSpec):
    """Diffusion with a knob that nobody has heard of yet."""

    guidance: float = neutral(1.0, ge=0)


class LaterPlanner(PlannerSpec):
    style: str | None = neutral(None)


class LaterMaster(MasterSpec):
    width: float = neutral(0.0)


class LaterSpec(TrackSpec):
    diffusion: Guided = Guided()
    planner: LaterPlanner | None = LaterPlanner()
    master: LaterMaster = LaterMaster()
    adapters: tuple[str, ...] = neutral(())


class LaterTrack(Track):
    spec: LaterSpec


class LaterTake(Take):
    track: LaterTrack


class LaterSidecar(Sidecar):
    take: LaterTake


class LaterOrder(RenderMessage):
    take: LaterTake


def later(**fields: Any) -> LaterSpec:
    plain = a_spec().model_dump()
    return LaterSpec(**{**plain, **fields})


def later_take(spec: LaterSpec) -> LaterTake:
    track = LaterTrack(catalog="spring", zone="spa", genre="ambient", slot="0001", spec=spec)
    seeded = track.take()
    return LaterTake(track=track, number=1, dit_seed=seeded.dit_seed, lm_seed=seeded.lm_seed)


def test_a_later_version_gives_a_spec_that_uses_nothing_new_the_same_identity():
    assert later().fingerprint == a_spec().fingerprint
    earlier = Track(catalog="spring", zone="spa", genre="ambient", slot="0001", spec=a_spec()).take()
    assert later_take(later()).id == earlier.id


@pytest.mark.parametrize(
    "fields",
    [
        {"diffusion": Guided(guidance=2.5)},
        {"planner": LaterPlanner(style="dark")},
        {"master": LaterMaster(width=0.3)},
        {"adapters": ("grand_hotel",)},
    ],
)
def test_and_another_one_as_soon_as_something_new_is_used_at_whatever_depth(fields):
    assert later(**fields).fingerprint != a_spec(planner=LaterPlanner()).fingerprint
    assert later(**fields).fingerprint != later(planner=LaterPlanner()).fingerprint


def test_orders_and_sidecars_that_use_nothing_new_are_those_of_the_version_before():
    spec = later(planner=LaterPlanner(), diffusion=Guided(steps=4))
    order = LaterOrder(run_id="r", take=later_take(spec)).model_dump(mode="json")
    parsed = parse_render(order)
    assert parsed.model_dump(mode="json") == order
    assert parsed.take.id == later_take(spec).id
    plain = a_sidecar(parsed.take).model_dump(mode="json")
    whole = LaterSidecar.model_validate(plain)
    assert json.loads(whole.to_json()) == plain
    assert json.loads(Sidecar.model_validate_json(whole.to_json()).to_json()) == plain


def test_a_later_knob_reaches_bucket_speed_key_feed_order_effective_parameters_and_sidecar():
    spec = later(diffusion=Guided(guidance=2.5))
    plain = later(diffusion=Guided(guidance=1.0))
    bucket = Bucket.of(spec)
    assert bucket.diffusion.further == {"guidance": 2.5}
    assert bucket != Bucket.of(plain)
    assert bucket.as_plain_values()["guidance"] == 2.5
    assert "guidance 2.5" in str(bucket)
    assert bucket.feed_order == f"{Bucket.of(plain).feed_order} guidance=2.5"
    assert take_row(later_take(spec), "r")["bucket"] == bucket.feed_order
    assert SpeedKey.of("", spec.diffusion) != SpeedKey.of("", plain.diffusion)
    assert diffusion_used(spec.diffusion)["diffusion"].guidance == 2.5
    assert (
        json.loads(LaterOrder(run_id="r", take=later_take(spec)).model_dump_json())["take"]["track"]["spec"][
            "diffusion"
        ]["guidance"]
        == 2.5
    )


def test_at_its_neutral_value_it_is_in_none_of_them():
    plain = later()
    assert Bucket.of(plain).feed_order == Bucket.of(a_spec()).feed_order
    assert Bucket.of(plain).as_plain_values() == Bucket.of(a_spec()).as_plain_values()
    assert SpeedKey.of("", plain.diffusion).diffusion.further == {}
    used = Effective(**diffusion_used(plain.diffusion), dit_seed=1, lm_seed=1, device="cpu", dtype="float32")
    assert "diffusion" not in used.model_dump(mode="json")


def test_speed_does_not_depend_on_where_the_steps_lie_on_the_way():
    assert SpeedKey.of("", DiffusionSpec(shift=1.0)) == SpeedKey.of("", DiffusionSpec(shift=3.0))
    assert SpeedKey.of("", DiffusionSpec(steps=4)) != SpeedKey.of("", DiffusionSpec(steps=8))


def test_buckets_sort_as_ledgers_of_the_first_version_sort_them():
    spec = a_spec(model="tone", planner=None, duration_s=30, diffusion=DiffusionSpec(steps=4, shift=1.5))
    assert Bucket.of(spec).feed_order == "tone - 004 01.5000 0030"


def test_a_neutral_value_is_one_of_its_own_type():
    class Form(Frozen):
        flag: bool = neutral(False)
        level: int | bool = neutral(0)

    assert Form().model_dump() == {}
    assert Form(level=False).model_dump() == {"level": False}


@pytest.mark.parametrize(
    "change",
    [
        lambda order: order.update(v=2),
        lambda order: order.update(more=1),
        lambda order: order["take"]["track"]["spec"].update(adapters=["x"]),
        lambda order: order["take"]["track"]["spec"]["diffusion"].update(guidance=2.0),
    ],
)
def test_an_order_with_something_unknown_is_too_new_and_not_broken(change):
    order = RenderMessage(run_id="r", take=takes(1)[0]).model_dump(mode="json")
    change(order)
    with pytest.raises(OutdatedError) as caught:
        parse_render(order)
    assert caught.value.exit_code == 43
    assert "upgrade" in caught.value.fix


def test_an_order_with_a_wrong_value_is_broken_whatever_else_it_holds():
    order = RenderMessage(run_id="r", take=takes(1)[0]).model_dump(mode="json")
    order["take"]["track"]["spec"]["duration_s"] = "long"
    order["more"] = 1
    with pytest.raises(MessageError) as caught:
        parse_render(order)
    assert not isinstance(caught.value, OutdatedError)


def test_a_record_with_something_unknown_is_too_new():
    with pytest.raises(OutdatedError):
        parse_record({**attempt(takes(1)[0]).model_dump(mode="json"), "quality": 0.7})
