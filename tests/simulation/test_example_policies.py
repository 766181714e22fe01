"""Each example policy, run: valid, every runbook to its end and back, rehearsed, and failed over in
every state that its world can be in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import pytest

from ccfailover.errors import Exit, PolicyError
from ccfailover.model.health import Outcome
from ccfailover.model.plan import Mode
from ccfailover.model.policy import Policy
from ccfailover.operations import runs
from ccfailover.operations.execute_due import execute_due
from ccfailover.operations.report import report
from ccfailover.operations.upkeep import acknowledge
from ccfailover.policy import load as policy_load
from ccfailover.reports.as_json import as_json
from ccfailover.runbooks.run import RunState
from ccfailover.runtime import SECOND
from ccfailover.wiring.kinds import Schemas
from tests.simulation.policy_world import (
    POLICIES,
    PolicyWorld,
    build,
    found_against,
    instant,
    read,
)

BAD, UNKNOWN = Outcome.BAD, Outcome.UNKNOWN
EXAMPLES = sorted(POLICIES.glob("*.yaml"))
DEAD = {"hq": BAD}


def loan(number: int, *, state: str = "TX", amount: float = 9000.0, stage: str = "new",
         in_hand: bool = False) -> dict[str, object]:
    """An application that reads right under each of the example policies."""
    name, day = f"L{number:03d}", f"2026-03-{number + 1:02d}"
    return {"uli": name, "loan_id": name, "application_date": day, "submitted_at": day,
            "state": state, "property_state": "NY", "amount": amount, "stage": stage,
            "in_hand": in_hand}


FREE = [loan(number) for number in range(6)]
BOUND = [loan(6, state="CA"), loan(7, amount=70_000.0), loan(8, stage="closing"),
         loan(9, in_hand=True)]
"""Not licensed, too large, too far on, in somebody's hands: these stay where they are."""


@contextmanager
def world(path: Path, at: str, timezone: str, *,
          change: Callable[[Policy], Policy] | None = None) -> Iterator[PolicyWorld]:
    """A policy's world on a clock that stands at `at` to begin with; its store is intact after."""
    made = build(path, instant(at, timezone), {"applications": [*FREE, *BOUND]}, change=change)
    try:
        yield made
        assert made.store.verify() == []
    finally:
        made.store.close()


def conserved(made: PolicyWorld) -> None:
    """Every item is at exactly one site."""
    for queue in made.policy.queues.values():
        if queue.backlogs:
            there = [name for found in made.ids(queue.name).values() for name in found]
            assert sorted(there) == [f"L{number:03d}" for number in range(10)]


# --- every example ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    """No error and no warning, today and on the day of the tests."""
    policy, problems = policy_load.check(str(path), Schemas(),
                                         now=instant("2026-11-18 17:00", "UTC"))
    assert policy is not None
    assert [str(problem) for problem in problems] == []


NORMAL_LOANS = {"fraud": {"hq": 100}, "loan_calls": {"hq": 100}, "prequal": {"acme": 10, "hq": 90},
                "applications": {"hq": 100}}
FULL_LOANS = {"fraud": {"annex": 100}, "loan_calls": {"acme": 40, "callback": 35, "nightline": 25},
              "prequal": {"acme": 10, "callback": 90}, "applications": {"acme": 94, "annex": 6}}


@dataclass(frozen=True)
class Move:
    """One run and the shares that its platforms have after it. `override` all soft guards that
    stand in the way of a planned move right after another."""

    runbook: str
    subject: str
    shares: Mapping[str, Mapping[str, int]]
    exit: Exit = Exit.DONE
    stated: Mapping[str, Outcome] = field(default_factory=dict)
    percent: int | None = None
    override: tuple[str, ...] = ()


