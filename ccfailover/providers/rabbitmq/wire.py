"""AMQP 0-9-1 on the wire: frames and fields, as RabbitMQ writes and reads them. Nothing does I/O.

Only what a backlog needs: one channel, and the methods named here. What comes from a peer is
bounded before it is looked at; whatever does not fit raises `Nonsense`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

HEADER: Final = b"AMQP\0\0\x09\x01"
"""What a client says first; what a server says that speaks another version."""
METHOD, CONTENT, BODY, HEARTBEAT = 1, 2, 3, 8
END: Final = 0xCE
HEARTBEAT_FRAME: Final = b"\x08\0\0\0\0\0\0\xce"
FRAME_MAX: Final = 131_072
"""RabbitMQ's own limit for a frame, and the largest that we take."""
_MAX_DEPTH: Final = 8

START, START_OK, SECURE, TUNE, TUNE_OK = 0x0A000A, 0x0A000B, 0x0A0014, 0x0A001E, 0x0A001F
OPEN, OPEN_OK, CLOSE, CLOSE_OK = 0x0A0028, 0x0A0029, 0x0A0032, 0x0A0033
BLOCKED, UNBLOCKED = 0x0A003C, 0x0A003D
CHANNEL_OPEN, CHANNEL_OPEN_OK = 0x14000A, 0x14000B
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = 0x140028, 0x140029
DECLARE, DECLARE_OK = 0x32000A, 0x32000B
QOS, QOS_OK, CONSUME, CONSUME_OK = 0x3C000A, 0x3C000B, 0x3C0014, 0x3C0015
CANCEL, CANCEL_OK, PUBLISH, RETURN = 0x3C001E, 0x3C001F, 0x3C0028, 0x3C0032
DELIVER, ACK, NACK = 0x3C003C, 0x3C0050, 0x3C0078
SELECT, SELECT_OK = 0x55000A, 0x55000B

_HEAD: Final = struct.Struct("!BHI")
_U16, _U32, _U64 = struct.Struct("!H"), struct.Struct("!I"), struct.Struct("!Q")
_METHOD, _CONTENT = struct.Struct("!BHII"), struct.Struct("!BHIHHQ")
_TEXT: Final = ord("S")
_ACK: Final = struct.Struct("!BHIIQBB")
"""A whole frame with an ack or a nack."""

FIELDS: Final[Mapping[str, struct.Struct]] = {
    "t": struct.Struct("!?"), "b": struct.Struct("!b"), "B": struct.Struct("!B"),
    "s": struct.Struct("!h"), "u": struct.Struct("!H"), "I": struct.Struct("!i"),
    "i": struct.Struct("!I"), "l": struct.Struct("!q"), "f": struct.Struct("!f"),
    "d": struct.Struct("!d"), "T": struct.Struct("!Q"), "D": struct.Struct("!Bi"),
    "V": struct.Struct(""),
}
"""Field types of a fixed size, by their letter; `S x A F` have their length before them."""


class Nonsense(ValueError):
    """The peer does not speak AMQP 0-9-1; the text holds nothing of what it said."""


# --- writing ---------------------------------------------------------------------------------


def short(text: str | bytes) -> bytes:
    """Raises ValueError beyond 255 bytes."""
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > 255:
        raise ValueError("longer than 255 bytes")
    return bytes((len(raw),)) + raw


size = _U32.pack
"""What stands before a long text: how many bytes it has."""


