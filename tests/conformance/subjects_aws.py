"""Amazon's routes: Route 53's records, Connect's groups and flows, ARC's controls. No real service
can be had; each fake is held to the published model, and refuses what the service refuses."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Provider
from ccfailover.providers.aws.arc import ArcProvider
from ccfailover.providers.aws.connect import ConnectProvider
from ccfailover.providers.aws.route53 import Route53Provider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import HOSTILE, SECRETS, RouteSubject, dead_port
from tests.servers.awsarc import PANEL, Cluster, control
from tests.servers.awsconnect import INSTANCE, REGIONS, Connect, uuid
from tests.servers.awsfake import Service
from tests.servers.awsroute53 import Route53
from tests.servers.bucket import Bucket
from tests.servers.weather import Weather

_numbers = itertools.count(1)
_WEATHER = {"after": "lose_reply", "lost": "hang", "throttled": "busy"}
_KEYS = {"key_id": "env:KEY_ID", "secret": "env:SECRET"}


AWS_HOSTILE = (*(mode for mode in HOSTILE if mode not in ("hang", "not_http")),
               "truncated", "odd")


class AwsSubject(RouteSubject):
    """`expecting` and `blind`: how many calls a shift makes before it writes, with `expected` (as
    the suite has it where a reply is lost) and without (where a request is)."""

    compare_and_set = False
    versioned = False
    adjustable_step = False
    counts: Mapping[str, float] = {}
    service: Service
    kind: ClassVar[type[Provider]]
    write: ClassVar[str]
    expecting: ClassVar[int] = 1
    blind: ClassVar[int] = 0

    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self._weather = weather
        weather.clear()
        self.service.calls.clear()

    def where(self, port: int | None) -> str:
        return f"http://127.0.0.1:{self._weather.port if port is None else dead_port()}"

    def made(self, timeout: float, **params: object) -> Provider:
        block = {"credentials": _KEYS, "timeout": timeout, **params}
        return self.kind(ProviderSpec("edge", self.kind.kind, block),
                         resolve=SECRETS.__getitem__, runtime=SystemRuntime())

    def meet(self, *what: str) -> None:
        """Hostile peers are in every Region: a read asks the next one when the first is odd."""
        if set(what) <= set(self.hostile):
            self._weather.clear()
            self._weather.lasting, = what
            return
        for name in what:
            before = {"after": self.expecting, "lost": self.blind}.get(name, 0)
            self._weather.next(*["fair"] * before, _WEATHER.get(name, name))

    def meet_write(self, *what: str) -> None:
        self._weather.clear()
        self._weather.next(*["fair"] * self.blind)
        self._weather.lasting, = what

    def break_writes(self, number: int, how: str) -> None:
        self._weather.strikes = lambda request: not (
            request.startswith(b"GET ") or b"ListRoutingControls" in request)
        self._weather.next(*["fair"] * (number - 1))
        self._weather.lasting = how

    def mend(self) -> None:
        self._weather.clear()

    def writes(self) -> int:
        return sum(operation == self.write for operation, _ in self.service.calls)

    def throttle(self, on: bool) -> Bucket | None:
        self.service.throttle(on)
        return self.service.bucket

    def nonesuch(self) -> LeverSpec:
        return LeverSpec("edge", "f" * 36, self.lever.params)


class WeightedSubject(AwsSubject):
    kind = Route53Provider
    whole = "one batch holds all records, and Route 53 does or leaves it"
    found: ClassVar = {"hq": 70, "acme": 30}
    hostile = AWS_HOSTILE
    write = "ChangeResourceRecordSets"
    blind = 1

    def __init__(self, service: Route53, weather: Weather) -> None:
        self.service = self.fake = service
        super().__init__(weather)
        self.ref = f"sip{next(_numbers)}.lender.example"
        self.lever = LeverSpec("edge", self.ref, {
            "type": "SRV", "ttl": "60s", "destinations": {name: name for name in self.sites}})
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        return self.made(timeout, zone="Z1", endpoint_url=self.where(port))

    def truth(self) -> dict[str, int]:
        found = {name: self.fake.record("Z1", self.ref, name)["Weight"] for name in self.sites}
        return {name: weight for name, weight in found.items() if weight}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        for name in self.sites:
            self.fake.put("Z1", Name=self.ref, Type="SRV", SetIdentifier=name, TTL=60,
                          Weight=shares.get(name, 0),
                          ResourceRecords=[{"Value": f"1 1 5060 {name}.example."}])

    def as_found(self) -> None:
        for name, weight in zip(self.sites, (7, 3, 0), strict=True):
            self.fake.put("Z1", Name=self.ref, Type="SRV", SetIdentifier=name, TTL=77,
                          Weight=weight, HealthCheckId=f"check-{name}",
                          ResourceRecords=[{"Value": f"1 1 5060 {name}.example."}])

    def raw(self) -> object:
        return [self.fake.record("Z1", self.ref, name) for name in self.sites]


class FailoverSubject(WeightedSubject):
    """Two records, one of which is the primary one."""

    sites = ("hq", "acme")
    step = 100
    found: ClassVar = {"hq": 100}
    walk = ({"acme": 100}, {"hq": 100}, {"acme": 100})
    moved = Shares({"acme": 100})
    foreign: Mapping[str, int] = {"acme": 100}
    unexpressed = (({"mars": 100}, "does not name"), ({"hq": 50, "acme": 50}, "multiple of the"))

    def __init__(self, service: Route53, weather: Weather) -> None:
        super().__init__(service, weather)
        self.lever = replace(self.lever, params={**self.lever.params, "policy": "failover"})

    def truth(self) -> dict[str, int]:
        return {name: 100 for name in self.sites
                if self.fake.record("Z1", self.ref, name)["Failover"] == "PRIMARY"}

    def elsewhere(self, shares: Mapping[str, int], ttl: int = 60) -> None:
        for name in self.sites:
            self.fake.put("Z1", Name=self.ref, Type="SRV", SetIdentifier=name, TTL=ttl,
                          Failover="PRIMARY" if name in shares else "SECONDARY",
                          HealthCheckId=f"check-{name}",
                          ResourceRecords=[{"Value": f"1 1 5060 {name}.example."}])

    def as_found(self) -> None:
        self.elsewhere(self.found, ttl=77)

    def meet_write(self, *what: str) -> None:
        self.elsewhere({"hq": 100})  # what is so already is not written
        super().meet_write(*what)


class GroupSubject(AwsSubject):
    kind = ConnectProvider
    whole = "one request holds telephony, agents and sign-in of both Regions"
    found: ClassVar = {"hq": 70, "acme": 30}
    hostile = AWS_HOSTILE
    write = "UpdateTrafficDistribution"
    expecting, blind = 2, 1
    sites = ("hq", "acme")
    step = 10
    walk = ({"hq": 50, "acme": 50}, {"acme": 100}, {"hq": 10, "acme": 90})
    moved = Shares({"hq": 20, "acme": 80})
    unexpressed = (({"mars": 100}, "does not name"), ({"hq": 99, "acme": 1}, "multiple of the"))
    counts: Mapping[str, float] = {"waiting.hq": 3.0, "oldest.hq": 41.5, "busy.hq": 12.0,
                                   "online.hq": 20.0}

    def __init__(self, service: Connect, weather: Weather) -> None:
        self.service = self.fake = service
        super().__init__(weather)
        self.ref = service.add_group(next(_numbers), default=True)
        self.group = service.groups[self.ref.rpartition("/")[2]]
        hq, acme = uuid(0x9001), uuid(0x9002)
        service.queues |= {hq: {}, acme: {}}
        service.counts[hq] = {"CONTACTS_IN_QUEUE": 3.0, "OLDEST_CONTACT_AGE": 41.5,
                              "SLOTS_ACTIVE": 12.0, "AGENTS_ONLINE": 20.0,
                              "AGENTS_AVAILABLE": None}
        self.lever = LeverSpec("edge", self.ref, {
            "destinations": dict(zip(self.sites, REGIONS, strict=True)), "sign_in": True,
            "watch": {"hq": {"queue": hq}, "acme": {"queue": acme}}})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        return self.made(timeout, region=REGIONS[0], instance=INSTANCE,
                         endpoint_url=self.where(port))

    def truth(self) -> dict[str, int]:
        assert self.group["agents"] == self.group["calls"]
        named = zip(self.sites, REGIONS, strict=True)
        return {name: self.group["calls"][region] for name, region in named
                if self.group["calls"][region]}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        parts = {region: shares.get(name, 0)
                 for name, region in zip(self.sites, REGIONS, strict=True)}
        self.group["calls"], self.group["agents"] = parts, dict(parts)

    def as_found(self) -> None:
        self.elsewhere(self.found)
        self.group["sign_in"] = dict.fromkeys(REGIONS, False) | {REGIONS[0]: True}

    def raw(self) -> object:
        return copy.deepcopy(self.group)

    def nonesuch(self) -> LeverSpec:
        return LeverSpec("edge", Connect.arn(uuid(0xFFFF)), self.lever.params)


class FlowSubject(AwsSubject):
    kind = ConnectProvider
    whole = "a number has one flow"
    hostile = AWS_HOSTILE
    write = "AssociatePhoneNumberContactFlow"
    step = 100
    walk = ({"acme": 100}, {"message": 100}, {"hq": 100}, {"acme": 100})
    moved = Shares({"acme": 100})
    foreign: Mapping[str, int] = {"message": 100}
    unexpressed = (({"mars": 100}, "does not name"), ({"hq": 50, "acme": 50}, "multiple of the"))

    def __init__(self, service: Connect, weather: Weather) -> None:
        self.service = self.fake = service
        super().__init__(weather)
        self.ref = uuid(0x5000 + next(_numbers))
        self.flows = {name: uuid(0x7000 + at) for at, name in enumerate(self.sites)}
        service.flows |= {*self.flows.values()}
        self.lever = LeverSpec("edge", self.ref, {"lever": "contact_flow",
                                                  "destinations": self.flows})
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        return self.made(timeout, region=REGIONS[0], instance=INSTANCE,
                         endpoint_url=self.where(port))

    def truth(self) -> dict[str, int]:
        back = {flow: name for name, flow in self.flows.items()}
        return {back[self.fake.numbers[self.ref]]: 100}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self.fake.numbers[self.ref] = self.flows[next(iter(shares))]

    def raw(self) -> object:
        return self.fake.numbers[self.ref]


class ControlSubject(AwsSubject):
    """One endpoint, so that the weather meets one attempt; `test_aws_arc` has five."""

    kind = ArcProvider
    whole = "one request holds all controls, and the cluster does or leaves it"
    hostile = AWS_HOSTILE
    write = "UpdateRoutingControlStates"
    step = 50
    walk = ({"hq": 50, "acme": 50}, {"acme": 100}, {"acme": 50, "message": 50})
    moved = Shares({"acme": 50, "message": 50})
    foreign: Mapping[str, int] = {"hq": 50, "acme": 50}

    def __init__(self, service: Cluster, weather: Weather) -> None:
        self.service = self.fake = service
        super().__init__(weather)
        self.ref = PANEL[:-4] + f"{next(_numbers):04x}"
        self.controls = {name: control(at).replace(PANEL, self.ref)
                         for at, name in enumerate(self.sites)}
        self.lever = LeverSpec("edge", self.ref, {"destinations": self.controls,
                                                  "equal_parts": True})
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        return self.made(timeout, endpoints={"us-east-1": self.where(port)})

    def truth(self) -> dict[str, int]:
        panel = self.fake.panels[self.ref]
        on = [name for name, arn in self.controls.items() if panel[arn] == "On"]
        return dict.fromkeys(on, 100 // len(on))

    def raw(self) -> object:
        return dict(self.fake.panels[self.ref])

    def nonesuch(self) -> LeverSpec:
        return LeverSpec("edge", PANEL[:-4] + "ffff", self.lever.params)

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self.fake.panels[self.ref] = {arn: "On" if shares.get(name) else "Off"
                                      for name, arn in self.controls.items()}


SUBJECTS: dict[str, tuple[type[Service], Any]] = {
    "route53": (Route53, WeightedSubject), "route53.failover": (Route53, FailoverSubject),
    "connect": (Connect, GroupSubject),
    "connect.contact_flow": (Connect, FlowSubject), "arc": (Cluster, ControlSubject),
}