STORIES: dict[str, tuple[str, str, str, list[Move]]] = {
    "consumer_loans": ("consumer_loans", "2026-11-18 17:00", "America/Chicago", [
        Move("full_failover", "hq", FULL_LOANS, stated=DEAD),
        Move("failback", "hq", NORMAL_LOANS, Exit.EXCEPTIONS, override=("max_step", "flap_block")),
        Move("overflow", "applications", {**NORMAL_LOANS, "applications": {"acme": 30, "hq": 70}},
             Exit.EXCEPTIONS, percent=30, override=("flap_block",)),
        Move("overflow", "loan_calls", {**NORMAL_LOANS, "applications": {"acme": 30, "hq": 70},
                                        "loan_calls": {"acme": 30, "hq": 70}},
             Exit.EXCEPTIONS, percent=30, override=("flap_block",)),
        Move("switchover", "hq", {**FULL_LOANS, "applications": {"annex": 100}}, Exit.EXCEPTIONS,
             override=("max_step", "flap_block")),
    ]),
    "seasonal_overflow": ("seasonal_overflow", "2026-04-15 11:00", "America/New_York", [
        Move("overflow", "mortgage_calls", {"mortgage_calls": {"home_office": 80,
                                                               "peakpartner": 20},
                                            "applications": {"home_office": 100}}),
        Move("overflow", "applications", {"mortgage_calls": {"home_office": 80, "peakpartner": 20},
                                          "applications": {"home_office": 60, "peakpartner": 40}},
             percent=40),
        Move("failback", "home_office", {"mortgage_calls": {"home_office": 100},
                                         "applications": {"home_office": 100}},
             Exit.EXCEPTIONS, override=("flap_block",)),
        Move("full_failover", "home_office", {"mortgage_calls": {"message": 100},
                                              "applications": {"home_office": 100}},
             stated={"home_office": BAD}),
    ]),
    "extended_hours at noon": ("extended_hours", "2026-11-18 12:00", "America/Denver", [
        Move("overflow", "service_calls", {"service_calls": {"branches": 17, "main": 83},
                                           "callbacks": {"main": 100}}),
        Move("full_failover", "main", {"service_calls": {"branches": 26, "callback": 74},
                                       "callbacks": {"branches": 100}}, stated={"main": BAD}),
        Move("failback", "main", {"service_calls": {"branches": 10, "main": 90},
                                  "callbacks": {"main": 100}},
             Exit.EXCEPTIONS, override=("flap_block",)),
    ]),
    "extended_hours at night": ("extended_hours", "2026-11-18 19:00", "America/Denver", [
        Move("full_failover", "main", {"service_calls": {"night": 100},
                                       "callbacks": {"voicemail": 100}}, stated={"main": BAD}),
    ]),
}


@pytest.mark.parametrize("story", STORIES)
def test_every_runbook_of_every_example(story: str) -> None:
    """Out, back, overflow, switchover: the platforms themselves have what was asked, no item is
    lost or twice, and home's consumers work again at the end of a failback."""
    name, at, timezone, moves = STORIES[story]
    with world(POLICIES / f"{name}.yaml", at, timezone) as made:
        for move in moves:
            made.stated.clear()
            made.stated.update(move.stated)
            prepared = made.prepare(move.runbook, move.subject, percent=move.percent,
                                    override=move.override)
            _, code = made.start(prepared)
            assert (code, made.all_shares()) == (move.exit, move.shares), move
            conserved(made)
            if move.runbook == "failback":
                assert all(made.gates())
                assert all(not found for queue in made.policy.queues.values() if queue.backlogs
                           for site, found in made.ids(queue.name).items() if site != queue.home)


@pytest.mark.parametrize(("name", "subject", "at", "timezone"), [
    ("consumer_loans", "hq", "2026-11-18 17:00", "America/Chicago"),
    ("consumer_loans", "hq", "2026-11-23 09:00", "America/Chicago"),
    ("seasonal_overflow", "home_office", "2026-04-15 11:00", "America/New_York"),
    ("extended_hours", "main", "2026-11-18 12:00", "America/Denver"),
])
def test_every_example_can_be_rehearsed(name: str, subject: str, at: str, timezone: str) -> None:
    """On a good day and in a blocked window: all is read, nothing written, and it is stamped."""
    with world(POLICIES / f"{name}.yaml", at, timezone) as made:
        before = made.all_shares()
        state, code = made.start(made.prepare("full_failover", subject, mode=Mode.SHADOW))
        assert (state, code) == (RunState.SUCCEEDED, Exit.DONE)
        assert made.writes() == []
        assert made.all_shares() == before
        assert as_json(report(made.desk, None))["stamp"] == "DRILL"
        assert any(platform.calls for platform in made.platforms.values())


