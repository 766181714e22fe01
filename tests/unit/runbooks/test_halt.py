"""A driver that a person cut off: nothing more is begun, and nothing is made out to be known."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, ClassVar, cast

import pytest

from ccfailover.model.plan import OnFailure
from ccfailover.runbooks.drive import Driver, Halted, Hands
from ccfailover.runbooks.engine import Result
from ccfailover.runbooks.run import StepStatus, fold
from ccfailover.runbooks.step import Observed, Step, Truth
from ccfailover.runtime import SystemRuntime
from ccfailover.store import holder, open_store
from tests.unit.runbooks.stage import NO, Branch, Stage, plan, spec

DONE: list[str] = []
CALLS: dict[str, Any] = {}


class Cut(Step):
    """While step `a` acts, somebody stops the program at once."""

    kind = "test"
    PARAMS: ClassVar = {}
    summary = "test"

    @classmethod
    def bind(cls, binding: object) -> list[Any]:
        return []

    def holds(self, snapshot: object) -> Observed:
        return Observed(Truth.YES if self.spec.id in DONE else Truth.NO, "seen")

    def apply(self, snapshot: object) -> bool:
        CALLS[self.spec.id] = threading.current_thread()
        DONE.append(self.spec.id)
        if self.spec.id == "a":
            CALLS["driver"].halt()
        return True


@pytest.mark.parametrize("on_failure", list(OnFailure))
def test_a_stop_is_no_failure(on_failure: OnFailure) -> None:
    """Asked to stop while a step is waited for: the run pauses, whatever its recipe does on a
    failure. It is neither undone, nor aborted, nor is the step passed over."""
    stage = Stage(plan(Branch("q", (spec("first"), spec("a", on_failure=on_failure), spec("b")))))
    stage.holds["a"] = deque([NO])
    stage.stop_after = 3
    assert stage.forward() is Result.PAUSED
    assert stage.journal.of("branch.paused")[0]["at"] == "a"
    assert not {"undo.started", "branch.aborted", "run.aborted"} & set(stage.journal.kinds())
    assert "step.started b" not in stage.log


def test_what_was_cut_off_stays_in_doubt_and_nothing_follows() -> None:
    """The call landed; the journal has its beginning and not its end, and the next step, and the
    other branch's next effect, never begin. The main thread was free to hear the signal."""
    DONE.clear()
    store = open_store(":memory:", SystemRuntime())
    actor = holder.this_process("kim")
    run, lease = store.create_run(plan(Branch("q", (spec("a"), spec("b")))), actor=actor, ttl=30)
    hands = Hands(policy=cast(Any, None), store=store, runtime=SystemRuntime(),
                  levers=cast(Any, None), make_step=Cut, site_state=lambda name: "healthy",
                  observe=cast(Any, None), guard=lambda run, moves: ())
    driver = CALLS["driver"] = Driver(fold(store.read(f"run:{run}")), lease, hands, actor=actor)
    with pytest.raises(Halted):
        driver.go(back=False)
    after = fold(store.read(f"run:{run}"))
    assert after.steps["a"].status is StepStatus.STARTED, "in doubt"
    assert after.steps["b"].status is StepStatus.PENDING and "b" not in CALLS
    assert CALLS["a"] is not threading.main_thread()
    assert store.fence_is_ours(lease), "the lease is left to run out: a call may still land"
    store.close()
