"""Settings: every value that the environment decides, read once when a program starts.

Every name begins with `TUNEMILL_`. Without any setting, the program works on one machine: it uses an embedded broker,
SQLite and a folder below TUNEMILL_HOME. A value may be written in the spelling of the library that it belongs to
(catalog/spellings.py). Secrets stand only in URLs or in the AWS environment and are never printed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from catalog import spellings, store_address
from catalog.errors import SettingsError
from catalog.orders import parse_public_keys
from catalog.plain import plain
from catalog.rental import Market, parse_rental, rental_id_of
from catalog.secrets import without_secrets
from catalog.spellings import BROKER_SCHEMES, Misspelt

log = logging.getLogger(__name__)

__all__ = ["BROKER_SCHEMES", "Reader", "Settings", "read_settings", "variable_of", "without_secrets"]

PREFIX: Final = "TUNEMILL_"
_BOUNDS: Final = {
    "gt": "above",
    "ge": "at least",
    "lt": "below",
    "le": "at most",
    "max_length": "no longer than this number of characters:",
}
_NEAR: Final = 0.8  # how alike two names are of which one is taken for a slip of the other
# Kubernetes and Docker put these into every container beside a service whose name begins with ours.
_OF_A_NEIGHBOUR: Final = re.compile(r"(_SERVICE_(HOST|PORT)|_PORT)(_.*)?$|_ENV_|_NAME$")

TONE_FAULTS: Final = ("silence", "noise", "loop", "cut", "refusal", "failure")
OnOff = Literal["auto", "on", "off"]


class Reader(StrEnum):
    """The programs that act on a setting."""

    CONTROL = "control side"  # every command that is not a worker's
    WORKER = "worker"  # `tunemill worker`, `worker calibrate`, `replay`, and the local worker of `tunemill run`
    BOTH = "both"


class Settings(BaseModel):
    """The environment of one process. Each field tells which programs act on it; docs/settings.md is made from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    home: Annotated[Path, Reader.BOTH] = Field(
        default_factory=lambda: _home(),  # noqa: PLW0108 - it stands below
        examples=["/var/lib/tunemill"],
        description="Folder of the ledger, the embedded broker, logs, caches and, without a store URL, the audio. A "
        "relative path counts from the current folder, here as in every other setting.",
    )
    presets: Annotated[Path | None, Reader.CONTROL] = Field(
        default=None,
        examples=["/srv/presets"],
        description="Your folder with zones/, genres/ and catalogs/; its files replace those of the home and the "
        "installed ones. Without it: ./presets, if that folder exists.",
    )
    prices: Annotated[Path | None, Reader.CONTROL] = Field(
        default=None,
        examples=["/srv/prices"],
        description="Folder of dated price files; they count before those of the home and the installed ones. Without "
        "it: ./infra/prices, if that folder exists.",
    )

    broker_url: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        examples=["rediss://user:password@host:6379/0"],
        description="The broker of a fleet: redis://, rediss:// or redis+socket://; valkey://, valkeys:// and unix:// "
        "mean the same. Without it: an embedded Valkey on a private socket.",
    )
    database_url: Annotated[str | None, Reader.CONTROL] = Field(
        default=None,
        examples=["postgresql+psycopg://user:password@host/name"],
        description="The ledger: postgresql:// or sqlite:///, or the path of a SQLite file. Without it: ledger.sqlite "
        "below the home.",
    )
    store_url: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        examples=["s3://bucket/prefix"],
        description="The store of audio and sidecars: s3://bucket/prefix or a folder. Without it: store/ below the "
        "home.",
    )
    s3_endpoint_url: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        examples=["https://s3.example.com"],
        description="Address of an S3-compatible service (stores.md). Without it: AWS_ENDPOINT_URL_S3 or "
        "AWS_ENDPOINT_URL, else AWS.",
    )
    s3_addressing: Annotated[Literal["auto", "path", "virtual"], Reader.BOTH] = Field(
        default="auto",
        description="The place of the bucket's name in a request: the path, or the host name (virtual). auto: the form "
        "in AWS's configuration, else the path for services other than AWS; if it is refused, the other form.",
    )
    s3_checksums: Annotated[OnOff, Reader.BOTH] = Field(
        default="auto",
        description="on: objects are sent with SHA-256 headers, which the service checks and keeps. off: only with "
        "Content-MD5. auto: on, and off if the service refuses the header.",
    )

    signing_file: Annotated[Path | None, Reader.CONTROL] = Field(
        default=None,
        examples=["/etc/tunemill/signing.key"],
        description="File of the private key that signs a fleet's orders, as `tunemill worker-login new` makes it. "
        "Without it: signing.key below the home, if that file exists.",
    )
    verify_orders: Annotated[str | None, Reader.WORKER] = Field(
        default=None,
        examples=["KEY, with the key that `tunemill worker-login key` prints"],
        description="The control side's public key, or two keys with a comma during a change. The worker drops orders "
        "without its signature. Without it: every order in the queues is rendered.",
    )

    weights: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        examples=["/srv/weights/acestep-v15-turbo"],
        description="The model's weights: a folder, in diffusers' or the original layout, or a hub id with a pinned "
        "revision, `owner/name@<commit>`. Without it: the tiny random checkpoint, whose audio is noise.",
    )
    planner_weights: Annotated[str | None, Reader.WORKER] = Field(
        default=None,
        examples=["/srv/weights/acestep-5Hz-lm-1.7B"],
        description="The planner's weights, in the same forms. Without it: the planner beside the model's weights.",
    )
    weights_sha256: Annotated[str | None, Reader.WORKER] = Field(
        default=None,
        description="Required fingerprint of the model's weights, as in a sidecar; other weights end the worker with "
        "exit code 41. Without it: any weights.",
    )
    planner_weights_sha256: Annotated[str | None, Reader.WORKER] = Field(
        default=None, description="Required fingerprint of the planner's weights. Without it: any weights."
    )
    device: Annotated[str | None, Reader.WORKER] = Field(
        default=None, examples=["cuda"], description="cuda, cuda:1, mps or cpu. Without it: the best available one."
    )
    vram_gib: Annotated[float | None, Reader.WORKER] = Field(
        default=None,
        gt=0,
        examples=["24"],
        description="Choose batches as if the device had this much memory. Without it: the device's memory.",
    )
    quantize: Annotated[Literal["auto", "none", "int8", "fp8"], Reader.WORKER] = Field(
        default="auto",
        description="Number format of the diffusion transformer's weights; auto: int8 below 20 GiB of VRAM. fp8 needs "
        "Ada, Hopper or later.",
    )
    offload: Annotated[OnOff, Reader.WORKER] = Field(
        default="auto",
        description="on: weights are in GPU memory only during their stage; auto: on below 20 GiB of VRAM.",
    )
    compile: Annotated[OnOff, Reader.WORKER] = Field(
        default="auto",
        description="on: compile the model with torch.compile while the worker starts; auto: on with CUDA.",
    )
    tone_faults: Annotated[str, Reader.WORKER] = Field(
        default="",
        examples=["silence=0.1,noise=0.05"],
        description="Shares of the takes that the tone engine spoils on purpose, by their seeds, so rejections can "
        f"be rehearsed: {', '.join(TONE_FAULTS)}. Without it: none.",
    )
    scorers: Annotated[str, Reader.WORKER] = Field(
        default="",
        examples=["audiobox,clap"],
        description="Scorers that run beside the built-in ones, from plug-ins on the worker's machine (entry points "
        "of the group tunemill.scorers). Without it: none.",
    )
    gpu: Annotated[str | None, Reader.BOTH] = Field(
        default=None,
        examples=["a100-80gb"],
        description="Name of the GPU in the price book. Without it: found from the driver's name.",
    )
    max_usd: Annotated[str | None, Reader.CONTROL] = Field(
        default=None, examples=["12.50"], description="Default cap of run and refresh, in dollars. Without it: no cap."
    )
    rental: Annotated[str | None, Reader.WORKER] = Field(
        default=None,
        description="The rented machine of a worker, as provider/id; bills are matched by it. Without it: the "
        "variables of RunPod and Vast.ai, else each worker is a rental of its own.",
    )
    market: Annotated[Market, Reader.WORKER] = Field(default="on_demand", description="How the machine is rented.")
    region: Annotated[str, Reader.WORKER] = Field(
        default="", max_length=64, description="Region of the rented machine, as the provider writes it."
    )
    finance_tz: Annotated[str, Reader.CONTROL] = Field(
        default="UTC",
        description="Time zone in which the months of reports begin and end, such as Europe/Berlin.",
    )
    allocation: Annotated[Literal["busy", "even", "none"], Reader.CONTROL] = Field(
        default="busy",
        description="How reports divide shared costs (start-up, idle time, disks): busy: by engine time; even: in "
        "equal parts; none: not at all.",
    )

    heartbeat_s: Annotated[float, Reader.WORKER] = Field(
        default=10.0, gt=0, description="Seconds between two heartbeats of a worker."
    )
    silent_after_s: Annotated[float, Reader.CONTROL] = Field(
        default=60.0,
        gt=0,
        description="Seconds without a heartbeat after which a worker's takes are sent again; at least twice "
        "TUNEMILL_HEARTBEAT_S.",
    )
    store_patience_s: Annotated[float, Reader.BOTH] = Field(
        default=120.0,
        ge=0,
        description="Seconds for which a store that is away or busy is tried again, at the start and later; then the "
        "worker gives its takes back and stops.",
    )
    # One statement names all takes on their way, and SQLite allows 32,766 names in one.
    window: Annotated[int, Reader.CONTROL] = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Smallest number of takes of a run on their way in each queue. It grows to twice the number that "
        "the queue's live workers hold, at most to 10,000.",
    )

    @field_validator("home", "presets", "prices", "signing_file", mode="before")
    @classmethod
    def _a_path(cls, value: Any) -> Any:
        return spellings.folder(value) if isinstance(value, str) else value

    @field_validator("weights", "planner_weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        is_path = isinstance(value, str) and value.startswith(("~", "$", "file:"))
        return spellings.folder(value) if is_path else value

    @field_validator(
        "s3_addressing", "s3_checksums", "quantize", "offload", "compile", "market", "allocation", mode="before"
    )
    @classmethod
    def _a_choice(cls, value: Any, info: ValidationInfo) -> Any:
        choices = get_args(cls.model_fields[str(info.field_name)].annotation)
        return spellings.choice(value, choices) if isinstance(value, str) else value

    @field_validator("heartbeat_s", "silent_after_s", "store_patience_s", mode="before")
    @classmethod
    def _in_seconds(cls, value: Any) -> Any:
        return spellings.seconds(value) if isinstance(value, str) else value

    @field_validator("vram_gib", mode="before")
    @classmethod
    def _in_gib(cls, value: Any) -> Any:
        return spellings.gib(value) if isinstance(value, str) else value

    @field_validator("tone_faults")
    @classmethod
    def _shares(cls, text: str) -> str:
        return ",".join(f"{name}={share:g}" for name, share in spellings.shares(text, TONE_FAULTS).items())

    @field_validator("broker_url")
    @classmethod
    def _a_broker(cls, url: str | None) -> str | None:
        return None if url is None else spellings.broker_url(url)

    @field_validator("database_url")
    @classmethod
    def _a_database(cls, url: str | None) -> str | None:
        return None if url is None else spellings.database_url(url)

    @field_validator("store_url", "s3_endpoint_url")
    @classmethod
    def _a_store(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        return store_address.store_url(url) if info.field_name == "store_url" else store_address.endpoint_url(url)

    @field_validator("device")
    @classmethod
    def _a_device(cls, name: str | None) -> str | None:
        return None if name is None else spellings.device(name)

    @field_validator("max_usd")
    @classmethod
    def _in_dollars(cls, text: str | None) -> str | None:
        return None if text is None else spellings.dollars(text)

    @field_validator("weights_sha256", "planner_weights_sha256")
    @classmethod
    def _a_digest(cls, text: str | None) -> str | None:
        return None if text is None else spellings.sha256(text)

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
            raise Misspelt(
                f"it must be at least twice TUNEMILL_HEARTBEAT_S, which is {heartbeat_s:g}",
                f"write TUNEMILL_SILENT_AFTER_S={6 * heartbeat_s:g}, or a shorter TUNEMILL_HEARTBEAT_S",
            )
        return silent_after_s

    @field_validator("rental")
    @classmethod
    def _a_rental(cls, text: str | None) -> str | None:
        return None if text is None else rental_id_of(*parse_rental(text))

    @field_validator("finance_tz")
    @classmethod
    def _a_time_zone(cls, name: str) -> str:
        return spellings.time_zone(name)

    @property
    def embedded(self) -> bool:
        """True when this machine runs its own broker and worker."""
        return self.broker_url is None

    @property
    def signing_key(self) -> Path:
        """The path of the key that signs orders; the file need not exist."""
        return self.signing_file or self.home / "signing.key"

    @property
    def store(self) -> str:
        """The URL or folder of the store."""
        return self.store_url or str(self.home / "store")

    @property
    def database(self) -> str:
        """The URL of the ledger's database."""
        return self.database_url or f"sqlite:///{self.home / 'ledger.sqlite'}"


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment, by default this process's. Raises SettingsError that names the wrong variable.

    A variable with our prefix that matches no setting is reported once. A name that is almost a setting's is an error,
    because the intended setting, such as a cap on spending, would have no effect.
    """
    found = dict(_ours(os.environ if environment is None else environment))
    for variable in found.keys() - {variable_of(name) for name in Settings.model_fields}:
        _tell_unknown(variable)
    values = {name: found[variable_of(name)] for name in Settings.model_fields if found.get(variable_of(name))}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise _in_words(error.errors(include_url=False)[0]) from None


def _ours(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The variables with our prefix in any case: their names in capitals, their values without quotes and spaces."""
    for name, value in sorted(environment.items(), reverse=True):  # the name in capitals comes last and counts
        variable = name.upper().removeprefix("EXPORT ").strip()  # Docker takes `export NAME` of a file for a name
        if variable.startswith(PREFIX) and not _OF_A_NEIGHBOUR.search(variable):
            yield variable, spellings.bare(value)


@cache
def _tell_unknown(variable: str) -> None:
    """Warn once of a variable that is no setting. Raises SettingsError when its name is almost a setting's."""
    known = {name.replace("_", "").upper(): variable_of(name) for name in Settings.model_fields}
    plain_name = variable.removeprefix(PREFIX).replace("_", "")
    begun = [name for name in known if len(plain_name) > 2 and name.startswith(plain_name)]
    if slip := begun or get_close_matches(plain_name, known, n=1, cutoff=_NEAR):
        raise SettingsError(
            f"there is no setting {plain(variable)}",
            why=f"it may be a typing mistake for {known[slip[0]]}, which would then not be set",
            fix=f"write {known[slip[0]]}, or unset {plain(variable)}",
        )
    near = get_close_matches(plain_name, known, n=1)
    guess = f"; did you mean {known[near[0]]}?" if near else ""
    log.warning("%s is not a setting of this version and has no effect%s", plain(variable), guess)


def _home() -> Path:
    try:
        return Path.home() / ".tunemill"
    except RuntimeError:
        raise SettingsError(
            "TUNEMILL_HOME is not set, and this user has no home folder",
            fix="set TUNEMILL_HOME to a folder that this user may write to, such as /var/lib/tunemill",
        ) from None


def _in_words(wrong: ErrorDetails) -> SettingsError:
    """The first validation error, in our words; a value is repeated only where it can hold no secret."""
    name = str(wrong["loc"][0])
    variable, field = variable_of(name), Settings.model_fields[name]
    context = wrong.get("ctx", {})
    slip = context.get("error")
    bounds = ((f"{words} {context[key]}") for key, words in _BOUNDS.items() if key in context)
    says = str(slip) if slip else f"it must be {' and '.join(bounds) or _kind_of(wrong['type'])}"
    example = (field.examples or [field.get_default()])[0]
    fix = (slip.fix if isinstance(slip, Misspelt) else "") or f"write {variable}={example}"
    return SettingsError(f"{variable} is wrong: {says}", fix=fix)


def _kind_of(fault: str) -> str:
    if fault.startswith("int"):
        return "a whole number"
    return "a number" if "number" in fault or "float" in fault else "text without line ends"
