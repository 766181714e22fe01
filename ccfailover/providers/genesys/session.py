"""Requests to the platform API, with a token that is fetched when it is first needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Lock
from typing import Final
from urllib.parse import quote

from ccfailover.errors import Rejected
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Resolve
from ccfailover.providers.curl import Reply, Request
from ccfailover.providers.params import text
from ccfailover.providers.vendor import VendorSession
from ccfailover.runtime import Runtime

_EARLY: Final = 60.0
"""Seconds before its end from which a token is not used any more."""
_LONGEST: Final = 172_800.0
"""Seconds: no client's token lives longer than two days."""


class Session(VendorSession):
    """Threads may share it, and its token with it."""

    def __init__(self, spec: ProviderSpec, resolve: Resolve, runtime: Runtime, *,
                 timeout: float) -> None:
        super().__init__(spec, resolve, runtime, timeout=timeout)
        self._lock = Lock()
        self._token: tuple[str, float] | None = None

    def close(self) -> None:
        super().close()
        self._token = None

    def place(self, group: str) -> str:
        base = self._at("api_url", "api")
        return f"{base}/api/v2/architect/emergencygroups/{quote(group, safe='')}"

    def get(self, url: str, end: float) -> Mapping[str, object]:
        """Raises Rejected when the answer is no JSON object."""
        reply = self._authorized("GET", url, None, end)
        self.check(reply, url, writes=False)
        return self.document(reply, url)

    def put(self, url: str, body: Mapping[str, object], end: float, *, not_done: str) -> None:
        """Raises Changed when the version in the body is not the current one."""
        reply = self._authorized("PUT", url, json.dumps(body).encode(), end)
        self.check(reply, url, writes=True, not_done=not_done)

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
        url = f"{self._at('login_url', 'login')}/oauth/token"
        reply = self._client.exchange(Request(
            "POST", url, url, writes=False,
            headers=[("Content-Type", "application/x-www-form-urlencoded"),
                     ("Accept", "application/json")],
            body=b"grant_type=client_credentials",
            login=(self.secret("client"), self.secret("secret")),
            timeout=self.left(end, url)))
        if reply.status in (400, 401):
            raise Rejected(f"no token was given (replied {reply.status})", provider=self.name,
                           where=url, not_done="nothing was sent",
                           hint="check client and secret of this provider, and that the client's "
                                "grant type is Client Credentials")
        self.check(reply, url, writes=False)
        document = self.document(reply, url)
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
            timeout=self.left(end, url)))

    def _at(self, name: str, host: str) -> str:
        return self.base(name, f"https://{host}.{text(self._params.get('region'))}",
                         f"region or {name}")
