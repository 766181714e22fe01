"""Set levers again to what the journal says: asked for, or by itself after a platform's restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ccfailover.errors import ProviderError, Refused, UsageError
from ccfailover.model.health import Decision
from ccfailover.model.plan import Mode
from ccfailover.model.shares import Shares
from ccfailover.operations import run_list
from ccfailover.operations.drift import Expected, drifted, expectations
from ccfailover.operations.look import look
from ccfailover.runbooks.plan import Request

if TYPE_CHECKING:
    from ccfailover.model.policy import LeverSpec
    from ccfailover.operations.desk import Desk
    from ccfailover.providers import RouteState

BOOTS = "boots"
"""Fact: queue and lever → the boot in which it was last seen where the journal says. A lever that
the policy has put in another's place has not been seen yet, and so has not restarted."""


def known(desk: Desk) -> dict[str, Expected]:
    """Where each queue is by the journal."""
    opened = [(run, run_list.state_of(desk, run)) for run in run_list.open_runs(desk)]
    return expectations(desk, opened)


def baseline(desk: Desk) -> dict[str, Shares]:
    """Queue → the shares that it is to have by the journal; those that no unfinished run has."""
    return {name: Shares(one.shares) for name, one in known(desk).items()
            if one.sure and one.run is None}


def request(desk: Desk, queue: str | None, reason: str) -> Request:
    """For one queue, or for every one that is adrift.

    Raises UsageError for a name that the policy lacks, and where nothing is adrift; Refused where
    an unfinished run has the queue, whose own `resume` sets it again.
    """
    if queue is not None and queue not in desk.policy.queues:
        raise UsageError(f"there is no queue {queue!r} in the policy",
                         not_done="nothing was planned",
                         hint=f"one of: {', '.join(desk.policy.queues)}")
    expected = known(desk)
    if queue is None:
        world = look(desk)
        chosen = [each.name for each in desk.policy.by_priority()
                  if expected[each.name].run is None
                  and drifted(each, world, expected[each.name])]
    else:
        chosen = [queue]
    for name in chosen:
        if expected[name].run is not None:
            raise Refused(f"run {expected[name].run} is not at its end and has {name}",
                          guard="unfinished_run", where=name, not_done="nothing was planned",
                          hint=f"ccfailover resume {expected[name].run} sets it again")
    if not chosen:
        raise UsageError("no queue is known to be elsewhere than the journal says",
                         not_done="nothing was planned", hint="ccfailover status --probe")
    return Request("reassert", chosen[0], reason, queues=tuple(chosen))


def due(desk: Desk) -> Iterator[tuple[Decision, str]]:
    """What is set again by itself, with its queue: a lever with `reassert: true` whose platform has
    restarted since it was last seen where the journal says, and which is elsewhere now.

    What somebody set by hand while the platform ran on is theirs, and only told of; so is a lever
    whose platform does not tell of restarts.
    """
    marked = [(queue.name, lever) for queue in desk.policy.by_priority()
              if (lever := queue.route or queue.intake) is not None and lever.reassert]
    if not marked:
        return
    before: dict[str, str] = desk.store.fact(BOOTS) or {}
    after, expected = dict(before), known(desk)
    restarted = []
    for name, lever in marked:
        wanted, state = expected[name], _read(desk, lever)
        if state is None or state.boot is None or not wanted.sure or wanted.run is not None:
            continue
        seen = f"{name} {lever.lever}"
        if state.shares == Shares(wanted.shares):
            after[seen] = state.boot
        elif seen in before and before[seen] != state.boot:
            restarted.append((name, state, wanted))
    if after != before:
        desk.store.swap_fact(BOOTS, after, expected=before or None, events=[],
                             actor=str(desk.actor))
    for name, state, wanted in restarted:
        yield Decision(
            trigger=f"reassert {name}", runbook="reassert", subject=name, action="execute",
            since=desk.runtime.now(), reasons=(
                f"the platform of {name} has restarted and reads {state.shares}; the journal says "
                f"{Shares(wanted.shares)}",)), name


def _read(desk: Desk, lever: LeverSpec) -> RouteState | None:
    try:
        return desk.kinds.levers(Mode.SHADOW).route_view(lever).read()
    except ProviderError:
        return None  # what cannot be read is not known to have restarted
