"""Relative weights on a real Kamailio: what a reload does to the health of every set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ccfailover.errors import Rejected
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route
from ccfailover.providers.kamailio import KamailioProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import until
from tests.servers.kamailio import Kamailio
from tests.servers.sip import Caller, Site

NAMES = ("hq", "acme", "message")


@pytest.fixture
def sites() -> Iterator[dict[str, Site]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Site(f"127.0.0.{11 + place}"))
               for place, name in enumerate(NAMES)}


def weighed(edge: Kamailio, sites: dict[str, Site], *more: str) -> Route:
    """Set 7 with all sites, hq alone having weight; calls go by it."""
    edge.load(*(f"7 {site.uri} {0 if name == 'hq' else 4} 0 site={name};rweight=100"
                for name, site in sites.items()), *more)
    edge.rpc("htable.sets", "split", "loan_calls", "7=100;v=start")
    edge.rpc("htable.flush", "cnt")
    params = {"socket": str(edge.socket), "way": "weights", "list": str(edge.list),
              "destinations": {name: site.uri for name, site in sites.items()},
              "counters": "cnt", "profile": "route"}
    return KamailioProvider(ProviderSpec("edge", "kamailio", params), resolve=str,
                            runtime=SystemRuntime()).route(
        LeverSpec("edge", "7", {"counted": "loan_calls"}))


def state(edge: Kamailio, number: int, site: Site) -> str:
    return edge.destinations(number)[site.uri][0]


def test_each_hundred_calls_goes_exactly_by_the_weights(
        kamailio_by_weight: Kamailio, sites: dict[str, Site]) -> None:
    """Unlike shares that are drawn: 70, 29 and 1 are 70, 29 and 1."""
    route = weighed(kamailio_by_weight, sites)
    route.shift(Shares({"hq": 70, "acme": 29, "message": 1}), expected=route.read(), key="k")
    with Caller(kamailio_by_weight.sip_port) as caller:
        assert caller.call(100) == [200] * 100
        assert {name: len(site.calls) for name, site in sites.items()} == {
            "hq": 70, "acme": 29, "message": 1}
        until(lambda: route.measure() == {
            "answered.hq": 70.0, "answered.acme": 29.0, "answered.message": 1.0})
        assert route.live() == {"hq": 70, "acme": 29, "message": 1}
        assert caller.hang_up() == 100


def test_a_shift_forgets_nobody_who_is_down_or_drained(
        kamailio_by_weight: Kamailio, sites: dict[str, Site]) -> None:
    """A plain reload sends calls to a dead site again. After a shift it is as dead as before, in
    every set; who was drained by hand elsewhere still is; and the list has none of it."""
    edge, dead = kamailio_by_weight, "sip:127.0.0.99:9"
    route = weighed(edge, sites, f"8 {dead} 0 0 site=old", f"8 {sites['acme'].uri} 0 0 site=acme",
                    f"8 {sites['message'].uri} 0 0 site=message")
    edge.rpc("dispatcher.set_state", "dp", 8, sites["message"].uri)
    sites["hq"].close()
    until(lambda: state(edge, 7, sites["hq"]) == "IP" and edge.destinations(8)[dead][0] == "IP"
          and state(edge, 8, sites["acme"]) == "AP")
    route.shift(Shares({"hq": 50, "acme": 50}), expected=route.read(), key="k")
    assert state(edge, 7, sites["hq"]) == "IP"
    assert edge.destinations(8)[dead][0] == "IP"
    assert state(edge, 8, sites["message"])[0] == "D"
    assert state(edge, 8, sites["acme"]) == "AP"
    with Caller(edge.sip_port) as caller:
        assert caller.call(10) == [200] * 10
    assert len(sites["acme"].calls) == 10
    assert "rerouted" not in route.measure()
    flags = [line.split()[2] for line in edge.list.read_text().splitlines()]
    assert flags == ["0", "0", "4", "0", "0", "0"]


def test_somebody_elses_reload_is_refused(
        kamailio_by_weight: Kamailio, sites: dict[str, Site]) -> None:
    """Weights that were changed since they were read are not overwritten; nor does a shift load
    what somebody is writing into the file."""
    edge = kamailio_by_weight
    route = weighed(edge, sites)
    before, content = route.read(), edge.list.read_text()
    edge.load(*content.replace("7 " + sites["acme"].uri + " 4", "7 " + sites["acme"].uri + " 0")
              .splitlines())
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(Shares({"message": 100}), expected=before, key="k")
    assert route.read().shares == Shares({"hq": 50, "acme": 50})
    with edge.list.open("a") as file:
        file.write("9 sip:127.0.0.50:5060 0 0 site=new\n")
    with pytest.raises(Rejected, match="other destinations"):
        route.shift(Shares({"message": 100}), expected=route.read(), key="k")
    assert edge.destinations(9) == {}
