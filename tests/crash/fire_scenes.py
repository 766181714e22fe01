"""The servers of a move under fire: SQS to SQS through a gate, RabbitMQ to PostgreSQL."""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.rabbitmq import RabbitmqProvider
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.transfer.mover import LANES
from tests import loans
from tests.crash.fire import ROOT, SECRETS, Count, End, Scene, id_of
from tests.servers import start
from tests.servers.pgweather import PostgresWeather
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import Direct, Rabbit
from tests.servers.sqsgate import SqsGate

REFUSED = 0.05
"""The part of puts that the target fails."""
LATE = 2e-4
"""The part of items whose batch is carried out and answered with silence."""
CLAIM = 6.0
"""Seconds; what a killed process had in hand comes back after so long."""

_TABLE = """
    CREATE TABLE inbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL,
        claim text, claimed_until timestamptz, receives int NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(), item_id text, submitted text,
        hops int NOT NULL DEFAULT 0, attributes jsonb, delivery_key text);
    CREATE TABLE delivered (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE door (key text);
    CREATE FUNCTION knock() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO door VALUES (NEW.key); RETURN NEW; END $$;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF random() < %s THEN RAISE EXCEPTION 'no' USING ERRCODE = '53400'; END IF;
        RETURN NULL; END $$;
    CREATE TRIGGER knock BEFORE INSERT ON delivered FOR EACH ROW EXECUTE FUNCTION knock();
    CREATE TRIGGER refuse AFTER INSERT ON inbox FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""


class Door(SqsGate):
    """Counts who comes in, refuses some, and now and then hangs up on one that it let in."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(port)
        self.calls = deque(maxlen=1)  # type: ignore[assignment]
        self.seen: Counter[str] = Counter()
        self.total = 0
        chance = random.Random(seed)

        def refuses(entry: dict[str, Any]) -> bool:
            if chance.random() < REFUSED:
                return True
            self.seen[id_of(entry["MessageBody"])] += 1
            self.total += 1
            if chance.random() < LATE:
                self.meet("SendMessageBatch", "cut")
            return False

        self.refuses = refuses


class SqsServer:
    """A server with one queue or more, on disk; `there` looks past every adapter."""

    def __init__(self, program: str, place: Path, *queues: str) -> None:
        import boto3

        self.port = start.free_port()
        self._command = [program, "--port", str(self.port), "--data-dir", str(place)]
        self._process = self._run()
        self._boto: Any = boto3.client(
            "sqs", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1",
            aws_access_key_id="x", aws_secret_access_key="y")
        self.urls = [self._boto.create_queue(QueueName=name)["QueueUrl"] for name in queues]

    def _run(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not start.answers(self.port, process):
            raise RuntimeError("the SQS server did not come up")
        return process

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self._process = self._run()

    def fill(self, items: Sequence[bytes], queue: int = 0) -> None:
        for begin in range(0, len(items), 10):
            self._boto.send_message_batch(QueueUrl=self.urls[queue], Entries=[
                {"Id": str(index), "MessageBody": body.decode()}
                for index, body in enumerate(items[begin:begin + 10])])

    def depth(self, queue: int = 0) -> int:
        """Visible and hidden, as the server counts."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._boto.get_queue_attributes(
            QueueUrl=self.urls[queue], AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def there(self, queue: int = 0) -> Counter[str]:
        """Every message by its application, hidden from the next look; those in somebody's hands
        are counted, nameless."""
        url, empty = self.urls[queue], 0
        found: Counter[str] = Counter()
        while empty < 3:
            messages = self._boto.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=3600).get("Messages", [])
            found.update(id_of(each["Body"]) for each in messages)
            empty = 0 if messages else empty + 1
        return found + Counter({"in somebody's hands": self.depth(queue) - sum(found.values())})

    def end(self, port: int, queue: int = 0) -> End:
        """How the mover's process reaches a queue, by way of `port`."""
        params = {"region": "us-east-1", "endpoint_url": f"http://127.0.0.1:{port}",
                  "credentials": {"key_id": "env:A", "secret": "env:B"}, "timeout": 5}
        return End("sqs", params, self.urls[queue], {"claim_seconds": CLAIM, "poll_seconds": 0})


SQS_WINDOW = LANES * SqsProvider.capabilities({}, {"ref": "q"}).max_batch


class Through:
    """Another process that keeps the source filled and consumes the target: see `flow`."""

    def __init__(self, server: SqsServer, place: Path, items: Sequence[bytes]) -> None:
        place.mkdir(exist_ok=True)
        bodies, self._count = place / "bodies.jsonl", place / "arrived.json"
        with bodies.open("wb") as out:
            out.writelines(body + b"\n" for body in items)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.flow", json.dumps({
                "port": server.port, "source": server.urls[0], "target": server.urls[1],
                "bodies": str(bodies), "count": str(self._count)})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.poured = False

    def look(self) -> bool:
        """Whether the last message has gone into the source."""
        assert self._process.stdout is not None
        if not self.poured and select.select([self._process.stdout], [], [], 0)[0]:
            self.poured = self._process.stdout.readline().strip() == "poured"
        assert self.poured or self._process.poll() is None, "the flow has broken off"
        return self.poured

    def hold(self) -> None:
        self._say("hold")
        assert self._process.stdout is not None
        while (said := self._process.stdout.readline().strip()) != "held":
            assert said == "poured", "the flow has broken off"
            self.poured = True

    def go(self) -> None:
        self._say("go")

    def end(self) -> Counter[str]:
        self._say("end")
        assert self._process.wait(600) == 0
        return Counter(json.loads(self._count.read_text(encoding="utf-8")))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


