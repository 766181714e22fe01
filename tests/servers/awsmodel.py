"""What a published service model says of a document: checked in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape


@cache
def service_model(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


class Wrong(Exception):
    """The document is not what the model says."""


def check(value: Any, shape: Shape, where: str = "") -> None:
    """Raises Wrong: unknown and missing members, types, enums, lengths, ranges and patterns."""
    for problem in problems(value, shape, where):
        raise Wrong(problem)


def problems(value: Any, shape: Shape, where: str) -> Iterator[str]:
    kind, meta = shape.type_name, shape.metadata
    if kind == "structure":
        if not isinstance(value, dict):
            yield f"{where}: no structure"
            return
        members = shape.members  # type: ignore[attr-defined]
        for name in value:
            if name not in members:
                yield f"{where}.{name}: unknown member"
        for name in shape.required_members:  # type: ignore[attr-defined]
            if value.get(name) is None:
                yield f"{where}.{name}: missing"
        for name, each in value.items():
            if name in members and each is not None:
                yield from problems(each, members[name], f"{where}.{name}")
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{where}: no list"
            return
        yield from within(len(value), meta, f"{where}: length")
        for index, each in enumerate(value):
            yield from problems(each, shape.member, f"{where}[{index}]")  # type: ignore[attr-defined]
    elif kind == "map":
        if not isinstance(value, dict):
            yield f"{where}: no map"
            return
        for key, each in value.items():
            yield from problems(key, shape.key, f"{where} key")  # type: ignore[attr-defined]
            yield from problems(each, shape.value, f"{where}.{key}")  # type: ignore[attr-defined]
    elif kind in ("string", "character"):
        yield from text_problems(value, shape, where)
    elif kind in ("integer", "long"):
        if isinstance(value, bool) or not isinstance(value, int):
            yield f"{where}: no whole number"
            return
        yield from within(value, meta, where)
    elif kind in ("double", "float"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{where}: no number"
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield f"{where}: neither true nor false"
    elif kind == "timestamp" and not isinstance(value, datetime):
        yield f"{where}: no time"


def as_python(pattern: str) -> str:
    """The models' patterns are Java's; of what Python lacks they use this one class only."""
    return pattern.replace(r"\P{C}", r" -~\u00a0-\U0010ffff")


def text_problems(value: Any, shape: Shape, where: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{where}: no text"
        return
    enum = shape.metadata.get("enum")
    if enum and value not in enum:
        yield f"{where}: {value!r} is none of {enum}"
    yield from within(len(value), shape.metadata, f"{where}: length")
    pattern = shape.metadata.get("pattern")
    if pattern and not re.search(f"^(?:{as_python(pattern)})$", value):
        yield f"{where}: {value!r} does not match {pattern}"


def within(number: int, meta: dict[str, Any], where: str) -> Iterator[str]:
    if "min" in meta and number < meta["min"]:
        yield f"{where} {number} is less than {meta['min']}"
    if "max" in meta and number > meta["max"]:
        yield f"{where} {number} is more than {meta['max']}"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)
