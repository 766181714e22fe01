"""The example policy is failed over in every state that its world can be in.

Each row says what the world is like, and then, worked out by hand from the policy's own figures,
what the shares must be, which guards speak and how the run ends. The run is really carried out on
simulated platforms, and the shares are read back from these.

    acme       20 heads at once × 3600 / 360 s = 200 of 480 calls an hour = 41.7 % → 40 (step 5);
               of its ramp 480 × 40 % × 360 / 3600 = 19.2 heads are taken then, 0.8 are left
               for prequal: 16 of 110 an hour = 14.5 % → 10
    nightline  15 heads × 3600 / 420 s = 128.6 of 480 = 26.8 % → 25
    applications: acme 80 of 85 an hour = 94 %, the other 6 % to annex
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Exit, PolicyError, Refused
from ccfailover.model.policy import Policy
from ccfailover.operations import prepare, runs
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from tests.unit.operations.room import Room

TUESDAY = "2026-10-20 14:00"
CHRISTMAS = "2026-12-24 12:00"

NORMAL = {"fraud": {"hq": 100}, "loan_calls": {"hq": 100}, "prequal": {"hq": 90, "acme": 10},
          "applications": {"hq": 100}}
FULL = {"fraud": {"annex": 100}, "loan_calls": {"acme": 40, "nightline": 25, "callback": 35},
        "prequal": {"acme": 10, "callback": 90}, "applications": {"acme": 94, "annex": 6}}
NO_ACME = {"fraud": {"annex": 100}, "loan_calls": {"nightline": 25, "callback": 75},
           "prequal": {"callback": 100}, "applications": {"annex": 100}}
NOBODY = {"fraud": {"message": 100}, "loan_calls": {"callback": 100},
          "prequal": {"callback": 100}, "applications": {"hq": 100}}


def small(policy: dict[str, Any]) -> None:
    policy["sites"]["acme"]["ramp"] = [{"after": "0m", "agents": 5}]


def office_hours(policy: dict[str, Any]) -> None:
    policy["sites"]["acme"]["hours"] = "Mo-Fr 08:00-12:00"


def licence_ended(policy: dict[str, Any]) -> None:
    policy["sites"]["acme"]["licences"] = {"TX": "2026-10-01"}


def little_money(policy: dict[str, Any]) -> None:
    policy["guards"]["daily_cost"] = 100


def other_criteria(policy: Policy) -> Policy:
    """acme was brought to other criteria after this policy was read."""
    acme = replace(policy.sites["acme"], criteria_version="2026-09")
    return replace(policy, sites={**policy.sites, "acme": acme})


@dataclass(frozen=True)
class Case:
    """`says`: (queue, guard, level, part of its sentence), all of which must be found."""

    name: str
    states: Mapping[str, str]
    shares: Mapping[str, Mapping[str, int]]
    says: tuple[tuple[str | None, str, str, str], ...]
    at: str = TUESDAY
    change: Callable[[dict[str, Any]], None] | None = None
    loaded: Callable[[Policy], Policy] = lambda policy: policy
    overrides: Mapping[str, str] = field(default_factory=dict)
    queues: tuple[str, ...] = ()
    state: RunState = RunState.SUCCEEDED
    waiting: Mapping[str, int] | None = None


DEAD = {"hq": "down"}
GOES_ON = "home is down, so the failover goes on"

CASES = [
    Case("home dead", DEAD, FULL, (
        ("loan_calls", "capacity", "warning", "acme can take 200 of 480"),
        ("loan_calls", "treatment", "warning", "35 % of loan_calls goes to callback"),
        ("fraud", "max_step", "warning", GOES_ON),
        (None, "daily_cost", "warning", GOES_ON),
    ), waiting={"hq": 4, "acme": 8, "annex": 0}),
    Case("home unknown, a person answers for it", {"hq": "unknown"}, FULL, (
        ("loan_calls", "capacity", "warning", "acme can take 200 of 480"),
        ("fraud", "max_step", "warning", "overridden: I can see the smoke"),
    ), overrides={"max_step": "I can see the smoke", "daily_cost": "I can see the smoke"},
        state=RunState.SUCCEEDED_WITH_EXCEPTIONS),
    Case("provider too small", DEAD, {
        **FULL, "loan_calls": {"acme": 10, "nightline": 25, "callback": 65},
        "applications": {"annex": 100}}, (
        ("loan_calls", "capacity", "warning", "acme can take 50 of 480"),
        ("loan_calls", "treatment", "warning", "65 % of loan_calls goes to callback"),
        ("applications", "beyond_capacity", "warning", "annex gets 77 %"),
    ), change=small),
    Case("provider closed", DEAD, NO_ACME, (
        ("loan_calls", "hours", "warning", "acme cannot take loan_calls: it is closed now"),
        ("prequal", "treatment", "warning", "100 % of prequal goes to callback"),
    ), change=office_hours),
    Case("provider down", {"hq": "down", "acme": "down"}, NO_ACME, (
        ("loan_calls", "receiver_down", "warning", "acme cannot take loan_calls: it is down"),
        ("applications", "beyond_capacity", "warning", "annex gets 77 %"),
    ), waiting={"hq": 4, "acme": 0, "annex": 8}),
    Case("provider unknown", {"hq": "down", "acme": "unknown"}, {
        **NO_ACME, "prequal": {"acme": 10, "callback": 90}}, (
        ("loan_calls", "receiver_unknown", "warning", "unknown is not healthy"),
    )),
    Case("every provider unknown", {"hq": "down", "acme": "unknown", "nightline": "unknown"}, {
        **FULL, "applications": {"annex": 100}}, (
        ("loan_calls", "receiver_unknown", "warning", "look at it now"),
    ), state=RunState.SUCCEEDED_WITH_EXCEPTIONS),
    Case("one queue that may not leave, its house gone", {"hq": "down", "annex": "down"}, {
        **FULL, "fraud": {"message": 100}, "applications": {"acme": 100}}, (
        ("fraud", "treatment", "warning", "100 % of fraud goes to message"),
        ("applications", "beyond_capacity", "warning", "acme gets 6 %"),
    )),
    Case("blocked window, home dead", DEAD, FULL, (
        (None, "blocked", "warning", "Dec 24-26"), (None, "blocked", "warning", GOES_ON),
    ), at=CHRISTMAS),
    Case("cost cap reached, home dead", DEAD, FULL, (
        (None, "daily_cost", "warning", "more than daily_cost (100.00)"),
    ), change=little_money),
    Case("licence expired", DEAD, {**FULL, "applications": {"annex": 100}}, (
        ("applications", "licence", "warning", "its last licence ended on 2026-10-01"),
    ), change=licence_ended, waiting={"hq": 4, "acme": 0, "annex": 8}),
    Case("criteria version differs", DEAD, NO_ACME, (
        ("applications", "criteria_version", "warning", "the site works by 2026-09"),
    ), loaded=other_criteria),
    Case("a dependency of every backup down", {"hq": "down", "carrier_west": "down"}, NOBODY, (
        ("loan_calls", "dependency", "warning", "treated, not shifted"),
        ("fraud", "treatment", "warning", "100 % of fraud goes to message"),
        ("applications", "hold", "warning", "stays where it is"),
    ), waiting={"hq": 12, "acme": 0, "annex": 0}),
    Case("everything down", dict.fromkeys(("hq", "acme", "annex", "nightline"), "down"), NOBODY, (
        ("applications", "hold", "warning", "stays where it is"),
    )),
    Case("one queue only", DEAD, {**NORMAL, "loan_calls": FULL["loan_calls"]}, (
        ("loan_calls", "treatment", "warning", "35 % of loan_calls goes to callback"),
    ), queues=("loan_calls",)),
]


def application(number: int, **fields: Any) -> bytes:
    return json.dumps({"uli": f"A{number:02}", "application_date": "20261001", "state": "TX",
                       "amount": 1000, "stage": "new", "in_hand": False} | fields).encode()


def fill(room: Room) -> None:
    """Eight that acme may take, and four that it may not: state, amount, stage, somebody's."""
    platform = room.platforms["jobs"]
    for number in range(8):
        platform.send("applications-hq", application(number))
    for number, fields in enumerate(({"state": "AK"}, {"amount": 60_000}, {"stage": "closing"},
                                     {"in_hand": True}), 8):
        platform.send("applications-hq", application(number, **fields))


