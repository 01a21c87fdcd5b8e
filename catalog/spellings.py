"""Spellings: the different ways to write a setting, turned into the one form that this program uses.

Each function takes a value as the environment holds it and returns our form of it; a value in our form is returned
unchanged. A value that has no meaning raises Misspelt, which names a value to write instead. An address may hold a
password, so no message repeats an address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

BROKER_SCHEMES: Final = ("redis", "rediss", "redis+socket")
_BROKER_ALIASES: Final = {
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "redis+socket",
    "redis+unix": "redis+socket",
    "valkey+socket": "redis+socket",
    "valkey+unix": "redis+socket",
}
_PROOFS: Final = ("required", "optional", "none")  # of the server's certificate
_ESCAPE: Final = "write the signs : / ? # @ in a user name or password as %3A %2F %3F %23 %40"
_YES: Final = frozenset(("1", "true", "yes", "y", "enabled"))
_NO: Final = frozenset(("0", "false", "no", "n", "disabled"))
_SECONDS: Final = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_DEVICES: Final = "TUNEMILL_DEVICE=cuda, cuda:1 (the second CUDA device), mps or cpu"


class Misspelt(ValueError):
    """A value without a meaning; `fix` says what to write instead."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


def bare(text: str) -> str:
    """`text` without the blanks, line ends and quotes that files of variables leave around a value."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def folder(text: str) -> str:
    """A path; `~`, `$NAME` and file:// are understood, for a service or a container expands none of them."""
    if re.match(r"file:/", text, re.IGNORECASE):
        parts = urlsplit(text)
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise Misspelt(
                "the address is not that of a folder on this machine", "write file:///absolute/path, or the path alone"
            )
        text = unquote(parts.path)
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        raise Misspelt(
            "the value is an address and must be a path on this machine", "write a path, such as /srv/tunemill"
        )
    if "$" in text:
        text = os.path.expandvars(text)
        if unknown := re.search(r"\$(\w+|\{\w+\})", text):
            raise Misspelt(f"it contains {unknown[0]}, which is not set", "write the path in full")
    shown = os.path.expanduser(text)  # noqa: PTH111 - Path's raises RuntimeError where this leaves the sign
    if shown.startswith("~"):
        raise Misspelt("the home folder that ~ stands for is unknown", "write the path in full")
    return shown


def choice(text: str, choices: Sequence[str]) -> str:
    """One of `choices`, in any case and with any hyphens; words for yes and no count as on and off."""
    plain = re.sub(r"[\s_-]", "", text.casefold())
    for each in choices:
        if plain == each.replace("_", ""):
            return each
    if plain in _YES and "on" in choices:
        return "on"
    for each in ("off", "none"):
        if plain in _NO | {"off", "none"} and each in choices:
            return each
    near = get_close_matches(plain, choices, n=1)
    raise Misspelt(f"{text!r} is not one of {', '.join(choices)}", f"write {near[0] if near else ' or '.join(choices)}")


def seconds(text: str) -> float:
    """A duration in seconds; one with another unit is turned into them."""
    return _quantity(text, _SECONDS, "write seconds, such as 90 or 1.5")


def gib(text: str) -> float:
    """An amount of memory in GiB."""
    return _quantity(text, {"": 1.0, "gib": 1.0, "g": 1.0, "mib": 1 / 1024}, "write GiB, such as 24 or 23.5")


def shares(text: str, names: Sequence[str]) -> dict[str, float]:
    """Shares of one whole by name, such as `silence=0.1, noise=0.05`; each of `names` at most once."""
    found: dict[str, float] = {}
    for part in filter(None, re.split(r"[,;\s]+", re.sub(r"\s*=\s*", "=", text.strip()))):
        name, sign, share = part.partition("=")
        name = choice(name, names)
        if not sign or name in found:
            raise Misspelt(f"{part!r} is not a new name with its share", f"write {name}=0.1, once for each name")
        found[name] = _quantity(share, {"": 1.0}, f"write a share from 0 to 1, such as {name}=0.1")
    if any(share < 0 for share in found.values()) or sum(found.values()) > 1:
        raise Misspelt("the shares are below 0 or make more than 1 together", "write shares whose sum is at most 1")
    return found


