"""Kinds by name, levers by their place in the policy: what a desk asks for while it works."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ccfailover.wiring import kinds

if TYPE_CHECKING:
    from ccfailover.health import Probe
    from ccfailover.model.capabilities import Capabilities
    from ccfailover.model.plan import Mode
    from ccfailover.model.policy import LeverSpec, Policy
    from ccfailover.providers import (
        Announcement,
        AnnouncementView,
        Backlog,
        BacklogView,
        Gate,
        GateView,
        LeverSource,
        OurDesk,
        Procedure,
        ProcedureView,
        Route,
        RouteView,
    )
    from ccfailover.providers.patience import Permit
    from ccfailover.runbooks.step import Levers, Step
    from ccfailover.runtime import Runtime


class PlatformLevers:
    """Levers by their place in the policy; providers are built when first asked for.

    In a shadow drill every provider is wrapped so that it hands out views only.
    """

    def __init__(self, policy: Policy, resolve: Callable[[str], str], runtime: Runtime,
                 mode: Mode, permit: Permit, desk: OurDesk | None = None) -> None:
        self._policy = policy
        self._resolve = resolve
        self._runtime = runtime
        self._mode = mode
        self._permit = permit
        self._desk = desk
        self._sources: dict[str, LeverSource] = {}

    def _source(self, lever: LeverSpec) -> LeverSource:
        if lever.provider not in self._sources:
            from ccfailover.providers.wrappers import Retrying, ViewsOnly

            spec = self._policy.providers[lever.provider]
            cls = kinds.provider_class(spec.kind)
            provider = cls(spec, resolve=self._resolve, runtime=self._runtime)
            if cls.wants_desk:
                provider.desk = self._desk
            source: LeverSource = Retrying(provider, runtime=self._runtime, permit=self._permit)
            if self._mode.value != "real":
                source = ViewsOnly(source)
            self._sources[lever.provider] = source
        return self._sources[lever.provider]

    def route_view(self, lever: LeverSpec) -> RouteView:
        if lever.several is not None:
            from ccfailover.providers.combined import CombinedView

            return CombinedView(lever.several, [self.route_view(part) for part in lever.parts],
                                self.capabilities)
        return self._source(lever).route_view(lever)

    def route(self, lever: LeverSpec) -> Route:
        if lever.several is not None:
            from ccfailover.providers.combined import CombinedRoute

            return CombinedRoute(lever.several, [self.route(part) for part in lever.parts],
                                 self.capabilities)
        return self._source(lever).route(lever)

    def gate_view(self, lever: LeverSpec) -> GateView:
        return self._source(lever).gate_view(lever)

    def gate(self, lever: LeverSpec) -> Gate:
        return self._source(lever).gate(lever)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return self._source(lever).backlog_view(lever)

    def backlog(self, lever: LeverSpec) -> Backlog:
        return self._source(lever).backlog(lever)

    def announcement_view(self, lever: LeverSpec) -> AnnouncementView:
        return self._source(lever).announcement_view(lever)

    def announcement(self, lever: LeverSpec) -> Announcement:
        return self._source(lever).announcement(lever)

    def procedure_view(self, lever: LeverSpec) -> ProcedureView:
        return self._source(lever).procedure_view(lever)

    def procedure(self, lever: LeverSpec) -> Procedure:
        return self._source(lever).procedure(lever)

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return capabilities_of(self._policy, lever)

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


def capabilities_of(policy: Policy, lever: LeverSpec) -> Capabilities:
    from ccfailover.model.capabilities import combined

    def of(one: LeverSpec) -> Capabilities:
        spec = policy.providers[one.provider]
        return kinds.provider_class(spec.kind).capabilities(spec.params,
                                                            {"ref": one.ref, **one.params})

    return combined(lever, of)


class BuiltKinds:
    """The desk's door from a kind's name to an object."""

    def __init__(self, policy: Policy, resolve: Callable[[str], str], runtime: Runtime, *,
                 desk: Callable[[], OurDesk] | None = None) -> None:
        self._policy = policy
        self._resolve = resolve
        self._runtime = runtime
        self._desk = desk
        self._levers: dict[Mode, Levers] = {}
        self._probes: dict[str, Probe] = {}

    @cached_property
    def permit(self) -> Permit:
        from ccfailover.providers.patience import Permit

        return Permit()

    def step(self, kind: str) -> type[Step]:
        return kinds.step_class(kind)

    def probe(self, kind: str) -> Probe:
        if kind not in self._probes:
            from ccfailover.model.plan import Mode

            cls = kinds.probe_class(kind)
            views = self.levers(Mode.SHADOW)  # a probe only ever looks
            extra: dict[str, object] = {"resolve": self._resolve}
            if kind in ("route", "backlog"):
                extra = {"view_for": views.route_view if kind == "route" else views.backlog_view}
            self._probes[kind] = cls(self._runtime, **extra)  # type: ignore[call-arg]
        return self._probes[kind]

    def levers(self, mode: Mode) -> Levers:
        if mode not in self._levers:
            self._levers[mode] = PlatformLevers(self._policy, self._resolve, self._runtime, mode,
                                                self.permit, self._desk and self._desk())
        return self._levers[mode]

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        return capabilities_of(self._policy, lever)

    def close(self) -> None:
        """Give back the connections of the levers that were handed out."""
        for levers in self._levers.values():
            if isinstance(levers, PlatformLevers):
                levers.close()

    def wrap(self, wrapped: Callable[[Levers], Levers]) -> None:
        """Hand out every mode's levers as `wrapped` makes them."""
        from ccfailover.model.plan import Mode

        for mode in Mode:
            self._levers[mode] = wrapped(self.levers(mode))
