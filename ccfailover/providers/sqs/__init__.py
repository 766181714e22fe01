"""Amazon SQS: backlogs of work items, on standard and FIFO queues.

    providers:
      jobs: {kind: sqs, region: us-east-1}
    queues:
      applications:
        backlog: {hq: {provider: jobs, ref: "https://sqs…/applications"}, …}

Endpoint, credentials and region come from the policy or, where it is silent, by boto3's usual
chain (`AWS_ENDPOINT_URL_SQS`, `AWS_PROFILE`, instance role …). boto3 is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog, Provider, Resolve
from ccfailover.providers.params import DURATION, REFERENCE, mapping, text
from ccfailover.providers.sqs.backlog import SqsBacklog
from ccfailover.providers.sqs.messages import DEDUP_WINDOW, MAX_ITEM_BYTES
from ccfailover.providers.sqs.transport import Transport
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

_CONNECT_TIMEOUT: Final = 5.0


class SqsProvider(Provider):
    kind: ClassVar[str] = "sqs"
    TIMEOUT: ClassVar[float] = 15.0
    summary: ClassVar[str] = "Amazon SQS and servers that speak its protocol: backlogs"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "region": {"type": "string", "pattern": "^[a-z0-9-]+$"},
            "endpoint_url": {"type": "string", "pattern": "^https?://"},
            "profile": {"type": "string", "minLength": 1},
            "credentials": {
                "type": "object", "required": ["key_id", "secret"],
                "additionalProperties": False,
                "properties": {"key_id": REFERENCE, "secret": REFERENCE,
                               "session_token": REFERENCE},
            },
            "timeout": DURATION,
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "minLength": 1, "maxLength": 1000,
                    "description": "the queue's URL, or its name in this account"},
            "claim_seconds": {
                **DURATION,
                "description": "how long a claimed item stays hidden from the site's own people",
            },
            "poll_seconds": {
                "type": "integer", "minimum": 0, "maximum": 20,
                "description": "how long a claim waits for items (long poll); 0 only for tests",
            },
        },
    }

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._client: SQSClient | None = None
        self._transport = Transport(
            spec.name, timeout=self.call_seconds,
            connect_timeout=_CONNECT_TIMEOUT,
        )
        self._lock = Lock()

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        fifo = text((lever or {}).get("ref")).endswith(".fifo")
        return Capabilities(
            backlogs=True,
            idempotent_put=fifo,
            put_window=DEDUP_WINDOW if fifo else None,
            max_item_bytes=MAX_ITEM_BYTES,
            rights=("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
                    "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"),
        )

    def backlog(self, lever: LeverSpec) -> Backlog:
        return SqsBacklog(self.name, lever, self._connect)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self._transport.close()

    def _connect(self) -> SQSClient:
        """The client, made once: making one takes longer than a call, and its calls may be
        made from several threads at a time, but its making may not."""
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def _make(self) -> SQSClient:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        from ccfailover.providers.sqs.faults import as_provider_error

        params = self.spec.params
        keys = {name: self.resolve(text(ref)).strip()
                for name, ref in mapping(params.get("credentials")).items()}
        try:
            client = boto3.session.Session(
                profile_name=text(params.get("profile")) or None,
                region_name=text(params.get("region")) or None,
                aws_access_key_id=keys.get("key_id"),
                aws_secret_access_key=keys.get("secret"),
                aws_session_token=keys.get("session_token"),
            ).client(
                "sqs",
                endpoint_url=text(params.get("endpoint_url")) or None,
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT,
                    read_timeout=self.call_seconds,
                    retries={"total_max_attempts": 1},
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise as_provider_error(error, self.name, "connect", writes=False) from None
        self._transport.attach(client)
        return client
