"""Plants every known bug into the simulator, one at a time, and says whether it was caught.

    python tools/mutants.py                      all of them, seeds 0 to 1,999 until caught
    python tools/mutants.py --only "the heart"   those whose name has these words
    python tools/mutants.py --missing            those that no remembered seed has caught
    python tools/mutants.py --stale --write      those that the remembered seed catches no more
    python tools/mutants.py --write              and remember the seeds for `make test`
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation.mutants.registry import HINTS, SURVIVORS, WITHIN, Caught, hints, look, mutants

EQUIVALENT_SEEDS = 200
"""An equivalent mutant is played this often: if it breaks a promise, it is none."""


def play(name: str) -> tuple[str, Caught]:
    mutant = mutants()[name]
    try:
        return name, look(mutant, range(EQUIVALENT_SEEDS if mutant.equivalent else play.within))
    except TypeError as broken:
        return name, Caught(None, str(broken), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--within", type=int, default=WITHIN)
    parser.add_argument("--only", default="")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--stale", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    play.within = options.within  # inherited by the workers, which are forked
    began, names = time.monotonic(), [name for name in mutants() if options.only in name]
    if options.missing:
        names = [name for name in names if name not in hints() and not mutants()[name].equivalent]
    if options.stale:
        names = [name for name in names if not mutants()[name].equivalent
                 and name not in SURVIVORS and name in hints()
                 and look(mutants()[name], (hints()[name],)).seed is None]
    found: dict[str, Caught] = {}
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for name, caught in pool.imap_unordered(play, names):
            found[name] = caught
            row(name, caught)
            if options.write and caught.seed is not None:
                remember({name: caught.seed})
    counted = [name for name in names if not mutants()[name].equivalent]
    survivors = [name for name in counted if found[name].seed is None]
    wrong = [name for name in names if mutants()[name].equivalent and found[name].seed is not None]
    for name in survivors:
        print(f"SURVIVOR {name}: {SURVIVORS.get(name, 'why?')}")
    for name in wrong:
        print(f"NOT EQUIVALENT {name}: {found[name].promise}")
    for name in names:
        if mutants()[name].equivalent and name not in wrong:
            print(f"equivalent {name}: {mutants()[name].equivalent}")
    caught = len(counted) - len(survivors)
    print(f"{caught} of {len(counted)} caught within {options.within} seeds "
          f"({caught / max(1, len(counted)):.1%}), {len(names) - len(counted)} equivalent, "
          f"{time.monotonic() - began:.0f} s on {options.jobs} cores")
    return 1 if wrong or caught < 0.95 * len(counted) else 0


def remember(found: dict[str, int]) -> None:
    """At once: a search takes long, and may be stopped."""
    seeds = json.loads(HINTS.read_text()) if HINTS.exists() else {}
    seeds = {name: seed for name, seed in seeds.items() if name in mutants()} | found
    HINTS.write_text(json.dumps(dict(sorted(seeds.items())), indent=0, ensure_ascii=False) + "\n")


def row(name: str, caught: Caught) -> None:
    how = f"seed {caught.seed:4}  {caught.promise[:70]}" if caught.seed is not None else (
        f"not in {caught.tried} seeds" if caught.tried else f"BROKEN {caught.promise}")
    print(f"{name:66}  {how}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
