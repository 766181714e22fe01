"""The wire formats of Amazon's protocols, seen from the server: requests into plain documents,
documents into replies. Written from the protocols' descriptions; shapes say what stands where."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from botocore.model import OperationModel, Shape


def wire_name(name: str, shape: Shape) -> str:
    return str(shape.serialization.get("name", name))


# --- JSON --------------------------------------------------------------------------------------


def from_json(value: Any, shape: Shape) -> Any:
    """Numbers become times where the shape says so, wire names the model's names."""
    if value is None:
        return None
    if shape.type_name == "structure" and isinstance(value, dict):
        members = {wire_name(name, each): (name, each)
                   for name, each in shape.members.items()}  # type: ignore[attr-defined]
        return {members[key][0] if key in members else key:
                from_json(each, members[key][1]) if key in members else each
                for key, each in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [from_json(each, shape.member) for each in value]  # type: ignore[attr-defined]
    if shape.type_name == "timestamp" and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return value


def to_json(value: Any, shape: Shape) -> Any:
    if shape.type_name == "structure":
        members = shape.members  # type: ignore[attr-defined]
        return {wire_name(name, members[name]): None if each is None
                else to_json(each, members[name]) for name, each in value.items()}
    if shape.type_name == "list":
        return [to_json(each, shape.member) for each in value]  # type: ignore[attr-defined]
    if isinstance(value, datetime):
        return value.timestamp()
    return value


# --- XML ---------------------------------------------------------------------------------------


def from_xml(node: ElementTree.Element, shape: Shape) -> Any:
    if shape.type_name == "structure":
        members = {wire_name(name, each): (name, each)
                   for name, each in shape.members.items()}  # type: ignore[attr-defined]
        found: dict[str, Any] = {}
        for child in node:
            tag = child.tag.rpartition("}")[2]
            name, each = members.get(tag, (tag, None))
            found[name] = child.text if each is None else from_xml(child, each)
        return found
    if shape.type_name == "list":
        return [from_xml(child, shape.member) for child in node]  # type: ignore[attr-defined]
    text = node.text or ""
    if shape.type_name in ("integer", "long"):
        return int(text)
    if shape.type_name == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


def to_xml(parent: ElementTree.Element, name: str, value: Any, shape: Shape) -> None:
    node = ElementTree.SubElement(parent, name)
    if shape.type_name == "structure":
        for key, each in value.items():
            member = shape.members[key]  # type: ignore[attr-defined]
            if each is not None:
                to_xml(node, wire_name(key, member), each, member)
    elif shape.type_name == "list":
        member = shape.member  # type: ignore[attr-defined]
        for each in value:
            to_xml(node, wire_name("member", member), each, member)
    elif isinstance(value, bool):
        node.text = "true" if value else "false"
    elif isinstance(value, datetime):
        node.text = value.strftime("%Y-%m-%dT%H:%M:%SZ")
    else:
        node.text = str(value)


# --- CBOR (RFC 8949), as much as Smithy's protocol uses -------------------------------------------


def to_cbor(value: Any) -> bytes:
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, datetime):
        return b"\xc1\xfb" + struct.pack(">d", value.timestamp())
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(to_cbor(each) for each in value)
    return head(5, len(value)) + b"".join(
        to_cbor(key) + to_cbor(each) for key, each in value.items())


def head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for mark, size in ((24, "B"), (25, "H"), (26, "I"), (27, "Q")):
        if number < 1 << 8 * struct.calcsize(size):
            return bytes([major << 5 | mark]) + struct.pack(f">{size}", number)
    raise ValueError(number)


class Cbor:
    """A reader of one document; indefinite lengths too, which botocore writes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise ValueError("cut short")
        self._at += count
        return self._data[self._at - count:self._at]

    def value(self) -> Any:
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if major == 7:
            return self.simple(low)
        many = low == 31
        number = low if low < 24 or many else int.from_bytes(self.take(1 << low - 24), "big")
        if major == 0:
            return number
        if major == 1:
            return -1 - number
        if major in (2, 3):
            raw = self.take(number)
            return raw.decode() if major == 3 else raw
        if major == 4:
            return list(self.items(number, many))
        if major == 5:
            return {key: self.value() for key in self.items(number, many)}
        tagged = self.value()
        return datetime.fromtimestamp(tagged, UTC) if number == 1 else tagged

    def items(self, number: int, many: bool) -> Any:
        while many or number > 0:
            if many and self._data[self._at] == 0xFF:
                self.take(1)
                return
            number -= 1
            yield self.value()

    def simple(self, low: int) -> Any:
        known = {20: False, 21: True, 22: None, 23: None}
        if low in known:
            return known[low]
        sizes = {25: ("e", 2), 26: ("f", 4), 27: ("d", 8)}
        letter, size = sizes[low]
        return struct.unpack(f">{letter}", self.take(size))[0]


# --- Requests ------------------------------------------------------------------------------------


def template_matches(template: str, path: str) -> dict[str, str] | None:
    """The labels of a URI template, where the path fits it."""
    parts, given = template.split("?")[0].split("/"), path.split("/")
    if len(parts) != len(given):
        return None
    found: dict[str, str] = {}
    for part, value in zip(parts, given, strict=True):
        if part.startswith("{"):
            if not value:
                return None
            found[part.strip("{}")] = unquote(value)
        elif part != value:
            return None
    return found


def rest_request(operation: OperationModel, labels: dict[str, str], target: str,
                 body: bytes, *, xml: bool) -> dict[str, Any]:
    shape = operation.input_shape
    query = parse_qs(urlsplit(target).query, keep_blank_values=True)
    found: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    if body and xml:
        rest = from_xml(ElementTree.fromstring(body), shape)
    elif body:
        rest = from_json(json.loads(body), shape)
    for name, member in shape.members.items():
        where, wire = member.serialization.get("location"), wire_name(name, member)
        if where == "uri":
            found[name] = labels[wire]
        elif where == "querystring" and wire in query:
            value = query.pop(wire)[0]
            found[name] = int(value) if member.type_name in ("integer", "long") else value
    return {**found, **rest, **{f"?{name}": value for name, value in query.items()}}
