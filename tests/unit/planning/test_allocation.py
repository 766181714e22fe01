"""The table of cases: what each state of the world makes of a queue's shares."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import State
from ccfailover.model.policy import GuardLimits, LeverSpec, Staff
from ccfailover.model.shares import TREATMENTS, Shares


def said(allocation: Any, guard: str) -> str:
    """The sentences of one guard; fails when it said nothing."""
    found = [f.sentence for f in allocation.findings if f.guard == guard]
    assert found, f"{guard} said nothing; said: {allocation.findings}"
    return " | ".join(found)


def levels(allocation: Any) -> set[str]:
    return {f.level for f in allocation.findings}


def test_home_dead_and_provider_large_enough(scene):
    """All of it goes to the backup, and nobody is warned of anything."""
    scene.agents("acme", 60)
    got = scene.allocate()
    assert got.shares == Shares({"acme": 100})
    assert not got.findings
    assert not got.untouched


def test_provider_too_small(scene):
    """The share stops at capacity, floored to the step; the sentence says by how much."""
    got = scene.allocate()
    assert got.shares == Shares({"acme": 70, "callback": 30})
    assert said(got, "capacity") == (
        "acme can take 432 of 600 calls an hour: 72 % → 70 %; 30 % to callback")
    assert levels(got) == {"warning"}


def test_provider_closed(scene):
    """A closed provider gets nothing; all is treated."""
    scene.closed = {"acme"}
    scene.change_site("acme", hours="Mo-Fr 08:00-12:00")
    got = scene.allocate()
    assert got.shares == Shares({"callback": 100})
    assert "closed now (hours: Mo-Fr 08:00-12:00)" in said(got, "hours")
    assert levels(got) == {"warning"}


def test_second_backup_takes_the_remainder(scene):
    """The first in order is filled, the next takes what is left, the rest is treated."""
    scene.change_queue(backups=("acme", "branch"))
    got = scene.allocate()
    assert got.shares == Shares({"acme": 70, "branch": 30})
    assert said(got, "capacity").endswith("72 % → 70 %; 30 % to branch")
    scene.agents("branch", 10)
    assert scene.allocate().shares == Shares({"acme": 70, "branch": 20, "callback": 10})


def test_order_of_backups_decides(scene):
    """`backups` is a ranking, not a set."""
    scene.change_queue(backups=("branch", "acme"))
    assert scene.allocate().shares == Shares({"branch": 30, "acme": 70})


def test_queue_that_may_not_leave(scene):
    """outsource: never keeps it from every outsourced site; the rest of the run is not refused."""
    scene.change_queue(outsource="never", home_down="message")
    got = scene.allocate()
    assert got.shares == Shares({"message": 100})
    assert "outsource: never" in said(got, "outsource_never")
    assert levels(got) == {"warning"}


@pytest.mark.parametrize(("kind", "in_disaster", "goes"), [
    ("failover", "allow", True), ("failover", "refuse", False),
    ("switchover", "allow", False), ("overflow", "refuse", True),
])
def test_overflow_only(scene, kind, in_disaster, goes):
    """overflow_only leaves in an overflow, and in a failover only if in_disaster allows it."""
    scene.change_queue(outsource="overflow_only", in_disaster=in_disaster)
    scene.states["hq"] = State.DOWN if kind == "failover" else State.HEALTHY
    got = scene.allocate(kind, fraction=20 if kind == "overflow" else None)
    assert bool(got.shares.of("acme")) is goes


@pytest.mark.parametrize(("field", "queue", "acme", "guard", "words"), [
    ("licences", {"licence_field": "state"}, {"licences": {}}, "licence", "holds no licence"),
    ("licences", {"licence_field": "state"}, {}, "licence", "holds no licence"),
    ("licences", {"licence_field": "state"}, {"licences": {"TX": date(2026, 11, 17)}},
     "licence", "ended on 2026-11-17"),
    ("criteria", {"criteria_version": "2026-10"}, {"criteria_version": "2026-07"},
     "criteria_version", "2026-10 are asked for, the site works by 2026-07"),
    ("criteria", {"criteria_version": "2026-10"}, {}, "criteria_version", "none declared"),
    ("class", {"data_class": "restricted"}, {"data_classes": frozenset({"public"})},
     "data_class", "its data is restricted, and the site may handle public"),
    ("class", {"data_class": "restricted"}, {}, "data_class", "no declared class"),
    ("contract", {}, {"contract_until": date(2026, 11, 17)}, "contract", "ended on 2026-11-17"),
])
def test_rules_that_keep_a_receiver_out(scene, field, queue, acme, guard, words):
    """What a provider lacks, or does not declare, keeps the work from it, and is named."""
    scene.change_queue(**queue)
    scene.change_site("acme", **acme)
    got = scene.allocate()
    assert got.shares == Shares({"callback": 100})
    assert words in said(got, guard)


@pytest.mark.parametrize("acme", [
    {"licences": {"TX": date(2026, 11, 18), "OK": date(2020, 1, 1)}}, {"licences": {"TX": None}},
])
def test_one_valid_licence_is_enough(scene, acme):
    """Valid through its last day; which items may go is the mover's business."""
    scene.change_queue(licence_field="state")
    scene.change_site("acme", **acme)
    assert scene.allocate().shares.of("acme") == 70