def waiting(room: Room) -> dict[str, int]:
    queue = room.policy.queues["applications"]
    return {site: len(room.platforms[lever.provider].messages(lever.ref))
            for site, lever in queue.backlogs.items()}


def request(case: Case) -> Request:
    return Request(runbook="full_failover", subject="hq", reason="table",
                   overrides=case.overrides, queues=case.queues)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_failed_over(case: Case, tmp_path: Path) -> None:
    """The plan is as worked out, it runs to its end, and the platforms stand as it said."""
    room = Room(tmp_path, case.at, case.change, case.states, case.loaded)
    fill(room)
    prepared = prepare.prepare(room.desk, request(case))
    assert prepared.refusal is None, prepared.refusal
    for queue, guard, level, part in case.says:
        assert any((found.queue == queue or queue is None) and found.guard == guard
                   and found.level == level and part in found.sentence
                   for found in prepared.plan.findings), (guard, part, prepared.plan.findings)
    told = {**NORMAL, **{name: dict(parts) for name, parts in prepared.plan.shares_after.items()}}
    assert told == {name: dict(parts) for name, parts in case.shares.items()}
    outcome = runs.start(room.desk, prepared, confirmed="table")
    assert outcome.state is case.state, [step.reason for step in outcome.run.problems()]
    assert outcome.exit in (Exit.DONE, Exit.EXCEPTIONS)
    assert room.shares() == told, "the platforms themselves say otherwise"
    assert all(sum(parts.values()) == 100 for parts in room.shares().values())
    found = waiting(room)
    assert sum(found.values()) == 12, "an application is gone, or there twice"
    if case.waiting is not None:
        assert found == case.waiting
    assert room.desk.store.leases() == [] and room.desk.store.verify() == []
    room.close()


