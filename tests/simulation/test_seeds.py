"""Whole runs through simulated faults: no promise of DESIGN §4 is broken."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from ccfailover.simulation.faults_sim import PAIRS, Strike
from ccfailover.simulation.seeds import Story, simulate
from ccfailover.wiring.kinds import step_class
from tests.simulation.alarm import alarmed

SEEDS = 2000
SLICE = 100
TIMES = 20
"""How often each fault must strike each kind of effect within all of the seeds."""

STARTS = [pytest.param(first, marks=[pytest.mark.slow] if first else [])
          for first in range(0, SEEDS, SLICE)]
BY_ITSELF = (Strike.FOREIGN, Strike.LIE, Strike.CLOCK_FORWARD, Strike.CLOCK_BACK,
             Strike.LEASE_LOSS, Strike.STOP)
"""Faults that strike at a time, and not at an effect."""


@pytest.fixture(scope="session")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    found = shared / "seeds"
    found.mkdir(exist_ok=True)
    return found


@pytest.mark.parametrize("first", STARTS)
def test_no_promise_is_broken(first: int, tallies: Path) -> None:
    """Whatever goes wrong, every promise that the judge knows is kept, and every story comes to
    an end, after which `check` notices every lever that is not as the journal says, and no other.
    Whichever part is done last sees to it that all of them together struck every kind of
    effect with every fault that can strike it, often, and came to every ending."""
    stories = [simulate(seed, step_class, alarmed=alarmed)
               for seed in range(first, first + SLICE)]
    broken = [f"python tools/seeds.py --seed {story.seed} --trace   # {story.violations[0]}"
              for story in stories if story.violations]
    assert not broken, "replay with:\n" + "\n".join(broken)
    write(tallies / f"{first}.json", stories)
    parts = sorted(tallies.glob("*.json"))
    if len(parts) == len(STARTS):
        covered([json.loads(part.read_text()) for part in parts])


def write(path: Path, stories: list[Story]) -> None:
    """Whole or not at all: another worker may be counting."""
    struck: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    for story in stories:
        struck.update({f"{fault} at {effect}": times
                       for (fault, effect), times in story.faults.items()})
        endings.update(story.endings)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"struck": struck, "endings": endings}))
    draft.rename(path)


def covered(parts: list[dict[str, dict[str, int]]]) -> None:
    struck: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    for part in parts:
        struck.update(part["struck"])
        endings.update(part["endings"])
    wanted = [f"{strike.value} at {effect}" for effect, strike in PAIRS]
    rare = {pair: struck[pair] for pair in wanted if struck[pair] < TIMES}
    assert not rare, f"struck fewer than {TIMES} times in {SEEDS} seeds: {rare}"
    for strike in BY_ITSELF:
        assert sum(times for pair, times in struck.items()
                   if pair.startswith(f"{strike.value} ")) >= TIMES, strike
    assert {"succeeded", "succeeded_with_exceptions", "rolled_back", "aborted",
            "superseded"} <= set(endings)


def test_every_fault_strikes_somewhere() -> None:
    """No kind of fault is left out of what is counted."""
    assert {strike for _, strike in PAIRS} | set(BY_ITSELF) == set(Strike)


@pytest.mark.parametrize("seed", [3, 42, 64, 99])
def test_a_seed_replays_exactly(seed: int) -> None:
    """The same seed tells the same story, to the microsecond."""
    first, second = (simulate(seed, step_class, trace=True) for _ in range(2))
    assert first == second
    assert first.trace


@pytest.mark.parametrize("seed", range(0, 40, 8))
def test_without_faults_one_run_does_it(seed: int) -> None:
    """With nothing going wrong, what was planned succeeds."""
    story = simulate(seed, step_class, faultless=True)
    assert not story.violations
    assert story.endings[0].startswith(("succeeded", "superseded", "rolled_back", "aborted"))
