"""Hard guards always refuse; soft ones stop what can wait, and only that."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from ccfailover.model.health import State
from ccfailover.model.policy import GuardLimits, Price
from ccfailover.model.shares import Shares
from ccfailover.planning.guards import HARD, SOFT, QueuePlan, judge

MINUTE = 60_000_000


def judged(scene: Any, *, runbook: str = "switchover", before: Any = "now", after: Any = None,
           cost: str = "0", untouched: bool = False, **more: Any) -> dict[str, Any]:
    """Findings by guard."""
    plan = QueuePlan(
        scene.queue, scene.now if before == "now" else before, Shares(after or {"acme": 100}),
        cost_per_hour=Decimal(cost), untouched=untouched)
    given: dict[str, Any] = {
        "runbook": runbook, "queue_plans": [plan], "world": scene.world, "at": scene.at,
        "home_down_fresh": False, "overrides": {}, "spent_today": Decimal(0), "last_moves": {},
        "is_blocked": lambda at: None, "automatic": False}
    found = judge(scene.policy, **{**given, **more})
    return {finding.guard: finding for finding in found}


@pytest.fixture()
def healthy(scene):
    scene.states["hq"] = State.HEALTHY
    return scene


@pytest.fixture()
def limited(healthy):
    """Every soft guard binds: see `ALL_BOUND`."""
    healthy.guards = GuardLimits(
        max_step=30, daily_cost=Decimal(1000), blocked=("Dec 24-26",), flap_block=3600.0)
    return healthy


ALL_BOUND: dict[str, Any] = {
    "cost": "1785.00", "spent_today": Decimal(200), "last_moves": {"edge:calls": 0},
    "is_blocked": lambda at: "Dec 24-26", "automation_off": "by mary until noon"}


def all_bound(scene: Any) -> dict[str, Any]:
    return {**ALL_BOUND, "last_moves": {"edge:calls": scene.at - 20 * MINUTE}}


def test_nothing_to_say(healthy):
    """No limits, no rules broken: no findings."""
    assert judged(healthy) == {}


def test_soft_guards_stop_a_planned_move_and_say_by_how_much(limited):
    """Each sentence names the limit, the figure, and what to do."""
    got = judged(limited, **all_bound(limited))
    assert {finding.level for finding in got.values()} == {"soft"}
    assert set(got) == set(SOFT)
    assert got["max_step"].sentence == (
        "calls would move 100 % at once, 70 % more than max_step (30 %) lets it; "
        "set smaller increments; or override max_step and say why")
    assert got["daily_cost"].sentence.startswith(
        "the day would cost 25,190.00 USD (spent 200.00, activation 0.00, then 1,785.00 an hour "
        "for 14.0 h), 24,190.00 more than daily_cost (1,000.00) lets it")
    assert got["blocked"].sentence.startswith("moves are blocked now (Dec 24-26)")
    assert got["flap_block"].sentence.startswith(
        "edge:calls was moved 20 min ago, and flap_block asks for 60 min between moves: "
        "wait 40 min, or, once somebody has looked: ccfailover ack")
    assert got["automation"].sentence.startswith("automation is off: by mary until noon")


@pytest.mark.parametrize("automatic", [True, False])
def test_a_failover_from_a_dead_home_is_warned_not_stopped(limited, automatic):
    """Customers first: the same findings, as warnings, whoever started it."""
    limited.states["hq"] = State.DOWN
    got = judged(limited, runbook="full_failover", home_down_fresh=True, automatic=automatic,
                 **all_bound(limited))
    assert set(got) == set(SOFT)
    assert {finding.level for finding in got.values()} == {"warning"}


@pytest.mark.parametrize(("runbook", "fresh"), [
    ("full_failover", False), ("overflow", True), ("switchover", True), ("failback", True),
])
def test_nothing_else_passes_because_home_is_down(limited, runbook, fresh):
    """A failover without a fresh verdict can wait, and so can every other move."""
    got = judged(limited, runbook=runbook, home_down_fresh=fresh, **all_bound(limited))
    assert {finding.level for finding in got.values()} == {"soft"}


@pytest.mark.parametrize("guard", SOFT)
def test_override_beats_one_soft_guard(limited, guard):
    """With a reason, and only the one named; the reason is in the finding."""
    got = judged(limited, overrides={guard: "INC-42 approved"}, **all_bound(limited))
    assert got[guard].level == "warning"
    assert "overridden: INC-42 approved" in got[guard].sentence
    assert {got[name].level for name in SOFT if name != guard} == {"soft"}


@pytest.mark.parametrize(("way", "most"), [
    ([{"hq": 75, "acme": 25}, {"hq": 50, "acme": 50}, {"acme": 100}], 50),
    ([{"hq": 80, "acme": 20}, {"hq": 50, "acme": 50}, {"hq": 30, "acme": 70}, {"acme": 100}], 30),
    ([{"acme": 100}], 100),
])
def test_max_step_judges_the_way_that_the_lever_will_go(healthy, way, most):
    """Where the lever only has tens, 25 % steps are steps of 20 and 30: those count."""
    healthy.guards = GuardLimits(max_step=most - 1)
    plan = QueuePlan(healthy.queue, healthy.now, Shares({"acme": 100}),
                     way=tuple(map(Shares, way)))
    found = judge(healthy.policy, runbook="switchover", queue_plans=[plan], world=healthy.world,
                  at=healthy.at, home_down_fresh=False, overrides={}, spent_today=Decimal(0),
                  last_moves={}, is_blocked=lambda at: None, automatic=False)
    assert [finding.guard for finding in found] == ["max_step"]
    assert f"would move {most} % at once" in found[0].sentence


def test_override_without_a_reason(limited):
    """Refused, and the guard still stands."""
    got = judged(limited, overrides={"blocked": "  "}, **all_bound(limited))
    assert got["override"].level == "hard"
    assert got["blocked"].level == "soft"


@pytest.mark.parametrize("guard", [*HARD, "max_stpe", ""])
def test_override_of_a_hard_or_unknown_guard(healthy, guard):
    """An error itself, with the list of those that can be overridden."""
    finding = judged(healthy, overrides={guard: "because"})["override"]
    assert finding.level == "hard"
    assert "max_step, daily_cost, blocked, flap_block" in finding.sentence


@pytest.mark.parametrize(("guard", "queue", "acme"), [
    ("outsource_never", {"outsource": "never"}, {}),
    ("licence", {"licence_field": "state"}, {"licences": {"TX": date(2026, 1, 1)}}),
    ("data_class", {"data_class": "restricted"}, {}),
    ("criteria_version", {"criteria_version": "2026-10"}, {"criteria_version": "2026-07"}),
])
def test_hard_guards_refuse_even_when_home_is_down(scene, guard, queue, acme):
    """Neither a dead home nor an override helps."""
    scene.change_queue(**queue)
    scene.change_site("acme", **acme)
    got = judged(scene, runbook="full_failover", home_down_fresh=True)
    assert got[guard].level == "hard"


def test_in_disaster_refuse(scene):
    """overflow_only with in_disaster: refuse is hard in a failover, and fine in an overflow."""
    scene.change_queue(outsource="overflow_only", in_disaster="refuse")
    assert judged(scene, runbook="full_failover")["outsource_never"].level == "hard"
    assert judged(scene, runbook="overflow") == {}


def test_lowering_a_share_is_never_forbidden(healthy):
    """A site that lost its licence must be allowed to lose its work."""
    healthy.change_queue(outsource="never")
    healthy.now = Shares({"acme": 80, "hq": 20})
    assert judged(healthy, after={"acme": 30, "hq": 70}) == {}


@pytest.mark.parametrize(("after", "refused"), [
    ({"acme": 100}, True), ({"acme": 60, "hq": 40}, True), ({"acme": 90, "callback": 10}, False),
    ({"acme": 90, "branch": 10}, False), ({"nowhere": 100}, True),
])
def test_all_off(scene, after, refused):
    """A lever may not point only at the dead or the unheard of; a treatment is not off."""
    scene.states["acme"] = State.DOWN
    scene.now = Shares({"branch": 100})
    got = judged(scene, runbook="full_failover", after=after)
    assert ("all_off" in got) is refused


def test_a_lever_left_alone_is_not_judged(scene):
    """Nothing is done, so nothing can be refused: the other queues go on."""
    scene.guards = GuardLimits(max_step=1)
    assert judged(scene, after={"hq": 100}, untouched=True, before=None) == {}
    assert judged(scene, after={"hq": 100}) == {}
    assert "all_off" not in judged(scene, after={"hq": 100}, before=None)


@pytest.mark.parametrize(("increments", "stopped"), [
    ((100,), True), ((30, 60, 90, 100), False), ((50, 100), True), ((30, 60), True),
])
def test_max_step_looks_at_one_increment(healthy, increments, stopped):
    """A move in small increments is a small step, however far it goes."""
    healthy.guards = GuardLimits(max_step=30)
    healthy.change_queue(increments=increments)
    assert ("max_step" in judged(healthy)) is stopped


def test_max_step_when_the_shares_are_unknown(healthy):
    """Unknown is taken for the worst, and said."""
    healthy.guards = GuardLimits(max_step=30)
    got = judged(healthy, before=None, after={"hq": 80, "acme": 20})
    assert "today's shares are unknown" in got["max_step"].sentence


def test_cost_counts_activation_once_and_only_what_gets_dearer(healthy):
    """A receiver that works already is not activated; moving work home is never too dear."""
    healthy.guards = GuardLimits(daily_cost=Decimal(499))
    healthy.change_site("acme", price=Price(per_activation=Decimal(500)))
    assert "activation 500.00" in judged(healthy)["daily_cost"].sentence
    healthy.now = Shares({"hq": 90, "acme": 10})
    assert judged(healthy) == {}
    assert judged(healthy, runbook="failback", after={"hq": 100},
                  spent_today=Decimal(9999)) == {}


def test_cost_within_the_limit(healthy):
    """At the limit exactly, nothing is said."""
    healthy.guards = GuardLimits(daily_cost=Decimal(14 * 100))
    assert judged(healthy, cost="100") == {}
    assert "daily_cost" in judged(healthy, cost="100.01")


def test_flap_block_ends(healthy):
    """After the pause, and for other levers, it is silent."""
    healthy.guards = GuardLimits(flap_block=3600.0)
    assert judged(healthy, last_moves={"edge:calls": healthy.at - 60 * MINUTE}) == {}
    assert judged(healthy, last_moves={"edge:other": healthy.at}) == {}
    assert "flap_block" in judged(
        healthy, last_moves={"edge:calls": healthy.at - 59 * MINUTE})
