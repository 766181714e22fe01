"""Putting messages into one queue: mandatory, persistent, and confirmed by the broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import RLock
from typing import Final

from ccfailover.errors import ProviderError, Rejected
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.providers.rabbitmq import faults, messages, wire
from ccfailover.providers.rabbitmq.link import ROOM, Link
from ccfailover.runtime import Runtime

WINDOW: Final = 1000
"""Messages on their way without a confirm."""
WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Beside one item that is larger by itself."""
FULL: Final = "the queue does not take it (nack): it has reached its limit"
NO_QUEUE: Final = "there is no such queue: the broker gave it back"
_BESIDE: Final = 512
"""Bytes of headers and frames beside a body, roughly."""
_TAKEN, _REFUSED = 1, 2
_ITEMS_FAULT: Final = frozenset({311, 406})
"""Reply codes by which a broker refuses a message: larger than it takes, or not to its liking. It
ends the channel, and does not say which message it was."""

Pair = tuple[int, WorkItem]


class Puts:
    """Threads may share it. A link of its own: a broker short of memory stops reading from
    connections that publish, and claims must not stand still with them."""

    def __init__(self, queue: str, connect: Callable[[], Link], runtime: Runtime, *,
                 provider: str, timeout: float) -> None:
        self._connect, self._runtime = connect, runtime
        self._provider, self._where, self._timeout = provider, f"{queue} put", timeout
        self._head = wire.publish(queue)
        self._lock = RLock()
        self._link: Link | None = None
        self._next = 1
        self._careful = False
        """The broker has ended a window for one message of it: one at a time shows which."""

    def put(self, items: Sequence[WorkItem], keys: Mapping[str, str]) -> list[PutResult]:
        results: dict[int, PutResult] = {}
        window: list[Pair] = []
        size = 0
        with self._lock:
            most, self._careful = 1 if self._careful else WINDOW, False
            for index, item in enumerate(items):
                if not item.item_id or item.item_id not in keys:
                    results[index] = _never(item, "it has no id or no delivery key")
                    continue
                weight = len(item.body) + _BESIDE
                if window and (len(window) == most or size + weight > WINDOW_BYTES):
                    results.update(self._send(window, keys))
                    window, size = [], 0
                window.append((index, item))
                size += weight
            if window:
                results.update(self._send(window, keys))
        return [results[index] for index in range(len(items))]

    def check(self) -> None:
        """Raises ProviderError when the broker takes no messages from us. None is made."""
        with self._lock:
            self._ready()

    def close(self, seconds: float) -> None:
        with self._lock:
            link, self._link = self._link, None
            if link is not None:
                link.close(seconds)

    # --- one window ----------------------------------------------------------------------------

    def _send(self, window: Sequence[Pair], keys: Mapping[str, str]) -> dict[int, PutResult]:
        try:
            link = self._ready()
        except ProviderError as error:
            return {index: PutResult(item.item_id, ok=False, detail=_told(error))
                    for index, item in window}
        results: dict[int, PutResult] = {}
        parts: list[bytes] = []
        going: list[tuple[int, WorkItem, int]] = []
        total = 0
        for index, item in window:
            try:
                made = messages.content(item, keys[item.item_id], link.largest)
            except messages.CannotTravel as reason:
                results[index] = _never(item, str(reason))
                continue
            parts += (self._head, made)
            total += len(self._head) + len(made)
            going.append((index, item, total))
        if going:
            fates = bytearray(len(going))
            failure = self._exchange(link, b"".join(parts), fates)
            returned = self._returned(link)
            refused = failure is not None and link.code in _ITEMS_FAULT
            self._careful = self._careful or (refused and len(going) > 1)
            for at, (index, item, end) in enumerate(going):
                results[index] = self._result(
                    item, keys[item.item_id], fates[at], returned, failure,
                    sent=end <= link.sent, refused=refused and len(going) == 1)
        return results

    def _exchange(self, link: Link, data: bytes, fates: bytearray) -> ProviderError | None:
        """Send, and note each confirm until all are there; why they are not, where they are not."""
        deadline = self._runtime.monotonic() + self._timeout
        count = _Count(self._next, fates)
        failure: ProviderError | None = None
        link.room = ROOM
        try:
            link.send(data, deadline, hold=True)
            while not count.note(link):
                link.until(lambda: bool(link.confirms), deadline)
        except (ProviderError, wire.Nonsense) as error:
            # What came before the end counts, too.
            if isinstance(error, ProviderError):
                with suppress(wire.Nonsense):
                    count.note(link)
            failure = error if isinstance(error, ProviderError) else faults.lost(
                f"the reply makes no sense: {error}", self._provider, self._where)
            if link.blocked and not isinstance(failure, Rejected):
                failure = faults.blocked(self._provider, self._where)
            self._drop()
        self._next += len(fates)
        return failure

    def _result(self, item: WorkItem, key: str, fate: int, returned: set[str],
                failure: ProviderError | None, *, sent: bool, refused: bool) -> PutResult:
        if key in returned:
            return _never(item, NO_QUEUE)
        if fate == _TAKEN:
            return PutResult(item.item_id, ok=True, target_ref=key)
        if fate == _REFUSED:
            return PutResult(item.item_id, ok=False, detail=FULL)
        detail = _told(failure) if failure else "it was not confirmed"
        if refused:
            return _never(item, detail)
        return PutResult(item.item_id, ok=False, in_doubt=sent, detail=detail)

    def _returned(self, link: Link) -> set[str]:
        """Keys of what came back as unroutable; a confirm comes behind each."""
        came, link.returned = link.returned, []
        keys = set()
        for properties in came:
            try:
                keys.add(messages.parse(properties)[0].get("message-id", b"").decode())
            except (wire.Nonsense, UnicodeDecodeError):
                continue  # not of our making
        return keys

    # --- the link ------------------------------------------------------------------------------

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()

    def _ready(self) -> Link:
        """A link that takes messages at this moment, proven by one that leads nowhere and is given
        back, and by an answer behind it: a broker short of memory takes the first message, and
        then reads no more. So a broker that is blocked, a connection that has ended and a user
        who may not write are found out before an item is in doubt."""
        deadline = self._runtime.monotonic() + self._timeout
        if self._link is None or not self._link.alive():
            self._drop()
            link = self._connect()
            try:
                link.call(wire.method(wire.SELECT, b"\0"), wire.SELECT_OK, deadline)
            except ProviderError:
                link.drop()
                raise
            self._link, self._next = link, 1
        link = self._link
        if not link.blocked:
            nowhere = wire.publish(f"ccf.nowhere.{link.epoch}") + wire.content(b"\0\0", b"", 4096)
            try:
                link.send(nowhere + wire.qos(1), deadline)
                link.until(lambda: link.blocked or link.has(wire.QOS_OK), deadline)
            except ProviderError:
                self._drop()
                raise
        if link.came(wire.QOS_OK) is None or not link.confirms:
            # The answer is still to come; the next attempt takes another connection.
            self._drop()
            raise faults.blocked(self._provider, self._where)
        link.returned, link.confirms = [], []
        self._next += 1
        return link


class _Count:
    """Confirms of one window, whose first message has the tag `first`."""

    def __init__(self, first: int, fates: bytearray) -> None:
        self._first, self._fates = first, fates
        self._low, self._left = 0, len(fates)

    def note(self, link: Link) -> bool:
        """Take what has come; True when nothing is missing. Raises wire.Nonsense."""
        confirms, link.confirms = link.confirms, []
        fates = self._fates
        for tag, multiple, taken in confirms:
            at = tag - self._first
            if not 0 <= at < len(fates):
                raise wire.Nonsense("a confirm of what was not sent")
            for each in range(self._low if multiple else at, at + 1):
                if not fates[each]:
                    fates[each] = _TAKEN if taken else _REFUSED
                    self._left -= 1
            if multiple:
                self._low = max(self._low, at + 1)
        return not self._left


def _never(item: WorkItem, why: str) -> PutResult:
    return PutResult(item.item_id, ok=False, permanent=True, detail=why)


def _told(error: ProviderError) -> str:
    return f"{error}: {error.hint}" if error.hint else str(error)
