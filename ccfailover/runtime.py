"""Everything nondeterministic: time, chance, identities and threads.

Code above this module takes a `Runtime` and asks it; nothing else reads a clock, draws a random
number or starts a thread (ruff keeps that). So a test, and later the simulator, can run the
whole program in virtual time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

SECOND = 1_000_000
"""Microseconds in a second. Every instant in the program is an `int` of µs since the epoch, UTC."""


class Runtime(Protocol):
    def now(self) -> int:
        """Wall clock in microseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def new_id(self) -> str:
        """Four hexadecimal digits: enough to tell two runs with one number apart."""
        ...

    def each(self, fn: Callable[[T], R], items: Sequence[T], limit: int) -> list[R]:
        """`fn` of every item, at most `limit` at a time; results in the order of `items`.

        Every call is let end; then the first exception, if there was one, is raised.
        """
        ...

    def each_by(
        self, fn: Callable[[T], R], items: Sequence[T], limit: int, deadline: float
    ) -> list[R | None]:
        """Like `each`, but back at `deadline` (monotonic seconds) whatever the calls do.

        None stands for a call that had not ended by then: it may go on unheard, so `fn` must
        only read. Nothing new is started after `deadline`. The first exception among the calls
        that ended is raised.
        """
        ...


class SystemRuntime:
    """The real clock, real chance and real threads."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def random(self) -> float:
        import random  # 1 ms, and status needs no chance

        return random.random()

    def new_id(self) -> str:
        return os.urandom(2).hex()

    def each(self, fn: Callable[[T], R], items: Sequence[T], limit: int) -> list[R]:
        if len(items) <= 1 or limit <= 1:
            return [fn(item) for item in items]
        results: dict[int, R] = {}
        failures: dict[int, BaseException] = {}
        turn = iter(enumerate(items))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    nxt = next(turn, None)
                if nxt is None:
                    return
                index, item = nxt
                try:
                    results[index] = fn(item)
                except BaseException as error:  # handed to the caller below, never swallowed
                    failures[index] = error

        threads = [
            threading.Thread(target=work, daemon=True) for _ in range(min(limit, len(items)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[min(failures)]
        return [results[index] for index in range(len(items))]

    def each_by(
        self, fn: Callable[[T], R], items: Sequence[T], limit: int, deadline: float
    ) -> list[R | None]:
        results: dict[int, R] = {}
        failures: dict[int, BaseException] = {}
        turn = iter(enumerate(items))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    nxt = next(turn, None) if time.monotonic() < deadline else None
                if nxt is None:
                    return
                index, item = nxt
                try:
                    found = fn(item)
                except BaseException as error:  # handed to the caller below, never swallowed
                    with lock:
                        failures[index] = error
                else:
                    with lock:
                        results[index] = found

        threads = [
            threading.Thread(target=work, daemon=True) for _ in range(min(limit, len(items)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with lock:
            if failures:
                raise failures[min(failures)]
            return [results.get(index) for index in range(len(items))]
