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


LATER = "not in the first 300 of today's stories; the search of 2,000 is still to be made"

SURVIVORS: dict[str, str] = {
    "a look whether what was done still holds is dropped":
        LATER,
    "a look whether what was done still holds is swapped with what comes next":
        LATER,
    "on a resume nobody asks how the last increment was borne":
        LATER,
    "a no is no obstacle":
        LATER,
    "a lease that has run out is as good as new":
        LATER,
    "anybody may end a run":
        LATER,
    "a successor does not get its predecessor's scopes":
        LATER,
    "anybody may let a run go":
        LATER,
    "a lever is read once and for all":
        LATER,
    "a resume does not look at what was done":
        LATER,
    "stranded copies are taken for deleted":
        LATER,
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
