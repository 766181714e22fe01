"""Read everything that the policy could ever move, and move nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ccfailover.errors import CcfError
from ccfailover.model.plan import Mode
from ccfailover.model.policy import LeverSpec
from ccfailover.operations.desk import Desk
from ccfailover.runbooks.step import Levers

Read = Callable[[LeverSpec], str]


def test_levers(desk: Desk) -> list[dict[str, Any]]:
    """One row for each lever: what it reads, or why it cannot be read."""
    wanted = list(_wanted(desk, _Reader(desk.kinds.levers(Mode.SHADOW))))

    def read(entry: tuple[str, LeverSpec, Read]) -> dict[str, Any]:
        role, lever, how = entry
        try:
            return {"role": role, "lever": lever.lever, "ok": True, "detail": how(lever)}
        except CcfError as error:
            return {"role": role, "lever": lever.lever, "ok": False, "detail": str(error)}

    return desk.runtime.each(read, wanted, 8)


class _Reader:
    """How each sort of lever is read, in a sentence."""

    def __init__(self, views: Levers) -> None:
        self._views = views

    def shares(self, lever: LeverSpec) -> str:
        state = self._views.route_view(lever).read()
        return "; ".join((str(state.shares), *state.amiss))

    def live(self, lever: LeverSpec) -> str:
        counts = self._views.route_view(lever).live()
        if counts is None:
            return "not told"
        return ", ".join(f"{count} at {name}" for name, count in sorted(counts.items())) or "none"

    def depth(self, lever: LeverSpec) -> str:
        found = self._views.backlog_view(lever).measure()
        return f"{found.visible} waiting, {found.hidden} hidden"

    def gate(self, lever: LeverSpec) -> str:
        return "open" if self._views.gate_view(lever).is_open() else "held"

    def said(self, lever: LeverSpec) -> str:
        return self._views.announcement_view(lever).said() or "nothing is said"

    def phase(self, lever: LeverSpec) -> str:
        state = self._views.procedure_view(lever).read()
        return f"{state.execution or 'never carried out'}: {state.phase.value}"


def _wanted(desk: Desk, reader: _Reader) -> Iterator[tuple[str, LeverSpec, Read]]:
    for queue in desk.policy.queues.values():
        for use, lever in (("route", queue.route), ("intake", queue.intake)):
            if lever is None:
                continue
            yield f"{queue.name} {use}", lever, reader.shares
            if lever.several is not None:
                for part in lever.parts:
                    yield f"{queue.name} {use}, one of several", part, reader.shares
            if desk.kinds.capabilities(lever).live:
                yield f"{queue.name} contacts in progress", lever, reader.live
        if queue.announcement is not None:
            yield f"{queue.name} announcement", queue.announcement, reader.said
        for site, lever in queue.backlogs.items():
            yield f"{queue.name} backlog at {site}", lever, reader.depth
        for site, lever in queue.consumers.items():
            yield f"{queue.name} consumers at {site}", lever, reader.gate
    for name, lever in desk.policy.procedures.items():
        yield f"procedure {name}", lever, reader.phase
