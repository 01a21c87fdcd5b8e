"""Where it runs: everything that the environment decides, read once at the edge.

One prefix, `TUNEMILL_`. Without any setting the program works on one machine: an embedded broker, SQLite
and a folder below TUNEMILL_HOME. Secrets live in URLs or the AWS environment and are never printed.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from catalog.errors import SettingsError
from catalog.orders import parse_public_keys
from catalog.rental import Market, parse_rental, rental_id_of
from catalog.secrets import without_secrets

__all__ = ["BROKER_SCHEMES", "Reader", "Settings", "read_settings", "without_secrets"]

BROKER_SCHEMES: Final = ("redis", "rediss", "redis+socket")
_SHA256: Final = r"^[0-9a-f]{64}$"


class Reader(StrEnum):
    """Which programs act on a setting."""

    CONTROL = "control side"  # every command that is not a worker's
    WORKER = "worker"  # `tunemill worker`, `worker calibrate`, `replay`, and the local worker of `tunemill run`
    BOTH = "both"


class Settings(BaseSettings):
    """The environment of one process. Each field tells which programs act on it; docs/settings.md is made from them."""

    model_config = SettingsConfigDict(
        env_prefix="TUNEMILL_", env_ignore_empty=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    home: Annotated[Path, Reader.BOTH] = Field(
        default_factory=lambda: Path.home() / ".tunemill",
        description="Folder of the ledger, the embedded broker, logs, caches and, without a store URL, the audio.",
    )
    presets: Annotated[Path | None, Reader.CONTROL] = Field(
        default=None,
        description="Folder with zones/, genres/ and catalogs/. Without it: ./presets, else the checkout's, else the "
        "installed ones.",
    )
    prices: Annotated[Path | None, Reader.CONTROL] = Field(
        default=None, description="Folder of dated price files. Without it: the checkout's, else the installed ones."
    )

    broker_url: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        description="The broker of a fleet: redis://, rediss:// or redis+socket://. Without it: an embedded Valkey on "
        "a private socket.",
    )
    database_url: Annotated[str | None, Reader.CONTROL] = Field(
        default=None,
        description="The ledger: postgresql+psycopg:// or sqlite:///. Without it: ledger.sqlite below the home.",
    )
    store_url: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        description="Where audio and sidecars are: s3://bucket/prefix or a folder. Without it: store/ below the home.",
    )
    s3_endpoint_url: Annotated[str | None, Reader.BOTH] = Field(
        default=None, description="Address of an S3-compatible service. Without it: AWS."
    )

    signing_file: Annotated[Path | None, Reader.CONTROL] = Field(
        default=None,
        description="File of the private key that signs a fleet's orders, as `tunemill worker-login new` makes it. "
        "Without it: signing.key below the home, where there is one.",
    )
    verify_orders: Annotated[str | None, Reader.WORKER] = Field(
        default=None,
        description="The control side's public key, or two with a comma while it changes: orders that it has not "
        "signed are dropped. Without it: whoever may write to the queues may have takes rendered.",
    )

    weights: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        description="The model's weights: a folder, in diffusers' or the original layout, or a hub id with a pinned "
        "revision, `owner/name@<commit>`. Without it: the tiny random checkpoint, whose audio is labelled noise.",
    )
    planner_weights: Annotated[str | None, Reader.WORKER] = Field(
        default=None, description="The same for the planner. Without it: beside the model's own weights."
    )
    weights_sha256: Annotated[str | None, Reader.WORKER] = Field(
        default=None,
        pattern=_SHA256,
        description="Fingerprint that the model's weights must have, as sidecars name it; others end the worker with "
        "exit code 41. Without it: any.",
    )
    planner_weights_sha256: Annotated[str | None, Reader.WORKER] = Field(
        default=None, pattern=_SHA256, description="The same for the planner's weights. Without it: any."
    )
    device: Annotated[str | None, Reader.WORKER] = Field(
        default=None, description="cuda, cuda:1, mps or cpu. Without it: the best there is."
    )
    vram_gib: Annotated[float | None, Reader.WORKER] = Field(
        default=None,
        gt=0,
        description="Plan batches as if the device had this much memory. Without it: what the device says.",
    )
    quantize: Annotated[Literal["auto", "none", "int8", "fp8"], Reader.WORKER] = Field(
        default="auto",
        description="Number format of the diffusion transformer's weights; auto: int8 below 20 GiB of VRAM. fp8 needs "
        "Ada, Hopper or later.",
    )
    offload: Annotated[Literal["auto", "on", "off"], Reader.WORKER] = Field(
        default="auto",
        description="on: weights wait in host memory and visit the GPU for their stage; auto: on below 20 GiB of VRAM.",
    )
    compile: Annotated[Literal["auto", "on", "off"], Reader.WORKER] = Field(
        default="auto",
        description="on: torch.compile the model while the worker starts; auto: on with CUDA.",
    )
    gpu: Annotated[str | None, Reader.BOTH] = Field(
        default=None, description="The price book's name of the GPU. Without it: matched from the driver's name."
    )
    max_usd: Annotated[str | None, Reader.CONTROL] = Field(
        default=None, description="Default cap of run and refresh, in dollars. Without it: none."
    )
    rental: Annotated[str | None, Reader.WORKER] = Field(
        default=None,
        description="The rented machine a worker runs on, as provider/id, by which bills are matched. Without it: "
        "RunPod's and Vast.ai's own variables, else each worker is a rental of its own.",
    )
    market: Annotated[Market, Reader.WORKER] = Field(default="on_demand", description="How the machine is rented.")
    region: Annotated[str, Reader.WORKER] = Field(
        default="", max_length=64, description="Where the machine is rented, in the provider's words."
    )
    finance_tz: Annotated[str, Reader.CONTROL] = Field(
        default="UTC",
        description="The time zone in which finance's months begin and end, such as Europe/Berlin.",
    )
    allocation: Annotated[Literal["busy", "even", "none"], Reader.CONTROL] = Field(
        default="busy",
        description="How reports hand down start-up, idle time and disks: busy by engine time, even alike to all that "
        "were worked for, none to nobody.",
    )

    heartbeat_s: Annotated[float, Reader.WORKER] = Field(
        default=10.0, gt=0, description="Seconds between two heartbeats of a worker."
    )
    silent_after_s: Annotated[float, Reader.CONTROL] = Field(
        default=60.0,
        gt=0,
        description="A worker that is silent for so many seconds has lost its takes; at least twice "
        "TUNEMILL_HEARTBEAT_S.",
    )
    store_patience_s: Annotated[float, Reader.WORKER] = Field(
        default=120.0,
        ge=0,
        description="So many seconds a worker tries again before it takes the store for away, gives its takes back and "
        "stops.",
    )
    # One statement names all takes on their way, and SQLite allows 32,766 names in one.
    window: Annotated[int, Reader.CONTROL] = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Least takes of a run on their way in each queue; the number grows to twice what the queue's live "
        "workers hold, at most to 10,000.",
    )

    @field_validator("broker_url")
    @classmethod
    def _a_broker(cls, url: str | None) -> str | None:
        # The value is not repeated: it may hold a password.
        if url is not None and (_scheme(url) not in BROKER_SCHEMES):
            raise ValueError(f"it must begin with {', '.join(f'{scheme}://' for scheme in BROKER_SCHEMES)}")
        return None if url is None else _checked_broker(url)

    @field_validator("verify_orders")
    @classmethod
    def _public_keys(cls, text: str | None) -> str | None:
        return None if text is None else ",".join(parse_public_keys(text))

    @field_validator("silent_after_s")
    @classmethod
    def _longer_than_a_heartbeat(cls, silent_after_s: float, info: ValidationInfo) -> float:
        # Otherwise every worker would be taken for dead between two heartbeats, and all it holds be sent again.
        heartbeat_s = info.data.get("heartbeat_s", 0.0)
        if silent_after_s < 2 * heartbeat_s:
            raise ValueError(f"it must be at least twice TUNEMILL_HEARTBEAT_S, which is {heartbeat_s:g}")
        return silent_after_s

    @field_validator("rental")
    @classmethod
    def _a_rental(cls, text: str | None) -> str | None:
        return None if text is None else rental_id_of(*parse_rental(text))

    @field_validator("finance_tz")
    @classmethod
    def _a_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone; write one such as Europe/Berlin") from None
        return name

    @property
    def embedded(self) -> bool:
        """Whether this machine runs its own broker and worker."""
        return self.broker_url is None

    @property
    def signing_key(self) -> Path:
        """File of the key that signs orders; it need not be there."""
        return self.signing_file or self.home / "signing.key"

    @property
    def store(self) -> str:
        """URL or folder of the store."""
        return self.store_url or str(self.home / "store")

    @property
    def database(self) -> str:
        """URL of the ledger's database."""
        return self.database_url or f"sqlite:///{self.home / 'ledger.sqlite'}"


def read_settings() -> Settings:
    """Read the environment. Raises SettingsError naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        variable = "TUNEMILL_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(
            f"{variable} is wrong: {first['msg'].removeprefix('Value error, ')}", fix=f"correct or unset {variable}"
        ) from None


def _checked_broker(url: str) -> str:
    """`url`, if its parts can be told apart; with TLS the server must prove who it is, unless the address says else.

    A password with an unescaped sign in it would end up in the host or the path, and in error messages with them.
    """
    escape = "write the signs : / ? # @ in a user name or password as %3A %2F %3F %23 %40"
    parts = urlsplit(url)
    try:
        port_is_wrong = parts.port == 0
    except ValueError:
        port_is_wrong = True
    if port_is_wrong or "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise ValueError(f"its host or port cannot be read; {escape}")
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in dict(parse_qsl(parts.query)):
        return parts._replace(query="&".join(filter(None, (parts.query, "ssl_cert_reqs=required")))).geturl()
    return url


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:  # such as a bracket that is not closed
        return ""