class SqsScene(Scene):
    """Two standard queues of one server that keeps them on disk; the target is not idempotent.
    `flows`: all the while more comes in at the source, and what arrives is consumed."""

    swallows = False
    window = SQS_WINDOW

    def __init__(self, program: str, place: Path, seed: int, *, flows: bool = False) -> None:
        self._server = SqsServer(program, place / "sqs", "hq", "acme")
        self._place, self._flows = place, flows
        self._flow: Through | None = None
        self.gate = Door(self._server.port, seed)
        self.gate.__enter__()
        self.source = self._server.end(self.gate.port)
        self.target = self._server.end(self.gate.port, 1)

    def fill(self, items: Sequence[bytes]) -> None:
        if self._flows:
            self._flow = Through(self._server, self._place / "flow", items)
        else:
            self._server.fill(items)

    def filled(self) -> bool:
        return self._flow is None or self._flow.look()

    def arrived(self) -> int:
        return self.gate.total

    def restart(self) -> None:
        if self._flow is not None:
            self._flow.hold()
        self._server.restart()
        if self._flow is not None:
            self._flow.go()

    def count(self) -> Count:
        if self._flow is None:
            there = self._server.there(1)
        else:
            there = self._flow.end() + Counter({"in somebody's hands": self._server.depth(1)})
        return Count(self._server.there(), there, Counter(self.gate.seen))

    def close(self) -> None:
        if self._flow is not None:
            self._flow.close()
        self.gate.__exit__(None, None, None)
        self._server.kill()


class RabbitScene(Scene):
    """A durable queue of a broker to a table that swallows every repetition."""

    swallows = True

    def __init__(self, rabbit: Rabbit, postgres: Postgres, queue: str) -> None:
        self._rabbit, self._postgres = rabbit, postgres
        with Direct(rabbit.url()) as direct:
            direct.declare(queue, x_queue_type="classic")
        dsn = postgres.new_database()
        self._database = dsn.rpartition("/")[2]
        postgres.sql(_TABLE % REFUSED, self._database)
        self._weather = PostgresWeather(postgres.port)
        self._over = threading.Event()
        self._storm = threading.Thread(target=self._blow)
        self._storm.start()
        SECRETS["env:MQ"] = rabbit.url()
        SECRETS["env:PG"] = dsn.replace(f":{postgres.port}/", f":{self._weather.port}/")
        self.window = LANES * RabbitmqProvider.capabilities({}, {}).max_batch
        self.source = End("rabbitmq", {"url": "env:MQ", "timeout": 10}, queue, {})
        self.target = End("postgresql", {"dsn": "env:PG", "timeout": 10}, "inbox",
                          {"keys": "delivered"})

    def _blow(self) -> None:
        """Now and then a put is carried out and nobody hears of it. One at a time: while a server
        was down they would pile up, and the first batch after that be cut off twelve times."""
        while not self._over.wait(2.0):
            self._weather.clear()
            self._weather.next("cut_reply")

    def fill(self, items: Sequence[bytes]) -> None:
        provider = RabbitmqProvider(ProviderSpec("mq", "rabbitmq", {"url": "env:MQ"}),
                                    resolve=SECRETS.__getitem__, runtime=SystemRuntime())
        backlog = provider.backlog(LeverSpec("mq", self.source.ref, {"item": loans.ITEM}))
        for begin in range(0, len(items), 1000):
            batch = [WorkItem(id_of(body), "", body, {}, "")
                     for body in items[begin:begin + 1000]]
            results = backlog.put(batch, keys={each.item_id: each.item_id for each in batch})
            assert all(result.ok for result in results)
        provider.close()

    def arrived(self) -> int:
        # By the last number given out, refused puts included: it is asked a hundred times a second.
        return int(str(self._postgres.sql(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM inbox_id_seq",
            self._database)[0][0]))

    def restart(self) -> None:
        self._postgres.stop("immediate")
        self._postgres.start()
        self._rabbit.kill()
        self._rabbit.start()

    def count(self) -> Count:
        left = self._rabbit.total(self.source.ref)

        def counted(sql: str) -> Counter[str]:
            return Counter({str(name): int(str(count))
                            for name, count in self._postgres.sql(sql, self._database)})

        return Count(
            Counter({"in the queue": left} if left else {}),
            counted("SELECT convert_from(body, 'UTF8')::json->>'uli', count(*) FROM inbox "
                    "GROUP BY 1"),
            counted("SELECT split_part(key, ':', 1), count(*) FROM door GROUP BY 1"))

    def close(self) -> None:
        self._over.set()
        self._storm.join()
        self._weather.close()
