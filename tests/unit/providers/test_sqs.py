"""SQS's traps: limits, ids, attributes, older servers, and errors told by their codes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.sqs import SqsProvider
from ccfailover.providers.sqs.faults import as_provider_error
from ccfailover.providers.sqs.messages import MAX_ITEM_BYTES, CannotTravel, decode, entry, size
from ccfailover.runtime import SystemRuntime
from tests.servers import start


def item(item_id: str = "U1", **how: Any) -> WorkItem:
    return WorkItem(**{"item_id": item_id, "message_id": "m", "fields": {}, "handle": "",
                       "body": b'{"id": "%s"}' % item_id.encode(), **how})


@pytest.mark.parametrize("key", ["U1:r7-ab12:1", "x" * 128])
def test_a_short_key_is_the_deduplication_id_itself(key: str) -> None:
    """Readable in the platform's console as long as SQS takes it."""
    made = entry(item(), key, 0, fifo=True)
    assert made["MessageDeduplicationId"] == key
    assert made["MessageGroupId"] == "U1"


@pytest.mark.parametrize("key", ["x" * 129, "a b", "naïve", "line\nbreak"])
def test_other_keys_are_digested(key: str) -> None:
    """More than 128 characters, or ones that SQS refuses: a digest, the same on every attempt."""
    made = entry(item(), key, 0, fifo=True)
    assert made["MessageDeduplicationId"] == hashlib.sha256(key.encode()).hexdigest()


def test_a_standard_queue_gets_no_deduplication_id() -> None:
    """It would refuse one; a group is kept there (fair queues), and only if there was one."""
    assert "MessageDeduplicationId" not in entry(item(), "k", 0, fifo=False)
    assert "MessageGroupId" not in entry(item(), "k", 0, fifo=False)
    grouped = item(attributes={":group": "branch-417"})
    assert entry(grouped, "k", 0, fifo=False)["MessageGroupId"] == "branch-417"
    assert entry(grouped, "k", 0, fifo=True)["MessageGroupId"] == "branch-417"


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"a\x00b", b"a\x0bb", "\ufffe".encode()])
def test_a_body_that_sqs_does_not_take_cannot_travel(body: bytes) -> None:
    """Found before a batch is sent, because SQS refuses the whole batch for it."""
    with pytest.raises(CannotTravel):
        entry(item(body=body), "k", 0, fifo=False)


def test_attributes_are_never_dropped_for_want_of_room() -> None:
    """Ten is the limit with our four: six of the sender's travel, a seventh is an error."""
    six = {f"a{n}": "x" for n in range(6)}
    assert len(entry(item(submitted="t", attributes=six), "k", 0,
                     fifo=False)["MessageAttributes"]) == 10
    with pytest.raises(CannotTravel, match="room for 6"):
        entry(item(submitted="t", attributes={**six, "a7": "x"}), "k", 0, fifo=False)


def test_ours_win_over_attributes_of_the_same_name() -> None:
    """A message cannot fake its hop count or id by carrying ours."""
    made = entry(item(hops=2, attributes={"ccf-hops": "0", "ccf-item-id:Number": "9"}), "k", 0,
                 fifo=False)
    assert made["MessageAttributes"]["ccf-hops"]["StringValue"] == "2"
    assert made["MessageAttributes"]["ccf-item-id"]["StringValue"] == "U1"


def test_size_counts_bytes_of_body_and_attributes() -> None:
    """As SQS counts: name, type and value of every attribute, in bytes, not characters."""
    made = entry(item(body="ä".encode() * 10, attributes={"é": "ü"}), "k", 0, fifo=False)
    del made["MessageAttributes"]["ccf-item-id"], made["MessageAttributes"]["ccf-key"]
    del made["MessageAttributes"]["ccf-hops"]
    assert size(made) == 20 + 2 + len("String") + 2


@pytest.mark.parametrize("hops, receives, wanted", [
    ("3", "2", (3, 2)), ("", "", (0, 1)), ("-1", "x", (0, 1)), ("9" * 50, "٣", (0, 1)),
])
def test_counts_from_outside_are_bounded(
        hops: str, receives: str, wanted: tuple[int, int]) -> None:
    """Hop and receive counts that are no plain numbers count as absent."""
    message: Any = {"Body": '{"id": "U1"}', "MessageId": "m", "ReceiptHandle": "h",
                    "Attributes": {"ApproximateReceiveCount": receives},
                    "MessageAttributes": {"ccf-hops": {"DataType": "String",
                                                       "StringValue": hops}}}
    found = decode(message, {}, 1000)
    assert (found.hops, found.receives) == wanted


def test_the_time_of_sending_stands_in_for_a_missing_date() -> None:
    """SentTimestamp is milliseconds; the original time is shown in UTC."""
    message: Any = {"Body": '{"id": "U1"}', "Attributes": {"SentTimestamp": "1700000000123"}}
    assert decode(message, {}, 1000).submitted == "2023-11-14T22:13:20.123Z"


def client_error(code: str, status: int = 400, **headers: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "token=5ecret"}, "ResponseMetadata": {
        "HTTPStatusCode": status, "HTTPHeaders": headers}}, "SendMessage")  # type: ignore[typeddict-item]


