"""What the conformance suite needs to know about each adapter: how to reach a real platform,
how to see the truth there, and how to make calls fail. To add an adapter: one class here."""

from __future__ import annotations

import base64
import itertools
import json
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Backlog, Provider, Route
from ccfailover.providers.directory import DirectoryProvider
from ccfailover.providers.http import HttpProvider
from ccfailover.providers.postgresql import PostgresqlProvider
from ccfailover.providers.rabbitmq import RabbitmqProvider
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.platform import Fault, SimulatedPlatform
from ccfailover.simulation.providers import SimulatedProvider
from tests.servers.bucket import Bucket
from tests.servers.drops import StormyDirectory, batches, drop_batch
from tests.servers.mqweather import RabbitWeather
from tests.servers.pgweather import PostgresWeather
from tests.servers.rabbitmq import PASSWORD as MQ_PASSWORD
from tests.servers.rabbitmq import Direct, Rabbit
from tests.servers.sshd import Sshd
from tests.servers.weather import Weather

TOKEN = "tok-5ecret-9f1d"
KEY_ID, SECRET = "AKIA5ECRETKEYID", "aws-5ecret-7b2c"
SECRETS = {"env:TOKEN": TOKEN, "env:KEY_ID": KEY_ID, "env:SECRET": SECRET,
           "env:MQ_PASSWORD": MQ_PASSWORD}
HASTY = 0.6
"""Seconds: the time-out where the peer is known not to answer."""
ITEM = {"id": "uli", "submitted": "application_date", "state": "/property/state"}
HOSTILE = ("garbage", "not_http", "huge", "endless", "headers", "hang", "cut_reply")
_FAULTS = {"after": Fault.AFTER, "lost": Fault.LOST, "throttled": Fault.THROTTLED}
_WEATHER = {"after": "lose_reply", "lost": "hang", "throttled": "busy"}
_numbers = itertools.count(1)


def dead_port() -> int:
    """A port where nobody listens: bound, never listened on."""
    import socket

    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    return int(held.getsockname()[1])


_held: list[Any] = []


class RouteSubject(ABC):
    """A route that begins at hq 100 %, with destinations hq, acme and message."""

    provider: Provider
    hostile: tuple[str, ...] = ()
    sites: tuple[str, ...] = ("hq", "acme", "message")
    step = 1
    """Shares come in multiples of this on the platform itself."""
    walk: tuple[Mapping[str, int], ...] = (
        {"hq": 50, "acme": 50}, {"acme": 70, "message": 30}, {"hq": 1, "acme": 99})
    moved = Shares({"acme": 70, "message": 30})
    foreign: Mapping[str, int] = {"hq": 90, "acme": 10}
    """What somebody else sets."""
    unexpressed: tuple[tuple[Mapping[str, int], str], ...] = (({"mars": 100}, "does not name"),)
    """Shares that must be refused before anything is sent, and a word of the refusal."""
    compare_and_set = True
    """A change by somebody else since the read is refused (else: found by reading back)."""
    versioned = True
    """Away and back again is seen as a change, too."""
    adjustable_step = True
    """The policy can give a larger step."""
    counts: Mapping[str, float] = {"answered.hq": 41.0, "answered.acme": 7.5, "lost": 0.0}
    throttles = True
    """The platform throttles, and says so in its own way."""
    pieces = 1
    """Writes that the platform gets for a shift from all at hq to `moved`."""
    whole = ""
    """With one write: why no part of it can be applied."""
    prepares = False
    """A shift writes something beside the platform first."""
    noted = 1
    """What `writes` counts for each of them."""
    breaks: tuple[str, ...] = ("half",)
    """How a write can end in its middle."""
    found: Mapping[str, int] = {"hq": 100}
    """The shares that `as_found` gives the platform."""
    says_when = True
    """… and says when to come back."""

    def __init__(self) -> None:
        self.ref = f"loans/{next(_numbers)}"
        self.lever = LeverSpec("edge", self.ref)

    @abstractmethod
    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        """A provider of the same platform; `port` 0 means where nobody listens."""

    def route(self, **how: Any) -> Route:
        return self.make(**how).route(self.lever)

    @abstractmethod
    def truth(self) -> dict[str, int]: ...

    @abstractmethod
    def elsewhere(self, shares: Mapping[str, int]) -> None:
        """Somebody else changes the route."""

    @abstractmethod
    def meet(self, *what: str) -> None:
        """The next calls meet `after`, `lost` or `throttled`."""

    def meet_write(self, *what: str) -> None:
        """The next writes meet a hostile peer; what is read before a write does not."""
        self.meet(*what)

    @abstractmethod
    def writes(self) -> int:
        """How many writes of ours the platform has carried out."""

    @abstractmethod
    def break_writes(self, number: int, how: str) -> None:
        """The n-th write from now on, and all after it, end so; until `mend`."""

    @abstractmethod
    def mend(self) -> None: ...

    def takes(self) -> dict[str, int]:
        """Who takes traffic now, by the platform's own weights, whatever these sum up to."""
        return self.truth()

    def as_found(self) -> None:
        """Set up by somebody else's hand, with the shares `found`, and whatever else of it we
        would set otherwise: weights that are no percent, TTLs, priorities, switches."""
        self.elsewhere(self.found)

    @abstractmethod
    def raw(self) -> object:
        """All that the platform has of this route, but what the docstring excepts."""

    def nonesuch(self) -> LeverSpec:
        """A lever that the platform does not have."""
        return LeverSpec("edge", "nonesuch")

    def throttle(self, on: bool) -> Bucket | None:
        """From now on the platform takes 2 calls a second, bursts of 5. None: it cannot."""
        return None

    def wait_for(self, shares: Mapping[str, int]) -> None:
        """Until a write whose reply was lost has landed."""
        until(lambda: self.truth() == dict(shares))


