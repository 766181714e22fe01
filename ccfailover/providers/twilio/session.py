"""Requests to Twilio's REST interfaces: basic auth, forms in, JSON out.

An answer of 429 was never processed and may always be sent again (twilio.com/docs/errors/20429).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers.curl import Client, Reply, Request, check_status, origin
from ccfailover.providers.documents import parse
from ccfailover.providers.params import text
from ccfailover.runtime import Runtime

_CONNECT_TIMEOUT: Final = 5.0
_TRUNKING: Final = "https://trunking.twilio.com"
_API: Final = "https://api.twilio.com"
_MOST_PAGES: Final = 10
_PAUSE: Final = 2.5
"""Seconds to leave Twilio alone after a 429, which does not say for how long. Less could be used up
by the read that comes before a write."""
_PAGE: Final = 100


class Session:
    """Threads may share it. Secrets are fetched for every call, so that a rotated one counts."""

    def __init__(self, spec: ProviderSpec, resolve: Callable[[str], str], runtime: Runtime, *,
                 timeout: float) -> None:
        self.name = spec.name
        self._params, self._resolve, self._runtime = spec.params, resolve, runtime
        self._client = Client(spec.name, timeout=timeout, connect_timeout=_CONNECT_TIMEOUT)
        self._timeout = timeout

    def end(self) -> float:
        """When a call of several requests that begins now has to be over (monotonic seconds)."""
        return self._runtime.monotonic() + self._timeout

    def close(self) -> None:
        self._client.close()

    def trunk(self, ref: str) -> str:
        return f"{self._base('trunking_url', _TRUNKING)}/v1/Trunks/{ref}/OriginationUrls"

    def number(self, ref: str) -> str:
        account = text(self._params.get("account"))
        return (f"{self._base('api_url', _API)}/2010-04-01/Accounts/{account}"
                f"/IncomingPhoneNumbers/{ref}.json")

    def get(self, url: str, end: float) -> Mapping[str, object]:
        """Raises Rejected when the answer is no JSON object."""
        where = url.partition("?")[0]
        reply = self._send("GET", url, where, None, end)
        self._check(reply, where, writes=False, not_done=None)
        return self._document(reply, where)

    def all(self, url: str, name: str, end: float) -> list[object]:
        """Every entry of a list, page by page. A page that is to be had from another server is
        not asked for: it would get our credentials."""
        found: list[object] = []
        following: object = f"{url}?PageSize={_PAGE}"
        for _ in range(_MOST_PAGES):
            if not isinstance(following, str) or not following.startswith(f"{url}?"):
                raise self.nonsense("the next page is elsewhere", url)
            document = self.get(following, end)
            entries, meta = document.get(name), document.get("meta")
            if not isinstance(entries, list) or not isinstance(meta, dict):
                raise self.nonsense(f"no list {name}, or no meta", url)
            found += entries
            following = meta.get("next_page_url")
            if following is None:
                return found
        raise self.nonsense(f"more than {_MOST_PAGES} pages", url)

    def post(self, url: str, form: Mapping[str, object], end: float, *, not_done: str) -> None:
        """Update what `url` names; fields that are left out stay as they are."""
        reply = self._send("POST", url, url, urlencode(form).encode(), end)
        self._check(reply, url, writes=True, not_done=not_done)

    def nonsense(self, what: str, where: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self.name, where=where)

    def _base(self, name: str, default: str) -> str:
        try:
            return origin(text(self._params.get(name), default)).url
        except ValueError as error:
            raise Rejected(str(error), provider=self.name, not_done="nothing was sent",
                           hint=f"correct {name} of this provider in the policy") from None

    def _send(self, method: str, url: str, where: str, body: bytes | None, end: float) -> Reply:
        left = end - self._runtime.monotonic()
        if left <= 0:
            raise Unavailable("no time was left for this request", in_doubt=False,
                              provider=self.name, where=where, not_done="it was not sent")
        key = text(self._params.get("key"))
        user = self._secret(key) if key else text(self._params.get("account"))
        headers = [("Accept", "application/json")]
        if body is not None:
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        return self._client.exchange(Request(
            method, url, where, writes=body is not None, headers=headers, body=body,
            timeout=left, login=(user, self._secret(text(self._params.get("secret"))))))

    def _secret(self, reference: str) -> str:
        return self._resolve(reference).strip()

    def _check(self, reply: Reply, where: str, *, writes: bool, not_done: str | None) -> None:
        try:
            check_status(reply, provider=self.name, where=where, writes=writes,
                         now=self._runtime.now, not_done=not_done)
        except Unavailable as error:
            if reply.status == 429 and error.retry_after is None:
                error.retry_after = _PAUSE
            raise
        except Rejected as error:
            code = _error_code(reply)
            if code is None:
                raise
            # Of what Twilio says, its number alone: the rest could quote what we sent.
            raise Rejected(f"{error.what}, error {code}", provider=self.name, where=where,
                           not_done=not_done, hint=f"see twilio.com/docs/errors/{code}") from None

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


def _error_code(reply: Reply) -> int | None:
    try:
        document = parse(reply.body)
    except ValueError:
        return None
    code = document.get("code") if isinstance(document, dict) else None
    return code if type(code) is int and 0 < code < 1_000_000 else None
