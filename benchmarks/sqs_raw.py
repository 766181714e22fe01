"""The `sqs` adapter beside boto3, without Mover and ledger: who is slow, the client or the server?

Each moves the same messages from one queue to another on one server, in one process: receive
ten, send ten, delete ten, until nothing comes any more. boto3 on several threads, the adapter on
as many threads, and the adapter alone on one thread with as many calls on their way.

roto-server is measured, and fauxqs (a faster one) where `make setup-bench` could install it. That
one listens on all interfaces, so it gets a network namespace of its own with nothing but loopback.

    python benchmarks/sqs_raw.py [--write] [--items 5000] [--rounds 3] [--threads 4]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.results import ROOT, machine, ratio, rows, write
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
from tests.servers import start

REGION = "us-east-1"
BYTES = 480
FAUXQS = ROOT / ".venv-bench" / "node_modules" / ".bin" / "fauxqs"
LABELS = {
    "boto3": "boto3, {threads} threads, by ten",
    "ten": "**the adapter**, {threads} threads, by ten",
    "one": "**the adapter**, 1 thread, by a hundred, {threads} calls at a time",
    "many": "**the adapter**, {threads} threads, by a hundred, {threads} calls at a time each",
}


class Bench:
    def __init__(self, port: int, items: int, threads: int) -> None:
        import boto3
        from botocore.config import Config

        url = f"http://127.0.0.1:{port}"
        self.client: Any = boto3.client(
            "sqs", endpoint_url=url, region_name=REGION, aws_access_key_id="x",
            aws_secret_access_key="y", config=Config(max_pool_connections=threads))
        self.provider = SqsProvider(
            ProviderSpec("jobs", "sqs", {
                "region": REGION, "endpoint_url": url, "connections": threads,
                "credentials": {"key_id": "env:A", "secret": "env:B"}}),
            resolve={"env:A": "x", "env:B": "y"}.__getitem__, runtime=SystemRuntime())
        self.items, self.threads = items, threads
        self.turn = 0

    def queues(self) -> tuple[str, str]:
        """Two new queues, the first one full."""
        self.turn += 1
        source, target = (self.client.create_queue(QueueName=f"{side}-{self.turn}")["QueueUrl"]
                          for side in ("hq", "acme"))
        full = self.backlog(source)
        for begin in range(0, self.items, 1000):
            batch = [_item(n) for n in range(begin, min(self.items, begin + 1000))]
            full.put(batch, keys={item.item_id: item.item_id for item in batch})
        return source, target

    def backlog(self, url: str) -> Backlog:
        return self.provider.backlog(LeverSpec("jobs", url, {"poll_seconds": 0}))

    def boto3(self, source: str, target: str) -> None:
        client = self.client
        while True:
            messages = client.receive_message(
                QueueUrl=source, MaxNumberOfMessages=10, VisibilityTimeout=120,
                MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"],
            ).get("Messages")
            if not messages:
                return
            client.send_message_batch(QueueUrl=target, Entries=[
                {"Id": str(number), "MessageBody": one["Body"],
                 "MessageAttributes": one.get("MessageAttributes", {})}
                for number, one in enumerate(messages)])
            client.delete_message_batch(QueueUrl=source, Entries=[
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                for number, one in enumerate(messages)])

    def ours(self, source: str, target: str, size: int) -> None:
        begin, end = self.backlog(source), self.backlog(target)
        while items := begin.claim(size):
            sent = end.put(items, keys={item.item_id: f"{item.item_id}:r:1" for item in items})
            gone = begin.settle([item.handle for item, one in zip(items, sent, strict=True)
                                 if one.ok])
            if not all(gone.values()) or len(gone) != len(items):
                raise SystemExit(f"not everything went: {sent}")

    def measure(self, name: str) -> tuple[float, float]:
        """Wall and CPU seconds; the server's own counts say whether it all arrived."""
        source, target = self.queues()
        moves: dict[str, tuple[int, Callable[[], None]]] = {
            "boto3": (self.threads, lambda: self.boto3(source, target)),
            "ten": (self.threads, lambda: self.ours(source, target, 10)),
            "one": (1, lambda: self.ours(source, target, 100)),
            "many": (self.threads, lambda: self.ours(source, target, 100)),
        }
        count, move = moves[name]
        threads = [Thread(target=move) for _ in range(count)]
        cpu, began = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began, time.process_time() - cpu
        counted = [self.backlog(url).measure().depth for url in (source, target)]
        if counted != [0, self.items]:
            raise SystemExit(f"{name}: the server counts {counted}: nothing to compare")
        for url in (source, target):
            self.client.delete_queue(QueueUrl=url)
        return took


def _item(number: int) -> WorkItem:
    item_id = f"U{number:07d}"
    body = json.dumps({"id": item_id, "state": "TX", "note": ""})
    body = body[:-2] + "x" * (BYTES - len(body)) + body[-2:]
    return WorkItem(item_id, item_id, body.encode(), {}, "")


@contextmanager
def fauxqs() -> Iterator[int]:
    """On its usual port: nobody else is in this namespace."""
    process = subprocess.Popen(
        [str(FAUXQS)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "FAUXQS_PORT": "4566", "FAUXQS_LOGGER": "false"})
    try:
        if not start.answers(4566, process):
            raise SystemExit("fauxqs did not come up")
        yield 4566
    finally:
        process.kill()
        process.wait(10)


def compare(server: str, options: argparse.Namespace) -> str:
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in LABELS}
    program = shutil.which("roto-server", path=str(Path(sys.executable).parent))
    if server == "roto" and program is None:
        raise SystemExit("roto-server is not installed: make setup-dev")
    with fauxqs() if server == "fauxqs" else start.roto(str(program)) as port:
        bench = Bench(port, options.items, options.threads)
        bench.measure("boto3")  # warms the server's own compiler up, too
        for turn in range(options.rounds):
            names = list(LABELS)
            for name in names if turn % 2 == 0 else reversed(names):
                took[name].append(bench.measure(name))
        bench.provider.close()
    base = [wall for wall, _ in took["boto3"]]
    return rows(
        (f"{server}, {options.items:,} messages of {BYTES} bytes", "messages a second",
         "client's CPU, µs a message", "times boto3"),
        [(LABELS[name].format(threads=options.threads),
          f"{options.items / statistics.median(wall for wall, _ in pairs):,.0f}",
          f"{statistics.median(cpu for _, cpu in pairs) / options.items * 1e6:.0f}",
          f"{ratio(base, [wall for wall, _ in pairs]):.2f}")
         for name, pairs in took.items()])


def in_namespace(arguments: list[str]) -> str | None:
    """The table for fauxqs, from this program started where only loopback is; None without it."""
    tools = [shutil.which(name) for name in ("unshare", "ip", "node")]
    if not FAUXQS.exists() or not all(tools) or os.geteuid() != 0:
        return None
    command = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
               sys.executable, "benchmarks/sqs_raw.py", "--only", "fauxqs", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description="The sqs adapter beside boto3.")
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--only", choices=("roto", "fauxqs"), help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    if options.only:
        print(compare(options.only, options))
        return 0
    where = machine()
    common = ["--items", str(options.items), "--rounds", str(options.rounds),
              "--threads", str(options.threads)]
    fast = in_namespace(common)
    tables = [fast or "fauxqs is not here (Node and root are needed), and roto-server is slower "
              "than the adapter.", compare("roto", options)]
    text = f"`benchmarks/sqs_raw.py` · one process, {options.rounds} interleaved rounds · " \
           f"{where}\n\n" + "\n\n".join(tables)
    print(text)
    if options.write:
        write("sqs_raw", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
