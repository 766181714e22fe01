"""The simulated platform: virtual time, faults that lie, and finding it by name."""

from __future__ import annotations

from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.platform import Fault, SimulatedPlatform
from ccfailover.simulation.providers import SimulatedProvider, register


class Virtual(SystemRuntime):
    def __init__(self) -> None:
        self.micros = 0

    def now(self) -> int:
        return self.micros


def provider(platform: SimulatedPlatform) -> SimulatedProvider:
    return SimulatedProvider(ProviderSpec("p", "simulated", {}), resolve=str,
                             runtime=platform.runtime, platform=platform)


def test_claims_and_deduplication_run_in_virtual_time() -> None:
    """No real clock: a claim ends, and a key is forgotten after 300 s, when the Runtime says."""
    runtime = Virtual()
    platform = SimulatedPlatform(runtime)
    platform.add_queue("q.fifo")
    backlog = provider(platform).backlog(LeverSpec("p", "q.fifo", {"claim_seconds": 30}))
    item = WorkItem("U1", "m", b'{"id": "U1"}', {}, "")
    for _ in range(2):
        backlog.put([item], keys={"U1": "k"})
    assert len(backlog.claim(10)) == 1 and not backlog.claim(10)
    runtime.micros += 30_000_000
    assert backlog.measure().oldest_s == 30.0
    assert len(backlog.claim(10)) == 1
    runtime.micros += 271_000_000
    backlog.put([item], keys={"U1": "k"})
    assert len(platform.messages("q.fifo")) == 2


def test_a_group_in_somebody_s_hands_is_passed_over() -> None:
    """FIFO: the second message of a group waits until the first is settled."""
    platform = SimulatedPlatform(Virtual())
    platform.add_queue("q.fifo")
    for body in (b'{"id": "U1"}', b'{"id": "U2"}'):
        platform.send("q.fifo", body, {":group": "g"})
    backlog = provider(platform).backlog(LeverSpec("p", "q.fifo"))
    [first] = backlog.claim(1)
    assert backlog.claim(1) == []
    backlog.settle([first.handle])
    assert [item.item_id for item in backlog.claim(1)] == ["U2"]


def test_a_platform_can_lie_in_its_read_back_and_ignore_a_write() -> None:
    """For tests of truthfulness: "200 OK" without effect, and reads that say otherwise."""
    platform = SimulatedPlatform(Virtual())
    platform.add_route("r", {"hq": 100})
    route = provider(platform).route(LeverSpec("p", "r"))
    platform.fail("shift", Fault.IGNORED)
    route.shift(Shares({"acme": 100}), expected=None, key="k")
    assert platform.shares("r") == Shares({"hq": 100}) == route.read().shares
    platform.lie("r", {"acme": 100})
    assert route.read().shares == Shares({"acme": 100})
    assert platform.shares("r") == Shares({"hq": 100})
    platform.lie("r", None)
    assert route.read().shares == Shares({"hq": 100})


def test_a_policy_finds_a_registered_platform_by_name() -> None:
    """Several providers of one process share it; an unknown name gets one of its own."""
    platform = register(SimulatedPlatform(Virtual(), "world-1"))
    spec = ProviderSpec("edge", "simulated", {"platform": "world-1"})
    other = ProviderSpec("edge", "simulated", {})
    found, alone = (SimulatedProvider(s, resolve=str, runtime=platform.runtime)
                    for s in (spec, other))
    assert found.platform is platform and alone.platform is not platform
