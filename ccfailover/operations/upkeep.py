"""What people tell the tool outside a run: ack, adopt, automation off and on."""

from __future__ import annotations

from ccfailover.errors import StateUnknown, UsageError
from ccfailover.health.current import current_shares
from ccfailover.operations.desk import Desk
from ccfailover.operations.look import look
from ccfailover.runtime import SECOND


def acknowledge(desk: Desk, reason: str) -> int:
    """Lift the anti-flap block: a person has looked at what moved. The instant, µs."""
    now = desk.runtime.now()
    desk.store.set_fact("acked_at", now, actor=str(desk.actor))
    desk.store.append("automation", "ack", {"reason": reason}, actor=str(desk.actor))
    return now


def adopt(desk: Desk, queue: str, reason: str) -> dict[str, int]:
    """Take the shares that a queue's lever reads now for the expected ones.

    Raises UsageError for a name the policy lacks, StateUnknown when the lever cannot be read.
    """
    if queue not in desk.policy.queues:
        raise UsageError(f"there is no queue {queue!r} in the policy",
                         not_done="nothing was adopted",
                         hint=f"one of: {', '.join(desk.policy.queues)}")
    shares = current_shares(desk.policy.queues[queue], look(desk))
    if shares is None:
        raise StateUnknown(f"the lever of {queue} cannot be read", not_done="nothing was adopted",
                           hint="ccfailover providers test")
    adopted = dict(desk.store.fact("adopted") or {})
    adopted[queue] = {"shares": shares.to_json(), "at": desk.runtime.now(),
                      "by": str(desk.actor), "reason": reason}
    desk.store.set_fact("adopted", adopted, actor=str(desk.actor))
    return shares.to_json()


def automation_off(desk: Desk, seconds: float, reason: str) -> int:
    """Nothing runs by itself until then (µs); it comes back on by itself."""
    until = desk.runtime.now() + int(seconds * SECOND)
    desk.store.set_fact("automation_off", {"until": until, "by": str(desk.actor),
                                           "reason": reason}, actor=str(desk.actor))
    return until


def automation_on(desk: Desk) -> None:
    desk.store.set_fact("automation_off", None, actor=str(desk.actor))
