"""Policy and surroundings → Desk: the objects that an operation works with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ccfailover.errors import PolicyError, Problem
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.journal import Actor
from ccfailover.model.plan import Mode
from ccfailover.model.policy import LeverSpec, Policy, Site
from ccfailover.operations.desk import Desk
from ccfailover.policy import load as policy_load
from ccfailover.policy.find import find_policy
from ccfailover.runtime import Runtime, SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.store.holder import this_process
from ccfailover.wiring import kinds
from ccfailover.wiring.secrets import Resolver

if TYPE_CHECKING:
    from ccfailover.health import Probe
    from ccfailover.providers import Backlog, BacklogView, Gate, GateView, LeverSource, Route
    from ccfailover.providers import RouteView
    from ccfailover.runbooks.step import Levers, Step

DEFAULT_STORE = "~/.local/state/ccfailover"


class PlatformLevers:
    """Levers by their place in the policy; providers are built when first asked for.

    In a shadow drill every provider is wrapped so that it hands out views only.
    """

    def __init__(self, policy: Policy, resolve: Callable[[str], str], runtime: Runtime,
                 mode: Mode) -> None:
        self._policy = policy
        self._resolve = resolve
        self._runtime = runtime
        self._mode = mode
        self._sources: dict[str, LeverSource] = {}

    def _source(self, lever: LeverSpec) -> LeverSource:
        if lever.provider not in self._sources:
            from ccfailover.providers.wrappers import Retrying, ViewsOnly

            spec = self._policy.providers[lever.provider]
            cls = kinds.provider_class(spec.kind)
            source: LeverSource = Retrying(
                cls(spec, resolve=self._resolve, runtime=self._runtime), runtime=self._runtime)
            if self._mode is not Mode.REAL:
                source = ViewsOnly(source)
            self._sources[lever.provider] = source
        return self._sources[lever.provider]

    def route_view(self, lever: LeverSpec) -> RouteView:
        return self._source(lever).route_view(lever)

    def route(self, lever: LeverSpec) -> Route:
        return self._source(lever).route(lever)

    def gate_view(self, lever: LeverSpec) -> GateView:
        return self._source(lever).gate_view(lever)

    def gate(self, lever: LeverSpec) -> Gate:
        return self._source(lever).gate(lever)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return self._source(lever).backlog_view(lever)

    def backlog(self, lever: LeverSpec) -> Backlog:
        return self._source(lever).backlog(lever)

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return capabilities_of(self._policy, lever)

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


def capabilities_of(policy: Policy, lever: LeverSpec) -> Capabilities:
    spec = policy.providers[lever.provider]
    cls = kinds.provider_class(spec.kind)
    return cls.capabilities(spec.params, {"ref": lever.ref, **lever.params})


class BuiltKinds:
    """The desk's door from a kind's name to an object."""

    def __init__(self, policy: Policy, resolve: Callable[[str], str], runtime: Runtime) -> None:
        self._policy = policy
        self._resolve = resolve
        self._runtime = runtime
        self._levers: dict[Mode, PlatformLevers] = {}
        self._probes: dict[str, Probe] = {}

    def step(self, kind: str) -> type[Step]:
        return kinds.step_class(kind)

    def probe(self, kind: str) -> Probe:
        if kind not in self._probes:
            cls = kinds.probe_class(kind)
            views = self.levers(Mode.SHADOW)  # a probe only ever looks
            extra: dict[str, object] = {"resolve": self._resolve}
            if kind in ("route", "backlog"):
                extra = {"view_for": views.route_view if kind == "route" else views.backlog_view}
            self._probes[kind] = cls(self._runtime, **extra)  # type: ignore[call-arg]
        return self._probes[kind]

    def levers(self, mode: Mode) -> PlatformLevers:
        if mode not in self._levers:
            self._levers[mode] = PlatformLevers(self._policy, self._resolve, self._runtime, mode)
        return self._levers[mode]

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return capabilities_of(self._policy, lever)


def assemble(option: str | None, *, environ: Mapping[str, str] = os.environ,
             runtime: Runtime | None = None, validate: bool = True,
             store: Callable[[Store], Store] | None = None,
             levers: Callable[[Levers], Levers] | None = None) -> Desk:
    """The desk for the policy that `option`, or the environment, names.

    `validate` False lets a policy whose stamp says "valid" pass without its schema (status and
    check). `store` and `levers` wrap what was built: tests put their faults there.
    """
    clock = runtime or SystemRuntime()
    policy = read_policy(option, environ=environ, now=clock.now(), validate=validate)
    resolve = Resolver(environ)
    opened = open_store(store_location(policy, environ), clock)
    built = BuiltKinds(policy, resolve, clock)
    if levers is not None:
        for mode in Mode:
            built._levers[mode] = levers(built.levers(mode))  # type: ignore[assignment]
    return Desk(
        policy=policy, store=store(opened) if store else opened, runtime=clock,
        actor=actor(environ), kinds=built, is_open=calendar(policy), is_blocked=windows(policy),
        resolve=resolve, environ=environ,
    )


def read_policy(option: str | None, *, environ: Mapping[str, str], now: int,
                validate: bool = True) -> Policy:
    """Find and load. Raises UsageError when there is none, PolicyError with every problem."""
    path = find_policy(option, environ)
    policy = policy_load.load(path, kinds.Schemas(), now=now, validate=validate)
    return with_item_settings(policy)


def with_item_settings(policy: Policy) -> Policy:
    """Tell each backlog lever how its queue's items read; adapters know no queues."""
    queues = {}
    for name, queue in policy.queues.items():
        levers = {
            site: replace(lever, params={**lever.params, "item": dict(queue.item),
                                         "max_item_bytes": queue.max_item_bytes})
            for site, lever in queue.backlogs.items()
        }
        queues[name] = replace(queue, backlogs=levers)
    return replace(policy, queues=queues)


