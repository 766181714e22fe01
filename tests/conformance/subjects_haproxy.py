"""A real HAProxy behind bad weather, by its socket in the file system and by TCP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Provider
from ccfailover.providers.haproxy import HaproxyProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import SECRETS, RouteSubject, dead_port
from tests.servers.haproxy import Haproxy
from tests.servers.lineweather import LineWeather

_WEATHER = {"after": ("fair", "lose_reply"), "lost": ("hang",)}
"""Receivers are set in a line of their own: the last one's reply is lost."""


class HaproxySubject(RouteSubject):
    hostile = ("garbage", "huge", "endless", "hang", "cut_reply")
    compare_and_set = False
    versioned = False
    throttles = False
    pieces = 2
    breaks = ("half", "cut_reply", "hang")
    found: ClassVar = {"hq": 70, "acme": 30}
    counts: ClassVar = {
        "offered": 0.0, "lost": 0.0, "waiting": 0.0,
        **{f"{what}.{site}": 0.0 for what in ("answered", "failed")
           for site in ("hq", "acme", "message")}}
    names: ClassVar[Mapping[str, Any]] = {"hq": "hq1", "acme": "acme1", "message": "sorry"}
    backend = "sites"
    more: ClassVar[Mapping[str, object]] = {}

    def __init__(self, server: Haproxy, weather: LineWeather, path: Path | None) -> None:
        super().__init__()
        self.ref = self.backend
        self.lever = LeverSpec("edge", self.ref)
        self._server, self._weather, self._path = server, weather, path
        server.ask("clear counters all")
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        address = str(self._path) if self._path else f"127.0.0.1:{self._weather.port}"
        if port is not None:
            address = f"{self._path}.gone" if self._path else f"127.0.0.1:{dead_port()}"
        return HaproxyProvider(
            ProviderSpec("edge", "haproxy", {
                "address": address, "timeout": timeout, "destinations": self.names,
                "step": step, **self.more}),
            resolve=SECRETS.__getitem__, runtime=SystemRuntime())

    def truth(self) -> dict[str, int]:
        weights = self._server.weights(self.ref)
        found = {site: weights[name] for site, name in self.names.items() if weights[name]}
        assert sum(found.values()) == 100, "one server a site: weights are percent"
        return found

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self._server.ask("; ".join(f"set weight {self.ref}/{name} {shares.get(site, 0)}"
                                   for site, name in self.names.items()))

    def takes(self) -> dict[str, int]:
        weights = self._server.weights(self.ref)
        return {site: weights[name] for site, name in self.names.items() if weights[name]}

    def as_found(self) -> None:
        self._server.ask("; ".join(f"set weight {self.ref}/{name} {weight}" for name, weight in
                                   zip(self.names.values(), (7, 3, 0), strict=True)))

    def raw(self) -> object:
        lines = self._server.ask(f"show servers state {self.ref}").split("\n")
        names = lines[1][2:].split(" ")
        rows = [dict(zip(names, line.split(" "), strict=False)) for line in lines[2:] if line]
        return {row["srv_name"]: (row["srv_uweight"], row["srv_admin_state"]) for row in rows}

    def break_writes(self, number: int, how: str) -> None:
        self._weather.next_write(*["fair"] * (number - 1))
        self._weather.lasting_writes = how

    def mend(self) -> None:
        self._weather.clear()

    def meet(self, *what: str) -> None:
        for name in what:
            if name in _WEATHER:
                self._weather.next_write(*_WEATHER[name])
            else:
                self._weather.next(name)

    def meet_write(self, *what: str) -> None:
        self._weather.next_write(*what)

    def writes(self) -> int:
        return len(self._weather.writes)


class WideSubject(HaproxySubject):
    """Sites of several servers, which are drained; some of them by somebody else's hand."""

    names: ClassVar[Mapping[str, Any]] = {
        "hq": ["hq1", "hq2"], "acme": ["acme1", "acme2", "acme3"], "message": ["other"]}
    backend = "wide"
    more: ClassVar[Mapping[str, object]] = {"zero": "drain"}

    def takes(self) -> dict[str, int]:
        weights = self._server.weights(self.ref)
        found = {site: sum(weights[name] for name in names) for site, names in self.names.items()}
        return {site: weight for site, weight in found.items() if weight}

    def truth(self) -> dict[str, int]:
        found = self.takes()
        whole = sum(found.values())
        assert not [site for site, weight in found.items() if 100 * weight % whole]
        return {site: 100 * weight // whole for site, weight in found.items()}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self._put({name: (3 * shares.get(site, 0) // len(names), "ready" if site in shares
                          else "drain")
                   for site, names in self.names.items() for name in names})

    def as_found(self) -> None:
        self._put({"hq1": (7, "ready"), "hq2": (9, "maint"), "acme1": (3, "ready"),
                   "acme2": (0, "ready"), "acme3": (4, "drain"), "other": (5, "drain")})

    def _put(self, servers: Mapping[str, tuple[int, str]]) -> None:
        self._server.ask("; ".join(
            f"set server {self.ref}/{name} state {each}; set weight {self.ref}/{name} {weight}"
            for name, (weight, state) in servers.items()
            for each in dict.fromkeys(("ready", state))))
