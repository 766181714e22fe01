"""ARC's routing controls and Region switch's plans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Phase, Procedure
from ccfailover.providers.aws.arc import ArcProvider
from ccfailover.providers.aws.arc.controls import smallest_step
from ccfailover.providers.aws.region_switch import RegionSwitchProvider
from tests.servers.awsarc import PANEL, PLAN, REGIONS, Cluster, RegionSwitch, Rule, control
from tests.unit.providers.aws_parts import made

SITES = {"hq": control(1), "acme": control(2)}
RULE = f"{PANEL}/safetyrule/{1:016x}"


@pytest.fixture
def fake() -> Iterator[Cluster]:
    with Cluster() as server:
        server.panels[PANEL] = {control(1): "On", control(2): "Off"}
        yield server
        assert not server.broken


def provider(fake: Cluster, **params: object) -> ArcProvider:
    return made(ArcProvider, **(params or {"endpoints": dict.fromkeys(REGIONS, fake.url)}))


def lever(**params: object) -> LeverSpec:
    return LeverSpec("edge", PANEL, {"destinations": SITES, **params})


def test_a_shift_is_one_batch(fake: Cluster) -> None:
    """On and Off in one call, so that no moment has neither."""
    route = provider(fake).route(lever())
    route.shift(Shares({"acme": 100}), expected=route.read(), key="k")
    assert fake.panels[PANEL] == {control(1): "Off", control(2): "On"}
    assert [name for name, _ in fake.calls].count("UpdateRoutingControlStates") == 1
    assert fake.overridden == [[]]
    assert route.read().shares == Shares({"acme": 100})


def test_endpoints_are_tried_in_random_order_until_one_answers(fake: Cluster) -> None:
    """With any two of five down every call succeeds, and not always at the same one."""
    route = provider(fake).route(lever())
    for _ in range(12):
        route.read()
    assert len({region for _, region in fake.calls}) > 1
    for dead in range(5):
        fake.down = {REGIONS[dead], REGIONS[(dead + 1) % 5]}
        route.shift(Shares({"acme": 100} if dead % 2 else {"hq": 100}), expected=None, key="k")
    assert route.read().shares == Shares({"hq": 100})


def test_when_no_endpoint_answers_all_are_named(fake: Cluster) -> None:
    """And a write is in doubt: a 503 does not say that it was not done."""
    fake.down = {*REGIONS}
    route = provider(fake).route(lever())
    with pytest.raises(Unavailable, match="5 of 5 endpoints") as caught:
        route.shift(Shares({"acme": 100}), expected=None, key="k")
    assert caught.value.in_doubt
    assert all(region in str(caught.value) for region in REGIONS)
    with pytest.raises(Unavailable) as reading:
        route.read()
    assert not reading.value.in_doubt


def test_a_refusal_shows_the_safety_rule_by_the_name_it_has_in_the_policy(fake: Cluster) -> None:
    """And how to break glass; nothing of the service's own text is shown."""
    fake.panels[PANEL][control(3)] = "Off"
    fake.rules.append(Rule(RULE, (control(1), control(3)), 1))
    edge = provider(fake, endpoints=dict.fromkeys(REGIONS, fake.url),
                    safety_rules={"never_none": RULE})
    with pytest.raises(Rejected, match="safety rule never_none") as caught:
        edge.route(lever()).shift(Shares({"acme": 100}), expected=None, key="k")
    assert RULE in str(caught.value) and "evaluated" not in str(caught.value)
    assert "override_safety_rules" in (caught.value.hint or "")
    assert fake.panels[PANEL][control(1)] == "On"
    edge.route(lever(override_safety_rules=[RULE])).shift(
        Shares({"acme": 100}), expected=None, key="k")
    assert fake.overridden == [[RULE]] and fake.panels[PANEL][control(2)] == "On"


def test_an_override_is_told_when_it_did_not_help(fake: Cluster) -> None:
    """Another rule said no: the hint says that rules are overridden already."""
    other = f"{PANEL}/safetyrule/{2:016x}"
    fake.panels[PANEL][control(3)] = "Off"
    fake.rules.append(Rule(other, (control(1), control(3)), 1))
    with pytest.raises(Rejected) as caught:
        provider(fake).route(lever(override_safety_rules=[RULE])).shift(
            Shares({"acme": 100}), expected=None, key="k")
    assert "overrides 1 safety rules" in (caught.value.hint or "")


