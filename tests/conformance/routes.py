"""Every kind of route that the suite knows: how its platform is had, and a subject made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.conformance.subjects import HttpSubject, RouteSubject, SimulatedRoute
from tests.conformance.subjects_aws import SUBJECTS as AWS
from tests.conformance.subjects_command import CommandSubject
from tests.conformance.subjects_dns import AddressSubject, DnsSubject
from tests.conformance.subjects_genesys import GenesysSubject
from tests.conformance.subjects_haproxy import HaproxySubject, WideSubject
from tests.conformance.subjects_kamailio import subject as kamailio_subject
from tests.conformance.subjects_manual import ManualSubject
from tests.conformance.subjects_twilio import TwilioNumber, TwilioTrunk
from tests.servers.dnsweather import DnsWeather
from tests.servers.kamailio import DatagramWeather
from tests.servers.lineweather import LineWeather
from tests.servers.weather import Weather

Make = Callable[[pytest.FixtureRequest, str], AbstractContextManager[RouteSubject]]
"""Of the request, for fixtures, and the route's name."""


@contextmanager
def _simulated(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    yield SimulatedRoute()


@contextmanager
def _http(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    with Weather(request.getfixturevalue("switch_port")) as weather:
        yield HttpSubject(request.getfixturevalue("switch_port"), weather)


@contextmanager
def _kamailio(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    edge, way = request.getfixturevalue("kamailio"), name.partition(".")[2]
    with DatagramWeather(edge.socket) if way == "dgram" else Weather(edge.http_port) as sky:
        yield kamailio_subject(way, edge, sky)


@contextmanager
def _dns(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    primary = request.getfixturevalue("bind")
    with DnsWeather(primary.port) as wind:
        yield (AddressSubject if name.endswith(".a") else DnsSubject)(primary, wind)


@contextmanager
def _haproxy(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    proxy = request.getfixturevalue("haproxy")
    path = request.getfixturevalue("tmp_path") / "api" if name.endswith("unix") else None
    with LineWeather(proxy.api, path) as lines:
        kind = WideSubject if name.endswith(".wide") else HaproxySubject
        yield kind(proxy, lines, path)


@contextmanager
def _command(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    yield CommandSubject(request.getfixturevalue("tmp_path"))


@contextmanager
def _manual(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    yield ManualSubject(request.getfixturevalue("tmp_path"))


@contextmanager
def _twilio(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    service = request.getfixturevalue("twilio")
    with Weather(service.port) as weather:
        yield (TwilioTrunk if name.endswith(".trunk") else TwilioNumber)(service, weather)
        assert not service.broken


@contextmanager
def _genesys(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    cloud = request.getfixturevalue("genesys")
    with Weather(cloud.port) as weather:
        yield GenesysSubject(cloud, weather)
        assert not cloud.broken


@contextmanager
def _aws(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    service, kind = AWS[name]
    with service() as fake, Weather(fake.port) as weather:
        yield kind(fake, weather)
        assert not fake.broken


ROUTES: dict[str, Make] = {
    "http": _http, "simulated": _simulated,
    "kamailio.split": _kamailio, "kamailio.dgram": _kamailio, "kamailio.weights": _kamailio,
    "haproxy.unix": _haproxy, "haproxy.tcp": _haproxy, "haproxy.wide": _haproxy,
    "dns.srv": _dns, "dns.a": _dns,
    "command": _command, "manual": _manual,
    "twilio.trunk": _twilio, "twilio.number": _twilio, "genesys": _genesys,
    **dict.fromkeys(AWS, _aws),
}


@contextmanager
def subject_of(request: pytest.FixtureRequest, name: str) -> Iterator[RouteSubject]:
    with ROUTES[name](request, name) as found:
        yield found
        found.provider.close()