def test_the_calendar_of_extended_hours() -> None:
    """By its own triggers: the night team at 18:00, back to normal at 08:00, nothing in between."""
    here = "America/Denver"
    normal = {"service_calls": {"branches": 10, "main": 90}, "callbacks": {"main": 100}}
    night = {"service_calls": {"night": 100}, "callbacks": {"main": 100}}
    with world(POLICIES / "extended_hours.yaml", "2026-11-18 09:00", here) as made:
        for at, shares in (("2026-11-18 09:00", normal), ("2026-11-18 17:30", normal),
                           ("2026-11-18 18:05", night), ("2026-11-19 07:30", night),
                           ("2026-11-19 08:10", normal), ("2026-11-19 12:00", normal)):
            made.clock.sleep(max(0, instant(at, here) - made.clock.now()) / SECOND)
            for _ in range(3):  # a trigger has to hold for a minute
                execute_due(made.desk)
                made.clock.sleep(61)
            assert made.all_shares() == shares, at


# --- consumer_loans in every state of its world ----------------------------------------------

MAX_STEP = " | fraud max_step | prequal max_step | applications max_step"
CALLS_SHORT = "loan_calls capacity treatment | prequal capacity treatment"
AS_USUAL = f"{CALLS_SHORT} | applications capacity{MAX_STEP}"
PLANNED = (f"{CALLS_SHORT} | applications outsource_never capacity beyond_capacity{MAX_STEP}")
NOBODY = {"fraud": {"message": 100}, "loan_calls": {"callback": 100},
          "prequal": {"callback": 100}, "applications": {"hq": 100}}
ONLY_ANNEX = {**FULL_LOANS, "prequal": {"callback": 100}, "applications": {"annex": 100}}
SWITCHED = {**FULL_LOANS, "applications": {"annex": 100}}


@dataclass(frozen=True)
class Case:
    """`findings` are `queue guard guard! | …`: a mark says soft, no mark a warning; `-` is for
    what is of no queue. `items` are how many wait at hq, acme and annex afterwards."""

    name: str
    findings: str
    shares: Mapping[str, Mapping[str, int]]
    items: tuple[int, int, int] = (4, 6, 0)
    exit: Exit = Exit.DONE
    state: RunState | None = RunState.SUCCEEDED
    stated: Mapping[str, Outcome] = field(default_factory=lambda: DEAD)
    at: str = "2026-11-18 17:00"
    runbook: str = "full_failover"
    override: tuple[str, ...] = ()
    edit: tuple[str, str] | None = None
    change: Callable[[Policy], Policy] | None = None
    before: Callable[[PolicyWorld], None] = lambda made: None


def refused(name: str, findings: str, **more: object) -> Case:
    return Case(name, findings, NORMAL_LOANS, (10, 0, 0), Exit.REFUSED, None,
                **more)  # type: ignore[arg-type]


def overridden(name: str, findings: str, **more: object) -> Case:
    given = {"shares": SWITCHED, "items": (4, 0, 6), **more}
    return Case(name, findings, exit=Exit.EXCEPTIONS, state=RunState.SUCCEEDED_WITH_EXCEPTIONS,
                **given)  # type: ignore[arg-type]


def soft(findings: str, *guards: str) -> str:
    """The same findings, with these guards standing in the way."""
    for guard in guards:
        findings = findings.replace(f" {guard}", f" {guard}!")
    return findings


