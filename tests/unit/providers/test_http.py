"""What the `http` kind does beyond the conformance suite: forms of replies, auth, templates."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers.http import HttpProvider
from ccfailover.runtime import SystemRuntime
from tests.servers import start
from tests.servers.weather import Weather

TOKEN = "tok-5ecret"
READ = {"path": "/routes/{ref}", "shares": "/shares"}
LEVER = LeverSpec("edge", "r")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with start.switch(TOKEN) as port:
        yield port


@pytest.fixture
def weather(port: int) -> Iterator[Weather]:
    with Weather(port) as weather:
        put(port, {"T1": 100})
        yield weather


def put(port: int, shares: object) -> None:
    """Somebody at the switch's console sets anything at all."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/truth/r",
                                     json.dumps({"shares": shares}).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def truth(port: int) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/truth", timeout=10) as reply:
        return json.load(reply)


def provider(weather: Weather, **params: Any) -> HttpProvider:
    merged = {"url": f"http://127.0.0.1:{weather.port}", "auth": {"bearer": "env:TOKEN"},
              "destinations": {"hq": "T1", "acme": "T2"}, "route": {"read": READ}, **params}
    jsonschema.validate(merged, HttpProvider.PARAMS)
    secrets = {"env:TOKEN": TOKEN + "\n", "env:OTHER": "0ther-5ecret", "env:BAD": "a\r\nEvil: 1",
               "env:URL": f"http://us:pa55word@127.0.0.1:{weather.port}/s3cret"}
    return HttpProvider(ProviderSpec("edge", "http", merged), runtime=SystemRuntime(),
                        resolve=secrets.__getitem__)


def shifting(**shift: Any) -> dict[str, Any]:
    return {"read": READ, "shift": {"path": "/routes/{ref}", **shift}}


@pytest.mark.parametrize("shares, why", [
    ({"T1": 101}, "whole percentage"), ({"T1": 60, "T2": 60}, "sum to 120"), ({}, "sum to 0"),
    ({"T1": 50.5, "T2": 49.5}, "whole percentage"), ({"T1": True}, "whole percentage"),
    ({"T1": None}, "whole percentage"), ({"T1": 90, "T9": 10}, "10 % goes to 'T9'"),
    ({"T1": -5, "T2": 105}, "whole percentage"), ([], "no object of shares"),
    ({"T1": "1e2"}, "whole percentage"),
])
def test_shares_that_make_no_sense_are_rejected(
        port: int, weather: Weather, shares: Any, why: str) -> None:
    """A read never turns nonsense into shares."""
    if isinstance(shares, list):
        with pytest.raises(Rejected, match=why):
            provider(weather, route={"read": {**READ, "shares": "/targets"}}).route(LEVER).read()
        return
    put_raw(port, shares)
    with pytest.raises(Rejected, match=why):
        provider(weather).route(LEVER).read()


def put_raw(port: int, shares: dict[str, Any]) -> None:
    put(port, shares)
    assert truth(port)["routes"]["r"] == shares


@pytest.mark.parametrize("shares", [
    {"T1": 30.0, "T2": 70}, {"T1": "30", "T2": "70"}, {"T1": 30, "T2": 70, "T9": 0},
])
def test_harmless_forms_are_understood(port: int, weather: Weather, shares: Any) -> None:
    """50, 50.0 and "50" are one percentage; an unknown destination with nothing is no matter."""
    put_raw(port, shares)
    assert provider(weather).route(LEVER).read().shares == Shares({"hq": 30, "acme": 70})


def test_shares_as_a_list(port: int, weather: Weather) -> None:
    """Shares may come as a list of objects, the version by a pointer."""
    put(port, {"T1": 25, "T2": 75})
    read = {**READ, "shares": {"list": "/targets", "name": "to", "percent": "pct"},
            "version": "/version"}
    state = provider(weather, route={"read": read}).route(LEVER).read()
    assert state.shares == Shares({"hq": 25, "acme": 75})
    assert state.version is not None and state.version.isdigit()
    wrong = {**read, "shares": {"list": "/targets", "name": "to", "percent": "percent"}}
    with pytest.raises(Rejected, match="lacks to or percent"):
        provider(weather, route={"read": wrong}).route(LEVER).read()


