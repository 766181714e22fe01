"""One connection to a broker with one channel on it; what came in is kept in lists until asked for.

Not for several threads at once: whoever owns a link has a lock. Every call ends at its deadline
(monotonic seconds), reads while it writes, so that neither side waits for the other's buffer, and
keeps at most `room` bytes of messages. A link that failed once is closed, and its claims with it.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from ccfailover.errors import ProviderError, Unavailable
from ccfailover.providers.rabbitmq import wire
from ccfailover.providers.rabbitmq.faults import closed, lost
from ccfailover.runtime import Runtime

READ: Final = 262_144
ROOM: Final = 64 * 1024 * 1024
_IN: Final = select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR
_U32, _U64 = struct.Struct("!I"), struct.Struct("!Q")
_PIECES: Final = 64
"""How much is read before a call, in pieces: a peer could go on for ever."""
_KEPT: Final = frozenset({wire.DELIVER, wire.ACK, wire.NACK, wire.RETURN})
_MOST_WAITING: Final = 70_000
"""Deliveries, confirms and returns that nobody has asked for yet; a prefetch is 65,535 at most."""


class Message(NamedTuple):
    """A delivery. `body` is cut behind `cap` bytes of its `size`; a `spilled` one had no room at
    all: its body is empty, and it has to go back."""

    tag: int
    redelivered: bool
    properties: bytes
    body: bytes
    size: int
    spilled: bool


class Link:
    """`largest` and `heartbeat` are set when they have been agreed on. With TLS: `again` are the
    errors that mean "not now", `pending` says how much was read and not yet asked for."""

    def __init__(self, sock: socket.socket, provider: str, where: str, runtime: Runtime, *,
                 again: tuple[type[OSError], ...] = (BlockingIOError,),
                 pending: Callable[[], int] = lambda: 0) -> None:
        sock.setblocking(False)
        self._again, self._pending = again, pending
        self._sock, self._provider, self.where, self._runtime = sock, provider, where, runtime
        self._poll = select.poll()
        self._poll.register(sock, _IN)
        self._rest = b""
        self._part: tuple[int, bool, bool] | None = None  # a content whose header is yet to come
        self._size = self._missing = 0
        self._properties = b""
        self._body: list[bytes] = []
        self._keep = 0
        self._spilled = False
        self._heard = self._spoke = runtime.monotonic()
        self.largest = wire.FRAME_MAX
        self.heartbeat = 0
        self.epoch = "".join(runtime.new_id() for _ in range(4))
        """Tells this connection's claims from those of every other one."""
        self.closed = False
        self.code = 0
        """Why the broker ended it: a reply code of AMQP."""
        self.blocked = False
        self.cancelled = False
        self.cap, self.room = ROOM, ROOM
        self._whole = True  # nothing of a frame is yet to be written
        self.sent = 0
        """Bytes of the last `send` that have left us."""
        self.messages: list[Message] = []
        self.returned: list[bytes] = []
        """Properties of what the broker gave back as unroutable."""
        self.confirms: list[tuple[int, bool, bool]] = []
        """(tag, all up to it, taken)"""
        self._replies: dict[int, bytes] = {}

    # --- calls -------------------------------------------------------------------------------

    def send(self, data: bytes, deadline: float, *, hold: bool = False) -> None:
        """All of `data`; `hold`: while the broker blocks us, nothing more of it. Raises
        ProviderError; `sent` says how much had gone."""
        self.sent, view = 0, memoryview(data)
        if self.closed:
            raise self._broken("the connection was lost")
        while self.sent < len(data):
            write = not (hold and self.blocked)
            if write:
                self.sent += self._write(view[self.sent:self.sent + READ])
            self._whole = self.sent == len(data)
            if not self._whole:
                self._turn(deadline, writing=write)

    def call(self, data: bytes, reply: int, deadline: float) -> bytes:
        """`data`, and the arguments of the `reply` that it brings."""
        self._replies.pop(reply, None)
        self.send(data, deadline)
        return self.wait(reply, deadline)

    def wait(self, reply: int, deadline: float) -> bytes:
        self.until(lambda: reply in self._replies, deadline)
        return self._replies.pop(reply)

    def has(self, reply: int) -> bool:
        return reply in self._replies

    def came(self, reply: int) -> bytes | None:
        """The arguments of a reply, if it is here."""
        return self._replies.pop(reply, None)

    def ready(self, arguments: bytes) -> int:
        """The messages that a queue has and has given to nobody, out of a declare-ok."""
        try:
            reader = wire.Reader(arguments)
            reader.short()
            return reader.u32()
        except wire.Nonsense as error:
            raise self._broken(f"the reply makes no sense: {error}") from None

    def until(self, done: Callable[[], bool], deadline: float) -> None:
        """Read until `done`. Raises ProviderError, at the latest at the deadline."""
        while not done():
            self._turn(deadline)

    def more(self, reply: int, deadline: float) -> None:
        """Read until there are more messages than now, or `reply` is here."""
        count = len(self.messages)
        self.until(lambda: reply in self._replies or len(self.messages) > count, deadline)

    def read(self, seconds: float, deadline: float) -> bool:
        """Read what comes next; False when nothing did for so long."""
        ready = bool(self._pending() or self._poll.poll(max(0, seconds) * 1000))
        if ready:
            self._turn(deadline)
        return ready

    def alive(self) -> bool:
        """Read what has come meanwhile; False when the connection has ended, or the other side
        has missed its heartbeats. Never raises."""
        if self.closed:
            return False
        try:
            for _ in range(_PIECES):
                if not ((self._pending() or self._poll.poll(0)) and self._fill()):
                    break
        except ProviderError:
            return False
        if self.heartbeat and self._runtime.monotonic() - self._heard > 2 * self.heartbeat + 1:
            self.drop()
            return False
        return True

    def drop(self) -> None:
        """Close without a word; the broker gives back what was claimed here."""
        self.closed = True
        self._sock.close()
        self.messages = []

    def close(self, seconds: float) -> None:
        """Say goodbye, and wait a little for the answer: then all claims have been given back."""
        if not self.alive():
            self.drop()
            return
        try:
            self.call(wire.close(wire.CLOSE), wire.CLOSE_OK, self._runtime.monotonic() + seconds)
        except ProviderError:
            return  # it is gone, as was asked
        finally:
            self.drop()

    # --- the socket ----------------------------------------------------------------------------

    def _turn(self, deadline: float, *, writing: bool = False) -> None:
        """Wait until something can be read (or written), read it, look at the clock."""
        now = self._runtime.monotonic()
        if now >= deadline:
            raise self._broken("it did not answer in time")
        if self.closed:
            raise self._broken("the connection was lost")
        if self.heartbeat and self._whole and now - self._spoke > self.heartbeat / 2:
            self._write(memoryview(wire.HEARTBEAT_FRAME))
        if writing:
            self._poll.modify(self._sock, _IN | select.POLLOUT)
        pending = self._pending()
        ready = [] if pending else self._poll.poll(min(deadline - now, 1.0) * 1000)
        if writing:
            self._poll.modify(self._sock, _IN)
        if pending or any(events & _IN for _, events in ready):
            self._fill()

    def _write(self, data: memoryview) -> int:
        try:
            count = self._sock.send(data)
        except self._again:
            return 0
        except OSError as error:
            self._last_words()
            raise self._broken(f"the connection was lost ({type(error).__name__})") from None
        self._spoke = self._runtime.monotonic()
        return count

    def _last_words(self) -> None:
        """A broker that closes says why, and what it says may be here though we cannot write."""
        try:
            for _ in range(_PIECES):
                if not self._fill():
                    return
        except Unavailable:
            return  # no words; the caller knows enough

    def _fill(self) -> bool:
        """Read once and take it apart; False when there was nothing to read."""
        try:
            data = self._sock.recv(READ)
        except self._again:
            return False
        except OSError as error:
            raise self._broken(f"the connection was lost ({type(error).__name__})") from None
        if not data:
            raise self._broken("the connection was lost")
        self._heard = self._runtime.monotonic()
        try:
            self._parse(self._rest + data if self._rest else data)
        except wire.Nonsense as error:
            raise self._broken(f"the reply makes no sense: {error}") from None
        return True

    def _broken(self, what: str) -> Unavailable:
        self.drop()
        return lost(what, self._provider, self.where)

    # --- what came -----------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        if data[:1] == b"A":
            raise wire.Nonsense("it speaks another protocol, or another version of it")
        at = 0
        while True:
            at = self._on_deliveries(data, at)
            kind, stop = wire.frame_at(data, at, self.largest)
            if kind == wire.BODY:
                self._on_body(data[at + 7:stop])
            elif kind == wire.METHOD:
                self._on_method(data, at + 7, stop)
            elif kind == wire.CONTENT:
                self._on_header(data, at + 7, stop)
            elif kind == 0:
                self._rest = data[at:]
                return
            elif kind != wire.HEARTBEAT:
                raise wire.Nonsense("there is no such frame")
            at = stop + 1

    def _on_deliveries(self, data: bytes, at: int) -> int:
        """Take those that are there whole, and that there is room for; where the rest begins."""
        if self._part is not None:
            return at
        messages, largest = self.messages, self.largest
        free = _MOST_WAITING - self._waiting()
        while free > 0 and (found := wire.delivery_at(data, at, largest)):
            tag, redelivered, begin, end, stop = found
            body = data[end + 8:stop - 1]
            cost = len(body) + end - begin
            if len(body) > self.cap or cost > self.room:
                break
            self.room -= cost
            messages.append(Message(tag, redelivered, data[begin:end], body, len(body), False))
            at, free = stop, free - 1
        return at

    def _waiting(self) -> int:
        return len(self.messages) + len(self.confirms) + len(self.returned)

    def _on_method(self, data: bytes, at: int, stop: int) -> None:
        if stop - at < 4 or self._part is not None:
            raise wire.Nonsense("a method is cut, or comes within a message")
        number: int = _U32.unpack_from(data, at)[0]
        if number in _KEPT and self._waiting() > _MOST_WAITING:
            raise wire.Nonsense("it sends more than was asked for")
        if number == wire.DELIVER:
            at += 5 + data[at + 4]
            if at + 9 > stop:
                raise wire.Nonsense("a delivery is cut")
            self._part = (_U64.unpack_from(data, at)[0], bool(data[at + 8] & 1), False)
        elif number in (wire.ACK, wire.NACK):
            if stop - at < 13:
                raise wire.Nonsense("a confirm is cut")
            tag: int = _U64.unpack_from(data, at + 4)[0]
            self.confirms.append((tag, bool(data[at + 12] & 1), number == wire.ACK))
        elif number == wire.RETURN:
            self._part = (0, False, True)
        else:
            self._on_rest(number, data[at + 4:stop])

    def _on_rest(self, number: int, arguments: bytes) -> None:
        if number == wire.BLOCKED:
            self.blocked = True
        elif number == wire.UNBLOCKED:
            self.blocked = False
        elif number == wire.CANCEL:
            self.cancelled = True
        elif number in (wire.CLOSE, wire.CHANNEL_CLOSE):
            self._on_close(wire.Reader(arguments).u16())
        elif len(self._replies) > 32:
            raise wire.Nonsense("it answers what was not asked")
        else:
            self._replies[number] = arguments

    def _on_close(self, code: int) -> None:
        """Whichever of the two it was: a link is a connection with its channel. It is dropped
        without the answer that the protocol wants, which a broker does not need."""
        self.drop()
        self.code = code
        raise closed(code, self._provider, self.where)

    def _on_header(self, data: bytes, at: int, stop: int) -> None:
        if self._part is None or self._missing or stop - at < 14:
            raise wire.Nonsense("a message has no beginning")
        self._size = self._missing = _U64.unpack_from(data, at + 4)[0]
        self._properties = data[at + 12:stop]
        returned = self._part[2]
        self._keep = 0 if returned else min(self._size, self.cap + 1)  # what comes back was ours
        cost = self._keep + len(self._properties)
        self._spilled = cost > self.room
        if self._spilled and returned:
            raise wire.Nonsense("it gives back more than it was sent")
        if self._spilled:
            self._keep, self._properties = 0, b""
        else:
            self.room -= cost
        if not self._missing:
            self._complete()

    def _on_body(self, piece: bytes) -> None:
        if self._part is None or not piece or len(piece) > self._missing:
            raise wire.Nonsense("a message is longer than it says")
        self._missing -= len(piece)
        if self._keep:
            self._body.append(piece[:self._keep])
            self._keep -= len(self._body[-1])
        if not self._missing:
            self._complete()

    def _complete(self) -> None:
        if self._part is None:
            raise wire.Nonsense("a message has no beginning")
        tag, redelivered, returned = self._part
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if returned:
            self.returned.append(self._properties)
        else:
            self.messages.append(Message(tag, redelivered, self._properties, body, self._size,
                                         self._spilled))
        self._part, self._spilled = None, False
        self._body = []
