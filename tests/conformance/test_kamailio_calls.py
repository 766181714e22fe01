"""The shipped Kamailio configuration with calls: who gets them, and what becomes of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route
from ccfailover.providers.kamailio import KamailioProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import until
from tests.servers.kamailio import Kamailio
from tests.servers.sip import Caller, Site

SETS = {"hq": 10, "acme": 20, "message": 30}


class Centre:
    """Three sites, each with a set of its own, and a caller."""

    def __init__(self, edge: Kamailio, stack: ExitStack) -> None:
        self.edge = edge
        self.sites = {name: stack.enter_context(Site(f"127.0.0.{11 + place}"))
                      for place, name in enumerate(SETS)}
        edge.load(*(f"{SETS[name]} {site.uri} 0 0 site={name}"
                    for name, site in self.sites.items()))
        edge.rpc("htable.flush", "cnt")
        edge.rpc("htable.sets", "split", "loan_calls", "10=100;20=0;30=0;v=start")
        self.caller = stack.enter_context(Caller(edge.sip_port))

    def route(self, ref: str = "loan_calls") -> Route:
        params = {"socket": str(self.edge.socket), "destinations": SETS, "counters": "cnt",
                  "profile": "route"}
        return KamailioProvider(ProviderSpec("edge", "kamailio", params), resolve=str,
                                runtime=SystemRuntime()).route(LeverSpec("edge", ref))

    def counts(self) -> dict[str, int]:
        """Calls that reached each site, by its own count; since the last time it was asked."""
        found = {name: len(site.calls) for name, site in self.sites.items()}
        for site in self.sites.values():
            site.calls.clear()
        return found


@pytest.fixture
def centre(kamailio: Kamailio) -> Iterator[Centre]:
    with ExitStack() as stack:
        yield Centre(kamailio, stack)


def test_the_shipped_configuration_is_accepted(require_server: Callable[[str], str]) -> None:
    """`kamailio -c` has nothing to say against it, and the edge starts without an error."""
    edge = Kamailio(require_server("kamailio"))
    try:
        edge.start()
        done = subprocess.run(edge.command("-c"), capture_output=True, text=True, timeout=60)
        assert "config file ok" in done.stderr + done.stdout
        for said in (done.stderr, edge.log()):
            assert "ERROR" not in said and "CRITICAL" not in said, said
    finally:
        edge.discard()


def test_calls_go_by_the_shares_and_calls_in_progress_stay(centre: Centre) -> None:
    """A shift moves new calls, all of them; what was there before ends at the site where it is."""
    route = centre.route()
    assert centre.caller.call(20) == [200] * 20
    assert centre.counts() == {"hq": 20, "acme": 0, "message": 0}
    before = route.read()
    assert before.shares == Shares({"hq": 100})
    route.shift(Shares({"acme": 100}), expected=before, key="r/s")
    assert centre.caller.call(20) == [200] * 20
    assert centre.counts() == {"hq": 0, "acme": 20, "message": 0}
    until(lambda: route.measure() == {"answered.hq": 20.0, "answered.acme": 20.0})
    assert route.live() == {"hq": 20, "acme": 20, "message": 0}
    assert centre.caller.hang_up() == 40
    until(lambda: route.live() == {"hq": 0, "acme": 0, "message": 0})


def test_three_sites_get_their_shares(centre: Centre) -> None:
    """400 calls at 50, 30 and 20 %: each site within five standard deviations of its share."""
    centre.route().shift(Shares({"hq": 50, "acme": 30, "message": 20}), expected=None, key="k")
    assert [*centre.caller.call(200), *centre.caller.call(200)] == [200] * 400
    counts = centre.counts()
    assert sum(counts.values()) == 400
    for name, percent in {"hq": 50, "acme": 30, "message": 20}.items():
        share = percent / 100
        assert abs(counts[name] - 400 * share) < 5 * (400 * share * (1 - share)) ** 0.5, counts


def test_a_dead_site_costs_no_new_call(centre: Centre) -> None:
    """Nobody listens at hq any more: its calls go on to the next in line, probed or not, and are
    counted as rerouted; once the probes know, they are not even tried there."""
    centre.sites["hq"].close()
    assert centre.caller.call(20) == [200] * 20
    assert centre.counts() == {"hq": 0, "acme": 20, "message": 0}
    assert centre.route().measure()["rerouted"] == 20
    until(lambda: [state[0] for state, _ in centre.edge.destinations(10).values()] == ["I"])
    assert centre.caller.call(5) == [200] * 5
    assert centre.route().measure()["rerouted"] == 20


def test_a_queue_without_a_spill_list_never_leaves(centre: Centre) -> None:
    """Its site is dead, and its calls are told so and counted as lost: not one goes elsewhere."""
    centre.edge.rpc("htable.sets", "queue", "18005550199", "fraud")
    centre.edge.rpc("htable.sets", "split", "fraud", "10=100;20=0;30=0;v=start")
    assert centre.caller.call(5, "18005550199") == [200] * 5
    centre.sites["hq"].close()
    until(lambda: [state[0] for state, _ in centre.edge.destinations(10).values()] == ["I"])
    assert centre.caller.call(5, "18005550199") == [503] * 5
    assert centre.counts() == {"hq": 5, "acme": 0, "message": 0}
    assert centre.route("fraud").measure() == {"answered.hq": 5.0, "lost": 5.0}


def test_busy_is_an_answer(centre: Centre) -> None:
    """A site that says 486 has spoken; one that says 500 has trouble, and the next one is asked."""
    centre.sites["hq"].refuses = "486 Busy Here"
    assert centre.caller.call(3) == [486] * 3
    centre.sites["hq"].refuses = "500 Server Internal Error"
    assert centre.caller.call(3) == [200] * 3
    assert centre.counts() == {"hq": 6, "acme": 3, "message": 0}


def test_a_site_that_is_slow_to_hear_a_hang_up_cuts_nothing(centre: Centre) -> None:
    """A second is for new calls, which another site can take. Inside a call nobody else can answer:
    the edge says it again, and the third time is soon enough."""
    assert centre.caller.call(5) == [200] * 5
    centre.sites["hq"].misses = 2
    assert centre.caller.hang_up() == 5


def test_after_a_restart_the_edge_has_what_its_configuration_says(
        require_server: Callable[[str], str]) -> None:
    """What was set is gone, the route says so, and its version shows that it is another edge."""
    edge = Kamailio(require_server("kamailio"))
    try:
        edge.start()
        params = {"socket": str(edge.socket), "destinations": SETS}
        route = KamailioProvider(ProviderSpec("edge", "kamailio", params), resolve=str,
                                 runtime=SystemRuntime()).route(LeverSpec("edge", "loan_calls"))
        first = route.read()
        route.shift(Shares({"acme": 100}), expected=first, key="r/s")
        moved = route.read()
        assert moved.shares == Shares({"acme": 100})
        assert moved.boot == first.boot is not None
        until(lambda: int(edge.rpc("core.uptime")["uptime"]) >= 1)  # it counts whole seconds
        edge.stop()
        edge.start()
        again = route.read()
        assert again.shares == Shares({"hq": 100})
        assert again.version not in (first.version, moved.version)
        assert again.boot not in (first.boot, None)
        route.shift(Shares({"acme": 100}), expected=again, key="r/s2")
        assert route.read().shares == Shares({"acme": 100})
    finally:
        edge.discard()
