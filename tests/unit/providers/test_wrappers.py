"""Patience has bounds, a dry run writes nothing, a drill has no levers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ccfailover.errors import Refused, Rejected, Unavailable
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers.wrappers import DryRun, Patience, Retrying, ViewsOnly
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.platform import Fault, SimulatedPlatform
from ccfailover.simulation.providers import SimulatedProvider

LEVER, JOBS = LeverSpec("p", "r"), LeverSpec("p", "jobs")


class Still(SystemRuntime):
    """A clock that only sleeping moves, and chance at its highest."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> int:
        return int(sum(self.slept) * 1_000_000)

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def random(self) -> float:
        return 1.0


@pytest.fixture
def runtime() -> Still:
    return Still()


@pytest.fixture
def platform(runtime: Still) -> SimulatedPlatform:
    platform = SimulatedPlatform(runtime, "p")
    platform.add_route("r", {"hq": 100})
    platform.add_gate("r", is_open=True)
    platform.add_queue("jobs")
    platform.add_queue("jobs.fifo")
    return platform


@pytest.fixture
def provider(platform: SimulatedPlatform, runtime: Still) -> SimulatedProvider:
    return SimulatedProvider(ProviderSpec("p", "simulated", {}), resolve=str, runtime=runtime,
                             platform=platform)


def items(count: int) -> list[WorkItem]:
    return [WorkItem(f"U{n}", "m", b"{}", {}, "") for n in range(count)]


def keys(count: int) -> dict[str, str]:
    return {f"U{n}": f"U{n}:r1:0" for n in range(count)}


def test_the_wait_doubles_up_to_its_longest(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """0.2, 0.4, 0.8 … and never longer than `longest`; the last error is raised as it is."""
    platform.fail("read", Fault.BEFORE, 99)
    route = Retrying(provider, runtime, patience=Patience(
        runtime, attempts=6, first=0.2, longest=1.0)).route(LEVER)
    with pytest.raises(Unavailable, match="unreachable"):
        route.read()
    assert runtime.slept == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])
    assert len(platform.calls) == 6