def test_criteria_default_to_those_of_home(scene):
    """A queue without its own version asks for the one that home works by."""
    scene.change_site("hq", criteria_version="2026-10")
    scene.change_site("acme", criteria_version="2026-07")
    assert scene.allocate().shares == Shares({"callback": 100})
    scene.change_site("acme", criteria_version="2026-10")
    assert scene.allocate().shares.of("acme") == 70


def test_receiver_down(scene):
    """A dead backup is passed over for the next one."""
    scene.change_queue(backups=("acme", "branch"))
    scene.states["acme"] = State.DOWN
    got = scene.allocate()
    assert got.shares == Shares({"branch": 30, "callback": 70})
    assert "acme cannot take calls: it is down (seen down)" in said(got, "receiver_down")


def test_receiver_unknown_is_used_only_when_no_healthy_one_can(scene):
    """Unknown is not healthy: it gets nothing beside a healthy one, and a warning alone."""
    scene.change_queue(backups=("acme", "branch"))
    scene.states["acme"] = State.UNKNOWN
    beside = scene.allocate()
    assert beside.shares == Shares({"branch": 30, "callback": 70})
    assert "gets nothing: unknown is not healthy" in said(beside, "receiver_unknown")
    scene.states["branch"] = State.DOWN
    alone = scene.allocate()
    assert alone.shares == Shares({"acme": 70, "callback": 30})
    assert "gets 70 %: no healthy site can take it" in said(alone, "receiver_unknown")


@pytest.mark.parametrize("kind", ["switchover", "overflow"])
def test_planned_moves_never_use_an_unknown_receiver(scene, kind):
    """Only a failover may gamble."""
    scene.states.update(hq=State.HEALTHY, acme=State.UNKNOWN)
    got = scene.allocate(kind, fraction=20 if kind == "overflow" else None)
    assert not got.shares.of("acme")


def test_dependency_down_everywhere_is_treated_not_shifted(scene):
    """Moving would not help, and one sentence says so instead of one for each site."""
    scene.change_queue(backups=("acme", "branch"))
    for name in ("hq", "branch", "acme"):
        scene.change_site(name, depends_on=("los",))
    scene.fallen = {"los"}
    got = scene.allocate()
    assert got.shares == Shares({"callback": 100})
    assert got.moves == ()
    assert said(got, "dependency").startswith(
        "los is down, and every site that could take calls stands on it (acme, branch)")


def test_dependency_down_under_one_receiver(scene):
    """Only those that stand on it are passed over."""
    scene.change_queue(backups=("acme", "branch"))
    scene.change_site("acme", depends_on=("vpn",))
    scene.fallen = {"vpn"}
    got = scene.allocate()
    assert got.shares == Shares({"branch": 30, "callback": 70})
    assert "it stands on vpn, which is down" in said(got, "dependency")


def test_the_world_may_say_treat_only(scene):
    """What the assessment found binds the allocation, too."""
    scene.treat_only = {"calls": ("carrier",)}
    assert scene.allocate().shares == Shares({"callback": 100})


@pytest.mark.parametrize(("step", "shares"), [
    (1, {"acme": 72, "callback": 28}), (10, {"acme": 70, "callback": 30}),
    (25, {"acme": 50, "callback": 50}), (100, {"callback": 100}), (30, {"callback": 100}),
])
def test_share_step(scene, step, shares):
    """Shares are multiples of the lever's step; the rounding lands on the treatment."""
    scene.capabilities = Capabilities(routes=True, share_step=step)
    assert scene.allocate().shares == Shares(shares)


