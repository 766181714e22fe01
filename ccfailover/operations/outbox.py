"""Deliver what waits in the outbox; bounded in time, so that cron may do it."""

from __future__ import annotations

from typing import Any

from ccfailover.notify.delivery import deliver
from ccfailover.operations.desk import Desk


def deliver_waiting(desk: Desk) -> dict[str, Any]:
    """Send pending messages; nothing is imported for that while there are none."""
    if not desk.policy.notify or not desk.store.pending(1):
        return {"sent": 0, "failed": 0, "errors": []}
    report = deliver(desk.store, desk.policy.notify, desk.resolve, desk.runtime)
    return {"sent": report.sent, "failed": report.failed, "errors": list(report.problems)}
