"""Read everything that the policy could ever move, and move nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ccfailover.errors import CcfError
from ccfailover.model.plan import Mode
from ccfailover.model.policy import LeverSpec
from ccfailover.operations.desk import Desk


def test_levers(desk: Desk) -> list[dict[str, Any]]:
    """One row for each lever: what it reads, or why it cannot be read."""
    views = desk.kinds.levers(Mode.SHADOW)

    def shares(lever: LeverSpec) -> str:
        return str(views.route_view(lever).read().shares)

    def depth(lever: LeverSpec) -> str:
        found = views.backlog_view(lever).measure()
        return f"{found.visible} waiting, {found.hidden} hidden"

    def gate(lever: LeverSpec) -> str:
        return "open" if views.gate_view(lever).is_open() else "held"

    wanted: list[tuple[str, LeverSpec, Callable[[LeverSpec], str]]] = []
    for queue in desk.policy.queues.values():
        if queue.route:
            wanted.append((f"{queue.name} route", queue.route, shares))
        if queue.intake:
            wanted.append((f"{queue.name} intake", queue.intake, shares))
        wanted += [(f"{queue.name} backlog at {site}", lever, depth)
                   for site, lever in queue.backlogs.items()]
        wanted += [(f"{queue.name} consumers at {site}", lever, gate)
                   for site, lever in queue.consumers.items()]

    def read(entry: tuple[str, LeverSpec, Callable[[LeverSpec], str]]) -> dict[str, Any]:
        role, lever, how = entry
        try:
            return {"role": role, "lever": lever.lever, "ok": True, "detail": how(lever)}
        except CcfError as error:
            return {"role": role, "lever": lever.lever, "ok": False, "detail": str(error)}

    return desk.runtime.each(read, wanted, 8)
