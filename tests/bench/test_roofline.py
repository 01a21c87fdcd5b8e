"""The roofline's counts agree with what is known of the real models, and with arithmetic done by hand."""

from __future__ import annotations

from functools import cache

import pytest

from tests.bench.checkpoints import REDUCED, TURBO, XL_TURBO, Sizes
from tests.bench.roofline import Ceilings, Cost, Roofline, windows_waste

# TFLOP of one track, 8 steps, as counted independently from the published configurations; windows not cut out.
KNOWN_TFLOP = {
    "turbo": (TURBO, {30: 9.7, 120: 39, 240: 85}),
    "xl": (XL_TURBO, {30: 26, 240: 232}),
}
KNOWN_DECODE_TFLOP = {30: 3.7, 240: 29}
TOKENS = 400  # caption, lyrics and timbre of the takes behind the table


@cache
def roofline_of(model: str) -> Roofline:
    return Roofline(KNOWN_TFLOP[model][0])


@pytest.mark.parametrize("name", KNOWN_TFLOP)
def test_diffusion_costs_what_the_published_sizes_cost(name):
    _, known = KNOWN_TFLOP[name]
    roofline = roofline_of(name)
    config = roofline._parts["transformer"].config
    for duration_s, tflop in known.items():
        waste = 8 * windows_waste(config, duration_s * 25 // 2)
        cost = roofline.diffuse(duration_s, batch=1, tokens=TOKENS, steps=8)
        assert (cost.flops + waste) / 1e12 == pytest.approx(tflop, rel=0.03)


def test_decoding_costs_what_the_published_sizes_cost():
    roofline = roofline_of("turbo")
    for duration_s, tflop in KNOWN_DECODE_TFLOP.items():
        assert roofline.decode(duration_s, batch=1).flops / 1e12 == pytest.approx(tflop, rel=0.03)


def test_weights_and_cache_are_as_large_as_published():
    assert roofline_of("turbo").weight_bytes("transformer") / 2**30 == pytest.approx(2.94, abs=0.01)
    assert roofline_of("xl").weight_bytes("transformer") / 2**30 == pytest.approx(7.77, abs=0.01)
    assert roofline_of("turbo").weight_bytes("planner") / 1e9 == pytest.approx(3.71, abs=0.01)
    assert roofline_of("turbo").kv_bytes_per_token == 114_688


def test_a_window_lets_through_so_many_pairs_and_no_more():
    config = {
        "sliding_window": 2,
        "num_attention_heads": 1,
        "head_dim": 1,
        "num_hidden_layers": 2,
        "layer_types": None,
    }

    def by_hand(length: int) -> float:
        return 4.0 * sum(abs(one - other) > 2 for one in range(length) for other in range(length))

    for length in (1, 2, 3, 5, 8, 40):
        assert windows_waste(config, length) == by_hand(length)


def test_a_planner_step_reads_all_weights_once_and_each_rows_cache():
    roofline = Roofline(REDUCED)
    one = roofline.plan(10, rows=1, prompt_tokens=100)
    many = roofline.plan(10, rows=64, prompt_tokens=100)
    a_cache = 10 * roofline.kv_bytes_per_token * (100 + 5)
    assert many.bytes - one.bytes == 63 * a_cache
    assert many.flops == pytest.approx(64 * one.flops, rel=1e-6)
    layers_and_head = _weights_of(REDUCED)
    assert one.bytes == 10 * 2 * layers_and_head + a_cache


def _weights_of(sizes: Sizes) -> int:
    width, ffn, layers = (sizes.planner[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    heads, kept, head_dim = (sizes.planner[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    attention = 2 * width * heads * head_dim + 2 * width * kept * head_dim
    norms = 2 * width + 2 * head_dim
    return layers * (attention + 3 * width * ffn + norms) + 64_000 * width


def test_batches_cost_in_proportion():
    roofline = Roofline(REDUCED)
    one, eight = (roofline.diffuse(60, batch=batch, tokens=100, steps=8) for batch in (1, 8))
    assert eight.flops == pytest.approx(8 * one.flops, rel=1e-6)
    assert eight.bytes == one.bytes


def test_the_bound_is_the_slower_of_arithmetic_and_memory():
    ceilings = Ceilings(flops_per_s=100.0, bytes_per_s=10.0)
    assert ceilings.bound_s(Cost(flops=200, bytes=5)) == 2.0
    assert ceilings.bound_s(Cost(flops=200, bytes=50)) == 5.0
