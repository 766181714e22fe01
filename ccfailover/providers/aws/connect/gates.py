"""A queue's status, and its hours of operation, as gates."""

from __future__ import annotations

from collections.abc import Mapping

from ccfailover.providers import Gate
from ccfailover.providers.aws.connect.instance import Instance
from ccfailover.providers.documents import quoted
from ccfailover.providers.params import mapping, text


def _queue(instance: Instance, queue: str) -> Mapping[str, object]:
    return mapping(instance.call("describe_queue", {"QueueId": queue}, where=queue,
                                 writes=False).get("Queue"))


class StatusGate(Gate):
    """A disabled queue takes no further contacts; those in it stay."""

    def __init__(self, instance: Instance, queue: str) -> None:
        self._instance, self._queue = instance, queue

    def is_open(self) -> bool:
        status = _queue(self._instance, self._queue).get("Status")
        if status not in ("ENABLED", "DISABLED"):
            raise self._instance.nonsense("a queue neither ENABLED nor DISABLED", self._queue)
        return status == "ENABLED"

    def set_open(self, is_open: bool, *, key: str) -> None:
        self._instance.call(
            "update_queue_status",
            {"QueueId": self._queue, "Status": "ENABLED" if is_open else "DISABLED"},
            where=self._queue, writes=True)


class HoursGate(Gate):
    """A queue whose hours are exchanged for some that are never open. Absolute, and without the
    dates and time zones of an override."""

    def __init__(self, instance: Instance, queue: str, opened: str, closed: str) -> None:
        self._instance, self._queue = instance, queue
        self._opened, self._closed = opened, closed

    def is_open(self) -> bool:
        hours = text(_queue(self._instance, self._queue).get("HoursOfOperationId"))
        if hours not in (self._opened, self._closed):
            raise self._instance.nonsense(
                f"the queue has the hours {quoted(hours)}, which the policy does not name",
                self._queue)
        return hours == self._opened

    def set_open(self, is_open: bool, *, key: str) -> None:
        self._instance.call(
            "update_queue_hours_of_operation",
            {"QueueId": self._queue,
             "HoursOfOperationId": self._opened if is_open else self._closed},
            where=self._queue, writes=True)
