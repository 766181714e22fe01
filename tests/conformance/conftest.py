"""Real servers, started once, and the subjects that every test of the suite runs against."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.subjects import (
    TOKEN,
    BacklogSubject,
    HttpSubject,
    PostgresSubject,
    RouteSubject,
    SimulatedBacklog,
    SimulatedRoute,
    SqsSubject,
)
from tests.servers import start
from tests.servers.pgweather import PostgresWeather
from tests.servers.weather import Weather


@pytest.fixture(scope="session")
def switch_port() -> Iterator[int]:
    with start.switch(TOKEN) as port:
        yield port


@pytest.fixture(scope="session")
def roto_port(require_server: Callable[[str], str]) -> Iterator[int]:
    with start.roto(require_server("roto-server")) as port:
        yield port


@pytest.fixture(params=["http", "simulated"])
def route_subject(request: pytest.FixtureRequest) -> Iterator[RouteSubject]:
    if request.param == "simulated":
        yield SimulatedRoute()
        return
    port = request.getfixturevalue("switch_port")
    with Weather(port) as weather:
        subject = HttpSubject(port, weather)
        yield subject
        subject.provider.close()


BACKLOGS = ["sqs", "sqs.fifo", "simulated", "simulated.fifo", "postgresql", "postgresql.keys"]


@pytest.fixture(params=BACKLOGS)
def backlog_subject(request: pytest.FixtureRequest) -> Iterator[BacklogSubject]:
    fifo = request.param.endswith(".fifo")
    if request.param.startswith("postgresql"):
        server = request.getfixturevalue("postgres")
        with PostgresWeather(server.port) as sky:
            keyed = request.param.endswith(".keys")
            table = PostgresSubject(server, sky, keyed=keyed, body="text" if keyed else "bytea")
            yield table
            table.provider.close()
        return
    if request.param.startswith("simulated"):
        yield SimulatedBacklog(fifo=fifo)
        return
    port = request.getfixturevalue("roto_port")
    with Weather(port) as weather:
        subject = SqsSubject(port, weather, fifo=fifo)
        yield subject
        subject.provider.close()
