"""PostgreSQL goes away in the middle of a run, and comes back: the run waits, and goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.havoc import Place, Story, Trial
from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.server("roto-server", "postgres"), pytest.mark.slow]

SECONDS = 5.0
"""How long it is away here; 20 s look the same (docs/operations.md, "The store")."""

EVENTS = 9
"""In the journal before it goes: the middle of both branches."""


class Outage(Trial):
    """One failover that nobody strikes, with the default lease; the database is struck."""

    lease = 30.0
    how, seconds = "fast", SECONDS

    def _blows(self) -> None:
        server = self.place.postgres
        assert server is not None
        person = self._begin("failover")
        while self._written(person) < EVENTS:
            assert person.ended_within(0.01) is None, f"over before the outage: {person.said()}"
        if self.how == "freeze":
            server.freeze()
            time.sleep(self.seconds)
            server.thaw()
        else:
            server.stop(self.how)
            time.sleep(self.seconds)
            server.start()


@pytest.fixture
def place(tmp_path: Path, postgres: Postgres) -> Iterator[Place]:
    mine = Postgres(postgres.programs)  # one that may be stopped
    try:
        with Place(tmp_path, mine.start()) as made:
            yield made
    finally:
        mine.discard()


@pytest.mark.parametrize("how", ["fast", "immediate", "freeze"])
def test_a_run_outlives_an_outage_of_its_database(place: Place, how: str) -> None:
    """Stopped in order, crashed, or standing still with its connections open: the process itself
    goes on where it was, nothing is lost or doubled, the journal verifies."""
    outage(place, how, SECONDS)


def outage(place: Place, how: str, seconds: float) -> Trial:
    trial = Outage(place, Story(1, "failover", eligible=40, ineligible=2, strikes=()))
    trial.how, trial.seconds = how, seconds
    verdict = trial.play()
    assert verdict.violations == []
    assert verdict.counts["succeeded"] == 1
    assert [person.words[0] for person in trial.people] == ["failover"], "somebody had to resume"
    return trial
