"""Secrets: remove passwords and keys from addresses and from text before they are shown.

No code here prints a secret on purpose, but a library may do so in an error or a log line. Therefore all text that
leaves a process is searched for the secrets of its environment. This search is a last line of defence and permits no
code to handle secrets carelessly.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from catalog.plain import plain_lines

HIDDEN: Final = "***"
_LENGTH_MIN: Final = 6  # anything shorter would be found in ordinary words
_SECRET_NAME = re.compile(r"SECRET|TOKEN(?!IZ|S)|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY", re.IGNORECASE)
_SECRET_PART = re.compile(r"pass|secret|token|key$|credential", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def without_secrets(url: str) -> str:
    """`url` as it may be shown: user name, password, query and fragment removed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        # A folder's name may hold any text; a part that could be a login is not shown.
        return "(an address without a scheme)" if re.match(r"[^/\s]*:[^/\s]*@", url) else url
    try:
        urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"  # a password could stand anywhere in it
    shown = re.split(r"[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(shown) :]:  # a password with such a sign in it ends later than it seems
        return f"{scheme}://{HIDDEN}"
    # The last one, because a password may hold an unescaped @ or slash.
    return f"{scheme}://{shown.rpartition('@')[2]}"


def scrub(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` without logins in addresses and without the secrets that stand in the environment (by default ours)."""
    for secret in _secrets_in(os.environ if environment is None else environment):
        text = text.replace(secret, HIDDEN)
    return _USER_INFO.sub("", text)


def scrub_broker_error(text: str, url: str) -> str:
    """`text` of a broker's or its client's error without anything that `url` holds beyond its place."""
    text = scrub(text.replace(url, without_secrets(url)), {"URL": url})
    try:
        user = urlsplit(url).username
    except ValueError:
        user = None
    for name in {user, unquote(user)} if user else ():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", HIDDEN, text)
    return text


class ScrubbingFormatter(logging.Formatter):
    """A log's formatter that leaves secrets out, whichever library's line or traceback it is, and writes plain text.

    Later lines of an entry are indented: a stranger's words with a line end in them cannot look like another entry.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The entry, scrubbed and plain."""
        return plain_lines(scrub(super().format(record))).replace("\n", "\n  ")


def _secrets_in(environment: Mapping[str, str]) -> list[str]:
    """The secrets, longest first: one may begin with another."""
    found = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            found.add(value)
        if "://" in value:
            found.update(_secrets_of(value))
    return sorted((secret for secret in found if len(secret) >= _LENGTH_MIN), key=len, reverse=True)


def _secrets_of(url: str) -> Iterator[str]:
    """The password of an address, and query values under secret names, both as written and unescaped."""
    login, _, _ = url.partition("://")[2].rpartition("@")
    password = login.partition(":")[2]
    yield from (password, unquote(password))
    query = url.partition("?")[2]
    for part in query.split("&"):
        if _SECRET_PART.search(part.partition("=")[0]):
            yield part.partition("=")[2]
    yield from (value for name, value in parse_qsl(query) if _SECRET_PART.search(name))
