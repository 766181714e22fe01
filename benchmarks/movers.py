"""Our Mover at full speed, ledger and eligibility included, beside the plainest way to do without.

- RabbitMQ → RabbitMQ beside the broker's own Shovel (on-confirm, prefetch 1000);
- SQS → SQS beside the boto3 loop that receives, sends and deletes by ten, in as many threads;
- PostgreSQL → PostgreSQL beside bare SKIP LOCKED batches of a thousand between two databases.

480-byte messages, one process, one server on loopback for both ends; each round fills anew. What
is compared is the time until the last message has arrived and has been deleted; ours then goes on
to prove that nothing is left, which is told apart.

    python -m benchmarks.movers [--write] [--items 100000] [--rounds 3] [--only classic sqs …]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.rabbit_raw import Bench as RabbitBench
from benchmarks.results import ROOT, machine, rows, write
from benchmarks.sqs_raw import FAUXQS, fauxqs
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog, Provider
from ccfailover.providers.postgresql import PostgresqlProvider
from ccfailover.providers.rabbitmq import RabbitmqProvider
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.mover import Mover
from tests import loans
from tests.servers import start
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import Direct, Rabbit

PAIRS = ["classic", "quorum", "fauxqs", "postgresql"]
"""fauxqs is roto where it cannot be had."""
THREADS = 4
PARAMS: dict[str, object] = {"item": loans.ITEM, "max_item_bytes": loans.MAX_BYTES,
                             "claim_seconds": 120.0}


class Pair(ABC):
    """Two backlogs of one server, filled anew for every round."""

    label: str
    bar: float

    def __init__(self, items: int) -> None:
        self.items, self.turn = items, 0

    @abstractmethod
    def fill(self) -> None: ...

    @abstractmethod
    def peer(self) -> None: ...

    @abstractmethod
    def ends(self) -> tuple[Provider, LeverSpec, LeverSpec]: ...

    @abstractmethod
    def counts(self) -> tuple[int, int]:
        """What the server itself has at source and target."""


class RabbitPair(Pair):
    def __init__(self, items: int, broker: Rabbit, kind: str) -> None:
        super().__init__(items)
        self.bar = 0.9 if kind == "classic" else 0.8
        self.kind, self.broker = kind, broker
        self.label = f"RabbitMQ, {kind}: Shovel"
        self._bench = RabbitBench(broker, items)
        self._provider = RabbitmqProvider(
            ProviderSpec("mq", "rabbitmq", {"url": "env:MQ"}), resolve=lambda _: broker.url(),
            runtime=SystemRuntime())
        self.names = ("", "")

    def fill(self) -> None:
        self.turn += 1
        if self.names[0]:
            with Direct(self.broker.url()) as direct:
                direct.delete(*self.names)
        self.names = f"from-{self.kind}-{self.turn}", f"to-{self.kind}-{self.turn}"
        with Direct(self.broker.url()) as direct:
            for name in self.names:
                direct.declare(name, x_queue_type=self.kind)
        fill(self._provider.backlog(LeverSpec("mq", self.names[0], PARAMS)), self.items)

    def peer(self) -> None:
        self._bench.shovel(*self.names, self.items)

    def ends(self) -> tuple[Provider, LeverSpec, LeverSpec]:
        levers = [LeverSpec("mq", name, PARAMS) for name in self.names]
        return self._provider, levers[0], levers[1]

    def counts(self) -> tuple[int, int]:
        with Direct(self.broker.url()) as direct:
            return direct.depth(self.names[0]), direct.depth(self.names[1])


class SqsPair(Pair):
    bar = 2.0

    def __init__(self, items: int, port: int, server: str) -> None:
        import boto3
        from botocore.config import Config

        super().__init__(items)
        self.label = f"SQS ({server}): boto3 by ten, {THREADS} threads"
        url = f"http://127.0.0.1:{port}"
        self.client: Any = boto3.client(
            "sqs", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x",
            aws_secret_access_key="y", config=Config(max_pool_connections=THREADS))
        self._provider = SqsProvider(
            ProviderSpec("jobs", "sqs", {
                "region": "us-east-1", "endpoint_url": url, "connections": THREADS,
                "credentials": {"key_id": "env:A", "secret": "env:B"}}),
            resolve={"env:A": "x", "env:B": "y"}.__getitem__, runtime=SystemRuntime())
        self.urls = ["", ""]

    def fill(self) -> None:
        for url in filter(None, self.urls):
            self.client.delete_queue(QueueUrl=url)
        self.turn += 1
        self.urls = [self.client.create_queue(QueueName=f"{side}-{self.turn}")["QueueUrl"]
                     for side in ("hq", "acme")]
        fill(self._provider.backlog(self._lever(self.urls[0])), self.items)

    def _lever(self, url: str) -> LeverSpec:
        return LeverSpec("jobs", url, {**PARAMS, "poll_seconds": 0})

    def peer(self) -> None:
        def loop() -> None:
            source, target = self.urls
            while messages := self.client.receive_message(
                    QueueUrl=source, MaxNumberOfMessages=10, VisibilityTimeout=120,
                    MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"],
            ).get("Messages"):
                self.client.send_message_batch(QueueUrl=target, Entries=[
                    {"Id": str(number), "MessageBody": one["Body"],
                     "MessageAttributes": one.get("MessageAttributes", {})}
                    for number, one in enumerate(messages)])
                self.client.delete_message_batch(QueueUrl=source, Entries=[
                    {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                    for number, one in enumerate(messages)])

        threads = [Thread(target=loop) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ends(self) -> tuple[Provider, LeverSpec, LeverSpec]:
        return self._provider, self._lever(self.urls[0]), self._lever(self.urls[1])

    def counts(self) -> tuple[int, int]:
        found = [self._provider.backlog(self._lever(url)).measure().depth for url in self.urls]
        return found[0], found[1]


class PostgresPair(Pair):
    label, bar = "PostgreSQL: SKIP LOCKED by a thousand", 0.8
    TABLE = """
        CREATE TABLE {0} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL,
            claim text, claimed_until timestamptz, receives int NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(), item_id text, submitted text,
            hops int NOT NULL DEFAULT 0, attributes jsonb, delivery_key text);
        CREATE INDEX ON {0} (submitted NULLS FIRST, created_at, id);
        CREATE TABLE keys_{0} (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"""

    def __init__(self, items: int, server: Postgres) -> None:
        super().__init__(items)
        self.server = server
        self.dsns = [server.new_database(), server.new_database()]
        self._provider = PostgresqlProvider(
            ProviderSpec("a", "postgresql", {"dsn": "env:A"}), resolve=lambda _: self.dsns[0],
            runtime=SystemRuntime())
        self.to = PostgresqlProvider(
            ProviderSpec("b", "postgresql", {"dsn": "env:B"}), resolve=lambda _: self.dsns[1],
            runtime=SystemRuntime())

    def _each(self) -> Iterator[Any]:
        import psycopg

        for dsn in self.dsns:
            with psycopg.connect(dsn, autocommit=True) as connection:
                yield connection

    def fill(self) -> None:
        for connection in self._each():
            connection.execute("DROP TABLE IF EXISTS work, keys_work")
            connection.execute(self.TABLE.format("work"))
        for connection in self._each():
            with connection.cursor().copy(
                    "COPY work (body, item_id, submitted) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bytea", "text", "text"])
                for number in range(self.items):
                    text = loans.numbered(number)
                    copy.write_row((text.encode(), str(number), "20260102"))
            connection.execute("ANALYZE work")
            connection.execute("CHECKPOINT")
            return

    def peer(self) -> None:
        import psycopg

        with psycopg.connect(self.dsns[0]) as source, psycopg.connect(self.dsns[1]) as target:
            while found := source.execute(
                    "SELECT id, body FROM work WHERE claim IS NULL ORDER BY id LIMIT 1000 "
                    "FOR UPDATE SKIP LOCKED").fetchall():
                target.execute(
                    "WITH i AS (SELECT * FROM unnest(%s::text[], %s::bytea[]) AS i(key, body)), "
                    "k AS (INSERT INTO keys_work (key) SELECT key FROM i ON CONFLICT DO NOTHING "
                    "RETURNING key) INSERT INTO work (body, item_id) "
                    "SELECT body, key FROM i JOIN k USING (key)",
                    ([str(each[0]) for each in found], [each[1] for each in found]))
                target.commit()
                source.execute("DELETE FROM work WHERE id = ANY(%s)",
                               ([each[0] for each in found],))
                source.commit()

    def ends(self) -> tuple[Provider, LeverSpec, LeverSpec]:
        return (self._provider, LeverSpec("a", "work", PARAMS),
                LeverSpec("b", "work", {**PARAMS, "keys": "keys_work"}))

    def counts(self) -> tuple[int, int]:
        found = [connection.execute("SELECT count(*) FROM work").fetchone()[0]
                 for connection in self._each()]
        return found[0], found[1]


def fill(backlog: Backlog, count: int) -> None:
    for begin in range(0, count, 1000):
        batch = [WorkItem(f"U{number}", "", loans.numbered(number).encode(), {}, "")
                 for number in range(begin, min(count, begin + 1000))]
        results = backlog.put(batch, keys={each.item_id: f"{each.item_id}:fill:0"
                                           for each in batch})
        if not all(result.ok for result in results):
            raise SystemExit("the source could not be filled")


def carry(pair: Pair, place: Path, profile: bool = False) -> tuple[float, float, float]:
    """Seconds until the last message was settled, seconds to the end, CPU seconds of ours."""
    runtime, queue, site = SystemRuntime(), loans.queue(), loans.site("acme")
    provider, source, target = pair.ends()
    to = pair.to if isinstance(pair, PostgresPair) else provider
    path = place / f"{time.monotonic_ns()}.db"
    store = open_store(str(path), runtime)
    last, began, cpu = 0.0, time.perf_counter(), time.process_time()

    def progress(done: int, total: int | None, note: str) -> None:
        nonlocal last
        last = time.perf_counter() - began

    mover = Mover(
        provider.backlog(source), to.backlog(target), store=store, lease=None, run="r1",
        step="applications/1-transfer", queue=queue, source_site="hq", target_site=site,
        eligibility=CelEligibility(queue, site, runtime), runtime=runtime, patience=2.0,
        target_capabilities=to.capabilities(to.spec.params, target.params), progress=progress)
    result = mover.run(runtime.monotonic() + 1200)
    whole, used = time.perf_counter() - began, time.process_time() - cpu
    store.close()
    for each in place.iterdir():
        each.unlink()
    if result.moved != pair.items or pair.counts() != (0, pair.items):
        raise SystemExit(f"not everything was moved: {result.detail}; {pair.counts()}")
    return last, whole, used


def compare(pair: Pair, rounds: int, place: Path) -> list[tuple[str, ...]]:
    ours, theirs = list[tuple[float, float, float]](), list[float]()
    for turn in range(rounds):
        for mine in (turn % 2 == 0, turn % 2 == 1):
            pair.fill()
            if mine:
                ours.append(carry(pair, place))
            else:
                began = time.perf_counter()
                pair.peer()
                theirs.append(time.perf_counter() - began)
                if pair.counts() != (0, pair.items):
                    raise SystemExit(f"{pair.label} did not move everything: {pair.counts()}")
    times = statistics.median(b / a[0] for a, b in zip(ours, theirs, strict=True))
    last, whole, used = (statistics.median(each[index] for each in ours) for index in range(3))
    wall = statistics.median(theirs)
    return [(pair.label, f"{pair.items / wall:,.0f}", "", "1.00", ""),
            ("**our Mover**, ledger and all", f"{pair.items / last:,.0f}",
             f"{used / pair.items * 1e6:.0f}", f"{times:.2f}", f"{pair.bar}"),
            ("… and until nothing is proven to be left", f"{pair.items / whole:,.0f}", "", "", "")]


@contextlib.contextmanager
def pairs(name: str, items: int) -> Iterator[Pair]:
    if name in ("classic", "quorum"):
        broker = Rabbit(plugins=("rabbitmq_management", "rabbitmq_shovel",
                                 "rabbitmq_shovel_management")).start()
        try:
            yield RabbitPair(items, broker, name)
        finally:
            broker.discard()
    elif name == "fauxqs":
        with fauxqs() as port:
            yield SqsPair(items, port, "fauxqs")
    elif name == "roto":
        program = shutil.which("roto-server", path=str(Path(sys.executable).parent))
        with start.roto(str(program)) as port:
            yield SqsPair(items, port, "roto")
    else:
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        server = Postgres(programs).start()
        try:
            yield PostgresPair(items, server)
        finally:
            server.discard()


def lonely(name: str, options: argparse.Namespace) -> list[tuple[str, ...]] | None:
    """fauxqs listens everywhere, so it runs where only loopback is."""
    tools = [shutil.which(each) for each in ("unshare", "ip", "node")]
    if not FAUXQS.exists() or not all(tools) or os.geteuid() != 0:
        return None
    done = subprocess.run(
        ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
         sys.executable, "-m", "benchmarks.movers", "--raw", name, "--items", str(options.items),
         "--rounds", str(options.rounds)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [tuple(row) for row in json.loads(done.stdout.strip().splitlines()[-1])]


def main() -> int:
    parser = argparse.ArgumentParser(description="Our Mover beside what moves without a ledger.")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PAIRS, default=PAIRS)
    parser.add_argument("--raw", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    options = parser.parse_args()
    gc.set_threshold(50_000, 20, 20)  # as `ccfailover` itself does, see commands/__init__.py
    where, table = machine(), list[tuple[str, ...]]()
    with tempfile.TemporaryDirectory(prefix="ccfailover-bench-") as place:
        for name in [options.raw] if options.raw else options.only:
            found = lonely(name, options) if name == "fauxqs" and not options.raw else None
            if found is None:
                here = "roto" if name == "fauxqs" and not options.raw else name
                with pairs(here, options.items) as pair:
                    found = compare(pair, options.rounds, Path(place))
            table += found
            print(*(" | ".join(row) for row in found), sep="\n", file=sys.stderr)
    if options.raw:
        print(json.dumps(table))
        return 0
    text = f"`benchmarks/movers.py` · {options.items:,} messages of {loans.BYTES} bytes, " \
           f"one process, {options.rounds} interleaved rounds · {where}\n\n" + rows(
        ("", "messages a second", "CPU of ours, µs each", "times the other", "bar"), table)
    print(text)
    if options.write:
        write("movers", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
