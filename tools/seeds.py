"""Plays many seeds of the simulator and says which broke a promise.

    python tools/seeds.py 100000              seeds 0 to 99,999 on every core
    python tools/seeds.py 2000 --first 5000   seeds 5,000 to 6,999
    python tools/seeds.py --seed 527 --trace  one of them again, exactly, step by step
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ccfailover.simulation.faults_sim import PAIRS
from ccfailover.simulation.seeds import Story, simulate
from ccfailover.wiring.kinds import step_class
from tests.simulation.alarm import alarmed

SHARE = 50
"""Seeds that one worker takes at a time."""


def play(first: int) -> tuple[list[tuple[int, list[str]]], Counter[tuple[str, str]],
                              Counter[str], Counter[str]]:
    failed, faults, endings, limits = [], Counter(), Counter(), Counter()
    gc.disable()  # a story's objects are all young, or all garbage when it has ended
    for seed in range(first, min(first + SHARE, play.last)):
        story = simulate(seed, step_class, alarmed=alarmed)
        if story.violations:
            failed.append((seed, story.violations))
        faults.update(story.faults)
        endings.update(story.endings)
        limits.update(story.limits)
    gc.collect()
    return failed, faults, endings, limits


def many(first: int, count: int, jobs: int) -> int:
    """Prints every failing seed at once, and the table of faults at the end."""
    began = time.monotonic()
    play.last = first + count  # inherited by the workers, which are forked
    faults, endings, limits, failures = Counter(), Counter(), Counter(), 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        starts = range(first, first + count, SHARE)
        for failed, struck, ended, known in pool.imap_unordered(play, starts):
            for seed, violations in failed:
                failures += 1
                print(f"seed {seed}: {violations[0]}", flush=True)
            faults.update(struck)
            endings.update(ended)
            limits.update(known)
    seconds = time.monotonic() - began
    table(faults)
    print("runs: " + ", ".join(f"{count} {state}" for state, count in endings.most_common()))
    for limit, times in limits.items():
        print(f"known limit: {limit}: {times}")
    print(f"{count} seeds, {failures} with violations, {seconds:.0f} s on {jobs} cores "
          f"({count / seconds:.0f} a second)")
    return 1 if failures else 0


def table(faults: Counter[tuple[str, str]]) -> None:
    """How often each fault struck each kind of effect."""
    for fault in sorted({fault for fault, _ in faults}):
        parts = [f"{effect} {number}" for (name, effect), number in sorted(faults.items())
                 if name == fault]
        print(f"{fault:14} {', '.join(parts)}")
    rare = [f"{strike.value} at {effect} {faults[(strike.value, effect)]}"
            for effect, strike in PAIRS if faults[(strike.value, effect)] < 20]
    if rare:
        print(f"fewer than 20 times: {', '.join(rare)}")


def one(seed: int, *, trace: bool) -> int:
    story: Story = simulate(seed, step_class, trace=trace, alarmed=alarmed)
    for line in story.trace:
        print(line)
    print(f"seed {seed}: {story.seconds:.0f} virtual seconds, {story.actions} actions, runs "
          f"{', '.join(story.endings) or 'none'}")
    for violation in story.violations:
        print(f"VIOLATION {violation}")
    return 1 if story.violations else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    if options.seed is not None:
        return one(options.seed, trace=options.trace)
    return many(options.first, options.count, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
