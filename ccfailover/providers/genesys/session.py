"""Requests to the platform API, with a token that is fetched when it is first needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final
from urllib.parse import quote

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers.curl import Client, Reply, Request, check_status, origin
from ccfailover.providers.documents import parse
from ccfailover.providers.params import text
from ccfailover.runtime import Runtime

_CONNECT_TIMEOUT: Final = 5.0
_EARLY: Final = 60.0
"""Seconds before its end from which a token is not used any more."""
_LONGEST: Final = 172_800.0
"""Seconds: no client's token lives longer than two days."""


class Session:
    """Threads may share it, and its token with it. Of the platform's words none gets into an
    error, since a reply may quote what it was sent."""

    def __init__(self, spec: ProviderSpec, resolve: Callable[[str], str], runtime: Runtime, *,
                 timeout: float) -> None:
        self.name = spec.name
        self._params, self._resolve, self._runtime = spec.params, resolve, runtime
        self._client = Client(spec.name, timeout=timeout, connect_timeout=_CONNECT_TIMEOUT)
        self._timeout = timeout
        self._lock = Lock()
        self._token: tuple[str, float] | None = None

    def __repr__(self) -> str:
        return f"Session({self.name})"

    def close(self) -> None:
        self._client.close()
        self._token = None

    def place(self, group: str) -> str:
        base = self._base("api_url", "api")
        return f"{base}/api/v2/architect/emergencygroups/{quote(group, safe='')}"

    def end(self) -> float:
        """When a call of several requests that begins now has to be over (monotonic seconds)."""
        return self._runtime.monotonic() + self._timeout

    def get(self, url: str, end: float) -> Mapping[str, object]:
        """Raises Rejected when the answer is no JSON object."""
        reply = self._authorized("GET", url, None, end)
        self._check(reply, url, writes=False)
        return self._document(reply, url)

    def put(self, url: str, body: Mapping[str, object], end: float, *, not_done: str) -> None:
        """Raises Changed when the version in the body is not the current one."""
        reply = self._authorized("PUT", url, json.dumps(body).encode(), end)
        self._check(reply, url, writes=True, not_done=not_done)

    def nonsense(self, what: str, where: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self.name, where=where)

    def _authorized(self, method: str, url: str, body: bytes | None, end: float) -> Reply:
        """With a token; when that is refused, once more with a new one: nothing was done then."""
        token = self._current(end, refused=None)
        reply = self._send(method, url, body, end, token)
        if reply.status == 401:
            reply = self._send(method, url, body, end, self._current(end, refused=token))
        return reply

    def _current(self, end: float, refused: str | None) -> str:
        """The token that everybody uses, or a new one in place of the one that was refused."""
        with self._lock:
            now = self._runtime.monotonic()
            if self._token is None or self._token[0] == refused or self._token[1] <= now:
                self._token = None
                self._token = self._fetch(end, now)
            return self._token[0]

    def _fetch(self, end: float, now: float) -> tuple[str, float]:
        url = f"{self._base('login_url', 'login')}/oauth/token"
        client, secret = (self._resolve(text(self._params.get(name))).strip()
                          for name in ("client", "secret"))
        reply = self._client.exchange(Request(
            "POST", url, url, writes=False,
            headers=[("Content-Type", "application/x-www-form-urlencoded"),
                     ("Accept", "application/json")],
            body=b"grant_type=client_credentials", login=(client, secret),
            timeout=self._left(end, url)))
        if reply.status in (400, 401):
            raise Rejected(f"no token was given (replied {reply.status})", provider=self.name,
                           where=url, not_done="nothing was sent",
                           hint="check client and secret of this provider, and that the client's "
                                "grant type is Client Credentials")
        self._check(reply, url, writes=False)
        document = self._document(reply, url)
        token, life = document.get("access_token"), document.get("expires_in")
        if not isinstance(token, str) or not (token.isascii() and token.isprintable() and token):
            raise self.nonsense("no access token", url)
        if isinstance(life, bool) or not isinstance(life, int | float) or not life > 0:
            raise self.nonsense("no life of the token", url)
        return token, now + float(min(life, _LONGEST)) - _EARLY

    def _send(self, method: str, url: str, body: bytes | None, end: float, token: str) -> Reply:
        headers = [("Authorization", f"Bearer {token}"), ("Accept", "application/json")]
        if body is not None:
            headers.append(("Content-Type", "application/json"))
        return self._client.exchange(Request(
            method, url, url, writes=body is not None, headers=headers, body=body,
            timeout=self._left(end, url)))

    def _left(self, end: float, where: str) -> float:
        left = end - self._runtime.monotonic()
        if left <= 0:
            raise Unavailable("no time was left for this request", in_doubt=False,
                              provider=self.name, where=where, not_done="it was not sent")
        return left

    def _check(self, reply: Reply, where: str, *, writes: bool,
               not_done: str | None = None) -> None:
        check_status(reply, provider=self.name, where=where, writes=writes,
                     now=self._runtime.now, not_done=not_done)

    def _document(self, reply: Reply, where: str) -> Mapping[str, object]:
        if reply.cut:
            raise self.nonsense("it is larger than 1 MiB", where)
        try:
            document = parse(reply.body)
        except ValueError as error:
            raise self.nonsense(str(error), where) from None
        if not isinstance(document, dict):
            raise self.nonsense("no JSON object", where)
        return document

    def _base(self, name: str, host: str) -> str:
        default = f"https://{host}.{text(self._params.get('region'))}"
        try:
            return origin(text(self._params.get(name), default)).url
        except ValueError as error:
            raise Rejected(str(error), provider=self.name, not_done="nothing was sent",
                           hint=f"correct region or {name} of this provider in the policy",
                           ) from None
