"""Rollback: what it refuses to do, what it lists, and where a superseding run goes back to."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from crash_world import CrashWorld, Trial

from ccfailover.model.items import ItemState
from ccfailover.operations import prepare, runs
from ccfailover.operations.desk import Desk
from ccfailover.operations.run_list import load, state_of
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store
from ccfailover.wiring.assemble import actor, assemble
from tests.crash.people import Person, end_everybody, hear

pytestmark = [pytest.mark.server("roto-server")]

HOME = {"hq": 100}
AWAY = {"acme": 100}


class DieAt:
    """A store whose process is killed -9 right after one event is on disk."""

    def __init__(self, inner: Store, when: Callable[[str, Any], bool]) -> None:
        self._inner, self._when = inner, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, stream: str, kind: str, data: Any, **more: Any) -> Any:
        record = self._inner.append(stream, kind, data, **more)
        if self._when(kind, data):
            os.kill(os.getpid(), signal.SIGKILL)
        return record


@pytest.fixture(autouse=True)
def alone_again() -> Iterator[None]:
    """A test that fails leaves nobody waiting."""
    yield
    end_everybody()


class Scene(Trial):
    """A trial in which the test says how hq is: `0` healthy, `2` down, `3` nobody knows."""

    def hq_is(self, code: str) -> None:
        (self.policy.parent / "hq").write_text(code)

    def rewrite(self, change: Callable[[dict[str, Any]], None]) -> None:
        policy = yaml.safe_load(self.policy.read_text())
        change(policy)
        self.policy.write_text(yaml.safe_dump(policy))

    def dies(self, when: Callable[[str, Any], bool], **request: Any) -> None:
        def job() -> int:
            desk = assemble(str(self.policy), environ=self.world.environ,
                            store=lambda store: DieAt(store, when))  # type: ignore[arg-type,return-value]
            prepared = prepare.prepare(desk, Request(
                **{"runbook": "full_failover", "subject": "hq", "reason": "test"} | request))
            return int(runs.start(desk, prepared, confirmed="test").exit)

        assert self.in_child(job) == -signal.SIGKILL, self.errors()

    def state(self, number: int = -1) -> RunState:
        desk = self.desk()
        return state_of(desk, load(desk, desk.store.run_ids()[number]))

    def reasons(self, number: int = -1) -> str:
        desk = self.desk()
        run = load(desk, desk.store.run_ids()[number])
        return " | ".join(step.reason for step in run.problems())

    def shares(self, route: str = "loan_calls") -> dict[str, int]:
        told: dict[str, int] = self.world.centre.get("switch", f"/routes/{route}")["shares"]
        return told


@pytest.fixture
def scene(crash_world: CrashWorld) -> Scene:
    made = crash_world.trial()
    found = Scene(made.world, made.policy, made.hq, made.acme)
    script = made.policy.parent / "probe.sh"
    script.write_text('read code < "$1"; echo "hq says $code"; exit "$code"\n')

    def change(policy: dict[str, Any]) -> None:
        policy["sites"]["hq"]["probes"] = [
            {"kind": "command", "argv": ["/bin/sh", str(script), str(made.policy.parent / "hq")],
             "observer": observer} for observer in ("one", "two")]

    found.rewrite(change)
    found.hq_is("0")
    return found


def without_items(policy: dict[str, Any]) -> None:
    policy["runbooks"]["full_failover"] = {"before": ["confirm"],
                                           "branch": ["redirect_intake", "shift_route"]}


def at_last_shift(kind: str, data: Any) -> bool:
    """The second increment of the calls is begun: half of them have moved."""
    return kind == "step.started" and "shift_route-2of2" in str(data.get("step"))


@pytest.mark.parametrize(("code", "word"), [("2", "hq is down"), ("3", "hq is unknown")])
def test_no_undo_towards_a_site_that_is_not_well(scene: Scene, code: str, word: str) -> None:
    """hq is down, or nobody knows: rollback leaves calls and applications where they are served,
    exits 8 and says why; once hq is healthy the same command brings everything home."""
    scene.dies(lambda kind, data: kind == "step.started" and "verify" in str(data.get("step"))
               and "loan_calls" in str(data.get("step")))
    scene.hq_is(code)
    before = scene.shares()
    assert before == AWAY
    assert scene.rollback() == 8, scene.errors()
    assert scene.state() is RunState.STUCK
    assert word in scene.reasons() and "undo would send" in scene.reasons()
    assert scene.shares() == before
    scene.hq_is("0")
    assert scene.rollback() == 7, scene.errors()
    seen = scene.seen()
    assert (seen.calls, seen.intake) == (HOME, HOME)
    assert set(seen.hq) == set(Trial.ELIGIBLE) | set(Trial.INELIGIBLE)


def test_somebody_else_moved_the_lever(scene: Scene) -> None:
    """Shares that this run never set are somebody's decision: rollback stops, and undoes nothing
    of theirs."""
    scene.rewrite(without_items)
    scene.dies(at_last_shift)
    scene.world.centre.put("switch", "/routes/loan_calls", {"shares": {"acme": 70, "callback": 30}})
    assert scene.rollback() == 8, scene.errors()
    assert "somebody else moved it" in scene.reasons()
    assert scene.shares() == {"acme": 70, "callback": 30}
    # They agree, and set it back to where the run had it.
    scene.world.centre.put("switch", "/routes/loan_calls", {"shares": {"hq": 50, "acme": 50}})
    assert scene.rollback() == 7, scene.errors()
    assert scene.shares() == HOME


def test_items_begun_at_the_target_stay_and_are_listed(scene: Scene) -> None:
    """Three applications are in somebody's hands at acme: they stay, by name; nine come home."""
    scene.dies(lambda kind, data: kind == "step.succeeded" and "transfer" in str(data.get("step")))
    taken = []
    while len(taken) < 3:
        got = scene.world._sqs.receive_message(
            QueueUrl=scene.acme, MaxNumberOfMessages=3 - len(taken)).get("Messages", [])
        for message in got:
            taken.append(yaml.safe_load(message["Body"])["uli"])
            scene.world._sqs.delete_message(QueueUrl=scene.acme,
                                            ReceiptHandle=message["ReceiptHandle"])
    assert scene.rollback() == 7, scene.errors()
    desk = scene.desk()
    run = load(desk, desk.store.run_ids()[-1])
    told = " ".join(run.exceptions())
    assert "3 stay at acme" in told and all(name in told for name in taken), told
    seen = scene.seen()
    assert seen.hq == Counter(dict.fromkeys(
        set(Trial.ELIGIBLE) - set(taken) | set(Trial.INELIGIBLE), 1))