class HttpSubject(RouteSubject):
    hostile = HOSTILE
    whole = "one request holds all shares"
    names: ClassVar = {"hq": "T1", "acme": "T2", "message": "ANNOUNCE"}

    def __init__(self, port: int, weather: Weather) -> None:
        super().__init__()
        self._port, self._weather = port, weather
        weather.clear()
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        where = self._weather.port if port is None else dead_port()
        path = "/routes/{ref}"
        params = {
            "url": f"http://127.0.0.1:{where}", "auth": {"bearer": "env:TOKEN"},
            "timeout": timeout, "destinations": self.names,
            "route": {
                "read": {"path": path, "shares": "/shares", "version": "etag"},
                "shift": {"path": path, "if_match": True,
                          "headers": {"Idempotency-Key": "{key}"},
                          "body": '{"shares": {{ shares | tojson }}}'},
                "measure": {"path": "/counts?detail=1", "values": {
                    "answered.hq": "/answered/T1", "answered.acme": "/answered/T2",
                    "lost": "/lost", "age": "/age", "note": "/note", "none": "/none"}},
                "step": step,
            },
        }
        return HttpProvider(ProviderSpec("edge", "http", params),
                            resolve=SECRETS.__getitem__, runtime=SystemRuntime())

    def _direct(self, method: str, path: str, data: object = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", body,
                                         method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    def truth(self) -> dict[str, int]:
        back = {v: k for k, v in self.names.items()}
        shares = self._direct("GET", "/truth")["routes"][self.ref]
        return {back[name]: percent for name, percent in shares.items() if percent}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        ref = self.ref.replace("/", "%2F")
        self._direct("PUT", f"/truth/{ref}",
                     {"shares": {self.names[k]: v for k, v in shares.items()}})

    def meet(self, *what: str) -> None:
        self._weather.next(*(_WEATHER.get(name, name) for name in what))

    def break_writes(self, number: int, how: str) -> None:
        self._weather.strikes = lambda request: not request.startswith(b"GET ")
        self._weather.next(*["fair"] * (number - 1))
        self._weather.lasting = how

    def mend(self) -> None:
        self._weather.clear()

    def raw(self) -> object:
        """Not the version, which every write raises, and not who has 0 %: what is sent of them is
        for the policy's template to say."""
        shares = self._direct("GET", "/truth")["routes"][self.ref]
        return {name: share for name, share in shares.items() if share}

    def writes(self) -> int:
        return sum(w["ref"] == self.ref for w in self._direct("GET", "/truth")["writes"])


class SimulatedRoute(RouteSubject):
    whole = "one call sets all shares"

    def __init__(self) -> None:
        super().__init__()
        self.platform = SimulatedPlatform(SystemRuntime(), "edge")
        self.elsewhere({"hq": 100})
        self.platform.count(self.ref, {"answered.hq": 41.0, "answered.acme": 7.5, "lost": 0.0})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1) -> Provider:
        if port == 0:
            self.platform.fail("*", Fault.BEFORE)
        params = {"destinations": ["hq", "acme", "message"], "step": step}
        return SimulatedProvider(ProviderSpec("edge", "simulated", params),
                                 resolve=SECRETS.__getitem__, runtime=SystemRuntime(),
                                 platform=self.platform)

    def truth(self) -> dict[str, int]:
        return self.platform.shares(self.ref).to_json()

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        self.platform.add_route(self.ref, shares)

    def meet(self, *what: str) -> None:
        for name in what:
            self.platform.fail("*", _FAULTS[name])

    def break_writes(self, number: int, how: str) -> None:
        self.platform.fail("shift", Fault.LOST)

    def mend(self) -> None:
        """It has passed."""

    def raw(self) -> object:
        """Not the version, which every write raises."""
        return self.truth()

    def writes(self) -> int:
        return sum(call.startswith("shift") for call in self.platform.calls)


