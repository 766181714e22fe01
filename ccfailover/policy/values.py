"""Checks of single values that a pattern cannot make, and how values are shown in messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date

REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\0]+|aws-secretsmanager:[^\s]+")
CREDENTIALS = re.compile(r"[A-Za-z0-9+.-]{1,20}://[^/\s:@]{0,200}:[^/\s@]{1,500}@")
"""A URL with a password in it. Bounded: it is searched in texts of any length."""


def shown(value: object, most: int = 40) -> str:
    """A value as a message repeats it: in backquotes, cut, and never a password in a URL."""
    text = " ".join(str(value).split())
    if "://" in text and "@" in text:
        text = text.split("://", 1)[0] + "://…"
    return f"`{text if len(text) <= most else text[: most - 1] + '…'}`"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing when no known word is near."""
    import difflib  # 3 ms, and most policies have no slip

    cutoff = 0.6 if len(word) > 3 else 0.5  # one wrong letter in two is half of the word
    near = difflib.get_close_matches(str(word)[:80], list(known), n=1, cutoff=cutoff)
    return f"; did you mean `{near[0]}`?" if near else ""


def _date(value: str) -> str | None:
    try:
        date.fromisoformat(value)
    except ValueError:
        return f"{shown(value)} is not a day of the calendar; write it as 2026-12-31"
    return None


def _timezone(value: str) -> str | None:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        if not known:
            return (f"{shown(value)} cannot be looked up: this machine has no time zone data; "
                    "install its tzdata package")
        return (f"{shown(value)} is not a time zone{did_you_mean(value, known)}"
                if did_you_mean(value, known) else
                f"{shown(value)} is not a time zone; write it as America/Chicago")
    return None


def _country(value: str) -> str | None:
    from ccfailover.policy.calendars import knows_country

    if knows_country(value):
        return None
    return f"{shown(value)} is not a country whose holidays are known; list the dates instead"


def _period(value: str) -> str | None:
    from ccfailover.policy.units import period

    try:
        period(value)
    except ValueError as error:
        return f"{shown(value)} {error}"
    return None


CHECKS: Mapping[str, Callable[[str], str | None]] = {
    "date": _date, "timezone": _timezone, "country": _country, "period": _period,
}
"""By the name that a schema's `x-check` gives: what is wrong with the value, or None."""
