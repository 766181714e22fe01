"""Strikes real ccfailover processes at random (kill -9, SIGSTOP) and says what broke a promise.

    python tools/havoc.py 300                     seeds 0 to 299, each with a store in a file
    python tools/havoc.py 100 --store postgres    the same over a PostgreSQL of its own
    python tools/havoc.py 1 --first 17 --keep     the plan of seed 17 once more; keeps its files

Every worker has a contact centre of its own on loopback; nothing else is touched.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.conftest import find_server
from tests.crash.havoc import Place, Verdict, environment_is_clean, play, story
from tests.servers.postgres import Postgres

NEWS = multiprocessing.get_context("spawn")


def work(seeds: multiprocessing.Queue[int], told: multiprocessing.Queue[Verdict | None],
         folder: str, store: str) -> None:
    """One worker: seeds until there are none, or nobody is there to tell."""
    environment_is_clean()
    boss = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    server = None
    try:
        if store == "postgres":
            program = find_server("postgres")
            assert program, "no PostgreSQL server is installed"
            server = Postgres(Path(program).resolve().parent).start()
        with Place(Path(folder), server) as place:
            while os.getppid() == boss:
                try:
                    seed = seeds.get_nowait()
                except queue.Empty:
                    return
                told.put(play(place, seed))
    finally:
        if server is not None:
            server.discard()
        told.put(None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--keep", action="store_true", help="keep logs and stores, say where")
    options = parser.parse_args()
    began, folder = time.monotonic(), tempfile.mkdtemp(prefix="ccfailover-havoc-")
    seeds, told = NEWS.Queue(), NEWS.Queue()
    for seed in range(options.first, options.first + options.count):
        seeds.put(seed)
    workers = [NEWS.Process(target=work, args=(seeds, told, f"{folder}/{job}", options.store),
                            daemon=True)
               for job in range(options.jobs)]
    for worker in workers:
        worker.start()
    counts, failed, seen, at_work = Counter(), 0, 0, len(workers)
    while at_work:
        verdict = told.get()
        if verdict is None:
            at_work -= 1
            continue
        seen += 1
        counts.update(verdict.counts)
        if verdict.violations:
            failed += 1
            print(f"seed {verdict.seed} ({story(verdict.seed)}):", flush=True)
            for violation in verdict.violations:
                print(f"  {violation}", flush=True)
    for worker in workers:
        worker.join()
    print(", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
    print(f"{seen} of {options.count} stories on {options.store}, {failed} with violations, "
          f"{time.monotonic() - began:.0f} s with {options.jobs} at a time")
    if options.keep or failed:
        print(f"logs and stores: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed or seen < options.count else 0


if __name__ == "__main__":
    sys.exit(main())
