"""Work items as SQS messages, and back.

What travels with an item, in message attributes: `ccf-item-id`, `ccf-submitted` (the original
time, because SentTimestamp starts anew at the target), `ccf-hops`, `ccf-key`. The sender's own
attributes are kept. In `WorkItem.attributes` a plain string attribute goes by its name, another
type by `name:Type` (binary in base64), the message group by `:group`; a colon cannot be part of
an SQS name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NotRequired, TypedDict

from ccfailover.model.items import WorkItem
from ccfailover.providers.bodies import understand

DEDUP_WINDOW: Final = 300.0
BATCH: Final = 10
MAX_BYTES: Final = 1_048_576
"""Largest message, and largest batch (body and attributes together)."""
MAX_ITEM_BYTES: Final = MAX_BYTES - 4096
GROUP: Final = ":group"
_ITEM, _SUBMITTED, _HOPS, _KEY = "ccf-item-id", "ccf-submitted", "ccf-hops", "ccf-key"
_OWN: Final = frozenset({_ITEM, _SUBMITTED, _HOPS, _KEY})
_MAX_ATTRIBUTES: Final = 10
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What the service does not take in a body (its reference for SendMessage says so)."""


class Attribute(TypedDict, total=False):
    """`BinaryValue` is base64, as on the wire."""

    DataType: str
    StringValue: str
    BinaryValue: str


class Entry(TypedDict):
    Id: str
    MessageBody: str
    MessageAttributes: dict[str, Attribute]
    MessageGroupId: NotRequired[str]
    MessageDeduplicationId: NotRequired[str]


class CannotTravel(ValueError):
    """This item can never be put into an SQS queue; the text says why, without its content."""


def decode(
    message: Mapping[str, object], mapping: Mapping[str, str], max_bytes: int
) -> WorkItem:
    """A received message as a work item; `problem` is set when the body cannot be used, or is not
    the one whose digest the service gives. Raises TypeError and ValueError for what is no message.
    """
    body = _string(message, "Body").encode("utf-8", "surrogatepass")
    own, others = _carried(message)
    system = _block(message.get("Attributes"))
    found = understand(body, mapping, max_bytes)
    problem, item_id = found.problem, found.item_id
    if not _digest_fits(message.get("MD5OfBody"), body):
        problem, item_id = "the body is not the one whose digest the service gives", ""
    return WorkItem(
        item_id=item_id,
        message_id=_string(message, "MessageId"),
        body=body,
        fields=found.fields,
        handle=_string(message, "ReceiptHandle"),
        submitted=(own.get(_SUBMITTED) or found.submitted
                   or _sent(_string(system, "SentTimestamp"))),
        hops=_count(own.get(_HOPS, ""), 0),
        receives=_count(_string(system, "ApproximateReceiveCount"), 1),
        problem=problem,
        attributes=others,
    )


def _string(source: Mapping[str, object], name: str, default: str = "") -> str:
    value = source.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{name} is no string")
    return value