def test_no_treatment_possible_goes_beyond_capacity(scene):
    """Rather a long queue at the last receiver than calls that ring at a dead site."""
    scene.capabilities = Capabilities(routes=True, share_step=10, treatments=False)
    got = scene.allocate()
    assert got.shares == Shares({"acme": 100})
    assert said(got, "beyond_capacity") == (
        "acme gets 30 % (180 calls an hour) beyond its capacity: the lever has no treatment")


def test_no_treatment_and_nobody(scene):
    """With no way to help, the lever is left alone, and that is said loudly."""
    scene.capabilities = Capabilities(routes=True, treatments=False)
    scene.states["acme"] = State.DOWN
    scene.now = Shares({"hq": 90, "acme": 10})
    got = scene.allocate()
    assert got.untouched
    assert got.shares == scene.now
    assert "nobody can take calls" in said(got, "all_off")


def test_next_possible_treatment(scene):
    """A lever without the policy's treatment uses the next one that it has."""
    scene.capabilities = Capabilities(
        routes=True, destinations=frozenset({"hq", "acme", "message"}))
    got = scene.allocate()
    assert got.shares == Shares({"acme": 72, "message": 28})
    assert said(got, "treatment") == (
        "the lever cannot send to callback (home_down): 28 % goes to message")


def test_receiver_that_the_lever_cannot_reach(scene):
    """A destination that the lever does not have is no receiver."""
    scene.capabilities = Capabilities(routes=True, destinations=frozenset({"hq", "callback"}))
    got = scene.allocate()
    assert got.shares == Shares({"callback": 100})
    assert "the lever has no way there" in said(got, "destination")


def applications(scene: Any, **changes: Any) -> None:
    scene.change_queue(**{
        "name": "applications", "channel": "application", "home_down": "hold",
        "load_per_hour": 80.0, "normal": Shares({"hq": 100}),
        "backlogs": {"hq": LeverSpec("jobs", "hq"), "acme": LeverSpec("jobs", "acme")}, **changes})
    scene.change_site("hq", staff={"applications": Staff(per_hour=90.0)})
    scene.change_site("acme", staff={"applications": Staff(per_hour=60.0)})


def test_hold_when_nobody_may_take_it(scene):
    """Held work stays in the backlog, arrivals included: no move, no shift, a finding."""
    applications(scene, outsource="never")
    got = scene.allocate()
    assert got.untouched
    assert got.moves == ()
    assert got.shares == Shares({"hq": 100})
    assert "applications is held" in said(got, "hold")


def test_hold_with_a_receiver_too_small(scene):
    """Work that can wait waits at the receiver, never at a site that is left."""
    applications(scene)
    got = scene.allocate()
    assert got.shares == Shares({"acme": 100})
    assert got.moves == (("hq", "acme"),)
    assert "acme gets 25 % (20 applications an hour) beyond its capacity" in said(
        got, "beyond_capacity")


def test_live_contacts_cannot_be_held(scene):
    """home_down: hold on a voice queue becomes the first possible treatment."""
    scene.change_queue(home_down="hold")
    got = scene.allocate()
    assert got.shares == Shares({"acme": 70, "callback": 30})
    assert said(got, "treatment") == "calls cannot be held: 30 % goes to callback"


def test_capacity_or_load_unknown(scene):
    """Customers first: what cannot be computed does not stop a failover, it warns."""
    scene.change_site("acme", staff={})
    got = scene.allocate()
    assert got.shares == Shares({"acme": 100})
    assert "the capacity of acme is unknown" in said(got, "capacity")
    scene.agents("acme", 36)
    scene.change_queue(load_per_hour=None)
    assert "the load is unknown" in said(scene.allocate(), "capacity")
    assert scene.allocate(load_per_hour=600.0).shares.of("acme") == 70


def test_ramp_limits_the_first_minutes(scene):
    """Only the heads that are there now count; when to plan again is said."""
    scene.change_site("acme", ramp=((0.0, 20), (1800.0, 60)))
    got = scene.allocate()
    assert got.shares == Shares({"acme": 40, "callback": 60})
    assert any("acme has 60 heads 30 min after" in text for text in got.assumptions)
    assert scene.allocate(active_minutes={"acme": 31}).shares.of("acme") == 70
    assert got.heads == {"acme": pytest.approx(20)}
    taken = scene.allocate(heads_taken={"acme": 10.0})
    assert taken.shares == Shares({"acme": 20, "callback": 80})


