"""A process that delivers, or moves, and is killed: for tests of what it leaves behind.

    dropper.py put ROOT REF COUNT        puts items 0…COUNT-1, keys always the same, a few a batch
    dropper.py move ROOT FROM TO         claims, puts and settles until there is nothing left
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog
from ccfailover.providers.directory import DirectoryProvider
from ccfailover.runtime import SystemRuntime


def backlog(root: str, ref: str) -> Backlog:
    provider = DirectoryProvider(ProviderSpec("drop", "directory", {"path": root}),
                                 resolve=str, runtime=SystemRuntime())
    return provider.backlog(LeverSpec("drop", ref, {"item": {"id": "uli"}, "claim_seconds": 0.4}))


def item(number: int) -> WorkItem:
    return WorkItem(f"U{number}", "m", f'{{"uli": "U{number}"}}'.encode(), {}, "")


def put(target: Backlog, count: int) -> None:
    for start in range(0, count, 7):
        batch = [item(number) for number in range(start, min(count, start + 7))]
        for result in target.put(batch, keys={each.item_id: f"k:{each.item_id}"
                                              for each in batch}):
            assert result.ok, result.detail


def move(source: Backlog, target: Backlog) -> None:
    while source.measure().depth:
        batch = source.claim(5)
        if not batch:
            time.sleep(0.02)
            continue
        sent = target.put(batch, keys={each.item_id: f"k:{each.item_id}" for each in batch})
        source.settle([each.handle for each, result in zip(batch, sent, strict=True)
                       if result.ok])


def main() -> None:
    what, root, *rest = sys.argv[1:]
    print("begun", flush=True)
    if what == "put":
        put(backlog(root, rest[0]), int(rest[1]))
    else:
        move(backlog(root, rest[0]), backlog(root, rest[1]))


if __name__ == "__main__":
    main()
