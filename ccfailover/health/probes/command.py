"""command: a Nagios plugin: exit code 0 1 2 3, one line for people, performance data."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from ccfailover.errors import CcfError
from ccfailover.health import Probe, ProbeJob
from ccfailover.health.patience import NOT_ASKED, reading
from ccfailover.health.perfdata import read_perfdata
from ccfailover.health.references import Resolve, resolve_all
from ccfailover.model.health import Outcome, Reading
from ccfailover.runtime import Runtime

OUTPUT_LIMIT = 65_536
OUTCOMES = {0: Outcome.GOOD, 1: Outcome.WARN, 2: Outcome.BAD, 3: Outcome.UNKNOWN}
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "HOME")
"""All that a plugin sees of our environment: the rest may hold secrets."""
TICK = 0.01
"""Seconds between two looks at a running plugin."""
GRACE = 0.1
"""Seconds from SIGTERM to SIGKILL."""


class CommandProbe(Probe):
    """Runs plugins, at most `at_once` side by side, never through a shell.

    Exit codes 0 1 2 3 are GOOD WARN BAD UNKNOWN, any other end is UNKNOWN, and so is a plugin that
    hangs: it says nothing about its target, and one that means to can give up itself and exit 2.
    When time is up, and also when the plugin has ended, its whole process group is killed; a
    child that starts a session of its own escapes that.
    """

    kind: ClassVar[str] = "command"
    summary: ClassVar[str] = "a Nagios plugin: exit code 0 1 2 3, performance data becomes values"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "required": ["argv"],
        "additionalProperties": False,
        "properties": {
            "argv": {
                "description": "program (absolute path, or found in PATH) and arguments; no shell",
                "type": "array", "minItems": 1, "maxItems": 256,
                "items": {"type": "string", "maxLength": 4096, "pattern": "^[^\\u0000]*$"},
            },
            "env": {
                "description": "environment; values may be secrets by reference: env:NAME",
                "type": "object", "maxProperties": 64,
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                "additionalProperties": {"type": "string"},
            },
        },
    }

    def __init__(self, runtime: Runtime, *, resolve: Resolve, at_once: int = 8) -> None:
        self._runtime = runtime
        self._resolve = resolve
        self._at_once = at_once

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        runtime = self._runtime
        # Each run ends itself before `deadline`; the margin lets its kill and last words through.
        found = runtime.each_by(
            lambda job: self._run(job, deadline), jobs, self._at_once, deadline + 2 * GRACE
        )
        for job, seen in zip(jobs, found, strict=True):
            yield seen or reading(job.target.key, runtime.now(), Outcome.UNKNOWN, NOT_ASKED)

    def _run(self, job: ProbeJob, deadline: float) -> Reading:
        runtime = self._runtime
        key, began = job.target.key, runtime.monotonic()
        until = min(began + job.spec.timeout, deadline)
        if until <= began:
            return reading(key, runtime.now(), Outcome.UNKNOWN, NOT_ASKED)
        try:
            process = self._start(job)
        except (OSError, ValueError, CcfError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            return reading(key, runtime.now(), Outcome.UNKNOWN, f"cannot run the plugin: {said}")
        try:
            output, fault = self._listen(process, until)
        finally:
            code = self._end(process)
        spent = runtime.monotonic() - began
        if fault is not None:
            return reading(key, runtime.now(), Outcome.UNKNOWN, f"the plugin {fault}: stopped",
                           seconds=spent)
        said, values = _read_output(output)
        if code not in OUTCOMES:
            how = f"was killed by signal {-code}" if code is not None and code < 0 \
                else f"ended with {code}, which means nothing"
            return reading(key, runtime.now(), Outcome.UNKNOWN, f"the plugin {how}", seconds=spent)
        return reading(key, runtime.now(), OUTCOMES[code], said or f"exit code {code}",
                       seconds=spent, values=values)

    def _start(self, job: ProbeJob) -> subprocess.Popen[bytes]:
        argv, given = job.spec.params["argv"], job.spec.params.get("env")
        if not isinstance(argv, Sequence) or isinstance(argv, str) or not argv:
            raise ValueError("argv must be a list")
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        if isinstance(given, Mapping):
            environment |= resolve_all({str(k): str(v) for k, v in given.items()}, self._resolve)
        return subprocess.Popen(
            [str(part) for part in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd="/", env=environment, start_new_session=True,
        )

    def _listen(
        self, process: subprocess.Popen[bytes], until: float
    ) -> tuple[bytes, str | None]:
        """Output until the plugin itself ends; the second says why it was not let end.

        Its end counts, not the pipe's: a child it left behind may hold that open for ever.
        """
        assert process.stdout is not None  # noqa: S101 - asked for in _start
        os.set_blocking(process.stdout.fileno(), False)
        heard, is_open = bytearray(), True
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                ended = _has_ended(process.pid)
                if is_open:
                    stirred = selector.select(0 if ended else TICK)
                    part = _read(process.stdout.fileno()) if stirred else None
                    heard += part or b""
                    if part == b"":
                        selector.unregister(process.stdout)
                        is_open = False
                    if len(heard) > OUTPUT_LIMIT:
                        return bytes(heard[:OUTPUT_LIMIT]), "wrote more than 64 KiB"
                    if part:
                        if self._runtime.monotonic() >= until:
                            return bytes(heard), "did not end in time"
                        continue
                elif not ended:
                    self._runtime.sleep(TICK)
                if ended:
                    return bytes(heard), None
                if self._runtime.monotonic() >= until:
                    return bytes(heard), "did not end in time"

    def _end(self, process: subprocess.Popen[bytes]) -> int | None:
        """Kill what is left of the group, then reap the plugin; None: it will not die.

        The plugin is not reaped before: as long as it is there, its group cannot be another's.
        """
        runtime = self._runtime
        if not _has_ended(process.pid):
            _signal(process.pid, signal.SIGTERM)
            until = runtime.monotonic() + GRACE
            while not _has_ended(process.pid) and runtime.monotonic() < until:
                runtime.sleep(TICK)
        _signal(process.pid, signal.SIGKILL)
        try:
            return process.wait(GRACE)
        except subprocess.TimeoutExpired:  # stuck in the kernel; the next poll does not wait for it
            return None
        finally:
            if process.stdout is not None:
                process.stdout.close()


def _has_ended(pid: int) -> bool:
    """Without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all gone; or setuid plugins
        os.killpg(group, number)


def _read(fd: int) -> bytes | None:
    """What there is, at most 16 KiB; b"" at the end; None when there is nothing now."""
    try:
        return os.read(fd, 16_384)
    except BlockingIOError:
        return None


def _read_output(output: bytes) -> tuple[str, dict[str, float]]:
    """The first line's text, and the performance data of the first and of later lines.

    Text, `|`, performance data; then long text, until a second `|` after which every line is
    performance data.
    """
    first, _, rest = output.decode("utf-8", "replace").partition("\n")
    said, _, data = first.partition("|")
    _, _, more = rest.partition("|")
    return said.strip(), read_perfdata(f"{data} {more}")
