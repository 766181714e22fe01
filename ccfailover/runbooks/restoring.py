"""What a reassertion plans: each queue back to where the journal has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ccfailover.health.current import current_shares
from ccfailover.model.health import World
from ccfailover.model.plan import Finding
from ccfailover.model.policy import Policy, Queue
from ccfailover.model.shares import Shares
from ccfailover.planning.allocation import Allocation
from ccfailover.planning.cost import cost_per_hour

KIND = "reassert"


def restored(policy: Policy, queue: Queue, world: World,
             baseline: Mapping[str, Shares]) -> Allocation:
    """No share is worked out anew: what was decided once is set again, waiting work stays."""
    now = current_shares(queue, world)
    aim = baseline.get(queue.name)
    if aim is None:
        return Allocation(now or queue.normal, (Finding(
            "baseline", "hard", f"where {queue.name} is to be is not known: a run that has it is "
            "not at its end", queue.name),), (), cost_per_hour(
                policy, queue, now or queue.normal, queue.load_per_hour)[0], (), untouched=True)
    return Allocation(aim, (), (), cost_per_hour(policy, queue, aim, queue.load_per_hour)[0], ())
