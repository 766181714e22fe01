"""What Twilio's own SDK says of a resource: which requests it sends for it, which form fields they
have, and what it reads from the reply.

The SDK's own code makes the requests and parses the replies. It does not say which members may be
null, nor ranges: the latter stay by hand.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import import_module
from typing import Any, get_args

from tests.servers.published import hollow
from tests.servers.rest import Asked

_TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "datetime": datetime}
_CAPABILITIES = {"voice", "sms", "mms", "fax"}
"""Of a number. The SDK says that they are a text, and passes on what comes: the API's document and
the vendor's SDKs for other languages say that they are an object of these, each true or false."""
Kind = type | frozenset[str]
"""A type, or the values that are allowed."""


class _Sent(Exception):
    """In place of a request that goes out."""

    def __init__(self, method: str, uri: str, fields: Mapping[str, Any]) -> None:
        super().__init__(uri)
        self.method, self.uri, self.fields = method, uri, fields


class _Version:
    """In place of the SDK's version of an API, which would send."""

    def update_with_response_info(self, method: str, uri: str, data: Any, headers: Any) -> None:
        raise _Sent(method, uri, data)

    def fetch_with_response_info(self, method: str, uri: str, headers: Any) -> None:
        raise _Sent(method, uri, {})

    def page(self, method: str, uri: str, params: Any, headers: Any) -> None:
        raise _Sent(method, uri, params)


class Resource:
    """`parts`: what of the path the SDK is given; `key`: under which a list has its entries."""

    def __init__(self, module: str, name: str, version: str, *parts: str) -> None:
        for package in ("twilio", "twilio.rest"):
            hollow(package, object)
        steps = module.split(".")
        for depth in range(1, len(steps)):
            hollow(f"twilio.rest.{'.'.join(steps[:depth])}")
        self._module = import_module(f"twilio.rest.{module}")
        self._name, self._version, self._parts = name, version, parts
        self._members = self._read_members()

    def update(self) -> Operation:
        return self._operation(self._made("Context", *self._parts)._update, self.problems)

    def fetch(self) -> Operation:
        return self._operation(self._made("Context", *self._parts)._fetch, self.problems)

    def list(self) -> Operation:
        return self._operation(self._made("List", *self._parts[:-1]).page, self._list_problems)

    def problems(self, told: Any, where: str = "") -> Iterator[str]:
        """Unknown and missing members, types, times, and values that are none of the allowed
        ones."""
        where = where or self._name
        if not isinstance(told, dict):
            yield f"{where}: no object"
            return
        for name in sorted(set(told) - set(self._members)):
            yield f"{where}.{name}: unknown member"
        for name in sorted(set(self._members) - set(told)):
            yield f"{where}.{name}: missing"
        parsed = self._class("Instance")(_Version(), told, *self._parts[:-1])
        for name, (attribute, kind) in self._members.items():
            raw = told.get(name)
            if raw is None:
                continue
            if name == "capabilities":
                if not isinstance(raw, dict) or set(raw) - _CAPABILITIES or any(
                        type(each) is not bool for each in raw.values()):
                    yield f"{where}.{name}: no capabilities"
            elif kind is datetime:
                if not isinstance(getattr(parsed, attribute), datetime):
                    yield f"{where}.{name}: no time"
            elif isinstance(kind, frozenset):
                if raw not in kind:
                    yield f"{where}.{name}: {raw!r} is none of {sorted(kind)}"
            elif type(raw) is not kind:
                yield f"{where}.{name}: no {kind.__name__}"

    def _list_problems(self, told: Any) -> Iterator[str]:
        """Entries where the SDK looks for them; the next page, too."""
        response = import_module("twilio.http.response").Response(200, json.dumps(told))
        solution = dict.fromkeys(self._parts[:-1], "")
        try:
            page = self._class("Page")(_Version(), response, solution)
            entries = page.load_page(told)
        except (import_module("twilio.base.exceptions").TwilioException, LookupError,
                TypeError) as error:
            yield f"no list that the SDK can read: {error!r}"
            return
        for link in (page.next_page_url, page.previous_page_url):
            if not isinstance(link, str | None):
                yield f"meta: {link!r} is no page"
        for index, entry in enumerate(entries):
            yield from self.problems(entry, f"[{index}]")

    def _operation(self, call: Any, reply_problems: Any) -> Operation:
        """`call` once, each of its parameters saying which it is: so the form's names are known."""
        kinds = {name: self._kind(parameter.annotation)
                 for name, parameter in inspect.signature(call).parameters.items()}
        try:
            call(**{name: f"<{name}>" for name in kinds})
        except _Sent as request:
            sent = request
        # A restricted type is made a text by a call of its own, which may change its case.
        fields = {field: kinds[str(value).strip("<>").lower()]
                  for field, value in sent.fields.items()}
        return Operation(sent.method, f"/{self._version}{sent.uri}", fields, reply_problems)

    def _class(self, suffix: str) -> Any:
        return getattr(self._module, self._name + suffix)

    def _made(self, suffix: str, *parts: str) -> Any:
        return self._class(suffix)(_Version(), *(f"{{{part}}}" for part in parts))

    def _kind(self, annotation: Any) -> Kind:
        """Of `Union[X, object]`."""
        wanted = get_args(annotation)[0]
        return wanted if isinstance(wanted, type) else self._allowed(wanted.__forward_arg__)

    def _allowed(self, name: str) -> frozenset[str]:
        """The values of an enumeration, `SomeInstance.Status`."""
        owner, _, last = name.partition(".")
        found = getattr(getattr(self._module, owner), last)
        return frozenset(value for key, value in vars(found).items() if key.isupper())

    def _read_members(self) -> dict[str, tuple[str, Kind]]:
        """Member of the reply → the SDK's attribute and its type, as its constructor says them:
        `self.weight: Optional[int] = deserialize.integer(payload.get("weight"))`."""
        source = textwrap.dedent(inspect.getsource(self._class("Instance").__init__))
        found = {}
        for line in ast.walk(ast.parse(source)):
            if not isinstance(line, ast.AnnAssign) or line.value is None:
                continue
            for call in ast.walk(line.value):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "payload.get":
                    assert isinstance(line.target, ast.Attribute)
                    assert isinstance(line.annotation, ast.Subscript)
                    member, kind = ast.literal_eval(call.args[0]), line.annotation.slice
                    found[member] = (line.target.attr, _TYPES[kind.id] if isinstance(
                        kind, ast.Name) else self._allowed(ast.literal_eval(kind)))
        return found