def test_states_that_are_no_shares_are_unknown(fake: Cluster) -> None:
    """None On; two On without `equal_parts`; three On; a foreign one On; a missing one."""
    panel = fake.panels[PANEL]
    route = provider(fake).route(lever())
    panel[control(2)] = "On"
    with pytest.raises(Rejected, match="acme, hq are On"):
        route.read()
    assert provider(fake).route(lever(equal_parts=True)).read().shares == Shares(
        {"hq": 50, "acme": 50})
    panel |= {control(1): "Off", control(2): "Off"}
    with pytest.raises(Rejected, match="no routing control is On"):
        route.read()
    panel |= {control(1): "On", control(7): "On"}
    with pytest.raises(Rejected, match="neither destinations nor not_traffic"):
        route.read()
    assert provider(fake).route(lever(not_traffic=[control(7)])).read().shares == Shares(
        {"hq": 100})
    with pytest.raises(Rejected, match="no routing control for mars"):
        provider(fake).route(lever(destinations={**SITES, "mars": control(9)})).read()
    panel |= {control(2): "On"}
    with pytest.raises(Rejected, match="3 are On: equal parts"):
        provider(fake).route(lever(equal_parts=True, destinations={
            **SITES, "x": control(7)})).read()


def test_only_equal_parts_can_be_switched(fake: Cluster) -> None:
    """Without `equal_parts` all or nothing."""
    with pytest.raises(Rejected, match="multiple of the step 100"):
        provider(fake).route(lever()).shift(Shares({"hq": 50, "acme": 50}), expected=None, key="k")
    four = {**SITES, "x": control(3), "y": control(4)}
    with pytest.raises(Rejected, match="no equal parts"):
        provider(fake).route(lever(equal_parts=True, destinations=four)).shift(
            Shares({"hq": 75, "acme": 25}), expected=None, key="k")
    assert not fake.overridden
    assert [smallest_step(count) for count in (1, 2, 3, 4, 5)] == [100, 50, 50, 25, 5]


def test_somebody_elses_switching_is_not_overwritten(fake: Cluster) -> None:
    """Our own repeat passes."""
    route = provider(fake).route(lever(equal_parts=True))
    before = route.read()
    fake.panels[PANEL] |= {control(1): "Off", control(2): "On"}
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(Shares({"hq": 50, "acme": 50}), expected=before, key="k")
    route.shift(Shares({"acme": 100}), expected=before, key="k")


def test_endpoints_may_be_kept_in_a_file(fake: Cluster, tmp_path: Path) -> None:
    """As DescribeCluster gives them; a file that is no such answer is refused, unread."""
    kept = tmp_path / "cluster.json"
    edge = provider(fake, endpoints_file=str(kept))
    route = edge.route(lever())
    for text in (None, "[]", '{"Cluster": {"ClusterEndpoints": [{"Region": "x"}]}}', "no"):
        if text is not None:
            kept.write_text(text)
        with pytest.raises(Rejected, match="the file of endpoints"):
            route.read()
    kept.write_text(json.dumps({"Cluster": {"ClusterEndpoints": [
        {"Endpoint": fake.url, "Region": region} for region in REGIONS]}}))
    assert route.read().shares == Shares({"hq": 100})


# --- Region switch -------------------------------------------------------------------------------

ACTIONS = {"failover": {"action": "activate", "region": "us-west-2", "mode": "ungraceful"},
           "failback": {"action": "activate", "region": "us-east-1"},
           "retire": {"action": "deactivate", "region": "us-east-1"},
           "elsewhere": {"action": "activate", "region": "eu-west-1"}}


@pytest.fixture
def plans() -> Iterator[RegionSwitch]:
    with RegionSwitch() as server:
        yield server
        assert not server.broken


def procedure(plans: RegionSwitch) -> Procedure:
    return made(RegionSwitchProvider, regions=["us-east-1", "us-west-2"],
                endpoint_url=plans.url).procedure(
        LeverSpec("switch", PLAN, {"actions": ACTIONS}))