def _quantity(text: str, units: dict[str, float], fix: str) -> float:
    found = re.fullmatch(r"([+-]?[\d.]+(?:e[+-]?\d+)?)\s*([a-z]*)", text.strip().casefold())
    try:
        if found and found[2] in units:
            return float(found[1]) * units[found[2]]
    except ValueError:
        pass
    if re.fullmatch(r"\s*\d+,\d+\s*\w*", text):
        fix = f"{fix}; write a point before the decimals"
    raise Misspelt(f"{text!r} is not a usable number", fix)


def dollars(text: str) -> str:
    """An amount of US dollars as digits and a point."""
    amount = re.sub(r"(?i)^\s*(us)?\s*\$\s*|^\s*usd\b\s*|\s*(us)?\$\s*$|\s*usd\s*$", "", text).strip()
    if "," in amount:
        raise Misspelt(
            f"the comma in {text!r} has two possible meanings",
            "write dollars with a point and without separators: 20.50 or 1000",
        )
    if not re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)", amount):
        raise Misspelt(f"{text!r} is not an amount of dollars", "write digits and a point: 12.50")
    return amount


def sha256(text: str) -> str:
    """A SHA-256 digest as 64 small hexadecimal digits."""
    digest = text.casefold().removeprefix("sha256:").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Misspelt(
            "the value is not a SHA-256 digest of 64 hexadecimal digits",
            "copy the fingerprint from a sidecar, or from the output of `sha256sum`",
        )
    return digest


def device(text: str) -> str | None:
    """A device as torch names it; None for the best there is."""
    name = re.sub(r"\s", "", text.casefold())
    if name == "auto":
        return None
    if re.fullmatch(r"\d+", name):
        name = f"cuda:{name}"
    name = re.sub(r"^(gpu|nvidia)(?=:|$)", "cuda", name)
    name = {"metal": "mps", "mps:0": "mps", "cpu:0": "cpu"}.get(name, name)
    name = re.sub(r"^cuda(?=\d)", "cuda:", name)
    if re.fullmatch(r"cuda:?[\d,]*,[\d,]*", name) or "," in name:
        raise Misspelt(
            f"{text!r} names several devices, but a worker renders on one",
            "use `tunemill worker --all-gpus`, and name the devices in CUDA_VISIBLE_DEVICES",
        )
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name):
        near = get_close_matches(name, ("cuda", "mps", "cpu"), n=1, cutoff=0.7)
        raise Misspelt(f"{text!r} is not a device", f"write {near[0]}" if near else f"write {_DEVICES}")
    return re.sub(r":0+(?=\d)", ":", name)


def broker_url(text: str) -> str:
    """The broker's address with a scheme that the clients know, and with proof of the server where there is TLS.

    A password with an unescaped sign in it would end up in the host or the path, and in error messages with them.
    """
    scheme, separator, rest = text.partition("://")
    scheme = _BROKER_ALIASES.get(scheme.casefold(), scheme.casefold())
    if not separator or scheme not in BROKER_SCHEMES:
        known = ", ".join(f"{each}://" for each in BROKER_SCHEMES)
        raise Misspelt(f"it must begin with {known}", _broker_fix(text))
    url = f"{scheme}://{rest}"
    try:
        parts = urlsplit(url)
        port_is_wrong = parts.port == 0
    except ValueError:
        port_is_wrong = True
    if port_is_wrong or "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise Misspelt("the host or the port is not valid", f"{_ESCAPE}; a comment needs a line of its own")
    if scheme == "redis+socket":
        return _socket_url(url)
    if scheme == "redis" or not parts.query.strip():
        return url if scheme == "redis" else _with_query(url, [("ssl_cert_reqs", "required")])
    return _with_query(url, list(_with_proof(parse_qsl(parts.query, keep_blank_values=True))))


def _broker_fix(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.-]+(:\d{1,5})?(/\d*)?", text):
        return f"write TUNEMILL_BROKER_URL=redis://{text}, or rediss:// where the broker has TLS"
    if text.startswith(("/", "~", ".")):
        return "write TUNEMILL_BROKER_URL=redis+socket:///path/to/socket for a broker on a socket"
    return (
        "write TUNEMILL_BROKER_URL=rediss://user:password@host:6379/0 for a Valkey or Redis with TLS, redis:// for one "
        "without; unset it to use the embedded broker"
    )


