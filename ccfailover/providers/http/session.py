"""Requests to one switch: base URL, credentials, and errors that never show either's secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from ccfailover.errors import Rejected
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Resolve
from ccfailover.providers.curl import Client, Origin, Reply, check_status, origin
from ccfailover.providers.documents import parse
from ccfailover.providers.http.settings import Call
from ccfailover.providers.http.template import render
from ccfailover.providers.params import is_reference, mapping, text
from ccfailover.runtime import Runtime

_CONNECT_TIMEOUT = 5.0
_BODY_CAP = 1_048_576


class Session:
    """Shared by a provider's levers; threads may share it. Secrets are fetched when first used
    and fetched anew after a 401, so that a rotated one is picked up."""

    def __init__(self, spec: ProviderSpec, resolve: Resolve, runtime: Runtime, *,
                 timeout: float) -> None:
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
        )
        self._cached: dict[str, str] = {}

    def close(self) -> None:
        self._client.close()
        self._cached.clear()

    def place(self, call: Call, ref: str) -> str:
        """The request's address as errors show it: no login, no query."""
        return self._origin().shown + _path(call, ref).split("?", 1)[0]

    def read(self, call: Call, ref: str) -> tuple[object, Reply]:
        """The reply as JSON. Raises Rejected when it is not JSON or over 1 MiB."""
        where = self.place(call, ref)
        reply = self._send(call, ref, where, writes=False, headers={}, key="", body=None)
        if reply.cut:
            raise Rejected("the reply is larger than 1 MiB", provider=self.name, where=where)
        try:
            return parse(reply.body), reply
        except ValueError as error:
            raise Rejected(f"the reply makes no sense: {error}", provider=self.name,
                           where=where) from None

    def write(
        self, call: Call, ref: str, *, key: str, values: Mapping[str, object],
        default: object, headers: Mapping[str, str], not_done: str,
    ) -> None:
        """Render and send. Raises Rejected before anything is sent when the body cannot be
        rendered or, being said to be JSON, is not JSON."""
        where = self.place(call, ref)
        everything = {"Content-Type": "application/json", **headers}
        body = self._render(call, values, default, where, not_done)
        kind = next((v for k, v in {**everything, **call.headers}.items()
                     if k.lower() == "content-type"), "")
        if "json" in kind:
            try:
                parse(body)
            except ValueError as error:
                raise Rejected(
                    f"the body template does not give JSON: {error}", provider=self.name,
                    where=where, not_done=not_done, hint="correct `body` in the policy",
                ) from None
        self._send(call, ref, where, writes=True, headers=everything, key=key, body=body,
                   not_done=not_done)

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
                hint="it gets shares, ref, key and version (a gate: open, ref, key)",
            ) from None
        if len(body) > _BODY_CAP:
            raise Rejected("the body template gives more than 1 MiB", provider=self.name,
                           where=where, not_done=not_done)
        return body

    def _send(
        self, call: Call, ref: str, where: str, *, writes: bool, headers: Mapping[str, str],
        key: str, body: bytes | None, not_done: str | None = None,
    ) -> Reply:
        base = self._origin()
        lines = {"Accept": "application/json", **headers}
        for name, value in call.headers.items():
            lines = {k: v for k, v in lines.items() if k.lower() != name.lower()}
            lines[name] = self._secret(value) if is_reference(value) else _fill(value, ref, key)
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
        reply = self._client.send(
            call.method, base.url + _path(call, ref), where=where, writes=writes,
            headers=list(lines.items()), body=body, login=login,
        )
        if reply.status == 401:
            self._cached.clear()
        check_status(reply, provider=self.name, where=where, writes=writes,
                     now=self._runtime.now, not_done=not_done)
        return reply

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


def _fill(value: str, ref: str, key: str) -> str:
    return value.replace("{ref}", ref).replace("{key}", key)
