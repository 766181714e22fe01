"""Where a queue's arrivals go now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccfailover.model.health import World
    from ccfailover.model.policy import Queue
    from ccfailover.model.shares import Shares


def current_shares(queue: Queue, world: World) -> Shares | None:
    """The shares of the lever that carries this queue's arrivals, None when unknown."""
    view = world.queues.get(queue.name)
    if view is None:
        return None
    return view.shares if queue.route else view.intake
