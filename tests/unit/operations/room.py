"""The world of `policies/consumer_loans.yaml` in memory: its platforms simulated, its sites as the
test says, its time virtual. Planning, engine, driver, steps and store are the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import yaml

from ccfailover.health import Probe, ProbeJob
from ccfailover.model.capabilities import Capabilities, combined
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.journal import Lease
from ccfailover.model.plan import Mode, Plan
from ccfailover.model.policy import LeverSpec, Policy
from ccfailover.operations.desk import Desk
from ccfailover.policy import load as policy_load
from ccfailover.providers import LeverSource
from ccfailover.providers.patience import Permit
from ccfailover.providers.wrappers import Retrying, ViewsOnly
from ccfailover.runbooks.step import Levers, Step
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.simulation.platform import SimulatedPlatform
from ccfailover.simulation.providers import SimulatedProvider
from ccfailover.store import Store, open_store
from ccfailover.wiring import kinds
from ccfailover.wiring.assemble import actor, calendar, windows, with_item_settings
from ccfailover.wiring.built import PlatformLevers

EXAMPLE = Path(__file__).resolve().parents[3] / "policies" / "consumer_loans.yaml"
CHICAGO = ZoneInfo("America/Chicago")
T = TypeVar("T")
R = TypeVar("R")


def instant(text: str) -> int:
    """`2026-10-20 14:00`, as the clock on the wall in Chicago says, in µs."""
    return int(datetime.fromisoformat(text).replace(tzinfo=CHICAGO).timestamp()) * SECOND


class VirtualRuntime(SystemRuntime):
    """Time goes on when somebody sleeps; what would run side by side runs one after the other."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._start = now
        self._lock = threading.Lock()

    def now(self) -> int:
        with self._lock:
            self._now += 1  # no two events at one instant
            return self._now

    def monotonic(self) -> float:
        with self._lock:
            return (self._now - self._start) / SECOND

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += int(max(0.0, seconds) * SECOND) + 1

    def each(self, fn: Callable[[T], R], items: Sequence[T], limit: int) -> list[R]:
        return [fn(item) for item in items]

    def each_by(self, fn: Callable[[T], R], items: Sequence[T], limit: int,
                deadline: float) -> list[R | None]:
        return [fn(item) for item in items]


