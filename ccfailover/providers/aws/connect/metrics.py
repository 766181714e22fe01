"""Live counts of queues. Null, absent and stale are unknown: such a value is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ccfailover.providers.aws.account import Document
from ccfailover.providers.aws.connect.instance import Instance
from ccfailover.providers.params import mapping, text
from ccfailover.runtime import SECOND, Runtime

_STALE: Final = 120.0
"""Seconds after which a snapshot tells nothing of now; Connect takes one every few seconds."""
_WAITING: Final = "CONTACTS_IN_QUEUE"
_TALKING: Final = "SLOTS_ACTIVE"
_MEASURED: Final = {
    "waiting": (_WAITING, "COUNT"), "oldest": ("OLDEST_CONTACT_AGE", "SECONDS"),
    "busy": (_TALKING, "COUNT"), "online": ("AGENTS_ONLINE", "COUNT"),
    "available": ("AGENTS_AVAILABLE", "COUNT"),
}


@dataclass(frozen=True)
class _Queue:
    site: str
    instance: Instance
    id: str


def watched(instance: Instance, block: object, regions: Mapping[str, str],
            runtime: Runtime) -> Watch:
    """`regions`: site → Region, where the lever tells more than the provider."""
    found = []
    for site, each in mapping(block).items():
        row = mapping(each)
        region = text(row.get("region"), regions.get(site, instance.region))
        found.append(_Queue(site, Instance(instance.account, region,
                                           text(row.get("instance"), instance.id)),
                            text(row.get("queue"))))
    return Watch(tuple(found), runtime)


class Watch:
    """The queues that a lever's sites answer from."""

    def __init__(self, queues: tuple[_Queue, ...], runtime: Runtime) -> None:
        self._queues, self._runtime = queues, runtime

    def measure(self) -> Mapping[str, float]:
        """`waiting.hq` (contacts), `oldest.hq` (seconds), `busy.hq` (contacts with an agent),
        `online.hq` and `available.hq` (agents)."""
        names = {metric: name for name, (metric, _) in _MEASURED.items()}
        return {f"{names[metric]}.{site}": value
                for site, counts in self._counts(_MEASURED.values()).items()
                for metric, value in counts.items() if metric in names}

    def live(self) -> Mapping[str, int] | None:
        """Contacts that wait or are talked to, by site."""
        if not self._queues:
            return None
        pair = (_WAITING, _TALKING)
        return {site: int(sum(counts[name] for name in pair))
                for site, counts in self._counts([(name, "COUNT") for name in pair]).items()
                if all(name in counts for name in pair)}

    def _counts(self, metrics: object) -> dict[str, dict[str, float]]:
        asked = [{"Name": name, "Unit": unit} for name, unit in metrics]  # type: ignore[attr-defined]
        groups: dict[Instance, list[_Queue]] = {}
        for queue in self._queues:
            groups.setdefault(queue.instance, []).append(queue)
        found: dict[str, dict[str, float]] = {}
        for instance, queues in groups.items():
            reply = instance.call(
                "get_current_metric_data",
                # Without the grouping, ages come in milliseconds and are called seconds.
                {"Filters": {"Queues": [queue.id for queue in queues], "Channels": ["VOICE"]},
                 "Groupings": ["QUEUE"], "CurrentMetrics": asked},
                where=queues[0].id, writes=False)
            if self._fresh(reply):
                sites: dict[str, list[str]] = {}
                for queue in queues:
                    sites.setdefault(queue.id.rpartition("/")[2], []).append(queue.site)
                for queue_id, name, value in _rows(reply):
                    for site in sites.get(queue_id, ()):
                        found.setdefault(site, {})[name] = value
        return found

    def _fresh(self, reply: Document) -> bool:
        taken = reply.get("DataSnapshotTime")
        if not isinstance(taken, datetime):
            return False
        return abs(self._runtime.now() / SECOND - taken.timestamp()) <= _STALE


def _rows(reply: Document) -> Iterator[tuple[str, str, float]]:
    """Queue id, metric and value, where all three are there."""
    results = reply.get("MetricResults")
    for result in results if isinstance(results, list) else ():
        queue = mapping(mapping(mapping(result).get("Dimensions")).get("Queue"))
        collections = mapping(result).get("Collections")
        for each in collections if isinstance(collections, list) else ():
            name = text(mapping(mapping(each).get("Metric")).get("Name"))
            value = mapping(each).get("Value")
            if isinstance(value, int | float) and not isinstance(value, bool) \
                    and math.isfinite(value) and 0 <= value < 1e9:
                yield text(queue.get("Id")), name, float(value)
