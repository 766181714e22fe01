"""Runs that a policy, a person or a second process changes while they are under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from ccfailover.errors import LeaseHeld, PolicyError, Problem, Refused, Rejected
from ccfailover.model.journal import Actor, Lease
from ccfailover.model.plan import Branch, Mode, OnFailure, Plan
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.operations import runs
from ccfailover.runbooks.drive import Driver, Hands
from ccfailover.runbooks.engine import Result
from ccfailover.runbooks.plan import _scopes, changed
from ccfailover.runbooks.run import RunState, StepStatus, fold
from ccfailover.runbooks.step import Observed, Step, Truth
from ccfailover.runbooks.steps.shift_route import ShiftRoute
from ccfailover.runbooks.steps.verify import Verify
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, holder, open_store
from tests.unit.runbooks.stage import NO, Journal, Stage, plan, spec
from tests.unit.transfer.world import queue, site

ONE = plan(Branch("q", (spec("a"),)))


@pytest.fixture
def store() -> Iterator[Store]:
    made = open_store(":memory:", SystemRuntime())
    yield made
    made.close()


def begun(store: Store, what: Plan, name: str = "kim") -> tuple[str, Lease, Actor]:
    actor = holder.this_process(name)
    run, lease = store.create_run(what, actor=actor, ttl=30.0)
    return run, lease, actor


def test_who_declines_is_not_passed_over() -> None:
    """`on_timeout: proceed` is for silence: a no stops the run all the same."""
    asked = spec("approve", on_failure=OnFailure.CONTINUE)
    stage = Stage(plan(Branch("q", (spec("a"),)), before=[asked]))
    stage.holds["approve"] = deque([Observed(Truth.NO, "declined", final=True, veto=True)])
    assert stage.forward() is Result.PAUSED
    assert "apply a" not in stage.log
    assert stage.journal.fold().steps["approve"].vetoed


def test_silence_is_passed_over_where_the_recipe_says_so() -> None:
    """Without a veto, `continue` goes on, as an exception."""
    asked = spec("approve", on_failure=OnFailure.CONTINUE)
    stage = Stage(plan(Branch("q", (spec("a"),)), before=[asked]))
    stage.holds["approve"] = deque([NO])
    assert stage.forward() is Result.DONE
    assert stage.journal.fold().exceptions()


def test_a_stop_before_the_first_step_is_heard() -> None:
    """Asked while a taken-over holder is waited out: the start does not wipe it away."""
    journal = Journal()
    for kind in ("stop.requested", "run.started"):
        if not journal.records:
            journal.write("run.planned", {"plan": ONE.to_json()})
        journal.write(kind, {})
    assert journal.fold().stop_requested
    journal.write("run.paused", {})
    journal.write("run.resumed", {})
    assert not journal.fold().stop_requested, "a resume is a person's word after it"


def test_a_home_that_gets_worse_voids_no_plan() -> None:
    """The plan made while home was well is what the person reaches for when it dies."""
    policy = cast(Any, SimpleNamespace(queues={"q": SimpleNamespace(home="hq")}))
    made = replace(ONE, basis={"request": {}, "states": {"hq": "healthy", "acme": "healthy"}})
    worse = replace(ONE, basis={"request": {}, "states": {"hq": "down", "acme": "healthy"}})
    receiver = replace(ONE, basis={"request": {}, "states": {"hq": "down", "acme": "degraded"}})
    assert changed(policy, made, worse) == []
    assert changed(policy, made, receiver) == ["acme was healthy, is degraded"]
    other = replace(worse, branches=(Branch("q", (spec("b"),)),))
    assert changed(policy, made, other), "other steps are another plan"


def test_a_drill_stands_in_nobodys_way(store: Store) -> None:
    """A shadow drill holds no scope: killed in the middle, it blocks no real failover."""
    policy = cast(Any, SimpleNamespace(queues={}))
    queues = cast(Any, [SimpleNamespace(name="q")])
    branches = [Branch("q", (spec("a", lever="sw:q"),))]
    assert _scopes(policy, queues, branches, Mode.SHADOW, ()) == ()
    assert _scopes(policy, queues, branches, Mode.REAL, ()) == ("lever:sw:q", "queue:q")
    drill, _, _ = begun(store, plan(*branches, mode=Mode.SHADOW, scopes=()))
    begun(store, plan(*branches))
    with pytest.raises(LeaseHeld):
        begun(store, plan(*branches))
    lease, _ = store.acquire(drill, actor=holder.this_process("kim"), ttl=30.0)
    store.end_run(lease, "run.aborted", {}, actor="kim")
    assert not store.verify()


class Secretive(Step):
    """Its secret reference leads nowhere in branch x; in y it has none."""

    kind = "test"
    PARAMS: ClassVar = {}
    summary = "test"

    @classmethod
    def bind(cls, binding: object) -> list[Any]:
        return []

    def holds(self, snapshot: object) -> Observed:
        if self.spec.id == "x":
            raise PolicyError([Problem("env:X", 0, 0, "the environment has no X")])
        return Observed(Truth.YES, "so")


def test_a_secret_that_leads_nowhere_pauses_its_branch_only(store: Store) -> None:
    """Not the whole run with a stack trace: the other branch goes on, the journal says why."""
    run, lease, actor = begun(store, plan(Branch("x", (spec("x", deadline=0.1),)),
                                          Branch("y", (spec("y"),))))
    hands = Hands(policy=cast(Any, SimpleNamespace(lease=30.0)), store=store,
                  runtime=SystemRuntime(),
                  levers=cast(Any, None), make_step=Secretive, site_state=lambda name: "healthy",
                  observe=cast(Any, None), guard=lambda run, moves: ())
    driver = Driver(fold(store.read(f"run:{run}")), lease, hands, actor=actor)
    assert driver.go(back=False) is Result.PAUSED
    after = fold(store.read(f"run:{run}"))
    assert after.phase is RunState.PAUSED
    assert after.steps["y"].status is StepStatus.SUCCEEDED
    assert after.steps["x"].status is StepStatus.FAILED
    assert "the environment has no X" in after.steps["x"].reason


def test_an_approval_cannot_be_skipped(store: Store) -> None:
    """Whoever could skip it would approve their own request."""
    asked = replace(spec("approve"), kind="approve")
    run, lease, actor = begun(store, plan(Branch("q", (spec("a"),)), before=[asked]))
    store.append(f"run:{run}", "step.started", {"step": "approve", "snapshot": None},
                 actor="kim", lease=lease)
    store.append(f"run:{run}", "step.failed", {"step": "approve", "reason": "nobody"},
                 actor="kim", lease=lease)
    desk = cast(Any, SimpleNamespace(store=store, actor=actor, runtime=SystemRuntime()))
    with pytest.raises(Refused) as refused:
        runs.skip(desk, run, step=None, reason="nobody answers")
    assert refused.value.guard == "approval"
    assert "step.skipped" not in [record.kind for record in store.read(f"run:{run}")]


class Lever:
    """A route that keeps what it was told."""

    def __init__(self) -> None:
        self.shares = Shares({"hq": 100})

    def read(self) -> Any:
        return SimpleNamespace(shares=self.shares, version="1")

    def shift(self, to: Shares, *, expected: object, key: str) -> None:
        self.shares = to


def shift(lever: Lever, *, ref: str = "q", outsource: str = "allowed") -> ShiftRoute:
    """Planned for lever `sw:q`, carried out under a policy with that ref and outsourcing."""
    found = queue(route=LeverSpec("sw", ref), outsource=outsource)
    policy = SimpleNamespace(queues={found.name: found}, timezone="America/Chicago",
                             sites={name: site(name) for name in ("hq", "acme")})
    context = SimpleNamespace(
        policy=policy, plan=ONE, key="r1/s", levers=SimpleNamespace(
            route=lambda at: lever, route_view=lambda at: lever),
        records=list, site_state=lambda name: "healthy", runtime=SystemRuntime())
    what = replace(spec("s", lever="sw:q", queue=found.name, to={"acme": 100}),
                   kind="shift_route")
    return ShiftRoute(what, cast(Any, context))


def test_a_lever_that_was_not_leased_is_not_touched() -> None:
    """The policy names another lever by now: the run holds the old one and touches neither."""
    lever = Lever()
    with pytest.raises(Rejected, match="sw:other now; this run holds sw:q"):
        shift(lever, ref="other").apply({"shares": {"hq": 100}})
    assert lever.shares == Shares({"hq": 100})


def test_a_receiver_that_answers_nobody_is_not_verified() -> None:
    """One contact a second, none answered: no three seconds of it look like service."""
    clock = {"at": 0.0}
    lever = Lever()
    lever.shares = Shares({"acme": 100})

    def measure() -> dict[str, float]:
        return {"offered": clock["at"]}

    def observe(probe: object) -> Any:
        from ccfailover.model.health import Outcome
        return SimpleNamespace(outcome=Outcome.GOOD, values={"answered": 7.0}, detail="")

    found = queue(route=LeverSpec("sw", "q"),
                  probes=(SimpleNamespace(params={"site": "acme"}),))
    runtime = SimpleNamespace(monotonic=lambda: clock["at"], now=lambda: 1)
    context = SimpleNamespace(
        policy=SimpleNamespace(queues={found.name: found},
                               sites={name: site(name) for name in ("hq", "acme")}),
        levers=SimpleNamespace(route_view=lambda at: SimpleNamespace(
            read=lever.read, measure=measure)),
        site_state=lambda name: "healthy", observe=observe, runtime=runtime)
    step = Verify(spec("verify", queue=found.name, shares={"acme": 100}, role="route",
                       readings=3, minimum=0.5), cast(Any, context))
    for _ in range(12):
        assert step.holds({}).truth is Truth.NO, clock
        clock["at"] += 1.0


def test_one_process_table_is_not_another() -> None:
    """What is known of a process says which processes could see it: containers of one machine
    share its boot, and neither may take the other's holder for dead."""
    mine = holder.this_process("kim").to_json()
    assert holder.alive(mine) is True
    elsewhere = {**mine, "boot": str(mine["boot"]).replace("pid:[", "pid:[9"), "pid": 2**22 + 1}
    assert elsewhere["boot"] != mine["boot"]
    assert holder.alive(elsewhere) is None
