"""Who cannot be sure of the lease sends nothing, however often a call is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from ccfailover.errors import Fenced, StoreError, Unavailable
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.patience import Permit
from ccfailover.providers.wrappers import Retrying
from ccfailover.runbooks.drive import Driver, Hands
from ccfailover.runbooks.run import fold
from ccfailover.runbooks.step import Observed, Step, Truth
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.providers import SimulatedProvider
from ccfailover.store import Store, holder, open_store
from tests.unit.runbooks.stage import plan, spec

T = TypeVar("T")
LEASE = 30.0
CALL = 9.0
LEVER = LeverSpec("p", "r")


class Clock(SystemRuntime):
    """Only sleeping moves it, in every thread."""

    def __init__(self) -> None:
        self._lock, self._at = threading.Lock(), 1_000.0

    def now(self) -> int:
        return int(self._at * 1_000_000)

    def monotonic(self) -> float:
        return self._at

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._at += seconds

    def random(self) -> float:
        return 1.0


class Away:
    """A store that can be partitioned away, or made slow, from now on."""

    def __init__(self, inner: Store, clock: Clock) -> None:
        self._inner, self._clock = inner, clock
        self.gone, self.takes = False, 0.0
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._around(name, found) if name in ("append", "check_fence", "renew") else found

    def _around(self, name: str, call: Callable[..., T]) -> Callable[..., T]:
        def met(*args: Any, **more: Any) -> T:
            self.asked += name == "check_fence"
            self._clock.sleep(self.takes)
            if self.gone:
                raise StoreError("the database does not answer", not_done=name)
            return call(*args, **more)

        return met


class Deaf(Route):
    """Every write takes CALL seconds and is not answered, unless it `answers`; `began` says when
    each was sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.began: list[float] = []
        self.answers = False

    def read(self) -> RouteState:
        return RouteState(Shares({"hq": 100}))

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self.began.append(self._clock.monotonic())
        if self.answers:
            return
        self._clock.sleep(CALL)
        raise Unavailable("no answer", in_doubt=True)


class Platform(SimulatedProvider):
    TIMEOUT = CALL

    def __init__(self, route: Route, clock: Clock) -> None:
        super().__init__(ProviderSpec("p", "simulated", {}), resolve=str, runtime=clock,
                         platform=cast(Any, None))
        self._route = route

    def route(self, lever: LeverSpec) -> Route:
        return self._route


class Setting(Step):
    """Sets the route, after `before` was called."""

    kind = "test"
    summary = ""
    PARAMS = {}  # noqa: RUF012

    def __init__(self, spec: Any, ctx: Any, before: Callable[[], None],
                 looking: Callable[[], None]) -> None:
        super().__init__(spec, ctx)
        self._before, self._looking = before, looking

    @classmethod
    def bind(cls, binding: Any) -> list[Any]:
        return []

    def holds(self, snapshot: object) -> Observed:
        self._looking()
        return Observed(Truth.NO, "not so")

    def apply(self, snapshot: object) -> bool:
        self._before()
        self.ctx.levers.route(LEVER).shift(Shares({"acme": 100}), expected=None, key=self.ctx.key)
        return True

    def undo_holds(self, snapshot: object) -> Observed:
        return self.holds(snapshot)

    def undo(self, snapshot: object) -> bool:
        return self.apply(snapshot)


class Host:
    """One process that carries a run of one step."""

    def __init__(self, folder: Path, deadline: float = LEASE) -> None:
        self.clock = Clock()
        self.store = Away(open_store(str(folder / "store.db"), self.clock), self.clock)
        self.route = Deaf(self.clock)
        self.began = 0.0
        permit = Permit()
        retrying = Retrying(Platform(self.route, self.clock), self.clock, permit=permit)
        actor = holder.this_process("kim")
        what = plan(before=[spec("a", deadline=deadline)])
        self.run, lease = self.store.create_run(what, actor=actor, ttl=LEASE)
        self.before: Callable[[], None] = lambda: None
        self.looking: Callable[[], None] = lambda: None
        hands = Hands(
            policy=cast(Any, SimpleNamespace(lease=LEASE)), store=cast(Any, self.store),
            runtime=self.clock, levers=cast(Any, retrying), permit=permit,
            make_step=lambda spec, ctx: Setting(spec, ctx, self.act, self.looking),
            site_state=lambda name: "healthy", observe=cast(Any, None),
            guard=lambda run, moves: ())
        self.driver = Driver(fold(self.store.read(f"run:{self.run}")), lease, hands, actor=actor)

    def act(self) -> None:
        self.began = self.clock.monotonic()
        self.before()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_no_attempt_outlasts_the_lease_of_a_host_that_lost_the_store(host: Host) -> None:
    """Four attempts would take 37 s. The one that could end after the lease is not begun."""
    def cut() -> None:
        host.store.gone = True

    host.before = cut
    with pytest.raises(StoreError, match="does not answer"):
        host.driver.go(back=False)
    assert len(host.route.began) == 3
    assert max(host.route.began) + CALL <= host.began + LEASE


def test_a_look_at_the_fence_that_renews_nothing_promises_nothing_more(host: Host) -> None:
    """Five seconds of the lease are gone when the fence is looked at: the call that would end
    after the other twenty-five is not begun."""
    written = host.clock.monotonic()
    host.looking = lambda: host.clock.sleep(5.0)

    def cut() -> None:
        host.store.gone = True

    host.before = cut
    with pytest.raises(StoreError, match="does not answer"):
        host.driver.go(back=False)
    assert host.route.began[0] == written + 5.0
    assert max(host.route.began) + CALL <= written + LEASE


def test_while_the_store_answers_every_attempt_is_made(host: Host) -> None:
    """The lease is renewed before an attempt that it would not cover."""
    host.driver.go(back=False)
    assert len(host.route.began) == 4
    assert host.route.began[-1] + CALL > host.began + LEASE


def test_a_host_that_slept_through_its_lease_sends_nothing(host: Host) -> None:
    """Stopped between the check of the fence and the write: it asks anew, and is fenced."""
    host.before = lambda: host.clock.sleep(LEASE + 1)
    with pytest.raises(Fenced, match="ran out"):
        host.driver.go(back=False)
    assert host.route.began == []


def test_an_answer_that_comes_too_late_is_none(host: Host) -> None:
    """The store renewed the lease, but so long ago that we cannot know it lasts."""
    def slow() -> None:
        host.clock.sleep(LEASE - 1)
        host.store.takes = LEASE - 2

    host.before = slow
    with pytest.raises(Fenced, match=r"took so long|ran out"):
        host.driver.go(back=False)
    assert host.route.began == []


def test_who_is_fenced_while_waiting_does_not_wait_on(tmp_path: Path) -> None:
    """A step that only looks asks no fence: the heartbeat's word ends it, long before its time."""
    host = Host(tmp_path, deadline=1e6)
    host.route.began, host.route.answers = [], True
    with pytest.raises(Fenced, match="ran out"):
        host.driver.go(back=False)
    assert len(host.route.began) == 1
    assert host.clock.monotonic() - host.began < 9e5


def test_a_call_that_the_lease_covers_costs_no_question(host: Host) -> None:
    """Between the check of the fence and the first write the store is not asked again."""
    asked = []

    def note() -> None:
        asked.append(host.store.asked)
        host.store.gone = True

    host.before = note
    with pytest.raises(StoreError):
        host.driver.go(back=False)
    assert asked == [1]
    assert host.store.asked == 2  # and only once it was needed
