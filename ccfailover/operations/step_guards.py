"""What the guards before a step need to know, gathered when it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from ccfailover.operations.history import last_moves, spent_today
from ccfailover.operations.status import automation
from ccfailover.runbooks.guarding import Automation, before_step
from ccfailover.runbooks.plan import Circumstances
from ccfailover.runtime import SECOND

if TYPE_CHECKING:
    from ccfailover.model.plan import Finding
    from ccfailover.operations.desk import Desk
    from ccfailover.operations.look import Watch
    from ccfailover.runbooks.run import Run
    from ccfailover.runbooks.step import Move


class StepGuards:
    """The `guard` of a run's hands: the same judgement as the plan's, of this moment."""

    def __init__(self, desk: Desk, watch: Watch) -> None:
        self._desk, self._watch = desk, watch

    def __call__(self, run: Run, moves: Sequence[Move]) -> Sequence[Finding]:
        desk, limits = self._desk, self._desk.policy.guards
        seen = Circumstances(
            world=self._watch.world(), capabilities=desk.kinds.capabilities,
            is_open=desk.is_open, is_blocked=desk.is_blocked,
            # Both read ended runs: only where a limit asks for it.
            last_moves=last_moves(desk) if limits.flap_block else {},
            spent_today=spent_today(desk) if limits.daily_cost is not None else Decimal(0))
        return before_step(desk.policy, run, moves, seen, self._automation(),
                           desk.runtime.now())

    def _automation(self) -> Automation:
        said = automation(self._desk)
        if said["off_until"] is None:
            return Automation()
        until = datetime.fromtimestamp(said["off_until"] / SECOND, UTC)
        return Automation(f"by {said['by']} until {until:%Y-%m-%d %H:%M} UTC"
                          + (f", {said['reason']}" if said["reason"] else ""))
