"""A connection on which no answer is waited for without end.

The server's own time-outs end statements and lock waits, but not a COMMIT that waits for a
standby, nor anything when the server itself stands still.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from ccfailover.runtime import Runtime
from ccfailover.store.db import Row

T = TypeVar("T")

GRACE = 5.0
"""Seconds that a server has to obey a request to stop what it is doing."""


class Link(psycopg.Connection[Row]):
    longest: float = math.inf
    """Seconds after which the server is asked to stop; `GRACE` later the connection is closed,
    which is a psycopg.OperationalError."""
    grace: float = GRACE
    runtime: Runtime

    def wait(
        self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None
    ) -> T:
        bounded = gen if self.longest == math.inf else self._bounded(gen)
        return super().wait(bounded, interval, timeout)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        limit, asked = self.runtime.monotonic() + self.longest, False
        talks: float | None = None
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = self.runtime.monotonic()
                if ready and now >= limit:
                    # We may have stood still, and the answer is there; but one that goes on
                    # talking, and never comes to its answer, gives none.
                    talks = now if talks is None else talks
                endless = talks is not None and now - talks >= self.grace
                if endless or (not ready and now >= limit):
                    if asked or endless:
                        self.pgconn.finish()
                        raise psycopg.OperationalError(
                            f"no answer within {self.longest + self.grace:g} s")
                    limit, asked = limit + self.grace, True
                    self._ask_to_stop()
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value

    def _ask_to_stop(self) -> None:
        longest, self.longest = self.longest, math.inf
        try:
            self.cancel_safe(timeout=self.grace / 2)
        except psycopg.Error:
            return  # it does not take even that; the connection is closed when the grace is over
        finally:
            self.longest = longest


def last(connection: Link, statements: str) -> Row:
    """Several statements of our own in one exchange; the first row of the last one's result."""
    cursor = connection.cursor()
    cursor.execute(statements, prepare=False)
    while cursor.nextset():
        pass
    return (cursor.fetchone() or ()) if cursor.description is not None else ()


def leave(connection: Link) -> None:
    """Out of whatever transaction it is in; a connection that cannot is closed."""
    if connection.closed or connection.info.transaction_status is TransactionStatus.IDLE:
        return
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()
