"""The baseline: the cost of buying the kept tracks, and the speed from which rendering is cheaper than buying.

A request to a music service may return several songs; all are paid for, and one is kept. So the price of a kept track
is the price of a song times the songs of a request. The break-even speed of a GPU is its price per hour divided by the
price of a kept track.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orchestrator.finance.records import Baseline, PriceUsed


class SongPrice(NamedTuple):
    """A music service's price of a song."""

    name: str
    source: str
    valid_from: str
    usd_micros: int
    songs_per_request: int


def baseline_of(
    price: SongPrice, *, tracks: int, own_usd_micros: int, is_known: bool, rates: Iterable[PriceUsed]
) -> Baseline:
    """Buying against rendering, for `tracks` kept ones that cost `own_usd_micros` fully loaded.

    `is_known` says that no part of that has an unknown price.
    """
    per_track = price.usd_micros * price.songs_per_request
    own_per_track = (2 * own_usd_micros + tracks) // (2 * tracks) if tracks and is_known else None
    return Baseline(
        name=price.name,
        source=price.source,
        valid_from=price.valid_from,
        usd_micros_per_song=price.usd_micros,
        songs_per_request=price.songs_per_request,
        tracks=tracks,
        bought_usd_micros=per_track * tracks,
        own_usd_micros=own_usd_micros,
        own_usd_micros_per_track=own_per_track,
        break_even=_break_even(per_track, rates),
    )


def _break_even(per_track: int, rates: Iterable[PriceUsed]) -> Mapping[str, int | None]:
    """Kept tracks an hour above which a GPU at its rate is cheaper than buying, by GPU; rounded up."""
    return {
        f"{rate.sku} {rate.market.replace('_', ' ')}": (
            -(-rate.usd_micros_per_h // per_track) if rate.usd_micros_per_h is not None and per_track else None
        )
        for rate in rates
        if rate.sku
    }
