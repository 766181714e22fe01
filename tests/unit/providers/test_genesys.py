"""Genesys Cloud beside what every route owes: tokens, the whole body, versions, announcements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Announcement, Provider
from ccfailover.providers.genesys import GenesysProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import SECRETS
from tests.conformance.subjects_genesys import GENESYS, GenesysSubject
from tests.servers.bucket import Bucket
from tests.servers.genesys import Genesys
from tests.servers.weather import Weather

ACME = Shares({"acme": 100})


class Clock(SystemRuntime):
    """A monotonic clock that can be put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture
def cloud() -> Iterator[Genesys]:
    with Genesys(SECRETS["env:SECRET"]) as server:
        yield server
        assert not server.broken


@pytest.fixture
def subject(cloud: Genesys) -> Iterator[GenesysSubject]:
    with Weather(cloud.port) as weather:
        yield GenesysSubject(cloud, weather)


def provider(cloud: Genesys, runtime: SystemRuntime | None = None, port: int | None = None,
             **secrets: str) -> Provider:
    where = f"http://127.0.0.1:{port or cloud.port}"
    params = {"client": "env:CLIENT", "secret": "env:SECRET", "api_url": where,
              "login_url": where}
    return GenesysProvider(ProviderSpec("cloud", "genesys", params),
                           resolve={**GENESYS, **secrets}.__getitem__,
                           runtime=runtime or SystemRuntime())


def test_one_token_serves_until_it_ends(subject: GenesysSubject, cloud: Genesys) -> None:
    """Two levers share it; a minute before its end it is fetched anew."""
    clock = Clock()
    made = provider(cloud, clock)
    for _ in range(3):
        made.route(subject.lever).read()
    assert cloud.tokens == 1
    clock.ahead = cloud.life - 30
    made.route(subject.lever).read()
    assert cloud.tokens == 2


def test_a_token_that_lives_for_ever_is_a_token(subject: GenesysSubject, cloud: Genesys) -> None:
    cloud.token_body = {"access_token": "t0ken", "token_type": "bearer", "expires_in": 10 ** 400}
    cloud.valid.add("t0ken")
    assert provider(cloud).route(subject.lever).read().shares == Shares({"hq": 100})


def test_a_refused_token_is_fetched_once_more(subject: GenesysSubject, cloud: Genesys) -> None:
    """Revoked while in use: one new one, also before a write; then that is the answer."""
    route = provider(cloud).route(subject.lever)
    before = route.read()
    cloud.valid.clear()
    route.shift(ACME, expected=before, key="k")
    assert (cloud.tokens, subject.truth()) == (2, {"acme": 100})
    cloud.valid.clear()
    cloud.token_body = {"access_token": "never-valid", "token_type": "bearer", "expires_in": 9999}
    with pytest.raises(Rejected, match="replied 401") as caught:
        route.read()
    assert cloud.tokens == 3 and "never-valid" not in str(caught.value)


@pytest.mark.parametrize("body", [
    {}, {"access_token": "", "expires_in": 9}, {"access_token": "a\r\nX: y", "expires_in": 9},
    {"access_token": "a", "expires_in": "9"}, {"access_token": "a", "expires_in": 0},
    {"access_token": "a", "expires_in": True}, {"access_token": 7, "expires_in": 9},
    {"access_token": "é", "expires_in": 9}])
def test_a_token_that_is_none_is_refused(subject: GenesysSubject, cloud: Genesys,
                                         body: dict[str, Any]) -> None:
    cloud.token_body = body
    with pytest.raises(Rejected, match="makes no sense"):
        provider(cloud).route(subject.lever).read()


def test_wrong_credentials_are_told_without_showing_them(subject: GenesysSubject,
                                                         cloud: Genesys) -> None:
    with pytest.raises(Rejected, match=r"no token was given \(replied 400\)") as caught:
        provider(cloud, **{"env:SECRET": "wr0ng-secret"}).route(subject.lever).read()
    assert "wr0ng" not in "".join(caught.value.lines())


def test_the_whole_body_goes_back(subject: GenesysSubject, cloud: Genesys) -> None:
    """Name, division, description and flows stay, though a PUT replaces all of it."""
    before = json.loads(json.dumps(cloud.groups[subject.ref]))
    subject.route().shift(ACME, expected=None, key="k")
    after = cloud.groups[subject.ref]
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"enabled", "version", "dateModified"}
    assert set(before) <= set(after)


def test_a_change_between_read_and_write_is_refused_by_the_platform(
        subject: GenesysSubject, cloud: Genesys) -> None:
    """409 of the version; when the other one did just what we want, that is fine."""
    route = subject.route()
    cloud.meanwhile.append(lambda: cloud.set(subject.ref, False))
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(ACME, expected=None, key="k")
    assert subject.truth() == {"hq": 100} and subject.writes() == 0
    cloud.meanwhile.append(lambda: cloud.set(subject.ref, True))
    route.shift(ACME, expected=None, key="k")
    assert subject.truth() == {"acme": 100} and subject.writes() == 0