REFUSALS = [
    Case("blocked window, home healthy", {}, NORMAL, ((None, "blocked", "soft", "Dec 24-26"),),
         at=CHRISTMAS),
    Case("blocked window, home unknown", {"hq": "unknown"}, NORMAL,
         ((None, "blocked", "soft", "Dec 24-26"),), at=CHRISTMAS),
    Case("cost cap reached, home healthy", {}, NORMAL,
         ((None, "daily_cost", "soft", "more than daily_cost (100.00)"),), change=little_money),
    Case("too much at once, home healthy", {}, NORMAL,
         (("fraud", "max_step", "soft", "50 % more than max_step"),)),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.name)
def test_refused_while_home_is_not_down(case: Case, tmp_path: Path) -> None:
    """A soft guard stops what can wait: no run, no lever touched, and it says what it wants."""
    room = Room(tmp_path, case.at, case.change, case.states, case.loaded)
    prepared = prepare.prepare(room.desk, request(case))
    (_, guard, level, part), = case.says
    assert any(found.guard == guard and found.level == level and part in found.sentence
               for found in prepared.plan.findings)
    with pytest.raises(Refused) as told:
        runs.start(room.desk, prepared, confirmed="table")
    assert told.value.exit_code is Exit.REFUSED and told.value.hint
    assert room.shares() == NORMAL and room.desk.store.run_ids() == []
    room.close()


@pytest.mark.parametrize("case", CASES[:5] + CASES[7:10], ids=lambda case: case.name)
def test_and_back(case: Case, tmp_path: Path) -> None:
    """Home is well again, an hour and a bit later: failback brings shares and applications home."""
    room = Room(tmp_path, case.at, case.change, case.states, case.loaded)
    fill(room)
    runs.start(room.desk, prepare.prepare(room.desk, request(case)), confirmed="table")
    room.states.clear()
    room.runtime.sleep(4000)
    back = prepare.prepare(room.desk, Request(
        runbook="failback", subject="hq", reason="table",
        overrides=dict.fromkeys(("blocked", "max_step", "daily_cost"), "all is well")))
    assert back.refusal is None, back.refusal
    outcome = runs.start(room.desk, back, confirmed="table")
    assert outcome.state in (RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_EXCEPTIONS), [
        step.reason for step in outcome.run.problems()]
    assert room.shares() == NORMAL
    assert waiting(room) == {"hq": 12, "acme": 0, "annex": 0}
    assert room.platforms["desk_hq"].is_open("applications"), "home's people may work again"
    room.close()


def test_a_policy_whose_criteria_differ_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """Where the policy itself says so, nobody gets as far as a plan: it names both versions."""
    def change(policy: dict[str, Any]) -> None:
        policy["queues"]["applications"]["criteria_version"] = "2026-11"

    with pytest.raises(PolicyError) as told:
        Room(tmp_path, TUESDAY, change, DEAD)
    assert "2026-11" in str(told.value.problems[0]) and "2026-10" in str(told.value.problems[0])
