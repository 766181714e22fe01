"""What Genesys Cloud's own SDK says of its platform API: operations, and the models of what they
take and give.

The SDK says neither which members are required nor which are read only: that stays by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import Any

from tests.servers.published import hollow
from tests.servers.rest import Asked

_SDK = "PureCloudPlatformClientV2"
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "str": str, "int": int, "bool": bool, "float": (int, float), "object": object}
_OUTDATED = "outdated_sdk_version"
"""What the SDK's setters put in the place of a value that is none of the allowed ones."""


@cache
def _packages() -> None:
    hollow(_SDK)
    for name in ("models", "apis", "configuration", "api_client"):
        hollow(f"{_SDK}.{name}", object)


@cache
def _model(name: str) -> Any:
    _packages()
    file = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return getattr(import_module(f"{_SDK}.models.{file}"), name)


def problems(value: Any, kind: str, where: str = "") -> Iterator[str]:
    """Unknown members, types, times, and values that are none of the allowed ones. null is what
    the SDK takes for nothing."""
    where = where or kind
    if value is None:
        return
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: no list"
            return
        for index, each in enumerate(value):
            yield from problems(each, listed[1], f"{where}[{index}]")
    elif mapped := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            yield f"{where}: no map"
            return
        for key, each in value.items():
            yield from problems(each, mapped[1], f"{where}.{key}")
    elif kind == "datetime":
        if not isinstance(value, str) or not _is_time(value):
            yield f"{where}: no time"
    elif plain := _PLAIN.get(kind):
        if not isinstance(value, plain) or (isinstance(value, bool) and kind in ("int", "float")):
            yield f"{where}: no {kind}"
    else:
        yield from _members(value, kind, where)


def _members(value: Any, kind: str, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: no {kind}"
        return
    model = _model(kind)()
    names = {key: attribute for attribute, key in model.attribute_map.items()}
    for key, each in value.items():
        attribute = names.get(key)
        if attribute is None:
            yield f"{where}.{key}: unknown member"
            continue
        wrong = list(problems(each, model.swagger_types[attribute], f"{where}.{key}"))
        yield from wrong
        if isinstance(each, str) and not wrong:
            setattr(model, attribute, each)
            if getattr(model, attribute) == _OUTDATED:
                yield f"{where}.{key}: {each!r} is none of the allowed values"


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


class _Sent(Exception):
    """In place of a request that goes out."""

    def __init__(self, path: str, method: str, query: Any, gives: str) -> None:
        super().__init__(path)
        self.path, self.method, self.query, self.gives = path, method, query, gives


class _Client:
    """In place of the SDK's client, which would send."""

    def select_header_accept(self, kinds: list[str]) -> str:
        return kinds[0]

    select_header_content_type = select_header_accept

    def call_api(self, path: str, method: str, parts: Any, query: Any, headers: Any,
                 **more: Any) -> None:
        raise _Sent(path, method, query, more["response_type"])


class Operation:
    """One method of the SDK's ArchitectApi, by name: the request it would send, and its models."""

    def __init__(self, name: str) -> None:
        _packages()
        api: Any = import_module(f"{_SDK}.apis.architect_api").ArchitectApi(_Client())
        method = getattr(api, name)
        needed = inspect.signature(method).parameters
        try:
            method(**{each: each for each in needed if each != "kwargs"})
        except _Sent as request:
            sent = request
        self.method, self._gives = sent.method, sent.gives
        self.path = re.compile(re.sub(r"\{\w+\}", "([^/]+)", sent.path))
        self._takes = str(needed["body"].annotation) if "body" in needed else None
        self._query = frozenset(sent.query)

    def request_problems(self, asked: Asked) -> Iterator[str]:
        for name in set(asked.query) - self._query:
            yield f"unknown parameter {name}"
        if self._takes is None:
            if asked.body:
                yield "a body where none is taken"
            return
        try:
            document = asked.json()
        except ValueError as error:
            yield str(error)
            return
        yield from problems(document, self._takes)

    def reply_problems(self, told: Any) -> Iterator[str]:
        yield from problems(told, self._gives)
