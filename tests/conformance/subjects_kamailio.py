"""Kamailio's two ways, and its two wires, on a real edge with the shipped configuration."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Provider
from ccfailover.providers.kamailio import KamailioProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import HOSTILE, SECRETS, RouteSubject, dead_port
from tests.servers.kamailio import DatagramWeather, Kamailio
from tests.servers.weather import Weather

_WEATHER = {"after": "lose_reply", "lost": "hang"}
_numbers = itertools.count(1)


class KamailioSubject(RouteSubject):
    """Common to all: no compare-and-set, no step, no throttling of its own."""

    compare_and_set = False
    adjustable_step = False
    throttles = False
    counts: ClassVar[Mapping[str, float]] = {
        "answered.hq": 41.0, "answered.acme": 7.0, "lost": 0.0}
    looks: tuple[bytes, ...]
    """Calls of a shift before its write: weather that means the write lets them through."""
    table: Mapping[str, object]

    def __init__(self, edge: Kamailio) -> None:
        super().__init__()
        self.edge = edge
        self.begin()
        self.elsewhere({"hq": 100})
        for name, value in self.counts.items():
            edge.rpc("htable.seti", "cnt", f"{self.ref}:{name.removeprefix('answered.')}",
                     int(value))
        self.provider = self.make()

    weather: Any

    def break_writes(self, number: int, how: str) -> None:
        self.weather.strikes = lambda request: not any(word in request for word in self.looks)
        self.weather.next(*["fair"] * (number - 1))
        self.weather.lasting = how

    def mend(self) -> None:
        self.weather.clear()

    def begin(self) -> None:
        """What the subject has to have on the edge."""

    def at(self, port: int | None) -> Mapping[str, object]:
        """How the policy says where the edge is."""
        raise NotImplementedError

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        params = {**self.at(port), **self.table, "timeout": timeout, "counters": "cnt",
                  "profile": "route"}
        return KamailioProvider(ProviderSpec("edge", "kamailio", params),
                                resolve=SECRETS.__getitem__, runtime=SystemRuntime())


class Http:
    """Over HTTP, with weather before the edge."""

    hostile = HOSTILE
    looks: tuple[bytes, ...]

    def __init__(self, edge: Kamailio, weather: Weather) -> None:
        self.weather = weather
        weather.clear()
        super().__init__(edge)  # type: ignore[call-arg]

    def at(self, port: int | None) -> Mapping[str, object]:
        where = self.weather.port if port is None else dead_port()
        return {"url": f"http://127.0.0.1:{where}/RPC", "token": "env:TOKEN"}

    def meet(self, *what: str) -> None:
        # Hostile weather is for whatever comes first, but for the look that every shift takes.
        spared = self.looks if set(what) <= set(_WEATHER) else self.looks[:1]
        self.weather.strikes = lambda request: not any(word in request for word in spared)
        self.weather.next(*(_WEATHER.get(name, name) for name in what))

    def sent(self, method: bytes) -> int:
        return sum(method in request for request in self.weather.requests)


class Split(KamailioSubject):
    whole = "one value of the table holds all shares"
    table: ClassVar[Mapping[str, object]] = {
        "destinations": {"hq": 10, "acme": 20, "message": 30}}
    looks = (b"htable.get", b"core.uptime")
    sets: ClassVar = {"hq": 10, "acme": 20, "message": 30}

    def truth(self) -> dict[str, int]:
        value = self.edge.rpc("htable.get", "split", self.ref)["item"]["value"]
        parts = dict(part.split("=") for part in value.split(";"))
        return {name: int(parts[str(number)]) for name, number in self.sets.items()
                if int(parts.get(str(number), 0))}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        parts = [f"{self.sets[name]}={percent}" for name, percent in shares.items()]
        self.edge.rpc("htable.sets", "split", self.ref,
                      ";".join([*parts, f"v=console-{next(_numbers)}"]))


    def as_found(self) -> None:
        self.edge.rpc("htable.sets", "split", self.ref, "99=0;30=0;10=100")

    def raw(self) -> object:
        """Not the name of the write that made it: the next one has another."""
        value = self.edge.rpc("htable.get", "split", self.ref)["item"]["value"]
        return re.sub(";v=[^;]*", "", value)


class SplitSubject(Http, Split):
    def writes(self) -> int:
        return self.sent(b"htable.sets")


class DatagramSubject(Split):
    hostile = ("garbage", "hang", "cut_reply", "nameless", "huge")

    def __init__(self, edge: Kamailio, weather: DatagramWeather) -> None:
        self.weather = weather
        super().__init__(edge)

    def at(self, port: int | None) -> Mapping[str, object]:
        return {"socket": str(self.weather.path if port is None else Path("/nowhere/rpc.sock"))}

    def meet(self, *what: str) -> None:
        spared = self.looks if set(what) <= set(_WEATHER) else self.looks[:1]
        self.weather.strikes = lambda request: not any(word in request for word in spared)
        self.weather.next(*(_WEATHER.get(name, name) for name in what))

    def writes(self) -> int:
        return sum(b"htable.sets" in request for request in self.weather.requests)


class WeightsSubject(Http, KamailioSubject):
    whole = "the edge loads the list as a whole"
    prepares = True
    found: ClassVar = {"hq": 70, "acme": 30}
    looks = (b"dispatcher.list", b"core.uptime")
    uris: ClassVar = {"hq": "sip:127.0.0.11:5060", "acme": "sip:127.0.0.12:5060",
                      "message": "sip:127.0.0.13:5060;transport=udp"}

    def begin(self) -> None:
        self.number = 100 + next(_numbers)
        self.ref = str(self.number)
        self.lever = LeverSpec("edge", self.ref)
        self.table = {"way": "weights", "list": str(self.edge.list), "destinations": self.uris}

    def nonesuch(self) -> LeverSpec:
        return LeverSpec("edge", "99")

    def truth(self) -> dict[str, int]:
        found = self.edge.destinations(self.number)
        return {name: found[uri][1] for name, uri in self.uris.items() if found[uri][0][0] != "D"}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self.edge.load("# of the test", "10 sip:127.0.0.11:5060 0 0 site=hq", *(
            f"{self.number} {uri} {0 if shares.get(name) else 4} 0 "
            f"site={name};rweight={shares.get(name) or 1}" for name, uri in self.uris.items()))

    def as_found(self) -> None:
        hq, acme, message = self.uris.values()
        self.edge.load(
            "10 sip:127.0.0.11:5060 0 0 site=hq",
            f"{self.number}   {hq} 0 0 site=hq;rweight=7", "# between",
            f"{self.number}\t{acme} 0 5 rweight=3;site=acme",
            f"{self.number} {message}  4 0 rweight=44;site=message")

    def raw(self) -> object:
        now = {uri: (flags[0] == "D", weight)
               for uri, (flags, weight) in self.edge.destinations(self.number).items()}
        return self.edge.list.read_bytes(), now

    def writes(self) -> int:
        return self.sent(b"dispatcher.reload")


def subject(name: str, edge: Kamailio, weather: Any) -> KamailioSubject:
    kinds: dict[str, Any] = {"split": SplitSubject, "dgram": DatagramSubject,
                             "weights": WeightsSubject}
    made: KamailioSubject = kinds[name](edge, weather)
    return made
