"""A switch that lies, stalls or fails: its branch never claims success, the other one goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from crash_world import CrashWorld, Trial

from ccfailover.operations import prepare, runs
from ccfailover.operations.run_list import load, state_of
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import Run, RunState, StepRecord
from ccfailover.wiring.assemble import assemble

pytestmark = [pytest.mark.server("roto-server")]

RATE = 40
"""Contacts a second on the wire: enough that 0.3 s of them prove something."""


def voice_fault(world: CrashWorld, mode: str, **more: Any) -> None:
    world.centre.put("switch", "/faults/loan_calls", {"mode": mode, **more})


@pytest.fixture
def trial(crash_world: CrashWorld) -> Iterator[Trial]:
    """Calls come in; one shift, read back for at most 1 s; the receivers' counts, 2.5 s."""
    found = crash_world.trial()
    policy = yaml.safe_load(found.policy.read_text())
    policy["queues"]["loan_calls"]["shift"] = {"increments": [100], "soak": "0s"}
    policy["providers"]["edge"]["timeout"] = "0.25s"
    policy["runbooks"]["full_failover"] = {"before": ["confirm"], "branch": [
        "redirect_intake", {"shift_route": {"deadline": 1}}, "transfer",
        {"verify": {"interval": 0.3, "deadline": 2.5}}]}
    found.policy.write_text(yaml.safe_dump(policy))
    crash_world.centre.put("switch", "/routes/loan_calls/rate", {"rate": RATE})
    yield found
    voice_fault(crash_world, "none")
    crash_world.centre.put("switch", "/routes/loan_calls/rate", {"rate": 0})


def the_run(trial: Trial) -> tuple[Run, RunState]:
    desk = trial.desk()
    run = load(desk, desk.store.run_ids()[-1])
    return run, state_of(desk, run)


def step(run: Run, kind: str) -> StepRecord:
    return next(found for found in run.steps.values()
                if found.branch == "loan_calls" and found.spec.kind == kind)


def other_branch_went_on(run: Run) -> bool:
    return all(found.status.value == "succeeded" for found in run.steps.values()
               if found.branch == "applications")


def shares(trial: Trial) -> dict[str, int]:
    told: dict[str, int] = trial.world.centre.get("switch", "/routes/loan_calls")["shares"]
    return told


CASES = [
    # mode, of which calls, the step that stops, its truth, a word of its reason
    ("ack_only", "write", "shift_route", "no", "reads hq 100 %"),
    ("error500", "write", "shift_route", "no", "500"),
    ("hang", "write", "shift_route", "no", "reads hq 100 %"),
    ("lie", "write", "verify", "no", "acme answered 0"),
    ("hang", "all", "shift_route", "unknown", "not begun"),
    ("error500", "all", "shift_route", "unknown", "not begun"),
]


@pytest.mark.parametrize(("mode", "on", "kind", "truth", "word", "way"), [
    (*case, way) for case in CASES for way in ("resume", "rollback")
    if way == "resume" or case[0] in ("ack_only", "lie")])
def test_a_broken_switch_pauses_its_branch(trial: Trial, mode: str, on: str, kind: str,
                                           truth: str, word: str, way: str) -> None:
    """Exit 6, the journal in plain words, applications moved all the same; once the switch is
    mended `resume` ends the failover, and `rollback` restores what was."""
    voice_fault(trial.world, mode, on=on)
    assert trial.start("full_failover") == 6, trial.errors()
    run, state = the_run(trial)
    assert state is RunState.PAUSED
    failed = step(run, kind)
    assert (failed.status.value, failed.truth) == ("failed", truth), failed
    assert word in failed.reason, failed.reason
    assert other_branch_went_on(run)
    assert "run.succeeded" not in [r.kind for r in trial.desk().store.read(f"run:{run.id}")]
    voice_fault(trial.world, "none")
    assert shares(trial) == {"hq": 100}, "the switch never moved"
    if way == "rollback":
        assert trial.rollback() == 7, trial.errors()
        seen = trial.seen()
        assert (seen.calls, seen.intake) == ({"hq": 100}, {"hq": 100})
        assert set(seen.hq) == set(Trial.ELIGIBLE) | set(Trial.INELIGIBLE)
        assert seen.acme == Counter()
        return
    code = trial.resume()
    # The lie too: what was journaled as done is read again on a resume, and done again.
    assert code == 0, trial.errors()
    seen = trial.seen()
    assert seen.calls == {"acme": 95, "callback": 5} or seen.calls == {"acme": 100}, seen.calls
    assert set(seen.acme) == set(Trial.ELIGIBLE) and max(seen.acme.values()) == 1


