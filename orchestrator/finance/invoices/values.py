"""Values of an invoice: amounts, quantities and instants are read from text exactly, or refused.

An amount is a decimal number with at most one decimal sign. An instant is ISO 8601 or epoch seconds; a mapping may name
another format. A date that has two possible meanings is refused, and so is a local time that a change of clocks repeats
or skips.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from catalog.errors import SettingsError

_PLACES_MAX: Final = 40  # finer, or larger than 10^15, is no money
_POWER_MAX: Final = 15
_EPOCH_S_MAX: Final = 4_102_444_800  # 2100-01-01


def amount_of(value: Any, *, decimal: str = ".", thousands: str = ",") -> Decimal:
    """An amount or quantity. Raises ValueError in words when it is no finite number, or is ambiguous.

    Without a decimal sign, a single group of thousands is refused: 1,234 may be a thousand or a little more than one.
    """
    if isinstance(value, Decimal):
        return _bounded(value, str(value))
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a number")
    text = value.strip().replace("\u2212", "-").replace("\u00a0", " ")
    text = re.sub(r"^(-?)\s*(?:\$|USD|€|EUR)?\s*|\s*(?:\$|USD|€|EUR)?$", r"\1", text, flags=re.IGNORECASE)
    if text.count(decimal) > 1 or (thousands and re.search(re.escape(decimal) + r".*" + re.escape(thousands), text)):
        raise ValueError(f"{value!r} has two decimal signs")
    if thousands and thousands in text:
        if not re.fullmatch(rf"-?\d{{1,3}}({re.escape(thousands)}\d{{3}})+({re.escape(decimal)}\d+)?", text, re.ASCII):
            raise ValueError(f"{value!r} is not a number")
        text = text.replace(thousands, "")
    text = text.replace(decimal, ".")
    if not re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d{1,3})?", text, re.ASCII | re.IGNORECASE):
        raise ValueError(f"{value!r} is not a number")
    return _bounded(Decimal(text), value)


def provider_amount_of(value: Any) -> Decimal:
    """As `amount_of`, for files whose notation is not declared: 1,234 alone is ambiguous."""
    if isinstance(value, str) and "," in value and "." not in value:
        raise ValueError(f"{value!r} may be a thousand or a fraction; name its decimal sign in a mapping")
    return amount_of(value)


def _bounded(number: Decimal, written: str) -> Decimal:
    if not number.is_finite():
        raise ValueError(f"{written!r} is not finite")
    if not number:
        return Decimal(0)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > _PLACES_MAX or number.adjusted() > _POWER_MAX:
        raise ValueError(f"{written!r} is not a possible amount")
    return number


def zone_of(name: str, *, option: str = "--time-zone") -> ZoneInfo:
    """The time zone of that name. Raises SettingsError naming the option."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise SettingsError(
            f"{option} is wrong: there is no time zone {name!r}", fix=f"write {option} Europe/Berlin"
        ) from None


def instant_of(value: Any, zone: ZoneInfo, form: str | None = None) -> int:
    """An instant in epoch milliseconds; without an offset it is read in `zone`. Raises ValueError in words.

    `form` is a strptime pattern; without one the text is ISO 8601 or epoch seconds.
    """
    if isinstance(value, Decimal) or (isinstance(value, str) and re.fullmatch(r"\d{9,10}(\.\d+)?", value, re.ASCII)):
        return _epoch_ms(Decimal(value))
    text = str(value).strip()
    if form is not None:
        try:
            found = datetime.strptime(text, form)
        except ValueError:
            raise ValueError(f"{value!r} is not a date of the form {form!r}") from None
        return _in_zone(found, zone, text)
    if re.match(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}", text, re.ASCII):
        raise ValueError(f"{value!r} may begin with the day or with the month; name its form in a mapping (dates)")
    try:
        found = datetime.fromisoformat(re.sub(r"\s*(?:UTC|GMT)$", "+00:00", text))
    except ValueError:
        raise ValueError(f"{value!r} is not a date; write 2026-11-30T14:05:00Z") from None
    return _in_zone(found, zone, text)


def is_day(value: Any, form: str | None = None) -> bool:
    """True when a value names a day without a time; as an end, such a value includes the whole day."""
    if form is not None:
        return not re.search(r"%[HIcXTsf]", form)
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip(), re.ASCII) is not None


def after_day(at_ms: int, zone: ZoneInfo) -> int:
    """Midnight at the end of the day that begins at `at_ms`, by the zone's clocks; where they skip it, when they do."""
    day = date.fromordinal(datetime.fromtimestamp(at_ms / 1000, tz=zone).toordinal() + 1)
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp()) * 1000


def iso_day(at_ms: int, zone: ZoneInfo) -> str:
    """The day that holds an instant, as YYYY-MM-DD."""
    return datetime.fromtimestamp(at_ms / 1000, tz=zone).date().isoformat()


def _epoch_ms(seconds: Decimal) -> int:
    if not seconds.is_finite() or not 0 <= seconds < _EPOCH_S_MAX:
        raise ValueError(f"{seconds} is not a time in epoch seconds")
    return int(seconds * 1000)


def _in_zone(found: datetime, zone: ZoneInfo, text: str) -> int:
    if not 1970 <= found.year < 2100:
        raise ValueError(f"{text!r} is not of this century")
    if found.tzinfo is None:
        early, late = (found.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if early != late:
            raise ValueError(f"{text!r} is an hour in which the clocks of {zone.key} change; write its offset")
        found = early
    delta = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
