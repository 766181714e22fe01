"""RabbitMQ: queues of work items over AMQP 0-9-1, classic and quorum, with publisher confirms.

    providers:
      mq: {kind: rabbitmq, url: "env:MQ_URL"}
    queues:
      applications:
        backlog:
          hq:   {provider: mq, ref: applications.hq}
          acme: {provider: mq, ref: applications.acme}

The client is our own (docs/adr/0015-own-amqp-client.md). Each queue has a connection for its
claims and one for its puts; a third one, for all queues, measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, ClassVar

from ccfailover.errors import ProviderError, Rejected
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog, Provider, Resolve
from ccfailover.providers.params import DURATION, REFERENCE, seconds, text
from ccfailover.providers.rabbitmq import wire
from ccfailover.providers.rabbitmq.about import EXAMPLE, RIGHTS, TRAPS
from ccfailover.providers.rabbitmq.address import understood
from ccfailover.providers.rabbitmq.backlog import BATCH, CLAIM_SECONDS, RabbitmqBacklog
from ccfailover.providers.rabbitmq.claims import Claims
from ccfailover.providers.rabbitmq.messages import MAX_ITEM_BYTES
from ccfailover.providers.rabbitmq.puts import Puts
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from ccfailover.providers.rabbitmq.link import Link

_CONSUMER_TIMEOUT = 1800.0
"""RabbitMQ's own default, seconds."""
_BEAT = 60
_FAREWELL = 1.0


class RabbitmqProvider(Provider):
    kind: ClassVar[str] = "rabbitmq"
    TIMEOUT: ClassVar[float] = 15.0
    summary: ClassVar[str] = "RabbitMQ queues, classic and quorum (AMQP 0-9-1): backlogs"
    EXAMPLE: ClassVar[str] = EXAMPLE
    RIGHTS: ClassVar[str] = RIGHTS
    TRAPS: ClassVar[tuple[str, ...]] = TRAPS
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["url"], "additionalProperties": False,
        "properties": {
            "url": {**REFERENCE,
                    "description": "a reference to amqps://user:password@host:5671/vhost"},
            "ca": {"type": "string", "minLength": 1,
                   "description": "a PEM file with the authorities to trust instead of the "
                                  "system's (amqps)"},
            "timeout": DURATION,
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "minLength": 1, "maxLength": 255,
                    "description": "the queue, in the vhost of the provider's address"},
            "claim_seconds": {
                **DURATION,
                "description": "the heartbeat of the connection that claims: the broker gives "
                               "back what was claimed when it hears nothing for twice as long",
            },
            "max_receives": {
                "type": "integer", "minimum": 1,
                "description": "deliveries that an item survives: the delivery limit of a quorum "
                               "queue and one more",
            },
            "consumer_timeout": {
                **DURATION,
                "description": "the broker's consumer_timeout (default 30m): no claim is kept for "
                               "longer than four fifths of it",
            },
        },
    }

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._lock = RLock()
        self._looking = RLock()
        self._look: Link | None = None
        self._claims: dict[str, Claims] = {}
        self._puts: dict[str, Puts] = {}

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        return Capabilities(
            backlogs=True, max_item_bytes=MAX_ITEM_BYTES, max_batch=BATCH, ordered=True,
            claims_lapse=False,
            deadline_first="as the queue gives them: the nearest first within one claim",
            rights=("read: the queue (^applications\\.hq$), to claim and to measure",
                    "write: the default exchange (^amq\\.default$), to put",
                    "configure: nothing (^$)"),
        )

    def backlog(self, lever: LeverSpec) -> Backlog:
        """Backlogs of one queue share its claims, whoever asks for them."""
        with self._lock:
            ref, params = lever.ref, lever.params
            if ref not in self._claims:
                beat = max(1, math.ceil(seconds(params.get("claim_seconds"), CLAIM_SECONDS)))
                self._claims[ref] = Claims(
                    ref, partial(self._connect, f"{ref} claim", beat), self.runtime,
                    timeout=self.call_seconds,
                    longest=seconds(params.get("consumer_timeout"), _CONSUMER_TIMEOUT))
                self._puts[ref] = Puts(
                    ref, partial(self._connect, f"{ref} put", _BEAT), self.runtime,
                    provider=self.name, timeout=self.call_seconds)
            return RabbitmqBacklog(self.name, lever, self._claims[ref], self._puts[ref],
                                   self._count)

    def close(self) -> None:
        """What was claimed and not settled is back in its queue when this returns."""
        with self._lock:
            for claims in self._claims.values():
                claims.close(_FAREWELL)
            for puts in self._puts.values():
                puts.close(_FAREWELL)
        with self._looking:
            look, self._look = self._look, None
            if look is not None:
                look.close(_FAREWELL)

    def _count(self, ref: str) -> int:
        """The messages of a queue that nobody has: a declaration that declares nothing."""
        with self._looking:
            if self._look is None or not self._look.alive():
                self._look = self._connect("measure", _BEAT)
            look = self._look
            look.where = f"{ref} measure"
            try:
                deadline = self.runtime.monotonic() + self.call_seconds
                return look.ready(look.call(wire.declare_passive(ref), wire.DECLARE_OK, deadline))
            except ProviderError:
                self._look = None
                look.drop()
                raise

    def _connect(self, where: str, heartbeat: int) -> Link:
        """Raises Rejected for an address or a login that will never do, else Unavailable."""
        from ccfailover.providers.rabbitmq.connect import connect  # and TLS with it

        address = understood(self.resolve(text(self.spec.params.get("url"))).strip(), self.name)
        ca = text(self.spec.params.get("ca")) or None
        if ca is not None and not address.tls:
            raise Rejected("there is a `ca`, and the address is not amqps", provider=self.name,
                           where="connect", not_done="nothing was sent")
        return connect(address, self.name, self.runtime, timeout=self.call_seconds,
                       heartbeat=heartbeat, ca=ca, where=where)
