"""The adapter's own calls: side by side, once each, in order where order counts, signed anew."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.sqs import SqsProvider
from ccfailover.providers.sqs.backlog import CLAIM, SqsBacklog
from ccfailover.providers.sqs.sending import HELD_BACK, NOT_SENT
from ccfailover.runtime import SystemRuntime
from tests.servers import start
from tests.servers.sqsgate import SqsGate

REGION = "us-east-1"


@pytest.fixture(scope="module")
def port(require_server: Callable[[str], str]) -> Iterator[int]:
    with start.roto(require_server("roto-server")) as port:
        yield port


@pytest.fixture
def gate(port: int) -> Iterator[SqsGate]:
    with SqsGate(port) as gate:
        yield gate


class Place:
    """One queue: seen by us through the gate, by the test without it."""

    def __init__(self, port: int, gate: SqsGate, *, fifo: bool = False, **params: object) -> None:
        self.client: Any = boto3.client(
            "sqs", endpoint_url=f"http://127.0.0.1:{port}",
            region_name=str(params.get("region", REGION)),
            aws_access_key_id="x", aws_secret_access_key="y")
        self.name = f"q-{SystemRuntime().new_id()}{'.fifo' if fifo else ''}"
        self.url = self.client.create_queue(
            QueueName=self.name, Attributes={"FifoQueue": "true"} if fifo else {})["QueueUrl"]
        self.provider = provider(gate.port, **params)

    def backlog(self, **params: object) -> SqsBacklog:
        made = self.provider.backlog(LeverSpec("jobs", self.name, params))
        assert isinstance(made, SqsBacklog)
        return made

    def arrived(self) -> list[dict[str, Any]]:
        """Everything there, in the server's order; what is seen is deleted."""
        found: list[dict[str, Any]] = []
        while messages := self.client.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=10,
                MessageAttributeNames=["All"]).get("Messages"):
            found += messages
            for message in messages:
                self.client.delete_message(QueueUrl=self.url,
                                           ReceiptHandle=message["ReceiptHandle"])
        return found

    def ids(self) -> list[str]:
        return [json.loads(message["Body"])["id"] for message in self.arrived()]


def provider(port: int, **params: object) -> SqsProvider:
    return SqsProvider(
        ProviderSpec("jobs", "sqs", {
            "region": REGION, "endpoint_url": f"http://127.0.0.1:{port}",
            "credentials": {"key_id": "env:A", "secret": "env:B"}, **params}),
        resolve={"env:A": "KEYONE", "env:B": "s1", "env:C": "KEYTWO"}.__getitem__,
        runtime=SystemRuntime())


@pytest.fixture
def place(port: int, gate: SqsGate, request: pytest.FixtureRequest) -> Callable[..., Place]:
    def make(**how: Any) -> Place:
        made = Place(port, gate, **how)
        request.addfinalizer(made.provider.close)
        return made

    return make


def item(number: int, group: str = "", **how: Any) -> WorkItem:
    body = json.dumps({"id": f"U{number:04}"}).encode()
    return WorkItem(**{"item_id": f"U{number:04}", "message_id": "m", "body": body, "fields": {},
                       "handle": "", "attributes": {":group": group} if group else {}, **how})


def put(backlog: SqsBacklog, items: list[WorkItem], run: str = "r") -> list[PutResult]:
    return list(backlog.put(items, keys={i.item_id: f"{i.item_id}:{run}:1" for i in items}))


# --- side by side -------------------------------------------------------------------------------


def test_a_hundred_go_and_come_in_ten_calls(gate: SqsGate, place: Callable[..., Place]) -> None:
    """put, claim, extend and settle of a hundred: ten calls each, over several connections, and
    only the first receive waits."""
    queue = place()
    backlog = queue.backlog(poll_seconds=2)
    assert all(result.ok for result in put(backlog, [item(n) for n in range(CLAIM + 5)]))
    items = backlog.claim(CLAIM)
    assert len({found.item_id for found in items}) == len(items) == CLAIM
    waits = [call["WaitTimeSeconds"] for call in gate.of("ReceiveMessage")]
    assert waits == [2, *[0] * 9]
    handles = [found.handle for found in items]
    assert all(backlog.extend(handles, 60).values())
    assert backlog.settle(handles) == dict.fromkeys(handles, True)
    assert backlog.measure().depth == 5
    for operation in ("ReceiveMessage", "ChangeMessageVisibilityBatch", "DeleteMessageBatch"):
        assert len(gate.of(operation)) == 10
    assert 1 < len({call.peer for call in gate.calls}) <= 1 + 4  # one alone, four side by side


