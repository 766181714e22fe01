"""A real BIND behind bad weather: sets of SRV records, and of addresses."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Provider
from ccfailover.providers.dns import DnsProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import SECRETS, RouteSubject, dead_port
from tests.servers.bind import SECRET, ZONE, Bind
from tests.servers.dnsweather import DnsWeather

SECRETS["env:TSIG"] = SECRET
_WEATHER = {"after": "lose_reply", "lost": "hang"}
_numbers = itertools.count(1)


class DnsSubject(RouteSubject):
    hostile = ("garbage", "huge", "endless", "hang", "cut_reply", "unsigned", "forged", "servfail")
    throttles = False
    whole = "one update holds all records, and a server does or leaves it (RFC 2136, 3.7)"
    found: ClassVar = {"hq": 70, "acme": 30}
    adjustable_step = False
    counts: ClassVar = {}
    kind, owner = "SRV", "_sip._udp.n"
    places: ClassVar[Mapping[str, str]] = {
        "hq": "hq.cc.test:5060", "acme": "acme.cc.test:5062", "message": "sorry.cc.test:5060"}
    more: ClassVar[Mapping[str, object]] = {}

    def __init__(self, server: Bind, weather: DnsWeather) -> None:
        super().__init__()
        self.ref = f"{self.owner}{next(_numbers)}"
        self.lever = LeverSpec("names", self.ref)
        self._server, self._weather = server, weather
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        params: dict[str, Any] = {
            "server": "127.0.0.1", "port": self._weather.port if port is None else dead_port(),
            "zone": ZONE, "key": {"name": "ccf", "secret": "env:TSIG"}, "timeout": timeout,
            "type": self.kind, "ttl": 7, "destinations": self.places, **self.more}
        return DnsProvider(ProviderSpec("names", "dns", params),
                           resolve=SECRETS.__getitem__, runtime=SystemRuntime())

    def truth(self) -> dict[str, int]:
        found = self.takes()
        assert sum(found.values()) == 100, "one record a site: weights are percent"
        return found

    def takes(self) -> dict[str, int]:
        sites = {f"{port} {host}.": site for site, place in self.places.items()
                 for host, _, port in [place.partition(":")]}
        found = {}
        records = [each.split(" ", 2) for each in self._server.records(self.ref, "SRV")[1]]
        first = min(int(priority) for priority, _, _ in records)
        for priority, weight, place in records:
            if int(priority) == first:
                found[sites[place]] = int(weight)
        return found

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        records = []
        for site, percent in shares.items():
            host, _, port = self.places[site].partition(":")
            records.append(f"10 {percent} {port} {host}.")
        self._server.put(self.ref, "SRV", records)

    def as_found(self) -> None:
        """Two records to fall back on, one of which no destination names."""
        self._server.put(self.ref, "SRV", [
            "10 7 5060 hq.cc.test.", "10 3 5062 acme.cc.test.", "20 0 5062 acme.cc.test.",
            "30 5 5060 other.cc.test."], ttl=77)

    def raw(self) -> object:
        return self._server.records(self.ref, self.kind)

    def break_writes(self, number: int, how: str) -> None:
        self._weather.next_write(*["lose_reply"] * (number - 1))
        self._weather.lasting_writes = how

    def mend(self) -> None:
        self._weather.clear()

    def meet(self, *what: str) -> None:
        for name in what:
            if name in _WEATHER:
                self._weather.next_write(_WEATHER[name])
            else:
                self._weather.next(name)

    def meet_write(self, *what: str) -> None:
        self.elsewhere({"hq": 100})  # what is so already is not written
        self._weather.next_write(*what)

    def writes(self) -> int:
        return self._weather.updates


class AddressSubject(DnsSubject):
    kind, owner = "A", "www"
    found: ClassVar = {"hq": 100}
    step = 50
    walk = ({"hq": 50, "acme": 50}, {"acme": 50, "message": 50},
            {"acme": 34, "hq": 33, "message": 33}, {"acme": 100})
    moved = Shares({"acme": 50, "message": 50})
    foreign: ClassVar = {"hq": 50, "acme": 50}
    unexpressed = (({"mars": 100}, "does not name"),
                   ({"hq": 70, "acme": 30}, "hq 50 %"),
                   ({"hq": 33, "acme": 33, "message": 34}, "share alike"))
    versioned = False
    places: ClassVar = {"hq": "192.0.2.1", "acme": "192.0.2.2", "message": "192.0.2.3"}
    more: ClassVar = {"compare": "records"}

    def takes(self) -> dict[str, int]:
        found = self._server.records(self.ref, "A")[1]
        sites = sorted(site for site, place in self.places.items() if place in found)
        parts = {1: [100], 2: [50, 50], 3: [34, 33, 33]}[len(found)]
        return dict(zip(sites, parts, strict=True))

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self._server.put(self.ref, "A", [self.places[site] for site in shares])

    def as_found(self) -> None:
        self._server.put(self.ref, "A", [self.places["hq"]], ttl=77)