@pytest.mark.parametrize(("mode", "more"), [("drop", {}), ("slow", {"seconds": 0.6})])
def test_a_write_that_landed_unheard_is_a_success(trial: Trial, mode: str,
                                                  more: dict[str, float]) -> None:
    """No answer came, or it came too late; the world says that it is so: no false alarm, and
    the write is not sent twice."""
    before = int(trial.world.centre.get("switch", "/routes/loan_calls")["version"])
    voice_fault(trial.world, mode, **more)
    assert trial.start("full_failover") == 0, trial.errors()
    after = int(trial.world.centre.get("switch", "/routes/loan_calls")["version"])
    assert after == before + 1


class Blinded:
    """After the first shift, reads of the switch fail: what it did can no longer be seen."""

    def __init__(self, inner: Any, world: CrashWorld) -> None:
        self._inner, self._world = inner, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def route(self, lever: Any) -> Any:
        return BlindRoute(self._inner.route(lever), self._world, lever.ref)


class BlindRoute:
    def __init__(self, inner: Any, world: CrashWorld, ref: str) -> None:
        self._inner, self._world, self._ref = inner, world, ref

    def read(self) -> Any:
        return self._inner.read()

    def shift(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._inner.shift(*args, **kwargs)
        finally:
            if self._ref == "loan_calls":
                voice_fault(self._world, "error500", on="read")


def blinded_failover(trial: Trial) -> int:
    desk = assemble(str(trial.policy), environ=trial.world.environ,
                    levers=lambda inner: Blinded(inner, trial.world))  # type: ignore[arg-type,return-value]
    prepared = prepare.prepare(desk, Request(
        runbook="full_failover", subject="hq", reason="fault test"))
    return int(runs.start(desk, prepared, confirmed="test").exit)


@pytest.mark.parametrize("way", ["resume", "rollback"])
def test_unknown_is_called_unknown(trial: Trial, way: str) -> None:
    """The write went out and nothing can be read back: neither "done" nor "failed" but unknown,
    until somebody can look; then the doubt is observed first and settled either way."""
    assert trial.in_child(lambda: blinded_failover(trial)) == 6, trial.errors()
    run, state = the_run(trial)
    shift = step(run, "shift_route")
    assert state is RunState.PAUSED and shift.truth == "unknown"
    assert "cannot be read back" in shift.reason
    assert other_branch_went_on(run)
    voice_fault(trial.world, "none")
    assert shares(trial) != {"hq": 100}, "it had landed"
    if way == "resume":
        before = int(trial.world.centre.get("switch", "/routes/loan_calls")["version"])
        assert trial.resume() == 0, trial.errors()
        after = int(trial.world.centre.get("switch", "/routes/loan_calls")["version"])
        assert after == before, "what had landed was written again"
    else:
        assert trial.rollback() == 7, trial.errors()
        assert shares(trial) == {"hq": 100}


def test_a_rollback_that_does_not_come_about_is_stuck(trial: Trial) -> None:
    """Undo on a switch that says 200 and does nothing: exit 8, and the journal says why; once
    it is mended the same command ends it."""
    assert trial.in_child(lambda: blinded_failover(trial)) == 6, trial.errors()
    voice_fault(trial.world, "ack_only")
    moved = shares(trial)
    assert trial.rollback() == 8, trial.errors()
    run, state = the_run(trial)
    assert state is RunState.STUCK and run.rolling_back
    undo = step(run, "shift_route")
    assert undo.status.value == "undo_failed" and "reads" in undo.reason
    assert shares(trial) == moved
    voice_fault(trial.world, "none")
    assert trial.rollback() == 7, trial.errors()
    assert shares(trial) == {"hq": 100}
