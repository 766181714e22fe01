"""One SQS queue as a backlog."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.providers.params import seconds, texts
from ccfailover.providers.sqs.faults import THROTTLED, as_provider_error, shown_code
from ccfailover.providers.sqs.messages import (
    BATCH,
    MAX_BYTES,
    CannotTravel,
    decode,
    entry,
    size,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType
    from mypy_boto3_sqs.type_defs import (
        BatchResultErrorEntryTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

    Entry = SendMessageBatchRequestEntryTypeDef

T = TypeVar("T")
_CLAIM_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 1
"""Long poll: a short one asks only some of the service's servers and may miss what is there."""
_MAX_VISIBILITY: Final = 43_200
_OLD_LIMIT: Final = 262_144
"""A queue whose own limit is at most this may stand on a server with the old batch limit."""
_MISSHAPEN: Final = (TypeError, ValueError, AttributeError, KeyError)
"""What botocore's parser, and reading what it parsed, raise when a peer sends other types."""
_ITEM_FAULTS: Final = frozenset({
    "InvalidMessageContents", "InvalidParameterValue", "MessageAttributesInvalid",
    "InvalidAttributeValue",
    "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong",
    "AWS.SimpleQueueService.InvalidMessageContents", "InvalidParameterCombination",
})


class SqsBacklog(Backlog):
    """Threads may share it. `lever.params`: `item` (policy's names → keys in the body),
    `max_item_bytes`, `claim_seconds`, `poll_seconds`."""

    def __init__(
        self, provider: str, lever: LeverSpec, connect: Callable[[], SQSClient]
    ) -> None:
        self._provider = provider
        self._ref = lever.ref
        self._connect = connect
        self._item = texts(lever.params.get("item"))
        largest = lever.params.get("max_item_bytes")
        self._max_item = largest if isinstance(largest, int) else _OLD_LIMIT
        self.claim_seconds = seconds(lever.params.get("claim_seconds"), _CLAIM_SECONDS)
        poll = lever.params.get("poll_seconds")
        self._poll_seconds = poll if isinstance(poll, int) else _POLL_SECONDS
        self._fifo = lever.ref.endswith(".fifo")
        self._url: str | None = lever.ref if "://" in lever.ref else None
        self._message_limit: int | None = None
        self._plain_groups = True

    def measure(self) -> BacklogMeasure:
        """SQS says so itself: approximate, and up to a minute behind. It keeps no age."""
        found = self._attributes(
            "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        visible, hidden, delayed = (self._number(found, f"ApproximateNumberOfMessages{part}")
                                    for part in ("", "NotVisible", "Delayed"))
        return BacklogMeasure(visible, hidden + delayed, None)

    def max_receives(self) -> int | None:
        raw = self._attributes("RedrivePolicy").get("RedrivePolicy")
        if not raw:
            return None
        try:
            return int(json.loads(raw)["maxReceiveCount"])
        except (ValueError, KeyError, TypeError):
            raise self._nonsense("RedrivePolicy has no maxReceiveCount") from None

    def check_writable(self) -> str:
        """Sends a batch of nothing: a service that lets us send refuses it as empty, one that
        does not refuses us. No message is made."""
        depth = self.measure().depth
        try:
            self._call("SendMessageBatch", lambda sqs, url: sqs.send_message_batch(
                QueueUrl=url, Entries=[]), writes=False)
        except Rejected as refusal:
            if "EmptyBatchRequest" not in refusal.what:
                raise
        return f"readable (about {depth} waiting), and an empty batch got past the access check"

    def claim(self, limit: int) -> Sequence[WorkItem]:
        """At most ten, whatever `limit`: the service's own limit for one call."""
        if limit < 1:
            return []
        hide = min(_MAX_VISIBILITY, math.ceil(self.claim_seconds))
        reply = self._call("ReceiveMessage", lambda sqs, url: sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=min(limit, BATCH), VisibilityTimeout=hide,
            WaitTimeSeconds=self._poll_seconds, MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ), writes=True)
        try:
            return [decode(message, self._item, self._max_item)
                    for message in reply.get("Messages", [])]
        except _MISSHAPEN:
            raise self._nonsense("a message is not in SQS's form", "ReceiveMessage") from None

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        hide = max(0, min(_MAX_VISIBILITY, math.ceil(seconds)))
        done: dict[str, bool] = {}
        for chunk in _chunks(handles):
            try:
                done.update(self._hide(chunk, hide))
            except ProviderError:
                if not done:
                    raise
                done.update(dict.fromkeys(chunk, False))
        return done

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """Never raises Unavailable: a source that died leaves its items not deleted (False).

        Deleting by the handle of a claim that has run out may say True and delete nothing;
        that is how the service is. Settle while the claim is young."""
        done: dict[str, bool] = {}
        for chunk in _chunks(handles):
            try:
                done.update(self._delete(chunk))
            except ProviderError as error:
                if isinstance(error, Rejected) and not done:
                    raise
                done.update(dict.fromkeys(chunk, False))
        return done

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        results: dict[int, PutResult] = {}
        entries: list[Entry] = []
        try:
            largest = self._limit()
        except ProviderError as error:
            return [PutResult(item.item_id, ok=False, detail=str(error)) for item in items]
        for index, item in enumerate(items):
            try:
                if not item.item_id or item.item_id not in keys:
                    raise CannotTravel("it has no id or no delivery key")
                made = entry(item, keys[item.item_id], index, fifo=self._fifo)
                if size(made) > largest:
                    raise CannotTravel(f"it has {size(made)} bytes, this queue takes {largest}")
                entries.append(made)
            except CannotTravel as reason:
                results[index] = PutResult(item.item_id, ok=False, permanent=True,
                                           detail=str(reason))
        for batch in _batches(entries, max(_OLD_LIMIT, largest)):
            for index, result in self._send(batch, items).items():
                results[index] = result
        return [results[index] for index in range(len(items))]

    def _hide(self, chunk: Sequence[str], seconds: int) -> dict[str, bool]:
        reply = self._call(
            "ChangeMessageVisibilityBatch",
            lambda sqs, url: sqs.change_message_visibility_batch(QueueUrl=url, Entries=[
                {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for index, handle in enumerate(chunk)]),
            writes=True)
        return _which(chunk, reply.get("Successful", []))

    def _delete(self, chunk: Sequence[str]) -> dict[str, bool]:
        reply = self._call(
            "DeleteMessageBatch",
            lambda sqs, url: sqs.delete_message_batch(QueueUrl=url, Entries=[
                {"Id": str(index), "ReceiptHandle": handle}
                for index, handle in enumerate(chunk)]),
            writes=True)
        return _which(chunk, reply.get("Successful", []))

    def _send(self, batch: list[Entry], items: Sequence[WorkItem]) -> dict[int, PutResult]:
        if not self._plain_groups and not self._fifo:
            for made in batch:
                made.pop("MessageGroupId", None)
        try:
            reply = self._call("SendMessageBatch", lambda sqs, url: sqs.send_message_batch(
                QueueUrl=url, Entries=batch), writes=True)
        except Rejected as refusal:
            return self._refused(batch, items, refusal)
        except Unavailable as error:
            return {int(made["Id"]): PutResult(
                items[int(made["Id"])].item_id, ok=False, in_doubt=error.in_doubt,
                detail=str(error)) for made in batch}
        by_id = {made["Id"]: items[int(made["Id"])].item_id for made in batch}
        results = {name: PutResult(item_id, ok=False, in_doubt=True,
                                   detail="the reply does not mention it")
                   for name, item_id in by_id.items()}
        for sent in reply.get("Successful", []):
            if sent.get("Id") in by_id:
                results[sent["Id"]] = PutResult(by_id[sent["Id"]], ok=True,
                                                target_ref=sent.get("MessageId"))
        for failed in reply.get("Failed", []):
            if failed.get("Id") in by_id:
                results[failed["Id"]] = _failed(by_id[failed["Id"]], failed)
        return {int(name): result for name, result in results.items()}

    def _refused(
        self, batch: list[Entry], items: Sequence[WorkItem], refusal: Rejected
    ) -> dict[int, PutResult]:
        """A batch refused as a whole, nothing of it sent: find out whose fault it is."""
        blames_item = any(f"({code})" in refusal.what for code in _ITEM_FAULTS)
        grouped = not self._fifo and any("MessageGroupId" in made for made in batch)
        if blames_item and grouped and self._plain_groups:
            # Servers older than fair queues take no group on a standard queue.
            self._plain_groups = False
            return self._send(batch, items)
        if blames_item and len(batch) > 1:
            results: dict[int, PutResult] = {}
            for made in batch:
                results.update(self._send([made], items))
            return results
        return {int(made["Id"]): PutResult(
            items[int(made["Id"])].item_id, ok=False, permanent=blames_item,
            detail=str(refusal)) for made in batch}

    def _limit(self) -> int:
        """The queue's own limit for one message; asked once."""
        if self._message_limit is None:
            found = self._attributes("MaximumMessageSize")
            raw = found.get("MaximumMessageSize")
            self._message_limit = (min(MAX_BYTES, self._number(found, "MaximumMessageSize"))
                                   if raw else _OLD_LIMIT)
        return self._message_limit

    def _attributes(self, *names: QueueAttributeNameType) -> dict[str, str]:
        reply = self._call("GetQueueAttributes", lambda sqs, url: sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=list(names)), writes=False)
        return {str(name): value for name, value in reply.get("Attributes", {}).items()}

    def _number(self, found: Mapping[str, str], name: str) -> int:
        raw = found.get(name)
        if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) <= 12:
            return int(raw)
        raise self._nonsense(f"no number for {name}")

    def _nonsense(self, what: str, operation: str = "GetQueueAttributes") -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._provider,
                        where=self._where(operation))

    def _where(self, operation: str) -> str:
        return f"{self._ref.split('?', 1)[0].rpartition('/')[2]} {operation}"

    def _call(
        self, operation: str, call: Callable[[SQSClient, str], T], *, writes: bool
    ) -> T:
        """One call, its errors turned into ours. `writes`: a lost reply leaves doubt."""
        from botocore.exceptions import BotoCoreError, ClientError

        where = self._where(operation)
        try:
            client = self._connect()
            if self._url is None:
                self._url = client.get_queue_url(QueueName=self._ref)["QueueUrl"]
        except (BotoCoreError, ClientError, KeyError) as error:
            raise as_provider_error(error, self._provider, where, writes=False) from None
        try:
            return call(client, self._url)
        except (BotoCoreError, ClientError) as error:
            raise as_provider_error(error, self._provider, where, writes=writes) from None
        except _MISSHAPEN:
            raise Unavailable("the reply makes no sense: not in SQS's form", in_doubt=writes,
                              provider=self._provider, where=where) from None


def _chunks(handles: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(handles), BATCH):
        yield handles[start:start + BATCH]


def _batches(entries: Sequence[Entry], limit: int) -> Iterator[list[Entry]]:
    """At most ten entries and `limit` bytes a batch, in order."""
    batch: list[Entry] = []
    total = 0
    for made in entries:
        if batch and (len(batch) == BATCH or total + size(made) > limit):
            yield batch
            batch, total = [], 0
        batch.append(made)
        total += size(made)
    if batch:
        yield batch


def _failed(item_id: str, failed: BatchResultErrorEntryTypeDef) -> PutResult:
    """A single refusal inside a batch: the sender's fault is the item's for good."""
    ours, code = failed.get("SenderFault") is True, str(failed.get("Code", ""))
    return PutResult(item_id, ok=False, permanent=ours,
                     in_doubt=not ours and code not in THROTTLED,
                     detail=f"refused ({shown_code(code)})")


def _which(chunk: Sequence[str], successful: Sequence[Mapping[str, object]]) -> dict[str, bool]:
    """Which handles of a batch the reply calls successful."""
    good = {listed.get("Id") for listed in successful}
    return {handle: str(index) in good for index, handle in enumerate(chunk)}
