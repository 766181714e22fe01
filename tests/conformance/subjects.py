"""What the conformance suite needs to know about each adapter: how to reach a real platform,
how to see the truth there, and how to make calls fail. To add an adapter: one class here."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog, Provider, Route
from ccfailover.providers.http import HttpProvider
from ccfailover.providers.postgresql import PostgresqlProvider
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.platform import Fault, SimulatedPlatform
from ccfailover.simulation.providers import SimulatedProvider
from tests.servers.pgweather import PostgresWeather
from tests.servers.weather import Weather

TOKEN = "tok-5ecret-9f1d"
KEY_ID, SECRET = "AKIA5ECRETKEYID", "aws-5ecret-7b2c"
SECRETS = {"env:TOKEN": TOKEN, "env:KEY_ID": KEY_ID, "env:SECRET": SECRET}
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

    @abstractmethod
    def writes(self) -> int:
        """How many writes of ours the platform has carried out."""

    def wait_for(self, shares: Mapping[str, int]) -> None:
        """Until a write whose reply was lost has landed."""
        until(lambda: self.truth() == dict(shares))


class HttpSubject(RouteSubject):
    hostile = HOSTILE
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

    def writes(self) -> int:
        return sum(w["ref"] == self.ref for w in self._direct("GET", "/truth")["writes"])


class SimulatedRoute(RouteSubject):
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

    @property
    def ordered(self) -> bool:
        return self.fifo

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
        keys = {"keys": f"public.{name}_keys"} if self.fifo else {}
        return LeverSpec("los", f"public.{name}", {**self._item, **keys})

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
