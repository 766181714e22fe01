"""Dry runs: writes are told and pretended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ccfailover.errors import Refused
from ccfailover.model.items import PutResult, WorkItem
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
    Phase,
    Procedure,
    ProcedureState,
    ProcedureView,
    Route,
    RouteState,
    RouteView,
)
from ccfailover.providers.wrappers.views import Wrapper

_PRETENDED = "pretended"


class DryRun(Wrapper):
    """Writes to routes and gates are told to `say` and remembered, so that reads answer as if
    they had been done. Work items stay where they are: a claim finds none, a put is Refused."""

    def __init__(self, inner: LeverSource, say: Callable[[str], None]) -> None:
        super().__init__(inner)
        self._say = say
        self._shares: dict[str, RouteState] = {}
        self._open: dict[str, bool] = {}
        self._said: dict[str, str | None] = {}

    def route_view(self, lever: LeverSpec) -> RouteView:
        return self.route(lever)

    def gate_view(self, lever: LeverSpec) -> GateView:
        return self.gate(lever)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return self._inner.backlog_view(lever)

    def route(self, lever: LeverSpec) -> Route:
        return _DryRoute(self._inner.route_view(lever), lever.lever, self._shares, self._say)

    def gate(self, lever: LeverSpec) -> Gate:
        return _DryGate(self._inner.gate_view(lever), lever.lever, self._open, self._say)

    def backlog(self, lever: LeverSpec) -> Backlog:
        return _DryBacklog(self._inner.backlog_view(lever), lever.lever, self._say)

    def announcement_view(self, lever: LeverSpec) -> AnnouncementView:
        return self.announcement(lever)

    def announcement(self, lever: LeverSpec) -> Announcement:
        return _DryAnnouncement(self._inner.announcement_view(lever), lever.lever, self._said,
                                self._say)

    def procedure_view(self, lever: LeverSpec) -> ProcedureView:
        return self._inner.procedure_view(lever)

    def procedure(self, lever: LeverSpec) -> Procedure:
        return _DryProcedure(self._inner.procedure_view(lever), lever.lever, self._say)


class _DryRoute(Route):
    def __init__(self, view: RouteView, lever: str, shares: dict[str, RouteState],
                 say: Callable[[str], None]) -> None:
        self._view, self._lever, self._shares, self._say = view, lever, shares, say

    def read(self) -> RouteState:
        state = self._view.read()
        pretended = self._shares.get(self._lever)
        if pretended is None:
            return state
        return RouteState(pretended.shares, state.version, raw=pretended.raw)

    def measure(self) -> Mapping[str, float]:
        return self._view.measure()

    def live(self) -> Mapping[str, int] | None:
        return self._view.live()

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self._say(f"would set {self._lever} to {to}")
        self._shares[self._lever] = RouteState(to)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        self._say(f"would set {self._lever} back to {before.shares}")
        self._shares[self._lever] = before


class _DryGate(Gate):
    def __init__(self, view: GateView, lever: str, gates: dict[str, bool],
                 say: Callable[[str], None]) -> None:
        self._view, self._lever, self._gates, self._say = view, lever, gates, say

    def is_open(self) -> bool:
        actual = self._view.is_open()
        return self._gates.get(self._lever, actual)

    def set_open(self, is_open: bool, *, key: str) -> None:
        self._say(f"would {'open' if is_open else 'close'} {self._lever}")
        self._gates[self._lever] = is_open


class _DryAnnouncement(Announcement):
    def __init__(self, view: AnnouncementView, lever: str, said: dict[str, str | None],
                 say: Callable[[str], None]) -> None:
        self._view, self._lever, self._on, self._tell = view, lever, said, say

    def said(self) -> str | None:
        actual = self._view.said()
        return self._on.get(self._lever, actual)

    def say(self, name: str | None, *, key: str) -> None:
        self._tell(f"would switch {self._lever} {f'to {name}' if name else 'off'}")
        self._on[self._lever] = name


class _DryProcedure(Procedure):
    def __init__(self, view: ProcedureView, lever: str, say: Callable[[str], None]) -> None:
        self._view, self._lever, self._say = view, lever, say

    def read(self, execution: str | None = None) -> ProcedureState:
        if execution == _PRETENDED:
            return ProcedureState(Phase.DONE, execution, "pretended")
        return self._view.read(execution)

    def start(self, action: str, *, key: str) -> str:
        self._say(f"would start {action} of {self._lever}")
        return _PRETENDED

    def approve(self, execution: str, step: str, *, approve: bool, key: str) -> None:
        self._say(f"would {'approve' if approve else 'decline'} {step} of {self._lever}")


class _DryBacklog(Backlog):
    claim_seconds = 0.0

    def __init__(self, view: BacklogView, lever: str, say: Callable[[str], None]) -> None:
        self._view, self._lever, self._say = view, lever, say

    def measure(self) -> BacklogMeasure:
        return self._view.measure()

    def claim(self, limit: int) -> Sequence[WorkItem]:
        self._say(f"would claim up to {limit} items of {self._lever}")
        return []

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        return dict.fromkeys(handles, False)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        return dict.fromkeys(handles, False)

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        raise Refused(f"a dry run asked to deliver {len(items)} items", guard="dry_run",
                      where=self._lever, not_done="nothing was delivered")
