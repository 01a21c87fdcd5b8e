"""The rental: the provider and the id of the rented machine that a process runs on, read from its environment.

Finance matches a provider's bill with the reports of workers by the provider's own id. RunPod and Vast.ai put this id
into the environment of the processes that they start; elsewhere, the setting TUNEMILL_RENTAL names it. A worker without
an id is a rental of its own, at the provider "local".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field

from catalog.bounded import Count, Label
from catalog.errors import SettingsError
from catalog.forms import Frozen

Market = Literal["on_demand", "spot"]
LOCAL: Final = "local"
_ID: Final = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
_PROVIDER: Final = r"[a-z0-9][a-z0-9_-]{0,31}"


class RentalNote(Frozen):
    """A worker's note about the machine it runs on."""

    provider: str = Field(pattern=f"^{_PROVIDER}$")
    external_id: str = Field(pattern=f"^{_ID}$")
    gpu_count: Count = 0  # 0: not said
    market: Market = "on_demand"
    region: Label = Field(default="", max_length=64)

    @property
    def rental_id(self) -> str:
        """The ledger's id of this rental, as `rental_id_of` forms it."""
        return rental_id_of(self.provider, self.external_id)


def rental_id_of(provider: str, external_id: str) -> str:
    """The ledger's id of a rental: provider/external id."""
    return f"{provider}/{external_id}"


def parse_rental(text: str, *, name: str = "TUNEMILL_RENTAL") -> tuple[str, str]:
    """(provider, external id) of "provider/id". Raises SettingsError naming the setting or option."""
    found = re.fullmatch(f"({_PROVIDER})/({_ID})", text.strip())
    if found is None:
        raise SettingsError(
            f"{name} is wrong: {text!r}",
            why="it names a rental as provider/id: a provider in small letters, and the provider's own id",
            fix=f"write for example {name}=lambda/0920582c7ff041399e34823a0be62549",
        )
    return found[1], found[2]


def rented_here(
    environment: Mapping[str, str], *, setting: str | None = None, market: Market = "on_demand", region: str = ""
) -> RentalNote | None:
    """The rental that the setting names, else the one that the provider's own variables name; None without either."""
    if setting is not None:
        provider, external_id = parse_rental(setting)
        count = 0
    elif pod := environment.get("RUNPOD_POD_ID", ""):
        provider, external_id, count = "runpod", pod, _count(environment.get("RUNPOD_GPU_COUNT"))
        region = region or environment.get("RUNPOD_DC_ID", "")
    elif label := environment.get("VAST_CONTAINERLABEL", ""):
        provider, external_id, count = "vast", label.removeprefix("C."), _count(environment.get("GPU_COUNT"))
    else:
        return None
    if not re.fullmatch(_ID, external_id):
        return None  # not an id that any bill would name
    return RentalNote(provider=provider, external_id=external_id, gpu_count=count, market=market, region=region[:64])


def _count(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 4 else 0
