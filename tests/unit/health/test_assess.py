"""assess.py: hysteresis of one probe, quorum of several, staleness, dependencies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfailover.health.assess import assess, step
from ccfailover.model.health import Outcome, ProbeHistory, Reading, State
from ccfailover.model.policy import ProbeSpec
from ccfailover.model.shares import Shares
from ccfailover.runtime import SECOND

G, W, B, U = Outcome.GOOD, Outcome.WARN, Outcome.BAD, Outcome.UNKNOWN
LETTERS = {"G": G, "W": W, "B": B, "U": U}


def spec(fall: int = 3, rise: int = 2) -> ProbeSpec:
    return ProbeSpec("k", "http", 10.0, 5.0, fall, rise, "controller", {})


def run(outcomes: str, fall: int = 3, rise: int = 2) -> list[ProbeHistory]:
    history: ProbeHistory | None = None
    found = []
    for at, letter in enumerate(outcomes, 1):
        history = step(history, Reading("k", at, LETTERS[letter], ""), spec(fall, rise))
        found.append(history)
    return found


@pytest.mark.parametrize(("seen", "settled"), [
    ("G", "G"), ("W", "W"), ("B", "U"), ("U", "U"),
    ("BB", "U"), ("BBB", "B"), ("GBB", "G"), ("GBBB", "B"), ("GBBGBB", "G"),
    ("GBBBG", "B"), ("GBBBGG", "G"), ("GBBBGBG", "B"), ("GBBBGW", "W"), ("GBBBWG", "W"),
    ("GWW", "G"), ("GWWW", "W"), ("GWBW", "W"), ("GWBBB", "B"), ("WG", "W"), ("WGG", "G"),
    ("GBUB", "G"), ("GBUUB", "G"), ("GBUBUB", "B"), ("GUU", "G"), ("GUUU", "U"),
    ("GUUUG", "U"), ("GUUUGG", "G"), ("GBBUUUB", "U"), ("GBBUUUBBB", "B"),
    ("BBBU", "B"), ("BBBUUU", "U"), ("BBBUUUG", "U"), ("BBBUUUGG", "G"),
    ("BGG", "W"), ("BGGGG", "G"), ("BGBG", "W"), ("BUUUBB", "U"),
])
def test_hysteresis(seen: str, settled: str) -> None:
    """The table of what is settled after a series of readings (fall 3, rise 2)."""
    assert run(seen)[-1].settled is LETTERS[settled], [one.settled.value for one in run(seen)]


series = st.text("GWBU", min_size=1, max_size=40)


@given(series, st.integers(2, 5), st.integers(1, 4))
def test_down_always_costs_fall_bad_readings(seen: str, fall: int, rise: int) -> None:
    """Whenever BAD becomes settled, the last `fall` readings that knew anything were BAD, and no
    silence long enough to forget lay between."""
    before = U
    for index, history in enumerate(run(seen, fall, rise)):
        if history.settled is B and before is not B:
            known = [letter for letter in seen[: index + 1] if letter != "U"]
            assert known[-fall:] == ["B"] * fall
        before = history.settled


@given(series, st.integers(1, 5), st.integers(1, 4))
def test_unknown_never_makes_healthy(seen: str, fall: int, rise: int) -> None:
    """An UNKNOWN reading never moves a verdict anywhere but to UNKNOWN; GOOD is only ever settled
    by a GOOD reading, down left only after `rise` readings that are not BAD."""
    histories = run(seen, fall, rise)
    for index in range(1, len(histories)):
        old, new, letter = histories[index - 1].settled, histories[index].settled, seen[index]
        if letter == "U":
            assert new in (old, U)
        if new is G and old is not G:
            assert letter == "G"
        if old is B and new in (G, W):
            known = [one for one in seen[: index + 1] if one != "U"]
            assert "B" not in known[-rise:]


@given(st.text("U", max_size=20), st.integers(1, 5))
def test_nothing_known_is_unknown(seen: str, fall: int) -> None:
    """However often nobody could tell: unknown."""
    assert all(one.settled is U for one in run(seen, fall))


@given(series)
def test_enough_of_one_outcome_always_settles_it(seen: str) -> None:
    """From whatever past, a long run of one outcome is what is settled in the end."""
    for letter, outcome in LETTERS.items():
        assert run(seen + letter * 12)[-1].settled is outcome


def test_a_reading_that_is_not_newer_changes_nothing() -> None:
    """Two overlapping polls count one fault once."""
    history = run("GB")[-1]
    assert step(history, Reading("k", 2, B, ""), spec()) is history
    assert step(history, Reading("k", 1, B, ""), spec()) is history


def test_the_bounds_of_a_fault() -> None:
    """The fault began after the last good and by the first bad reading; a good reading in the
    middle of a fault moves neither, recovery ends it."""
    bounds = [(one.last_good, one.first_bad) for one in run("GGBBBGBGG")]
    assert bounds == [(1, None), (2, None), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3),
                      (9, None)]
    assert [(one.last_good, one.first_bad) for one in run("GBG")][-1] == (3, None)
    assert (run("BBB")[-1].last_good, run("BBB")[-1].first_bad) == (None, 1)
    assert run("GBBBUUU")[-1].first_bad == 2


@pytest.mark.parametrize(("near", "far", "state", "down"), [
    ("BBB", "BBB", State.DOWN, ("controller", "far")),
    ("BBB", "", State.DOWN, ("controller",)),
    ("BBB", "UUU", State.DOWN, ("controller",)),
    ("BBB", "G", State.DEGRADED, ("controller",)),
    ("BBB", "W", State.DEGRADED, ("controller",)),
    ("G", "W", State.DEGRADED, ()),
    ("G", "BB", State.HEALTHY, ()),
    ("G", "", State.HEALTHY, ()),
    ("", "", State.UNKNOWN, ()),
    ("BB", "", State.UNKNOWN, ()),
    ("UUU", "UUU", State.UNKNOWN, ()),
])
def test_quorum_of_two_observers(scene: Any, near: str, far: str, state: State,
                                 down: tuple[str, ...]) -> None:
    """One witness who knows is enough; a good one contradicts a bad one; silence is no witness."""
    scene.saw("site.hq.0", *[LETTERS[one] for one in near])
    scene.saw("site.hq.1", *[LETTERS[one] for one in far])
    found = assess(scene.policy, scene.histories, scene.now).sites["hq"]
    assert (found.state, found.observers_down) == (state, down)
    assert found.reason


@pytest.mark.parametrize(("http", "tcp", "state"), [
    ("G", "G", State.HEALTHY), ("G", "", State.UNKNOWN), ("BBB", "G", State.DEGRADED),
    ("BBB", "", State.DOWN), ("BBB", "BBB", State.DOWN), ("W", "", State.DEGRADED),
])
def test_the_probes_of_one_observer_are_sides_of_one_thing(scene: Any, http: str, tcp: str,
                                                           state: State) -> None:
    """All sides must be seen good; a side that nobody sees is not taken for good."""
    acme = scene.policy.sites["acme"]
    both = (acme.probes[0], ProbeSpec("site.acme.1", "tcp", 10, 5, 3, 2, "controller", {}))
    sites = {**scene.policy.sites,
             "acme": type(acme)(**{**acme.__dict__, "probes": both})}
    scene.change(sites=sites)
    scene.saw("site.acme.0", *[LETTERS[one] for one in http])
    scene.saw("site.acme.1", *[LETTERS[one] for one in tcp])
    assert assess(scene.policy, scene.histories, scene.now).sites["acme"].state is state


@pytest.mark.parametrize(("later", "state"), [(30, State.HEALTHY), (31, State.UNKNOWN),
                                              (-31, State.UNKNOWN), (10_000, State.UNKNOWN)])
def test_stale_is_unknown(scene: Any, later: int, state: State) -> None:
    """After three intervals without a reading nobody knows any more; nor of the future."""
    scene.saw("site.acme.0", G)
    found = assess(scene.policy, scene.histories, scene.now + later * SECOND)
    assert found.sites["acme"].state is state


def test_what_a_slow_look_read_first_is_not_stale_at_its_end(scene: Any) -> None:
    """On a busy machine a look may take longer than an impatient probe's readings last."""
    scene.saw("site.acme.0", G)
    late = scene.now + 33 * SECOND
    assert assess(scene.policy, scene.histories, late).sites["acme"].state is State.UNKNOWN
    assert assess(scene.policy, scene.histories, late, slack=4.0).sites["acme"].state \
        is State.HEALTHY


