"""Patience: what is transient is tried again, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ccfailover.errors import Unavailable
from ccfailover.model.items import PutResult, Receipt, WorkItem
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
    Procedure,
    ProcedureState,
    ProcedureView,
    Provider,
    Route,
    RouteState,
    RouteView,
)
from ccfailover.providers.patience import Patience, Permit
from ccfailover.providers.wrappers.views import (
    AnnouncementReads,
    BacklogReads,
    GateReads,
    ProcedureReads,
    RouteReads,
    Wrapper,
)
from ccfailover.runtime import Runtime

T = TypeVar("T")
May = Callable[[], None]


class Retrying(Wrapper):
    """Repeats reads freely, and writes because they are absolute or carry a key.

    Not repeated: a claim whose reply was lost (it would raise the items' receive count again),
    and a put that may have landed on a platform without idempotent put (it would duplicate).
    `permit` is asked before every attempt to write."""

    def __init__(self, inner: Provider, runtime: Runtime, *, patience: Patience | None = None,
                 permit: Permit | None = None) -> None:
        super().__init__(inner)
        self._provider = inner
        self._patience = patience or Patience(runtime)
        self._permit = permit or Permit()

    def _may(self) -> None:
        self._permit.check(self._provider.call_seconds)

    def route_view(self, lever: LeverSpec) -> RouteView:
        return RouteReads(self._inner.route_view(lever), self._patience)

    def gate_view(self, lever: LeverSpec) -> GateView:
        view = self._inner.gate_view(lever)
        return GateReads(lambda: self._read(view.is_open))

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        view = self._inner.backlog_view(lever)
        return BacklogReads(lambda: self._read(view.measure))

    def announcement_view(self, lever: LeverSpec) -> AnnouncementView:
        view = self._inner.announcement_view(lever)
        return AnnouncementReads(lambda: self._read(view.said))

    def procedure_view(self, lever: LeverSpec) -> ProcedureView:
        view = self._inner.procedure_view(lever)
        return ProcedureReads(lambda execution: self._read(lambda: view.read(execution)))

    def announcement(self, lever: LeverSpec) -> Announcement:
        return _PatientAnnouncement(self._inner.announcement(lever), self._patience, self._may)

    def procedure(self, lever: LeverSpec) -> Procedure:
        return _PatientProcedure(self._inner.procedure(lever), self._patience, self._may)

    def route(self, lever: LeverSpec) -> Route:
        return _PatientRoute(self._inner.route(lever), self._patience, self._may)

    def gate(self, lever: LeverSpec) -> Gate:
        return _PatientGate(self._inner.gate(lever), self._patience, self._may)

    def backlog(self, lever: LeverSpec) -> Backlog:
        able = self._provider.capabilities(
            self._provider.spec.params, {"ref": lever.ref, **lever.params})
        return _PatientBacklog(self._inner.backlog(lever), self._patience, able.idempotent_put,
                               self._may)

    def _read(self, fn: Callable[[], T]) -> T:
        return self._patience.call(fn, again=lambda error: True)


class _PatientRoute(Route):
    def __init__(self, inner: Route, patience: Patience, may: May) -> None:
        self._inner, self._patience, self._may = inner, patience, may

    def read(self) -> RouteState:
        return self._patience.call(self._inner.read, again=lambda error: True)

    def measure(self) -> Mapping[str, float]:
        return self._patience.call(self._inner.measure, again=lambda error: True)

    def live(self) -> Mapping[str, int] | None:
        return self._patience.call(self._inner.live, again=lambda error: True)

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        def attempt() -> None:
            self._may()
            self._inner.shift(to, expected=expected, key=key)

        self._patience.call(attempt, again=lambda error: True)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        def attempt() -> None:
            self._may()
            self._inner.restore(before, expected=expected, key=key)

        self._patience.call(attempt, again=lambda error: True)

    def between(self, state: RouteState, aims: Sequence[RouteState]) -> bool:
        return self._inner.between(state, aims)

    def as_found(self, state: RouteState, before: RouteState) -> bool:
        return self._inner.as_found(state, before)

    def complete(self, state: RouteState, to: Shares, was: str | None) -> bool:
        return self._inner.complete(state, to, was)


class _PatientAnnouncement(Announcement):
    def __init__(self, inner: Announcement, patience: Patience, may: May) -> None:
        self._inner, self._patience, self._may = inner, patience, may

    def said(self) -> str | None:
        return self._patience.call(self._inner.said, again=lambda error: True)

    def say(self, name: str | None, *, key: str) -> None:
        def attempt() -> None:
            self._may()
            self._inner.say(name, key=key)

        self._patience.call(attempt, again=lambda error: True)


class _PatientProcedure(Procedure):
    def __init__(self, inner: Procedure, patience: Patience, may: May) -> None:
        self._inner, self._patience, self._may = inner, patience, may

    def read(self, execution: str | None = None) -> ProcedureState:
        return self._patience.call(lambda: self._inner.read(execution), again=lambda error: True)

    def start(self, action: str, *, key: str) -> str:
        def attempt() -> str:
            self._may()
            return self._inner.start(action, key=key)

        return self._patience.call(attempt, again=lambda error: not error.in_doubt)

    def approve(self, execution: str, step: str, *, approve: bool, key: str) -> None:
        def attempt() -> None:
            self._may()
            self._inner.approve(execution, step, approve=approve, key=key)

        self._patience.call(attempt, again=lambda error: not error.in_doubt)


class _PatientGate(Gate):
    def __init__(self, inner: Gate, patience: Patience, may: May) -> None:
        self._inner, self._patience, self._may = inner, patience, may

    def is_open(self) -> bool:
        return self._patience.call(self._inner.is_open, again=lambda error: True)

    def set_open(self, is_open: bool, *, key: str) -> None:
        def attempt() -> None:
            self._may()
            self._inner.set_open(is_open, key=key)

        self._patience.call(attempt, again=lambda error: True)


class _PatientBacklog(Backlog):
    def __init__(self, inner: Backlog, patience: Patience, idempotent: bool, may: May) -> None:
        self._inner, self._patience, self._idempotent = inner, patience, idempotent
        self._may = may
        self.claim_seconds, self.batch = inner.claim_seconds, inner.batch

    def measure(self) -> BacklogMeasure:
        return self._patience.call(self._inner.measure, again=lambda error: True)

    def max_receives(self) -> int | None:
        return self._patience.call(self._inner.max_receives, again=lambda error: True)

    def check_writable(self) -> str:
        return self._patience.call(self._inner.check_writable, again=lambda error: True)

    def receipts(self, keys: Sequence[str]) -> Mapping[str, Receipt] | None:
        return self._patience.call(lambda: self._inner.receipts(keys), again=lambda error: True)

    def claim(self, limit: int) -> Sequence[WorkItem]:
        def attempt() -> Sequence[WorkItem]:
            self._may()
            return self._inner.claim(limit)

        return self._patience.call(attempt, again=lambda error: not error.in_doubt)

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        def attempt() -> Mapping[str, bool]:
            self._may()
            return self._inner.extend(handles, seconds)

        return self._patience.call(attempt, again=lambda error: True)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        done = dict.fromkeys(handles, False)

        def attempt() -> bool:
            self._may()
            left = [handle for handle, settled in done.items() if not settled]
            done.update(self._inner.settle(left))
            return all(done.values())

        self._patience.until_done(attempt)
        return done

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        results: dict[int, PutResult] = {}

        def attempt() -> bool:
            self._may()
            left = [i for i in range(len(items)) if i not in results or self._again(results[i])]
            sent = self._inner.put([items[i] for i in left], keys=keys)
            for index, result in zip(left, sent, strict=True):
                earlier = results.get(index)
                results[index] = result if earlier is None else _joined(earlier, result)
            again = [result for result in results.values() if self._again(result)]
            asked = max((result.retry_after or 0.0 for result in again), default=0.0)
            if asked:
                raise Unavailable("it asks to be left alone", in_doubt=False, retry_after=asked)
            return not again

        self._patience.until_done(attempt)
        unheard = {i: PutResult(item.item_id, ok=False, in_doubt=True, detail="no reply")
                   for i, item in enumerate(items)}
        return [results.get(index, unheard[index]) for index in range(len(items))]

    def _again(self, result: PutResult) -> bool:
        if result.ok or result.permanent:
            return False
        return self._idempotent or not result.in_doubt


def _joined(earlier: PutResult, later: PutResult) -> PutResult:
    """A first attempt that may have landed leaves doubt until a later one says ok."""
    later = later._replace(repeated=earlier.in_doubt or earlier.repeated)
    if later.ok or not earlier.in_doubt or later.in_doubt:
        return later
    return PutResult(later.item_id, ok=False, in_doubt=True, permanent=later.permanent,
                     detail=later.detail, repeated=True)
