"""What may stand between a run and a platform: a lock on the levers, a rehearsal, patience.

    ViewsOnly(provider)             reads pass, no lever can be had: shadow drills
    DryRun(provider, say)           reads pass, writes are told to `say` and only pretended
    Retrying(provider, runtime)     what is transient is tried again, within bounds

Each is a LeverSource, as a provider is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeVar

from ccfailover.errors import Refused
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import (
    Backlog,
    BacklogMeasure,
    BacklogView,
    Gate,
    GateView,
    LeverSource,
    Provider,
    Route,
    RouteState,
    RouteView,
)
from ccfailover.providers.patience import Patience as Patience
from ccfailover.providers.patience import Permit
from ccfailover.runtime import Runtime

T = TypeVar("T")
May = Callable[[], None]


class _Wrapper(LeverSource):
    def __init__(self, inner: LeverSource) -> None:
        self.name = inner.name
        self._inner = inner

    def close(self) -> None:
        self._inner.close()


# --- ViewsOnly ---------------------------------------------------------------------------------


class _RouteReads(RouteView):
    """Holds the two bound methods and not the object: nothing to write with is in reach."""

    def __init__(self, read: Callable[[], RouteState],
                 measure: Callable[[], Mapping[str, float]]) -> None:
        self._read = read
        self._measure = measure

    def read(self) -> RouteState:
        return self._read()

    def measure(self) -> Mapping[str, float]:
        return self._measure()


class _GateReads(GateView):
    def __init__(self, read: Callable[[], bool]) -> None:
        self._read = read

    def is_open(self) -> bool:
        return self._read()


class _BacklogReads(BacklogView):
    def __init__(self, read: Callable[[], BacklogMeasure]) -> None:
        self._read = read

    def measure(self) -> BacklogMeasure:
        return self._read()


class ViewsOnly(_Wrapper):
    """Hands out views; asked for a lever, it raises Refused (guard `drill`), whatever the
    provider. Its views are objects without any write method, even if the provider's were not."""

    def route_view(self, lever: LeverSpec) -> RouteView:
        view = self._inner.route_view(lever)
        return _RouteReads(view.read, view.measure)

    def gate_view(self, lever: LeverSpec) -> GateView:
        return _GateReads(self._inner.gate_view(lever).is_open)

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        return _BacklogReads(self._inner.backlog_view(lever).measure)

    def route(self, lever: LeverSpec) -> Route:
        _refuse(lever, "route")

    def gate(self, lever: LeverSpec) -> Gate:
        _refuse(lever, "gate")

    def backlog(self, lever: LeverSpec) -> Backlog:
        _refuse(lever, "backlog")


def _refuse(lever: LeverSpec, what: str) -> NoReturn:
    raise Refused(f"a drill asked to write (the {what} {lever.lever})", guard="drill",
                  where=lever.provider, not_done="nothing was written",
                  hint="this is a bug in a step: in a shadow drill it may only ask for views")


# --- DryRun ------------------------------------------------------------------------------------


class DryRun(_Wrapper):
    """Writes to routes and gates are told to `say` and remembered, so that reads answer as if
    they had been done. Work items stay where they are: a claim finds none, a put is Refused."""

    def __init__(self, inner: LeverSource, say: Callable[[str], None]) -> None:
        super().__init__(inner)
        self._say = say
        self._shares: dict[str, Shares] = {}
        self._open: dict[str, bool] = {}

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


class _DryRoute(Route):
    def __init__(self, view: RouteView, lever: str, shares: dict[str, Shares],
                 say: Callable[[str], None]) -> None:
        self._view, self._lever, self._shares, self._say = view, lever, shares, say

    def read(self) -> RouteState:
        state = self._view.read()
        return RouteState(self._shares.get(self._lever, state.shares), state.version)

    def measure(self) -> Mapping[str, float]:
        return self._view.measure()

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self._say(f"would set {self._lever} to {to}")
        self._shares[self._lever] = to


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


# --- Retrying ----------------------------------------------------------------------------------


class Retrying(_Wrapper):
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
        view = self._inner.route_view(lever)
        return _RouteReads(lambda: self._read(view.read), lambda: self._read(view.measure))

    def gate_view(self, lever: LeverSpec) -> GateView:
        view = self._inner.gate_view(lever)
        return _GateReads(lambda: self._read(view.is_open))

    def backlog_view(self, lever: LeverSpec) -> BacklogView:
        view = self._inner.backlog_view(lever)
        return _BacklogReads(lambda: self._read(view.measure))

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

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        def attempt() -> None:
            self._may()
            self._inner.shift(to, expected=expected, key=key)

        self._patience.call(attempt, again=lambda error: True)


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
        self.claim_seconds = inner.claim_seconds

    def measure(self) -> BacklogMeasure:
        return self._patience.call(self._inner.measure, again=lambda error: True)

    def max_receives(self) -> int | None:
        return self._patience.call(self._inner.max_receives, again=lambda error: True)

    def check_writable(self) -> str:
        return self._patience.call(self._inner.check_writable, again=lambda error: True)

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
            return not any(self._again(result) for result in results.values())

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
    if later.ok or not earlier.in_doubt or later.in_doubt:
        return later
    return PutResult(later.item_id, ok=False, in_doubt=True, permanent=later.permanent,
                     detail=later.detail)
