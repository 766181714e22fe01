"""triggers.py and values.py: hold, clear, cooldown, modes, blockers, and what is explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ccfailover.health.assess import assess
from ccfailover.health.triggers import OpenRun, evaluate, explain
from ccfailover.health.values import world_values
from ccfailover.model.health import (
    Assessment,
    Decision,
    QueueView,
    State,
    TriggerState,
    World,
)
from ccfailover.model.policy import GuardLimits, Trigger
from ccfailover.model.shares import Shares
from ccfailover.policy.conditions import world_variables
from ccfailover.runtime import SECOND

MakeTrigger = Callable[..., Trigger]
DOWN = 'site.hq.state == "down"'


class Watch:
    """Evaluates again and again, remembering states as `check` would."""

    def __init__(self, scene: Any, *triggers: Trigger) -> None:
        self.policy = replace(scene.policy, triggers={one.name: one for one in triggers})
        self.start = scene.now
        self.states: dict[str, TriggerState] = {}
        self.site = State.HEALTHY
        self.observers: tuple[str, ...] = ()
        self.queues: dict[str, QueueView] = {}
        self.around: dict[str, Any] = {"automation_off_until": None, "blocked": None,
                                       "open_runs": ()}

    def world(self, at: int) -> World:
        hq = Assessment("site", "hq", self.site, None, "seen", self.observers)
        return World(at, {"hq": hq, "acme": Assessment("site", "acme", State.HEALTHY, None, "")},
                     {}, self.queues)

    def at(self, second: float) -> list[Decision]:
        now = self.start + int(second * SECOND)
        found, states = evaluate(self.policy, self.world(now), self.states, now, **self.around)
        assert [state.name for state in states] == list(self.policy.triggers)
        self.states = {state.name: state for state in states}
        return found

    def down(self, *observers: str) -> Watch:
        self.site, self.observers = State.DOWN, observers or ("controller", "far")
        return self

    def depth(self, count: int | None) -> Watch:
        self.queues["loans"] = QueueView("loans", None, {"hq": count, "acme": 0},
                                         {"hq": None, "acme": None})
        return self

    def shares(self, **parts: int) -> Watch:
        self.queues["calls"] = QueueView("calls", Shares(parts), {}, {})
        return self

    def answered(self, name: str, run: str) -> None:
        self.states[name] = replace(self.states[name], run=run)


def actions(found: list[Decision]) -> list[str]:
    return [one.action for one in found]


def test_a_condition_must_hold_long_enough(scene: Any, trigger: MakeTrigger) -> None:
    """Nothing before `hold`; from then on at every evaluation, with the values as reasons."""
    watch = Watch(scene, trigger("hq_down", DOWN)).down()
    assert watch.at(0) == []
    assert watch.at(59) == []
    found = watch.at(60)
    assert actions(found) == ["approve"]
    assert (found[0].trigger, found[0].runbook, found[0].subject, found[0].since) == \
        ("hq_down", "full_failover", "hq", scene.now)
    assert "site.hq.state = down" in found[0].reasons[0]
    assert actions(watch.at(70)) == ["approve"]


@pytest.mark.parametrize("between", [State.HEALTHY, State.UNKNOWN])
def test_a_break_starts_the_clock_anew(scene: Any, trigger: MakeTrigger, between: State) -> None:
    """Not held in between, or not known to be: it has not held."""
    watch = Watch(scene, trigger("hq_down", DOWN)).down()
    watch.at(0)
    watch.site = between
    watch.at(30)
    watch.down()
    assert watch.at(60) == []
    assert watch.at(119) == []
    assert len(watch.at(120)) == 1


def test_a_clock_set_back_does_not_fire(scene: Any, trigger: MakeTrigger) -> None:
    """A start in the future is a start now."""
    watch = Watch(scene, trigger("hq_down", DOWN)).down()
    watch.at(1000)
    assert watch.at(0) == []
    assert watch.states["hq_down"].since == scene.now
    assert len(watch.at(60)) == 1


def test_clear_is_the_only_way_back(scene: Any, trigger: MakeTrigger) -> None:
    """With `clear`, `when` becoming false is not enough, and unknown clears nothing."""
    watch = Watch(scene, trigger("overflow", "queue.loans.depth > 500", hold=0.0,
                                 clear="queue.loans.depth < 100", runbook="overflow",
                                 subject="loans", mode="automatic"))
    assert actions(watch.depth(501).at(0)) == ["execute"]
    assert actions(watch.depth(300).at(1)) == ["execute"]
    assert actions(watch.depth(None).at(2)) == ["execute"]
    assert watch.depth(99).at(3) == []
    assert watch.states["overflow"].cleared_at == scene.now + 3 * SECOND
    assert watch.depth(300).at(4) == []
    assert actions(watch.depth(501).at(5)) == ["execute"]


def test_an_answered_trigger_is_quiet_until_it_clears(scene: Any, trigger: MakeTrigger) -> None:
    """One firing, one run; the next only after it has cleared."""
    watch = Watch(scene, trigger("hq_down", DOWN, hold=0.0)).down()
    assert len(watch.at(0)) == 1
    watch.answered("hq_down", "r1-abcd")
    assert watch.at(10) == []
    watch.site = State.UNKNOWN
    assert watch.at(20) == []
    assert watch.states["hq_down"].cleared_at is None
    watch.site = State.HEALTHY
    watch.at(30)
    assert len(watch.down().at(40)) == 1
    assert watch.states["hq_down"].run is None


def test_cooldown_is_told_and_nothing_runs(scene: Any, trigger: MakeTrigger) -> None:
    """After clearing, a condition that holds again is shown, held back, and fires when it may."""
    watch = Watch(scene, trigger("overflow", "queue.loans.depth > 5", hold=0.0, cooldown=100.0,
                                 runbook="overflow", subject="loans", mode="automatic"))
    watch.depth(9).at(0)
    watch.depth(0).at(10)
    found = watch.depth(9).at(50)
    assert actions(found) == ["advise"]
    assert "cooling down for 60 s more" in found[0].blockers[0]
    assert watch.states["overflow"].fired_at == scene.now
    assert actions(watch.at(110)) == ["execute"]


@pytest.mark.parametrize(("observers", "action", "says"), [
    (("controller", "far"), "execute", None),
    (("controller",), "advise", "only controller says so"),
])
def test_automatic_failover_needs_two_observers(
    scene: Any, trigger: MakeTrigger, observers: tuple[str, ...], action: str, says: str | None
) -> None:
    """With one witness it advises, and says what is missing."""
    watch = Watch(scene, trigger("hq_down", DOWN, hold=0.0, mode="automatic"))
    found = watch.down(*observers).at(0)
    assert actions(found) == [action]
    assert (says in found[0].blockers[0]) if says else not found[0].blockers


@pytest.mark.parametrize(("mode", "action"), [("advise", "advise"), ("approve", "approve"),
                                              ("automatic", "execute")])
def test_modes(scene: Any, trigger: MakeTrigger, mode: str, action: str) -> None:
    """What the policy allows is what is asked for."""
    watch = Watch(scene, trigger("hq_down", DOWN, hold=0.0, mode=mode)).down()
    assert actions(watch.at(0)) == [action]


@pytest.mark.parametrize(("around", "says"), [
    ({"automation_off_until": 90}, "automation is off for 90 s more"),
    ({"blocked": "Dec 24-26"}, "blocked window: Dec 24-26"),
    ({"open_runs": (OpenRun("r3", "switchover", "hq", "running"),)}, "r3 (switchover hq)"),
    ({"open_runs": (OpenRun("r3", "overflow", "loans", "running"),)}, "r3 (overflow loans)"),
])
def test_what_stands_in_the_way_of_an_overflow(scene: Any, trigger: MakeTrigger,
                                               around: dict[str, Any], says: str) -> None:
    """The decision stays visible, but nothing would run by itself."""
    watch = Watch(scene, trigger("overflow", "queue.loans.depth > 5", hold=0.0,
                                 runbook="overflow", subject="loans", mode="automatic"))
    if "automation_off_until" in around:
        around = {"automation_off_until": scene.now + 90 * SECOND}
    watch.around.update(around)
    found = watch.depth(9).at(0)
    assert actions(found) == ["advise"]
    assert says in found[0].blockers[0]


def test_soft_guards_do_not_stop_a_failover_from_a_dead_home(scene: Any,
                                                             trigger: MakeTrigger) -> None:
    """Blocked window and flap block become warnings; automation off and open runs still stop it,
    but an overflow run is pre-empted."""
    watch = Watch(scene, trigger("hq_down", DOWN, hold=0.0, mode="automatic"),
                  trigger("overflow", "queue.loans.depth > 5", hold=0.0, runbook="overflow",
                          subject="loans", mode="automatic"))
    watch.policy = replace(watch.policy, guards=GuardLimits(flap_block=3600.0))
    watch.depth(9).at(0)
    watch.answered("overflow", "r1")
    watch.around.update(blocked="Dec 24-26",
                        open_runs=(OpenRun("r1", "overflow", "loans", "running"),))
    found = watch.down().at(1)
    assert [(one.trigger, one.action) for one in found] == [("hq_down", "execute")]
    assert any("Dec 24-26" in one for one in found[0].reasons)
    assert any("flap block: r1" in one for one in found[0].reasons)
    watch.around["open_runs"] = (OpenRun("r2", "failback", "hq", "paused"),)
    assert actions(watch.at(2)) == ["advise"]


def test_the_flap_block_holds_back_the_next_automatic_move(scene: Any,
                                                           trigger: MakeTrigger) -> None:
    """Neither the same trigger nor another on the same queue moves work again so soon."""
    first = trigger("overflow", "queue.loans.depth > 5", hold=0.0, runbook="overflow",
                    subject="loans", mode="automatic")
    watch = Watch(scene, first, replace(first, name="other", when="queue.loans.depth > 50"))
    watch.policy = replace(watch.policy, guards=GuardLimits(flap_block=100.0))
    watch.depth(9).at(0)
    watch.answered("overflow", "r1")
    found = watch.depth(90).at(10)
    assert [(one.trigger, one.action) for one in found] == [("other", "advise")]
    assert "flap block: r1" in found[0].blockers[0]
    watch.depth(0).at(20)
    again = watch.depth(9).at(30)
    assert [(one.trigger, one.action) for one in again] == [("overflow", "advise")]
    assert watch.states["overflow"].run == "r1"
    assert actions(watch.at(101)) == ["execute"]


def test_an_answer_that_moved_nothing_is_no_flapping(scene: Any, trigger: MakeTrigger) -> None:
    """A firing that found nothing to do blocks no later move."""
    watch = Watch(scene, trigger("overflow", "queue.loans.depth > 5", hold=0.0,
                                 runbook="overflow", subject="loans", mode="automatic"))
    watch.policy = replace(watch.policy, guards=GuardLimits(flap_block=100.0))
    watch.depth(9).at(0)
    watch.answered("overflow", "nothing to do")
    watch.depth(0).at(10)
    assert actions(watch.depth(9).at(20)) == ["execute"]


def test_nothing_is_asked_for_once_the_work_has_left(scene: Any, trigger: MakeTrigger) -> None:
    """A site that is down and gets no arrivals any more needs no failover; unknown shares do."""
    watch = Watch(scene, trigger("hq_down", DOWN, hold=0.0)).down()
    assert watch.shares(acme=100).at(0) == []
    assert len(watch.shares(hq=1, acme=99).at(1)) == 1
    watch.queues.clear()
    assert len(watch.at(2)) == 1


def test_a_common_outage_is_said(scene: Any, trigger: MakeTrigger) -> None:
    """A dependency down under home and backups: the decision says to treat, not to shift."""
    watch = Watch(scene, trigger("hq_down", DOWN, hold=0.0)).down()
    world = replace(watch.world(scene.now), treat_only={"calls": ("los",)})
    found, _ = evaluate(watch.policy, world, {}, scene.now, **watch.around)
    assert any("treat the work" in one for one in found[0].reasons)


def test_a_failing_site_end_to_end(scene: Any, trigger: MakeTrigger) -> None:
    """From readings through the assessment to a decision: unknown first, then down, then due."""
    from ccfailover.model.health import Outcome

    scene.change(triggers={"hq_down": trigger("hq_down", DOWN, hold=0.0)})
    around = {"automation_off_until": None, "blocked": None, "open_runs": ()}
    for count, wanted in ((2, 0), (3, 1)):
        scene.histories.clear()
        scene.saw("site.hq.0", *[Outcome.BAD] * count)
        world = assess(scene.policy, scene.histories, scene.now)
        found, _ = evaluate(scene.policy, world, {}, scene.now, **around)
        assert len(found) == wanted


def test_explain_shows_values_and_verdicts(scene: Any, trigger: MakeTrigger) -> None:
    """Each condition, what it saw (`unknown` where missing), and how long it has held."""
    watch = Watch(scene, trigger("hq_down", DOWN),
                  trigger("full", 'queue.loans.depth > 5 || site.hq.state == "down"',
                          subject="loans", runbook="overflow", clear="queue.loans.depth < 2"))
    watch.depth(None)
    watch.site = State.UNKNOWN
    found = {one.trigger: one for one in explain(watch.policy, watch.world(scene.now), scene.now)}
    assert found["hq_down"].verdict is None
    assert found["hq_down"].values == {"site.hq.state": "unknown"}
    assert "site.hq.state" in found["hq_down"].why
    assert found["full"].verdict is None
    watch.depth(9).at(0)
    now = scene.now + 20 * SECOND
    known = {one.trigger: one
             for one in explain(watch.policy, watch.world(now), now, watch.states)}
    assert (known["full"].verdict, known["full"].clear_verdict, known["full"].held_s) == \
        (True, False, 20.0)
    assert known["full"].values["queue.loans.depth"] == "9"
    assert known["full"].note == "holds for 20 s of 60 s"
    assert known["hq_down"].held_s is None


def test_values_leave_out_what_is_unknown(scene: Any) -> None:
    """Unknown is missing: not 0, not "unknown", not false; every name is a declared one."""
    watch = Watch(scene).depth(None).shares(hq=60, acme=40)
    watch.site = State.UNKNOWN
    values = world_values(watch.policy, watch.world(scene.now))
    assert "site.hq.state" not in values
    assert values["site.acme.state"] == "healthy"
    assert values["queue.calls.share.hq"] == 60
    assert values["queue.calls.share.callback"] == 0
    assert "queue.loans.depth" not in values
    assert values["queue.loans.depth_at.acme"] == 0
    assert "queue.loans.share.hq" not in values
    assert set(values) <= set(world_variables(watch.policy))


def test_depth_is_the_homes(scene: Any) -> None:
    """What waits at the home counts; work that has gone to the outsourcer does not."""
    watch = Watch(scene)
    watch.queues["loans"] = QueueView("loans", None, {"hq": 3, "acme": 900},
                                      {"hq": 60.0, "acme": None})
    values = world_values(watch.policy, watch.world(scene.now))
    assert (values["queue.loans.depth"], values["queue.loans.oldest"]) == (3, 60.0)


def test_open_follows_the_sites_hours(scene: Any) -> None:
    """By the site's own clock: Chicago, Monday to Friday from 8 to 20."""
    tuesday_noon = 1_790_100_000 * SECOND  # 2026-09-22 13:00 in Chicago
    watch = Watch(scene)
    assert world_values(watch.policy, watch.world(tuesday_noon))["site.hq.open"] is True
    night = tuesday_noon + 12 * 3600 * SECOND
    assert world_values(watch.policy, watch.world(night))["site.hq.open"] is False
