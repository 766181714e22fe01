"""Several people at once: processes that are held, released together, and tell how they ended."""

from __future__ import annotations

import json
import os
import select
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccfailover.errors import CcfError
from ccfailover.operations.desk import Desk
from ccfailover.wiring.assemble import assemble

PATIENCE = 20.0
"""Seconds after which a test that waits for somebody fails instead of hanging."""


def hear(handle: int, most: int = 100) -> bytes:
    """What comes out of a pipe; an AssertionError when nobody says anything."""
    ready, _, _ = select.select([handle], [], [], PATIENCE)
    assert ready, "nobody came"
    return os.read(handle, most)


@dataclass(frozen=True)
class Told:
    """What a process said at its end: its exit code and, for an error, the lines a person reads."""

    pid: int
    code: int
    text: str


class Gate:
    """A barrier of pipes: each child says that it is there, then waits to be let go."""

    def __init__(self) -> None:
        self.here, self._say_here = os.pipe()
        self._wait_go, self.go = os.pipe()

    def arrive(self) -> None:
        """In a child: say so, and wait until everybody is let go."""
        os.write(self._say_here, b".")
        hear(self._wait_go, 1)

    def gather(self, count: int) -> None:
        got = 0
        while got < count:
            got += len(hear(self.here, count - got))

    def release(self, count: int) -> None:
        os.write(self.go, b"." * count)

    def close(self) -> None:
        for handle in (self.here, self._say_here, self._wait_go, self.go):
            os.close(handle)


def _silence() -> None:
    """A forked child must not hold the test runner's own output open."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)


LIVING: dict[int, Person] = {}
"""Whoever has not been heard to the end; a test's fixture ends them."""


def end_everybody() -> None:
    for pid in list(LIVING):
        LIVING.pop(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Person:
    """A forked process that does one job; `tell` gives what it said when it has ended."""

    def __init__(self, name: str, job: Callable[[], int]) -> None:
        self.name = name
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _silence()
            told: dict[str, Any] = {"code": 99, "text": ""}
            try:
                told["code"] = job()
            except CcfError as error:
                told = {"code": int(error.exit_code),
                        "text": "\n".join([type(error).__name__, *error.lines()])}
            except BaseException as error:
                told["text"] = "".join(traceback.format_exception(error))
            finally:
                os.write(write, json.dumps(told).encode()[:60_000])
                os._exit(0)
        os.close(write)
        self._from = read
        LIVING[self.pid] = self

    def tell(self) -> Told:
        """Wait for its end. A killed one told nothing: its code is the negative signal."""
        parts = []
        while part := hear(self._from, 65_536):
            parts.append(part)
        os.close(self._from)
        LIVING.pop(self.pid)
        _, status = os.waitpid(self.pid, 0)
        if not parts:
            return Told(self.pid, os.waitstatus_to_exitcode(status), "")
        told = json.loads(b"".join(parts))
        return Told(self.pid, told["code"], told["text"])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def desk_of(policy: Path, environ: dict[str, str], name: str, **more: Any) -> Desk:
    return assemble(str(policy), environ={**environ, "CCFAILOVER_ACTOR": name}, **more)