class LongLeases:
    """The heartbeat beats in real time; leases last long enough for the virtual one."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_run(self, plan: Plan, *, ttl: float, **more: Any) -> tuple[str, Lease]:
        return self._inner.create_run(plan, ttl=1000 * ttl, **more)

    def acquire(self, run: str, *, ttl: float, **more: Any) -> tuple[Lease, bool]:
        return self._inner.acquire(run, ttl=1000 * ttl, **more)

    def renew(self, lease: Lease, ttl: float) -> Lease:
        return self._inner.renew(lease, 1000 * ttl)


class Told(Probe):
    """Says of every site and dependency what the test says; silence is healthy."""

    kind = "told"
    PARAMS: Mapping[str, object] = {}  # type: ignore[misc]
    summary = "what the test says"

    def __init__(self, room: Room) -> None:
        self._room = room

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        outcomes = {"down": Outcome.BAD, "unknown": Outcome.UNKNOWN, "degraded": Outcome.WARN}
        for job in jobs:
            said = self._room.states.get(job.target.name, "healthy")
            yield Reading(job.target.key, self._room.runtime.now(),
                          outcomes.get(said, Outcome.GOOD), said)


class SimulatedLevers(PlatformLevers):
    """The real door to the levers; behind it stand simulated platforms."""

    def __init__(self, room: Room, mode: Mode) -> None:
        super().__init__(room.policy, str, room.runtime, mode, room.permit)
        self._room, self._shadow = room, mode is not Mode.REAL

    def _source(self, lever: LeverSpec) -> LeverSource:
        spec = self._policy.providers[lever.provider]
        found: LeverSource = Retrying(SimulatedProvider(
            spec, resolve=str, runtime=self._room.runtime,
            platform=self._room.platforms[lever.provider]), runtime=self._room.runtime,
            permit=self._permit)
        return ViewsOnly(found) if self._shadow else found

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return self._room.capabilities(lever)


class Schemas(kinds.Schemas):
    """The kinds of the real program, and `simulated`."""

    def provider_kinds(self) -> Sequence[str]:
        return [*super().provider_kinds(), "simulated"]

    def provider_schema(self, kind: str) -> Mapping[str, object]:
        return SimulatedProvider.PARAMS if kind == "simulated" else super().provider_schema(kind)

    def lever_schema(self, kind: str) -> Mapping[str, object]:
        return SimulatedProvider.LEVER if kind == "simulated" else super().lever_schema(kind)

    def capabilities(self, kind: str, params: Mapping[str, object],
                     lever: Mapping[str, object] | None) -> Capabilities:
        if kind == "simulated":
            return SimulatedProvider.capabilities(params, lever)
        return super().capabilities(kind, params, lever)


class Room:
    """`states`: site or dependency → down | unknown | degraded (absent: healthy). `change` is made
    to the policy's text, `loaded` to what was read from it. Also the desk's kinds."""

    def __init__(self, folder: Path, at: str, change: Callable[[dict[str, Any]], None] | None,
                 states: Mapping[str, str],
                 loaded: Callable[[Policy], Policy] = lambda policy: policy) -> None:
        self.runtime = VirtualRuntime(instant(at))
        self.permit = Permit()
        self.states: Mapping[str, str] = dict(states)
        policy = yaml.safe_load(EXAMPLE.read_text())
        self._simulate(policy)
        policy["store"] = {"path": str(folder / "store.db"), "location": "colo_denver"}
        if change is not None:
            change(policy)
        path = folder / "policy.yaml"
        path.write_text(yaml.safe_dump(policy, sort_keys=False))
        self.policy: Policy = loaded(with_item_settings(
            policy_load.load(path, Schemas(), now=self.runtime.now())))
        self.platforms = {name: SimulatedPlatform(self.runtime, name)
                          for name in self.policy.providers}
        self._furnish()
        self.desk = Desk(
            policy=self.policy, store=LongLeases(open_store(  # type: ignore[arg-type]
                str(folder / "store.db"), self.runtime)),
            runtime=self.runtime, actor=actor({"CCFAILOVER_ACTOR": "dana"}), kinds=self,
            is_open=calendar(self.policy), is_blocked=windows(self.policy), resolve=str,
            environ={})

    @staticmethod
    def _simulate(policy: dict[str, Any]) -> None:
        """Same names, same limits: only what is behind them is another."""
        for provider in policy["providers"].values():
            route = provider.get("route", {})
            kept = {"destinations": list(provider["destinations"])} if "destinations" in provider \
                else {}
            if "step" in route:
                kept["step"] = route["step"]
            provider.clear()
            provider.update(kind="simulated", **kept)
        policy["queues"]["applications"]["backlog"]["hq"].pop("claim_seconds")

    def _furnish(self) -> None:
        for queue in self.policy.queues.values():
            for lever in (queue.route, queue.intake):
                for part in lever.parts if lever is not None else ():
                    self.platforms[part.provider].add_route(part.ref, queue.normal)
            for lever in queue.backlogs.values():
                self.platforms[lever.provider].add_queue(lever.ref)
            for lever in queue.consumers.values():
                self.platforms[lever.provider].add_gate(lever.ref, is_open=True)

    # --- what a desk asks its kinds for

    def step(self, kind: str) -> type[Step]:
        return kinds.step_class(kind)

    def probe(self, kind: str) -> Probe:
        views = self.levers(Mode.SHADOW)
        if kind == "route":
            return kinds.probe_class(kind)(self.runtime, view_for=views.route_view)  # type: ignore[call-arg]
        if kind == "backlog":
            return kinds.probe_class(kind)(self.runtime, view_for=views.backlog_view)  # type: ignore[call-arg]
        return Told(self)

    def levers(self, mode: Mode) -> Levers:
        return SimulatedLevers(self, mode)

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        def of(one: LeverSpec) -> Capabilities:
            spec = self.policy.providers[one.provider]
            return SimulatedProvider.capabilities(spec.params, {"ref": one.ref, **one.params})

        return combined(lever, of)

    # --- what a test looks at

    def shares(self) -> dict[str, dict[str, int]]:
        """What every lever really stands at, platform by platform."""
        found = {}
        for queue in self.policy.queues.values():
            lever = queue.route or queue.intake
            assert lever is not None
            found[queue.name] = self.platforms[lever.provider].shares(lever.ref).to_json()
        return found

    def close(self) -> None:
        self.desk.store.close()
