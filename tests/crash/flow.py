"""Keeps a source of SQS filled to a bounded depth, and consumes its target as a provider would.

Small SQS servers give out a handful of messages a second once a queue is deep: a million flows
through instead. This process speaks to the server past every adapter and every gate, counts what
arrives by application, and is told over its standard input: `hold` (it answers `held` and makes no
call until `go`), and `end` (it drains the target, writes its count, and goes).

`python -m tests.crash.flow CONFIG`
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

DEPTH = 5_000
"""Messages at the source at most, roughly."""
_TEN = 10
_LOOK = 20
"""Rounds between two looks at the depth."""


class Server:
    """Servers on loopback check no signature; they look for the service in its scope."""

    HEADERS: ClassVar[Mapping[str, str]] = {
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sqs/aws4_request, "
                         "SignedHeaders=host, Signature=0"}

    def __init__(self, port: int) -> None:
        self._port = port
        self._link: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def call(self, operation: str, **payload: object) -> dict[str, Any]:
        if self._link is None:
            self._link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._link.request("POST", "/", json.dumps(payload),
                           {**self.HEADERS, "X-Amz-Target": f"AmazonSQS.{operation}"})
        reply = self._link.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{operation}: {reply.status} {data[:200]!r}")
        found: dict[str, Any] = json.loads(data or b"{}")
        return found


class Flow:
    """`source` and `target` are queue addresses, `bodies` a file with one body a line."""

    def __init__(self, server: Server, source: str, target: str, bodies: Iterator[str]) -> None:
        self._server, self._source, self._target = server, source, target
        self._bodies = bodies
        self.poured = False
        self.arrived: Counter[str] = Counter()

    def pour(self) -> None:
        batch = [line.rstrip("\n") for _, line in zip(range(_TEN), self._bodies, strict=False)]
        if not batch:
            self.poured = True
            return
        answer = self._server.call("SendMessageBatch", QueueUrl=self._source, Entries=[
            {"Id": str(index), "MessageBody": body} for index, body in enumerate(batch)])
        if len(answer.get("Successful", [])) != len(batch):
            raise RuntimeError("the source did not take a batch")

    def depth(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._server.call("GetQueueAttributes", QueueUrl=self._source,
                                  AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def drain(self) -> int:
        messages = self._server.call(
            "ReceiveMessage", QueueUrl=self._target, MaxNumberOfMessages=_TEN,
            VisibilityTimeout=3600).get("Messages") or []
        if messages:
            answer = self._server.call("DeleteMessageBatch", QueueUrl=self._target, Entries=[
                {"Id": str(index), "ReceiptHandle": each["ReceiptHandle"]}
                for index, each in enumerate(messages)])
            if len(answer.get("Successful", [])) != len(messages):
                raise RuntimeError("the target did not delete a batch")
            self.arrived.update(str(json.loads(each["Body"])["uli"]) for each in messages)
        return len(messages)


def told() -> str:
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return sys.stdin.readline().strip() if ready else ""


def main(config: dict[str, Any]) -> int:
    with Server(config["port"]) as server, Path(config["bodies"]).open(encoding="utf-8") as lines:
        flow = Flow(server, config["source"], config["target"], iter(lines))
        said, room = False, 0
        while (word := told()) != "end":
            if word == "hold":
                server.hang_up()
                print("held", flush=True)
                sys.stdin.readline()
                continue
            if not room and not flow.poured:
                room = max(0, DEPTH - flow.depth()) // _TEN
            for _ in range(min(room, _LOOK)):
                flow.pour()
            if flow.poured and not said:
                print("poured", flush=True)
                said = True
            room -= min(room, _LOOK)
            came = sum(flow.drain() for _ in range(_LOOK))
            if not came and not room:
                time.sleep(0.05)
        empty = 0
        while empty < 3:
            empty = 0 if flow.drain() else empty + 1
    Path(config["count"]).write_text(json.dumps(flow.arrived), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
