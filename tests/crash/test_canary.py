"""A canary goes in and comes back before the first item, and no death in between leaves one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from crash_world import Bomb, CrashWorld, Seen, Trial

from ccfailover.operations.run_list import load

pytestmark = [pytest.mark.server("roto-server")]

MOVED = Seen(calls={"acme": 100}, intake={"acme": 100},
             hq=dict.fromkeys(Trial.INELIGIBLE, 1), acme=dict.fromkeys(Trial.ELIGIBLE, 1),
             gate=False)


def trial_with_canary(world: CrashWorld) -> Trial:
    trial = world.trial()
    policy = yaml.safe_load(trial.policy.read_text())
    policy["queues"]["applications"]["backlog"]["acme"]["canary"] = True
    trial.policy.write_text(yaml.safe_dump(policy))
    return trial


def test_there_and_back_before_the_first_item(crash_world: CrashWorld) -> None:
    """The proof stands in the journal; the ledger knows of no such item, acme has none left."""
    trial = trial_with_canary(crash_world)
    bomb = Bomb(None, "after")
    assert trial.start("full_failover", bomb) == 0, trial.errors()
    log = [what for what in trial.points() if what in (
        "note_canary", "put", "claim", "settle", "record_items")]
    assert log[:6] == ["note_canary", "put", "claim", "settle", "note_canary", "claim"]
    desk = trial.desk()
    run = load(desk, desk.store.run_ids()[-1])
    (move,) = [step for step in run.steps.values() if step.spec.kind == "transfer"]
    assert move.data["ready"][-1] == "acme took a canary and showed it to us"
    assert not desk.store.canaries(queue="applications", site="acme")
    assert not [row for row in desk.store.items() if "canary" in row.item_id]
    assert trial.seen() == MOVED


class FirstOf(Bomb):
    """Kills this process -9 at the first call of that name: the canary's own, since it comes
    before any item. Branches run side by side, so that its number differs from run to run."""

    def __init__(self, name: str, when: str) -> None:
        super().__init__(None, when)
        self._name = name

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if name == self._name and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if name == self._name:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


@pytest.mark.parametrize("name, when", [
    ("note_canary", "after"), ("put", "after"), ("claim", "after"), ("settle", "after"),
])
def test_killed_anywhere_then_resumed(crash_world: CrashWorld, name: str, when: str) -> None:
    """kill -9 between any two steps of the canary: the resume cleans up and moves every item."""
    trial = trial_with_canary(crash_world)
    assert trial.start("full_failover", FirstOf(name, when)) == -9, trial.errors()
    waiting = trial.desk().store.canaries(queue="applications", site="acme")
    assert len(waiting) == 1, "written down before it was sent"
    assert trial.resume() == 0, trial.errors()
    desk = trial.desk()
    assert not desk.store.canaries(queue="applications", site="acme")
    assert not [row for row in desk.store.items() if row.possible_duplicate]
    assert trial.seen() == MOVED
