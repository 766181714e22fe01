"""What every test gets: a clean environment, no network but loopback, and servers by name."""

from __future__ import annotations

import ipaddress
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers.postgres import Postgres

_NUMBERS = itertools.count()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what runs in the background deaf to ^C, and so would be every process of a test.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

# Beside the search path: programs that came as wheels, and where Debian puts servers.
SERVER_PLACES = [
    str(Path(sys.executable).parent), "/usr/sbin", "/usr/local/sbin", "/sbin",
    # One folder a release, and none of them on the path; the newest first.
    *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"),
                     key=lambda place: -int("0" + place.parent.name.partition(".")[0]))),
]


def find_server(name: str) -> str | None:
    """The full path of a program, or None."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *SERVER_PLACES])
    return shutil.which(name, path=places)


def server_or_skip(name: str) -> str:
    """The path of a server that a test needs. Without it: a skip, but in CI a failure, because
    there a skipped test is a promise that nobody checked."""
    path = find_server(name)
    if path is not None:
        return path
    message = f"{name} is not installed (looked on PATH and in {', '.join(SERVER_PLACES)})"
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"{message}; in CI every server must be there", pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def require_server() -> Callable[[str], str]:
    """`require_server("roto-server")` gives its path, or skips (in CI: fails) the test."""
    return server_or_skip


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of our own, one a worker; `postgres.new_database()` gives an empty DSN."""
    program = server_or_skip("postgres")
    from tests.servers.postgres import Postgres

    server = Postgres(Path(program).resolve().parent)
    try:
        yield server.start()
    finally:
        server.discard()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.server("name")`: the same for a whole test or module."""
    for mark in item.iter_markers("server"):
        for name in mark.args:
            server_or_skip(name)


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The developer's own policy, cloud account and terminal must not decide a test."""
    for name in list(os.environ):
        if name.startswith(("CCFAILOVER_", "AWS_")) or name in {"NO_COLOR", "FORCE_COLOR"}:
            monkeypatch.delenv(name)
    state = tmp_path_factory.getbasetemp() / f"state-{next(_NUMBERS)}"  # made by who needs it
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def _is_local(host: object) -> bool:
    if not isinstance(host, str) or host in {"", "localhost"}:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse_network(event: str, args: tuple[object, ...]) -> None:
    """No test leaves this machine: a connection or a look-up elsewhere is an error at once."""
    if event == "socket.connect":
        address = args[1]
        host = address[0] if isinstance(address, tuple) and address else ""
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if not _is_local(host):
        raise RuntimeError(f"a test tried to reach {host!r}; tests stay on loopback")


sys.addaudithook(refuse_network)
