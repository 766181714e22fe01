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
    from tests.servers.bind import Bind
    from tests.servers.genesys import Genesys
    from tests.servers.haproxy import Haproxy
    from tests.servers.kamailio import Kamailio
    from tests.servers.postgres import Postgres
    from tests.servers.rabbitmq import Rabbit
    from tests.servers.sshd import Sshd
    from tests.servers.twilio import Twilio

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


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Rabbit]:
    """A RabbitMQ of our own, one a worker that needs it; it takes eight seconds to start."""
    server_or_skip("rabbitmq-server")
    from tests.servers.rabbitmq import Rabbit

    broker = Rabbit()
    try:
        yield broker.start()
    finally:
        broker.discard()


@pytest.fixture(scope="session")
def kamailio() -> Iterator[Kamailio]:
    """A Kamailio of our own, one a worker, with examples/kamailio/kamailio.cfg."""
    program = server_or_skip("kamailio")
    from tests.servers.kamailio import Kamailio

    edge = Kamailio(program)
    try:
        yield edge.start()
    finally:
        edge.discard()


@pytest.fixture(scope="session")
def kamailio_by_weight() -> Iterator[Kamailio]:
    """The same, but that within a set calls go by relative weight."""
    program = server_or_skip("kamailio")
    from tests.servers.kamailio import Kamailio

    edge = Kamailio(program, 'WITHIN_SET="11"')
    try:
        yield edge.start()
    finally:
        edge.discard()


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """An OpenSSH server of our own for SFTP, one a worker."""
    program = server_or_skip("sshd")
    from tests.servers.sshd import Sshd

    server = Sshd(program)
    try:
        yield server.start()
    finally:
        server.discard()


@pytest.fixture(scope="session")
def haproxy() -> Iterator[Haproxy]:
    """A HAProxy of our own, one a worker; nothing listens behind it."""
    program = server_or_skip("haproxy")
    from tests.servers.haproxy import BACKENDS, Haproxy

    server = Haproxy(program, BACKENDS)
    try:
        yield server.start()
    finally:
        server.discard()


@pytest.fixture(scope="session")
def bind() -> Iterator[Bind]:
    """A BIND of our own, one a worker: the primary of a zone that takes updates."""
    program = server_or_skip("named")
    from tests.servers.bind import Bind

    server = Bind(program)
    try:
        yield server.start()
    finally:
        server.discard()


@pytest.fixture(scope="session")
def switch_port() -> Iterator[int]:
    """The port of a switch with a REST interface."""
    from tests.conformance.subjects import TOKEN
    from tests.servers import start

    with start.switch(TOKEN) as port:
        yield port


@pytest.fixture(scope="session")
def twilio() -> Iterator[Twilio]:
    from tests.conformance.subjects import SECRETS
    from tests.servers.twilio import Twilio

    with Twilio(SECRETS["env:SECRET"]) as server:
        yield server
        assert not server.broken


@pytest.fixture(scope="session")
def genesys() -> Iterator[Genesys]:
    from tests.conformance.subjects import SECRETS
    from tests.servers.genesys import Genesys

    with Genesys(SECRETS["env:SECRET"]) as server:
        yield server
        assert not server.broken


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first, a part of it on each worker: else the last of them goes on
    alone, with the other cores idle. xdist gives each worker a piece of the list to begin with."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("long")]
    rest = [item for item in items if not item.get_closest_marker("long")]
    items[:] = [item for each in range(workers) for item in (
        *long[each::workers],
        *rest[each * len(rest) // workers:(each + 1) * len(rest) // workers])]


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
