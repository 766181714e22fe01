"""The run's side of a move that workers help with: offer, watch, and be sure that it is over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ccfailover.errors import Unavailable
from ccfailover.runtime import Runtime
from ccfailover.transfer.fanout import FanOut, Open, Token

LEAST = 1000
"""Waiting items below which a run is quicker by itself."""

ITEMS = 50_000
"""At most in one token. What limits it as a rule is its time, or that nothing is left."""

SECONDS = 10.0
"""For which a worker goes on with one token: so long does a stop wait at the worst. Between two
tokens a worker waits half a second on average, since idle ones shall cost nothing."""

LOOK = 0.5
"""Seconds between two looks at the tokens."""

COUNT = 2.0
"""Seconds between two counts of the ledger, which may be long."""

STALLED = 60.0
"""Seconds without any progress after which the run goes on by itself."""

GRACE = 5.0
"""Seconds after a worker's death was seen, before what it had begun is touched: for one that only
lost its connection, and finds out (`operations.crew`)."""


class Spread:
    """`token`: what they all have in common. `depth`: what waits at the source (None: it does not
    say); `done`: what the ledger has of the move so far, in any state."""

    def __init__(self, fan_out: FanOut, token: Token, *, runtime: Runtime,
                 depth: Callable[[], int | None], done: Callable[[], int],
                 stop: Callable[[], bool], check_fence: Callable[[], None],
                 progress: Callable[[int, int | None, str], None]) -> None:
        self._fan_out = fan_out
        self._token = token
        self._runtime = runtime
        self._depth, self._done = depth, done
        self._stop, self._check_fence, self._progress = stop, check_fence, progress
        self._offered = 0
        self._before = self._moved = -1
        self._counted = -COUNT
        self._since = runtime.monotonic()
        self._death: float | None = None
        self._ending: float | None = None
        self.over = False

    def run(self, deadline: float) -> bool:
        """True: no worker is at it, and the run's own mover may begin; False: call again.

        Raises Fenced and StoreError as all that writes; Unavailable when it cannot be found out
        what the workers do.
        """
        while not self.over and self._runtime.monotonic() < deadline:
            self._check_fence()
            if self._ending is not None:
                self.over = self._ended()
            elif not self._wanted():
                self._ending = self._runtime.monotonic()
                continue
            if not self.over:
                self._runtime.sleep(LOOK)
        return self.over

    def end(self) -> None:
        """Call the workers off; `run` then waits for them."""
        if self._ending is None:
            self._ending = self._runtime.monotonic()

    def _wanted(self) -> bool:
        try:
            return self._goes_on()
        except Unavailable as error:
            if self._offered or error.in_doubt:
                raise
            # Nothing was handed out and nothing can be: then it is done without help.
            self._progress(max(0, self._moved), None, f"without workers: {error}")
            return False

    def _goes_on(self) -> bool:
        workers = self._fan_out.workers()
        if self._stop() or not workers:
            return False
        found = Open(0, 0)
        if self._offered:
            if self._fan_out.sweep(self._token.prefix):
                self._death = self._runtime.monotonic()
            found = self._fan_out.open(self._token.prefix)
        self._look(at_once=not found)
        self._progress(self._moved, None, f"{workers} workers, {found.at_work} at work")
        if found.waiting or (found and self._moved == self._before):
            return self._runtime.monotonic() - self._since < STALLED
        if self._moved == self._before:
            return False  # all that was offered is done, and nothing came of it
        return self._offer(workers) or bool(found)

    def _look(self, *, at_once: bool) -> None:
        now = self._runtime.monotonic()
        if at_once or now - self._counted >= COUNT:
            done = self._done()
            self._counted = self._runtime.monotonic()
            if done != self._moved:
                self._moved, self._since = done, now

    def _offer(self, workers: int) -> bool:
        """One more for each worker, so that each finds one when it has done with its last."""
        depth = self._depth()
        if depth is None or depth < LEAST:
            return False
        self._fan_out.offer(self._token.prefix, [replace(self._token, items=ITEMS)] * workers,
                            self._offered)
        self._offered += workers
        self._before = self._moved
        return True

    def _ended(self) -> bool:
        if not self._offered:
            return True
        hushed = hush(self._fan_out, self._token.prefix)
        now = self._runtime.monotonic()
        self._death = now if hushed is None else self._death
        if hushed is False:
            if self._ending is not None and now - self._ending > self._token.seconds + STALLED:
                raise Unavailable("workers are still at it, and do not come to an end",
                                  in_doubt=True, provider="workers", where=self._token.step,
                                  hint="end these processes: ccfailover doctor names them")
            return False
        if self._death is not None and now - self._death < GRACE:
            return False
        with suppress(Unavailable):  # rows that are in nobody's way
            self._fan_out.forget(self._token.of_step)
        return True


def hush(fan_out: FanOut, prefix: str) -> bool | None:
    """Call off what waits: True when nobody is at it any more, None when somebody died at it."""
    died = fan_out.cancel(prefix)
    return None if died else not fan_out.open(prefix)


def outwait(fan_out: FanOut, token: Token, runtime: Runtime, deadline: float) -> bool:
    """Before a move whose earlier attempt may have had helpers: be sure that none is at work.

    False: not yet, call again."""
    if not fan_out.workers():
        return True
    died: float | None = None
    while runtime.monotonic() < deadline:
        hushed = hush(fan_out, token.of_step)
        died = runtime.monotonic() if hushed is None else died
        if hushed and (died is None or runtime.monotonic() - died >= GRACE):
            return True
        runtime.sleep(LOOK)
    return False