@pytest.mark.parametrize("error, kind, text", [
    (client_error("AccessDenied", 403), Rejected, "refused (AccessDenied)"),
    (client_error("SignatureDoesNotMatch", 403), Rejected, "refused (SignatureDoesNotMatch)"),
    (client_error("AWS.SimpleQueueService.NonExistentQueue"), Rejected, "NonExistentQueue"),
    (client_error("<b>5ecret</b>"), Rejected, "refused (?)"),
    (client_error("ThrottlingException"), Unavailable, "throttled"),
    (client_error("OverLimit"), Unavailable, "throttled"),
    (client_error("Whatever", 429), Unavailable, "throttled"),
    (client_error("InternalError", 500), Unavailable, "replied 500"),
    (NoCredentialsError(), Rejected, "no usable credentials"),
    (NoRegionError(), Rejected, "no region"),
])
def test_errors_are_told_by_their_code(error: Exception, kind: type, text: str) -> None:
    """Permanent or transient; the message of the service, which may quote secrets, is not shown."""
    found = as_provider_error(error, "jobs", "hq", writes=True)
    assert type(found) is kind
    assert text in str(found)
    assert "5ecret" not in repr(found.to_json())
    if isinstance(found, Unavailable):
        assert found.in_doubt is ("500" in text)


def test_retry_after_is_handed_on() -> None:
    """A throttled call says when to come back, if the service did."""
    found = as_provider_error(client_error("SlowDown", 503, **{"retry-after": "9"}), "jobs", "hq",
                              writes=True)
    assert isinstance(found, Unavailable) and found.retry_after == 9.0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    from tests.conftest import server_or_skip

    with start.roto(server_or_skip("roto-server")) as port:
        yield port


@pytest.fixture
def queue(port: int, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`queue(name, **attributes)` makes one, and gives its backlog and a way to count."""

    def make(name: str, **attributes: str) -> Any:
        client = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}",
                              region_name="us-east-1", aws_access_key_id="x",
                              aws_secret_access_key="y")
        client.create_queue(QueueName=name, Attributes=attributes)
        provider = SqsProvider(
            ProviderSpec("jobs", "sqs", {
                "region": "us-east-1", "endpoint_url": f"http://127.0.0.1:{port}",
                "credentials": {"key_id": "env:A", "secret": "env:B"}}),
            resolve={"env:A": "x", "env:B": "y"}.__getitem__, runtime=SystemRuntime())
        request.addfinalizer(provider.close)
        return provider.backlog(LeverSpec("jobs", name, {"max_item_bytes": MAX_ITEM_BYTES}))

    return make


def test_a_batch_over_the_byte_limit_is_split(queue: Callable[..., Any]) -> None:
    """Ten items of 100 kB are more than a server with the old 256 KiB limit takes at once."""
    backlog = queue("big")
    items = [item(f"U{n}", body=b"x" * 100_000) for n in range(10)]
    results = backlog.put(items, keys={i.item_id: i.item_id for i in items})
    assert all(result.ok for result in results)
    assert backlog.measure().visible == 10


def test_an_item_over_the_queue_s_own_limit_fails_alone(queue: Callable[..., Any]) -> None:
    """The queue's MaximumMessageSize decides, and the neighbours arrive."""
    backlog = queue("small", MaximumMessageSize="1024")
    items = [item("U1"), item("U2", body=b"x" * 1100), item("U3")]
    results = backlog.put(items, keys={i.item_id: i.item_id for i in items})
    assert [(r.ok, r.permanent) for r in results] == [(True, False), (False, True), (True, False)]
    assert "1024" in results[1].detail


def test_a_server_without_fair_queues_still_gets_the_items(queue: Callable[..., Any]) -> None:
    """A group on a standard queue is refused by older servers: then it goes without."""
    backlog = queue("old")
    items = [item("U1", attributes={":group": "b1"}), item("U2")]
    for _ in range(2):
        assert all(r.ok for r in backlog.put(items, keys={"U1": "k1", "U2": "k2"}))
    assert backlog.measure().visible == 4


@pytest.mark.parametrize("attribute", ["n:Weird", "a b!"])
def test_what_the_server_refuses_as_a_whole_is_sent_one_by_one(
        queue: Callable[..., Any], attribute: str) -> None:
    """An attribute that only the server can judge spoils its own item and no other."""
    backlog = queue(f"picky{len(attribute)}")
    items = [item("U1"), item("U2", attributes={attribute: "x"}), item("U3")]
    results = backlog.put(items, keys={i.item_id: i.item_id for i in items})
    assert [(r.ok, r.permanent) for r in results] == [(True, False), (False, True), (True, False)]
    assert backlog.measure().visible == 2


def test_the_queue_s_url_may_stand_in_the_policy(port: int, queue: Callable[..., Any]) -> None:
    """`ref` is a name or a URL; a URL is used as it is, and only its last part is shown."""
    queue("named")
    provider = SqsProvider(
        ProviderSpec("jobs", "sqs", {"region": "us-east-1",
                                     "credentials": {"key_id": "env:A", "secret": "env:A"},
                                     "endpoint_url": f"http://127.0.0.1:{port}"}),
        resolve=lambda reference: "x", runtime=SystemRuntime())
    url = f"http://127.0.0.1:{port}/123456789012/named"
    assert provider.backlog(LeverSpec("jobs", url)).measure().depth == 0
    with pytest.raises(Rejected) as caught:
        provider.backlog(LeverSpec("jobs", url + "-not")).measure()
    assert "123456789012" not in str(caught.value) and "named-not" in str(caught.value)
    provider.close()


def test_without_credentials_nothing_is_sent(port: int) -> None:
    """No credentials anywhere: a plain sentence and what to do."""
    provider = SqsProvider(
        ProviderSpec("jobs", "sqs", {"region": "us-east-1",
                                     "endpoint_url": f"http://127.0.0.1:{port}"}),
        resolve=lambda reference: "", runtime=SystemRuntime())
    with pytest.raises(Rejected, match="no usable credentials") as caught:
        provider.backlog(LeverSpec("jobs", "q")).measure()
    assert caught.value.hint
