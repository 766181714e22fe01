"""An example policy over platforms in memory: its own text, kinds and steps; virtual time.

Only what the policy's hosts would be is simulated: every provider it names is a platform in
memory that can do exactly what the policy's own kind says it can, and every probe of a site or a
dependency reads what the test dictates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, TypeVar
from zoneinfo import ZoneInfo

from ccfailover.errors import Exit, Refused, Unavailable
from ccfailover.health import Probe, ProbeJob
from ccfailover.health.probes.backlog import BacklogProbe
from ccfailover.health.probes.route import RouteProbe
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.plan import Mode, Plan
from ccfailover.model.policy import LeverSpec, Policy, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.operations import runs
from ccfailover.operations.desk import Desk
from ccfailover.operations.prepare import Prepared, prepare
from ccfailover.policy import load as policy_load
from ccfailover.providers import (
    Backlog,
    BacklogView,
    Gate,
    GateView,
    LeverSource,
    Route,
    RouteView,
)
from ccfailover.providers.patience import Permit
from ccfailover.providers.wrappers import Retrying, ViewsOnly
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from ccfailover.runbooks.step import Levers, Step
from ccfailover.runtime import SECOND
from ccfailover.simulation.platform import SimulatedPlatform
from ccfailover.simulation.providers import SimulatedProvider
from ccfailover.store import Store, open_store
from ccfailover.store.holder import this_process
from ccfailover.wiring import assemble
from ccfailover.wiring.built import capabilities_of
from ccfailover.wiring.kinds import Schemas, step_class

POLICIES = Path(__file__).resolve().parents[2] / "policies"
LEASE = 30.0

T = TypeVar("T")
R = TypeVar("R")


def instant(text: str, timezone: str) -> int:
    """`2026-11-18 17:00` on the clock of `timezone`, in µs."""
    at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone))
    return int(at.timestamp()) * SECOND


class Clock:
    """A Runtime whose time passes only by `sleep`, on one thread.

    `beat` stands for the driver's heartbeat, which counts real seconds: it is called every five
    virtual ones.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._slept = 0.0
        self._beaten = 0.0
        self._ids = 0
        self.beat: Callable[[], None] = lambda: None

    def now(self) -> int:
        return self._start + int(self._slept * SECOND)

    def monotonic(self) -> float:
        return self._slept

    def sleep(self, seconds: float) -> None:
        end = self._slept + max(0.0, seconds)
        while self._slept < end:
            self._slept = min(end, self._beaten + 5.0)
            if self._slept >= self._beaten + 5.0:
                self._beaten = self._slept
                self.beat()

    def random(self) -> float:
        return 0.5

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:04x}"

    def each(self, fn: Callable[[T], R], items: Sequence[T], limit: int) -> list[R]:
        """One after the other; every call is let end before the first exception is raised."""
        results, failures = [], []
        for item in items:
            try:
                results.append(fn(item))
            except BaseException as error:  # raised below
                failures.append(error)
        if failures:
            raise failures[0]
        return results

    def each_by(self, fn: Callable[[T], R], items: Sequence[T], limit: int,
                deadline: float) -> list[R | None]:
        return [fn(item) if self._slept < deadline else None for item in items]


class Platform(SimulatedPlatform):
    """`dark` names the levers that nobody can reach for now; `writes` what was changed."""

    WRITES: ClassVar = frozenset({"shift", "set_open", "claim", "extend", "settle", "put"})

    def __init__(self, runtime: Clock, name: str) -> None:
        super().__init__(runtime, name)
        self.dark: set[str] = set()

    def act(self, operation: str, ref: str, effect: Callable[[], T], *, instead: T | None = None,
            writes: bool = False) -> T:
        if ref in self.dark:
            raise Unavailable("unreachable", in_doubt=False, provider=self.name, where=ref)
        return super().act(operation, ref, effect, instead=instead, writes=writes)

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if call.partition(" ")[0] in self.WRITES]


class StatedProbe(Probe):
    """Reads what the test says of a site or a dependency; GOOD unless it says else."""

    kind: ClassVar = "stated"
    summary: ClassVar = "what the test dictates"
    PARAMS: ClassVar[Mapping[str, object]] = {}

    def __init__(self, runtime: Clock, stated: Mapping[str, Outcome]) -> None:
        self._runtime, self._stated = runtime, stated

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        for job in jobs:
            found = self._stated.get(job.target.name, Outcome.GOOD)
            yield Reading(job.target.key, self._runtime.now(), found, f"stated: {found.value}")


class SimulatedLevers:
    """Every provider of a policy as a platform in memory; views only in a drill."""

    def __init__(self, policy: Policy, platforms: Mapping[str, Platform], runtime: Clock,
                 mode: Mode, permit: Permit) -> None:
        self._policy = policy
        self._sources: dict[str, LeverSource] = {}
        for name, spec in policy.providers.items():
            source: LeverSource = Retrying(SimulatedProvider(
                simulated(spec), resolve=str, runtime=runtime, platform=platforms[name],
            ), runtime=runtime, permit=permit)
            self._sources[name] = source if mode is Mode.REAL else ViewsOnly(source)

    def route_view(self, lever: LeverSpec) -> RouteView:
        return self._sources[lever.provider].route_view(lever)

    def route(self, lever: LeverSpec) -> Route:
        return self._sources[lever.provider].route(lever)

    def gate_view(self, lever: LeverSpec) -> GateView:
        return self._sources[lever.provider].gate_view(lever)

    def gate(self, lever: LeverSpec) -> Gate:
        return self._sources[lever.provider].gate(lever)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return self._sources[lever.provider].backlog_view(lever)

    def backlog(self, lever: LeverSpec) -> Backlog:
        return self._sources[lever.provider].backlog(lever)

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return capabilities_of(self._policy, lever)


