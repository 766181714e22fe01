"""A sample of `tools/havoc.py`: real processes killed and stopped at random moments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.havoc import Blow, Place, play, story
from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.server("roto-server"), pytest.mark.slow]

FILES = (1, 5, 6, 13, 18, 20, 24, 33, 36, 41, 44, 133)
SERVER = (1, 2, 18, 20, 33, 44)
"""Every kind of blow, both runbooks, and those that found something."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("havoc"), None) as place:
        yield place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("havoc"), postgres) as place:
        yield place


@pytest.mark.parametrize("seed", FILES)
def test_with_the_store_in_a_file(files: Place, seed: int) -> None:
    """Whoever is struck when: nothing is lost, duplicates are listed, states are honest."""
    assert play(files, seed).violations == []


@pytest.mark.server("postgres")
@pytest.mark.parametrize("seed", SERVER)
def test_with_the_store_in_postgresql(server: Place, seed: int) -> None:
    """The same over a database."""
    assert play(server, seed).violations == []


def test_a_seed_is_a_plan_for_ever() -> None:
    """The same story each time, and the sample has every blow, runbook and successor."""
    assert story(133) == story(133)
    told = [story(seed) for seed in FILES]
    assert {strike.blow for one in told for strike in one.strikes} == set(Blow)
    assert {one.verb for one in told} == {"failover", "failback"}
    assert {strike.then for one in told for strike in one.strikes} == {"resume", "rollback"}
