"""Opening hours (OpenStreetMap syntax), in a site's own time zone, with its holidays."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from ccfailover.runtime import SECOND

if TYPE_CHECKING:
    from opening_hours import OpeningHours

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COUNTRY = re.compile(r"[A-Z]{2}")
HOLIDAY = re.compile(r"\bPH\b")
WITH_PH = re.compile(r"\s*((?:[A-Z][a-z](?:-[A-Z][a-z])?,)*)PH"
                     r"((?:,[A-Z][a-z](?:-[A-Z][a-z])?)*)(\s.*)?", re.DOTALL)
"""A rule with PH among its days, and nothing before them."""
FAR = 366 * 3
"""Days after which a change is taken to be never; bounds the work on odd expressions."""
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun",
          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class HoursError(ValueError):
    """Not an opening-hours expression; `offset` is where in it, counted from 0."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Hours:
    """When something is open.

    `expression` None means always. `holidays` says what `PH` is: a country code (`US`), or ISO
    dates joined by commas; None: there are no holidays. Raises HoursError for an expression that
    cannot be read, ValueError for an unknown time zone or country.
    """

    def __init__(self, expression: str | None, *, timezone: str, holidays: str | None) -> None:
        self.expression = expression
        self._hours = None if expression is None else _parsed(expression, timezone, holidays)
        self._timezone = timezone

    def is_open(self, at_us: int) -> bool:
        """Unknown (`Mo-Fr 08:00-12:00 unknown`) counts as closed."""
        if self._hours is None:
            return True
        return self._hours.is_open(_local(at_us, self._timezone))

    def next_change(self, at_us: int) -> int | None:
        """When it next opens or closes (µs); None: not in the next three years."""
        if self._hours is None:
            return None
        local = _local(at_us, self._timezone)
        for _ in range(3):
            change = self._hours.next_change(local)
            if change is None:
                return None
            found = (change - EPOCH) // timedelta(microseconds=1)
            if found > at_us:
                return found
            # The hour that a clock change repeats: look on from behind it.
            local = _local(at_us + 3600 * SECOND, self._timezone)
        return None


def blocked(windows: tuple[str, ...], timezone: str, at_us: int) -> str | None:
    """The first of the windows (opening-hours expressions) in which `at_us` falls."""
    for window in windows:
        if Hours(window, timezone=timezone, holidays=None).is_open(at_us):
            return window
    return None


def knows_country(code: str) -> bool:
    """Whether the public holidays of that country are known."""
    import opening_hours

    try:
        opening_hours.OpeningHours("PH off", country=code, auto_timezone=False)
    except opening_hours.UnknownCountryError:  # type: ignore[attr-defined]  # not in its stubs
        return False
    return True


def names_holidays(expression: str) -> bool:
    return HOLIDAY.search(_without_comments(expression)) is not None


def _local(at_us: int, zone: str) -> datetime:
    from zoneinfo import ZoneInfo

    return (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(zone))


def _parsed(expression: str, zone: str, holidays: str | None) -> OpeningHours:
    from zoneinfo import ZoneInfo

    import opening_hours

    country = holidays if holidays and COUNTRY.fullmatch(holidays) else None
    text = expression if country or not holidays else _with_dates(expression, holidays.split(","))
    if not expression.strip():
        raise HoursError("the opening hours are empty", 0)
    try:
        return opening_hours.OpeningHours(
            text, timezone=ZoneInfo(zone), country=country, auto_country=False,
            auto_timezone=False, max_interval_days=FAR)
    except opening_hours.ParserError as error:  # type: ignore[attr-defined]  # not in its stubs
        raise _explained(expression, text, str(error)) from None
    except opening_hours.UnknownCountryError as error:  # type: ignore[attr-defined]
        raise ValueError(f"holidays of {country}: {error}") from None


def _with_dates(expression: str, dates: list[str]) -> str:
    """The expression with the dates in place of PH: the library knows holidays by country only."""
    days = ",".join(f"{day.year} {MONTHS[day.month - 1]} {day.day:02}"
                    for day in map(date.fromisoformat, dates))
    rules, offset = [], 0
    for rule in expression.split(";"):
        if names_holidays(rule):
            found = WITH_PH.fullmatch(rule)
            if found is None:
                raise HoursError("with a list of holidays, PH must begin a rule or stand among its "
                                 "days, such as `PH off` or `Su,PH 10:00-14:00`",
                                 offset + rule.index("PH"))
            other, when = (found[1] + found[2]).strip(","), found[3] or ""
            rules += [f"{other}{when}"] if other else []
            rules.append(f"{days}{when}")
        else:
            rules.append(rule)
        offset += len(rule) + 1
    return ";".join(rules)


def _without_comments(expression: str) -> str:
    return re.sub(r'"[^"]*"', lambda found: " " * len(found[0]), expression)


def _explained(expression: str, text: str, error: str) -> HoursError:
    """The parser's place and expectation, in our words."""
    place = re.search(r"-->\s*(\d+):(\d+)", error)
    offset = 0
    if place and text == expression:
        lines = expression.split("\n")
        offset = sum(len(line) + 1 for line in lines[: int(place[1]) - 1]) + int(place[2]) - 1
    wrong = expression[offset:].split(";")[0].strip()
    what = f"`{wrong[:30]}` is not understood" if wrong else "they end too soon"
    return HoursError(f"not opening hours: {what}; write them as in "
                      "`Mo-Fr 08:00-20:00; Sa 09:00-17:00; PH off`",
                      min(offset, max(len(expression) - 1, 0)))
