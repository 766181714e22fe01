"""The whole way on a real SQS server: standard and FIFO, a death on the way, and the way home.

The proof is made against the server's own counts and contents, never against ours.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from ccfailover.model.items import ItemState
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.mover import Mover, MoveResult
from ccfailover.transfer.reconcile import Measures, Reconciliation, reconcile
from tests.servers import start
from tests.unit.transfer.world import QUEUE, Fate, Killed, Mortal, MortalStore, queue, site

MAP = {"id": "uli", "submitted": "application_date", "state": "state"}
POLICY = queue(item=MAP, licence_field="state", max_item_bytes=20_000)


@pytest.fixture(scope="module")
def port(require_server: Callable[[str], str]) -> Iterator[int]:
    with start.roto(require_server("roto-server")) as port:
        yield port


class Places:
    """Two queues on the server, seen by us through the adapter and by the test without it."""

    def __init__(self, port: int, kind: str) -> None:
        url, tail = f"http://127.0.0.1:{port}", ".fifo" if kind == "fifo" else ""
        self.fifo = bool(tail)
        self.client: Any = boto3.client("sqs", endpoint_url=url, region_name="us-east-1",
                                        aws_access_key_id="x", aws_secret_access_key="y")
        self.runtime = SystemRuntime()
        self.provider = SqsProvider(
            ProviderSpec("jobs", "sqs", {"region": "us-east-1", "endpoint_url": url,
                                         "credentials": {"key_id": "env:A", "secret": "env:B"}}),
            resolve={"env:A": "x", "env:B": "y"}.__getitem__, runtime=self.runtime)
        self.urls, self.levers = {}, {}
        for name in ("hq", "acme"):
            full = f"{name}-{kind}-{self.runtime.new_id()}{tail}"
            more = {"FifoQueue": "true"} if tail else {}
            self.urls[name] = self.client.create_queue(QueueName=full, Attributes=more)["QueueUrl"]
            self.levers[name] = LeverSpec("jobs", full, {
                "item": MAP, "max_item_bytes": 20_000, "claim_seconds": 4.0, "poll_seconds": 0})
        self.store: Store = open_store(":memory:", self.runtime)

    def send(self, bodies: list[str]) -> None:
        for number, body in enumerate(bodies):
            more = ({"MessageGroupId": f"g{number}", "MessageDeduplicationId": f"d{number}"}
                    if self.fifo else {})
            self.client.send_message(QueueUrl=self.urls["hq"], MessageBody=body, **more)

    def move(self, fate: Fate | None = None, *, run: str = "r1", home: bool = False) -> MoveResult:
        source, target = ("acme", "hq") if home else ("hq", "acme")
        fate, place = fate or Fate(), site(target, licences={"TX": None, "OK": None})
        return Mover(
            Mortal(self.provider.backlog(self.levers[source]), fate, "source"),
            Mortal(self.provider.backlog(self.levers[target]), fate, "target"),
            store=MortalStore(self.store, fate), lease=None, run=run, step="s", queue=POLICY,
            source_site=source, target_site=place,
            eligibility=CelEligibility(POLICY, place, self.runtime), runtime=self.runtime,
            target_capabilities=self.provider.capabilities(
                {}, {"ref": self.levers[target].ref}), worked=lambda: False,
        ).run(self.runtime.monotonic() + 60)

    def drain(self, name: str) -> Counter[str]:
        """The ids there, as the server gives them; destructive."""
        found: Counter[str] = Counter()
        while True:
            reply = self.client.receive_message(QueueUrl=self.urls[name], MaxNumberOfMessages=10)
            for message in reply.get("Messages", []):
                try:
                    found[json.loads(message["Body"])["uli"]] += 1
                except (ValueError, KeyError, TypeError):
                    found["?"] += 1
            if not reply.get("Messages"):
                return found

    def prove(self, present: int) -> Reconciliation:
        def depth(name: str) -> Any:
            return self.provider.backlog(self.levers[name]).measure()

        return reconcile(self.store, ("r1",), QUEUE, source="hq", target="acme", measures=Measures(
            present=present, source_now=depth("hq"), arrived=0, target_before=0,
            target_now=depth("acme"), arrived_at_target=0, completed=0, worked_at_source=0))


@pytest.fixture(params=["standard", "fifo"])
def places(request: pytest.FixtureRequest, port: int) -> Iterator[Places]:
    made = Places(port, request.param)
    yield made
    made.store.close()
    made.provider.close()


def application(number: int, state: str = "TX") -> str:
    return json.dumps({"uli": f"A{number:03}", "application_date": f"2018{number % 12 + 1:02}01",
                       "state": state})


BODIES = [
    *(application(number) for number in range(40)), application(3), application(17),
    application(50, "NY"), application(51, "NA"), application(5, "OK"), "garbage", "[]",
    '{"state": "TX"}', json.dumps({"uli": "BIG", "state": "TX", "x": "y" * 30_000}),
]
GOES = {f"A{number:03}" for number in range(40)}


def test_there_and_back(places: Places) -> None:
    """40 eligible applications with copies and dirt among them: out, proved, and home again."""
    places.send(BODIES)
    result = places.move()
    assert (result.moved, result.duplicates_collapsed, result.quarantined) == (40, 2, 5)
    assert result.left == {"acme holds no licence for its state": 2}
    assert (result.complete, result.possible_duplicates) == (True, 0)
    proof = places.prove(len(BODIES))
    assert proof.balanced is True, (proof.detail, proof.equation)
    back = places.move(run="r2", home=True)
    assert (back.moved, back.complete) == (40, True)
    assert places.drain("acme") == Counter()
    home = places.drain("hq")
    assert {name for name, count in home.items() if name in GOES and count >= 1} == GOES
    assert sum(home.values()) == 40 + 7
    assert places.store.item_counts(run="r1")[ItemState.RETURNED] == 40


class Third(Fate):
    """Dies when the third call of one name has taken effect and before its reply is seen."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def strike(self, name: str, effect: Callable[[], object]) -> object:
        result = super().strike(name, effect)
        if name == self._name and self.calls.count(name) == 3:
            raise Killed(name)
        return result


@pytest.mark.parametrize("at", ["target.put", "record delivered", "source.settle"])
def test_killed_and_resumed(places: Places, at: str) -> None:
    """Killed after a put, after its note, after a delete, with claims still running: resumed,
    nothing is lost; a FIFO target has no second copy, another's are all listed."""
    places.send(BODIES)
    with pytest.raises(Killed):
        places.move(Third(at))
    result = places.move()
    assert result.complete and result.moved == 40
    proof = places.prove(len(BODIES))
    assert proof.balanced is True, (proof.detail, proof.equation)
    there = places.drain("acme")
    assert set(there) == GOES
    doubled = {name for name, count in there.items() if count > 1}
    assert doubled <= set(proof.possible_duplicates)
    if places.fifo:
        assert not doubled and not proof.possible_duplicates
    elif at == "target.put":
        assert doubled
