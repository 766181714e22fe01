"""A lender with a head office, a branch and an outsourcer, whose every figure a test may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import Assessment, QueueView, State, World
from ccfailover.model.policy import (
    Dependency,
    GuardLimits,
    LeverSpec,
    Policy,
    Price,
    Queue,
    Site,
    Staff,
)
from ccfailover.model.shares import Shares
from ccfailover.planning.allocation import Allocation, allocate

# Wednesday 2026-11-18 16:00 UTC, 10:00 in Chicago: 14 hours before local midnight.
AT = 1_795_017_600_000_000


class Scene:
    """600 calls an hour at hq (60 heads of 300 s serve 720); acme can take 432 of them."""

    at = AT

    def __init__(self) -> None:
        self.sites = {
            "hq": self.site("hq", in_house=True, agents=60),
            "branch": self.site("branch", in_house=True, agents=15),
            "acme": self.site("acme", in_house=False, agents=36,
                              price=Price(per_minute=Decimal("0.85"))),
        }
        self.queue = Queue(
            name="calls", channel="voice", home="hq", backups=("acme",), outsource="allowed",
            in_disaster="allow", priority=1, home_down="callback", normal=Shares({"hq": 100}),
            load_per_hour=600.0, route=LeverSpec("edge", "calls"),
        )
        self.states = {"hq": State.DOWN, "branch": State.HEALTHY, "acme": State.HEALTHY}
        self.fallen: set[str] = set()
        self.now: Shares | None = Shares({"hq": 100})
        self.depth: Mapping[str, int | None] = {}
        self.guards = GuardLimits()
        self.capabilities = Capabilities(routes=True, share_step=5)
        self.closed: set[str] = set()
        self.treat_only: dict[str, tuple[str, ...]] = {}

    @staticmethod
    def site(name: str, *, in_house: bool, agents: int | None, **more: Any) -> Site:
        staff = {"calls": Staff(agents=agents, handle_time=300.0)}
        given: dict[str, Any] = {
            "name": name, "in_house": in_house, "timezone": "America/Chicago",
            "hours": None, "holidays": None,
            "location": None, "country": None, "depends_on": (), "probes": (), "staff": staff}
        return Site(**{**given, **more})

    def change_site(self, name: str, **changes: Any) -> None:
        self.sites[name] = replace(self.sites[name], **changes)

    def change_queue(self, **changes: Any) -> None:
        self.queue = replace(self.queue, **changes)

    def agents(self, name: str, count: int) -> None:
        self.change_site(name, staff={"calls": Staff(agents=count, handle_time=300.0)})

    @property
    def policy(self) -> Policy:
        return Policy(
            name="test", environment="test", path="-", sha256="0" * 64, currency="USD",
            timezone="America/Chicago", store=None, sites=self.sites,
            dependencies={"los": Dependency("los", None, ()),
                          "vpn": Dependency("vpn", None, ())},
            providers={}, queues={self.queue.name: self.queue}, triggers={}, guards=self.guards,
            notify=(), runbooks={})

    @property
    def world(self) -> World:
        def verdict(noun: str, name: str, state: State) -> Assessment:
            return Assessment(noun, name, state, self.at, f"seen {state.value}")

        return World(
            at=self.at,
            sites={name: verdict("site", name, state) for name, state in self.states.items()},
            dependencies={
                name: verdict("dependency", name,
                              State.DOWN if name in self.fallen else State.HEALTHY)
                for name in ("los", "vpn")},
            queues={self.queue.name: QueueView(self.queue.name, self.now, self.depth, {})},
            treat_only=self.treat_only)

    def allocate(self, kind: str = "failover", *, leaving: frozenset[str] | None = None,
                 **more: Any) -> Allocation:
        if leaving is None:
            leaving = frozenset({"hq"} if kind in ("failover", "switchover") else ())
        return allocate(
            self.policy, self.queue, self.world, leaving=leaving, kind=kind, at=self.at,
            is_open=lambda site, at: site.name not in self.closed,
            capabilities=self.capabilities, **more)


@pytest.fixture()
def scene() -> Scene:
    return Scene()


@pytest.fixture(scope="session")
def new_scene() -> type[Scene]:
    return Scene