def _socket_url(url: str) -> str:
    """The address of a broker on a socket, with the words of other clients for database and login turned into ours."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if (database := query.pop("db", None)) is not None:
        query.setdefault("virtual_host", database)
    login = parts.netloc.rpartition("@")[0]
    if "password" in query:
        login = f"{login or quote(query.pop('username', ''), safe='')}:{quote(query.pop('password'), safe='')}"
    if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
        raise Misspelt("the address names no socket", "write TUNEMILL_BROKER_URL=redis+socket:///path/to/socket")
    place = f"{login}@{parts.path}" if login else parts.path
    return f"redis+socket://{place}" + (f"?{urlencode(query)}" if query else "")


def _with_proof(query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """`query` with the proof asked of a TLS server in the one spelling that the clients share, `required` if unsaid."""
    said = False
    for name, value in query:
        proof = value.casefold().removeprefix("cert_")
        if name == "ssl_cert_reqs":
            said = True
            if proof not in _PROOFS:
                raise Misspelt(f"ssl_cert_reqs is not one of {', '.join(_PROOFS)}", "write ssl_cert_reqs=required")
            yield name, proof
        else:
            yield name, value
    if not said:
        yield "ssl_cert_reqs", "required"


def _with_query(url: str, query: Sequence[tuple[str, str]]) -> str:
    return urlsplit(url)._replace(query=urlencode(query, safe="/:,")).geturl()


def is_in_clear(broker: str) -> bool:
    """True when the traffic between this machine and `broker` is not encrypted."""
    parts = urlsplit(broker)
    host = parts.hostname or "localhost"
    return parts.scheme == "redis" and host != "localhost" and not host.startswith("127.") and host != "::1"


def database_url(text: str) -> str:
    """The ledger's address as SQLAlchemy and psycopg read it; a path is a SQLite file."""
    scheme, separator, rest = text.removeprefix("jdbc:").partition("://")
    dialect = scheme.casefold().partition("+")[0]
    if separator and dialect in ("postgres", "postgresql"):
        return f"postgresql+psycopg://{_libpq_query(rest)}"
    if separator and dialect in ("sqlite", "sqlite3"):
        if rest and not rest.startswith(("/", "?")):
            raise Misspelt(
                "the third slash after sqlite: is missing",
                "write sqlite:///name.sqlite for a file in the current folder, sqlite:////folder/name.sqlite elsewhere",
            )
        path = rest.removeprefix("/")
        return f"sqlite:///{folder(path)}" if path.startswith(("~", "$")) else f"sqlite://{rest}"
    if not separator and (found := re.fullmatch(r"sqlite3?:(.+)", text, re.IGNORECASE)):
        return f"sqlite:///{folder(found[1])}"
    if not separator and re.match(r"[/~.$]", text):
        return f"sqlite:///{folder(text)}"
    raise Misspelt(
        "the value is not the address of a ledger: the program knows Postgres and SQLite",
        "write TUNEMILL_DATABASE_URL=postgresql+psycopg://user:password@host/name or sqlite:////folder/name.sqlite; "
        "unset it to use a file below TUNEMILL_HOME",
    )


def _libpq_query(rest: str) -> str:
    """`rest` of a Postgres address with asyncpg's word for TLS as psycopg's."""
    place, separator, query = rest.partition("?")
    if not separator:
        return rest
    modes = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
    parts = [
        (("sslmode", modes.get(value.casefold(), value)) if name == "ssl" else (name, value))
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    return f"{place}?{urlencode(parts, safe='/:,')}"


def time_zone(text: str) -> str:
    """A time zone as the system's list of them spells it."""
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415 - slow, and most commands need UTC alone

    if text in ("", "UTC"):
        return "UTC"
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        known = {name.casefold(): name for name in available_timezones()}
        plain = text.casefold().replace(" ", "_")
        if plain in known:
            return known[plain]
        near = get_close_matches(plain, known, n=1)
        fix = f"write {known[near[0]]}" if near else "write a name of the tz database, such as Europe/Berlin"
        raise Misspelt(f"{text!r} is not a time zone", fix) from None
    return text
