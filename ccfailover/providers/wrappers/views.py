"""Views only: nothing to write with is in reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from ccfailover.errors import Refused
from ccfailover.model.policy import LeverSpec
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


class Wrapper(LeverSource):
    def __init__(self, inner: LeverSource) -> None:
        self.name = inner.name
        self._inner = inner

    def close(self) -> None:
        self._inner.close()


class RouteReads(RouteView):
    """Holds the bound methods and not the object: nothing to write with is in reach."""

    def __init__(self, read: Callable[[], RouteState],
                 measure: Callable[[], Mapping[str, float]],
                 live: Callable[[], Mapping[str, int] | None]) -> None:
        self._read = read
        self._measure = measure
        self._live = live

    def read(self) -> RouteState:
        return self._read()

    def measure(self) -> Mapping[str, float]:
        return self._measure()

    def live(self) -> Mapping[str, int] | None:
        return self._live()


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
        view = self._inner.route_view(lever)
        return RouteReads(view.read, view.measure, view.live)

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
