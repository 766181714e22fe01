"""A clock that moves when told, plans to start runs with, and a store of every kind."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ccfailover.model.journal import Actor
from ccfailover.model.plan import Branch, Mode, Plan
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.store import Store, open_store
from tests.servers.postgres import Postgres


@dataclass
class Clock(SystemRuntime):
    """Real threads; time stands still until `pass_time`."""

    at: int = 1_790_000_000 * SECOND
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(0xA000))
    followers: list[Callable[[int], None]] = field(default_factory=list)

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / SECOND

    def sleep(self, seconds: float) -> None:
        self.pass_time(seconds)

    def new_id(self) -> str:
        return f"{next(self.ids):04x}"

    def pass_time(self, seconds: float) -> None:
        self.at += int(seconds * SECOND)
        for follower in self.followers:
            follower(self.at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def follow(server: Postgres, dsn: str, clock: Clock) -> None:
    """Let the database's `ccf_now()` go by the test's clock."""
    database = dsn.rpartition("/")[2]
    server.sql("SET search_path = ccfailover; CREATE TABLE test_clock (at BIGINT); "
               f"INSERT INTO test_clock VALUES ({clock.at}); "
               "CREATE OR REPLACE FUNCTION ccf_now() RETURNS BIGINT LANGUAGE sql VOLATILE "
               "AS 'SELECT at FROM test_clock'", database)
    clock.followers.append(lambda at: void(
        server.sql(f"UPDATE ccfailover.test_clock SET at = {at}", database)))


def void(_: object) -> None:
    """Nothing."""


@pytest.fixture(params=["file", "memory", "postgres", "mirrored"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    if request.param in ("postgres", "mirrored"):
        server = request.getfixturevalue("postgres")
        location = server.new_database()
        mirror = str(tmp_path / "mirror.db") if request.param == "mirrored" else None
        opened = open_store(location, clock, mirror=mirror)
        follow(server, location, clock)
    else:
        location = ":memory:" if request.param == "memory" else f"sqlite://{tmp_path}/store.db"
        opened = open_store(location, clock)
    yield opened
    opened.close()


@pytest.fixture(params=["file", "postgres"])
def new_location(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Each call gives a place where no store is yet, and which another process can open."""
    if request.param == "postgres":
        database = request.getfixturevalue("postgres").new_database
        return lambda: str(database())
    number = itertools.count()
    return lambda: str(tmp_path / "new" / f"store{next(number)}.db")


@pytest.fixture
def plan_for() -> Callable[..., Plan]:
    """`plan_for("queue:a", "lever:b")`: a plan that needs these scopes."""

    def build(*scopes: str, reason: str = "INC-42") -> Plan:
        none = Branch("none", ())
        return Plan(
            runbook="full_failover", subject="hq", mode=Mode.REAL, policy_name="loans",
            policy_sha256="0" * 64, reason=reason, before=none, branches=(), after=none,
            scopes=scopes, shares_before={"calls": {"hq": 100}},
            shares_after={"calls": {"acme": 100}}, findings=(), basis={},
        )

    return build


@pytest.fixture
def person() -> Callable[..., Actor]:
    """`person("mary")`: somebody on another machine, of whom nothing can be known here."""

    def build(name: str, **changes: Any) -> Actor:
        return Actor(**{"name": name, "host": "elsewhere", "pid": 7, "boot": "b", "started": "1",
                        **changes})

    return build


@pytest.fixture
def python() -> list[str]:
    """A Python process of our own, to which a program is given with `-c`."""
    return [sys.executable]
