"""A sample of `tools/havoc.py`: real processes killed and stopped at random moments."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.crash.havoc import Blow, Place, Verdict, play, story
from tests.servers.postgres import Postgres

pytestmark = [pytest.mark.server("roto-server"), pytest.mark.slow, pytest.mark.long]

FILES = (2, 4, 10, 18, 23, 26, 33, 34, 36, 41, 44, 55)
SERVER = (2, 18, 31, 32, 48, 53)
"""Every kind of blow, both runbooks, and those that found something."""


def played(folder: Path, postgres: Postgres | None, seeds: Sequence[int],
           places: int) -> list[Verdict]:
    """Several places at once: most of a story is waiting for a lease to end."""
    free: SimpleQueue[Place] = SimpleQueue()

    def one(seed: int) -> Verdict:
        place = free.get()
        try:
            return play(place, seed)
        finally:
            free.put(place)

    with ExitStack() as open_, ThreadPoolExecutor(places) as pool:
        for number in range(places):
            free.put(open_.enter_context(Place(folder / str(number), postgres)))
        return list(pool.map(one, seeds))


def broken(verdicts: Sequence[Verdict]) -> dict[int, list[str]]:
    return {one.seed: one.violations for one in verdicts if one.violations}


def test_with_the_store_in_a_file(tmp_path: Path) -> None:
    """Whoever is struck when: nothing is lost, duplicates are listed, states are honest."""
    assert broken(played(tmp_path, None, FILES, 4)) == {}


@pytest.mark.server("postgres")
def test_with_the_store_in_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    """The same over a database."""
    assert broken(played(tmp_path, postgres, SERVER, 3)) == {}


def test_a_seed_is_a_plan_for_ever() -> None:
    """The same story each time, and the sample has every blow, runbook and successor."""
    assert story(33) == story(33)
    for sample in (FILES, SERVER):
        told = [story(seed) for seed in sample]
        assert {strike.blow for one in told for strike in one.strikes} == set(Blow)
        assert {one.verb for one in told} == {"failover", "failback"}
        assert {strike.then for one in told for strike in one.strikes} == {"resume", "rollback"}
