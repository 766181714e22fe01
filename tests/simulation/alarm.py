"""What `check` would say of levers that read other than the journal says, in a simulated story."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, cast

from ccfailover.model.journal import Actor
from ccfailover.operations.desk import Desk
from ccfailover.operations.drift import drifted, expectations
from ccfailover.simulation.engine_sim import Office


def alarmed(office: Office) -> Set[str]:
    """The queues that the real alarm names when no run is open."""
    nobody = cast(Any, None)
    desk = Desk(policy=office.world.policy, store=office.store, runtime=office.runtime,
                actor=Actor("cron", "host0", 1, "boot0", "1"), kinds=nobody, is_open=nobody,
                is_blocked=nobody, resolve=nobody, environ={})
    expected = expectations(desk, [])
    world = office.world.picture(office.runtime.now())
    return {name for name, queue in desk.policy.queues.items()
            if drifted(queue, world, expected[name])}
