"""One bounded HTTP call, and what can honestly be said about it afterwards."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_REPLY = 4_000_000
"""Bytes of a reply that are read; a page of a route's log is the largest."""


@dataclass(frozen=True)
class Answer:
    """`status` is None when no answer came; then `reason` is `refused`, `timeout` or `broken`.

    `sent` is False only when the request certainly never reached the other side.
    """

    status: int | None
    body: bytes = b""
    reason: str = ""
    sent: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


def call(
    method: str,
    url: str,
    body: bytes | None = None,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """`timeout` seconds bound the connect and each read. Never raises for the network's sake.

    A connection for each call: a kept one would break when its server restarts and count as a
    fault that no caller would have seen.
    """
    split = urlsplit(url)
    connection = http.client.HTTPConnection(
        split.hostname or "127.0.0.1", split.port or 80, timeout=timeout
    )
    try:
        try:
            connection.connect()
        except TimeoutError:
            return Answer(None, reason="timeout", sent=False)
        except OSError:
            return Answer(None, reason="refused", sent=False)
        path = split.path or "/"
        connection.request(method, f"{path}?{split.query}" if split.query else path, body,
                           {"Content-Type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        content = reply.read(MAX_REPLY)
        return Answer(reply.status, content,
                      headers={key.lower(): value for key, value in reply.getheaders()})
    except TimeoutError:
        return Answer(None, reason="timeout")
    except (OSError, http.client.HTTPException):
        return Answer(None, reason="broken")
    finally:
        connection.close()
