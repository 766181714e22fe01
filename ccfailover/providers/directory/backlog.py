"""One folder of files as a backlog."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from ccfailover.errors import ProviderError, Unavailable
from ccfailover.model.items import Acknowledged, PutResult, Receipt, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.providers.directory.files import Files
from ccfailover.providers.directory.folder import Folder
from ccfailover.providers.directory.holding import Holding
from ccfailover.providers.directory.reading import Reading
from ccfailover.providers.directory.receipts import Receipts
from ccfailover.providers.directory.sending import Parcel, Sending, Sent
from ccfailover.providers.params import seconds, texts
from ccfailover.runtime import Runtime

BATCH: Final = 200
MAX_ITEM_BYTES: Final = 16 * 1024 * 1024
BATCH_BYTES: Final = 32 * 1024 * 1024
"""Bodies held in memory at a time, apart from the one that goes beyond it."""
_LARGEST: Final = 262_144
_CLAIM_SECONDS: Final = 120.0
_ACK_SECONDS: Final = 30.0


class DirectoryBacklog(Backlog):
    """Threads may share it."""

    batch = BATCH

    def __init__(self, provider: str, lever: LeverSpec, connect: Callable[[], Files],
                 runtime: Runtime) -> None:
        params = lever.params
        most, largest = params.get("max_receives"), params.get("max_item_bytes")
        self.claim_seconds = seconds(params.get("claim_seconds"), _CLAIM_SECONDS)
        self._most = most if isinstance(most, int) else None
        self._acknowledged = params.get("acknowledge") == "accepted"
        self._ack_seconds = seconds(params.get("acknowledge_within"), _ACK_SECONDS)
        self._runtime = runtime
        self._folder = Folder(provider, lever.ref, connect, runtime)
        self._sending = Sending(self._folder)
        self._holding = Holding(self._folder, self._most)
        self._reading = Reading(self._folder, texts(params.get("item")),
                                largest if isinstance(largest, int) else _LARGEST)
        self._receipts = Receipts(self._folder, self._sending)

    def measure(self) -> BacklogMeasure:
        with self._folder.asked("measure", writes=False) as files:
            return self._holding.measure(files)

    def max_receives(self) -> int | None:
        return self._most

    def check_writable(self) -> str:
        """Makes and removes an empty folder and a mark beside the items; no item is written."""
        depth = self.measure().depth
        with self._folder.asked("put", writes=False) as files:
            self._sending.prove(files)
        return f"readable ({depth} waiting), and marks and renames work there"

    def claim(self, limit: int) -> Sequence[WorkItem]:
        if limit < 1:
            return []
        with self._folder.asked("claim", writes=True) as files:
            taken = self._holding.take(files, min(limit, BATCH), self.claim_seconds,
                                       most_bytes=BATCH_BYTES, readable=self._reading.most_bytes)
            read = files.each(lambda pair: self._reading.item(files, *pair), taken)
        return [item for item in read if item is not None]

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        if not handles:
            return {}
        with self._folder.asked("extend", writes=True) as files:
            return self._holding.extend(files, handles, seconds)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """Never raises Unavailable: a source that died leaves its items not deleted (False)."""
        if not handles:
            return {}
        try:
            with self._folder.asked("settle", writes=True) as files:
                return self._holding.settle(files, handles)
        except Unavailable:
            return dict.fromkeys(handles, False)

    def receipts(self, keys: Sequence[str]) -> Mapping[str, Receipt]:
        with self._folder.asked("receipts", writes=False) as files:
            return self._receipts.of(files, keys)

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        results: dict[int, PutResult] = {}
        good: dict[str, list[int]] = {}
        for index, item in enumerate(items):
            reason = _cannot_travel(item, keys)
            if reason:
                results[index] = PutResult(item.item_id, ok=False, permanent=True, detail=reason)
            else:
                good.setdefault(keys[item.item_id], []).append(index)
        parcels = [Parcel(items[indices[0]], key) for key, indices in good.items()]
        for batch in _batches(parcels):
            for key, result in self._send(batch).items():
                results.update(dict.fromkeys(good[key], result))
        return [results[index] for index in range(len(items))]

    def _send(self, batch: Sequence[Parcel]) -> Mapping[str, PutResult]:
        try:
            sent = self._sending.send(batch)
        except ProviderError as error:
            doubt = isinstance(error, Unavailable) and error.in_doubt
            return {each.key: PutResult(each.item.item_id, ok=False, in_doubt=doubt,
                                        detail=str(error)) for each in batch}
        said = self._wait(sent) if self._acknowledged else {}
        return {each.key: self._result(each, sent[each.key], said.get(each.key))
                for each in batch}

    def _result(self, parcel: Parcel, sent: Sent, receipt: Receipt | None) -> PutResult:
        item_id, ref = parcel.item.item_id, f"{sent.batch}/{sent.file}"
        if not self._acknowledged or (receipt and receipt.state is Acknowledged.ACCEPTED):
            return PutResult(item_id, ok=True, target_ref=ref)
        if receipt and receipt.state is Acknowledged.REJECTED:
            return PutResult(item_id, ok=False, permanent=True, target_ref=ref,
                             detail=f"the receiver rejects it: {receipt.reason}")
        return PutResult(item_id, ok=False, in_doubt=True, target_ref=ref,
                         detail="it is there, and the receiver has not acknowledged it yet")

    def _wait(self, sent: Mapping[str, Sent]) -> Mapping[str, Receipt]:
        """What the receiver says within the time for it; a look that fails is a look in vain."""
        batches: dict[str, list[str]] = {}
        for key, where in sent.items():
            batches.setdefault(where.batch, []).append(key)
        end, pause = self._runtime.monotonic() + self._ack_seconds, 0.05
        found: Mapping[str, Receipt] = {}
        while True:
            try:
                with self._folder.asked("receipts", writes=False) as files:
                    found = self._receipts.of_batches(files, batches)
            except ProviderError:
                found = dict(found)
            left = end - self._runtime.monotonic()
            if left <= 0 or (found and all(
                    each.state is not Acknowledged.WAITING for each in found.values())):
                return found
            self._runtime.sleep(min(pause, left))
            pause = min(2.0, pause * 2)


def _cannot_travel(item: WorkItem, keys: Mapping[str, str]) -> str:
    if not item.item_id or item.item_id not in keys:
        return "it has no id or no delivery key"
    if not item.body:
        return "its body is empty"
    if len(item.body) > MAX_ITEM_BYTES:
        return f"it has {len(item.body)} bytes, more than {MAX_ITEM_BYTES}"
    return ""


def _batches(parcels: Sequence[Parcel]) -> Iterator[list[Parcel]]:
    batch: list[Parcel] = []
    weight = 0
    for parcel in parcels:
        if batch and (len(batch) == BATCH or weight + len(parcel.item.body) > BATCH_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(parcel)
        weight += len(parcel.item.body)
    if batch:
        yield batch
