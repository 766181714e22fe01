"""Requests to Twilio's REST interfaces: basic auth, forms in, JSON out.

An answer of 429 was never processed and may always be sent again (twilio.com/docs/errors/20429).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers.curl import Reply, Request
from ccfailover.providers.documents import parse
from ccfailover.providers.params import text
from ccfailover.providers.vendor import VendorSession

_TRUNKING: Final = "https://trunking.twilio.com"
_API: Final = "https://api.twilio.com"
_MOST_PAGES: Final = 10
_PAUSE: Final = 2.5
"""Seconds to leave Twilio alone after a 429, which does not say for how long. Less could be used up
by the read that comes before a write."""
_PAGE: Final = 100


class Session(VendorSession):
    def trunk(self, ref: str) -> str:
        return f"{self._at('trunking_url', _TRUNKING)}/v1/Trunks/{ref}/OriginationUrls"

    def number(self, ref: str) -> str:
        account = text(self._params.get("account"))
        return (f"{self._at('api_url', _API)}/2010-04-01/Accounts/{account}"
                f"/IncomingPhoneNumbers/{ref}.json")

    def get(self, url: str, end: float) -> Mapping[str, object]:
        """Raises Rejected when the answer is no JSON object."""
        where = url.partition("?")[0]
        reply = self._send("GET", url, where, None, end)
        self.check(reply, where, writes=False)
        return self.document(reply, where)

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
        self.check(reply, url, writes=True, not_done=not_done)

    def _at(self, name: str, default: str) -> str:
        return self.base(name, default, name)

    def _send(self, method: str, url: str, where: str, body: bytes | None, end: float) -> Reply:
        left = self.left(end, where)
        user = self.secret("key") if self._params.get("key") else text(self._params.get("account"))
        headers = [("Accept", "application/json")]
        if body is not None:
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        return self._client.exchange(Request(
            method, url, where, writes=body is not None, headers=headers, body=body,
            timeout=left, login=(user, self.secret("secret"))))

    def check(self, reply: Reply, where: str, *, writes: bool,
              not_done: str | None = None) -> None:
        try:
            super().check(reply, where, writes=writes, not_done=not_done)
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


def _error_code(reply: Reply) -> int | None:
    try:
        document = parse(reply.body)
    except ValueError:
        return None
    code = document.get("code") if isinstance(document, dict) else None
    return code if type(code) is int and 0 < code < 1_000_000 else None
