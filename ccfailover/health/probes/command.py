"""command: a Nagios plugin: exit code 0 1 2 3, one line for people, performance data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from ccfailover.errors import CcfError
from ccfailover.health import Probe, ProbeJob
from ccfailover.health.patience import NOT_ASKED, reading
from ccfailover.health.perfdata import read_perfdata
from ccfailover.health.references import Resolve, resolve_all
from ccfailover.model.health import Outcome, Reading
from ccfailover.providers import programs
from ccfailover.runtime import Runtime

OUTPUT_LIMIT = 65_536
OUTCOMES = {0: Outcome.GOOD, 1: Outcome.WARN, 2: Outcome.BAD, 3: Outcome.UNKNOWN}


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
            lambda job: self._run(job, deadline), jobs, self._at_once, deadline + 2 * programs.GRACE
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
            ended = self._start(job, until)
        except (OSError, ValueError, CcfError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            return reading(key, runtime.now(), Outcome.UNKNOWN, f"cannot run the plugin: {said}")
        code, output, fault = ended.code, ended.out, ended.fault
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

    def _start(self, job: ProbeJob, until: float) -> programs.Ended:
        argv, given = job.spec.params["argv"], job.spec.params.get("env")
        if not isinstance(argv, Sequence) or isinstance(argv, str) or not argv:
            raise ValueError("argv must be a list")
        resolved: dict[str, str] = {}
        if isinstance(given, Mapping):
            resolved = resolve_all({str(k): str(v) for k, v in given.items()}, self._resolve)
        return programs.run([str(part) for part in argv], given=resolved, until=until,
                            runtime=self._runtime, out_cap=OUTPUT_LIMIT)


def _read_output(output: bytes) -> tuple[str, dict[str, float]]:
    """The first line's text, and the performance data of the first and of later lines.

    Text, `|`, performance data; then long text, until a second `|` after which every line is
    performance data.
    """
    first, _, rest = output.decode("utf-8", "replace").partition("\n")
    said, _, data = first.partition("|")
    _, _, more = rest.partition("|")
    return said.strip(), read_perfdata(f"{data} {more}")