def test_supersede_inherits_scope_and_first_snapshot(scene: Scene) -> None:
    """r1 dies half way; r2 takes its place, dies too; its rollback ends where r1 began, on the
    lever that r2 moved as well as on the one that only r1 had touched."""
    scene.rewrite(without_items)
    def both_half_way(kind: str, data: Any) -> bool:
        # The branches run side by side: the one that is here first waits for the other.
        if not at_last_shift(kind, data):
            return False
        end = time.monotonic() + 20
        while scene.shares("applications") != AWAY and time.monotonic() < end:
            time.sleep(0.02)
        return True

    scene.dies(both_half_way)
    assert (scene.shares(), scene.shares("applications")) == ({"hq": 50, "acme": 50}, AWAY)
    assert scene.start("full_failover") == 5, "an interrupted run keeps its scope"
    scene.dies(lambda kind, data: kind == "step.succeeded", queues=("loan_calls",),
               supersedes="r1", runbook="full_failover")
    desk = scene.desk()
    first, second = desk.store.run_ids()
    assert scene.state(0) is RunState.SUPERSEDED
    held = {scope for lease in desk.store.leases() for scope in lease.scopes}
    assert {"queue:applications", "queue:loan_calls"} <= held
    assert desk.store.leases()[0].run == second
    code = scene.in_child(lambda: int(runs.resume(scene.desk(), first).exit))
    assert code == 2, "what was superseded is not taken up again"
    assert scene.rollback() == 7, scene.errors()
    assert (scene.shares(), scene.shares("applications")) == (HOME, HOME)
    assert scene.desk().store.leases() == [] and scene.desk().store.verify() == []


def test_a_failover_pre_empts_an_overflow_whose_process_died(scene: Scene) -> None:
    """An overflow is killed half way; the failover takes its levers over unasked, is killed, too;
    its rollback ends where the overflow began."""
    scene.rewrite(without_items)
    scene.dies(at_last_shift, runbook="overflow", subject="loan_calls", percent=20)
    assert scene.shares() == {"hq": 90, "acme": 10}
    scene.dies(lambda kind, data: kind == "step.succeeded"
               and "loan_calls/" in str(data.get("step")))
    desk = scene.desk()
    first, second = desk.store.run_ids()
    assert scene.state(0) is RunState.SUPERSEDED
    assert load(desk, second).plan.pre_empts == {first: ["loan_calls"]}
    assert "stop.requested" not in [r.kind for r in desk.store.read(f"run:{first}")]
    assert scene.rollback() == 7, scene.errors()
    assert (scene.shares(), scene.shares("applications")) == (HOME, HOME)
    assert scene.desk().store.leases() == [] and scene.desk().store.verify() == []