def simulated(spec: ProviderSpec) -> ProviderSpec:
    """The same account on a platform in memory: same destinations, same step."""
    params: dict[str, object] = {}
    destinations, route = spec.params.get("destinations"), spec.params.get("route")
    if isinstance(destinations, Mapping):
        params["destinations"] = sorted(destinations)
    if isinstance(route, Mapping) and "step" in route:
        params["step"] = route["step"]
    return ProviderSpec(spec.name, "simulated", params)


class SimulatedKinds:
    """The desk's door: real steps, real route and backlog probes, the platforms in memory."""

    def __init__(self, policy: Policy, platforms: Mapping[str, Platform], runtime: Clock,
                 stated: Mapping[str, Outcome]) -> None:
        self._policy, self._runtime = policy, runtime
        self.permit = Permit()
        self._levers = {mode: SimulatedLevers(policy, platforms, runtime, mode, self.permit)
                        for mode in Mode}
        self._stated = StatedProbe(runtime, stated)

    def step(self, kind: str) -> type[Step]:
        return step_class(kind)

    def probe(self, kind: str) -> Probe:
        views = self._levers[Mode.SHADOW]
        if kind == "route":
            return RouteProbe(self._runtime, view_for=views.route_view)
        if kind == "backlog":
            return BacklogProbe(self._runtime, view_for=views.backlog_view)
        return self._stated

    def levers(self, mode: Mode) -> Levers:
        return self._levers[mode]

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return capabilities_of(self._policy, lever)


@dataclass
class PolicyWorld:
    """`stated` is what the probes of a site or dependency read from now on."""

    policy: Policy
    clock: Clock
    platforms: Mapping[str, Platform]
    stated: dict[str, Outcome]
    store: Store
    desk: Desk
    prepared: list[Prepared] = field(default_factory=list)

    def prepare(self, runbook: str, subject: str, *, reason: str = "test", mode: Mode = Mode.REAL,
                queues: tuple[str, ...] = (), to: tuple[str, ...] = (),
                percent: int | None = None, override: tuple[str, ...] = ()) -> Prepared:
        return prepare(self.desk, Request(
            runbook, subject, reason, mode=mode, queues=queues, to=to, percent=percent,
            overrides=dict.fromkeys(override, "the board said so")))

    def start(self, prepared: Prepared) -> tuple[RunState | None, Exit]:
        """The state and exit code of the run; of a refused one no state and the refusal's code."""
        try:
            found = runs.start(self.desk, prepared, confirmed="test")
        except Refused as error:
            return None, error.exit_code
        return found.state, found.exit

    def shares(self, queue: str) -> Shares:
        """What the platform itself has now, whatever any probe may say."""
        found = self.policy.queues[queue]
        lever = found.route or found.intake
        assert lever is not None
        return self.platforms[lever.provider].shares(lever.ref)

    def all_shares(self) -> dict[str, dict[str, int]]:
        return {name: self.shares(name).to_json() for name in self.policy.queues}

    def ids(self, queue: str) -> dict[str, list[str]]:
        """Site → ids of the items that wait there."""
        return {site: sorted(json.loads(message.body)[self.policy.queues[queue].item["id"]]
                             for message in self.platforms[lever.provider].messages(lever.ref))
                for site, lever in self.policy.queues[queue].backlogs.items()}

    def gates(self) -> list[bool]:
        return [self.platforms[lever.provider].is_open(lever.ref)
                for queue in self.policy.queues.values() for lever in queue.consumers.values()]

    def writes(self) -> list[str]:
        return [write for platform in self.platforms.values() for write in platform.writes]


def read(path: Path, at: int) -> Policy:
    return assemble.with_item_settings(policy_load.load(str(path), Schemas(), now=at))


def build(path: Path, at: int, items: Mapping[str, Sequence[Mapping[str, object]]], *,
          change: Callable[[Policy], Policy] | None = None) -> PolicyWorld:
    """The policy's world in its normal state: levers at `normal`, gates open, `items` waiting at
    each queue's home. `change` is made to the policy once it is loaded. Close its store."""
    policy, clock = read(path, at), Clock(at)
    if change is not None:
        policy = change(policy)
    platforms = {name: Platform(clock, name) for name in policy.providers}
    for queue in policy.queues.values():
        for lever in (queue.route, queue.intake):
            if lever is not None:
                platforms[lever.provider].add_route(lever.ref, queue.normal)
        for lever in queue.consumers.values():
            platforms[lever.provider].add_gate(lever.ref, is_open=True)
        for site, lever in queue.backlogs.items():
            platforms[lever.provider].add_queue(lever.ref)
            for item in items.get(queue.name, ()) if site == queue.home else ():
                platforms[lever.provider].send(lever.ref, json.dumps(item).encode())
    stated: dict[str, Outcome] = {}
    store = open_store(":memory:", clock)

    def renew() -> None:
        for lease in store.leases():
            if lease.holder:
                store.renew(lease, LEASE)

    clock.beat = renew
    desk = Desk(
        policy=policy, store=store, runtime=clock, actor=this_process("test"),
        kinds=SimulatedKinds(policy, platforms, clock, stated),
        is_open=assemble.calendar(policy), is_blocked=assemble.windows(policy), resolve=str,
        environ={})
    return PolicyWorld(policy, clock, platforms, stated, store, desk)


def found_against(plan: Plan) -> set[tuple[str, str, str]]:
    """(queue, guard, level) of every finding; `` for what is of no single queue."""
    return {(found.queue or "", found.guard, found.level) for found in plan.findings}
