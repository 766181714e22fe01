"""Foreign programs, bounded: in time, in what they may say, and in what they see of us.

Never through a shell. When time is up, and also when the program has ended, its whole process
group is killed; a child that starts a session of its own escapes that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

from ccfailover.runtime import Runtime

INHERITED: Final = ("PATH", "LANG", "LC_ALL", "TZ", "HOME")
"""All that a program sees of our environment: the rest may hold secrets."""
TICK: Final = 0.01
"""Seconds between two looks at a running program."""
GRACE: Final = 0.1
"""Seconds from SIGTERM to SIGKILL."""
_AT_ONCE: Final = 16_384

SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""Why a program could not be started that another moment may bring: this machine lacks something.
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended. `code` is its exit code, minus a signal's number, or None when it will
    not die. `fault` says why it was not let end by itself; `out` and `err` are what it had said."""

    code: int | None
    out: bytes
    err: bytes
    fault: str | None


def run(argv: Sequence[str], *, given: Mapping[str, str], until: float, runtime: Runtime,
        said: bytes = b"", out_cap: int = 65_536, err_cap: int = 0) -> Ended:
    """Run `argv` (the program is found in PATH) with `said` on its stdin, until `until`.

    `given` is added to the few variables of ours that it sees. `until` is on the runtime's
    monotonic clock, in seconds. It is stopped when it writes more than `out_cap` bytes to stdout;
    of stderr `err_cap` bytes are kept and the rest is read and dropped. Raises OSError or
    ValueError when it cannot be started.
    """
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # What needs a descriptor comes before the program: short of them, nothing has been started.
    with selectors.DefaultSelector() as selector:
        process = subprocess.Popen(
            list(argv), stdin=pipe if said else null, stdout=pipe,
            stderr=pipe if err_cap else null, cwd="/", env=environment | dict(given),
            start_new_session=True)
        talk = _Talk(process, selector, said, out_cap, err_cap)
        try:
            fault = talk.until_ended(runtime, until)
        finally:
            code = _end(process, runtime)
            talk.close()
    return Ended(code, bytes(talk.out), bytes(talk.err), fault)


class _Talk:
    """The three pipes of one program."""

    def __init__(self, process: subprocess.Popen[bytes], selector: selectors.BaseSelector,
                 said: bytes, out_cap: int, err_cap: int) -> None:
        self.out, self.err = bytearray(), bytearray()
        self._pid = process.pid
        self._rest, self._out_cap, self._err_cap = memoryview(said), out_cap, err_cap
        self._pipes: list[IO[bytes]] = [
            pipe for pipe in (process.stdin, process.stdout, process.stderr) if pipe is not None]
        self._stdin, self._stdout = process.stdin, process.stdout
        self._selector = selector
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)
            event = selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ
            self._selector.register(pipe, event)

    def close(self) -> None:
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()

    def until_ended(self, runtime: Runtime, until: float) -> str | None:
        """Listen until the program itself ends; why it was not let end, if it was not.

        Its end counts, not the pipes': a child it left behind may hold those open for ever.
        """
        while True:
            ended = _has_ended(self._pid)
            heard = self._hear(0.0 if ended else TICK, runtime)
            if len(self.out) > self._out_cap:
                del self.out[self._out_cap:]
                return f"wrote more than {self._out_cap // 1024} KiB"
            if ended and not heard:
                return None
            if runtime.monotonic() >= until:
                return "did not end in time"

    def _hear(self, wait: float, runtime: Runtime) -> bool:
        """One round over the pipes that stir; whether the program said something."""
        if not self._selector.get_map():
            runtime.sleep(wait)
            return False
        heard = False
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._stdin:
                self._tell(key.fd)
                continue
            part = _read(key.fd)
            heard = heard or bool(part)
            if key.fileobj is self._stdout:
                self.out += part or b""
            else:
                self.err += (part or b"")[:self._err_cap - len(self.err)]
            if part == b"":
                self._selector.unregister(key.fileobj)
        return heard

    def _tell(self, fd: int) -> None:
        try:
            self._rest = self._rest[os.write(fd, self._rest[:_AT_ONCE]):]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not listen, and need not
            self._rest = self._rest[:0]
        if not self._rest and self._stdin is not None:
            self._selector.unregister(self._stdin)
            with contextlib.suppress(BrokenPipeError):
                self._stdin.close()


def _end(process: subprocess.Popen[bytes], runtime: Runtime) -> int | None:
    """Kill what is left of the group, then reap the program; None: it will not die.

    It is not reaped before: as long as it is there, its group cannot be another's.
    """
    if not _has_ended(process.pid):
        _signal(process.pid, signal.SIGTERM)
        until = runtime.monotonic() + GRACE
        while not _has_ended(process.pid) and runtime.monotonic() < until:
            runtime.sleep(TICK)
    _signal(process.pid, signal.SIGKILL)
    try:
        return process.wait(GRACE)
    except subprocess.TimeoutExpired:  # stuck in the kernel; nobody waits for that
        return None


def _has_ended(pid: int) -> bool:
    """Without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone; or setuid programs
        os.killpg(group, number)


def _read(fd: int) -> bytes | None:
    """What there is, at most 16 KiB; b"" at the end; None when there is nothing now."""
    try:
        return os.read(fd, _AT_ONCE)
    except BlockingIOError:
        return None
