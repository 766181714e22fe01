"""Several levers for one queue, one lever for several queues: plans, leases, runs and read-back.

The real planner, engine, driver, steps and store on simulated platforms, in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Refused, Rejected, Unavailable
from ccfailover.model.plan import Mode
from ccfailover.model.shares import Shares
from ccfailover.operations import prepare, runs
from ccfailover.providers import Route
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from ccfailover.runbooks.shared import together
from ccfailover.simulation.platform import Fault
from tests.unit.operations.room import Room

TUESDAY = "2026-10-20 14:00"
SITES = ["hq", "annex", "acme", "nightline", "message", "callback"]
ALWAYS = 10_000


def several(combine: str, *, dns: Mapping[str, Any] | None = None,
            first: str = "edge", **more: Any) -> Callable[[dict[str, Any]], None]:
    """loan_calls on edge and dns; `first` is the one that comes first."""
    def change(policy: dict[str, Any]) -> None:
        policy["providers"]["dns"] = {"kind": "simulated", "destinations": SITES, **(dns or {})}
        levers = [{"provider": "edge", "ref": "loan_calls"}, {"provider": "dns", "ref": "sip"}]
        policy["queues"]["loan_calls"]["route"] = {
            "combine": combine, "levers": levers if first == "edge" else levers[::-1], **more}
        queue = policy["queues"]["loan_calls"]
        queue.pop("shift")
        queue.update(backups=["acme"], load={"per_hour": 50})
        # In this room one waits after the other, so that what was seen of hq is old in the end.
        policy["guards"].pop("max_step")

    return change


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    made: list[Room] = []

    def room(change: Callable[[dict[str, Any]], None], **states: str) -> Room:
        made.append(Room(tmp_path, TUESDAY, change, states))
        return made[-1]

    yield room
    for each in made:
        each.close()


def at(room: Room) -> tuple[dict[str, int], dict[str, int]]:
    """(edge, dns): where they really stand."""
    return (room.platforms["edge"].shares("loan_calls").to_json(),
            room.platforms["dns"].shares("sip").to_json())


def route(room: Room) -> Route:
    lever = room.policy.queues["loan_calls"].route
    assert lever is not None
    return room.levers(Mode.REAL).route(lever)


def act(room: Room, request: Request) -> runs.RunOutcome:
    ready = prepare.prepare(room.desk, request)
    return runs.start(room.desk, ready, confirmed="test")


FAILOVER = Request("full_failover", "hq", "power", queues=("loan_calls",))


def dark(room: Room, name: str, times: int = ALWAYS) -> None:
    """Nothing reaches this platform."""
    for operation in ("read", "shift", "measure"):
        room.platforms[name].fail(operation, Fault.BEFORE, times)


def test_the_first_carries_and_its_fall_back_rests(make: Callable[..., Room]) -> None:
    """Nothing is amiss, so that nothing is told; the lease covers both."""
    room = make(several("replace"), hq="down")
    done = act(room, FAILOVER)
    assert done.state is RunState.SUCCEEDED, done.run.exceptions()
    assert at(room) == ({"acme": 100}, {"hq": 100})
    assert {"lever:edge:loan_calls", "lever:dns:sip"} <= set(done.run.plan.scopes)


def test_the_fall_back_takes_over_and_the_run_says_so(make: Callable[..., Room]) -> None:
    """edge is dark: dns carries, and the run is not plainly succeeded."""
    room = make(several("replace"), hq="down")
    dark(room, "edge")
    done = act(room, FAILOVER)
    assert done.state is RunState.SUCCEEDED_WITH_EXCEPTIONS
    assert at(room) == ({"hq": 100}, {"acme": 100})
    assert any("dns:sip carries in place of edge:loan_calls" in text
               for text in done.run.exceptions())


def test_what_returns_does_not_carry_until_it_is_told_to(make: Callable[..., Room]) -> None:
    """edge is back and reads hq, dns is away from its rest: dns is believed. The next write goes
    to edge, and brings dns back to its rest."""
    room = make(several("replace"))
    room.platforms["dns"].add_route("sip", Shares({"acme": 100}))
    state = route(room).read()
    assert (state.shares, state.by) == (Shares({"acme": 100}), "dns:sip")
    assert "edge:loan_calls reads hq 100 %" in state.amiss[0]
    route(room).shift(Shares({"hq": 90, "acme": 10}), expected=state, key="k")
    assert at(room) == ({"hq": 90, "acme": 10}, {"hq": 100})
    after = route(room).read()
    assert (after.shares, after.by, after.amiss) == (
        Shares({"hq": 90, "acme": 10}), "edge:loan_calls", ())


def test_a_refused_write_goes_to_the_fall_back(make: Callable[..., Room]) -> None:
    """The platform says no, whatever it is asked: dns can."""
    room = make(several("replace"))
    room.platforms["edge"].fail("shift", Fault.REJECTED, ALWAYS)
    route(room).shift(Shares({"acme": 100}), expected=route(room).read(), key="k")
    assert at(room) == ({"hq": 100}, {"acme": 100})


def test_somebody_elses_change_is_no_reason_to_fall_back(make: Callable[..., Room]) -> None:
    """The first is there, and was moved by somebody: refused, and dns stays where it is."""
    room = make(several("replace"))
    before = route(room).read()
    room.platforms["edge"].add_route("loan_calls", Shares({"hq": 60, "acme": 40}))
    with pytest.raises(Rejected, match="changed since it was read"):
        route(room).shift(Shares({"acme": 100}), expected=before, key="k")
    assert at(room) == ({"hq": 60, "acme": 40}, {"hq": 100})


def test_when_none_can_be_reached_the_first_says_why(make: Callable[..., Room]) -> None:
    room = make(several("replace"))
    dark(room, "edge")
    dark(room, "dns")
    with pytest.raises(Unavailable):
        route(room).read()
    with pytest.raises(Unavailable):
        route(room).shift(Shares({"acme": 100}), expected=None, key="k")


def test_a_fall_back_that_cannot_be_read_is_told(make: Callable[..., Room]) -> None:
    """edge carries; that dns may be anywhere is an exception."""
    room = make(several("replace"), hq="down")
    dark(room, "dns")
    done = act(room, FAILOVER)
    assert done.state is RunState.SUCCEEDED_WITH_EXCEPTIONS
    assert any("dns:sip cannot be read" in text for text in done.run.exceptions())
    assert room.platforms["edge"].shares("loan_calls") == Shares({"acme": 100})


def test_all_or_nothing_is_set_on_every_lever_of_a_product(make: Callable[..., Room]) -> None:
    room = make(several("multiply", first="dns"), hq="down")
    done = act(room, FAILOVER)
    assert done.state is RunState.SUCCEEDED
    assert at(room) == ({"acme": 100}, {"acme": 100})
    route(room).shift(Shares({"hq": 100}), expected=route(room).read(), key="k")
    assert at(room) == ({"hq": 100}, {"hq": 100})


def test_one_lever_of_a_product_splits(make: Callable[..., Room]) -> None:
    """dns knows only all or nothing: edge behind it carries the split, dns sends all there."""
    room = make(several("multiply", first="dns", dns={"step": 100}))
    done = act(room, Request("overflow", "loan_calls", "peak", percent=10))
    assert done.state is RunState.SUCCEEDED
    assert at(room) == ({"hq": 90, "acme": 10}, {"hq": 100})


def test_the_first_lever_of_a_product_may_split(make: Callable[..., Room]) -> None:
    room = make(several("multiply", first="dns", split="dns"))
    route(room).shift(Shares({"hq": 70, "acme": 30}), expected=route(room).read(), key="k")
    assert at(room) == ({"hq": 100}, {"hq": 70, "acme": 30})


@pytest.mark.parametrize(("dns", "edge", "product"), [
    ({"hq": 50, "acme": 50}, {"hq": 50, "annex": 50}, {"hq": 25, "annex": 25, "acme": 50}),
    ({"acme": 100}, {"hq": 100}, {"acme": 100}),
    ({"hq": 80, "acme": 20}, {"acme": 50, "callback": 50}, {"acme": 60, "callback": 40}),
])
def test_a_product_is_read_as_what_callers_meet(
        make: Callable[..., Room], dns: dict[str, int], edge: dict[str, int],
        product: dict[str, int]) -> None:
    """What dns sends to hq comes to edge, which spreads it."""
    room = make(several("multiply", first="dns"))
    room.platforms["edge"].add_route("loan_calls", Shares(edge))
    room.platforms["dns"].add_route("sip", Shares(dns))
    assert route(room).read().shares == Shares(product)


def test_a_product_of_broken_percentages_is_not_guessed(make: Callable[..., Room]) -> None:
    room = make(several("multiply", first="dns"))
    room.platforms["edge"].add_route("loan_calls", Shares({"hq": 33, "acme": 67}))
    room.platforms["dns"].add_route("sip", Shares({"hq": 33, "acme": 67}))
    with pytest.raises(Rejected, match="give no whole percentages"):
        route(room).read()


def test_a_lever_that_no_call_reaches_holds_nothing_up(make: Callable[..., Room]) -> None:
    """dns sends all to acme, so that a dead edge behind it is told of, and no more."""
    room = make(several("multiply", first="dns"))
    before = route(room).read()
    dark(room, "edge")
    route(room).shift(Shares({"acme": 100}), expected=before, key="k")
    state = route(room).read()
    assert state.shares == Shares({"acme": 100})
    assert "edge:loan_calls, which no call reaches now, cannot be read" in state.amiss[0]
    with pytest.raises(Unavailable):  # but towards hq it is in the way
        route(room).shift(Shares({"hq": 90, "acme": 10}), expected=state, key="k")


def one_lever(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(policy: dict[str, Any]) -> None:
        for name in names:
            policy["queues"][name]["route"] = {"provider": "edge", "ref": "trunk"}

    return change


def alike(policy: dict[str, Any]) -> None:
    """loan_calls and prequal on one lever, with the same backups and small enough to go whole."""
    one_lever("loan_calls", "prequal")(policy)
    for name in ("loan_calls", "prequal"):
        policy["queues"][name].update(backups=["acme"], load={"per_hour": 50}, normal={"hq": 100},
                                      target={"service_level": "70%", "within": "30s"})
        policy["queues"][name].pop("shift", None)


def test_queues_on_one_lever_move_together(make: Callable[..., Room]) -> None:
    """Only one was named: the other moves with it, is planned, leased and told; one of them sets
    the lever, and a rollback brings it back once."""
    room = make(alike, hq="down")
    ready = prepare.prepare(room.desk, FAILOVER)
    assert dict(ready.plan.shares_after) == {"loan_calls": {"acme": 100}, "prequal": {"acme": 100}}
    assert {"queue:loan_calls", "queue:prequal", "lever:edge:trunk"} <= set(ready.plan.scopes)
    assert any("prequal is on edge:trunk as loan_calls is" in finding.sentence
               for finding in ready.plan.findings)
    done = runs.start(room.desk, ready, confirmed="test")
    assert done.state is RunState.SUCCEEDED, done.run.problems()
    assert room.platforms["edge"].shares("trunk") == Shares({"acme": 100})
    assert sum(step.lever == "edge:trunk" for step in ready.plan.steps()) == 1


def test_what_moves_with_what_moves_with_it(make: Callable[..., Room]) -> None:
    """loan_calls and prequal have one route, prequal and fraud one intake: all three are planned,
    whichever comes first."""
    def change(policy: dict[str, Any]) -> None:
        one_lever("loan_calls", "prequal")(policy)
        for name in ("prequal", "fraud"):
            policy["queues"][name]["intake"] = {"provider": "edge", "ref": "web"}

    room = make(change)
    queues = room.policy.queues
    for name in ("loan_calls", "fraud"):
        chosen, _ = together(room.policy, [queues[name]])
        assert {queue.name for queue in chosen} == {"loan_calls", "prequal", "fraud"}


def test_half_a_product_is_this_runs_own(make: Callable[..., Room]) -> None:
    """edge took its part and dns did not: callers meet a mix that is none of the run's aims, and
    a rollback brings both back all the same."""
    def change(policy: dict[str, Any]) -> None:
        several("multiply", split="edge")(policy)
        policy["queues"]["loan_calls"].update(
            backups=["acme", "nightline"], normal={"hq": 50, "nightline": 50})

    room = make(change)
    for name, ref in (("edge", "loan_calls"), ("dns", "sip")):
        room.platforms[name].add_route(ref, Shares({"acme": 100}))
    room.platforms["dns"].fail("shift", Fault.REJECTED)
    done = act(room, Request("failback", "hq", "power is back", queues=("loan_calls",)))
    assert at(room) == ({"hq": 50, "nightline": 50}, {"acme": 100})
    undone = runs.rollback(room.desk, done.run.id, reason="no")
    assert undone.state is RunState.ROLLED_BACK, undone.run.problems()
    assert at(room) == ({"acme": 100}, {"acme": 100})


def test_contradicting_aims_are_refused_with_both_names(make: Callable[..., Room]) -> None:
    """fraud may not leave, loan_calls is to: one lever cannot do both."""
    room = make(one_lever("fraud", "loan_calls"), hq="down", annex="down")
    with pytest.raises(Refused, match="fraud and loan_calls are both on edge:trunk") as caught:
        act(room, FAILOVER)
    assert "one lever cannot do both" in str(caught.value)
    assert room.platforms["edge"].shares("trunk") == Shares({"hq": 100})
