"""SQS's JSON protocol over libcurl: several calls of one kind side by side.

boto3 finds credentials, region and endpoint. It does not make the calls: its serializer, parser,
events and transport take most of the time of a batch (`benchmarks/sqs_raw.py`), and its transport
bounds each read of a socket, but neither the whole exchange nor its size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

from ccfailover.errors import ProviderError, Unavailable
from ccfailover.providers.curl import MIB, Client, Reply, Request, origin
from ccfailover.providers.sqs.faults import as_provider_error, refusal
from ccfailover.providers.sqs.signing import Endpoint, Keys, Signer
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    import boto3

Document: TypeAlias = Mapping[str, object]
_CAP: Final = 16 * MIB
"""Ten messages of 1 MiB, escaped."""
_READS: Final = frozenset({"GetQueueUrl", "GetQueueAttributes"})
_ONCE: Final = frozenset({"SendMessageBatch", "ReceiveMessage"})
"""Twice is not the same as once: a second copy; a second look that nobody counts."""


class Calls:
    """One per provider; threads may share it. `connections`: how many calls of one `many` are on
    their way at a time. `timeout`: seconds for one call."""

    def __init__(
        self, provider: str, endpoint: Endpoint, keys: Callable[[], Keys], *, runtime: Runtime,
        timeout: float, connect_timeout: float, connections: int,
    ) -> None:
        self._provider = provider
        self._url, self.region = origin(endpoint.url).url, endpoint.region
        self._shown = origin(endpoint.url).shown
        self._fresh_keys = keys
        self._signer = Signer(endpoint, self._keys, runtime.now)
        self._runtime = runtime
        self._timeout = timeout
        self._connections = connections
        self._client = Client(
            provider, timeout=timeout, connect_timeout=connect_timeout,
            ca=os.environ.get("AWS_CA_BUNDLE") or None, cap=_CAP, environment_proxy=True,
        )

    def close(self) -> None:
        self._client.close()

    def one(self, operation: str, payload: Document, queue: str, *,
            writes: bool | None = None) -> Document:
        """The answer to one call. `writes`: may a lost reply have changed something (None: as the
        operation's name says). Raises Rejected and Unavailable."""
        request = self._request(operation, payload, writes)
        reply = self._client.exchange(request)
        return self._understood(reply, operation, queue, request.writes)

    def many(
        self, operation: str, payloads: Sequence[Document], queue: str,
        enough: Callable[[Document], bool] = lambda answer: False,
    ) -> Iterator[tuple[int, Document | ProviderError]]:
        """Each call's answer or error, with its place in `payloads`, as they come.

        Those that are missing at the end were not sent: after an answer that is `enough`, without
        credentials, or when there were no answers and a call's time has passed."""
        if len(payloads) == 1:
            try:
                yield 0, self.one(operation, payloads[0], queue)
            except ProviderError as error:
                yield 0, error
            return
        began, ended, unheard = self._runtime.monotonic(), False, False
        refused: dict[int, ProviderError] = {}
        writes = operation not in _READS

        def requests() -> Iterator[Request]:
            for index, payload in enumerate(payloads):
                late = self._runtime.monotonic() - began > self._timeout
                if ended or (unheard and late):
                    return
                try:
                    yield self._request(operation, payload)
                except ProviderError as error:
                    refused[index] = error
                    return

        for index, outcome in self._client.send_all(requests(), self._connections):
            if not isinstance(outcome, Reply):
                unheard = True
                yield index, outcome
                continue
            try:
                answer = self._understood(outcome, operation, queue, writes)
            except ProviderError as error:
                yield index, error
                continue
            ended = ended or enough(answer)
            yield index, answer
        yield from refused.items()

    def _request(
        self, operation: str, payload: Document, writes: bool | None = None
    ) -> Request:
        body = json.dumps(payload).encode()
        return Request(
            "POST", self._url, where=f"{self._shown} {operation}",
            headers=self._signer.headers(operation, body), body=body,
            writes=operation not in _READS if writes is None else writes,
            once=operation in _ONCE)

    def _keys(self) -> Keys:
        """The credentials of this moment; refreshing them may ask another service."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._fresh_keys()
        except (BotoCoreError, ClientError, RuntimeError) as error:
            raise as_provider_error(error, self._provider, "credentials", writes=False) from None

    def _understood(
        self, reply: Reply, operation: str, queue: str, writes: bool
    ) -> Document:
        where = f"{self._shown} {operation}"
        if reply.cut:
            raise Unavailable(f"the reply is larger than {_CAP // MIB} MiB", in_doubt=writes,
                              provider=self._provider, where=where)
        try:
            document = json.loads(reply.body.decode()) if reply.body else {}
        except (ValueError, RecursionError):
            document = None
        if not 200 <= reply.status < 300:
            # A refusal in another form (from a proxy, say) is left to its status.
            raise refusal(reply, document if isinstance(document, dict) else {}, self._provider,
                          f"{queue} {operation}", writes=writes, now=self._runtime.now)
        if not isinstance(document, dict):
            raise Unavailable("the reply makes no sense: no JSON object", in_doubt=writes,
                              provider=self._provider, where=where)
        return document


def connect(
    session: boto3.session.Session, endpoint_url: str | None, provider: str, *, runtime: Runtime,
    timeout: float, connect_timeout: float, connections: int,
) -> Calls:
    """Where and how boto3 would call, without calling. Raises botocore's errors.

    A presigned URL is boto3's public way to say which endpoint it resolves to for this partition
    and these settings, and for which region and service it signs there."""
    from botocore.exceptions import NoCredentialsError

    client = session.client("sqs", endpoint_url=endpoint_url)
    try:
        signed = urlsplit(client.generate_presigned_url("get_queue_url", {"QueueName": "q"}))
    finally:
        client.close()
    scope = parse_qs(signed.query)["X-Amz-Credential"][0].split("/")
    credentials = session.get_credentials()

    def keys() -> Keys:
        if credentials is None:
            raise NoCredentialsError
        frozen = credentials.get_frozen_credentials()
        return Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    return Calls(
        provider, Endpoint(signed._replace(query="").geturl(), scope[-3], scope[-2]), keys,
        runtime=runtime, timeout=timeout, connect_timeout=connect_timeout,
        connections=connections)