def without(site: str, **changes: object) -> Callable[[Policy], Policy]:
    """The policy, once loaded, with a site's declarations changed: what `validate` refuses."""
    def change(policy: Policy) -> Policy:
        less = replace(policy.sites[site], **changes)  # type: ignore[arg-type]
        return replace(policy, sites={**policy.sites, site: less})

    return change


def moved_lately(made: PolicyWorld) -> None:
    """loan_calls overflows a little, is brought back by hand, and so has just moved."""
    assert made.start(made.prepare("overflow", "loan_calls", percent=30))[1] is Exit.DONE
    made.platforms["edge"].add_route("loan_calls", {"hq": 100})


def moved_and_seen(made: PolicyWorld) -> None:
    moved_lately(made)
    acknowledge(made.desk, "it was us")


def lever_gone_dark(made: PolicyWorld) -> None:
    made.platforms["edge"].dark.add("loan_calls")


ANNEX_CLOSED = "fraud hours treatment max_step | prequal max_step | applications hours max_step " \
    f"capacity beyond_capacity | {CALLS_SHORT}"
ACME_OUT = "applications capacity beyond_capacity"
TABLE = [
    Case("home dead", AS_USUAL, FULL_LOANS),
    refused("home unknown", soft(AS_USUAL, "max_step"), stated={"hq": UNKNOWN}),
    overridden("home unknown, overridden", AS_USUAL, shares=FULL_LOANS, items=(4, 6, 0),
               stated={"hq": UNKNOWN}, override=("max_step",)),
    Case("provider too small", f"fraud capacity treatment | {AS_USUAL}",
         {**FULL_LOANS, "fraud": {"annex": 50, "message": 50}},
         edit=("fraud:        {agents: 6, handle_time: 4m}\n      applications: {per_hour: 20}",
               "fraud:        {agents: 2, handle_time: 4m}\n      applications: {per_hour: 20}")),
    Case("provider closed", ANNEX_CLOSED,
         {**FULL_LOANS, "fraud": {"message": 100}, "applications": {"acme": 100}},
         at="2026-11-18 22:00"),
    Case("provider down",
         f"loan_calls receiver_down capacity treatment | prequal receiver_down treatment | "
         f"applications receiver_down | {ACME_OUT}{MAX_STEP}",
         {**ONLY_ANNEX, "loan_calls": {"callback": 75, "nightline": 25}}, (4, 0, 6),
         stated={**DEAD, "acme": BAD}),
    Case("provider unknown",
         f"loan_calls receiver_unknown capacity treatment | prequal treatment | "
         f"applications receiver_unknown | {ACME_OUT}{MAX_STEP}",
         {**FULL_LOANS, "loan_calls": {"callback": 75, "nightline": 25},
          "applications": {"annex": 100}}, (4, 0, 6), stated={**DEAD, "acme": UNKNOWN}),
    Case("every provider unknown",
         "fraud receiver_unknown | loan_calls receiver_unknown capacity treatment | "
         f"prequal treatment | applications receiver_unknown capacity{MAX_STEP}",
         FULL_LOANS, exit=Exit.EXCEPTIONS, state=RunState.SUCCEEDED_WITH_EXCEPTIONS,
         stated={**DEAD, "acme": UNKNOWN, "annex": UNKNOWN, "nightline": UNKNOWN}),
    Case("every provider down",
         "fraud receiver_down treatment max_step | loan_calls receiver_down treatment | "
         "prequal receiver_down treatment max_step | applications receiver_down hold",
         NOBODY, (10, 0, 0), stated={**DEAD, "acme": BAD, "annex": BAD, "nightline": BAD}),
    Case("a queue that may not leave, its own backup down",
         "fraud receiver_down treatment max_step | applications receiver_down capacity "
         f"beyond_capacity max_step | prequal max_step | {CALLS_SHORT}",
         {**FULL_LOANS, "fraud": {"message": 100}, "applications": {"acme": 100}},
         stated={**DEAD, "annex": BAD}),
    Case("blocked window, home dead", f"- blocked daily_cost | {AS_USUAL}", FULL_LOANS,
         at="2026-11-23 09:00"),
    refused("blocked window, planned", f"- blocked! daily_cost | {PLANNED}", stated={},
            at="2026-11-23 09:00", runbook="switchover", override=("max_step", "daily_cost")),
    overridden("blocked window, planned, overridden", f"- blocked daily_cost | {PLANNED}",
               stated={}, at="2026-11-23 09:00", runbook="switchover",
               override=("max_step", "daily_cost", "blocked")),
    Case("cost cap reached, home dead", f"- daily_cost | {AS_USUAL}", FULL_LOANS,
         at="2026-11-18 08:00"),
    refused("cost cap reached, planned", f"- daily_cost! | {PLANNED}", stated={},
            at="2026-11-18 08:00", runbook="switchover", override=("max_step",)),
    overridden("cost cap reached, planned, overridden", f"- daily_cost | {PLANNED}", stated={},
               at="2026-11-18 08:00", runbook="switchover", override=("max_step", "daily_cost")),
    Case("licence expired",
         f"{CALLS_SHORT} | applications licence | {ACME_OUT}{MAX_STEP}",
         {**FULL_LOANS, "applications": {"annex": 100}}, (4, 0, 6),
         edit=("licences: [TX, OK, NM, KS, MO, IL]\n    criteria",
               "licences: {TX: 2026-11-17, OK: 2026-10-01}\n    criteria")),
    Case("criteria version differs",
         "loan_calls criteria_version capacity treatment | prequal criteria_version treatment | "
         f"applications criteria_version | {ACME_OUT}{MAX_STEP}",
         {**ONLY_ANNEX, "loan_calls": {"callback": 75, "nightline": 25}}, (4, 0, 6),
         change=without("acme", criteria_version="2026-09")),
    Case("data class missing",
         "loan_calls capacity treatment | prequal data_class treatment | "
         f"applications data_class | {ACME_OUT}{MAX_STEP}", ONLY_ANNEX, (4, 0, 6),
         change=without("acme", data_classes=frozenset({"contact"}))),
    Case("a dependency down everywhere",
         "fraud dependency treatment max_step | loan_calls dependency treatment | "
         "prequal dependency treatment max_step | applications dependency hold",
         NOBODY, (10, 0, 0), stated={**DEAD, "los_replica": BAD}),
    Case("a lever cannot be read", f"loan_calls max_step | {AS_USUAL}",
         {**FULL_LOANS, "loan_calls": {"hq": 100}},
         exit=Exit.PAUSED, state=RunState.PAUSED, before=lever_gone_dark),
    Case("moved lately, home dead", f"loan_calls flap_block | {AS_USUAL}", FULL_LOANS,
         before=moved_lately),
    refused("moved lately, planned", f"loan_calls flap_block! | {PLANNED}", stated={},
            runbook="switchover", override=("max_step",), before=moved_lately),
    overridden("moved lately, planned, acknowledged", PLANNED, stated={}, runbook="switchover",
               override=("max_step",), before=moved_and_seen),
]