def test_site_that_stays_keeps_its_normal_share(scene):
    """A failover of one of two homes leaves the other one's share and adds to it."""
    scene.change_queue(normal=Shares({"hq": 50, "branch": 50}), backups=("branch", "acme"))
    scene.agents("branch", 30)
    got = scene.allocate()
    assert got.shares == Shares({"branch": 60, "acme": 40})


def test_failover_of_a_receiver_brings_work_home(scene):
    """Emptying a dead outsourcer gives home what it can serve, then the next backup."""
    scene.change_queue(backups=("acme", "branch"))
    scene.states.update(hq=State.HEALTHY, acme=State.DOWN)
    scene.now = Shares({"hq": 70, "acme": 30})
    assert scene.allocate(leaving=frozenset({"acme"})).shares == Shares({"hq": 100})
    scene.agents("hq", 40)
    assert scene.allocate(leaving=frozenset({"acme"})).shares == Shares({"hq": 80, "branch": 20})
    scene.agents("branch", 0)
    got = scene.allocate(leaving=frozenset({"acme"}))
    assert got.shares == Shares({"hq": 100})
    assert "hq keeps 20 % that nobody else can take" in said(got, "beyond_capacity")


def test_only_to(scene):
    """Only who is named takes work; a demand that nobody can meet is refused if it is meant."""
    scene.change_queue(backups=("acme", "branch"))
    assert scene.allocate(only_to=("branch",)).shares == Shares({"branch": 30, "callback": 70})
    scene.change_queue(outsource="never")
    assert levels(scene.allocate(only_to=("acme",))) == {"warning"}
    assert "hard" in levels(scene.allocate(only_to=("acme",), demanded=True))
    assert "hard" in levels(scene.allocate("switchover", only_to=("acme",)))
    other = scene.allocate(only_to=("elsewhere",), demanded=True)
    assert "elsewhere is no backup of calls; backups are acme, branch" in said(other, "backups")


def test_overflow_surplus_is_rounded_up(scene):
    """9.3 % too much leaves as 10 %: less would not help."""
    scene.states["hq"] = State.HEALTHY
    scene.change_queue(load_per_hour=1000.0)
    scene.change_site("hq", staff={"calls": Staff(agents=60, handle_time=60 * 3600 / 907)})
    scene.capabilities = Capabilities(routes=True, share_step=10)
    got = scene.allocate("overflow")
    assert got.shares == Shares({"hq": 90, "acme": 10})
    assert said(got, "surplus") == (
        "hq can serve 907 of 1,000 calls an hour: 9.3 % of the load is too much → 10 % leaves")


def test_overflow_keeps_at_home_what_no_backup_can_take(scene):
    """An overflow never sends anyone to a treatment."""
    scene.states["hq"] = State.HEALTHY
    scene.agents("acme", 6)
    got = scene.allocate("overflow", fraction=50)
    assert got.shares == Shares({"hq": 90, "acme": 10})
    assert said(got, "capacity").endswith("12 % → 10 %; hq keeps 90 %")
    assert "hq keeps 40 % more than it should" in said(got, "beyond_capacity")


def test_a_closed_home_serves_nobody(scene):
    """After hours all live work is surplus; deferred work waits for the morning."""
    scene.states["hq"] = State.HEALTHY
    scene.closed = {"hq"}
    got = scene.allocate("overflow")
    assert got.shares == Shares({"acme": 70, "hq": 30}), "all that acme can take"
    assert "hq is closed now and can serve 0 of 600 calls an hour" in said(got, "surplus")
    scene.change_queue(channel="email")
    assert scene.allocate("overflow").untouched


