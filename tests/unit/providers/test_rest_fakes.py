"""The small servers of Twilio and Genesys Cloud hold both directions to what the vendors' own SDKs
say, refuse what the services refuse although the SDK does not, and throttle like them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from email.message import Message
from typing import Any
from urllib.parse import urlencode

import pytest

from ccfailover.model.policy import LeverSpec
from ccfailover.providers.wrappers import Retrying
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import SECRETS
from tests.conformance.subjects_genesys import GenesysSubject
from tests.conformance.subjects_twilio import sid
from tests.servers.bucket import Bucket
from tests.servers.genesys import CLIENT, Genesys
from tests.servers.rest import Asked, Refusal, RestServer
from tests.servers.twilio import ACCOUNT, KEY, Number, OriginationUrl, Trunk, Twilio
from tests.servers.weather import Weather

SECRET = SECRETS["env:SECRET"]
FORM = "application/x-www-form-urlencoded"


def ask(server: RestServer, path: str, body: bytes | None = None, kind: str | None = None,
        method: str | None = None, login: str | None = None) -> tuple[int, Any, Message]:
    headers = {} if kind is None else {"Content-Type": kind}
    if login is not None:
        headers["Authorization"] = login
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", body, headers,
                                     method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status, json.loads(reply.read()), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


def basic(user: str) -> str:
    return "Basic " + b64encode(f"{user}:{SECRET}".encode()).decode()


class Line:
    """A trunk with one URL and a number, and how they are asked for."""

    def __init__(self, server: Twilio) -> None:
        self.server = server
        trunk, self.url, self.number = sid("TK"), OriginationUrl(sid("OU")), Number(sid("PN"))
        server.trunks[trunk] = Trunk({self.url.sid: self.url})
        server.numbers[self.number.sid] = self.number
        self.list = f"/v1/Trunks/{trunk}/OriginationUrls"
        self.one = f"{self.list}/{self.url.sid}"
        self.phone = f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/{self.number.sid}.json"

    def ask(self, path: str, form: dict[str, str] | None = None) -> tuple[int, Any, Message]:
        if form is None:
            return ask(self.server, path, login=basic(KEY))
        return ask(self.server, path, urlencode(form).encode(), FORM, login=basic(KEY))


@pytest.fixture
def line() -> Iterator[Line]:
    with Twilio(SECRET) as server:
        yield Line(server)


class Desk:
    """One emergency group, and whoever may change it."""

    def __init__(self, server: Genesys) -> None:
        self.server, self.ref = server, server.add()
        self.path = f"/api/v2/architect/emergencygroups/{self.ref}"
        self.group = server.groups[self.ref]
        server.valid.add("t0ken")

    def ask(self, body: Any = None, path: str = "") -> tuple[int, Any, Message]:
        sent = None if body is None else json.dumps(body).encode()
        return ask(self.server, self.path + path, sent, "application/json" if sent else None,
                   "PUT" if sent else "GET", "Bearer t0ken")


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Genesys(SECRET) as server:
        yield Desk(server)


@pytest.mark.parametrize(("form", "status"), [
    ({"Weight": "65535", "Priority": "0", "Enabled": "true", "SipUrl": "sip:x.example"}, 200),
    ({"weight": "1"}, 400), ({"Colour": "red"}, 400), ({"VoiceUrl": "https://x.example"}, 400),
    ({"Weight": "1.5"}, 400), ({"Weight": ""}, 400), ({"Enabled": "yes"}, 400),
    # What the SDK lets pass:
    ({"Weight": "0"}, 400), ({"Weight": "65536"}, 400), ({"Priority": "65536"}, 400),
    ({"Priority": "-1"}, 400), ({"SipUrl": "sips:x.example"}, 400)])
def test_twilio_takes_the_fields_of_the_sdk_in_their_ranges(line: Line, form: dict[str, str],
                                                            status: int) -> None:
    assert line.ask(line.one, form)[0] == status
    assert len(line.server.writes) == (status == 200)
    assert not line.server.broken


@pytest.mark.parametrize(("form", "status"), [
    ({"VoiceUrl": "https://x.example/voice"}, 200), ({"Weight": "1"}, 400),
    ({"EmergencyStatus": "Perhaps"}, 400), ({"VoiceUrl": "ftp://x.example"}, 400)])
def test_a_number_takes_other_fields_than_a_trunk(line: Line, form: dict[str, str],
                                                  status: int) -> None:
    assert line.ask(line.phone, form)[0] == status
    assert not line.server.broken


def test_what_the_sdk_never_asks_twilio_is_refused(line: Line) -> None:
    """Another path, method, query or kind of body."""
    login = basic(KEY)
    for path, status in ((line.list.lower(), 404), (f"{line.list}?Size=5", 400),
                         (f"{line.one}?PageSize=5", 400), (f"{line.list}?PageSize=50", 200),
                         (f"{line.list}?PageSize=0", 400)):
        assert ask(line.server, path, login=login)[0] == status
    assert ask(line.server, line.list, b"Weight=1", FORM, "PUT", login)[0] == 405
    assert ask(line.server, line.one, b"{}", "application/json", "POST", login)[0] == 400
    assert ask(line.server, line.one, b"Weight=1&Weight=2", FORM, "POST", login)[0] == 400
    assert ask(line.server, line.one, login=basic("somebody"))[0] == 401
    assert not line.server.broken


def test_a_reply_of_twilio_s_that_the_sdk_does_not_know_is_found(line: Line) -> None:
    """Types, times, missing and unknown members, values that are none of the allowed, pages: the
    caller gets 500, and the fixtures of the other tests fail at their end."""

    class Odd(Twilio):
        def __init__(self) -> None:
            super().__init__(SECRET)
            self.change: dict[str, Any] = {}
            self.without: str | None = None

        def answer(self, asked: Asked) -> tuple[int, Any]:
            status, told = super().answer(asked)
            return status, {name: value for name, value in {**told, **self.change}.items()
                            if name != self.without}

        def refused(self, status: int, why: str, code: int | None = None) -> Refusal:
            return Refusal(status, {**super().refused(status, why, code).body, **self.change})

    with Odd() as server:
        odd = Line(server)
        for path, change, says in (
                (odd.one, {"weight": "10"}, "weight: no int"),
                (odd.one, {"enabled": "true"}, "enabled: no bool"),
                (odd.one, {"date_created": "Sun, 01 Mar 2026 09:30:00 +0000"}, "no time"),
                (odd.one, {"colour": "red"}, "colour: unknown"),
                (odd.phone, {"date_updated": "2026-03-01"}, "date_updated: no time"),
                (odd.phone, {"capabilities": ["voice"]}, "no capabilities"),
                (odd.phone, {"voice_receive_mode": "sms"}, "'sms' is none of"),
                (odd.list, {"meta": {"key": "urls"}}, "no list that the SDK can read"),
                (odd.list, {"meta": {"key": "origination_urls", "next_page_url": 2}},
                 "2 is no page"),
                (odd.list, {"origination_urls": [{}]}, "[0].weight: missing"),
                (odd.list.replace("TK", "PN"), {"code": "20404"}, "without code|no error"),
                (odd.list.replace("TK", "PN"), {"status": 200}, "another status")):
            server.change = change
            assert odd.ask(path)[0] == 500
            assert any(word in "\n".join(server.broken) for word in says.split("|")), says
            server.broken.clear()
        server.change, server.without = {}, "voice_url"
        assert odd.ask(odd.phone)[0] == 500
        assert server.broken == ["IncomingPhoneNumber.voice_url: missing"]


@pytest.mark.parametrize(("change", "status"), [
    ({}, 200), ({"enabled": "true"}, 400), ({"colour": "red"}, 400), ({"version": True}, 400),
    ({"state": "asleep"}, 400), ({"dateCreated": "yesterday"}, 400),
    ({"division": {"id": "d", "homeDivision": True}}, 400), ({"emergencyCallFlows": {}}, 400),
    ({"emergencyCallFlows": [{"ivrs": ["i"]}]}, 400),
    # What the SDK lets pass:
    ({"name": None}, 400), ({"version": 2}, 409), ({"id": "another"}, 400),
    ({"emergencyCallFlows": [{"emergencyFlow": {"name": "no id"}}]}, 400)])
def test_genesys_takes_what_its_model_says(desk: Desk, change: dict[str, Any],
                                           status: int) -> None:
    assert desk.ask({**desk.group, **change})[0] == status
    assert len(desk.server.writes) == (status == 200)
    assert not desk.server.broken


def test_what_the_sdk_never_asks_genesys_is_refused(desk: Desk) -> None:
    """Another path, method, query, kind of body or kind of token."""
    body = json.dumps(desk.group).encode()
    for path, sent, kind, method, status in (
            (desk.path, body, "text/plain", "PUT", 400), (desk.path, b"{", "application/json",
                                                          "PUT", 400),
            (desk.path, body, "application/json", "POST", 405), (f"{desk.path}/x", None, None,
                                                                 "GET", 404),
            (f"{desk.path}?expand=all", None, None, "GET", 400)):
        assert ask(desk.server, path, sent, kind, method, "Bearer t0ken")[0] == status
    assert ask(desk.server, desk.path)[0] == 401
    for form, status in (("grant_type=client_credentials", 200), ("grant_type=password", 400)):
        assert ask(desk.server, "/oauth/token", form.encode(), FORM,
                   login=basic(CLIENT))[0] == status
    assert not desk.server.broken


def test_a_reply_of_genesys_that_its_model_does_not_know_is_found(desk: Desk) -> None:
    for change, says in (({"state": "asleep"}, "state: 'asleep' is none"),
                         ({"enabled": "no"}, "enabled: no bool"), ({"colour": "red"}, "unknown"),
                         ({"dateCreated": "2026-03-01T09:30:00"}, "dateCreated: no time"),
                         ({"emergencyCallFlows": [{"flows": []}]}, "flows: unknown member")):
        before = dict(desk.group)
        desk.group.update(change)
        assert desk.ask()[0] == 500
        assert says in desk.server.broken.pop() and not desk.server.broken
        desk.group.clear()
        desk.group.update(before)

    class Odd(Genesys):
        def refused(self, status: int, why: str) -> Refusal:
            return Refusal(status, {"reason": why})

    with Odd(SECRET) as server:
        assert Desk(server).ask(path="x")[0] == 500
        assert server.broken == ["ErrorBody.reason: unknown member"]
        server.life = 0.5  # type: ignore[assignment]
        assert ask(server, "/oauth/token", b"grant_type=client_credentials", FORM,
                   login=basic(CLIENT))[0] == 500


def test_the_limit_is_five_at_once_and_two_a_second(line: Line, desk: Desk) -> None:
    """In each service's own words; Genesys alone says when to come back."""
    for server, path, login, code, when in (
            (line.server, line.one, basic(KEY), 20429, None),
            (desk.server, desk.path, "Bearer t0ken", "too.many.requests", "3")):
        server.throttle()
        told = [ask(server, path, login=login) for _ in range(8)]
        assert [status for status, _, _ in told[:5]] == [200] * 5
        # A slow machine may earn one more meanwhile.
        _, body, headers = next(each for each in told if each[0] == 429)
        assert (body["code"], headers["Retry-After"]) == (code, when)
        server.throttle(False)
        assert ask(server, path, login=login)[0] == 200 and not server.broken


@pytest.mark.slow
def test_announcements_get_through_the_limit(desk: Desk) -> None:
    """The other lever of Genesys; the routes' own test is in the conformance suite."""
    with Weather(desk.server.port) as weather:
        groups = {name: desk.server.add() for name in ("outage", "storm")}
        lever = LeverSpec("edge", "loans", {"announcements": groups})
        says = Retrying(GenesysSubject(desk.server, weather).make(),
                        SystemRuntime()).announcement(lever)
        desk.server.bucket = limit = Bucket()
        for name in ("outage", "storm", None):
            says.say(name, key="k")
            assert says.said() == name
        assert limit.refused and not desk.server.broken