def test_its_own_429_says_when_to_come_back(subject: GenesysSubject, cloud: Genesys) -> None:
    """Of the token, too."""
    for warm in (False, True):
        route = provider(cloud).route(subject.lever)
        if warm:
            route.read()
        cloud.bucket = Bucket(burst=0)
        with pytest.raises(Unavailable, match="replied 429") as caught:
            route.read()
        assert (caught.value.in_doubt, caught.value.retry_after) == (False, 3.0)
        cloud.throttle(False)


def test_a_group_without_call_routes_is_no_lever(cloud: Genesys) -> None:
    """To switch it on would read as done, and change nothing for any caller."""
    ref = cloud.add(ivrs=0)
    route = provider(cloud).route(LeverSpec("cloud", ref,
                                            {"destinations": GenesysSubject.destinations}))
    with pytest.raises(Rejected, match="lists no call routes"):
        route.shift(ACME, expected=None, key="k")
    assert cloud.writes == []


@pytest.mark.parametrize("change", [
    {"enabled": None}, {"enabled": "true"}, {"version": "1"}, {"version": True}, {"name": None},
    {"emergencyCallFlows": {}}])
def test_a_group_that_makes_no_sense_is_not_known(subject: GenesysSubject, cloud: Genesys,
                                                  change: dict[str, Any]) -> None:
    cloud.lies = change
    with pytest.raises(Rejected, match="makes no sense"):
        subject.route().read()


def test_a_deleted_group_is_said_to_be_so(subject: GenesysSubject, cloud: Genesys) -> None:
    cloud.groups[subject.ref]["state"] = "deleted"
    with pytest.raises(Rejected, match="not active any more"):
        subject.route().read()


def spoken(cloud: Genesys, *names: str) -> tuple[Announcement, dict[str, str]]:
    groups = {name: cloud.add() for name in names}
    lever = LeverSpec("cloud", "loans", {"announcements": groups})
    return provider(cloud).announcement(lever), groups


def test_an_announcement_is_switched_on_and_the_others_off(cloud: Genesys) -> None:
    """Absolute: what is on is what was said last, and saying it again writes nothing."""
    says, groups = spoken(cloud, "outage", "storm")
    assert says.said() is None
    for name, on in (("outage", ["outage"]), ("storm", ["storm"]), ("storm", ["storm"]),
                     (None, [])):
        says.say(name, key="k")
        assert says.said() == name
        assert [each for each in groups if cloud.groups[groups[each]]["enabled"]] == on
    assert len(cloud.writes) == 4


def test_two_announcements_at_once_are_not_known(cloud: Genesys) -> None:
    says, groups = spoken(cloud, "outage", "storm")
    for ref in groups.values():
        cloud.set(ref, True)
    with pytest.raises(Rejected, match="more than one announcement is on: outage, storm"):
        says.said()
    says.say("storm", key="k")
    assert says.said() == "storm"
    with pytest.raises(Rejected, match="announcements does not name"):
        says.say("flood", key="k")


@pytest.mark.parametrize("kind", [Rejected, Unavailable])
def test_an_announcement_that_is_half_switched_says_so(
        cloud: Genesys, kind: type[Rejected | Unavailable]) -> None:
    """The one that is wanted is on; nobody may say that nothing was changed."""
    with Weather(cloud.port) as weather:
        groups = {name: cloud.add() for name in ("outage", "storm")}
        made = provider(cloud, port=weather.port)
        says = made.announcement(LeverSpec("cloud", "loans", {"announcements": groups}))
        cloud.set(groups["storm"], True)
        assert says.said() == "storm"
        if kind is Rejected:
            cloud.meanwhile.append(lambda: cloud.groups.pop(groups["storm"]) and None)
        else:
            cloud.meanwhile.append(lambda: weather.next("down"))
        with pytest.raises(kind) as caught:
            says.say("outage", key="k")
        assert cloud.groups[groups["outage"]]["enabled"]
        if isinstance(caught.value, Unavailable):
            assert caught.value.in_doubt
        assert caught.value.not_done != "the emergency group was not changed"
        assert "1 of 2" in " ".join(caught.value.lines())


@pytest.mark.parametrize("places", [
    {}, {"hq": "normal", "acme": "normal"}, {"hq": "normal"}])
def test_a_route_has_a_normal_and_an_emergency_side(cloud: Genesys,
                                                    places: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="one is normal, the other emergency"):
        provider(cloud).route(LeverSpec("cloud", "x", {"destinations": places}))
    with pytest.raises(UsageError, match="no announcements"):
        provider(cloud).announcement(LeverSpec("cloud", "x", {}))


def test_a_lever_can_what_it_names() -> None:
    """A route where it has destinations, announcements where it names some."""
    able = GenesysProvider.capabilities
    route = able({}, {"ref": "x", "destinations": {"hq": "normal", "message": "emergency"}})
    assert (route.routes, route.announcements, route.treatments) == (True, False, True)
    says = able({}, {"ref": "x", "announcements": {"outage": "y"}})
    assert (says.routes, says.announcements) == (False, True)
    assert able({}).routes and able({}).announcements
