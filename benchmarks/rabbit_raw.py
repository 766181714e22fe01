"""Our RabbitMQ adapter by itself, beside other clients and the broker's own Shovel.

One broker on loopback, classic and quorum queues, 480-byte messages; every mover gets a freshly
filled queue and moves it to an empty one. Ours runs `claim` → `put` → `settle` by the thousand
without Mover and ledger: once in one thread, once with the next claim made meanwhile in another.
The bar is the CPU that a message costs us, because that is what the Mover adds to; the rate is the
broker's. Where a peer can only wait for each confirm, a two-hundredth of the messages has to do;
where ways of claiming are compared, a fifth.

    python benchmarks/rabbit_raw.py [--write] [--items 20000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import base64
import json
import queue
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from typing import Any

from benchmarks.results import ROOT, machine, ratio, rows, write
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.rabbitmq import RabbitmqProvider, wire
from ccfailover.providers.rabbitmq.link import Link
from ccfailover.runtime import SystemRuntime
from tests.servers.rabbitmq import PASSWORD, USER, VHOST, Direct, Rabbit

BATCH = 1000
BAR = 25
"""µs of client CPU a message."""
ITEM = {"id": "uli", "submitted": "application_date", "state": "state"}
SLOW = {"amqpstorm", "rabbitpy"}
PEERS = ("pika", "amqp", "amqpstorm", "rabbitpy")
LABELS = {
    "shovel": "Shovel, in the broker: on-confirm, prefetch 1000",
    "ours": "**ours**, one thread",
    "overlapped": "**ours**, the next claim meanwhile",
    "pika": "pika, callbacks, pipelined confirms",
    "amqp": "py-amqp, windows of 1000",
    "amqpstorm": "amqpstorm, a confirm each",
    "rabbitpy": "rabbitpy, a confirm each",
    "consume": "1000 by a consumer and its cancellation (ours)",
    "get": "1000 by `basic.get`, all asked for at once",
}


class Bench:
    def __init__(self, broker: Rabbit, items: int) -> None:
        self.broker, self.items = broker, items
        self.provider = RabbitmqProvider(
            ProviderSpec("mq", "rabbitmq", {"url": "env:MQ"}),
            resolve=lambda _: broker.url(), runtime=SystemRuntime())
        self.turn = 0

    def backlog(self, name: str) -> Any:
        return self.provider.backlog(LeverSpec("mq", name, {"item": ITEM}))

    def queues(self, kind: str, count: int) -> tuple[str, str]:
        """Two new queues of that kind, the first one with `count` messages."""
        self.turn += 1
        names = f"hq-{self.turn}", f"acme-{self.turn}"
        with Direct(self.broker.url()) as direct:
            for name in names:
                direct.declare(name, x_queue_type=kind)
        source = self.backlog(names[0])
        for start in range(0, count, BATCH):
            batch = [WorkItem(f"ULI{number:08d}", "", _body(number), {}, "")
                     for number in range(start, min(count, start + BATCH))]
            results = source.put(batch, keys={item.item_id: f"{item.item_id}:fill:0"
                                              for item in batch})
            if not all(result.ok for result in results):
                raise SystemExit("the queue could not be filled")
        return names

    def measure(self, kind: str, name: str) -> tuple[float, float]:
        """(seconds, µs of CPU in the client) a message; the broker's own count is the proof."""
        count = self.items // 200 if name in SLOW else self.items
        source, target = self.queues(kind, count)
        if name in PEERS:
            wall, cpu = self.peer(name, source, target, count)
        else:
            before, began = time.process_time(), time.perf_counter()
            {"shovel": self.shovel, "ours": self.ours,
             "overlapped": self.overlapped}[name](source, target, count)
            wall, cpu = time.perf_counter() - began, time.process_time() - before
        if name == "shovel":
            cpu = 0.0
        left, there = (self.backlog(each).measure().depth for each in (source, target))
        self.provider.close()
        if (left, there) != (0, count):
            raise SystemExit(f"{name} did not move everything: {left} left, {there} there")
        self.delete(source, target)
        return wall / count, cpu / count * 1e6

    def delete(self, *names: str) -> None:
        with Direct(self.broker.url()) as direct:
            direct.delete(*names)

    # --- movers --------------------------------------------------------------------------------

    def ours(self, source: str, target: str, count: int) -> None:
        hq, acme = self.backlog(source), self.backlog(target)
        while items := hq.claim(BATCH):
            self._put(hq, acme, items)

    def overlapped(self, source: str, target: str, count: int) -> None:
        hq, acme = self.backlog(source), self.backlog(target)
        ready: queue.Queue[Any] = queue.Queue(maxsize=1)

        def claim() -> None:
            while items := hq.claim(BATCH):
                ready.put(items)
            ready.put([])

        thread = threading.Thread(target=claim)
        thread.start()
        while items := ready.get():
            self._put(hq, acme, items)
        thread.join()

    @staticmethod
    def _put(hq: Any, acme: Any, items: Any) -> None:
        results = acme.put(items, keys={item.item_id: f"{item.item_id}:r1:1" for item in items})
        done = hq.settle([item.handle for item, result in zip(items, results, strict=True)
                          if result.ok])
        if len(done) != len(items) or not all(done.values()):
            raise SystemExit("a batch was not moved whole")

    def shovel(self, source: str, target: str, count: int) -> None:
        place = f"parameters/shovel/{VHOST}/bench"
        self._http("PUT", place, {"value": {
            "src-protocol": "amqp091", "src-uri": self.broker.url(), "src-queue": source,
            "dest-protocol": "amqp091", "dest-uri": self.broker.url(), "dest-queue": target,
            "ack-mode": "on-confirm", "src-prefetch-count": BATCH,
            "src-delete-after": "queue-length"}})
        acme, end = self.backlog(target), time.monotonic() + 120
        while acme.measure().visible < count:
            if time.monotonic() > end:
                raise SystemExit("the shovel did not come to an end")
            time.sleep(0.01)

    def peer(self, name: str, source: str, target: str, count: int) -> tuple[float, float]:
        python = ROOT / ".venv-bench" / "bin" / "python"
        done = subprocess.run(
            [python, str(ROOT / "benchmarks" / "rabbit_peers.py"), name, self.broker.url(),
             source, target, str(count)],
            check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-1500:]}")
        found = json.loads(done.stdout)
        return found["seconds"], found["cpu"]

    def _http(self, verb: str, path: str, data: object) -> None:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.broker.http_port}/api/{path}", json.dumps(data).encode(),
            {"Authorization": f"Basic {login}", "Content-Type": "application/json"}, method=verb)
        urllib.request.urlopen(request, timeout=10).close()

    # --- how to claim --------------------------------------------------------------------------

    def claiming(self, kind: str, name: str) -> float:
        """Seconds for a message."""
        wanted = max(BATCH, self.items // 5 // BATCH * BATCH)
        source, target = self.queues(kind, wanted)
        began = time.perf_counter()
        if name == "consume":
            hq, count = self.backlog(source), 0
            while count < wanted:
                count += len(hq.claim(BATCH))
        else:
            link = self.provider._connect("get", 60)
            link.__class__ = _Getting
            for _ in range(wanted // BATCH):
                link.send(_get(source) * BATCH, time.monotonic() + 60)
                link.until(lambda: len(link.messages) == BATCH, time.monotonic() + 60)
                link.messages = []
            link.close(1)
        took = time.perf_counter() - began
        self.provider.close()
        self.delete(source, target)
        return took / wanted


class _Getting(Link):
    """Takes the answers to `basic.get` for deliveries."""

    def _on_method(self, data: bytes, at: int, stop: int) -> None:
        if int.from_bytes(data[at:at + 4], "big") != 0x3C0047:
            super()._on_method(data, at, stop)
            return
        self._part = (int.from_bytes(data[at + 4:at + 12], "big"), bool(data[at + 12] & 1), False)


def _get(name: str) -> bytes:
    return wire.method(0x3C0046, b"\0\0" + wire.short(name) + b"\0")


def _body(number: int) -> bytes:
    made = json.dumps({"uli": f"ULI{number:08d}", "application_date": "2026-03-01T09:30:00Z",
                       "state": "TX", "amount": 250_000, "note": ""})
    return (made[:-2] + "x" * (480 - len(made)) + made[-2:]).encode()


def _table(names: tuple[str, ...], took: dict[tuple[str, str], list[tuple[float, float]]]) -> str:
    body = []
    for kind in ("classic", "quorum"):
        anchor = [wall for wall, _ in took[kind, "shovel"]]
        for name in names:
            walls = [wall for wall, _ in took[kind, name]]
            cpu = min(each for _, each in took[kind, name])
            body.append((f"{kind}: {LABELS[name]}", f"{1 / statistics.median(walls):,.0f}",
                         f"{ratio(anchor, walls):.2f}", f"{cpu:.0f}" if cpu else "",
                         str(BAR) if name in ("ours", "overlapped") else ""))
    return rows(("", "messages a second", "times Shovel", "CPU µs a message, least", "bar"), body)


def main() -> int:
    parser = argparse.ArgumentParser(description="Our RabbitMQ adapter beside its peers.")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=None, help="movers beside the shovel")
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    where = machine()
    names = ("shovel", *(options.only if options.only is not None
                         else ("ours", "overlapped", *PEERS)))
    took: dict[tuple[str, str], list[tuple[float, float]]] = {}
    claims: dict[tuple[str, str], list[float]] = {}
    broker = Rabbit(plugins=("rabbitmq_management", "rabbitmq_shovel",
                             "rabbitmq_shovel_management"))
    try:
        bench = Bench(broker.start(), options.items)
        for turn in range(options.rounds):
            for kind in ("classic", "quorum"):
                for name in names if turn % 2 == 0 else reversed(names):
                    took.setdefault((kind, name), []).append(bench.measure(kind, name))
                for name in ("consume", "get"):
                    claims.setdefault((kind, name), []).append(bench.claiming(kind, name))
    finally:
        broker.discard()
    text = f"`benchmarks/rabbit_raw.py` · {options.items:,} messages of 480 bytes, " \
           f"{options.rounds} interleaved rounds · {where}\n\n{_table(names, took)}\n\n" + rows(
               ("How to claim", "messages a second"),
               [(f"{kind}: {LABELS[name]}", f"{1 / statistics.median(claims[kind, name]):,.0f}")
                for kind in ("classic", "quorum") for name in ("consume", "get")])
    print(text)
    if options.write:
        write("rabbit_raw", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