def test_a_plan_is_started_once_and_in_the_region_that_takes_over(plans: RegionSwitch) -> None:
    """The same key gives the same execution; another is refused while one is under way."""
    lever = procedure(plans)
    assert lever.read().phase is Phase.IDLE
    begun = lever.start("failover", key="run-1/step-2")
    assert lever.start("failover", key="run-1/step-2") == begun
    assert [region for name, region in plans.calls if name == "StartPlanExecution"] == ["us-west-2"]
    assert plans.executions[0].params["mode"] == "ungraceful"
    with pytest.raises(Rejected, match="'e-1' of this plan is running"):
        lever.start("failback", key="run-2/step-2")
    plans.executions[0].state = "completed"
    plans.executions[0].began -= 60
    again = lever.start("failback", key="run-2/step-2")
    assert again != begun and lever.read().execution == again
    assert lever.start("failover", key="run-1/step-2") == begun
    plans.executions[1].state = "completed"
    lever.start("retire", key="run-3/step-2")
    started = [region for name, region in plans.calls if name == "StartPlanExecution"]
    assert started == ["us-west-2", "us-east-1", "us-west-2"]


def test_a_lost_start_is_found_again_by_its_key(plans: RegionSwitch) -> None:
    """Nothing is begun a second time, although nobody told us of the first."""
    lever = procedure(plans)
    begun = lever.start("failover", key="r/s")
    plans.executions[0].state = "completed"
    assert procedure(plans).start("failover", key="r/s") == begun
    assert len(plans.executions) == 1


@pytest.mark.parametrize(("state", "phase"), [
    ("pending", Phase.RUNNING), ("inProgress", Phase.RUNNING),
    ("pendingManualApproval", Phase.WAITING), ("pausedByFailedStep", Phase.PAUSED),
    ("pausedByOperator", Phase.PAUSED), ("completed", Phase.DONE),
    ("completedMonitoringApplicationHealth", Phase.DONE),
    ("completedWithExceptions", Phase.EXCEPTIONS), ("canceled", Phase.CANCELLED),
    ("failed", Phase.FAILED), ("planExecutionTimedOut", Phase.FAILED)])
def test_every_state_of_an_execution_has_its_phase(
        plans: RegionSwitch, state: str, phase: Phase) -> None:
    """All that the service's model knows; the steps come over all pages."""
    known = plans.model.shape_for("ExecutionState").enum  # type: ignore[attr-defined]
    assert state in known and len(known) == 11
    lever = procedure(plans)
    begun = lever.start("failover", key="r/s")
    plans.executions[0].state = state
    seen = lever.read(begun)
    assert seen.phase is phase and seen.detail.startswith(f"{state} activate us-west-2")
    assert [name for name, _ in seen.steps] == list(plans.steps)


def test_a_step_that_waits_is_approved_or_declined(plans: RegionSwitch) -> None:
    """Once: a repeat of an approval passes; what does not wait is refused."""
    lever = procedure(plans)
    begun = lever.start("failover", key="r/s")
    with pytest.raises(Rejected, match="waits for nobody"):
        lever.approve(begun, "approve", approve=True, key="r/s")
    plans.executions[0].steps["approve"] = "pendingApproval"
    seen = lever.read(begun)
    assert seen.phase is Phase.WAITING and seen.waiting_for == ("approve",)
    for _ in range(2):
        lever.approve(begun, "approve", approve=True, key="r/s")
    assert plans.executions[0].steps["approve"] == "running"
    assert [name for name, _ in plans.calls].count("ApprovePlanExecutionStep") == 1
    plans.executions[0].steps["approve"] = "pendingApproval"
    lever.approve(begun, "approve", approve=False, key="r/s")
    assert lever.read(begun).phase is Phase.PAUSED
    with pytest.raises(Rejected, match="no step 'dance'"):
        lever.approve(begun, "dance", approve=True, key="r/s")


def test_a_dead_region_does_not_hinder_following(plans: RegionSwitch) -> None:
    """The first Region is down: the other one tells, and starts what it activates. What the dead
    one would have to start is not started anywhere."""
    plans.down.add("us-east-1")
    lever = procedure(plans)
    begun = lever.start("failover", key="r/s")
    assert lever.read(begun).phase is Phase.RUNNING
    plans.executions[0].state = "completed"
    with pytest.raises(Unavailable, match="replied 503"):
        lever.start("failback", key="r2/s")
    assert len(plans.executions) == 1


def test_what_is_not_in_the_policy_is_not_started(plans: RegionSwitch) -> None:
    """An unknown action, a foreign Region, an unknown plan or execution."""
    lever = procedure(plans)
    with pytest.raises(Rejected, match="actions does not name 'dance'"):
        lever.start("dance", key="k")
    with pytest.raises(Rejected, match="not one of the plan's Regions"):
        lever.start("elsewhere", key="k")
    assert not plans.calls
    with pytest.raises(Rejected, match="ResourceNotFoundException"):
        lever.read("nonesuch")
