"""What one process has claimed of one queue: deliveries neither acknowledged nor given back.

A claim is a consumer that may have `limit` messages unacknowledged, and is cancelled when they are
there, or when the queue has no more. So nothing is ever hidden from others that was not handed
out. (`basic.get`, many at once, is as fast on a classic queue, and thirty times slower on a quorum
queue, which commits each by itself: the figures are in benchmarks/RESULTS.md.) A handle is the
connection's epoch and the delivery's tag; when the connection is gone, the broker has given
everything back, and the handles are worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import Final

from ccfailover.errors import ProviderError, Unavailable
from ccfailover.providers.rabbitmq import wire
from ccfailover.providers.rabbitmq.link import ROOM, Link, Message
from ccfailover.runtime import Runtime

_LOOK: Final = 0.02
"""Seconds of silence after which the broker is asked whether more is to come."""
_POLL: Final = 1.0
"""How long messages that the queue counts and does not give are waited for, seconds: they go to
other consumers, or this one is not the single active one."""
_LIFE: Final = 0.8
"""Of the broker's time for an acknowledgement: then a claim is given back by us. Once that time is
over the broker ends the channel, and with it every other claim, young ones too."""


class Claims:
    """Threads may share it. `connect` makes a link; `longest`: the broker's consumer_timeout."""

    def __init__(self, queue: str, connect: Callable[[], Link], runtime: Runtime, *,
                 timeout: float, longest: float) -> None:
        self._queue, self._connect, self._runtime = queue, connect, runtime
        self._timeout, self._life = timeout, longest * _LIFE
        self._lock = RLock()
        self._link: Link | None = None
        self._held: dict[int, float] = {}
        self._consumers = 0

    @property
    def held(self) -> int:
        """How many messages this process hides from others."""
        return len(self._held)

    def take(self, limit: int, cap: int) -> tuple[str, Sequence[Message]]:
        """Up to `limit` messages, bodies cut behind `cap` bytes, and the epoch of their handles.
        Raises ProviderError; what may have come by then has been given back."""
        with self._lock:
            link = self._open()
            try:
                return link.epoch, self._consume(link, limit, cap)
            except ProviderError as error:
                self._drop()
                if isinstance(error, Unavailable):
                    error.in_doubt = True  # on a quorum queue it has cost the messages a delivery
                raise

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """True: the broker has taken the acknowledgement."""
        return self._finish(handles, wire.ack)

    def give_back(self, handles: Sequence[str]) -> Mapping[str, bool]:
        return self._finish(handles, wire.nack)

    def keep(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        """True while the connection lives, and will for `seconds` for all that we know. A claim
        that has become so old that the broker would end the channel for it is given back."""
        with self._lock:
            now = self._runtime.monotonic()
            mine = self._mine(handles)
            old = [handle for handle, tag in mine.items()
                   if now + seconds - self._held[tag] > self._life]
            self.give_back(old)
            fresh = dict.fromkeys(mine, True) if self._still_there() else {}
            return {**dict.fromkeys(handles, False), **fresh, **dict.fromkeys(old, False)}

    def give_up(self) -> None:
        """End the connection, and all claims with it."""
        with self._lock:
            self._drop()

    def close(self, seconds: float) -> None:
        with self._lock:
            link, self._link = self._link, None
            self._held.clear()
            if link is not None:
                link.close(seconds)

    # --- the link ------------------------------------------------------------------------------

    def _open(self) -> Link:
        if self._link is None or not self._link.alive():
            self._drop()
            self._link = self._connect()
        return self._link

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._held.clear()
        if link is not None:
            link.drop()

    def _deadline(self) -> float:
        return self._runtime.monotonic() + self._timeout

    def _mine(self, handles: Iterable[str]) -> dict[str, int]:
        """Handles of this connection that are neither settled nor given back."""
        if self._link is None:
            return {}
        epoch = f"{self._link.epoch}-"
        found: dict[str, int] = {}
        for handle in handles:
            number = handle[len(epoch):]
            if handle.startswith(epoch) and number.isdecimal() and len(number) < 20:
                tag = int(number)
                if tag in self._held:
                    found[handle] = tag
        return found

    # --- taking --------------------------------------------------------------------------------

    def _consume(self, link: Link, limit: int, cap: int) -> list[Message]:
        if link.messages:  # later than anything should come; nothing is asked for beside it
            return self._handed_out(link, self._deadline())
        deadline = self._deadline()
        self._consumers += 1
        tag = f"ccf{self._consumers}"
        link.cap, link.room, link.cancelled = cap, ROOM, False
        link.send(wire.qos(limit) + wire.consume(self._queue, tag)
                  + wire.declare_passive(self._queue), deadline)
        full = self._gather(link, limit, deadline)
        # Behind a full window nothing more can come. Otherwise whatever was on its way when the
        # consumer was cancelled is here when the channel has answered once more.
        if full:
            link.send(wire.method(wire.CANCEL, wire.short(tag) + b"\x01"), deadline)
        else:
            if not link.cancelled:
                link.call(wire.cancel(tag), wire.CANCEL_OK, deadline)
            link.call(wire.qos(limit), wire.QOS_OK, deadline)
        return self._handed_out(link, deadline)

    def _handed_out(self, link: Link, deadline: float) -> list[Message]:
        came, link.messages = link.messages, []
        now = self._runtime.monotonic()
        back = [message.tag for message in came if message.spilled]
        if back:
            link.send(b"".join(wire.nack(each, False) for each in back), deadline)
            came = [message for message in came if not message.spilled]
        self._held.update((message.tag, now) for message in came)
        return came

    def _gather(self, link: Link, limit: int, deadline: float) -> bool:
        """Read deliveries; True when there are `limit` of them, False when no more will come."""
        end = min(deadline, self._runtime.monotonic() + _POLL)
        asked = True
        while len(link.messages) < limit:
            answer = link.came(wire.DECLARE_OK)
            if answer is not None:
                asked = False
                if link.ready(answer) == 0:
                    return False
            if link.cancelled or link.room < link.cap + wire.FRAME_MAX or (
                    not asked and self._runtime.monotonic() >= end):
                return False
            if asked:
                link.more(wire.DECLARE_OK, deadline)
            elif not link.read(_LOOK, deadline):
                link.send(wire.declare_passive(self._queue), deadline)
                asked = True
        if asked:
            link.wait(wire.DECLARE_OK, deadline)
        return True

    # --- ending --------------------------------------------------------------------------------

    def _finish(self, handles: Sequence[str],
                end: Callable[[int, bool], bytes]) -> Mapping[str, bool]:
        """Acknowledge or give back, and wait for the answer to a question asked behind it: neither
        has an answer of its own, but a channel works in order, and ends when it refuses one."""
        with self._lock:
            mine = self._mine(handles)
            done = dict.fromkeys(handles, False)
            link = self._link
            if not mine or link is None:
                return done
            tags = set(mine.values())
            try:
                link.call(b"".join(self._frames(tags, end)) + wire.qos(1), wire.QOS_OK,
                          self._deadline())
            except ProviderError:
                self._drop()
                return done
            for tag in tags:
                self._held.pop(tag, None)
            done.update(dict.fromkeys(mine, True))
            return done

    def _frames(self, tags: set[int], end: Callable[[int, bool], bytes]) -> Iterable[bytes]:
        """One frame for all from the oldest claim on, as far as each of them is to be ended; one
        for each of the others. (`held` is in the order of the tags.)"""
        first = 0
        for tag in self._held:
            if tag not in tags:
                break
            first = tag
        if first:
            yield end(first, True)
        for tag in sorted(tags):
            if tag > first:
                yield end(tag, False)

    def _still_there(self) -> bool:
        if self._link is None:
            return False
        try:
            self._link.call(wire.qos(1), wire.QOS_OK, self._deadline())
        except ProviderError:
            self._drop()
            return False
        return True
