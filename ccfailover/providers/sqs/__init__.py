"""Amazon SQS: backlogs of work items, on standard and FIFO queues.

    providers:
      jobs: {kind: sqs, region: us-east-1}
    queues:
      applications:
        backlog: {hq: {provider: jobs, ref: "https://sqs…/applications"}, …}

Endpoint, credentials and region come from the policy or, where it is silent, by boto3's usual
chain (`AWS_ENDPOINT_URL_SQS`, `AWS_PROFILE`, instance role …). boto3 is imported on first use, and
asked for these three only: `calls.py` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import ClassVar, Final

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog, Provider, Resolve
from ccfailover.providers.params import DURATION, REFERENCE, mapping, text
from ccfailover.providers.sqs.about import EXAMPLE, RIGHTS, TRAPS
from ccfailover.providers.sqs.backlog import CLAIM, SqsBacklog
from ccfailover.providers.sqs.calls import Calls, connect
from ccfailover.providers.sqs.messages import DEDUP_WINDOW, MAX_ITEM_BYTES
from ccfailover.runtime import Runtime

_CONNECT_TIMEOUT: Final = 5.0
_CONNECTIONS: Final = 4


class SqsProvider(Provider):
    kind: ClassVar[str] = "sqs"
    TIMEOUT: ClassVar[float] = 15.0
    summary: ClassVar[str] = "Amazon SQS and servers that speak its protocol: backlogs"
    EXAMPLE: ClassVar[str] = EXAMPLE
    RIGHTS: ClassVar[str] = RIGHTS
    TRAPS: ClassVar[tuple[str, ...]] = TRAPS
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
            "connections": {
                "type": "integer", "minimum": 1, "maximum": 64,
                "description": "how many calls of one batch are on their way at a time "
                               f"(default {_CONNECTIONS})",
            },
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
        self._calls: Calls | None = None
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
            ordered=fifo,
            max_batch=CLAIM,
            rights=("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
                    "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"),
        )

    def backlog(self, lever: LeverSpec) -> Backlog:
        return SqsBacklog(
            self.name, lever, self._connect, longest_poll=int(self.call_seconds - 1))

    def close(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, None
        if calls is not None:
            calls.close()

    def _connect(self) -> Calls:
        """Made once: it takes longer than a call, and boto3 may do it on one thread at a time."""
        with self._lock:
            if self._calls is None:
                self._calls = self._make()
            return self._calls

    def _make(self) -> Calls:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        from ccfailover.providers.sqs.faults import as_provider_error

        params = self.spec.params
        keys = {name: self.resolve(text(ref)).strip()
                for name, ref in mapping(params.get("credentials")).items()}
        connections = params.get("connections")
        try:
            return connect(
                boto3.session.Session(
                    profile_name=text(params.get("profile")) or None,
                    region_name=text(params.get("region")) or None,
                    aws_access_key_id=keys.get("key_id"),
                    aws_secret_access_key=keys.get("secret"),
                    aws_session_token=keys.get("session_token"),
                ),
                text(params.get("endpoint_url")) or None, self.name, runtime=self.runtime,
                timeout=self.call_seconds, connect_timeout=_CONNECT_TIMEOUT,
                connections=connections if isinstance(connections, int) else _CONNECTIONS,
            )
        except (BotoCoreError, ClientError, ValueError) as error:
            raise as_provider_error(error, self.name, "connect", writes=False) from None