def test_compare_and_set_by_a_version_in_the_body(port: int, weather: Weather) -> None:
    """if_match works with a version that the reply holds in its body, too."""
    route = provider(weather, route={
        "read": {**READ, "version": "/version"},
        "shift": {"path": "/routes/{ref}", "if_match": True,
                  "body": '{"shares": {{ shares | tojson }}}'}}).route(LEVER)
    before = route.read()
    put(port, {"T1": 50, "T2": 50})
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(Shares({"acme": 100}), expected=before, key="k")
    route.shift(Shares({"acme": 100}), expected=route.read(), key="k")
    assert route.read().shares == Shares({"acme": 100})


def test_without_compare_and_set_a_read_just_before_decides(port: int, weather: Weather) -> None:
    """A switch without versions: what changed since is still noticed, before anything is sent."""
    able = provider(weather).capabilities({"route": shifting()})
    assert not able.compare_and_set
    route = provider(weather, route=shifting(
        body='{"shares": {{ shares | tojson }}}')).route(LEVER)
    before = route.read()
    put(port, {"T1": 50, "T2": 50})
    sent = len(truth(port)["writes"])
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(Shares({"acme": 100}), expected=before, key="k")
    assert len(truth(port)["writes"]) == sent


def test_every_destination_is_named_in_a_shift(port: int, weather: Weather) -> None:
    """A switch that merges what it is sent must hear of the zeros; headers carry the key."""
    route = provider(weather, route=shifting(
        body='{"shares": {{ shares | tojson }}}', headers={"Idempotency-Key": "{ref}/{key}"},
    )).route(LEVER)
    route.shift(Shares({"acme": 100}), expected=None, key="r1/s2")
    assert truth(port)["writes"][-1] == {
        "ref": "r", "shares": {"T1": 0, "T2": 100}, "key": "r/r1/s2"}


@pytest.mark.parametrize("body", [
    "{{ nonesuch }}", "{{ shares", "{{ ''.__class__.__mro__ }}", "{{ 1 / 0 }}",
    "not json", '{"a": {{ shares }}}', "{{ 'x' * 2000000 }}", "{{ shares.update({}) }}",
])
def test_a_template_that_fails_sends_nothing(port: int, weather: Weather, body: str) -> None:
    """Unknown names, escapes from the sandbox, and bodies that are no JSON stop before sending."""
    route = provider(weather, route=shifting(body=body)).route(LEVER)
    with pytest.raises(Rejected, match="template") as caught:
        route.shift(Shares({"acme": 100}), expected=None, key="k")
    assert caught.value.not_done == "the shares were not changed"
    assert not weather.requests


@pytest.mark.parametrize("auth, line", [
    ({"bearer": "env:TOKEN"}, b"Authorization: Bearer tok-5ecret\r\n"),
    ({"basic": {"user": "ops", "password": "env:TOKEN"}},
     b"Authorization: Basic b3BzOnRvay01ZWNyZXQ=\r\n"),
    ({"header": {"name": "X-Api-Key", "value": "env:OTHER"}}, b"X-Api-Key: 0ther-5ecret\r\n"),
])
def test_credentials_are_sent_as_the_policy_says(
        weather: Weather, auth: dict[str, Any], line: bytes) -> None:
    """Bearer, basic and a header of one's own; a secret's trailing newline is not sent."""
    try:
        provider(weather, auth=auth).route(LEVER).read()
    except Rejected as error:
        assert "401" in str(error)
    assert line in weather.requests[-1]