def long(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return _U32.pack(len(raw)) + raw


def table(pairs: Mapping[str, str | bool | Mapping[str, bool]]) -> bytes:
    """A table of strings, booleans, and tables of booleans: all that a client says of itself."""
    made = bytearray()
    for name, value in pairs.items():
        made += short(name)
        if isinstance(value, bool):
            made += b"t\x01" if value else b"t\0"
        elif isinstance(value, str):
            made += b"S" + long(value)
        else:
            made += b"F" + table(value)
    return long(bytes(made))


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return _HEAD.pack(kind, channel, len(payload)) + payload + b"\xce"


def method(number: int, arguments: bytes = b"", channel: int = 1) -> bytes:
    return frame(METHOD, _U32.pack(number) + arguments, channel)


def tune_ok(frame_max: int, heartbeat: int) -> bytes:
    return method(TUNE_OK, struct.pack("!HIH", 1, frame_max, heartbeat), 0)


def close(number: int) -> bytes:
    """`CLOSE` of the connection, for no fault."""
    return method(number, _U16.pack(200) + short("bye") + _U32.pack(0), 0)


def declare_passive(queue: str) -> bytes:
    return method(DECLARE, b"\0\0" + short(queue) + b"\x01" + _U32.pack(0))


def qos(prefetch: int) -> bytes:
    return method(QOS, struct.pack("!IHB", 0, prefetch, 0))


def consume(queue: str, tag: str) -> bytes:
    return method(CONSUME, b"\0\0" + short(queue) + short(tag) + b"\0" + _U32.pack(0))


def cancel(tag: str) -> bytes:
    return method(CANCEL, short(tag) + b"\0")


def ack(tag: int, multiple: bool) -> bytes:
    return _ACK.pack(METHOD, 1, 13, ACK, tag, multiple, END)


def nack(tag: int, multiple: bool) -> bytes:
    """Back into the queue at once."""
    return _ACK.pack(METHOD, 1, 13, NACK, tag, 3 if multiple else 2, END)


def publish(queue: str) -> bytes:
    """The method frame: to this queue by the default exchange, and back when there is none."""
    return method(PUBLISH, b"\0\0" + short("") + short(queue) + b"\x01")


def content(properties: bytes, body: bytes, frame_max: int) -> bytes:
    """What follows `publish`; `properties` begin with their flags. Raises ValueError when they
    do not fit into a frame, which they must."""
    if len(properties) + 20 > frame_max:
        raise ValueError("its headers do not fit into a frame")
    head = _CONTENT.pack(CONTENT, 1, 12 + len(properties), 60, 0, len(body))
    if 0 < len(body) <= frame_max - 8:
        return b"".join((head, properties, b"\xce", _HEAD.pack(BODY, 1, len(body)), body, b"\xce"))
    head += properties + b"\xce"
    step = frame_max - 8
    return head + b"".join(frame(BODY, body[at:at + step]) for at in range(0, len(body), step))


# --- reading ---------------------------------------------------------------------------------


def frame_at(data: bytes, at: int, largest: int) -> tuple[int, int]:
    """Its kind, and where its payload ends, which begins 7 bytes behind `at`; kind 0 where it is
    not whole."""
    if len(data) - at < 8:
        return 0, at
    kind, _, size = _HEAD.unpack_from(data, at)
    if size > largest:
        raise Nonsense("a frame is larger than was agreed")
    stop = at + 7 + size
    if stop >= len(data):
        return 0, at
    if data[stop] != END:
        raise Nonsense("a frame has no end")
    if kind == 0:
        raise Nonsense("there is no such frame")
    return kind, stop


def delivery_at(data: bytes, at: int, largest: int) -> tuple[int, bool, int, int, int] | None:
    """A delivery with all its frames and its body in one piece, as nearly all of them are: tag,
    redelivered, where its properties begin and end, where all of it ends (its body then lies
    between the second but 8 and the last but 1). None: it is to be looked at frame by frame."""
    end = len(data)
    if end - at < 50:
        return None
    kind, _, size, number = _METHOD.unpack_from(data, at)
    head, tag = at + 8 + size, at + 12 + data[at + 11]
    if (kind != METHOD or number != DELIVER or size > largest or tag + 9 >= head
            or head + 19 > end or data[head - 1] != END):
        return None
    kind, _, size, _, _, whole = _CONTENT.unpack_from(data, head)
    body = head + 8 + size
    if kind != CONTENT or not 14 <= size <= largest or body + 8 > end or data[body - 1] != END:
        return None
    kind, _, size = _HEAD.unpack_from(data, body)
    stop = body + 8 + size
    if kind != BODY or not 0 < size <= largest or size != whole or stop > end \
            or data[stop - 1] != END:
        return None
    return _U64.unpack_from(data, tag)[0], bool(data[tag + 8] & 1), head + 19, body - 1, stop


class Reader:
    """Fields one after the other out of a payload. Raises Nonsense where there is too little."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        begin, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise Nonsense("a field is longer than its frame")
        return self.data[begin:self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def short(self) -> bytes:
        return self.take(self.u8())

    def long(self) -> bytes:
        return self.take(self.u32())

    def fields(self) -> dict[str, tuple[str, bytes]]:
        """A table: name → (letter of the type, its bytes as they came)."""
        data, at = self.data, self.at + 4
        stop = at + self.u32()
        if stop > len(data):
            raise Nonsense("a table is longer than its frame")
        found: dict[str, tuple[str, bytes]] = {}
        while at < stop:
            begin = at + 1
            at = begin + data[at]
            name = data[begin:at].decode("utf-8", "replace")
            if at + 5 <= stop and data[at] == _TEXT:  # nearly always
                begin = at + 5
                at = begin + _U32.unpack_from(data, at + 1)[0]
                found[name] = ("S", data[begin:at])
            else:
                self.at = at
                found[name] = self.field()
                at = self.at
        if at != stop:
            raise Nonsense("a table is longer than it says")
        self.at = stop
        return found

    def field(self, depth: int = 0) -> tuple[str, bytes]:
        letter = chr(self.u8())
        fixed = FIELDS.get(letter)
        if fixed is not None:
            return letter, self.take(fixed.size)
        if letter not in "SxAF":
            raise Nonsense("a field is of a type that AMQP does not have")
        raw = self.long()
        if letter in "AF":
            _check(raw, letter, depth + 1)
        return letter, raw


def _check(raw: bytes, letter: str, depth: int) -> None:
    """A nested value goes back to a broker as it came, so it has to be sound."""
    if depth > _MAX_DEPTH:
        raise Nonsense("tables are nested too deeply")
    inside = Reader(raw)
    while inside.at < len(raw):
        if letter == "F":
            inside.short()
        inside.field(depth)
