"""Moving a backlog from one SQS queue to another: our Mover beside the loop one would write.

Both run in this process, on one thread, with boto3, against one SQS server on loopback; each
gets a fresh pair of queues with the same applications. The loop receives ten, sends ten, deletes
ten, until nothing comes any more: if it dies, nobody knows where anything is. The Mover looks at
each application, keeps each one's every state on disk before and after each call, and ends only
when the source is proven empty. What that costs is the ratio.

    python benchmarks/move.py [--write] [--items 2000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import machine, ratio, rows, write
from ccfailover.model.journal import Actor
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.applications import generate
from ccfailover.store import open_store
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.mover import Mover
from tests import loans
from tests.servers import start

REGION = "us-east-1"


class Bench:
    """One SQS server, and the two ways to move what is on it."""

    def __init__(self, port: int, place: Path, items: int) -> None:
        import boto3

        url = f"http://127.0.0.1:{port}"
        self.client: Any = boto3.client("sqs", endpoint_url=url, region_name=REGION,
                                        aws_access_key_id="x", aws_secret_access_key="y")
        self.runtime = SystemRuntime()
        self.provider = SqsProvider(
            ProviderSpec("jobs", "sqs", {"region": REGION, "endpoint_url": url,
                                         "credentials": {"key_id": "env:A", "secret": "env:B"}}),
            resolve={"env:A": "x", "env:B": "y"}.__getitem__, runtime=self.runtime)
        self.place = place
        self.bodies = [json.dumps({**row, "state": loans.STATES[number % len(loans.STATES)]})
                       for number, row in enumerate(generate(items, seed=1))]
        self.turn = 0
        self.moving = 0.0
        """Seconds of our last move until but the last batch was settled: after that it waits for
        the server to say, thrice and a second each, that nothing is left."""

    def queues(self) -> dict[str, str]:
        """Two new queues, the first one full; name → URL."""
        self.turn += 1
        made = {site: self.client.create_queue(QueueName=f"{site}-{self.turn}")["QueueUrl"]
                for site in ("hq", "acme")}
        for begin in range(0, len(self.bodies), 10):
            self.client.send_message_batch(QueueUrl=made["hq"], Entries=[
                {"Id": str(number), "MessageBody": body}
                for number, body in enumerate(self.bodies[begin:begin + 10])])
        return made

    def depth(self, url: str) -> int:
        return int(self.client.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
        )["Attributes"]["ApproximateNumberOfMessages"])

    def plain(self, urls: dict[str, str]) -> None:
        client = self.client
        while True:
            found = client.receive_message(QueueUrl=urls["hq"], MaxNumberOfMessages=10)
            messages = found.get("Messages", [])
            if not messages:
                return
            client.send_message_batch(QueueUrl=urls["acme"], Entries=[
                {"Id": str(number), "MessageBody": one["Body"]}
                for number, one in enumerate(messages)])
            client.delete_message_batch(QueueUrl=urls["hq"], Entries=[
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                for number, one in enumerate(messages)])

    def ours(self, urls: dict[str, str]) -> None:
        began = time.perf_counter()

        def progress(done: int, total: int | None, note: str) -> None:
            if done < len(self.bodies):
                self.moving = time.perf_counter() - began

        store = open_store(str(self.place / f"{self.turn}.db"), self.runtime)
        queue, site = loans.queue(), loans.site("acme")
        run, lease = loans.begin(store, Actor("bench", "here", 1), 600.0)
        mover = Mover(
            self._backlog(urls["hq"]), self._backlog(urls["acme"]), store=store, lease=lease,
            run=run, step="applications/1-transfer", queue=queue, source_site="hq",
            target_site=site, eligibility=CelEligibility(queue, site, self.runtime),
            runtime=self.runtime, target_capabilities=self.provider.capabilities({}, {"ref": "q"}),
            check_fence=lambda: store.check_fence(lease, 10.0), progress=progress)
        result = mover.run(self.runtime.monotonic() + 120)
        store.close()
        if (result.moved, result.complete) != (len(self.bodies), True):
            raise SystemExit(f"ours did not move everything: {result}")

    def _backlog(self, url: str) -> Any:
        return self.provider.backlog(LeverSpec("jobs", url, {
            "item": loans.ITEM, "max_item_bytes": loans.MAX_BYTES, "claim_seconds": 30.0}))

    def measure(self, move: Callable[[dict[str, str]], None]) -> tuple[float, float]:
        """Wall and CPU seconds; the server's own counts say whether it all arrived."""
        urls = self.queues()
        cpu, began = time.process_time(), time.perf_counter()
        move(urls)
        took = time.perf_counter() - began, time.process_time() - cpu
        if (self.depth(urls["hq"]), self.depth(urls["acme"])) != (0, len(self.bodies)):
            raise SystemExit("the server counts otherwise: nothing to compare")
        return took


def main() -> int:
    parser = argparse.ArgumentParser(description="Our Mover beside a plain loop.")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    program = shutil.which("roto-server", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit("roto-server is not installed: make setup-dev")
    where = machine()
    took: dict[str, list[tuple[float, float]]] = {"plain": [], "moving": [], "ours": []}
    with start.roto(program) as port, \
            tempfile.TemporaryDirectory(prefix="ccfailover-bench-") as place:
        bench = Bench(port, Path(place), options.items)
        for turn in range(options.rounds):
            pair = [("plain", bench.plain), ("ours", bench.ours)]
            for name, move in pair if turn % 2 == 0 else reversed(pair):
                took[name].append(bench.measure(move))
            took["moving"].append((bench.moving, took["ours"][-1][1]))
        bench.provider.close()
    labels = {"plain": "receive, send, delete by ten: boto3, nothing kept",
              "moving": "**our Mover** until the last batch: eligibility, ledger on disk, fence",
              "ours": "**our Mover** to the end: three empty looks at the source as proof"}
    text = f"`benchmarks/move.py` · {options.items:,} applications, SQS to SQS on one server, " \
           f"{options.rounds} interleaved rounds · {where}\n\n" + rows(
        ("", "s", "applications a second", "CPU s", "times the loop"),
        [(labels[name], f"{wall:.1f}", f"{options.items / wall:.0f}",
          f"{statistics.median(c for _, c in took[name]):.1f}",
          f"{ratio([w for w, _ in took[name]], [w for w, _ in took['plain']]):.2f}")
         for name in ("plain", "moving", "ours")
         for wall in (statistics.median(w for w, _ in took[name]),)])
    print(text)
    if options.write:
        write("move", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
