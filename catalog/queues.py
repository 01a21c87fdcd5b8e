"""Queue names: a take waits in a queue that is read by every worker that can render the take, and by no other.

A queue's name contains the model, because a worker serves one model, and the smallest VRAM tier that can hold the take.
A worker reads the queues of all tiers that it can serve, the largest first, so that a large GPU first renders the takes
that need a large GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from catalog.models import find_model
from catalog.spec import TrackSpec
from catalog.tiers import TIERS, Tier, least_tier

RENDER_TASK = "tunemill.render"
KEY_PREFIX = "tunemill:"  # several projects may share one Redis

# How every process speaks to the broker. The visibility timeout is far above the longest take and must be the
# same everywhere, because each consumer applies its own value to the messages of all others.
TRANSPORT_OPTIONS: Final[Mapping[str, Any]] = {
    "visibility_timeout": 12 * 3600,
    "queue_order_strategy": "priority",  # drain the queues in the order given
    "socket_keepalive": True,
    "socket_timeout": 30,
    "socket_connect_timeout": 5.0,
    "health_check_interval": 25,
    "global_keyprefix": KEY_PREFIX,
}


def render_queue(model: str, tier: Tier) -> str:
    """The queue of `model` at `tier`."""
    return f"render.{model}.{tier.name}"


def queue_of(spec: TrackSpec) -> str:
    """The name of the queue on which a take of `spec` waits."""
    # Rehearsals have no model to fit: any machine may take them.
    tier = least_tier(spec) if find_model(spec.model).needs_weights else TIERS[0]
    return render_queue(spec.model, tier)


def queues_served(model: str, tier: Tier) -> Sequence[str]:
    """Every queue a worker of `tier` can serve for `model`, largest first."""
    return [render_queue(model, each) for each in reversed(TIERS[: TIERS.index(tier) + 1])]