@pytest.mark.parametrize("kind", ["failover", "overflow"])
def test_a_closed_backup_keeps_no_normal_share(scene, kind):
    """Nobody answers at a backup that is closed or stands on what is down, whatever is normal."""
    scene.change_queue(normal=Shares({"hq": 90, "acme": 10}))
    scene.now = Shares({"hq": 90, "acme": 10})
    scene.states["hq"] = State.DOWN if kind == "failover" else State.HEALTHY
    fraction = 20 if kind == "overflow" else None
    for trouble in ("closed", "fallen"):
        scene.closed = {"acme"} if trouble == "closed" else set()
        scene.change_site("acme", depends_on=("vpn",))
        scene.fallen = {"vpn"} if trouble == "fallen" else set()
        got = scene.allocate(kind, fraction=fraction)
        assert got.shares.of("acme") == 0, trouble
    scene.fallen = set()
    assert scene.allocate(kind, fraction=fraction).shares.of("acme") >= 10


def test_overflow_without_surplus_or_figures(scene):
    """No surplus: nothing moves. Figures missing: refused, with what to do."""
    scene.states["hq"] = State.HEALTHY
    idle = scene.allocate("overflow")
    assert idle.untouched
    assert levels(idle) == {"info"}
    scene.change_queue(load_per_hour=None)
    blind = scene.allocate("overflow")
    assert levels(blind) == {"hard"}
    assert "say how many percent" in said(blind, "surplus")
    assert scene.allocate("overflow", fraction=25).shares == Shares({"hq": 75, "acme": 25})


def test_overflow_moves_no_more_than_max_step_at_once(scene):
    """The computed surplus is capped by max_step beyond what has left already."""
    scene.states["hq"] = State.HEALTHY
    scene.guards = GuardLimits(max_step=20)
    scene.agents("hq", 25)
    assert scene.allocate("overflow").shares == Shares({"hq": 80, "acme": 20})
    scene.now = Shares({"hq": 80, "acme": 20})
    got = scene.allocate("overflow")
    assert got.shares == Shares({"hq": 60, "acme": 40})
    assert "50 % → 40 %" in said(got, "max_step")


def test_overflow_counts_the_waiting_backlog(scene):
    """Deferred work: what waits must be served within the horizon, too."""
    applications(scene, rto=4 * 3600.0)
    scene.states["hq"] = State.HEALTHY
    scene.depth = {"hq": 120}
    got = scene.allocate("overflow")
    assert got.shares == Shares({"hq": 75, "acme": 25})  # 80 + 120/4 − 90 = 20 of 80
    assert got.moves == (("hq", "acme"),)
    assert "120 waiting" in said(got, "surplus")


@pytest.mark.parametrize("fallen", [True, False])
def test_overflow_from_a_home_that_is_down_is_refused(scene, fallen):
    """That is a failover, and the sentence says which command to use."""
    leaving = frozenset() if fallen else frozenset({"hq"})
    scene.states["hq"] = State.DOWN if fallen else State.HEALTHY
    got = scene.allocate("overflow", fraction=20, leaving=leaving)
    assert got.untouched
    assert "hard" in levels(got)
    assert "ccfailover failover hq" in said(got, "home_down")


def test_failback_is_normal_exactly(scene):
    """Failback sets `normal`, and empties every other backlog into home's."""
    applications(scene)
    scene.states["hq"] = State.HEALTHY
    scene.now = Shares({"acme": 100})
    got = scene.allocate("failback")
    assert got.shares == scene.queue.normal
    assert got.moves == (("acme", "hq"),)
    assert not got.findings


@pytest.mark.parametrize("state", [State.DOWN, State.UNKNOWN])
def test_failback_while_home_is_not_known_to_work(scene, state):
    """Refused: the shares stay as they are."""
    scene.states["hq"] = state
    scene.now = Shares({"acme": 70, "callback": 30})
    got = scene.allocate("failback")
    assert levels(got) == {"hard"}
    assert got.untouched
    assert got.shares == scene.now
    assert f"hq is {state.value}" in said(got, "home_down")


def test_failback_while_what_home_stands_on_is_down(scene):
    """A healthy building without its origination system is not back."""
    scene.states["hq"] = State.HEALTHY
    scene.change_site("hq", depends_on=("los",))
    scene.fallen = {"los"}
    assert levels(scene.allocate("failback")) == {"hard"}


def test_failback_that_the_lever_cannot_express(scene):
    """Said before anything is tried."""
    scene.states["hq"] = State.HEALTHY
    scene.change_queue(normal=Shares({"hq": 95, "branch": 5}))
    scene.capabilities = Capabilities(routes=True, share_step=10)
    assert "cannot express normal" in said(scene.allocate("failback"), "share_step")


