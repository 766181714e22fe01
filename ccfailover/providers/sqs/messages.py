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
from typing import TYPE_CHECKING, Final

from ccfailover.model.items import WorkItem
from ccfailover.providers.bodies import understand

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import (
        MessageAttributeValueTypeDef,
        MessageTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

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


class CannotTravel(ValueError):
    """This item can never be put into an SQS queue; the text says why, without its content."""


def decode(
    message: MessageTypeDef, mapping: Mapping[str, str], max_bytes: int
) -> WorkItem:
    """A received message as a work item; `problem` is set when the body cannot be used."""
    body = message.get("Body", "").encode("utf-8", "surrogatepass")
    attributes = _carried(message)
    system = message.get("Attributes", {})
    found = understand(body, mapping, max_bytes)
    return WorkItem(
        item_id=found.item_id,
        message_id=message.get("MessageId", ""),
        body=body,
        fields=found.fields,
        handle=message.get("ReceiptHandle", ""),
        submitted=(attributes.get(_SUBMITTED) or found.submitted
                   or _sent(system.get("SentTimestamp", ""))),
        hops=_count(attributes.get(_HOPS, ""), 0),
        receives=_count(system.get("ApproximateReceiveCount", ""), 1),
        problem=found.problem,
        attributes={k: v for k, v in attributes.items() if k.partition(":")[0] not in _OWN},
    )


def _carried(message: MessageTypeDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in message.get("MessageAttributes", {}).items():
        kind = value.get("DataType", "String")
        if kind.startswith("Binary"):
            raw = bytes(value.get("BinaryValue", b""))
            found[f"{name}:{kind}"] = base64.b64encode(raw).decode()
        else:
            key = name if kind == "String" else f"{name}:{kind}"
            found[key] = value.get("StringValue", "")
    group = message.get("Attributes", {}).get("MessageGroupId")
    if group:
        found[GROUP] = group
    return found


def entry(
    item: WorkItem, key: str, index: int, *, fifo: bool
) -> SendMessageBatchRequestEntryTypeDef:
    """A batch entry for an item. Raises CannotTravel."""
    try:
        body = item.body.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotTravel("the body is not UTF-8") from None
    if not body or _FORBIDDEN.search(body):
        raise CannotTravel("the body is empty or has characters that SQS does not take")
    attributes = _outgoing(item, key)
    if len(attributes) > _MAX_ATTRIBUTES:
        raise CannotTravel(f"it carries {len(attributes) - len(_OWN)} attributes of its own, "
                           "and SQS has room for 6 beside ours")
    made: SendMessageBatchRequestEntryTypeDef = {
        "Id": str(index), "MessageBody": body, "MessageAttributes": attributes,
    }
    group = item.attributes.get(GROUP)
    if fifo:
        made["MessageGroupId"] = _short(group or item.item_id)
        made["MessageDeduplicationId"] = _short(key)
    elif group:
        made["MessageGroupId"] = _short(group)
    return made


def size(made: SendMessageBatchRequestEntryTypeDef) -> int:
    """Bytes that count towards the limits: body, and name, type and value of each attribute."""
    total = len(made["MessageBody"].encode())
    for name, value in made.get("MessageAttributes", {}).items():
        total += len(name.encode()) + len(value["DataType"].encode())
        total += len(value.get("StringValue", "").encode())
        total += len(bytes(value.get("BinaryValue", b"")))  # type: ignore[arg-type]
    return total


def _outgoing(item: WorkItem, key: str) -> dict[str, MessageAttributeValueTypeDef]:
    made: dict[str, MessageAttributeValueTypeDef] = {}
    for name, value in item.attributes.items():
        plain, _, kind = name.partition(":")
        if not plain or plain in _OWN:
            continue
        if kind.startswith("Binary"):
            try:
                raw = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise CannotTravel("a binary attribute is not base64") from None
            made[plain] = {"DataType": kind, "BinaryValue": raw}
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
    return value if _ID.fullmatch(value) else hashlib.sha256(value.encode()).hexdigest()


def _sent(milliseconds: str) -> str | None:
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) <= 14):
        return None
    moment = datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count(value: str, default: int) -> int:
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 6 else default
