"""Where it runs: everything that the environment decides, read once at the edge.

One prefix, `TUNEMILL_`. Without any setting the program works on one machine: an embedded broker, SQLite
and a folder below TUNEMILL_HOME. Secrets live in URLs or the AWS environment and are never printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from catalog.errors import SettingsError
from catalog.rental import Market, parse_rental, rental_id_of
from catalog.secrets import without_secrets

__all__ = ["BROKER_SCHEMES", "Settings", "read_settings", "without_secrets"]

BROKER_SCHEMES: Final = ("redis", "rediss", "redis+socket")
_SHA256: Final = r"^[0-9a-f]{64}$"


class Settings(BaseSettings):
    """The environment of one process."""

    model_config = SettingsConfigDict(
        env_prefix="TUNEMILL_", env_ignore_empty=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".tunemill")
    presets: Path | None = None  # folder with zones/, genres/, catalogs/; None: ./presets or the installed ones
    prices: Path | None = None  # folder of dated price files; None: the installed ones

    broker_url: str | None = None  # redis://, rediss:// or redis+socket://; None: embedded
    database_url: str | None = None  # postgresql+psycopg:// or sqlite:///; None: <home>/ledger.sqlite
    store_url: str | None = None  # s3://bucket/prefix or a folder; None: <home>/store
    s3_endpoint_url: str | None = None  # for any S3-compatible service

    weights: str | None = None  # folder, or hub id with a pinned revision: owner/name@<commit>
    planner_weights: str | None = None  # the same for the planner; None: beside the model's own weights
    weights_sha256: str | None = Field(default=None, pattern=_SHA256)  # what the model's fingerprint must be
    planner_weights_sha256: str | None = Field(default=None, pattern=_SHA256)  # and the planner's
    device: str | None = None  # cuda, cuda:1, mps or cpu; None: the best there is
    vram_gib: float | None = Field(default=None, gt=0)  # pretend the device has this much
    quantize: Literal["auto", "none", "int8", "fp8"] = "auto"  # the diffusion model's weights; auto: by VRAM tier
    offload: Literal["auto", "on", "off"] = "auto"  # weights wait in host memory; auto: by VRAM tier
    compile: Literal["auto", "on", "off"] = "auto"  # the model, by torch.compile, at start; auto: on a CUDA device
    gpu: str | None = None  # the price list's name of the GPU, when the driver's name is not enough
    max_usd: str | None = None  # default cap for run and refresh
    rental: str | None = None  # provider/id of the machine a worker runs on; None: as RunPod or Vast.ai names it
    market: Market = "on_demand"  # how it is rented
    region: str = Field(default="", max_length=64)  # where
    finance_tz: str = "UTC"  # the time zone in which finance's months begin and end
    allocation: Literal["busy", "even", "none"] = "busy"  # how reports hand down what all takes share

    heartbeat_s: float = Field(default=10.0, gt=0)
    silent_after_s: float = Field(default=60.0, gt=0)  # a worker silent for so long has lost its takes
    store_patience_s: float = Field(
        default=120.0, ge=0
    )  # so long a worker tries again before it takes a store for away
    # Takes of a run sent and not finished: twice what its workers can hold, and at the least so many. One statement
    # names them all, and SQLite allows 32,766 names in one.
    window: int = Field(default=256, ge=1, le=10_000)

    @field_validator("broker_url")
    @classmethod
    def _a_broker(cls, url: str | None) -> str | None:
        # The value is not repeated: it may hold a password.
        if url is not None and (_scheme(url) not in BROKER_SCHEMES):
            raise ValueError(f"it must begin with {', '.join(f'{scheme}://' for scheme in BROKER_SCHEMES)}")
        return None if url is None else _checked_broker(url)

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
