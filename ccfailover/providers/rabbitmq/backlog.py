"""One queue as a backlog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ccfailover.errors import Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.providers.params import seconds, texts
from ccfailover.providers.rabbitmq import messages, wire
from ccfailover.providers.rabbitmq.claims import Claims
from ccfailover.providers.rabbitmq.puts import Puts

BATCH: Final = 1000
CLAIM_SECONDS: Final = 120.0
_LARGEST: Final = 262_144


class RabbitmqBacklog(Backlog):
    """Threads may share it. `count` asks how many messages of a queue nobody has."""

    def __init__(self, provider: str, lever: LeverSpec, claims: Claims, puts: Puts,
                 count: Callable[[str], int]) -> None:
        self._provider, self._ref = provider, lever.ref
        self._claims, self._puts, self._count = claims, puts, count
        self._item = texts(lever.params.get("item"))
        largest = lever.params.get("max_item_bytes")
        self._max_item = largest if isinstance(largest, int) else _LARGEST
        self.claim_seconds = seconds(lever.params.get("claim_seconds"), CLAIM_SECONDS)
        self.batch = BATCH
        most = lever.params.get("max_receives")
        self._most = most if isinstance(most, int) else None

    def measure(self) -> BacklogMeasure:
        """`visible` is exact; of the hidden ones AMQP tells only those that we hold. No age."""
        return BacklogMeasure(self._count(self._ref), self._claims.held, None)

    def max_receives(self) -> int | None:
        return self._most

    def check_writable(self) -> str:
        """Makes no message: one that leads nowhere is sent, and comes back."""
        visible = self._count(self._ref)
        self._puts.check()
        return f"there ({visible} waiting), and a message to nowhere was taken and given back"

    def claim(self, limit: int) -> Sequence[WorkItem]:
        if limit < 1:
            return []
        epoch, found = self._claims.take(min(limit, BATCH), messages.MAX_ITEM_BYTES)
        try:
            return [messages.decode(message, epoch, self._item, self._max_item)
                    for message in found]
        except wire.Nonsense as error:
            self._claims.give_up()
            raise Unavailable(f"the reply makes no sense: {error}", in_doubt=True,
                              provider=self._provider, where=f"{self._ref} claim") from None

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        """True while the connection that made the claim lives."""
        if seconds > 0:
            return self._claims.keep(handles, seconds)
        return self._claims.give_back(handles)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """Never raises: a connection that ended leaves its items not deleted (False). One that
        ends before the answer may have deleted them all the same."""
        return self._claims.settle(handles)

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        return self._puts.put(items, keys)
