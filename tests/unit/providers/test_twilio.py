"""Twilio beside what every route owes: pages, foreign URLs, writes in parts, and its own rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from tests.conformance.subjects import HASTY, SECRETS
from tests.conformance.subjects_twilio import TwilioNumber, TwilioTrunk, sid
from tests.servers.bucket import Bucket
from tests.servers.twilio import OriginationUrl, Twilio
from tests.servers.weather import Weather

MOVED = Shares({"acme": 70, "message": 30})


@pytest.fixture(scope="module")
def server() -> Iterator[Twilio]:
    with Twilio(SECRETS["env:SECRET"]) as found:
        yield found
        assert not found.broken


@pytest.fixture
def trunk(server: Twilio) -> Iterator[TwilioTrunk]:
    server.page, server.pages_at = 50, None
    with Weather(server.port) as weather:
        yield TwilioTrunk(server, weather)


@pytest.fixture
def number(server: Twilio) -> Iterator[TwilioNumber]:
    with Weather(server.port) as weather:
        yield TwilioNumber(server, weather)


def test_a_list_is_read_page_by_page(trunk: TwilioTrunk) -> None:
    """Five URLs, two a page; and a list without end is given up."""
    trunk.server.page = 2
    assert trunk.route().read().shares == Shares({"hq": 100})
    assert len(trunk.weather.requests) == 3
    trunk.trunk.urls |= {each: OriginationUrl(each, enabled=False)
                         for each in (sid("OU") for _ in range(30))}
    with pytest.raises(Rejected, match="more than 10 pages"):
        trunk.route().read()


def test_a_url_listed_twice_makes_no_sense(trunk: TwilioTrunk) -> None:
    """As when the list changes between two pages: which of the two is so?"""
    trunk.trunk.urls["again"] = next(iter(trunk.trunk.urls.values()))
    with pytest.raises(Rejected, match="is there twice"):
        trunk.route().read()


def test_a_page_elsewhere_is_not_asked_for(trunk: TwilioTrunk) -> None:
    """Whoever names another server for the next page would be sent our credentials."""
    trunk.server.page, trunk.server.pages_at = 2, "elsewhere.example"
    with pytest.raises(Rejected, match="the next page is elsewhere"):
        trunk.route().read()


def test_what_is_no_share_is_not_read(trunk: TwilioTrunk) -> None:
    """Weights count relatively, and are rounded."""
    trunk.elsewhere({"hq": 1, "acme": 3})
    assert trunk.route().read().shares == Shares({"hq": 25, "acme": 75})
    trunk.elsewhere({"hq": 10, "acme": 20})
    assert trunk.route().read().shares == Shares({"hq": 33, "acme": 67})
    trunk.elsewhere({})
    for url in trunk.others.values():
        url.enabled = False
    with pytest.raises(Rejected, match="no origination URL is enabled"):
        trunk.route().read()


def test_a_foreign_url_that_carries_is_neither_passed_over_nor_touched(
        trunk: TwilioTrunk) -> None:
    """With our priority or a lower number it takes calls; with a higher one it waits."""
    before = trunk.route().read()
    foreign = sid("OU")
    trunk.trunk.urls[foreign] = OriginationUrl(foreign, weight=300)
    with pytest.raises(Rejected, match=f"a share goes to {foreign}"):
        trunk.route().read()
    with pytest.raises(Rejected, match="it would take calls") as caught:
        trunk.route().shift(MOVED, expected=before, key="k")
    assert caught.value.not_done and trunk.writes() == 0
    trunk.trunk.urls[foreign].priority = 11
    trunk.route().shift(MOVED, expected=before, key="k")
    assert trunk.truth() == dict(MOVED)
    assert vars(trunk.trunk.urls[foreign]) == vars(OriginationUrl(foreign, weight=300, priority=11))
    off, back = trunk.others.values()
    assert (off.enabled, back.enabled, back.priority) == (False, True, 20)


def test_receivers_are_switched_on_before_others_are_switched_off(trunk: TwilioTrunk) -> None:
    """At no time is everything off, and each URL is written once."""
    trunk.route().shift(MOVED, expected=None, key="k")
    written = [next(name for name, each in trunk.names.items() if each == where)
               + ":" + form["Enabled"] for where, form in trunk.server.writes]
    assert written == ["acme:true", "message:true", "hq:false"]
    trunk.route().shift(MOVED, expected=None, key="k")
    assert trunk.writes() == 3


def test_a_change_by_somebody_else_is_refused(trunk: TwilioTrunk, number: TwilioNumber) -> None:
    """There is no version: it is read once more. What is as wanted already is no change."""
    before = trunk.route().read()
    trunk.elsewhere({"hq": 90, "acme": 10})
    with pytest.raises(Rejected, match="changed since it was read") as caught:
        trunk.route().shift(MOVED, expected=before, key="k")
    assert caught.value.not_done and trunk.truth() == {"hq": 90, "acme": 10}
    trunk.elsewhere(dict(MOVED))
    trunk.route().shift(MOVED, expected=before, key="k")
    called = number.route().read()
    number.elsewhere({"message": 100})
    with pytest.raises(Rejected, match="changed since it was read"):
        number.route().shift(Shares({"acme": 100}), expected=called, key="k")
    assert number.truth() == {"message": 100}


def test_a_write_in_parts_says_how_far_it_came(trunk: TwilioTrunk) -> None:
    """The second of three calls fails: in doubt, or refused in part; the same shift again ends
    well, although the trunk is no longer as it was read."""
    before = trunk.route().read()
    calls = iter((False, True))
    trunk.weather.strikes = lambda request: request.startswith(b"POST") and next(calls, False)
    trunk.meet("lost")
    with pytest.raises(Unavailable, match="after 1 of 3 origination URLs") as caught:
        trunk.route(timeout=HASTY).shift(MOVED, expected=before, key="k")
    assert caught.value.in_doubt
    trunk.route().shift(MOVED, expected=before, key="k")
    assert trunk.truth() == dict(MOVED)


def test_throttled_in_the_middle_is_in_doubt(trunk: TwilioTrunk) -> None:
    """A 429 was never processed; what came before it was."""
    calls = iter((False, True))
    trunk.weather.strikes = lambda request: request.startswith(b"POST") and next(calls, False)
    trunk.meet("throttled")
    with pytest.raises(Unavailable, match="replied 429, after 1 of 3") as caught:
        trunk.route().shift(MOVED, expected=None, key="k")
    assert caught.value.in_doubt and caught.value.retry_after == 7


def test_the_service_s_own_429_and_error_numbers_are_told(trunk: TwilioTrunk) -> None:
    trunk.server.bucket = Bucket(burst=0)
    with pytest.raises(Unavailable, match="replied 429") as caught:
        trunk.route().read()
    assert not caught.value.in_doubt and caught.value.retry_after == 2.5
    trunk.server.throttle(False)
    with pytest.raises(Rejected, match="replied 404, error 20404") as gone:
        trunk.provider.route(trunk.nonesuch()).read()
    assert gone.value.hint == "see twilio.com/docs/errors/20404"
    missing = LeverSpec("edge", trunk.ref, {"destinations": {**trunk.names, "hq": sid("OU")}})
    with pytest.raises(Rejected, match="the trunk has no origination URL"):
        trunk.provider.route(missing).read()


@pytest.mark.parametrize("name", ["trunk_sid", "voice_application_sid"])
def test_a_voice_url_that_is_not_used_is_no_lever(number: TwilioNumber, name: str) -> None:
    """Twilio ignores it where the number belongs to a trunk or an application."""
    setattr(number.number, name, sid("TK"))
    for act in (number.route().read,
                lambda: number.route().shift(Shares({"acme": 100}), expected=None, key="k")):
        with pytest.raises(Rejected, match=f"has a {name}"):
            act()
    assert number.writes() == 0


def test_a_voice_url_of_somebody_else_is_not_known(number: TwilioNumber) -> None:
    number.number.voice_url = "https://user:pass@else.example/"
    with pytest.raises(Rejected, match="that destinations does not name") as caught:
        number.route().read()
    assert "pass" not in str(caught.value)


def test_destinations_fit_the_lever(trunk: TwilioTrunk) -> None:
    """A trunk has origination URLs, a number has voice URLs, and each its own."""
    for ref, names in ((trunk.ref, {"hq": "https://x.example/", "acme": "https://y.example/"}),
                       (sid("PN"), trunk.names), (trunk.ref, {}),
                       (trunk.ref, {"hq": trunk.names["hq"], "acme": trunk.names["hq"]})):
        with pytest.raises(UsageError):
            trunk.provider.route(LeverSpec("edge", ref, {"destinations": names}))
