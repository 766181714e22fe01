"""Several people at once: processes that are held, released together, and tell how they ended."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccfailover.errors import CcfError
from ccfailover.operations.desk import Desk
from ccfailover.wiring.assemble import assemble


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
        while not os.read(self._wait_go, 1):
            pass

    def gather(self, count: int) -> None:
        got = 0
        while got < count:
            got += len(os.read(self.here, count - got))

    def release(self, count: int) -> None:
        os.write(self.go, b"." * count)

    def close(self) -> None:
        for handle in (self.here, self._say_here, self._wait_go, self.go):
            os.close(handle)


class Person:
    """A forked process that does one job; `tell` gives what it said when it has ended."""

    def __init__(self, name: str, job: Callable[[], int]) -> None:
        self.name = name
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
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

    def tell(self) -> Told:
        """Wait for its end. A killed one told nothing: its code is the negative signal."""
        parts = []
        while part := os.read(self._from, 65_536):
            parts.append(part)
        os.close(self._from)
        _, status = os.waitpid(self.pid, 0)
        if not parts:
            return Told(self.pid, os.waitstatus_to_exitcode(status), "")
        told = json.loads(b"".join(parts))
        return Told(self.pid, told["code"], told["text"])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def desk_of(policy: Path, environ: dict[str, str], name: str, **more: Any) -> Desk:
    return assemble(str(policy), environ={**environ, "CCFAILOVER_ACTOR": name}, **more)
