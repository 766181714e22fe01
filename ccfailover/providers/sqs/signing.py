"""AWS Signature Version 4 for SQS's JSON requests, with the day's key kept.

botocore's own signer takes longer over a request than all the rest of sending it
(`benchmarks/sqs_raw.py`); `tests/unit/providers/test_sqs_signing.py` holds this one to it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlsplit

from ccfailover.runtime import SECOND

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_SERVICE: Final = "AmazonSQS"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Keys:
    """What botocore calls frozen credentials."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and what a signature for there is bound to."""

    url: str
    region: str
    service: str = "sqs"

    @property
    def host(self) -> str:
        """As libcurl writes it into the Host header."""
        parts = urlsplit(self.url)
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        default = parts.port in (None, _DEFAULT_PORTS.get(parts.scheme))
        return name if default else f"{name}:{parts.port}"

    @property
    def path(self) -> str:
        return quote(urlsplit(self.url).path or "/", safe="/~")


class Signer:
    """`keys` is asked for every request, so that refreshed credentials are used at once; `now`
    gives microseconds since the epoch. Threads may share it."""

    def __init__(
        self, endpoint: Endpoint, keys: Callable[[], Keys], now: Callable[[], int]
    ) -> None:
        self._keys, self._now = keys, now
        self._scope = f"{endpoint.region}/{endpoint.service}/aws4_request"
        self._parts = (endpoint.region, endpoint.service, "aws4_request")
        self._head = f"POST\n{endpoint.path}\n\ncontent-type:{CONTENT_TYPE}\nhost:{endpoint.host}\n"
        self._day: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, operation: str, body: bytes) -> list[tuple[str, str]]:
        """All headers of one request but Host and Content-Length."""
        keys = self._keys()
        stamp = _stamp(self._now() // SECOND)
        target, token = f"{_SERVICE}.{operation}", keys.token
        middle = f"x-amz-date:{stamp}\n"
        names = "content-type;host;x-amz-date;"
        if token:
            middle += f"x-amz-security-token:{' '.join(token.split())}\n"
            names += "x-amz-security-token;"
        names += "x-amz-target;x-amzn-query-mode"
        canonical = (f"{self._head}{middle}x-amz-target:{target}\nx-amzn-query-mode:true\n\n"
                     f"{names}\n{sha256(body).hexdigest()}")
        scope = f"{stamp[:8]}/{self._scope}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(stamp[:8], keys.secret_key), text.encode(),
                                "sha256").hex()
        made = [
            ("Content-Type", CONTENT_TYPE), ("X-Amz-Target", target), ("X-Amz-Date", stamp),
            ("X-Amzn-Query-Mode", "true"),
            ("Authorization", f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
                              f"SignedHeaders={names}, Signature={signature}"),
        ]
        if token:
            made.append(("X-Amz-Security-Token", token))
        return made

    def _key(self, day: str, secret: str) -> bytes:
        kept = self._day
        if kept[:2] != (day, secret):
            key = f"AWS4{secret}".encode()
            for part in (day, *self._parts):
                key = hmac.digest(key, part.encode(), "sha256")
            kept = self._day = (day, secret, key)
        return kept[2]


@lru_cache(4)
def _stamp(second: int) -> str:
    """ISO 8601 without its marks."""
    moment = datetime.fromtimestamp(second, UTC).isoformat()
    return f"{moment[:19].replace('-', '').replace(':', '')}Z"