def store_location(policy: Policy, environ: Mapping[str, str]) -> str:
    """`$CCFAILOVER_STORE`, the policy's `store`, or a file under the user's state folder."""
    chosen = environ.get("CCFAILOVER_STORE") or policy.store
    if chosen is None:
        home = environ.get("XDG_STATE_HOME")
        folder = Path(home) / "ccfailover" if home else Path(DEFAULT_STORE).expanduser()
        return str(folder / f"{policy.name}.db")
    path = chosen.removeprefix("sqlite:///") if chosen.startswith("sqlite:///") else chosen
    if "://" in path:
        raise PolicyError([Problem(policy.path, 1, 1, f"store {path.partition('://')[0]}:// is "
                                   "not a kind of store that this version has")],
                          not_done="nothing was read or written")
    if path == ":memory:":
        return path
    return str(Path(policy.path).parent / Path(path).expanduser())


def actor(environ: Mapping[str, str]) -> Actor:
    """Who acts: $CCFAILOVER_ACTOR, $SUDO_USER, $USER or the uid; cron sets the first."""
    name = (environ.get("CCFAILOVER_ACTOR") or environ.get("SUDO_USER") or environ.get("USER")
            or environ.get("LOGNAME") or f"uid{os.getuid()}")
    return this_process(name)


def calendar(policy: Policy) -> Callable[[Site, int], bool]:
    @lru_cache(maxsize=None)
    def hours(name: str) -> object:
        from ccfailover.policy.calendars import Hours

        site = policy.sites[name]
        return Hours(site.hours, timezone=site.timezone, holidays=site.holidays)

    def is_open(site: Site, at: int) -> bool:
        return site.hours is None or bool(hours(site.name).is_open(at))  # type: ignore[attr-defined]

    return is_open


def windows(policy: Policy) -> Callable[[int], str | None]:
    def is_blocked(at: int) -> str | None:
        if not policy.guards.blocked:
            return None
        from ccfailover.policy.calendars import blocked

        return blocked(policy.guards.blocked, policy.timezone, at)

    return is_blocked
