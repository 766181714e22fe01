"""What a work item's body says, in the policy's words; the same for every platform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ccfailover.providers.documents import MISSING, at, parse

_MAX_ID: Final = 200


class Understood(NamedTuple):
    """`problem` is None when the body can be moved; else `item_id` is empty."""

    fields: Mapping[str, object]
    item_id: str
    submitted: str | None
    problem: str | None


def understand(body: bytes, mapping: Mapping[str, str], max_bytes: int) -> Understood:
    """Read a body by the policy's `item` mapping: its names → keys of the JSON object, or JSON
    pointers where they begin with a slash. Only mapped fields are taken over; one that the body
    lacks is left out. `problem` is a sentence without any of the body's content."""
    if len(body) > max_bytes:
        return _problem(f"the body has {len(body)} bytes, more than {max_bytes}")
    try:
        document = parse(body)
    except ValueError as error:
        return _problem(f"the body cannot be read: {error}")
    if not isinstance(document, dict):
        return _problem("the body is JSON, but no object")
    fields: dict[str, object] = {}
    if "id" not in mapping and "id" in document:
        fields["id"] = document["id"]
    for name, where in mapping.items():
        if where[:1] == "/":
            value = at(document, where)
            if value is not MISSING:
                fields[name] = value
        elif where in document:
            fields[name] = document[where]
    raw = fields.get("id")
    item_id = str(raw) if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
    if not item_id.strip():
        return _problem("the body lacks the item's id", fields)
    if len(item_id) > _MAX_ID or not item_id.isprintable():
        return _problem("the item's id is too long or has control characters", fields)
    submitted = fields.get("submitted")
    text = str(submitted)[:64] if isinstance(submitted, str | int) else None
    return Understood(fields, item_id, text or None, None)


def _problem(what: str, fields: Mapping[str, object] | None = None) -> Understood:
    return Understood(fields or {}, "", None, what)
