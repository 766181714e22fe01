"""Real servers, started once, and the subjects that every test of the suite runs against."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.routes import ROUTES, subject_of
from tests.conformance.subjects import (
    TOKEN,
    BacklogSubject,
    DirectorySubject,
    HttpRecordsSubject,
    IntakeSubject,
    PostgresRecordsSubject,
    PostgresSubject,
    RabbitSubject,
    RouteSubject,
    SftpSubject,
    SimulatedBacklog,
    SqsSubject,
)
from tests.servers import start
from tests.servers.mqweather import RabbitWeather
from tests.servers.pgweather import PostgresWeather
from tests.servers.weather import Weather


@pytest.fixture(scope="session")
def roto_port(require_server: Callable[[str], str]) -> Iterator[int]:
    with start.roto(require_server("roto-server")) as port:
        yield port


@pytest.fixture(params=ROUTES)
def route_subject(request: pytest.FixtureRequest) -> Iterator[RouteSubject]:
    with subject_of(request, request.param) as subject:
        yield subject


@pytest.fixture(scope="session")
def intake_port() -> Iterator[int]:
    with start.intake(TOKEN) as port:
        yield port


BACKLOGS = ["sqs", "sqs.fifo", "simulated", "simulated.fifo", "postgresql", "postgresql.keys",
            "rabbitmq.classic", "rabbitmq.quorum",
            "postgresql.reassign", "http", "http.keys", "http.reassign",
            "directory.local", "directory.sftp"]


@pytest.fixture(params=BACKLOGS)
def backlog_subject(request: pytest.FixtureRequest) -> Iterator[BacklogSubject]:
    fifo = request.param.endswith(".fifo")
    if request.param.startswith("directory"):
        folder = (DirectorySubject(request.getfixturevalue("tmp_path"))
                  if request.param.endswith(".local")
                  else SftpSubject(request.getfixturevalue("sshd")))
        yield folder
        folder.close()
        return
    if request.param.startswith("postgresql"):
        server = request.getfixturevalue("postgres")
        with PostgresWeather(server.port) as sky:
            keyed = request.param.endswith(".keys")
            table = PostgresRecordsSubject(server, sky) if request.param.endswith("reassign") \
                else PostgresSubject(server, sky, keyed=keyed, body="text" if keyed else "bytea")
            yield table
            table.provider.close()
        return
    if request.param.startswith("rabbitmq"):
        broker = request.getfixturevalue("rabbitmq")
        with RabbitWeather(broker.port) as clouds:
            queues = RabbitSubject(broker, clouds, kind=request.param.partition(".")[2])
            yield queues
            queues.close()
        return
    if request.param.startswith("http"):
        port = request.getfixturevalue("intake_port")
        with Weather(port) as weather:
            intake = HttpRecordsSubject(port, weather) if request.param.endswith("reassign") \
                else IntakeSubject(port, weather, fifo=request.param.endswith(".keys"))
            yield intake
            intake.provider.close()
        return
    if request.param.startswith("simulated"):
        yield SimulatedBacklog(fifo=fifo)
        return
    port = request.getfixturevalue("roto_port")
    with Weather(port) as weather:
        subject = SqsSubject(port, weather, fifo=fifo)
        yield subject
        subject.provider.close()
