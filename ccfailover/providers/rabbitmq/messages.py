"""Work items as AMQP messages, and back.

What travels with an item, in headers: `ccf-item-id`, `ccf-submitted` (the original time),
`ccf-hops`, `ccf-key`; and `ccf-message-id`, the sender's own, since the property holds our key.
In `WorkItem.attributes` a header of text goes by its name, one of another type by `name:Type.amqp`
(binary in base64), a property by `:name`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from ccfailover.model.items import WorkItem
from ccfailover.providers.bodies import Understood, understand
from ccfailover.providers.rabbitmq import wire
from ccfailover.providers.rabbitmq.link import Message

MAX_ITEM_BYTES: Final = 16 * 1024 * 1024
"""What RabbitMQ 4 takes as it comes; older ones take more."""
_ITEM, _SUBMITTED, _HOPS, _KEY, _SENDERS = (
    "ccf-item-id", "ccf-submitted", "ccf-hops", "ccf-key", "ccf-message-id")
_OWN: Final = frozenset({_ITEM, _SUBMITTED, _HOPS, _KEY, _SENDERS})
_BROKERS: Final = frozenset({"CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"})
"""What a broker acts on or writes itself: copies to further queues, the history of dead letters
(by which it drops what goes in circles), the deliveries of the queue that the message has left."""
_KINDS: Final = {
    "Number.int8": "b", "Number.uint8": "B", "Number.int16": "s", "Number.uint16": "u",
    "Number.int32": "I", "Number.uint32": "i", "Number.int64": "l", "Number.float": "f",
    "Number.double": "d", "Number.time": "T", "String.bool": "t", "String.void": "V",
    "String.text": "S", "Binary.text": "S", "Binary.bytes": "x", "Binary.decimal": "D",
    "Binary.array": "A", "Binary.table": "F",
}
_NAMES: Final = {letter: kind for kind, letter in _KINDS.items() if kind != "Binary.text"}
_PROPERTIES: Final = (
    ("content-type", 0x8000), ("content-encoding", 0x4000), ("headers", 0x2000),
    ("delivery-mode", 0x1000), ("priority", 0x0800), ("correlation-id", 0x0400),
    ("reply-to", 0x0200), ("expiration", 0x0100), ("message-id", 0x0080), ("timestamp", 0x0040),
    ("type", 0x0020), ("user-id", 0x0010), ("app-id", 0x0008), ("cluster-id", 0x0004))
_FIXED: Final = {"delivery-mode": 1, "priority": 1, "timestamp": 8}
_CARRIED: Final = frozenset({"content-type", "content-encoding", "priority", "correlation-id",
                             "reply-to", "message-id", "timestamp", "type", "app-id"})
"""Not `expiration`: its clock would start anew at the target, and an application vanish by it. Not
`user-id`: the broker takes none but our own."""
_MARKS: Final = frozenset(f":{name}" for name in _CARRIED)
_DIRECT: Final = b"amq.rabbitmq.reply-to"
_PERSISTENT: Final = b"\x02"
_KEYS: Final = {name: wire.short(name) + b"S" for name in _OWN}

Field = tuple[str, bytes]


class CannotTravel(ValueError):
    """This item can never be put into a queue; the text says why, without its content."""


# --- out of a queue --------------------------------------------------------------------------


def decode(message: Message, epoch: str, mapping: Mapping[str, str], max_bytes: int) -> WorkItem:
    """A delivery as a work item; `problem` is set when the body cannot be used. Raises
    wire.Nonsense."""
    properties, headers = parse(message.properties)
    if message.size > max_bytes:
        found = Understood({}, "", None,
                           f"the body has {message.size} bytes, more than {max_bytes}")
    else:
        found = understand(message.body, mapping, max_bytes)
    submitted = headers.pop(_SUBMITTED, None)
    hops = headers.pop(_HOPS, None)
    attributes: dict[str, str] = {}
    receives = 2 if message.redelivered else 1
    if headers:
        senders = headers.pop(_SENDERS, None)
        if headers.pop(_KEY, None) is not None:
            properties.pop("message-id", None)
        if senders is not None:
            properties["message-id"] = senders[1]
        count = headers.pop("x-delivery-count", None)
        if count is not None:
            receives = max(receives, min(999_999, _number(count) + 1))
        headers.pop(_ITEM, None)
        if headers:
            attributes = _attributes(headers)
    if not _CARRIED.isdisjoint(properties):
        attributes.update((f":{name}", _shown(name, raw)) for name, raw in properties.items()
                          if name in _CARRIED)
    return WorkItem(
        item_id=found.item_id, message_id="", body=message.body, fields=found.fields,
        handle=f"{epoch}-{message.tag}",
        submitted=((submitted[1].decode("utf-8", "replace")[:64] if submitted else None)
                   or found.submitted or _sent(properties.get("timestamp"))),
        hops=min(999_999, _number(hops)) if hops else 0,
        receives=receives, problem=found.problem, attributes=attributes)


def parse(properties: bytes) -> tuple[dict[str, bytes], dict[str, Field]]:
    """Properties (as their bytes) and headers. Raises wire.Nonsense."""
    found: dict[str, bytes] = {}
    headers: dict[str, Field] = {}
    at, end = 2, len(properties)
    try:
        for name in _which(int.from_bytes(properties[:2], "big")):
            if name == "headers":
                reader = wire.Reader(properties, at)
                headers = reader.fields()
                at = reader.at
                continue
            size = _FIXED.get(name)
            if size is None:
                size = properties[at]
                at += 1
            found[name] = properties[at:at + size]
            at += size
    except IndexError:
        at = end + 1
    if at > end:
        raise wire.Nonsense("a property is longer than its frame")
    return found, headers


@lru_cache(maxsize=256)
def _which(flags: int) -> tuple[str, ...]:
    if flags & 3:
        raise wire.Nonsense("there is no such property")
    return tuple(name for name, bit in _PROPERTIES if flags & bit)


def _attributes(headers: Mapping[str, Field]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, (letter, raw) in headers.items():
        if name in _OWN or name in _BROKERS or name.startswith(("x-first-death-", "x-last-death-")):
            continue
        kind, value = _NAMES[letter], ""
        if letter == "S":
            try:
                value = raw.decode()
                if name.rpartition(":")[2] not in _KINDS and name not in _MARKS:
                    found[name] = value
                    continue
            except UnicodeDecodeError:
                kind = "Binary.text"
        if kind.startswith("Binary"):
            value = base64.b64encode(raw).decode()
        elif letter == "t":
            value = "false" if raw == b"\0" else "true"
        elif letter not in "SV":
            value = repr(wire.FIELDS[letter].unpack(raw)[0])
        found[f"{name}:{kind}"] = value
    return found


def _shown(name: str, raw: bytes) -> str:
    if name in ("priority", "timestamp"):
        return str(int.from_bytes(raw, "big"))
    return raw.decode("utf-8", "replace")


def _number(field: Field) -> int:
    letter, raw = field
    if letter == "S":
        return int(raw) if raw.isdigit() and len(raw) <= 6 else 0
    if letter in "bBsuIil":
        return max(0, int(wire.FIELDS[letter].unpack(raw)[0]))
    return 0


def _sent(timestamp: bytes | None) -> str | None:
    """The sender's own time, whole seconds."""
    if timestamp is None:
        return None
    seconds = int.from_bytes(timestamp, "big")
    if not 0 < seconds < 253_402_300_800:  # the year 10000
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