def test_a_secret_with_a_line_break_inside_is_not_sent(weather: Weather) -> None:
    """It would forge a header; the error names the header and not the secret."""
    with pytest.raises(Rejected, match="Authorization has a control character") as caught:
        provider(weather, auth={"bearer": "env:BAD"}).route(LEVER).read()
    assert "Evil" not in str(caught.value)
    assert not weather.requests


def test_a_url_by_reference_shows_neither_login_nor_path(weather: Weather) -> None:
    """A base URL that is a secret is used whole and shown as its host only."""
    edge = provider(weather, url="env:URL", auth={"header": {"name": "X", "value": "env:OTHER"}})
    with pytest.raises(Rejected) as caught:
        edge.route(LEVER).read()
    assert weather.requests[-1].startswith(b"GET /s3cret/routes/r ")
    assert b"Authorization: Basic dXM6cGE1NXdvcmQ=" in weather.requests[-1]
    shown = repr(caught.value.to_json())
    assert "pa55word" not in shown and "s3cret" not in shown and "127.0.0.1" in shown


def test_a_query_never_shows(weather: Weather) -> None:
    """Queries may hold tokens: errors show the path only."""
    edge = provider(weather, route={"read": {**READ, "path": "/none/{ref}?key=s3cret"}})
    with pytest.raises(Rejected) as caught:
        edge.route(LEVER).read()
    assert "s3cret" not in repr(caught.value.to_json())
    assert b"?key=s3cret" in weather.requests[-1]


def test_a_ref_cannot_leave_its_place_in_the_path(weather: Weather) -> None:
    """{ref} is quoted: slashes and question marks in it make no other path."""
    with pytest.raises(Rejected):
        provider(weather).route(LeverSpec("edge", "../gates/r?x=1")).read()
    assert weather.requests[-1].startswith(b"GET /routes/..%2Fgates%2Fr%3Fx%3D1 ")


def test_a_flood_is_cut_off_and_said_to_be_one(port: int, weather: Weather) -> None:
    """Past 1 MiB a reply is no longer read; a write goes by its status, the caller reads back."""
    route = provider(weather, route=shifting(body='{"shares": {{ shares | tojson }}}'))
    weather.next("huge")
    with pytest.raises(Rejected, match="larger than 1 MiB"):
        route.route(LEVER).read()
    weather.next("huge")
    route.route(LEVER).shift(Shares({"acme": 100}), expected=None, key="k")
    assert route.route(LEVER).read().shares == Shares({"hq": 100})


def test_redirects_are_not_followed(weather: Weather) -> None:
    """A redirect would carry the credentials elsewhere."""
    weather.next("redirect")
    with pytest.raises(Rejected, match="redirects are not followed"):
        provider(weather).route(LEVER).read()
    assert len(weather.requests) == 1


def test_a_server_error_after_the_fact_is_in_doubt(port: int, weather: Weather) -> None:
    """500 says nothing about whether it was done; 503 with Retry-After says when to ask."""
    route = provider(weather, route=shifting(body='{"shares": {{ shares | tojson }}}'))
    weather.next("error", "down")
    with pytest.raises(Unavailable) as caught:
        route.route(LEVER).shift(Shares({"acme": 100}), expected=None, key="k")
    assert caught.value.in_doubt and caught.value.hint
    assert truth(port)["routes"]["r"] == {"T1": 0, "T2": 100}
    with pytest.raises(Unavailable) as caught:
        route.route(LEVER).read()
    assert caught.value.retry_after == 3.0 and not caught.value.in_doubt


def test_a_rotated_secret_is_picked_up_after_a_401(weather: Weather) -> None:
    """The secret is kept between calls, and asked for anew once it was refused."""
    tokens = iter(["old", TOKEN])
    asked: list[str] = []

    def resolve(reference: str) -> str:
        asked.append(reference)
        return next(tokens)

    params = {"url": f"http://127.0.0.1:{weather.port}", "auth": {"bearer": "env:T"},
              "destinations": {"hq": "T1"}, "route": {"read": READ}}
    route = HttpProvider(ProviderSpec("edge", "http", params), resolve=resolve,
                         runtime=SystemRuntime()).route(LEVER)
    with pytest.raises(Rejected, match="401"):
        route.read()
    route.read()
    route.read()
    assert asked == ["env:T", "env:T"]


