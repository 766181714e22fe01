"""boto3 signs and parses; libcurl carries.

botocore's own transport bounds each socket read but not the whole exchange, nor its size: a
peer that drips a byte a second holds a call for ever. botocore lets a `before-send` handler
answer in its stead, and that is what this does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, cast

from ccfailover.errors import Unavailable
from ccfailover.providers.curl import MIB, Client, Reply, origin
from ccfailover.providers.documents import parse

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse
    from mypy_boto3_sqs.client import SQSClient

_CAP: Final = 16 * MIB
"""Ten messages of 1 MiB, escaped."""
_READS: Final = frozenset({"GetQueueUrl", "GetQueueAttributes"})


class Transport:
    """One per provider; threads may share it."""

    def __init__(self, provider: str, *, timeout: float, connect_timeout: float) -> None:
        self._provider = provider
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._client: Client | None = None

    def attach(self, client: SQSClient) -> None:
        self._client = Client(
            self._provider, timeout=self._timeout, connect_timeout=self._connect_timeout,
            ca=os.environ.get("AWS_CA_BUNDLE") or None, cap=_CAP, environment_proxy=True,
        )
        client.meta.events.register(
            "before-send.sqs", cast("Callable[..., None]", self._send))

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _send(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        from botocore.awsrequest import AWSResponse
        from botocore.compat import HTTPHeaders

        operation = event_name.rpartition(".")[2]
        client = self._client
        if client is None:
            raise Unavailable("closed", in_doubt=False, provider=self._provider)
        writes = operation not in _READS
        shown = f"{origin(request.url.split('?', 1)[0]).shown} {operation}"
        reply = client.send(
            request.method, request.url, where=shown, writes=writes,
            headers=[(_text(name), _text(value)) for name, value in request.headers.items()
                     if name.lower() != "content-length"],
            body=_bytes(request.body),
        )
        if reply.cut:
            raise Unavailable(f"the reply is larger than {_CAP // MIB} MiB", in_doubt=writes,
                              provider=self._provider, where=shown)
        body = self._checked(reply, shown, writes)
        headers = HTTPHeaders()
        for name, value in reply.headers.items():
            headers[name] = value
        return AWSResponse(request.url, reply.status, headers, _Raw(body))

    def _checked(self, reply: Reply, shown: str, writes: bool) -> bytes:
        """The body, if it is JSON, as every answer of SQS is. A refusal in another form (from a
        proxy, say) is left to its status."""
        try:
            sound = isinstance(parse(reply.body), dict) if reply.body else True
        except ValueError:
            sound = False
        if sound:
            return reply.body
        if 200 <= reply.status < 300:
            raise Unavailable("the reply makes no sense: no JSON object", in_doubt=writes,
                              provider=self._provider, where=shown)
        return b"{}"


class _Raw:
    """The body, as botocore's response object wants to be fed."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, amt: int = 0, decode_content: bool | None = None) -> Iterator[bytes]:
        yield self._body


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(body: object) -> bytes:
    """SQS requests are small JSON documents, never streams."""
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, bytes | bytearray) else b""