class Operation:
    """`fields`: of the form, or of the query where nothing is posted."""

    def __init__(self, method: str, path: str, fields: Mapping[str, Kind],
                 reply_problems: Any) -> None:
        self.method, self._fields, self.reply_problems = method, fields, reply_problems
        self.path = re.compile(re.sub(r"\\{\w+\\}", "([A-Z]{2}[0-9a-f]{32})", re.escape(path)))

    def request_problems(self, asked: Asked) -> Iterator[str]:
        given = asked.query
        if self.method == "POST":
            if given:
                yield "a query where a form is taken"
            try:
                given = asked.form()
            except ValueError as error:
                yield str(error)
                return
        elif asked.body:
            yield "a body where none is taken"
        for name, value in given.items():
            kind = self._fields.get(name)
            if kind is None:
                yield f"{name}: unknown field"
            elif isinstance(kind, frozenset):
                if value not in kind:
                    yield f"{name}: {value!r} is none of {sorted(kind)}"
            elif not re.fullmatch({int: r"-?[0-9]+", bool: "true|false"}.get(kind, "(?s:.*)"),
                                  value):
                yield f"{name}: no {kind.__name__}"


def error_problems(status: int, told: Any) -> Iterator[str]:
    """Of a refusal's body: what the SDK makes an exception of."""
    hollow("twilio", object)
    hollow("twilio.rest", object)
    response = import_module("twilio.http.response").Response(status, json.dumps(told))
    version = import_module("twilio.base.version").Version
    error = version.exception("GET", "/", response, "")
    if type(error).__name__ != "TwilioRestException" or type(error.code) is not int:
        yield f"no error that the SDK knows: {told!r}"
    elif error.code != told.get("code") or told.get("message") not in error.msg.split(": ", 1):
        yield f"an error without code or message: {told!r}"
    if told.get("status") != status:
        yield f"another status than {status}: {told!r}"
