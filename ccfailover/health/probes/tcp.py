"""tcp: does the port accept a connection, and (optionally) greet as it should?"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ccfailover.health import Probe, ProbeJob
from ccfailover.health.names import lookup
from ccfailover.health.patience import NOT_ASKED, Patience, reading
from ccfailover.health.references import Resolve
from ccfailover.model.health import Outcome, Reading
from ccfailover.runtime import Runtime

AT_ONCE = 500
GREETING_LIMIT = 4096
OBSERVER_FAULTS = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE,
     errno.ENOBUFS, errno.ENOMEM, errno.EACCES, errno.EPERM}
)
"""Errors that tell of this machine, not of the target."""


@dataclass(eq=False)
class _Call:
    job: ProbeJob
    sock: socket.socket
    started: float
    until: float
    greeting: bytes = b""
    connected: float | None = None


class TcpProbe(Probe):
    """Opens a connection to every target at once. With `expect`, the greeting must begin so.

    BAD: refused, reset, silent. UNKNOWN: the name does not resolve, or this machine itself has no
    way out.
    """

    kind: ClassVar[str] = "tcp"
    summary: ClassVar[str] = "a TCP port accepts connections (and greets as expected)"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "required": ["host", "port"],
        "additionalProperties": False,
        "properties": {
            "host": {"type": "string", "minLength": 1, "maxLength": 253,
                     "description": "name or address"},
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "expect": {"type": "string", "minLength": 1, "maxLength": 1024,
                       "description": "what the server's greeting must begin with"},
        },
    }

    def __init__(self, runtime: Runtime, *, resolve: Resolve | None = None) -> None:
        self._runtime = runtime  # `resolve` is taken as by every kind; there is no secret to ask

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        runtime = self._runtime
        addresses = lookup({str(job.spec.params["host"]) for job in jobs}, runtime, deadline)
        patience = Patience(runtime.monotonic(), deadline)
        waiting = deque(jobs)
        calls: set[_Call] = set()
        with selectors.DefaultSelector() as selector:
            try:
                while waiting or calls:
                    now = runtime.monotonic()
                    if now >= deadline:
                        break
                    while waiting and len(calls) < AT_ONCE:
                        yield from self._begin(waiting.popleft(), addresses, patience,
                                               selector, calls)
                    yield from self._turn(patience, selector, calls)
            finally:
                for call in calls:
                    call.sock.close()
        now = runtime.monotonic()
        for call in calls:
            outcome, detail = patience.silence(call.job.spec.timeout, now - call.started)
            yield self._told(call, outcome, detail)
        for job in waiting:
            yield reading(job.target.key, runtime.now(), Outcome.UNKNOWN, NOT_ASKED)

    def _begin(
        self, job: ProbeJob, addresses: Mapping[str, tuple[str, ...]], patience: Patience,
        selector: selectors.BaseSelector, calls: set[_Call],
    ) -> Iterator[Reading]:
        host, port = str(job.spec.params["host"]), int(str(job.spec.params["port"]))
        found = addresses[host]
        if not found:
            yield reading(job.target.key, self._runtime.now(), Outcome.UNKNOWN,
                          f"{host} does not resolve")
            return
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in found[0] else socket.AF_INET)
        except OSError as error:
            yield reading(job.target.key, self._runtime.now(), Outcome.UNKNOWN,
                          f"no socket to ask with: {_why(error.errno or 0)}")
            return
        sock.setblocking(False)
        now = self._runtime.monotonic()
        call = _Call(job, sock, now, now + patience.allowance(job.spec.timeout, now))
        code = sock.connect_ex((found[0], port))
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            sock.close()
            yield self._failed(call, code)
            return
        calls.add(call)
        selector.register(sock, selectors.EVENT_WRITE, call)

    def _turn(
        self, patience: Patience, selector: selectors.BaseSelector, calls: set[_Call]
    ) -> Iterator[Reading]:
        """Wait for the next answer or time-out and tell what it was."""
        if not calls:
            return
        soonest = min(call.until for call in calls)
        for key, _ in selector.select(max(0.0, soonest - self._runtime.monotonic())):
            call: _Call = key.data
            found = self._greet(call) if call.connected is not None else self._arrive(call)
            if found is not None:
                self._drop(call, selector, calls)
                yield found
            else:
                selector.modify(call.sock, selectors.EVENT_READ, call)
        now = self._runtime.monotonic()
        for call in [call for call in calls if call.until <= now]:
            self._drop(call, selector, calls)
            outcome, detail = patience.silence(call.job.spec.timeout, now - call.started)
            if call.connected is not None:
                detail = f"connected, but {detail}"
            yield self._told(call, outcome, detail)

    @staticmethod
    def _drop(call: _Call, selector: selectors.BaseSelector, calls: set[_Call]) -> None:
        selector.unregister(call.sock)
        call.sock.close()
        calls.discard(call)

    def _arrive(self, call: _Call) -> Reading | None:
        """The connection stands or has failed; None: now the greeting has to come."""
        code = call.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            return self._failed(call, code)
        call.connected = self._runtime.monotonic()
        if call.job.spec.params.get("expect"):
            return None
        return self._told(call, Outcome.GOOD, "accepts connections")

    def _greet(self, call: _Call) -> Reading | None:
        """None: what came so far may still become the greeting."""
        wanted = str(call.job.spec.params["expect"]).encode()
        try:
            part = call.sock.recv(GREETING_LIMIT - len(call.greeting))
        except OSError as error:
            return self._failed(call, error.errno or errno.ECONNRESET)
        call.greeting += part
        if call.greeting.startswith(wanted):
            return self._told(call, Outcome.GOOD, "greets as expected")
        if part and wanted.startswith(call.greeting):
            return None
        said = "closed without its greeting" if not part else "greets otherwise than expected"
        return self._told(call, Outcome.BAD, said)

    def _failed(self, call: _Call, code: int) -> Reading:
        outcome = Outcome.UNKNOWN if code in OBSERVER_FAULTS else Outcome.BAD
        return self._told(call, outcome, _why(code))

    def _told(self, call: _Call, outcome: Outcome, detail: str) -> Reading:
        params = call.job.spec.params
        spent = self._runtime.monotonic() - call.started
        values = {}
        if call.connected is not None:
            values["connect_s"] = round(call.connected - call.started, 6)
        return reading(call.job.target.key, self._runtime.now(), outcome,
                       f"{params['host']}:{params['port']} {detail}", seconds=spent, values=values)


def _why(code: int) -> str:
    return "refused the connection" if code == errno.ECONNREFUSED else os.strerror(code).lower()