def test_a_stale_down_is_unknown_too(scene: Any) -> None:
    """Missing, stale or null is never down either."""
    scene.saw("site.acme.0", B, B, B)
    found = assess(scene.policy, scene.histories, scene.now + 60 * SECOND).sites["acme"]
    assert (found.state, found.observers_down) == (State.UNKNOWN, ())
    assert "60 s ago" in found.reason


def test_a_dependency_that_is_down_degrades_who_stands_on_it(scene: Any) -> None:
    """Healthy becomes degraded and says why; under home and every backup: treat, don't shift."""
    scene.saw("site.hq.0", G).saw("site.acme.0", G).saw("dependency.vpn.0", B, B, B)
    world = assess(scene.policy, scene.histories, scene.now)
    assert (world.sites["hq"].state, world.sites["acme"].state) == \
        (State.DEGRADED, State.HEALTHY)
    assert "vpn is down" in world.sites["hq"].reason
    assert world.treat_only == {}
    scene.saw("dependency.los.0", B, B, B)
    world = assess(scene.policy, scene.histories, scene.now)
    assert world.sites["acme"].state is State.DEGRADED
    assert world.treat_only == {"calls": ("los",), "loans": ("los",)}


def test_an_unknown_site_stays_unknown_over_a_broken_dependency(scene: Any) -> None:
    """A dependency's fault does not stand in for a look at the site."""
    scene.saw("dependency.los.0", B, B, B)
    found = assess(scene.policy, scene.histories, scene.now).sites["acme"]
    assert found.state is State.UNKNOWN
    assert "los is down" in found.reason


