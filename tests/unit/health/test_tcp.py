"""probes/tcp.py against real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from ccfailover.health import ProbeJob
from ccfailover.health.probes.tcp import TcpProbe
from ccfailover.model.health import Outcome, Reading
from ccfailover.runtime import SystemRuntime

Job = Callable[..., ProbeJob]


def ask(runtime: SystemRuntime, *jobs: ProbeJob, budget: float = 5.0) -> dict[str, Reading]:
    probe = TcpProbe(runtime)
    return {seen.key: seen for seen in probe.read_many(jobs, runtime.monotonic() + budget)}


@pytest.fixture
def greeter() -> Iterator[Callable[..., int]]:
    """Starts a server that greets every caller with these parts, then closes."""
    listeners: list[socket.socket] = []

    def start(*parts: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                with caller:
                    for part in parts:
                        caller.sendall(part)
                        threading.Event().wait(0.05)

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_open_and_closed_ports(runtime: SystemRuntime, job: Job, mute: int, closed: int) -> None:
    """A port that accepts is good; one that refuses is bad and says so."""
    found = ask(runtime, job("tcp", "open", host="127.0.0.1", port=mute),
                job("tcp", "named", host="localhost", port=mute),
                job("tcp", "closed", host="127.0.0.1", port=closed))
    assert found["open"].outcome is Outcome.GOOD
    assert found["open"].values["connect_s"] >= 0
    assert found["closed"].outcome is Outcome.BAD
    assert "refused" in found["closed"].detail
    assert found["named"].key == "named"


@pytest.mark.parametrize(("parts", "outcome"), [
    ((b"220 mail ready\r\n",), Outcome.GOOD),
    ((b"22", b"0 mail", b" ready"), Outcome.GOOD),
    ((b"554 no\r\n",), Outcome.BAD),
    ((b"22",), Outcome.BAD),
    ((b"",), Outcome.BAD),
])
def test_the_greeting_must_begin_as_expected(
    runtime: SystemRuntime, job: Job, greeter: Callable[..., int], parts: tuple[bytes, ...],
    outcome: Outcome,
) -> None:
    """The greeting may come in pieces; a wrong, cut or missing one is bad."""
    port = greeter(*parts)
    seen = ask(runtime, job("tcp", "k", host="127.0.0.1", port=port, expect="220 "))["k"]
    assert seen.outcome is outcome, seen.detail


def test_a_silent_server_is_bad_when_it_should_greet(runtime: SystemRuntime, job: Job,
                                                     mute: int) -> None:
    """Accepting and then saying nothing is no service."""
    seen = ask(runtime, job("tcp", "k", host="127.0.0.1", port=mute, expect="220",
                            timeout=0.3))["k"]
    assert seen.outcome is Outcome.BAD
    assert "connected" in seen.detail


def test_the_poll_ends_at_its_deadline(runtime: SystemRuntime, job: Job, mute: int) -> None:
    """600 silent targets: back in time; those never asked are unknown, not down."""
    jobs = [job("tcp", f"k{index}", host="127.0.0.1", port=mute, expect="x", timeout=30.0)
            for index in range(600)]
    began = runtime.monotonic()
    found = ask(runtime, *jobs, budget=1.5)
    assert runtime.monotonic() - began < 1.5 + 1.0
    assert len(found) == 600
    assert found["k0"].outcome is Outcome.BAD
    assert all(found[f"k{index}"].outcome is Outcome.UNKNOWN for index in range(500, 600))


def test_a_name_that_does_not_resolve_is_unknown(runtime: SystemRuntime, job: Job) -> None:
    """Our resolver's trouble is not the site's fault."""
    seen = ask(runtime, job("tcp", "k", host=f"{'x' * 64}.invalid", port=1))["k"]
    assert seen.outcome is Outcome.UNKNOWN
