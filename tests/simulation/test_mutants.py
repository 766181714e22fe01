"""The simulator has teeth: bugs planted into engine, store, mover and steps break a promise."""

from __future__ import annotations

import pytest

from tests.simulation.mutants.registry import SURVIVORS, look, mutants, remembered

WITHIN = 300
"""Seeds that are searched here when the one that is remembered catches no more."""
HARMLESS = 8
"""Seeds for which what is said to be harmless is played."""

COUNTED = [name for name, mutant in mutants().items() if not mutant.equivalent]


@pytest.mark.parametrize("name", [name for name in COUNTED if name not in SURVIVORS])
def test_a_planted_bug_is_caught(name: str) -> None:
    """Each breaks a promise of the judge."""
    found = remembered(mutants()[name], WITHIN)
    assert found.seed is not None, (
        f"not caught in {found.tried} seeds; the honest search is: "
        f"python tools/mutants.py --write --only {name!r}")


@pytest.mark.parametrize("name", [name for name in mutants() if name not in COUNTED])
def test_what_is_called_equivalent_breaks_nothing(name: str) -> None:
    """What does not count may not be caught either: then it should count."""
    found = look(mutants()[name], range(HARMLESS))
    assert found.seed is None, found.promise


def test_nearly_all_are_caught() -> None:
    """Of all that are not equivalent, at least 95 % are caught within 2,000 seeds, and each
    survivor is named, with the reason."""
    assert set(SURVIVORS) <= set(COUNTED)
    assert all(SURVIVORS.values())
    assert 1 - len(SURVIVORS) / len(COUNTED) >= 0.95