def told(findings: str) -> set[tuple[str, str, str]]:
    """(queue, guard, level) from the table's short form."""
    out = set()
    for part in findings.split("|"):
        queue, *guards = part.split()
        for guard in guards:
            level = "soft" if guard.endswith("!") else "warning"
            out.add(("" if queue == "-" else queue, guard.rstrip("!"), level))
    return out


def loans(case: Case, tmp_path: Path) -> Path:
    path = POLICIES / "consumer_loans.yaml"
    if case.edit is None:
        return path
    old, new = case.edit
    text = path.read_text()
    assert text.count(old) == 1, "the policy reads otherwise now: mend this test"
    changed = tmp_path / path.name
    changed.write_text(text.replace(old, new))
    return changed


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_every_state_of_the_world(case: Case, tmp_path: Path) -> None:
    """What the platforms have afterwards, what is said of it, and how it ends."""
    with world(loans(case, tmp_path), case.at, "America/Chicago", change=case.change) as made:
        case.before(made)
        made.stated.update(case.stated)
        prepared = made.prepare(case.runbook, "hq", override=case.override)
        assert found_against(prepared.plan) == told(case.findings)
        assert made.start(prepared) == (case.state, case.exit)
        assert made.all_shares() == case.shares
        conserved(made)
        found = made.ids("applications")
        assert (len(found["hq"]), len(found["acme"]), len(found["annex"])) == case.items
        if case.state is None:
            assert not any(write.startswith("shift") for name, platform in made.platforms.items()
                           if name != "edge" for write in platform.writes)


