"""How often what failed in passing is tried again, and whether a write may be tried at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ccfailover.errors import Unavailable
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

Ask = Callable[[float], None]
"""Raises when a call that may take so many seconds must not be begun any more."""


class Patience:
    """Bounds of trying again: at most `attempts` calls, and no new one that would begin more
    than `total` seconds after the first. The wait doubles from `first` up to `longest` and is
    drawn from its upper half; a platform's Retry-After counts when it is longer."""

    def __init__(self, runtime: Runtime, *, attempts: int = 4, first: float = 0.2,
                 longest: float = 5.0, total: float = 30.0) -> None:
        self._runtime = runtime
        self._attempts = attempts
        self._first = first
        self._longest = longest
        self._total = total

    def call(self, fn: Callable[[], T], *, again: Callable[[Unavailable], bool]) -> T:
        """`fn()`, repeated while it raises an Unavailable that `again` accepts; then the last
        error is raised as it is."""
        begun = self._runtime.monotonic()
        try:
            return fn()
        except Unavailable as error:
            if self._attempts < 2 or not again(error):
                raise
            first: Unavailable | None = error
        # Imported once something has failed: the library costs a start 8 ms.
        from tenacity import Retrying as Loop
        from tenacity import retry_if_exception, stop_after_attempt

        often = stop_after_attempt(self._attempts)

        def attempt() -> T:
            nonlocal first
            failed, first = first, None
            if failed is not None:
                raise failed  # the first call's, which is counted but not made again
            return fn()

        def enough(state: RetryCallState) -> bool:
            spent = self._runtime.monotonic() - begun
            return often(state) or spent + state.upcoming_sleep > self._total

        loop = Loop(
            retry=retry_if_exception(lambda e: isinstance(e, Unavailable) and again(e)),
            stop=enough,
            wait=self._wait, sleep=self._runtime.sleep, reraise=True,
        )
        return loop(attempt)

    def until_done(self, fn: Callable[[], bool]) -> None:
        """`fn()` until it says that nothing is left, within the same bounds."""

        def attempt() -> None:
            if not fn():
                raise Unavailable("not all of it is done", in_doubt=False)

        try:
            self.call(attempt, again=lambda error: True)
        except Unavailable:
            return

    def _wait(self, state: RetryCallState) -> float:
        longest = min(self._longest, self._first * 2.0 ** (state.attempt_number - 1))
        wait = longest * (0.5 + 0.5 * self._runtime.random())
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, Unavailable) else None
        return max(wait, asked or 0.0)


class Permit:
    """Stands between whoever repeats a write and the platform.

    A run may act only while its lease lasts, and the lease may end between two attempts of one
    call. Until somebody carries a run there is nobody to ask, and everything may pass.
    """

    def __init__(self) -> None:
        self._ask: Ask | None = None

    def given_by(self, ask: Ask) -> None:
        """From now on `ask` decides."""
        self._ask = ask

    def check(self, seconds: float) -> None:
        """Raises what `ask` raises, Fenced as a rule: then nothing was sent."""
        if self._ask is not None:
            self._ask(seconds)