# --- into a queue ----------------------------------------------------------------------------


def content(item: WorkItem, key: str, frame_max: int) -> bytes:
    """Content header and body, persistent, with the key as its message id. Raises CannotTravel."""
    if len(item.body) > MAX_ITEM_BYTES:
        raise CannotTravel(f"it has {len(item.body)} bytes, a queue takes {MAX_ITEM_BYTES}")
    try:
        identity, name, size = wire.short(key), item.item_id.encode(), wire.size
        hops, raw = b"%d" % item.hops, key.encode()
        headers = [_KEYS[_ITEM], size(len(name)), name, _KEYS[_HOPS], size(len(hops)), hops,
                   _KEYS[_KEY], size(len(raw)), raw]
        if item.submitted:
            headers += (_KEYS[_SUBMITTED], wire.long(item.submitted))
        if not item.attributes:
            table = b"".join(headers)
            return wire.content(
                b"".join((b"\x30\x80", size(len(table)), table, _PERSISTENT, identity)),
                item.body, frame_max)
        return wire.content(_carry(item.attributes, headers, identity), item.body, frame_max)
    except (ValueError, struct.error, OverflowError) as error:
        if isinstance(error, CannotTravel):
            raise
        raise CannotTravel("what it carries does not fit into AMQP's headers: "
                           f"{_why(error)}") from None


def _why(error: Exception) -> str:
    """Our own words only: Python's quote what does not fit."""
    ours = ("longer than 255 bytes", "its headers do not fit into a frame")
    return str(error) if str(error) in ours else type(error).__name__


def _carry(attributes: Mapping[str, str], headers: list[bytes], identity: bytes) -> bytes:
    properties: dict[str, bytes] = {"delivery-mode": _PERSISTENT, "message-id": identity}
    for name, value in attributes.items():
        if name in _MARKS:
            raw = _property(name[1:], value)
            if name == ":message-id":
                headers += (_KEYS[_SENDERS], wire.long(value))
            elif not raw.startswith(_DIRECT, 1):
                properties[name[1:]] = raw
            continue
        plain, _, kind = name.rpartition(":")
        if kind not in _KINDS or not plain:
            plain, kind = name, "String.text"
        if plain in _OWN or plain in _BROKERS or not plain:
            continue
        headers += (wire.short(plain), _KINDS[kind].encode(), _field(kind, value))
    properties["headers"] = wire.long(b"".join(headers))
    flags = sum(bit for name, bit in _PROPERTIES if name in properties)
    return flags.to_bytes(2, "big") + b"".join(
        properties[name] for name, _ in _PROPERTIES if name in properties)


def _property(name: str, value: str) -> bytes:
    if name == "priority":
        return int(value).to_bytes(1, "big")
    if name == "timestamp":
        return int(value).to_bytes(8, "big")
    return wire.short(value)


def _field(kind: str, value: str) -> bytes:
    """The bytes of a header. Raises ValueError, OverflowError or struct.error."""
    letter = _KINDS[kind]
    if kind.startswith("Binary"):
        raw = base64.b64decode(value, validate=True)
        if letter == "D":
            return bytes(wire.FIELDS["D"].pack(*wire.FIELDS["D"].unpack(raw)))
        if letter in "AF":
            wire.Reader(letter.encode() + wire.long(raw)).field()
        return wire.long(raw)
    if letter == "S":
        return wire.long(value)
    if letter == "V":
        return b""
    if letter == "t":
        return b"\x01" if value == "true" else b"\0"
    number = float(value) if letter in "fd" else int(value)
    return bytes(wire.FIELDS[letter].pack(number))
