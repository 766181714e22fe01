"""A run that dies in this process at any of its writes: engine, driver, steps and a store in memory
are the real ones. From its last write on nothing of it reaches the store or a platform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import Outcome, Reading
from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Json, Mode, Plan, StepSpec
from ccfailover.model.policy import LeverSpec, Policy
from ccfailover.model.shares import Shares
from ccfailover.policy.load import check
from ccfailover.providers import Announcement, AnnouncementView, Provider, Route, RouteView
from ccfailover.providers.combined import CombinedRoute
from ccfailover.providers.http.about import EXAMPLE
from ccfailover.providers.patience import Patience, Permit
from ccfailover.providers.wrappers import Retrying
from ccfailover.runbooks.drive import Driver, Hands
from ccfailover.runbooks.run import RunState, fold
from ccfailover.runbooks.step import Levers, Step, StepContext
from ccfailover.runbooks.steps.announce import Announce
from ccfailover.runbooks.steps.shift_route import ShiftRoute
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.store.holder import this_process
from ccfailover.wiring.kinds import Schemas

T = TypeVar("T")
WRITES = frozenset({"append", "end_run"})
"""What this run commits; the heartbeat's own renewals come at no fixed point."""
ACTS = frozenset({"shift", "restore", "say"})


class Died(BaseException):
    """kill -9; no `except Exception` may notice it."""


class Bomb:
    """Counts writes of the journal and of the levers; at the n-th the process is dead, before it is
    done. What is after one is before the next."""

    def __init__(self, at: int | None) -> None:
        self._at, self.count, self.dead = at, 0, False

    def around(self, call: Callable[..., T]) -> Callable[..., T]:
        def counted(*args: Any, **more: Any) -> T:
            self.count += 1
            self.dead = self.dead or self.count == self._at
            if self.dead:
                raise Died
            return call(*args, **more)

        return counted


class Wired:
    def __init__(self, inner: Any, bomb: Bomb, names: frozenset[str]) -> None:
        self._inner, self._bomb, self._names = inner, bomb, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._bomb.around(found) if name in self._names else found


class Seen(Wired):
    """A lever: who is dead does not look either, and waits for nothing."""

    def __getattr__(self, name: str) -> Any:
        if self._bomb.dead:
            raise Died
        return super().__getattr__(name)


class Wiring:
    """The levers of `providers` (by the name of a lever's provider), as wiring would hand them
    out; each lever of several is one that the process can die before."""

    def __init__(self, providers: Mapping[str, Provider], bomb: Bomb, permit: Permit) -> None:
        patience = Patience(SystemRuntime(), attempts=2, first=0.01)
        self._providers = providers
        self._sources = {name: Retrying(provider, SystemRuntime(), permit=permit,
                                        patience=patience)
                         for name, provider in providers.items()}
        self._bomb = bomb

    def route_view(self, lever: LeverSpec) -> RouteView:
        if lever.several is not None:
            return self.route(lever)
        return cast(RouteView, Seen(self._sources[lever.provider].route_view(lever), self._bomb,
                                    ACTS))

    def route(self, lever: LeverSpec) -> Route:
        if lever.several is not None:
            return CombinedRoute(lever.several, [self.route(part) for part in lever.several.parts],
                                 self.capabilities)
        return cast(Route, Seen(self._sources[lever.provider].route(lever), self._bomb, ACTS))

    def announcement_view(self, lever: LeverSpec) -> AnnouncementView:
        return self._sources[lever.provider].announcement_view(lever)

    def announcement(self, lever: LeverSpec) -> Announcement:
        return cast(Announcement, Seen(self._sources[lever.provider].announcement(lever),
                                       self._bomb, ACTS))

    def capabilities(self, lever: LeverSpec) -> Capabilities:
        provider = self._providers[lever.provider]
        return provider.capabilities(provider.spec.params, {"ref": lever.ref, **lever.params})


class Stage:
    """Runs of one plan; a store for each."""

    def __init__(self, policy: Policy, providers: Mapping[str, Provider],
                 branches: Sequence[Branch]) -> None:
        self.policy, self._providers, self._branches = policy, providers, tuple(branches)

    def plan(self) -> Plan:
        steps = [step for branch in self._branches for step in branch.steps]
        shares = {branch.name: Shares({"hq": 100}).to_json() for branch in self._branches}
        scopes = {*(f"lever:{step.lever}" for step in steps if step.lever),
                  *(f"queue:{branch.name}" for branch in self._branches)}
        return Plan(
            runbook="full_failover", subject="hq", mode=Mode.REAL, policy_name=self.policy.name,
            policy_sha256=self.policy.sha256, reason="test", before=Branch("before", ()),
            branches=self._branches, after=Branch("after", ()), scopes=tuple(sorted(scopes)),
            shares_before=shares, shares_after=shares, findings=(), basis={})

    def begin(self) -> tuple[Store, str]:
        store = open_store(":memory:", SystemRuntime())
        run, lease = store.create_run(self.plan(), actor=this_process("dana"),
                                      ttl=self.policy.lease)
        store.lapse(lease)
        return store, run

    def go(self, store: Store, run: str, bomb: Bomb, *, back: bool) -> bool:
        """Whether it came to its end. Its lease ends with it, as it would after its time."""
        actor: Actor = this_process("dana")
        lease, _ = store.acquire(run, actor=actor, ttl=self.policy.lease)
        permit = Permit()
        hands = Hands(
            policy=self.policy, store=cast(Store, Wired(store, bomb, WRITES)),
            runtime=SystemRuntime(), permit=permit,
            levers=cast(Levers, Wiring(self._providers, bomb, permit)),
            make_step=_step, site_state=lambda site: "healthy",
            observe=lambda spec: Reading(spec.key, 0, Outcome.UNKNOWN, "nobody looks"),
            guard=lambda run, moves: ())
        try:
            Driver(fold(store.read(f"run:{run}")), lease, hands, actor=actor).go(back=back)
        except Died:
            store.lapse(lease)
            return False
        return True

    @staticmethod
    def state(store: Store, run: str) -> RunState:
        return fold(store.read(f"run:{run}")).phase


def _step(spec: StepSpec, context: StepContext) -> Step:
    return (Announce if spec.kind == "announce" else ShiftRoute)(spec, context)


def shifts(queue: str, lever: str, way: Sequence[Shares], **params: Json) -> list[StepSpec]:
    return [StepSpec(
        id=f"{queue}/{part}-shift_route", kind="shift_route", lever=lever, poll=0.05, deadline=5.0,
        params={"queue": queue, "to": to.to_json(), "soak": 0, "hold": 0, "part": part, **params},
        title=f"shift {queue}: {to}") for part, to in enumerate(way, 1)]


def policy_for(path: str, *levers: LeverSpec) -> Policy:
    """One whose queues have these levers: `loan_calls`, and `card_calls` for a second one."""
    policy, problems = check(path, Schemas(), now=SystemRuntime().now())
    assert policy is not None, problems
    queue = policy.queues["loan_calls"]
    names = ("loan_calls", "card_calls")
    return replace(policy, queues={
        name: replace(queue, name=name, route=lever)
        for name, lever in zip(names, levers, strict=False)})


TEXT = "version: 1\nname: restore\n" + EXAMPLE
