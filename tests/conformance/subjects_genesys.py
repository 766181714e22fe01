"""An emergency group of Genesys Cloud, on a server that is as strict as the published models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Provider
from ccfailover.providers.genesys import GenesysProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import SECRETS, dead_port
from tests.conformance.subjects_rest import RestSubject
from tests.servers.genesys import CLIENT, Genesys
from tests.servers.weather import Weather

GENESYS = {"env:CLIENT": CLIENT, "env:SECRET": SECRETS["env:SECRET"]}


class GenesysSubject(RestSubject):
    server: Genesys
    sites = ("hq", "acme")
    step = 100
    whole = "one request replaces the whole group"
    walk = ({"acme": 100}, {"hq": 100}, {"acme": 100})
    moved = Shares({"acme": 100})
    foreign: ClassVar = {"hq": 100}
    """Saved by somebody else, with the same shares: another version."""
    unexpressed = (({"mars": 100}, "does not name"),
                   ({"hq": 50, "acme": 50}, "multiple of the step 100"))
    destinations: ClassVar = {"hq": "normal", "acme": "emergency"}

    def __init__(self, server: Genesys, weather: Weather) -> None:
        super().__init__(weather)
        self.server, self.ref = server, server.add()
        self.lever = LeverSpec("edge", self.ref, {"destinations": self.destinations})
        server.writes.clear()
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        where = f"http://127.0.0.1:{self.weather.port if port is None else dead_port()}"
        params = {"client": "env:CLIENT", "secret": "env:SECRET", "api_url": where,
                  "login_url": where, "timeout": timeout}
        return GenesysProvider(ProviderSpec("edge", "genesys", params),
                               resolve=GENESYS.__getitem__, runtime=SystemRuntime())

    def nonesuch(self) -> LeverSpec:
        return LeverSpec("edge", "0f0e0d0c-0000-4000-8000-000000000009", self.lever.params)

    def truth(self) -> dict[str, int]:
        return {"acme" if self.server.groups[self.ref]["enabled"] else "hq": 100}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self.server.set(self.ref, "acme" in shares)

    def raw(self) -> object:
        """Not what Genesys Cloud itself counts and notes of each write."""
        return {name: value for name, value in self.server.groups[self.ref].items()
                if name not in ("version", "dateModified", "modifiedBy", "modifiedByApp")}

    def writes(self) -> int:
        return len(self.server.writes)
