"""Sending a batch of any size to one queue: what goes together, what waits, what came of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.providers.sqs.calls import Calls, Document
from ccfailover.providers.sqs.faults import THROTTLED, shown_code
from ccfailover.providers.sqs.messages import BATCH, Entry, same_content

_ITEM_FAULTS: Final = frozenset({
    "InvalidMessageContents", "InvalidParameterValue", "MessageAttributesInvalid",
    "InvalidAttributeValue",
    "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong",
    "AWS.SimpleQueueService.InvalidMessageContents", "InvalidParameterCombination",
})
NOT_SENT: Final = "not sent: the platform does not answer"
HELD_BACK: Final = "held back: an earlier one of its group is not there yet"


class Sending:
    """One put. `sizes`: bytes by entry's Id; `limit`: bytes of one batch. `plain_groups` turns
    False when a standard queue refuses groups; then they are left off."""

    def __init__(
        self, calls: Calls, url: str, queue: str, items: Sequence[WorkItem],
        sizes: Mapping[str, int], *, limit: int, plain_groups: bool, fifo: bool,
    ) -> None:
        self._calls, self._url, self._queue = calls, url, queue
        self._items, self._sizes = items, sizes
        self._limit = limit
        self._fifo = fifo
        self.plain_groups = plain_groups

    def all(self, entries: Sequence[Entry]) -> dict[int, PutResult]:
        """By place in the put; side by side, in no order."""
        return self._send(list(self._batches(entries)))

    def in_order(self, entries: Sequence[Entry]) -> dict[int, PutResult]:
        """No entry of a group overtakes another.

        The entries of one batch succeed and fail one by one, so a batch has one of each group,
        and the next one of a group is sent once the one before it is there, or never will be. What
        follows a failed one is held back: neither sent nor in doubt.
        """
        lanes: dict[str, deque[Entry]] = {}
        for made in entries:
            lanes.setdefault(made["MessageGroupId"], deque()).append(made)
        results: dict[int, PutResult] = {}
        while lanes:
            sent = self._send(list(self._batches(lane[0] for lane in lanes.values())))
            results.update(sent)
            for group, lane in list(lanes.items()):
                result = sent[int(lane.popleft()["Id"])]
                if not (result.ok or result.permanent):
                    results.update({int(made["Id"]): self._failed(made, HELD_BACK)
                                    for made in lane})
                    lane.clear()
                if not lane:
                    del lanes[group]
        return results

    def _batches(self, entries: Iterable[Entry]) -> Iterator[list[Entry]]:
        """At most ten entries and `limit` bytes a batch, in order."""
        batch: list[Entry] = []
        total = 0
        for made in entries:
            room = self._sizes[made["Id"]]
            if batch and (len(batch) == BATCH or total + room > self._limit):
                yield batch
                batch, total = [], 0
            batch.append(made)
            total += room
        if batch:
            yield batch

    def _send(self, batches: Sequence[list[Entry]]) -> dict[int, PutResult]:
        if not self.plain_groups and not self._fifo:
            for batch in batches:
                for made in batch:
                    made.pop("MessageGroupId", None)
        results: dict[int, PutResult] = {}
        refused: list[tuple[list[Entry], Rejected]] = []
        wanted = [{"QueueUrl": self._url, "Entries": batch} for batch in batches]
        for index, answer in self._calls.many("SendMessageBatch", wanted, self._queue):
            batch = batches[index]
            if isinstance(answer, Rejected):
                refused.append((batch, answer))
            elif isinstance(answer, ProviderError):
                doubt = not isinstance(answer, Unavailable) or answer.in_doubt
                results.update({int(made["Id"]): self._failed(made, str(answer), in_doubt=doubt)
                                for made in batch})
            else:
                results.update(self._told(batch, answer))
        for batch, refusal in refused:
            results.update(self._refused(batch, refusal))
        for batch in batches:
            for made in batch:
                if int(made["Id"]) not in results:
                    results[int(made["Id"])] = self._failed(made, NOT_SENT)
        return results

    def _told(self, batch: Sequence[Entry], answer: Document) -> dict[int, PutResult]:
        """What the reply says of each; whatever it does not say in SQS's form is in doubt."""
        by_id = {made["Id"]: made for made in batch}
        told: dict[str, PutResult] = {}
        try:
            for name, meaning in (("Successful", self._there), ("Failed", self._not_there)):
                for one in shaped(answer, name):
                    made = by_id.get(str(one.get("Id")))
                    if made is not None:
                        told[made["Id"]] = meaning(made, one)
        except TypeError:
            told = {}
        silent = "the reply does not mention it in SQS's form"
        return {int(name): told.get(name) or self._failed(made, silent, in_doubt=True)
                for name, made in by_id.items()}

    def _there(self, made: Entry, sent: Mapping[str, object]) -> PutResult:
        if not same_content(made, sent):
            return self._failed(made, "the platform's digest is of something else", in_doubt=True)
        ref = sent.get("MessageId")
        return PutResult(self._item_id(made), ok=True,
                         target_ref=ref if isinstance(ref, str) else None)

    def _not_there(self, made: Entry, failed: Mapping[str, object]) -> PutResult:
        """A single refusal inside a batch: the sender's fault is the item's for good."""
        ours, code = failed.get("SenderFault") is True, str(failed.get("Code", ""))
        throttled = code in THROTTLED
        return self._failed(made, f"refused ({shown_code(code)})", permanent=ours,
                            in_doubt=not ours and not throttled)

    def _refused(self, batch: list[Entry], refusal: Rejected) -> dict[int, PutResult]:
        """A batch refused as a whole, nothing of it sent: find out whose fault it is."""
        blames_item = any(f"({code})" in refusal.what for code in _ITEM_FAULTS)
        grouped = not self._fifo and any("MessageGroupId" in made for made in batch)
        if blames_item and grouped:
            # Servers older than fair queues take no group on a standard queue.
            self.plain_groups = False
            return self._send([batch])
        if blames_item and len(batch) > 1:
            return self._send([[made] for made in batch])
        return {int(made["Id"]): self._failed(made, str(refusal), permanent=blames_item)
                for made in batch}

    def _failed(self, made: Entry, why: str, *, in_doubt: bool = False,
                permanent: bool = False) -> PutResult:
        return PutResult(self._item_id(made), ok=False, in_doubt=in_doubt, permanent=permanent,
                         detail=why)

    def _item_id(self, made: Entry) -> str:
        return self._items[int(made["Id"])].item_id


def shaped(answer: Document, name: str) -> list[dict[str, object]]:
    """A list of objects in an answer, empty when it has none. Raises TypeError for other things."""
    found = answer.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise TypeError(f"{name} is no list of objects")
    return found
