"""A Twilio trunk, and a Twilio number, on a server that is as strict as the published API."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import ClassVar

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Provider
from ccfailover.providers.twilio import TwilioProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import SECRETS, dead_port, until
from tests.conformance.subjects_rest import RestSubject
from tests.servers.twilio import ACCOUNT, KEY, Number, OriginationUrl, Trunk, Twilio
from tests.servers.weather import Weather

TWILIO = {"env:TWILIO_KEY": KEY, "env:SECRET": SECRETS["env:SECRET"]}
_numbers = itertools.count(1)


def sid(prefix: str) -> str:
    return f"{prefix}{next(_numbers):032x}"


class TwilioSubject(RestSubject):
    server: Twilio
    compare_and_set = False
    versioned = False

    def __init__(self, server: Twilio, weather: Weather, ref: str,
                 destinations: Mapping[str, str]) -> None:
        super().__init__(weather)
        self.server, self.ref = server, ref
        self.lever = LeverSpec("edge", ref, {"destinations": dict(destinations)})
        server.writes.clear()
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        where = f"http://127.0.0.1:{self.weather.port if port is None else dead_port()}"
        params = {"account": ACCOUNT, "key": "env:TWILIO_KEY", "secret": "env:SECRET",
                  "trunking_url": where, "api_url": where, "timeout": timeout}
        return TwilioProvider(ProviderSpec("edge", "twilio", params),
                              resolve=TWILIO.__getitem__, runtime=SystemRuntime())

    def writes(self) -> int:
        return len(self.server.writes)


class TwilioTrunk(TwilioSubject):
    """Three URLs among others: one that is off, and a fall-back of Twilio's own."""

    pieces = 3
    breaks = ("half", "cut_reply", "down", "hang")
    found: ClassVar = {"hq": 70, "acme": 30}

    def __init__(self, server: Twilio, weather: Weather) -> None:
        self.names = {name: sid("OU") for name in self.sites}
        ref, off, back = sid("TK"), sid("OU"), sid("OU")
        self.others = {off: OriginationUrl(off, enabled=False),
                       back: OriginationUrl(back, priority=20)}
        server.trunks[ref] = self.trunk = Trunk(
            {**{each: OriginationUrl(each) for each in self.names.values()}, **self.others})
        super().__init__(server, weather, ref, self.names)

    def nonesuch(self) -> LeverSpec:
        return LeverSpec("edge", sid("TK"), self.lever.params)

    def truth(self) -> dict[str, int]:
        return {name: url.weight for name, each in self.names.items()
                for url in (self.trunk.urls[each],) if url.enabled}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        for name, each in self.names.items():
            url = self.trunk.urls[each]
            url.enabled = name in shares
            url.weight, url.priority = shares.get(name, 10), 10

    def as_found(self) -> None:
        for name, (on, priority, weight) in {"hq": (True, 5, 7), "acme": (True, 5, 3),
                                             "message": (False, 30, 9)}.items():
            url = self.trunk.urls[self.names[name]]
            url.enabled, url.priority, url.weight = on, priority, weight

    def raw(self) -> object:
        return {each: asdict(url) for each, url in self.trunk.urls.items()}

    def wait_for(self, shares: Mapping[str, int]) -> None:
        """The reply to the first of several writes was lost: the others were not made."""
        until(lambda: self.writes() == 1)
        assert self.truth() != dict(shares)


class TwilioNumber(TwilioSubject):
    step = 100
    whole = "a number has one voice URL"
    walk = ({"acme": 100}, {"message": 100}, {"acme": 100})
    moved = Shares({"acme": 100})
    foreign: ClassVar = {"message": 100}
    unexpressed = (({"mars": 100}, "does not name"),
                   ({"hq": 50, "acme": 50}, "multiple of the step 100"))

    def __init__(self, server: Twilio, weather: Weather) -> None:
        ref = sid("PN")
        self.names = {name: f"https://{name}.example/voice?trunk=1" for name in self.sites}
        server.numbers[ref] = self.number = Number(ref)
        super().__init__(server, weather, ref, self.names)

    def nonesuch(self) -> LeverSpec:
        return LeverSpec("edge", sid("PN"), self.lever.params)

    def truth(self) -> dict[str, int]:
        return {name: 100 for name, url in self.names.items() if url == self.number.voice_url}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        (name,) = shares
        self.number.voice_url = self.names[name]

    def raw(self) -> object:
        return asdict(self.number)