class BacklogSubject(ABC):
    """Two queues, `source` and `target`, on one platform; `fifo` ones swallow a key's repeat, and
    keep the order within a group where they are `ordered`, too."""

    provider: Provider
    source: LeverSpec
    target: LeverSpec
    fifo: bool
    hostile: tuple[str, ...] = ()
    message_ids = True
    """Messages have ids of their own, which no other message has."""
    puts_aside = True
    """The platform itself puts a message aside that was claimed too often."""

    records: bool = False
    """One system of record, of which source and target are two views."""
    reads_back: bool = False
    """A put whose reply was lost is looked after at once."""

    @property
    def ordered(self) -> bool:
        return self.fifo

    def requests(self, items: int) -> int:
        """How many requests a put of so many items makes."""
        return 1

    def puttable(self, item_id: str) -> WorkItem:
        """An item that the target can be given."""
        return WorkItem(item_id, "m", application(item_id), {}, "")

    @abstractmethod
    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider: ...

    @abstractmethod
    def send(self, body: bytes, group: str = "g") -> None:
        """A message from the site's own system, into the source."""

    @abstractmethod
    def bodies(self, lever: LeverSpec) -> list[bytes]:
        """What is in a queue and visible, read past the adapter (may raise receive counts)."""

    @abstractmethod
    def count(self, lever: LeverSpec) -> int:
        """All messages in a queue, hidden ones too."""

    @abstractmethod
    def meet(self, *what: str) -> None: ...

    @abstractmethod
    def calls(self) -> int:
        """How many calls have reached the platform or the weather before it."""

    @abstractmethod
    def limit_receives(self, times: int) -> None:
        """Messages of the source are put aside after `times` claims."""

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)

    def backlog(self, lever: LeverSpec | None = None, **how: Any) -> Backlog:
        return self.make(**how).backlog(lever or self.source)

    def with_params(self, **params: object) -> LeverSpec:
        return replace(self.source, params={**self.source.params, **params})

    def send_applications(self, count: int) -> list[str]:
        ids = [f"ULI{number:04d}" for number in range(count)]
        for number, item_id in enumerate(ids):
            self.send(application(item_id), group=f"g{number}")
        return ids


@cache
def direct(port: int) -> Any:
    """A client past the adapter and the weather; making one is slow, so it is kept."""
    import boto3

    return boto3.client(
        "sqs", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="direct", aws_secret_access_key="direct")