def test_retry_after_is_obeyed(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """A platform that says when to come back is not asked earlier."""
    platform.fail("read", Fault.THROTTLED)
    assert Retrying(provider, runtime).route(LEVER).read().shares == Shares({"hq": 100})
    assert runtime.slept == [2.0]


def test_no_call_begins_after_the_total(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """Waiting that would pass the total bound is not begun."""
    platform.fail("read", Fault.THROTTLED, 99)
    route = Retrying(provider, runtime, patience=Patience(
        runtime, attempts=99, total=5.0)).route(LEVER)
    with pytest.raises(Unavailable) as caught:
        route.read()
    assert caught.value.retry_after == 2.0
    assert runtime.slept == [2.0, 2.0]


def test_what_is_permanent_is_not_repeated(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """Rejected is Rejected: once."""
    platform.fail("shift", Fault.REJECTED)
    with pytest.raises(Rejected):
        Retrying(provider, runtime).route(LEVER).shift(
            Shares({"acme": 100}), expected=None, key="k")
    assert platform.calls == ["shift r"] and runtime.slept == []


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER, Fault.LOST, Fault.THROTTLED])
def test_every_transient_fault_is_outlasted(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider,
        fault: Fault) -> None:
    """Absolute writes are repeated, also when the first one may have landed."""
    patient = Retrying(provider, runtime)
    before = patient.route_view(LEVER).read()
    platform.fail("shift", fault)
    patient.route(LEVER).shift(Shares({"acme": 100}), expected=before, key="k")
    assert platform.shares("r") == Shares({"acme": 100})
    platform.fail("set_open", fault)
    patient.gate(LEVER).set_open(False, key="k")
    assert not platform.is_open("r")
    assert not patient.gate_view(LEVER).is_open()


def test_only_what_failed_is_put_again(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """After a partial failure the delivered items are not sent once more."""
    platform.fail("put", Fault.PARTIAL)
    results = Retrying(provider, runtime).backlog(JOBS).put(items(4), keys=keys(4))
    assert [(r.item_id, r.ok) for r in results] == [(f"U{n}", True) for n in range(4)]
    assert sorted(m.item_id for m in platform.messages("jobs")) == ["U0", "U1", "U2", "U3"]


def test_doubt_stays_doubt_on_a_platform_without_idempotent_put(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """A put that may have landed is not repeated there; where it is idempotent, it is."""
    platform.fail("put", Fault.AFTER)
    results = Retrying(provider, runtime).backlog(JOBS).put(items(2), keys=keys(2))
    assert all(r.in_doubt and not r.ok for r in results)
    assert platform.calls == ["put jobs"]
    platform.fail("put", Fault.AFTER)
    fifo = LeverSpec("p", "jobs.fifo")
    results = Retrying(provider, runtime).backlog(fifo).put(items(2), keys=keys(2))
    assert all(r.ok and not r.in_doubt for r in results)
    assert len(platform.messages("jobs.fifo")) == 2


def test_doubt_is_not_forgotten_when_a_later_attempt_fails_plainly(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """Lost reply, then throttled until patience ends: the items may be there, and it says so."""
    platform.fail("put", Fault.AFTER)
    platform.fail("put", Fault.THROTTLED, 99)
    results = Retrying(provider, runtime).backlog(LeverSpec("p", "jobs.fifo")).put(
        items(2), keys=keys(2))
    assert all(r.in_doubt and not r.ok for r in results)


def test_settling_is_repeated_for_what_was_not_deleted(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """Deleting twice is harmless, and a source that stays dead ends in False, not in an error."""
    backlog = Retrying(provider, runtime).backlog(JOBS)
    backlog.put(items(2), keys=keys(2))
    handles = [item.handle for item in backlog.claim(10)]
    platform.fail("settle", Fault.BEFORE)
    assert backlog.settle(handles) == dict.fromkeys(handles, True)
    assert platform.messages("jobs") == []
    platform.fail("settle", Fault.BEFORE, 99)
    assert backlog.settle(["h"]) == {"h": False}


def test_a_claim_is_repeated_only_when_nothing_was_taken(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """Unreachable: again. Reply lost: not again, receive counts may have risen already."""
    provider.backlog(JOBS).put(items(1), keys=keys(1))
    patient = Retrying(provider, runtime).backlog(JOBS)
    platform.fail("claim", Fault.AFTER)
    with pytest.raises(Unavailable):
        patient.claim(10)
    assert [m.receives for m in platform.messages("jobs")] == [1]
    runtime.sleep(patient.claim_seconds + 1)
    platform.fail("claim", Fault.BEFORE)
    [item] = patient.claim(10)
    assert item.receives == 2


def test_a_dry_run_tells_and_pretends(
        platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """Routes and gates read as if written, across levers of one rehearsal; nothing is."""
    said: list[str] = []
    rehearsal = DryRun(provider, said.append)
    rehearsal.route(LEVER).shift(Shares({"acme": 100}), expected=None, key="k")
    rehearsal.gate(LEVER).set_open(False, key="k")
    assert rehearsal.route_view(LEVER).read().shares == Shares({"acme": 100})
    assert not rehearsal.gate_view(LEVER).is_open()
    backlog = rehearsal.backlog(JOBS)
    assert backlog.claim(5) == [] and backlog.settle(["h"]) == {"h": False}
    with pytest.raises(Refused):
        backlog.put(items(1), keys=keys(1))
    assert said == ["would set p:r to acme 100 %", "would close p:r",
                    "would claim up to 5 items of p:jobs"]
    assert platform.shares("r") == Shares({"hq": 100}) and platform.is_open("r")
    assert not [c for c in platform.calls if c.split()[0] in ("shift", "set_open", "put", "claim")]


@pytest.mark.parametrize("ask", [
    lambda views: views.route(LEVER), lambda views: views.gate(LEVER),
    lambda views: views.backlog(JOBS),
])
def test_a_drill_is_refused_every_lever(
        provider: SimulatedProvider, ask: Callable[[ViewsOnly], object]) -> None:
    """Whichever lever a step asks for: Refused by the guard `drill`, exit code 4."""
    with pytest.raises(Refused) as caught:
        ask(ViewsOnly(provider))
    assert caught.value.guard == "drill" and int(caught.value.exit_code) == 4


def test_a_drill_over_patience_still_only_reads(
        runtime: Still, platform: SimulatedPlatform, provider: SimulatedProvider) -> None:
    """Wrappers stack: reads are repeated, views have nothing to write with."""
    views = ViewsOnly(Retrying(provider, runtime))
    platform.fail("is_open", Fault.BEFORE)
    gate = views.gate_view(LEVER)
    assert gate.is_open() and not hasattr(gate, "set_open")
    assert views.backlog_view(JOBS).measure().depth == 0
    views.close()