def test_a_lever_that_comes_back() -> None:
    """Unreadable when planned and there again when run, or when resumed: moved, all the same."""
    for lit in ("before the start", "before the resume"):
        with world(POLICIES / "consumer_loans.yaml", "2026-11-18 17:00",
                   "America/Chicago") as made:
            made.stated.update(DEAD)
            lever_gone_dark(made)
            prepared = made.prepare("full_failover", "hq")
            assert prepared.plan.shares_before["loan_calls"] is None
            if lit == "before the resume":
                assert made.start(prepared)[0] is RunState.PAUSED
            made.platforms["edge"].dark.clear()
            if lit == "before the start":
                assert made.start(prepared)[0] is RunState.SUCCEEDED
            else:
                assert runs.resume(made.desk, None).state is RunState.SUCCEEDED
            assert made.all_shares() == FULL_LOANS
            conserved(made)


@pytest.mark.parametrize(("old", "new", "says"), [
    ('licences: [TX, OK, NM, KS, MO, IL]\n    criteria_version: "2026-10"',
     'licences: [TX, OK, NM, KS, MO, IL]\n    criteria_version: "2026-09"',
     "decided by credit criteria 2026-10, and acme works by 2026-09"),
    ("data_classes: [contact, credit]", "data_classes: [contact]",
     "holds credit data, which acme may not see"),
])
def test_a_policy_that_could_never_use_its_backup(old: str, new: str, says: str,
                                                  tmp_path: Path) -> None:
    """What a hard guard would forbid every time is an error of the policy, said beforehand."""
    path = loans(Case("", "", {}, edit=(old, new)), tmp_path)
    with pytest.raises(PolicyError) as error:
        read(path, instant("2026-11-18 17:00", "America/Chicago"))
    assert any(says in problem.message for problem in error.value.problems)


def test_no_share_stays_at_a_dead_site() -> None:
    """Home dead, and everything else in every combination: each queue is served or treated; one
    that is to be held waits, and only where nobody at all may and can take it."""
    states = (Outcome.GOOD, BAD, UNKNOWN)
    for annex, acme, nightline, replica, at in product(
            states, states, states[:2], states[:2], ("2026-11-18 17:00", "2026-11-18 22:00")):
        with world(POLICIES / "consumer_loans.yaml", at, "America/Chicago") as made:
            made.stated.update(DEAD, annex=annex, acme=acme, nightline=nightline,
                               los_replica=replica)
            prepared = made.prepare("full_failover", "hq")
            state, code = made.start(prepared)
            # Where nobody knows how the only receiver is, that is said.
            plainly = state is RunState.SUCCEEDED or (
                acme is UNKNOWN and state is RunState.SUCCEEDED_WITH_EXCEPTIONS)
            assert plainly and code in (Exit.DONE, Exit.EXCEPTIONS), made.stated
            held = {queue for queue, guard, _ in found_against(prepared.plan) if guard == "hold"}
            annex_out = annex is BAD or at.endswith("22:00")
            nobody = replica is BAD or (acme is BAD and annex_out)
            assert held == ({"applications"} if nobody else set()), made.stated
            for queue, shares in made.all_shares().items():
                dead = {name for name in ("annex", "acme", "nightline")
                        if made.stated[name] is BAD} | ({"hq"} if queue not in held else set())
                assert not dead & set(shares), (queue, shares, made.stated)
            conserved(made)
