"""Views only: nothing to write with is in reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeVar

from ccfailover.errors import Refused
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import (
    Announcement,
    AnnouncementView,
    Backlog,
    BacklogMeasure,
    BacklogView,
    Gate,
    GateView,
    LeverSource,
    Procedure,
    ProcedureState,
    ProcedureView,
    Route,
    RouteState,
    RouteView,
)
from ccfailover.providers.patience import Patience

T = TypeVar("T")


class Wrapper(LeverSource):
    def __init__(self, inner: LeverSource) -> None:
        self.name = inner.name
        self._inner = inner

    def close(self) -> None:
        self._inner.close()


class RouteReads(RouteView):
    """Holds the bound methods and not the object: nothing to write with is in reach. `patience`
    has the platform asked again."""

    def __init__(self, inner: RouteView, patience: Patience | None = None) -> None:
        self._patience = patience
        self._read, self._measure, self._live = inner.read, inner.measure, inner.live
        self._between, self._as_found, self._complete = (
            inner.between, inner.as_found, inner.complete)

    def read(self) -> RouteState:
        return self._asked(self._read)

    def measure(self) -> Mapping[str, float]:
        return self._asked(self._measure)

    def live(self) -> Mapping[str, int] | None:
        return self._asked(self._live)

    def between(self, state: RouteState, aims: Sequence[RouteState]) -> bool:
        return self._between(state, aims)

    def as_found(self, state: RouteState, before: RouteState) -> bool:
        return self._as_found(state, before)

    def complete(self, state: RouteState, to: Shares, was: str | None) -> bool:
        return self._complete(state, to, was)

    def _asked(self, call: Callable[[], T]) -> T:
        if self._patience is None:
            return call()
        return self._patience.call(call, again=lambda error: True)


class GateReads(GateView):
    def __init__(self, read: Callable[[], bool]) -> None:
        self._read = read

    def is_open(self) -> bool:
        return self._read()


class BacklogReads(BacklogView):
    def __init__(self, read: Callable[[], BacklogMeasure]) -> None:
        self._read = read

    def measure(self) -> BacklogMeasure:
        return self._read()


class AnnouncementReads(AnnouncementView):
    def __init__(self, said: Callable[[], str | None]) -> None:
        self._said = said

    def said(self) -> str | None:
        return self._said()


class ProcedureReads(ProcedureView):
    def __init__(self, read: Callable[[str | None], ProcedureState]) -> None:
        self._read = read

    def read(self, execution: str | None = None) -> ProcedureState:
        return self._read(execution)


class ViewsOnly(Wrapper):
    """Hands out views; asked for a lever, it raises Refused (guard `drill`), whatever the
    provider. Its views are objects without any write method, even if the provider's were not."""

    def route_view(self, lever: LeverSpec) -> RouteView:
        return RouteReads(self._inner.route_view(lever))

    def gate_view(self, lever: LeverSpec) -> GateView:
        return GateReads(self._inner.gate_view(lever).is_open)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return BacklogReads(self._inner.backlog_view(lever).measure)

    def announcement_view(self, lever: LeverSpec) -> AnnouncementView:
        return AnnouncementReads(self._inner.announcement_view(lever).said)

    def procedure_view(self, lever: LeverSpec) -> ProcedureView:
        return ProcedureReads(self._inner.procedure_view(lever).read)

    def route(self, lever: LeverSpec) -> Route:
        _refuse(lever, "route")

    def gate(self, lever: LeverSpec) -> Gate:
        _refuse(lever, "gate")

    def backlog(self, lever: LeverSpec) -> Backlog:
        _refuse(lever, "backlog")

    def announcement(self, lever: LeverSpec) -> Announcement:
        _refuse(lever, "announcement")

    def procedure(self, lever: LeverSpec) -> Procedure:
        _refuse(lever, "procedure")


def _refuse(lever: LeverSpec, what: str) -> NoReturn:
    raise Refused(f"a drill asked to write (the {what} {lever.lever})", guard="drill",
                  where=lever.provider, not_done="nothing was written",
                  hint="this is a bug in a step: in a shadow drill it may only ask for views")
