"""How much memory a move needs: the same for ten thousand applications as for a million?

Each size is moved by a process of its own, between two backlogs that hold no items (the source
makes each when it is claimed, the target counts them), into a real ledger on disk: what is
measured is ours and nobody else's.

    python benchmarks/memory.py [--write] [--sizes 10000 100000 1000000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.results import machine, rows, write
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.providers.bodies import understand
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.mover import Mover
from tests import loans

BATCH = 1000
INELIGIBLE = 100
"""One in so many has no state, and stays; what stays is kept hidden until the end."""


class Endless(Backlog):
    """Makes `count` items, each when it is claimed."""

    batch = BATCH
    claim_seconds = 3600.0

    def __init__(self, count: int) -> None:
        self._count, self._next, self.here = count, 0, count

    def claim(self, limit: int) -> Sequence[WorkItem]:
        begin, self._next = self._next, min(self._count, self._next + limit)
        return [_item(number) for number in range(begin, self._next)]

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        return dict.fromkeys(handles, True)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        self.here -= len(handles)
        return dict.fromkeys(handles, True)

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        self.here += len(items)
        return [PutResult(item.item_id, ok=True) for item in items]

    def measure(self) -> BacklogMeasure:
        visible = self._count - self._next
        return BacklogMeasure(visible, self.here - visible, None)


def _item(number: int) -> WorkItem:
    body = loans.numbered(number, "NA" if number % INELIGIBLE == 0 else None).encode()
    found = understand(body, loans.ITEM, loans.MAX_BYTES)
    return WorkItem(found.item_id, f"m-{number:036d}", body, found.fields, f"h{number:0100d}",
                    found.submitted)


def child(size: int) -> None:
    runtime, queue, site = SystemRuntime(), loans.queue(), loans.site("acme")
    with tempfile.TemporaryDirectory(prefix="ccfailover-bench-") as place:
        store = open_store(f"{place}/store.db", runtime)
        source, target = Endless(size), Endless(0)
        mover = Mover(
            source, target, store=store, lease=None, run="r1", step="s", queue=queue,
            source_site="hq", target_site=site, eligibility=CelEligibility(queue, site, runtime),
            runtime=runtime, target_capabilities=Capabilities())
        began = time.perf_counter()
        result = mover.run(runtime.monotonic() + 3600)
        took = time.perf_counter() - began
        disk = sum(each.stat().st_size for each in Path(place).iterdir())
        store.close()
    staying = -(-size // INELIGIBLE)
    if (result.moved, sum(result.left.values()), result.complete) != (
            size - staying, staying, True):
        raise SystemExit(f"not everything was moved: {result}")
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                      "seconds": took, "disk": disk}))


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory of a move by the number of items.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    parser.add_argument("--child", type=int)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return 0
    where, table, first = machine(), list[tuple[str, ...]](), 0
    for size in options.sizes:
        done = subprocess.run([sys.executable, "-m", "benchmarks.memory", "--child", str(size)],
                              check=False,
                              capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr or done.stdout)
        found = json.loads(done.stdout)
        first = first or found["peak"]
        table.append((f"{size:,}", f"{found['peak'] / 2**20:.0f}", f"{found['peak'] / first:.2f}",
                      f"{size / found['seconds']:,.0f}", f"{found['disk'] / size:.0f}"))
    text = f"`benchmarks/memory.py` · {where}\n\n" + rows(
        ("applications", "peak MiB", "times the first", "applications a second",
         "bytes of ledger each"), table)
    print(text)
    if options.write:
        write("memory", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