def test_a_site_without_probes_is_unknown(scene: Any) -> None:
    """Nobody looks: unknown, not healthy."""
    acme = scene.policy.sites["acme"]
    bare = type(acme)(**{**acme.__dict__, "probes": ()})
    scene.change(sites={**scene.policy.sites, "acme": bare})
    found = assess(scene.policy, {}, scene.now).sites["acme"]
    assert (found.state, found.since) == (State.UNKNOWN, None)


def test_the_fault_bounds_of_several_probes(scene: Any) -> None:
    """By the earliest bad reading, after the latest good one before it."""
    scene.saw("site.hq.0", G, G, B, B, B).saw("site.hq.1", G, B, B, B)
    found = assess(scene.policy, scene.histories, scene.now).sites["hq"]
    assert (found.last_good, found.first_bad) == \
        (scene.now - 30 * SECOND, scene.now - 20 * SECOND)


def test_queues_show_only_what_is_known_now(scene: Any) -> None:
    """Shares and depths come from the last reading; failed, stale or missing is None, not 0."""
    scene.saw("queue.calls.route", G, shares={"hq": 70, "acme": 30})
    scene.saw("queue.loans.intake", G, shares={"acme": 100})
    scene.saw("queue.loans.backlog.hq", G, values={"depth": 12.0, "oldest_s": 5.5})
    scene.saw("queue.loans.backlog.acme", G, values={"depth": 0.0})
    world = assess(scene.policy, scene.histories, scene.now)
    assert world.queues["calls"].shares == Shares({"hq": 70, "acme": 30})
    assert world.queues["calls"].shares_at == scene.now
    loans = world.queues["loans"]
    assert (loans.shares, loans.intake) == (None, Shares({"acme": 100}))
    assert (dict(loans.depth), dict(loans.oldest_s)) == \
        ({"hq": 12, "acme": 0}, {"hq": 5.5, "acme": None})
    stale = assess(scene.policy, scene.histories, scene.now + 91 * SECOND)
    assert stale.queues["calls"].shares is None
    assert dict(stale.queues["loans"].depth) == {"hq": None, "acme": None}
    scene.now += SECOND
    scene.saw("queue.loans.backlog.hq", U)
    assert assess(scene.policy, scene.histories, scene.now).queues["loans"].depth["hq"] is None
