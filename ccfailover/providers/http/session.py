"""Requests to one switch: base URL, credentials, and errors that never show either's secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from ccfailover.errors import Rejected
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Resolve
from ccfailover.providers.curl import (
    MIB,
    Client,
    Origin,
    Reply,
    Request,
    check_status,
    origin,
    retry_after,
)
from ccfailover.providers.documents import parse
from ccfailover.providers.http.settings import Call
from ccfailover.providers.http.template import render
from ccfailover.providers.params import is_reference, mapping, text
from ccfailover.runtime import Runtime

if TYPE_CHECKING:  # only for those who send several at a time
    from ccfailover.providers.http.flight import Ended, GoOn

_CONNECT_TIMEOUT = 5.0
_BODY_CAP = 1_048_576
_MARK = re.compile(r"\{([a-z]+)\}")


class Session:
    """Shared by a provider's levers; threads may share it. Secrets are fetched when first used
    and fetched anew after a 401, so that a rotated one is picked up."""

    def __init__(self, spec: ProviderSpec, resolve: Resolve, runtime: Runtime, *,
                 timeout: float, cap: int = MIB) -> None:
        self.name = spec.name
        self._params = spec.params
        self._resolve = resolve
        self._runtime = runtime
        tls = mapping(spec.params.get("tls"))
        self._client = Client(
            spec.name,
            timeout=timeout,
            connect_timeout=_CONNECT_TIMEOUT,
            ca=text(tls.get("ca")) or None,
            verify=tls.get("verify") is not False,
            cap=cap,
        )
        self._timeout, self._cap = timeout, cap
        self._cached: dict[str, str] = {}

    def close(self) -> None:
        self._client.close()
        self._cached.clear()

    def place(self, call: Call, ref: str) -> str:
        """The request's address as errors show it: no login, no query."""
        return self._origin().shown + _path(call, ref).split("?", 1)[0]

    def read(self, call: Call, ref: str,
             fill: Mapping[str, str] | None = None) -> tuple[object, Reply]:
        """The reply as JSON. Raises Rejected when it is not JSON or over the cap."""
        where = self.place(call, ref)
        reply = self._send(call, ref, where, writes=False, headers={}, key="", body=None,
                           fill=fill)
        return self.document(reply, where), reply

    def document(self, reply: Reply, where: str) -> object:
        """What the reply says. Raises Rejected when it is not JSON or over the cap."""
        if reply.cut:
            raise Rejected(f"the reply is larger than {self._cap // MIB} MiB",
                           provider=self.name, where=where)
        try:
            return parse(reply.body)
        except ValueError as error:
            raise Rejected(f"the reply makes no sense: {error}", provider=self.name,
                           where=where) from None

    def write(
        self, call: Call, ref: str, *, key: str, values: Mapping[str, object],
        default: object, headers: Mapping[str, str], not_done: str,
        fill: Mapping[str, str] | None = None, once: bool = False,
    ) -> Reply:
        """Render and send. Raises Rejected before anything is sent when the body cannot be
        rendered or, being said to be JSON, is not JSON."""
        where = self.place(call, ref)
        everything = {"Content-Type": "application/json", **headers}
        body = self._render(call, values, default, where, not_done)
        self.check_json(call, body, everything, where, not_done)
        return self._send(call, ref, where, writes=True, headers=everything, key=key, body=body,
                          not_done=not_done, fill=fill, once=once)

    def check_json(self, call: Call, body: bytes, headers: Mapping[str, str], where: str,
                   not_done: str) -> None:
        """Raises Rejected for a body that is said to be JSON, and is not."""
        kind = next((v for k, v in {**headers, **call.headers}.items()
                     if k.lower() == "content-type"), "")
        if "json" in kind:
            try:
                parse(body)
            except ValueError as error:
                raise Rejected(
                    f"the body template does not give JSON: {error}", provider=self.name,
                    where=where, not_done=not_done, hint="correct `body` in the policy",
                ) from None

    def _render(
        self, call: Call, values: Mapping[str, object], default: object, where: str, not_done: str
    ) -> bytes:
        if call.body is None:
            return json.dumps(default, sort_keys=True).encode()
        try:
            body = render(call.body, values)
        except ValueError as error:
            raise Rejected(
                f"the body template fails: {error}", provider=self.name,
                where=where, not_done=not_done,
                hint=f"it gets {', '.join(sorted(values))}",
            ) from None
        if len(body) > _BODY_CAP:
            raise Rejected("the body template gives more than 1 MiB", provider=self.name,
                           where=where, not_done=not_done)
        return body

    def _send(
        self, call: Call, ref: str, where: str, *, writes: bool, headers: Mapping[str, str],
        key: str, body: bytes | None, not_done: str | None = None,
        fill: Mapping[str, str] | None = None, once: bool = False,
    ) -> Reply:
        each = self.request(call, ref, writes=writes, headers=headers, key=key, body=body,
                            fill=fill, once=once)
        reply = self._client.exchange(each)
        self.check(reply, where, writes=writes, not_done=not_done)
        return reply

    def forget(self) -> None:
        """Fetch every secret anew: one of them was refused."""
        self._cached.clear()

    def check(self, reply: Reply, where: str, *, writes: bool,
              not_done: str | None = None) -> None:
        """Raise what the reply's status means."""
        if reply.status == 401:
            self.forget()
        check_status(reply, provider=self.name, where=where, writes=writes,
                     now=self._runtime.now, not_done=not_done)

    def request(self, call: Call, ref: str, *, writes: bool, body: bytes | None, key: str = "",
                headers: Mapping[str, str] | None = None,
                fill: Mapping[str, str] | None = None, once: bool = False) -> Request:
        """One request as it will be sent. `fill` are further marks of path and headers; `once`:
        libcurl must not repeat it by itself. Raises Rejected when a header cannot be sent."""
        where, marks = self.place(call, ref), {"ref": ref, **(fill or {})}
        base = self._origin()
        lines = {"Accept": "application/json", **(headers or {})}
        for name, value in call.headers.items():
            lines = {k: v for k, v in lines.items() if k.lower() != name.lower()}
            lines[name] = self._secret(value) if is_reference(value) else _filled(
                value, {**marks, "key": key})
        login = base.login
        auth = mapping(self._params.get("auth"))
        if "bearer" in auth:
            lines["Authorization"] = "Bearer " + self._secret(text(auth["bearer"]))
            login = None
        elif "basic" in auth:
            basic = mapping(auth["basic"])
            login = (text(basic.get("user")), self._secret(text(basic.get("password"))))
        elif "header" in auth:
            header = mapping(auth["header"])
            lines[text(header.get("name"))] = self._secret(text(header.get("value")))
        for name, value in lines.items():
            if any(ord(letter) < 32 or ord(letter) == 127 for letter in name + value):
                raise Rejected(f"the value of header {name} has a control character",
                               provider=self.name, where=where, not_done="nothing was sent")
        if any(value in (".", "..") for value in marks.values()):
            raise Rejected("a dot cannot stand for itself in a path", provider=self.name,
                           where=where, not_done="nothing was sent")
        path = _filled(call.path, {name: quote(value, safe="") for name, value in marks.items()})
        return Request(call.method, base.url + path, where, writes, tuple(lines.items()), body,
                       login, once=once)

    def send_many(self, requests: Sequence[Request], *, at_a_time: int,
                  go_on: GoOn = lambda ended: True) -> list[Ended | None]:
        """How each ended, whatever its status; see `flight.send_many`."""
        from ccfailover.providers.http.flight import send_many

        return send_many(self._client, requests, at_a_time=at_a_time, seconds=self._timeout,
                         runtime=self._runtime, go_on=go_on)

    def retry_after(self, reply: Reply) -> float | None:
        return retry_after(reply.headers, self._runtime.now)

    def holds_secret(self, said: str) -> bool:
        """A peer may echo what it was sent: what repeats a credential must not be kept."""
        return any(len(secret) > 3 and secret in said for secret in self._cached.values())

    def _secret(self, reference: str) -> str:
        if reference not in self._cached:
            self._cached[reference] = self._resolve(reference).rstrip("\r\n")
        return self._cached[reference]

    def _origin(self) -> Origin:
        url = text(self._params.get("url"))
        secret = is_reference(url)
        try:
            return origin(self._secret(url) if secret else url, secret=secret)
        except ValueError as error:
            raise Rejected(str(error), provider=self.name, not_done="nothing was sent",
                           hint="correct url of this provider in the policy") from None


def _path(call: Call, ref: str) -> str:
    return call.path.replace("{ref}", quote(ref, safe=""))


def _filled(value: str, marks: Mapping[str, str]) -> str:
    """Every mark at once, so that what one brings in is not taken for another."""
    return _MARK.sub(lambda found: marks.get(found[1], found[0]), value)