class SqsSubject(BacklogSubject):
    hostile = HOSTILE

    def __init__(self, port: int, weather: Weather, *, fifo: bool) -> None:
        self.fifo, self._weather = fifo, weather
        weather.clear()
        self.client = direct(port)
        tail = ".fifo" if fifo else ""
        attributes = {"FifoQueue": "true"} if fifo else {}
        number = next(_numbers)
        self._urls = {}
        for side in ("hq", "acme"):
            name = f"{side}-{number}{tail}"
            self._urls[name] = self.client.create_queue(
                QueueName=name, Attributes=attributes)["QueueUrl"]
        names = list(self._urls)
        self.source = LeverSpec("jobs", names[0], {"item": ITEM, "max_item_bytes": 20_000})
        # A URL as the policy would give it; the port is the weather's.
        self.target = LeverSpec("jobs", names[1], {"item": ITEM, "max_item_bytes": 20_000})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider:
        where = self._weather.port if port is None else dead_port()
        params = {
            "region": "us-east-1", "endpoint_url": f"http://127.0.0.1:{where}",
            "timeout": timeout, "credentials": {"key_id": "env:KEY_ID", "secret": "env:SECRET"},
        }
        return SqsProvider(ProviderSpec("jobs", "sqs", params),
                           resolve=SECRETS.__getitem__, runtime=SystemRuntime())

    def send(self, body: bytes, group: str = "g") -> None:
        extra: dict[str, str] = {}
        if self.fifo:
            extra = {"MessageGroupId": group, "MessageDeduplicationId": f"d{next(_numbers)}"}
        self.client.send_message(
            QueueUrl=self._urls[self.source.ref], MessageBody=body.decode(),
            MessageAttributes={
                "branch": {"DataType": "String", "StringValue": "0417"},
                "weight": {"DataType": "Number.int", "StringValue": "3"},
                "mark": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
            }, **extra)

    def bodies(self, lever: LeverSpec) -> list[bytes]:
        found: list[bytes] = []
        while True:
            reply = self.client.receive_message(
                QueueUrl=self._urls[lever.ref], MaxNumberOfMessages=10, VisibilityTimeout=600)
            messages = reply.get("Messages", [])
            if not messages:
                return found
            found.extend(message["Body"].encode() for message in messages)

    def count(self, lever: LeverSpec) -> int:
        reply = self.client.get_queue_attributes(
            QueueUrl=self._urls[lever.ref], AttributeNames=["All"])["Attributes"]
        return sum(int(value) for name, value in reply.items()
                   if name.startswith("ApproximateNumberOfMessages"))

    def meet(self, *what: str) -> None:
        self._weather.next(*(_WEATHER.get(name, name) for name in what))

    def calls(self) -> int:
        return len(self._weather.requests)

    def limit_receives(self, times: int) -> None:
        attributes = {"FifoQueue": "true"} if self.fifo else {}
        dead = self.client.create_queue(
            QueueName=f"dead-{next(_numbers)}{'.fifo' if self.fifo else ''}",
            Attributes=attributes)["QueueUrl"]
        arn = self.client.get_queue_attributes(
            QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.client.set_queue_attributes(
            QueueUrl=self._urls[self.source.ref], Attributes={"RedrivePolicy": json.dumps(
                {"deadLetterTargetArn": arn, "maxReceiveCount": times})})


class PostgresSubject(BacklogSubject):
    """Tables of a database of its own; `fifo` stands for one that keeps the keys of deliveries."""

    ordered = False

    def __init__(self, server: Any, weather: PostgresWeather, *, keyed: bool, body: str) -> None:
        self.fifo = keyed
        self._server, self._weather, self._body = server, weather, body
        # Each mode is waited out for seconds; both kinds of table have one connection.
        self.hostile = () if keyed else ("garbage", "endless", "huge", "hang", "cut_reply")
        weather.clear()
        number = next(_numbers)
        names = []
        for side in ("hq", "acme"):
            name = f"{side}_{number}"
            server.sql(
                f"CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                f"payload {body} NOT NULL, claim text, claimed_until timestamptz, "
                "receives int NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now(), "
                "item_id text, submitted text, hops int NOT NULL DEFAULT 0, attributes jsonb, "
                "delivery_key text)")
            server.sql(f"CREATE TABLE {name}_keys (key text PRIMARY KEY, "
                       "at timestamptz NOT NULL DEFAULT now())")
            names.append(name)
        self._item: dict[str, object] = {
            "item": ITEM, "max_item_bytes": 20_000, "columns": {"body": "payload"}}
        self.source = self._lever(names[0])
        self.target = self._lever(names[1])
        self.provider = self.make()

    def _lever(self, name: str) -> LeverSpec:
        keys: dict[str, object] = {"keys": f"public.{name}_keys"} if self.fifo else {}
        return LeverSpec("los", f"public.{name}", {**self._item, **keys})

    def reach(self) -> Provider:
        """Past the weather."""
        dsn = self._server.dsn("postgres")
        return PostgresqlProvider(ProviderSpec("los", "postgresql", {"dsn": "env:LOS_DSN"}),
                                  resolve=lambda reference: dsn, runtime=SystemRuntime())

    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider:
        where = self._weather.port if port is None else dead_port()
        dsn = self._server.dsn("postgres").replace(f":{self._server.port}/", f":{where}/")
        secrets = {**SECRETS, "env:LOS_DSN": dsn}
        return PostgresqlProvider(
            ProviderSpec("los", "postgresql", {"dsn": "env:LOS_DSN", "timeout": timeout}),
            resolve=secrets.__getitem__, runtime=SystemRuntime())

    def send(self, body: bytes, group: str = "g") -> None:
        import psycopg

        with psycopg.connect(self._server.dsn("postgres"), autocommit=True) as link:
            link.execute(
                f"INSERT INTO {self.source.ref} (payload, attributes) VALUES "
                f"({'%s' if self._body == 'bytea' else 'convert_from(%s, $$UTF8$$)'}, %s::jsonb)",
                (body, json.dumps({"branch": "0417", "weight:Number.int": "3",
                                   "mark:Binary": "AP8="})))

    def bodies(self, lever: LeverSpec) -> list[bytes]:
        out = "payload" if self._body == "bytea" else "convert_to(payload::text, 'UTF8')"
        return [bytes(row[0]) for row in self._server.sql(
            f"SELECT {out} FROM {lever.ref} WHERE claimed_until IS NULL OR claimed_until <= now()")]

    def count(self, lever: LeverSpec) -> int:
        return int(self._server.sql(f"SELECT count(*) FROM {lever.ref}")[0][0])

    def meet(self, *what: str) -> None:
        self._weather.next(*(_WEATHER.get(name, name) for name in what))

    def calls(self) -> int:
        return self._weather.requests

    def limit_receives(self, times: int) -> None:
        self._item["max_receives"] = times
        self.source = self._lever(self.source.ref.removeprefix("public."))


class RabbitSubject(BacklogSubject):
    """Two queues of one vhost. A claim is the connection's that made it: one provider for all."""

    fifo = False
    message_ids = False

    def __init__(self, broker: Rabbit, weather: RabbitWeather, *, kind: str) -> None:
        self._broker, self._weather, self._kind = broker, weather, kind
        self.puts_aside = kind == "quorum"
        # Each mode is waited out for seconds, and neither kind of queue has a part in it.
        self.hostile = () if kind == "quorum" else (
            "garbage", "endless", "huge", "hang", "cut_reply", "flood")
        weather.clear()
        self._direct = Direct(broker.url())
        self.source, self.target = self._queue("hq"), self._queue("acme")
        self.provider = self.make()

    def _queue(self, side: str, **arguments: int) -> LeverSpec:
        name = f"{side}.{next(_numbers)}"
        self._direct.declare(name, x_queue_type=self._kind, **arguments)
        return LeverSpec("mq", name, {"item": ITEM, "max_item_bytes": 20_000})

    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider:
        where = self._weather.port if port is None else dead_port()
        secrets = {**SECRETS, "env:MQ_URL": self._broker.url(port=where)}
        return RabbitmqProvider(
            ProviderSpec("mq", "rabbitmq", {"url": "env:MQ_URL", "timeout": timeout}),
            resolve=secrets.__getitem__, runtime=SystemRuntime())

    def backlog(self, lever: LeverSpec | None = None, **how: Any) -> Backlog:
        return (self.make(**how) if how else self.provider).backlog(lever or self.source)

    def send(self, body: bytes, group: str = "g") -> None:
        self._direct.send(self.source.ref, body, timestamp=int(time.time()), type="application",
                          headers={"branch": "0417", "weight": 3, "mark": b"\x00\xff"})

    def bodies(self, lever: LeverSpec) -> list[bytes]:
        return [body for body, _ in self._direct.take(lever.ref)]

    def count(self, lever: LeverSpec) -> int:
        return self._broker.total(lever.ref)

    def meet(self, *what: str) -> None:
        self._weather.next(*(_WEATHER.get(name, name) for name in what))

    def calls(self) -> int:
        return self._weather.requests

    def limit_receives(self, times: int) -> None:
        limit = {"x_delivery_limit": times - 1} if self._kind == "quorum" else {}
        lever = self._queue("hq", **limit)
        self.source = replace(lever, params={**lever.params, "max_receives": times})

    def close(self) -> None:
        self.provider.close()
        self._direct.close()


INTAKE: dict[str, Any] = {
    "put": {"path": "/queues/{ref}/applications", "id": "/receipt", "duplicate": [409]},
    "measure": {"path": "/queues/{ref}", "visible": "/waiting", "hidden": "/taken",
                "oldest": "/oldest"},
    "claim": {"path": "/queues/{ref}/claims", "list": "/items", "message": "/id",
              "handle": "/claim", "body_at": "/content", "receives": "/receives",
              "submitted": "/sent/submitted", "created": "/created", "hops": "/sent/hops",
              "attributes": "/sent/attributes"},
    "extend": {"method": "PUT", "path": "/claims/{handle}"},
    "settle": {"path": "/claims/{handle}"},
}


class IntakeSubject(BacklogSubject):
    """Two queues of a provider's intake: one that takes an item a request and forgets keys, or
    (`fifo`) one that takes batches and keeps keys for ever."""

    ordered = False

    def __init__(self, port: int, weather: Weather, *, fifo: bool) -> None:
        self.fifo, self._port, self._weather = fifo, port, weather
        self.hostile = () if fifo else HOSTILE  # each mode is waited out; both read in one way
        weather.clear()
        number = next(_numbers)
        self._item: dict[str, object] = {"item": ITEM, "max_item_bytes": 20_000}
        self.source, self.target = (
            LeverSpec("acme", f"{side} {number}", self._item) for side in ("hq", "acme"))
        for lever in (self.source, self.target):
            self.console("PUT", lever, {"forgets": not fifo})
        self.provider = self.make()

    @property
    def block(self) -> dict[str, Any]:
        if not self.fifo:
            return INTAKE
        return {**INTAKE, "put": {
            "path": "/queues/{ref}/batches", "batch": 25, "body": '{"items": [{{ items }}]}',
            "accepted": [207, "taken"], "duplicate": ["known"], "refused": ["bad"],
            "later": [429, 503, "busy"], "idempotent": True,
            "results": {"list": "/results", "key": "/key", "status": "/status", "id": "/receipt"}}}

    def requests(self, items: int) -> int:
        return 1 if self.fifo else items

    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider:
        return self.reach(self._weather.port if port is None else dead_port(), timeout)

    def reach(self, where: int, timeout: float = 10.0) -> Provider:
        params = {"url": f"http://127.0.0.1:{where}", "auth": {"bearer": "env:TOKEN"},
                  "timeout": timeout, "backlog": self.block}
        return HttpProvider(ProviderSpec("acme", "http", params),
                            resolve=SECRETS.__getitem__, runtime=SystemRuntime())

    def console(self, method: str, lever: LeverSpec, data: object = None) -> Any:
        return self.console_at(f"truth/{quote(lever.ref)}", method, data)

    def console_at(self, path: str, method: str, data: object = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/{path}",
            None if data is None else json.dumps(data).encode(), method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    def send(self, body: bytes, group: str = "g") -> None:
        self.console("POST", self.source, {
            "base64": base64.b64encode(body).decode(), "assignee": self.source.params.get(
                "assignee"),
            "attributes": {"branch": "0417", "weight:Number.int": "3", "mark:Binary": "AP8="}})

    def items(self, lever: LeverSpec) -> list[dict[str, Any]]:
        assignee = lever.params.get("assignee")
        return [each for each in self.console("GET", lever)["items"]
                if each["assignee"] == assignee]

    def bodies(self, lever: LeverSpec) -> list[bytes]:
        return [base64.b64decode(each["base64"]) for each in self.items(lever)
                if not each["hidden"]]

    def count(self, lever: LeverSpec) -> int:
        return len(self.items(lever))

    def meet(self, *what: str) -> None:
        self._weather.next(*(_WEATHER.get(name, name) for name in what))

    def calls(self) -> int:
        return len(self._weather.requests)

    def limit_receives(self, times: int) -> None:
        self.console("PUT", self.source, {"max_receives": times})
        self._item["max_receives"] = times


class HttpRecordsSubject(IntakeSubject):
    """One system of record, of which hq's applications are the source and acme's the target."""

    records = reads_back = True

    def __init__(self, port: int, weather: Weather) -> None:
        super().__init__(port, weather, fifo=True)
        self.hostile = ("garbage", "huge", "hang")
        self._item["assignee"] = "hq"
        self.target = replace(self.source, params={**self._item, "assignee": "acme"})

    @property
    def block(self) -> dict[str, Any]:
        where = "/assigned/{ref}/{assignee}"
        return {
            "measure": {**INTAKE["measure"], "path": where},
            "claim": {**INTAKE["claim"], "path": f"{where}/claims", "version": "/version"},
            "extend": INTAKE["extend"],
            "reassign": {"write": {"path": "/records/{message}", "if_match": True},
                         "read": {"path": "/records/{message}", "assignee": "/assignee",
                                  "key": "/key"}}}

    def requests(self, items: int) -> int:
        return items

    def change(self, item_id: str, **fields: object) -> None:
        """Somebody of the lender's changes a record."""
        for each in self.console("GET", self.source)["items"]:
            if json.loads(base64.b64decode(each["base64"]))["uli"] == item_id:
                self.console_at(f"truth-record/{each['id']}", "PATCH", fields)

    def whose(self) -> dict[str, str]:
        """Every application there, and to whom it is assigned."""
        return {json.loads(base64.b64decode(each["base64"]))["uli"]: each["assignee"]
                for each in self.console("GET", self.source)["items"]}

    def puttable(self, item_id: str) -> WorkItem:
        self.send(application(item_id))
        provider = self.reach(self._port)
        try:
            found = {each.item_id: each for each in provider.backlog(self.source).claim(10)}
        finally:
            provider.close()
        return found[item_id]


class PostgresRecordsSubject(PostgresSubject):
    """One table, of which hq's rows are the source and acme's the target."""

    records = True

    def __init__(self, server: Any, weather: PostgresWeather) -> None:
        super().__init__(server, weather, keyed=False, body="text")
        self.fifo, self.hostile = True, ()
        server.sql(f"ALTER TABLE {self.source.ref} ADD assignee text NOT NULL DEFAULT 'hq', "
                   "ADD begun_at timestamptz")
        self._item["columns"] = {"body": "payload", "begun": "begun_at"}
        self.source = self._lever(self.source.ref.removeprefix("public."))
        self.target = replace(self.source, params={**self.source.params, "assignee": "acme"})

    def _lever(self, name: str) -> LeverSpec:
        return LeverSpec("los", f"public.{name}", {**self._item, "assignee": "hq"})

    def change(self, item_id: str, **fields: object) -> None:
        """Somebody of the lender's changes a record; `begun` is a time here."""
        if "begun" in fields:
            fields["begun_at"] = "now()" if fields.pop("begun") else None
        for name, value in fields.items():
            shown = "NULL" if value is None else value if value == "now()" else f"'{value}'"
            self._server.sql(f"UPDATE {self.source.ref} SET {name} = {shown} "
                             f"WHERE payload::json->>'uli' = '{item_id}'")

    def whose(self) -> dict[str, str]:
        """Every application there, and to whom it is assigned."""
        return {str(item): str(who) for item, who in self._server.sql(
            f"SELECT payload::json->>'uli', assignee FROM {self.source.ref}")}

    def puttable(self, item_id: str) -> WorkItem:
        self.send(application(item_id))
        provider = self.reach()
        try:
            found = {each.item_id: each for each in provider.backlog(self.source).claim(10)}
        finally:
            provider.close()
        return found[item_id]

    def bodies(self, lever: LeverSpec) -> list[bytes]:
        return [bytes(row[0]) for row in self._server.sql(
            f"SELECT convert_to(payload::text, 'UTF8') FROM {lever.ref} WHERE assignee = "
            f"'{lever.params['assignee']}' AND coalesce(claimed_until, now()) <= now()")]

    def count(self, lever: LeverSpec) -> int:
        return int(self._server.sql(f"SELECT count(*) FROM {lever.ref} WHERE assignee = "
                                    f"'{lever.params['assignee']}'")[0][0])


class DirectorySubject(BacklogSubject):
    """Folders of this machine; every put swallows a key's repeat, so it stands among the `fifo`."""

    fifo = True
    ordered = False

    def __init__(self, root: Path) -> None:
        self.root = root
        number = next(_numbers)
        self._params: dict[str, object] = {"item": ITEM, "max_item_bytes": 20_000}
        for side in ("hq", "acme"):
            (root / f"{side}-{number}").mkdir(parents=True)
        self.source = LeverSpec("drop", f"hq-{number}", self._params)
        self.target = LeverSpec("drop", f"acme-{number}", self._params)
        self._weather: list[str] = []
        self._calls: list[str] = []
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider:
        path = self.root if port is None else self.root / "not-mounted"
        return StormyDirectory(
            ProviderSpec("drop", "directory", {"path": str(path)}),
            resolve=SECRETS.__getitem__, runtime=SystemRuntime(), weather=self._weather,
            calls=self._calls)

    def send(self, body: bytes, group: str = "g") -> None:
        drop_batch(self.root / self.source.ref, [body], attributes={
            "branch": "0417", "weight:Number.int": "3", "mark:Binary": "AP8="})

    def bodies(self, lever: LeverSpec) -> list[bytes]:
        return [path.read_bytes() for path in batches(self.root / lever.ref)]

    def count(self, lever: LeverSpec) -> int:
        claimed = self.root / lever.ref / "claimed"
        return len(batches(self.root / lever.ref)) + len(
            list(claimed.iterdir()) if claimed.exists() else [])

    def close(self) -> None:
        self.provider.close()

    def meet(self, *what: str) -> None:
        self._weather.extend(what)

    def calls(self) -> int:
        return self._calls.count("rename")

    def limit_receives(self, times: int) -> None:
        self.source = self.with_params(max_receives=times)


class SftpSubject(DirectorySubject):
    """The same folders, by a real OpenSSH server."""

    def __init__(self, server: Sshd) -> None:
        self._server = server
        self._made: dict[object, Provider] = {}
        for left in server.weather.iterdir():
            left.unlink()
        super().__init__(server.drop)

    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider:
        """One login for each way of calling: logging in takes longer than most tests."""
        if (timeout, port) not in self._made:
            self._made[timeout, port] = self._login(timeout, port)
        return self._made[timeout, port]

    def close(self) -> None:
        for provider in self._made.values():
            provider.close()

    def _login(self, timeout: float, port: int | None) -> Provider:
        where = self._server.port if port is None else dead_port()
        url = f"sftp://{self._server.user}@127.0.0.1:{where}{self.root}"
        return DirectoryProvider(
            ProviderSpec("drop", "directory", {
                "url": url, "key": "file:login", "host_key": self._server.host_key,
                "timeout": timeout}),
            resolve=lambda reference: self._server.key.read_text(), runtime=SystemRuntime())

    def meet(self, *what: str) -> None:
        [mode] = what
        (self._server.weather / "next").write_text(mode)

    def calls(self) -> int:
        count = self._server.weather / "renames"
        return count.stat().st_size if count.exists() else 0

    def pass_time(self, seconds: float) -> None:
        """The protocol tells whole seconds, and no claim ends before its time: so two more."""
        time.sleep(seconds + 2.0)


class SimulatedBacklog(BacklogSubject):
    def __init__(self, *, fifo: bool) -> None:
        self.fifo = fifo
        self.platform = SimulatedPlatform(SystemRuntime(), "jobs")
        tail = ".fifo" if fifo else ""
        params = {"item": ITEM, "max_item_bytes": 20_000}
        self.source = LeverSpec("jobs", f"hq{tail}", params)
        self.target = LeverSpec("jobs", f"acme{tail}", params)
        self.platform.add_queue(self.source.ref)
        self.platform.add_queue(self.target.ref)
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None) -> Provider:
        if port == 0:
            self.platform.fail("*", Fault.BEFORE)
        return SimulatedProvider(ProviderSpec("jobs", "simulated", {}),
                                 resolve=SECRETS.__getitem__, runtime=SystemRuntime(),
                                 platform=self.platform)

    def send(self, body: bytes, group: str = "g") -> None:
        attributes = {"branch": "0417", "weight:Number.int": "3", "mark:Binary": "AP8="}
        if self.fifo:
            attributes[":group"] = group
        self.platform.send(self.source.ref, body, attributes)

    def bodies(self, lever: LeverSpec) -> list[bytes]:
        now = self.platform.runtime.now()
        return [m.body for m in self.platform.messages(lever.ref) if m.visible_at <= now]

    def count(self, lever: LeverSpec) -> int:
        return len(self.platform.messages(lever.ref))

    def meet(self, *what: str) -> None:
        for name in what:
            self.platform.fail("*", _FAULTS[name])

    def calls(self) -> int:
        return len(self.platform.calls)

    def limit_receives(self, times: int) -> None:
        self.platform.queue(self.source.ref).max_receives = times


def application(item_id: str, state: str = "TX") -> bytes:
    return json.dumps({"uli": item_id, "application_date": "2026-03-01T09:30:00Z",
                       "property": {"state": state}}).encode()


def until(fn: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not fn():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.02)


def by_id(items: Sequence[Any]) -> dict[str, Any]:
    return {item.item_id: item for item in items}