def test_the_successor_of_a_move_brings_its_items_home(scene: Scene) -> None:
    """Applications that r1 moved come home with the rollback of r2, each once."""
    scene.dies(lambda kind, data: kind == "step.succeeded" and "transfer" in str(data.get("step")))
    scene.dies(lambda kind, data: kind == "run.started", supersedes="r1")
    assert scene.rollback() == 7, scene.errors()
    rows = scene.desk().store.item_counts(queue="applications")
    assert not rows[ItemState.CLAIMED] and not rows[ItemState.DELIVERED], rows
    seen = scene.seen()
    assert (seen.calls, seen.intake) == (HOME, HOME)
    assert seen.hq == Counter(dict.fromkeys((*Trial.ELIGIBLE, *Trial.INELIGIBLE), 1))
    assert seen.acme == Counter()


# --- a lease that is lost in the middle ---------------------------------------------------------


class Hurried(SystemRuntime):
    """A clock on which a lease of thirty seconds takes three: for every process of the test."""

    PACE = 10
    BASE = SystemRuntime().now()

    def now(self) -> int:
        return self.BASE + (super().now() - self.BASE) * self.PACE

    def monotonic(self) -> float:
        return super().monotonic() * self.PACE

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / self.PACE)


class HeldLevers:
    """Says when a shift is about to go out, and lets its process be stopped right there."""

    def __init__(self, inner: Any, say: int, go: int) -> None:
        self._inner, self._say, self._go = inner, say, go

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def route(self, lever: Any) -> Any:
        return HeldRoute(self._inner.route(lever), self._say, self._go)


class HeldRoute:
    def __init__(self, inner: Any, say: int, go: int) -> None:
        self._inner, self._say, self._go = inner, say, go

    def read(self) -> Any:
        return self._inner.read()

    def shift(self, *args: Any, **kwargs: Any) -> None:
        os.write(self._say, b"!")
        hear(self._go, 1)
        self._inner.shift(*args, **kwargs)


def test_a_process_that_slept_through_its_lease_stops(scene: Scene, tmp_path: Path) -> None:
    """SIGSTOP with one write on its way; another person waits the lease out, takes over and goes
    on; on SIGCONT the first lands at most that one write, then exits 5 and touches nothing."""
    scene.rewrite(without_items)
    said, go = os.pipe(), os.pipe()

    def desk(name: str, levers: Any = None) -> Desk:
        found = assemble(str(scene.policy), environ=scene.world.environ, runtime=Hurried(),
                         levers=levers)
        return replace(found, actor=actor({"CCFAILOVER_ACTOR": name}))

    def first() -> int:
        mine = desk("dana", lambda inner: HeldLevers(inner, said[1], go[0]))
        prepared = prepare.prepare(mine, Request(
            runbook="full_failover", subject="hq", reason="test", queues=("loan_calls",)))
        return int(runs.start(mine, prepared, confirmed="test").exit)

    dana = Person("dana", first)
    try:
        assert hear(said[0], 1) == b"!"
    except AssertionError:
        raise AssertionError(dana.tell().text) from None
    dana.signal(signal.SIGSTOP)
    at_once = Person("kim", lambda: int(runs.resume(desk("kim"), None).exit)).tell()
    assert at_once.code == 5, "her lease is still in force"
    Hurried().sleep(31)
    kim = Person("kim", lambda: int(runs.resume(desk("kim"), None).exit)).tell()
    assert kim.code == 0, kim.text
    assert scene.shares() == AWAY
    version = int(scene.world.centre.get("switch", "/routes/loan_calls")["version"])
    os.write(go[1], b"....")
    dana.signal(signal.SIGCONT)
    told = dana.tell()
    assert told.code == 5 and told.text.startswith("Fenced"), told
    assert "may not act" in told.text and "Try: " in told.text
    after = int(scene.world.centre.get("switch", "/routes/loan_calls")["version"])
    assert after - version <= 1, "more than the one write that was on its way"
    found = scene.desk()
    run, = found.store.run_ids()
    assert load(found, run).phase is RunState.SUCCEEDED and found.store.verify() == []
    for handle in (*said, *go):
        os.close(handle)
