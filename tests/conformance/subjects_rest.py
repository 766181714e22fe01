"""Subjects behind a REST interface that is read before it is written: the weather meets the one
or the other, as the test asks."""

from __future__ import annotations

from typing import Any, ClassVar

from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from tests.conformance.subjects import _WEATHER, HOSTILE, RouteSubject
from tests.servers.bucket import Bucket
from tests.servers.rest import RestServer
from tests.servers.weather import Weather


class RestSubject(RouteSubject):
    server: RestServer
    hostile = HOSTILE
    adjustable_step = False
    counts: ClassVar = {}

    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self.weather = weather
        self.looking = False
        weather.clear()
        weather.strikes = self.strikes

    def strikes(self, request: bytes) -> bool:
        """A read where one reads, and where one writes the write, not the read before it."""
        line = request.partition(b"\r\n")[0]
        return b"/oauth/" not in line and (self.looking or not line.startswith(b"GET "))

    def route(self, **how: Any) -> Route:
        return Steered(super().route(**how), self)

    def throttle(self, on: bool) -> Bucket | None:
        self.server.throttle(on)
        return self.server.bucket

    def break_writes(self, number: int, how: str) -> None:
        self.weather.next(*["fair"] * (number - 1))
        self.weather.lasting = how

    def mend(self) -> None:
        self.weather.clear()

    def meet(self, *what: str) -> None:
        self.weather.next(*(_WEATHER.get(name, name) for name in what))


class Steered(Route):
    """Says to the weather whether one looks or acts."""

    def __init__(self, route: Route, subject: RestSubject) -> None:
        self.inner, self._subject = route, subject

    def read(self) -> RouteState:
        self._subject.looking = True
        try:
            return self.inner.read()
        finally:
            self._subject.looking = False

    def measure(self) -> Any:
        return self.inner.measure()

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self.inner.shift(to, expected=expected, key=key)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        self.inner.restore(before, expected=expected, key=key)
