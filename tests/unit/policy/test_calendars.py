"""Opening hours: time zones, clock changes, holidays, blocked windows."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from ccfailover.policy.calendars import Hours, HoursError, blocked, knows_country

CHICAGO = "America/Chicago"


def at(text: str, zone: str = CHICAGO, fold: int = 0) -> int:
    """µs of a local time; `fold` 1 is the second of the two hours that a clock change makes."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(local.timestamp()) * 1_000_000


@pytest.mark.parametrize(("expression", "holidays", "when", "is_open"), [
    (None, None, "2026-12-25T03:00", True),
    ("24/7", "US", "2026-12-25T03:00", True),
    ("Mo-Fr 08:00-20:00; PH off", "US", "2026-11-25T08:00", True),
    ("Mo-Fr 08:00-20:00; PH off", "US", "2026-11-25T20:00", False),
    ("Mo-Fr 08:00-20:00; PH off", "US", "2026-11-26T12:00", False),
    ("Mo-Fr 08:00-20:00; PH off", None, "2026-11-26T12:00", True),
    ("Mo-Fr 08:00-20:00; PH off", "2026-11-26,2026-12-25", "2026-11-26T12:00", False),
    ("Mo-Fr 08:00-20:00; PH off", "2026-11-26,2026-12-25", "2026-11-27T12:00", True),
    ("Mo-Fr 08:00-20:00; Su,PH 10:00-12:00", "2026-11-26", "2026-11-26T11:00", True),
    ("Mo-Fr 08:00-20:00; Su,PH 10:00-12:00", "2026-11-26", "2026-11-26T13:00", False),
    ("Mo-Fr 08:00-20:00; Su,PH 10:00-12:00", "2026-11-26", "2026-11-29T11:00", True),
    ("Mo-Fr 17:00-08:00; Sa-Su; PH", "US", "2026-11-24T02:00", True),
    ("Mo-Fr 17:00-08:00; Sa-Su; PH", "US", "2026-11-24T12:00", False),
    ("Mo-Fr 17:00-08:00; Sa-Su; PH", "US", "2026-12-25T12:00", True),
    ("Mo-Fr 08:00-12:00 unknown", None, "2026-11-25T09:00", False),
])
def test_when_a_site_is_open(expression, holidays, when, is_open):
    """In the site's own time; unknown counts as closed; no expression means always."""
    assert Hours(expression, timezone=CHICAGO, holidays=holidays).is_open(at(when)) is is_open


def test_the_same_instant_in_two_time_zones():
    """18:30 in Chicago is the next morning in Manila."""
    instant = at("2026-11-25T18:30")
    office = "Mo-Fr 08:00-17:00"
    assert Hours(office, timezone=CHICAGO, holidays=None).is_open(instant) is False
    assert Hours(office, timezone="Asia/Manila", holidays=None).is_open(instant) is True


@pytest.mark.parametrize(("expression", "when", "fold", "change"), [
    ("Mo-Fr 08:00-20:00", "2026-11-25T12:00", 0, ("2026-11-25T20:00", 0)),
    ("Mo-Fr 08:00-20:00", "2026-11-27T21:00", 0, ("2026-11-30T08:00", 0)),
    ("Su 01:00-05:00", "2026-03-08T01:30", 0, ("2026-03-08T05:00", 0)),
    ("Su 01:00-05:00", "2026-11-01T01:30", 1, ("2026-11-01T05:00", 0)),
])
def test_the_next_change(expression, when, fold, change):
    """Also over the nights in which the clock changes; always later than the instant asked."""
    hours = Hours(expression, timezone=CHICAGO, holidays=None)
    assert hours.next_change(at(when, fold=fold)) == at(change[0], fold=change[1])


@pytest.mark.parametrize("minute", range(0, 240, 10))
def test_the_next_change_is_never_in_the_past(minute):
    """In the night in which an hour comes twice."""
    hours = Hours("Su 01:30-01:45,03:00-03:30", timezone=CHICAGO, holidays=None)
    instant = at("2026-11-01T00:30") + minute * 60_000_000
    change = hours.next_change(instant)
    assert change is not None
    assert change > instant


def test_no_change_at_all():
    """24/7 never changes, nor do hours that lie in the past."""
    now = at("2026-11-25T12:00")
    for expression in (None, "24/7", "2020 Dec 24"):
        assert Hours(expression, timezone=CHICAGO, holidays=None).next_change(now) is None


@pytest.mark.parametrize(("expression", "holidays", "offset", "words"), [
    ("Mo-Fr 8-20", None, 6, "`8-20` is not understood"),
    ("", None, 0, "empty"),
    ("Mo-Fr 08:00-20:00; Dezember off", None, 19, "Dezember"),
    ("Mo-Fr 08:00-20:00; Dec PH off", "2026-12-25", 23, "PH must begin a rule"),
])
def test_hours_that_cannot_be_read(expression, holidays, offset, words):
    """The place in the expression, and how to write it."""
    with pytest.raises(HoursError) as caught:
        Hours(expression, timezone=CHICAGO, holidays=holidays)
    assert caught.value.offset == offset
    assert words in caught.value.message


def test_unknown_countries_and_zones_are_refused():
    """A calendar that silently knew no holidays would open on Christmas."""
    assert knows_country("US")
    assert not knows_country("XQ")
    with pytest.raises(ValueError, match="XQ"):
        Hours("PH off", timezone=CHICAGO, holidays="XQ")
    with pytest.raises((ValueError, KeyError)):
        Hours("24/7", timezone="Mars/Olympus", holidays=None)


def test_which_window_blocks():
    """The first window that holds the instant, in the policy's time zone."""
    windows = ("Dec 24-26", "Mo 08:00-10:00")
    assert blocked(windows, CHICAGO, at("2026-12-25T12:00")) == "Dec 24-26"
    assert blocked(windows, CHICAGO, at("2026-11-23T09:00")) == "Mo 08:00-10:00"
    assert blocked(windows, CHICAGO, at("2026-11-23T10:00")) is None
    assert blocked((), CHICAGO, at("2026-12-25T12:00")) is None
    assert blocked(("Dec 24-26",), "Asia/Manila", at("2026-12-26T12:00")) is None
