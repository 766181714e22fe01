"""Durations, percentages, money and dates as a policy writes them."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

from ccfailover.model.policy import Period

DURATION = re.compile(
    r"(?=\d)(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?"
    r"(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?"
)
SECONDS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def duration(value: object) -> float:
    """Seconds of `10s`, `5m`, `2h`, `1d`, `1h30m`, `500ms` or 0. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0.0
    found = DURATION.fullmatch(value) if isinstance(value, str) and len(value) <= 40 else None
    if found is None:
        raise ValueError("must be a duration with its unit, such as 10s, 5m, 2h, 1d or 1h30m")
    return sum(float(part) * unit for part, unit in zip(found.groups(), SECONDS, strict=True)
               if part)


def fraction(value: object) -> float:
    """0.8 of `0.80` or `80%`. Raises ValueError."""
    if isinstance(value, str) and value.endswith("%"):
        number = float(value[:-1]) / 100
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ValueError("must be a part of the whole, such as 0.80 or 80%")
    if not 0 <= number <= 1:
        raise ValueError("must be between 0 and 1 (or 0% and 100%)")
    return number


def share(value: object) -> int:
    """70 of `70` or `70%`. Raises ValueError."""
    if isinstance(value, str) and value.endswith("%"):
        value = int(value[:-1])
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise ValueError("must be a whole percentage between 0 and 100")
    return value


def money(value: object) -> Decimal:
    """The exact amount as written: 14.5 is 14.5, not its binary neighbour. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be an amount of money")
    return Decimal(str(value))


def day(value: object) -> date:
    """Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be a date such as 2026-12-31")
    return date.fromisoformat(value)


PERIOD = re.compile(r"([1-9]\d{0,4})(y|mo|d)")


def period(value: object) -> Period:
    """`7y`, `25mo` or `90d` of the calendar, at most 100 years. Raises ValueError."""
    found = PERIOD.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) > {"y": 100, "mo": 1200, "d": 36_500}[found[2]]:
        raise ValueError("must be a time of the calendar, such as 7y, 25mo or 90d")
    return Period(int(found[1]), found[2])


def spoken(seconds: float) -> str:
    """`90.0` → `1m30s`: the shortest way to write it that a policy could hold."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    whole, out = round(seconds), ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        out += f"{count}{unit}" if count else ""
    return out
