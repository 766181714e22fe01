"""A worker: takes parts of runs' moves from the shared store's queue, until told to go."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ccfailover.errors import Exit, StoreError, Unavailable, UsageError
from ccfailover.operations.crew import UNSEEN, Crew, Told, Tools
from ccfailover.operations.desk import Desk
from ccfailover.transfer.fanout import worker_name

TICK = 1.0
"""Seconds between two looks at whether we are still there, and wanted."""

MOST = 64
"""Workers on one machine."""

LONGEST_HOST = 32

FAREWELL = 30.0
"""Seconds that batches at hand have to end."""


class Presence(Protocol):
    """See `store.presence`."""

    def take(self, name: str) -> bool: ...
    def confirmed(self) -> bool: ...
    def leave(self) -> None: ...


class Serving(Protocol):
    """See `transfer.dispatch`."""

    def start(self) -> None: ...
    def stop(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Bench:
    """What wiring makes for a worker. `serving` is given its name and what handles a token."""

    presence: Presence
    serving: Callable[[str, int, Callable[[object], str]], Serving]
    tools: Callable[[], Tools]
    is_open: Callable[[str], bool]


class Worker:
    """One process's. `slots`: parts at a time. `until_idle`: seconds without work after which it
    goes (None: never); `once`: after one part."""

    def __init__(self, desk: Desk, bench: Bench, *, slots: int, until_idle: float | None,
                 once: bool, told: Told) -> None:
        self._desk, self._bench, self._told = desk, bench, told
        self._slots, self._until_idle, self._once = slots, until_idle, once
        self._asked = False
        self._seen = desk.runtime.monotonic()
        self._file = self._stamp()
        self._crew = Crew(desk.policy, desk.store, desk.runtime, slots=slots, tools=bench.tools,
                          is_open=bench.is_open, present=self._present, told=told)

    def stop(self) -> None:
        """Finish the batches at hand, and go. Safe to call from a signal handler."""
        self._asked = True
        self._crew.stop()

    def run(self) -> Exit:
        """Raises StoreError when the store is not ready for workers, UsageError when there are
        too many on this machine."""
        name = self._take_a_place()
        serving = self._bench.serving(name, self._slots, self._crew.handle)
        try:
            serving.start()
            self._told("worker.started", {"worker": name, "slots": self._slots,
                                          "policy": self._desk.policy.heading})
            why, code = self._serve()
            self._crew.stop()
            serving.stop(FAREWELL)
        finally:
            serving.stop(0)
            self._crew.close()
            self._bench.presence.leave()
        self._told("worker.ended", {"worker": name, "why": why, "parts": self._crew.done})
        return code

    def _take_a_place(self) -> str:
        host = "".join(each if "!" <= each <= "~" else "?" for each in self._desk.actor.host)
        host = host[:LONGEST_HOST]
        for slot in range(1, MOST + 1):
            name = worker_name(self._desk.policy.sha256, f"{host}:{slot}")
            if self._bench.presence.take(name):
                return name
        raise UsageError(f"{MOST} workers of this policy are at work on this machine already",
                         not_done="no work was taken", hint="ccfailover doctor")

    def _serve(self) -> tuple[str, Exit]:
        runtime, crew = self._desk.runtime, self._crew
        while True:
            if self._asked:
                return "asked to stop", Exit.DONE
            if self._once and crew.done and crew.idle:
                return "one part was done", Exit.DONE
            if (self._until_idle is not None and crew.idle
                    and runtime.monotonic() - crew.last >= self._until_idle):
                return f"nothing to do for {self._until_idle:g} s", Exit.DONE
            if self._bench.presence.confirmed():
                self._seen = runtime.monotonic()
            elif not self._present():
                return "the store does not answer, or took us for dead", Exit.UNKNOWN
            if self._changed():
                return "the policy file is another one now", Exit.DONE
            crew.tend()
            runtime.sleep(TICK)

    def _present(self) -> bool:
        return self._desk.runtime.monotonic() - self._seen < UNSEEN

    # --- the policy file -------------------------------------------------------------------

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._desk.policy.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _changed(self) -> bool:
        """Runs have the new policy from now on, and give us no work."""
        stamp = self._stamp()
        if stamp == self._file or stamp is None:
            return False
        self._file = stamp
        try:
            with open(self._desk.policy.path, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest() != self._desk.policy.sha256
        except OSError:
            return False


def is_open(open_: Callable[[str], object]) -> Callable[[str], bool]:
    """Whether tokens are open; one that cannot be asked has none for us."""
    def asked(prefix: str) -> bool:
        try:
            return bool(open_(prefix))
        except Unavailable as error:
            raise StoreError(error.what, not_done="idle hands were let go") from error

    return asked