def test_a_lever_may_differ_from_its_provider(weather: Weather) -> None:
    """The lever's keys lie over the provider's, for capabilities and for calls."""
    lever = LeverSpec("edge", "r", {"destinations": {"main": "T1"}, "route": {"step": 25}})
    jsonschema.validate({"ref": "r", **lever.params}, HttpProvider.LEVER)
    edge = provider(weather, route=shifting())
    able = edge.capabilities(edge.spec.params, lever.params)
    assert (able.share_step, able.destinations, able.treatments) == (25, {"main"}, False)
    assert edge.route(lever).read().shares == Shares({"main": 100})


def test_a_policy_that_names_one_platform_place_twice_is_refused(weather: Weather) -> None:
    """Two sites behind one name could not be told apart in what the switch reports."""
    edge = provider(weather, destinations={"hq": "T1", "acme": "T1"})
    with pytest.raises(UsageError, match="same name"):
        edge.route(LEVER)


def test_a_route_that_is_only_read_refuses_to_shift(weather: Weather) -> None:
    """No `shift` in the policy: reading works, shifting is Rejected, and known beforehand."""
    edge = provider(weather)
    assert not edge.capabilities(edge.spec.params).routes
    with pytest.raises(Rejected, match="no shift"):
        edge.route(LEVER).shift(Shares({"hq": 100}), expected=None, key="k")
    with pytest.raises(UsageError, match="no gate"):
        edge.gate(LEVER)


def test_gates_open_and_close(port: int, weather: Weather) -> None:
    """A gate is set absolutely and read back, by a boolean or by the value that means open."""
    gate = {"read": {"path": "/gates/{ref}", "open": "/open"},
            "set": {"path": "/gates/{ref}", "body": '{"open": {{ open | tojson }}}'}}
    by_state = {**gate, "read": {"path": "/gates/{ref}", "open": "/state", "equals": "running"}}
    edge, other = provider(weather, gate=gate), provider(weather, gate=by_state)
    assert edge.capabilities(edge.spec.params).gates
    for is_open in (False, False, True):
        edge.gate(LEVER).set_open(is_open, key="k")
        assert truth(port)["gates"]["r"] is is_open
        assert edge.gate_view(LEVER).is_open() is is_open
        assert other.gate_view(LEVER).is_open() is is_open


def test_a_gate_that_says_neither_is_rejected(weather: Weather) -> None:
    """null, a text or a missing field is neither open nor closed."""
    for pointer in ("/state", "/none"):
        gate = {"read": {"path": "/gates/{ref}", "open": pointer}, "set": {"path": "/gates/r"}}
        edge = provider(weather, gate=gate)
        edge.gate(LEVER).set_open(True, key="k")
        with pytest.raises(Rejected, match="neither true nor false"):
            edge.gate(LEVER).is_open()


@pytest.mark.parametrize("params", [
    {"url": "ftp://x"}, {"auth": {"bearer": "plain-text-secret"}},
    {"auth": {"bearer": "env:A", "basic": {"user": "u", "password": "env:P"}}},
    {"route": {"read": {"path": "no-slash", "shares": ""}}},
    {"route": {"read": {"path": "/x"}}}, {"route": {"step": 0}}, {"tls": {"check": False}},
    {"destinations": {}}, {"destinations": {"HQ": "x"}},
    {"route": {"shift": {"path": "/x", "method": "DELETE"}}},
])
def test_the_schema_refuses(params: dict[str, Any]) -> None:
    """Plain-text secrets, two kinds of auth at once, and typos do not pass."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"url": "http://x", **params}, HttpProvider.PARAMS)
