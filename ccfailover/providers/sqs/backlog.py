"""One SQS queue as a backlog."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.providers.params import seconds, texts
from ccfailover.providers.sqs.calls import Calls, Document
from ccfailover.providers.sqs.messages import (
    BATCH,
    MAX_BYTES,
    CannotTravel,
    Entry,
    decode,
    entry,
    size,
)
from ccfailover.providers.sqs.sending import Sending, shaped

CLAIM: Final = 100
"""Most items of one claim: ten calls, some of them side by side."""
_CLAIM_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 1
"""Long poll: a short one asks only some of the service's servers and may miss what is there."""
_MAX_VISIBILITY: Final = 43_200
_OLD_LIMIT: Final = 262_144
"""A queue whose own limit is at most this may stand on a server with the old batch limit."""
_MISSHAPEN: Final = (TypeError, ValueError, AttributeError, KeyError)
"""What reading a document raises when a peer sends other types."""
_SHOWN: Final = ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"]
_AWS_HOST: Final = re.compile(
    r"(?:.+\.)?(?:sqs(?:-fips)?\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)"
    r"(?:\.vpce)?(?:\.amazonaws\.com(?:\.cn)?|\.api\.aws)")


class SqsBacklog(Backlog):
    """Threads may share it. `lever.params`: `item` (policy's names → keys in the body),
    `max_item_bytes`, `claim_seconds`, `poll_seconds`."""

    batch = CLAIM

    def __init__(
        self, provider: str, lever: LeverSpec, connect: Callable[[], Calls], *,
        longest_poll: int,
    ) -> None:
        self._provider = provider
        self._ref = lever.ref
        self._connect = connect
        self._item = texts(lever.params.get("item"))
        largest = lever.params.get("max_item_bytes")
        self._max_item = largest if isinstance(largest, int) else _OLD_LIMIT
        self.claim_seconds = seconds(lever.params.get("claim_seconds"), _CLAIM_SECONDS)
        poll = lever.params.get("poll_seconds")
        # A call is given up after its time; a poll that lasts as long would look like a failure.
        self._poll_seconds = max(0, min(
            longest_poll, poll if isinstance(poll, int) else _POLL_SECONDS))
        self._name = lever.ref.split("?", 1)[0].rpartition("/")[2]
        self._fifo = lever.ref.endswith(".fifo")
        self._url: str | None = None
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
            return int(json.loads(str(raw))["maxReceiveCount"])
        except (ValueError, KeyError, TypeError):
            raise self._nonsense("RedrivePolicy has no maxReceiveCount") from None

    def check_writable(self) -> str:
        """Sends a batch of nothing: a service that lets us send refuses it as empty, one that
        does not refuses us. No message is made."""
        depth = self.measure().depth
        try:
            self._one("SendMessageBatch", {"Entries": []}, writes=False)
        except Rejected as refusal:
            if "EmptyBatchRequest" not in refusal.what:
                raise
        return f"readable (about {depth} waiting), and an empty batch got past the access check"

    def claim(self, limit: int) -> Sequence[WorkItem]:
        """At most `batch`. Waits for the first ten alone, as long as `poll_seconds`; only when
        they all came is there reason to ask for more, and then without waiting."""
        if limit < 1:
            return []
        first = min(limit, BATCH)
        items = self._items(self._one("ReceiveMessage", self._receive(first, self._poll_seconds)))
        rest = min(limit, CLAIM) - first
        if rest < 1 or len(items) < first:
            return items
        calls, url = self._ready("ReceiveMessage")
        wanted = [{"QueueUrl": url, **self._receive(min(BATCH, rest - start), 0)}
                  for start in range(0, rest, BATCH)]
        came: dict[int, list[WorkItem]] = {}
        for index, answer in calls.many("ReceiveMessage", wanted, self._name,
                                        enough=lambda answer: not answer.get("Messages")):
            # One that failed must not cost the others: what it may have hidden comes back by
            # itself, and a source that fails for long fails the next claim's first call.
            if not isinstance(answer, ProviderError):
                came[index] = self._items(answer, sound=False)
        return [*items, *(item for index in sorted(came) for item in came[index])]

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        hide = max(0, min(_MAX_VISIBILITY, math.ceil(seconds)))
        done, errors, heard = self._each("ChangeMessageVisibilityBatch", handles,
                                         {"VisibilityTimeout": hide})
        if errors and not heard:
            raise errors[0]
        return done

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """Never raises Unavailable: a source that died leaves its items not deleted (False).

        Deleting by the handle of a claim that has run out may say True and delete nothing;
        that is how the service is. Settle while the claim is young."""
        done, errors, heard = self._each("DeleteMessageBatch", handles, {})
        refusals = [error for error in errors if isinstance(error, Rejected)]
        if refusals and not heard:
            raise refusals[0]
        return done

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        """On a FIFO queue the items of one group go one after the other, each once the one before
        it is there (see `sending`)."""
        results: dict[int, PutResult] = {}
        entries: list[Entry] = []
        sizes: dict[str, int] = {}
        try:
            calls, url = self._ready("SendMessageBatch")
            largest = self._limit()
        except ProviderError as error:
            return [PutResult(item.item_id, ok=False, detail=str(error)) for item in items]
        for index, item in enumerate(items):
            try:
                if not item.item_id or item.item_id not in keys:
                    raise CannotTravel("it has no id or no delivery key")
                made = entry(item, keys[item.item_id], index, fifo=self._fifo)
                sizes[made["Id"]] = room = size(made)
                if room > largest:
                    raise CannotTravel(f"it has {room} bytes, this queue takes {largest}")
                entries.append(made)
            except CannotTravel as reason:
                results[index] = PutResult(item.item_id, ok=False, permanent=True,
                                           detail=str(reason))
        sending = Sending(
            calls, url, self._name, items, sizes, limit=max(_OLD_LIMIT, largest),
            plain_groups=self._plain_groups, fifo=self._fifo)
        results.update(sending.in_order(entries) if self._fifo else sending.all(entries))
        self._plain_groups = sending.plain_groups
        return [results[index] for index in range(len(items))]

    def _receive(self, most: int, wait: int) -> dict[str, object]:
        return {"MaxNumberOfMessages": most, "WaitTimeSeconds": wait,
                "VisibilityTimeout": min(_MAX_VISIBILITY, math.ceil(self.claim_seconds)),
                "MessageAttributeNames": ["All"], "MessageSystemAttributeNames": _SHOWN}

    def _items(self, answer: Document, *, sound: bool = True) -> list[WorkItem]:
        """`sound`: raise for what is no message; else leave its whole answer out."""
        try:
            return [decode(message, self._item, self._max_item)
                    for message in shaped(answer, "Messages")]
        except _MISSHAPEN:
            if not sound:
                return []
            raise self._nonsense("a message is not in SQS's form", "ReceiveMessage") from None

    def _each(
        self, operation: str, handles: Sequence[str], extra: Document
    ) -> tuple[dict[str, bool], list[ProviderError], bool]:
        """One of the batch operations on claimed messages: which handles it worked for, what went
        wrong, and whether any call was answered."""
        done = dict.fromkeys(handles, False)
        errors: list[ProviderError] = []
        if not handles:
            return done, errors, False
        try:
            calls, url = self._ready(operation)
        except ProviderError as error:
            return done, [error], False
        heard = False
        chunks = list(_chunks(handles))
        wanted = [{"QueueUrl": url, "Entries": [
            {"Id": str(index), "ReceiptHandle": handle, **extra}
            for index, handle in enumerate(chunk)]} for chunk in chunks]
        for index, answer in calls.many(operation, wanted, self._name):
            if isinstance(answer, ProviderError):
                errors.append(answer)
                continue
            try:
                good = {listed.get("Id") for listed in shaped(answer, "Successful")}
            except _MISSHAPEN:
                errors.append(self._unreadable(operation))
                continue
            done.update({handle: str(place) in good
                         for place, handle in enumerate(chunks[index])})
            heard = True
        return done, errors, heard

    def _limit(self) -> int:
        """The queue's own limit for one message; asked once."""
        if self._message_limit is None:
            found = self._attributes("MaximumMessageSize")
            raw = found.get("MaximumMessageSize")
            self._message_limit = (min(MAX_BYTES, self._number(found, "MaximumMessageSize"))
                                   if raw else _OLD_LIMIT)
        return self._message_limit

    def _attributes(self, *names: str) -> Document:
        answer = self._one("GetQueueAttributes", {"AttributeNames": list(names)})
        found = answer.get("Attributes") or {}
        if not isinstance(found, dict):
            raise self._unreadable("GetQueueAttributes", writes=False)
        return found

    def _number(self, found: Document, name: str) -> int:
        raw = found.get(name)
        if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) <= 12:
            return int(raw)
        raise self._nonsense(f"no number for {name}")

    def _nonsense(self, what: str, operation: str = "GetQueueAttributes") -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._provider,
                        where=f"{self._name} {operation}")

    def _unreadable(self, operation: str, *, writes: bool = True) -> Unavailable:
        return Unavailable("the reply makes no sense: not in SQS's form", in_doubt=writes,
                           provider=self._provider, where=f"{self._name} {operation}")

    def _one(self, operation: str, payload: Document, *, writes: bool | None = None) -> Document:
        calls, url = self._ready(operation)
        return calls.one(operation, {"QueueUrl": url, **payload}, self._name, writes=writes)

    def _ready(self, operation: str) -> tuple[Calls, str]:
        """The connection, and the queue's URL; looked up once where the policy has its name."""
        calls = self._connect()
        if self._url is None:
            if "://" in self._ref:
                self._check_region(calls.region, operation)
                self._url = self._ref
            else:
                found = calls.one("GetQueueUrl", {"QueueName": self._ref}, self._name)
                url = found.get("QueueUrl")
                if not isinstance(url, str):
                    raise self._unreadable("GetQueueUrl", writes=False)
                self._url = url
        return calls, self._url

    def _check_region(self, region: str, operation: str) -> None:
        """A queue of another region would be looked for, and not found, in the provider's own."""
        host = self._ref.split("://", 1)[1].split("/", 1)[0].split(":", 1)[0].lower()
        match = _AWS_HOST.fullmatch(host)
        if match is None or (named := match[1] or match[2]) == region:
            return
        raise Rejected(
            f"the queue is in {named}, and this provider is in {region}",
            provider=self._provider, where=f"{self._name} {operation}",
            not_done="nothing was sent",
            hint=f"add a provider with region: {named}, and name it in this backlog")


def _chunks(handles: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(handles), BATCH):
        yield handles[start:start + BATCH]