def test_a_short_first_answer_ends_the_claim(gate: SqsGate, place: Callable[..., Place]) -> None:
    """Seven are there: they are not kept waiting for the other ninety-three."""
    backlog = place().backlog()
    put(backlog, [item(n) for n in range(7)])
    assert len(backlog.claim(CLAIM)) == 7
    assert len(gate.of("ReceiveMessage")) == 1


def test_a_claim_asks_for_no_more_than_its_limit(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """Twenty-five: ten, ten and five."""
    backlog = place(connections=1).backlog()
    put(backlog, [item(n) for n in range(40)])
    assert len(backlog.claim(25)) == 25
    assert [call["MaxNumberOfMessages"] for call in gate.of("ReceiveMessage")] == [10, 10, 5]


def test_an_empty_answer_ends_asking(gate: SqsGate, place: Callable[..., Place]) -> None:
    """Ten of ninety calls would have been enough."""
    backlog = place(connections=1).backlog()
    put(backlog, [item(n) for n in range(12)])
    assert len(backlog.claim(CLAIM)) == 12
    assert len(gate.of("ReceiveMessage")) == 3


def test_what_came_is_kept_when_another_receive_fails(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """Items that we have been given are given on, whatever became of the other calls."""
    backlog = place().backlog()
    put(backlog, [item(n) for n in range(40)])
    gate.meet("ReceiveMessage", "", "cut")
    assert len(backlog.claim(40)) == 30


def test_a_poll_never_outlasts_its_call(gate: SqsGate, place: Callable[..., Place]) -> None:
    """A wait as long as the time-out would look like a source that does not answer."""
    backlog = place(timeout=3).backlog(poll_seconds=20)
    put(backlog, [item(1)])
    assert len(backlog.claim(10)) == 1
    assert gate.of("ReceiveMessage")[0]["WaitTimeSeconds"] == 2


# --- once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 30])
def test_a_broken_kept_connection_is_a_doubt_and_no_second_sending(
        gate: SqsGate, place: Callable[..., Place], count: int) -> None:
    """libcurl would send it again by itself, and a standard queue would have it twice."""
    queue = place()
    backlog = queue.backlog()
    assert all(result.ok for result in put(backlog, [item(900 + n) for n in range(count)]))
    gate.meet("SendMessageBatch", "cut")
    results = put(backlog, [item(n) for n in range(count)])
    failed = [result for result in results if not result.ok]
    assert len(failed) == min(count, 10)
    assert all(result.in_doubt and not result.permanent for result in failed)
    there = queue.ids()
    assert len(there) == len(set(there)) == 2 * count


def test_a_broken_claim_is_not_made_again_by_itself(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """It would raise receive counts once more, unseen."""
    queue = place()
    backlog = queue.backlog(poll_seconds=0)
    assert backlog.claim(1) == []
    put(backlog, [item(1)])
    gate.meet("ReceiveMessage", "cut")
    with pytest.raises(Unavailable) as caught:
        backlog.claim(1)
    assert caught.value.in_doubt
    assert len(gate.of("ReceiveMessage")) == 2


def test_a_dead_platform_is_not_asked_for_ever(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """Three hundred items for a target that hangs: a round or two of calls, then the rest is not
    sent, and not in doubt."""
    queue = place(timeout=1)
    backlog = queue.backlog()
    put(backlog, [item(900)])
    gate.meet("SendMessageBatch", *["hang"] * 30)
    gate.meet("DeleteMessageBatch", *["hang"] * 30)
    results = put(backlog, [item(n) for n in range(300)])
    asked = len(gate.of("SendMessageBatch")) - 1
    assert 4 <= asked <= 12
    assert sum(result.in_doubt for result in results) == 10 * asked
    assert {result.detail for result in results if not result.in_doubt} == {NOT_SENT}
    handles = [f"h{n}" for n in range(300)]
    assert backlog.settle(handles) == dict.fromkeys(handles, False)
    assert len(gate.of("DeleteMessageBatch")) <= 12


# --- order --------------------------------------------------------------------------------------


def by_group(names: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for group, name in names:
        found[group].append(name)
    return found


def test_a_fifo_target_keeps_each_group_s_order_through_failures(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """One entry in twenty fails, again and again: what follows it in its group is held back, and
    after enough attempts everything is there once, in order."""
    queue = place(fifo=True)
    backlog = queue.backlog()
    items = [item(n, group=f"g{n % 7}") for n in range(70)]
    seen: list[str] = []

    def one_in_twenty(entry: dict[str, Any]) -> bool:
        seen.append(entry["Id"])
        return len(seen) % 20 == 0

    gate.refuses = one_in_twenty
    waiting, rounds = items, 0
    while waiting:
        results = put(backlog, waiting)
        lost = [(one, result) for one, result in zip(waiting, results, strict=True)
                if not result.ok]
        for index, (one, result) in enumerate(lost):
            group = one.attributes[":group"]
            first = all(other.attributes[":group"] != group for other, _ in lost[:index])
            assert (result.in_doubt, result.detail == HELD_BACK) == (first, not first)
        waiting, rounds = [one for one, _ in lost], rounds + 1
    assert rounds > 1
    wanted = by_group([(one.attributes[":group"], one.item_id) for one in items])
    gate.refuses = lambda entry: False
    found: list[tuple[str, str]] = []
    while came := backlog.claim(CLAIM):
        found += [(one.attributes[":group"], one.item_id) for one in came]
        backlog.settle([one.handle for one in came])
    assert by_group(found) == wanted
    for call in gate.of("SendMessageBatch"):
        groups = [entry["MessageGroupId"] for entry in call["Entries"]]
        assert len(set(groups)) == len(groups)


def test_what_never_can_travel_does_not_hold_its_group_back(
        place: Callable[..., Place]) -> None:
    """A permanent refusal has no turn to wait for."""
    queue = place(fifo=True)
    items = [item(1, "g"), item(2, "g", body=b"\xff"), item(3, "g")]
    assert [(r.ok, r.permanent) for r in put(queue.backlog(), items)] == [
        (True, False), (False, True), (True, False)]
    assert queue.ids() == ["U0001", "U0003"]


def test_receives_side_by_side_keep_each_group_s_order(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """Messages in flight lock their group, so no group is in two of the answers."""
    queue = place(fifo=True)
    backlog = queue.backlog()
    for begin in range(0, 200, 10):
        queue.client.send_message_batch(QueueUrl=queue.url, Entries=[
            {"Id": str(n), "MessageBody": json.dumps({"id": f"U{n:04}"}),
             "MessageGroupId": f"g{n % 23}", "MessageDeduplicationId": f"d{n}"}
            for n in range(begin, begin + 10)])
    found: list[tuple[str, str]] = []
    rounds = 0
    while came := backlog.claim(CLAIM):
        found += [(one.attributes[":group"], one.item_id) for one in came]
        backlog.settle([one.handle for one in came])
        rounds += 1
    assert by_group(found) == by_group([(f"g{n % 23}", f"U{n:04}") for n in range(200)])
    assert len(gate.of("ReceiveMessage")) > rounds + 1


# --- partial failures, digests, shapes ----------------------------------------------------------


def test_single_entries_that_fail_are_in_doubt_alone(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """One in twenty is refused by the service's own fault; its neighbours have arrived."""
    queue = place()
    gate.refuses = lambda entry: int(entry["Id"]) % 20 == 3
    results = put(queue.backlog(), [item(n) for n in range(100)])
    bad = [n for n, result in enumerate(results) if not result.ok]
    assert bad == [3, 23, 43, 63, 83]
    assert all(results[n].in_doubt and not results[n].permanent for n in bad)
    assert sorted(queue.ids()) == [f"U{n:04}" for n in range(100) if n not in bad]


@pytest.mark.parametrize("digest", ["MD5OfMessageBody", "MD5OfMessageAttributes"])
def test_a_receipt_for_other_content_is_a_doubt(
        gate: SqsGate, place: Callable[..., Place], digest: str) -> None:
    """What lies in the queue is not what was sent: never ok, and the neighbours are."""

    def alter(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        for sent in answer.get("Successful", []):
            if operation == "SendMessageBatch":
                assert sent[digest]  # the server does give it, and ours agrees with it
                if sent["Id"] == "1":
                    sent[digest] = hashlib.md5(b"other").hexdigest()
        return answer

    gate.alter = alter
    odd = {"n:Number.int": "7", "mark:Binary": "AP8=", "ünï": "ä"}
    results = put(place().backlog(), [item(n, attributes=odd if n == 0 else {}) for n in range(3)])
    assert [(r.ok, r.in_doubt) for r in results][1:] == [(False, True), (True, False)]


def test_a_body_that_does_not_fit_its_digest_is_a_problem(
        gate: SqsGate, place: Callable[..., Place]) -> None:
    """Quarantined, not moved on: it is not what the lender sent."""
    backlog = place().backlog()
    put(backlog, [item(1)])

    def alter(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        for message in answer.get("Messages", []):
            message["Body"] = message["Body"].replace("U0001", "U0007")
        return answer

    gate.alter = alter
    [found] = backlog.claim(1)
    assert found.item_id == "" and found.problem and "digest" in found.problem


@pytest.mark.parametrize("messages", [
    5, "x", {"a": 1}, [1], [{"Body": 5}], [{"Body": "{}", "MessageId": {}}],
    [{"Body": "{}", "Attributes": []}], [{"Body": "{}", "MessageAttributes": {"a": "x"}}],
    [{"Body": "{}", "MessageAttributes": {"a": {"DataType": 4}}}],
    [{"Body": "{}", "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "%"}}}],
    [{"Body": "{}", "Attributes": {"SentTimestamp": 5}}],
])
def test_messages_in_no_form_are_an_error(
        gate: SqsGate, place: Callable[..., Place], messages: object) -> None:
    """Whatever types a peer sends, a claim raises one of our two errors."""
    backlog = place().backlog(poll_seconds=0)
    gate.alter = lambda operation, answer: (
        {"Messages": messages} if operation == "ReceiveMessage" else answer)
    with pytest.raises(Rejected, match="makes no sense"):
        backlog.claim(1)


@pytest.mark.parametrize("answer", [
    {"Successful": 5}, {"Successful": [7]}, {"Successful": {"Id": "0"}}, {"Failed": "x"}, {},
    {"Successful": [{"Id": "77"}]}, {"Successful": [{"Id": ["0"]}]}, b"[]", b"nul", b"[" * 9000,
    {"Failed": [{"Id": "0", "Code": 7, "SenderFault": "yes"}]},
])
def test_receipts_in_no_form_are_doubts(
        gate: SqsGate, place: Callable[..., Place], answer: object) -> None:
    """A put is never ok by them, a settle never True, an extend never True."""
    backlog = place().backlog()
    assert put(backlog, [item(1)])[0].ok
    [claimed] = backlog.claim(1)
    gate.alter = lambda operation, right: answer
    [result] = put(backlog, [item(2)])
    assert (result.ok, result.in_doubt, result.permanent) == (False, True, False)
    assert backlog.settle([claimed.handle]) == {claimed.handle: False}
    try:
        assert backlog.extend([claimed.handle], 5) == {claimed.handle: False}
    except ProviderError as error:
        assert isinstance(error, Unavailable)


@pytest.mark.parametrize("name, answer", [
    ("GetQueueUrl", {"QueueUrl": 5}), ("GetQueueUrl", {}), ("GetQueueAttributes", {}),
    ("GetQueueAttributes", {"Attributes": [1]}),
    ("GetQueueAttributes", {"Attributes": {"ApproximateNumberOfMessages": "-1"}}),
])
def test_reads_in_no_form_are_errors(
        gate: SqsGate, place: Callable[..., Place], name: str, answer: object) -> None:
    """A queue without a URL or with counts that are none."""
    backlog = place().backlog()
    gate.alter = lambda operation, right: answer if operation == name else right
    with pytest.raises(ProviderError, match="makes no sense"):
        backlog.measure()


@pytest.mark.parametrize("attributes", [{"a": "\ud800"}, {"\udfff": "x"}, {"b": "x\x00"}])
def test_an_attribute_that_sqs_does_not_take_cannot_travel(
        place: Callable[..., Place], attributes: dict[str, str]) -> None:
    """A hostile source's half characters are that item's fault alone."""
    results = put(place().backlog(), [item(1), item(2, attributes=attributes), item(3)])
    assert [(r.ok, r.permanent) for r in results] == [(True, False), (False, True), (True, False)]


# --- credentials, regions -----------------------------------------------------------------------


def test_two_accounts_in_two_regions(gate: SqsGate, place: Callable[..., Place]) -> None:
    """Each provider signs for its own region with its own key, and items go from one to the
    other; two servers stand for two regions."""
    here = place()
    put(here.backlog(), [item(n) for n in range(25)])
    with start.roto(str(_roto())) as elsewhere, SqsGate(elsewhere) as far:
        other = Place(elsewhere, far, region="eu-central-1",
                      credentials={"key_id": "env:C", "secret": "env:B"})
        # The URL as the policy would have it, when both are written out.
        source, target = here.backlog(), other.backlog()
        items = source.claim(CLAIM)
        assert all(result.ok for result in put(target, list(items)))
        assert all(source.settle([one.handle for one in items]).values())
        assert (source.measure().depth, len(other.ids())) == (0, 25)
        other.provider.close()
        signed = {call.authorization.split(",")[0].split("/", 1)[0].partition("=")[2]
                  + "/" + call.authorization.split("/")[2] for call in far.calls}
        assert signed == {"KEYTWO/eu-central-1"}
    assert {"/us-east-1/sqs/aws4_request" in call.authorization and "KEYONE" in call.authorization
            for call in gate.calls} == {True}


def _roto() -> str:
    from tests.conftest import server_or_skip

    return server_or_skip("roto-server")


@pytest.mark.parametrize("url, region", [
    ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "eu-west-1"),
    ("https://eu-west-1.queue.amazonaws.com/123456789012/q", "eu-west-1"),
    ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
    ("https://sqs-fips.us-west-2.amazonaws.com/1/q", "us-west-2"),
    ("https://SQS.us-west-2.API.aws/1/q", "us-west-2"),
    ("https://vpce-1-ab.sqs.us-west-2.vpce.amazonaws.com/1/q", "us-west-2"),
])
def test_a_url_of_another_region_is_told(gate: SqsGate, url: str, region: str) -> None:
    """At the first use, before anything is sent: the service would only say that it knows no
    such queue."""
    jobs = provider(gate.port)
    for call in (jobs.backlog(LeverSpec("jobs", url)).measure,
                 lambda: jobs.backlog(LeverSpec("jobs", url)).claim(1)):
        with pytest.raises(Rejected, match=f"the queue is in {region}") as caught:
            call()
        assert caught.value.hint and region in caught.value.hint
    assert gate.calls == []
    jobs.close()


@pytest.mark.parametrize("host", ["sqs.us-east-1.amazonaws.com", "queue.amazonaws.com",
                                  "127.0.0.1:4566", "sqs.example"])
def test_a_url_of_the_same_region_or_of_no_region_is_used(
        gate: SqsGate, place: Callable[..., Place], host: str) -> None:
    """Whatever the URL's host, the call goes to the provider's endpoint."""
    queue = place()
    path = queue.url.split("/", 3)[3]
    seen = queue.provider.backlog(LeverSpec("jobs", f"https://{host}/{path}"))
    try:
        seen.measure()
    except Rejected as error:  # this server may want its own URL
        assert "NonExistentQueue" in error.what or "QueueDoesNotExist" in error.what
    assert gate.of("GetQueueAttributes")[0]["QueueUrl"] == f"https://{host}/{path}"


def test_refreshed_credentials_are_used_at_once(
        port: int, gate: SqsGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential process that gives short-lived keys: each request is signed with the newest."""
    script = tmp_path / "keys.py"
    script.write_text(
        "import json, pathlib\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "n = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(n))\n"
        "from datetime import datetime, timedelta, UTC\n"
        "end = datetime.now(UTC) + timedelta(minutes=12)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'TEMP{n}', 'SecretAccessKey': 's',\n"
        "                  'SessionToken': f'tok{n}', 'Expiration': end.isoformat()}))\n")
    config = tmp_path / "config"
    config.write_text(f"[profile lender]\ncredential_process = {sys.executable} {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    jobs = SqsProvider(
        ProviderSpec("jobs", "sqs", {"region": REGION, "profile": "lender",
                                     "endpoint_url": f"http://127.0.0.1:{gate.port}"}),
        resolve=lambda reference: "", runtime=SystemRuntime())
    queue = Place(port, gate)
    backlog = jobs.backlog(LeverSpec("jobs", queue.name))
    backlog.measure()
    backlog.measure()
    tokens = [call.token for call in gate.calls]
    assert len(set(tokens)) == len(tokens) == 3  # GetQueueUrl, and twice GetQueueAttributes
    for call in gate.calls:
        assert f"TEMP{(call.token or '').removeprefix('tok')}/" in call.authorization
    jobs.close()


def test_a_failing_credential_process_is_a_plain_refusal(
        gate: SqsGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys: nothing is sent, and a put says so of every item."""
    config = tmp_path / "config"
    config.write_text(f"[profile lender]\ncredential_process = {sys.executable} -c exit(3)\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    jobs = SqsProvider(
        ProviderSpec("jobs", "sqs", {"region": REGION, "profile": "lender",
                                     "endpoint_url": f"http://127.0.0.1:{gate.port}"}),
        resolve=lambda reference: "", runtime=SystemRuntime())
    backlog = jobs.backlog(LeverSpec("jobs", "q"))
    with pytest.raises(Rejected, match="no usable credentials"):
        backlog.claim(1)
    assert [(r.ok, r.in_doubt) for r in put(backlog, [item(1)])] == [(False, False)]
    assert gate.calls == []
    jobs.close()
