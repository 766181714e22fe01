"""All planted bugs, how one is looked for, and which seeds have caught it before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ccfailover.simulation.seeds import simulate
from tests.simulation.mutants import effects, guards, planted
from tests.simulation.mutants.parts import Mutant

HINTS = Path(__file__).with_name("caught.json")
"""Mutant → a seed that caught it: tried first, and searched anew when it catches no more."""

WITHIN = 2000
"""Seeds within which a mutant must be caught to count as caught."""


SURVIVORS: dict[str, str] = {
    "a move does not check the fence between batches":
        "the permit asks before each call all the same: two locks on one door",
    "a move does not hear a stop":
        "the engine hears it after each slice of 20 s, within what the judge allows a long step",
    "one taken item of a batch is all of it":
        "needs a batch of several of which the target takes a part, before the move is disturbed "
        "otherwise: seed 1482 of earlier stories; tests/unit/transfer/test_mover.py",
    "a run is carried as it was when it was looked at":
        "a process must stand still between its look and the lease while somebody else rolls back: "
        "1 story in 3,000 (seed 2745 of earlier stories); tests/unit/operations/test_takeover.py",
    "what came back is a leftover":
        "a run dies between put and ledger, its successor brings the items home, dies between "
        "delete and ledger, and is rolled back: 1 story in 10,000; test_crashes.py has every death",
    "a swallowed put is believed":
        "as above, within the five minutes in which a target swallows; test_crashes.py has it",
    "a claim lasts for ever":
        "needs a batch that stands still for longer than a claim (20 s) and less than the lease "
        "(30 s), and home's own consumer at that item just then; tests/unit/transfer",
    "a lot goes on as a whole":
        "needs one item of a batch whose put is in doubt when its claim ends, or whose deletion "
        "alone fails; tests/unit/store/test_lots.py",
    "a move strands nothing":
        "needs a source that fails each deletion of one item to the end of the move and yet "
        "answers; to the judge it looks like the source that lies, a known limit; "
        "tests/unit/transfer",
}
"""Not caught within these seeds, though they would break something: why not."""


@cache
def mutants() -> dict[str, Mutant]:
    found = [*effects.mutants(), *guards.mutants(), *planted.mutants()]
    named = {mutant.name: mutant for mutant in found}
    if len(named) != len(found):
        raise ValueError("two mutants have one name")
    return named


@cache
def hints() -> dict[str, int]:
    return dict(json.loads(HINTS.read_text())) if HINTS.exists() else {}


@dataclass(frozen=True)
class Caught:
    """`seed` None: not within the seeds tried. `tried` counts them; `promise` is what it broke."""

    seed: int | None
    promise: str
    tried: int


def look(mutant: Mutant, seeds: Iterator[int] | range) -> Caught:
    """Plays seeds until a promise is broken. Raises TypeError for a mutant that cannot be called:
    it is broken, and not caught."""
    tried = 0
    for seed in seeds:
        tried += 1
        story = simulate(seed, mutant.kinds, flows=mutant.flows)
        if story.violations:
            if re.search(r"TypeError: \S+\(\) (got|takes|missing)", story.violations[0]):
                raise TypeError(f"{mutant.name}: {story.violations[0]}")
            return Caught(seed, story.violations[0].partition(" (at ")[0], tried)
    return Caught(None, "", tried)


def remembered(mutant: Mutant, within: int) -> Caught:
    """The seed that has caught it before, then the others."""
    hint = hints().get(mutant.name)
    if hint is not None:
        found = look(mutant, range(hint, hint + 1))
        if found.seed is not None:
            return found
    return look(mutant, range(within))