def test_cost_of_the_shares(scene):
    """420 calls an hour × 5 minutes × 0.85 a minute."""
    assert scene.allocate().cost_per_hour == Decimal("1785.00")


def test_priority_and_cost_change_nothing(scene):
    """However dear, work goes where it can be answered; cost is a guard, not a share."""
    dear = replace(scene.sites["acme"].price, per_minute=Decimal(1_000_000))
    scene.change_site("acme", price=dear)
    assert scene.allocate().shares.of("acme") == 70


def test_wrong_arguments(scene):
    """Unknown kinds and impossible percentages are the caller's mistakes."""
    with pytest.raises(UsageError, match="unknown kind"):
        scene.allocate("panic")
    for percent in (0, 101, -5):
        with pytest.raises(UsageError, match="cannot be moved"):
            scene.allocate("overflow", fraction=percent)


STATES = st.sampled_from(list(State))
NORMAL = st.sampled_from([{"hq": 100}, {"hq": 50, "branch": 50}, {"hq": 75, "message": 25},
                          {"hq": 75, "acme": 25}])
BACKUPS = st.lists(st.sampled_from(["branch", "acme", "other"]), unique=True).map(tuple)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(["failover", "overflow", "switchover", "failback"]),
    states=st.fixed_dictionaries(dict.fromkeys(("hq", "branch", "acme", "other"), STATES)),
    backups=BACKUPS, normal=NORMAL, step=st.sampled_from([1, 5, 25, 100]),
    treatments=st.booleans(), channel=st.sampled_from(["voice", "chat", "application"]),
    home_down=st.sampled_from(["message", "callback", "voicemail", "hold"]),
    outsource=st.sampled_from(["never", "overflow_only", "allowed"]),
    in_disaster=st.sampled_from(["allow", "refuse"]),
    agents=st.lists(st.one_of(st.none(), st.integers(0, 90)), min_size=4, max_size=4),
    load=st.one_of(st.none(), st.floats(0, 5000), st.just(2.2e-313)), fraction=st.one_of(
        st.none(), st.integers(1, 100)),
    leaving=st.sets(st.sampled_from(["hq", "branch", "acme"])),
    fallen=st.sets(st.sampled_from(["los", "vpn"])), closed=st.sets(
        st.sampled_from(["branch", "acme", "other"])),
    now=st.sampled_from([None, {"hq": 100}, {"acme": 75, "callback": 25}]),
)
def test_promises_that_hold_in_every_world(new_scene, **case):
    """Shares are valid, expressible, never at a site that is left, never outsourced if `never`."""
    scene = new_scene()
    scene.sites["other"] = scene.site("other", in_house=False, agents=5, depends_on=("los",))
    scene.change_site("acme", depends_on=("vpn",))
    for name, count in zip(scene.sites, case["agents"], strict=True):
        scene.change_site(name, staff={"calls": Staff(agents=count, handle_time=300.0)})
    scene.states, scene.fallen, scene.closed = case["states"], case["fallen"], case["closed"]
    scene.now = Shares(case["now"]) if case["now"] else None
    normal = Shares(case["normal"])
    scene.change_queue(
        backups=case["backups"], normal=normal, channel=case["channel"],
        home_down=case["home_down"], outsource=case["outsource"],
        in_disaster=case["in_disaster"], load_per_hour=case["load"])
    scene.capabilities = Capabilities(
        routes=True, share_step=case["step"], treatments=case["treatments"])
    leaving = frozenset(case["leaving"])
    got = scene.allocate(case["kind"], leaving=leaving, fraction=case["fraction"])
    assert sum(got.shares.values()) == 100
    if got.untouched:
        assert got.shares == (scene.now or normal)
        assert got.moves == ()
        assert got.findings
        return
    if case["kind"] != "failback" and all(v % case["step"] == 0 for v in normal.values()):
        assert all(value % case["step"] == 0 for value in got.shares.values())
    assert not leaving & set(got.shares)
    for name in got.shares:
        if name in TREATMENTS:
            assert case["treatments"] or name in normal
            continue
        assert scene.states[name] is not State.DOWN
        if case["outsource"] == "never" and case["kind"] != "failback":
            assert scene.sites[name].in_house
    if case["kind"] != "failback":
        assert all(source in leaving or source == "hq" for source, _ in got.moves)