def _block(value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError("no object where there should be one")
    return value


def _carried(message: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Our own attributes, as far as they are strings, and the sender's."""
    own: dict[str, str] = {}
    found: dict[str, str] = {}
    for name, value in _block(message.get("MessageAttributes")).items():
        one = _block(value)
        kind = _string(one, "DataType", "String")
        if name in _OWN:
            if kind == "String":
                own[name] = _string(one, "StringValue")
        elif kind.startswith("Binary"):
            raw = base64.b64decode(_string(one, "BinaryValue"), validate=True)
            found[f"{name}:{kind}"] = base64.b64encode(raw).decode()
        else:
            found[name if kind == "String" else f"{name}:{kind}"] = _string(one, "StringValue")
    group = _string(_block(message.get("Attributes")), "MessageGroupId")
    if group:
        found[GROUP] = group
    return own, found


def same_content(made: Entry, sent: Mapping[str, object]) -> bool:
    """Do the digests in the service's receipt fit what was sent? True where it gives none.

    Neither boto3 nor TLS looks here, and both an application and the date from which its legal
    deadline runs are at stake, for a few microseconds each."""
    return (_digest_fits(sent.get("MD5OfMessageBody"), made["MessageBody"].encode())
            and _digest_fits(sent.get("MD5OfMessageAttributes"),
                             _canonical(made["MessageAttributes"])))


def _digest_fits(digest: object, content: bytes) -> bool:
    return digest is None or digest == hashlib.md5(content, usedforsecurity=False).hexdigest()


def _canonical(attributes: Mapping[str, Attribute]) -> bytes:
    """What the service digests: name, type, kind of value and value, by name, with lengths."""
    parts: list[bytes] = []
    for name in sorted(attributes):
        one = attributes[name]
        binary = "BinaryValue" in one
        value = base64.b64decode(one["BinaryValue"]) if binary else one["StringValue"].encode()
        parts += (_named(name, one["DataType"], binary), len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


@lru_cache(64)
def _named(name: str, kind: str, binary: bool) -> bytes:
    parts = (name.encode(), kind.encode())
    return b"".join((*(len(part).to_bytes(4, "big") + part for part in parts),
                     b"\x02" if binary else b"\x01"))


def entry(
    item: WorkItem, key: str, index: int, *, fifo: bool
) -> Entry:
    """A batch entry for an item. Raises CannotTravel."""
    try:
        body = item.body.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotTravel("the body is not UTF-8") from None
    if not body or _forbidden(body):
        raise CannotTravel("the body is empty or has characters that SQS does not take")
    attributes = _outgoing(item, key)
    if len(attributes) > _MAX_ATTRIBUTES:
        raise CannotTravel(f"it carries {len(attributes) - len(_OWN)} attributes of its own, "
                           "and SQS has room for 6 beside ours")
    made: Entry = {
        "Id": str(index), "MessageBody": body, "MessageAttributes": attributes,
    }
    if _forbidden("".join([f"{name}{value['DataType']}{value.get('StringValue', '')}"
                           for name, value in attributes.items()])):
        raise CannotTravel("an attribute has characters that SQS does not take")
    group = item.attributes.get(GROUP)
    if fifo:
        made["MessageGroupId"] = _short(group or item.item_id)
        made["MessageDeduplicationId"] = _short(key)
    elif group:
        made["MessageGroupId"] = _short(group)
    return made


def size(made: Entry) -> int:
    """Bytes that count towards the limits: body, and name, type and value of each attribute."""
    total = _bytes(made["MessageBody"])
    for name, value in made["MessageAttributes"].items():
        total += _bytes(f"{name}{value['DataType']}{value.get('StringValue', '')}")
        if "BinaryValue" in value:
            total += len(base64.b64decode(value["BinaryValue"]))
    return total


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _forbidden(text: str) -> bool:
    """Whatever is printable is allowed, and that is known sooner."""
    return not text.isprintable() and _FORBIDDEN.search(text) is not None


def _outgoing(item: WorkItem, key: str) -> dict[str, Attribute]:
    made: dict[str, Attribute] = {}
    for name, value in item.attributes.items():
        plain, _, kind = name.partition(":")
        if not plain or plain in _OWN:
            continue
        if kind.startswith("Binary"):
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise CannotTravel("a binary attribute is not base64") from None
            made[plain] = {"DataType": kind, "BinaryValue": value}
        elif value:
            made[plain] = {"DataType": kind or "String", "StringValue": value}
    own = {_ITEM: item.item_id, _SUBMITTED: item.submitted or "", _KEY: key,
           _HOPS: str(item.hops)}
    for name, value in own.items():
        if value:
            made[name] = {"DataType": "String", "StringValue": value}
    return made


def _short(value: str) -> str:
    """Group and deduplication ids: up to 128 printable ASCII characters; else a digest."""
    return value if _ID.fullmatch(value) else hashlib.sha256(
        value.encode("utf-8", "surrogatepass")).hexdigest()


def _sent(milliseconds: str) -> str | None:
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) <= 14):
        return None
    moment = datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count(value: str, default: int) -> int:
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 6 else default
