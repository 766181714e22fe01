"""Which items may go where. What cannot be decided stays: unknown fails closed."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, date, datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ccfailover.model.items import WorkItem
from ccfailover.model.policy import Queue, Site
from ccfailover.policy.conditions import Condition, Kind, item_variables, target_values
from ccfailover.runtime import SECOND, Runtime

VERDICTS = 10_000
"""Different items whose verdict is remembered."""
LOCKED = "locked"
"""The name, in the policy's `item:` or `fields:`, of what says that somebody has it in hand."""


class Eligibility(Protocol):
    def judge(self, item: WorkItem) -> str | None:
        """None: it may go. Else why it stays; the sentence names no value of the item."""
        ...


class OnlyThese:
    """For undo: the items that one step moved, and none that the target already had."""

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = ids

    def judge(self, item: WorkItem) -> str | None:
        return None if item.item_id in self._ids else "was not moved by this run"


class CelEligibility:
    """The policy's word on one queue and one target site.

    In order: the queue's own limits (outsourcing, data class, credit criteria), a lock, the
    licence for the item's state, then the `eligible` condition. Work may always go home, unless
    somebody has it in hand. Raises ConditionError (a ValueError) when `eligible` makes no sense.
    """

    def __init__(self, queue: Queue, target: Site, runtime: Runtime) -> None:
        self._queue = queue
        self._target = target
        self._home = target.name == queue.home
        on = _today(target, runtime)
        self._licences = frozenset(state for state, until in (target.licences or {}).items()
                                   if until is None or on <= until)
        self._whole_queue = None if self._home else _queue_reason(queue, target)
        self._kinds = item_variables(queue)
        self._condition: Condition | None = None
        if queue.eligible is not None and not self._home:
            self._condition = Condition(queue.eligible, self._kinds)
        self._target_values = target_values(target, on)
        self._named = tuple(sorted(
            name.removeprefix("item.") for name in (self._condition.names if self._condition
                                                    else ()) if name.startswith("item.")))
        self._verdicts: dict[tuple[object, ...], bool | None] = {}

    def judge(self, item: WorkItem) -> str | None:
        if LOCKED in self._queue.item or LOCKED in self._queue.fields:
            locked = item.fields.get(LOCKED)
            if locked is None:
                return "cannot tell whether somebody has it in hand"
            if _is_true(locked):
                return "locked: somebody has it in hand"
        if self._home:
            return None
        if self._whole_queue is not None:
            return self._whole_queue
        return self._licence_reason(item) or self._condition_reason(item)

    def _licence_reason(self, item: WorkItem) -> str | None:
        name = self._queue.licence_field
        if name is None or _is_ours(self._target, self._target.licences):
            return None
        state = item.fields.get(name)
        if not isinstance(state, str) or not state.strip():
            return f"{name} is missing, so that no licence can be checked"
        if state.strip() not in self._licences:
            return f"{self._target.name} holds no licence for its {name}"
        return None

    def _condition_reason(self, item: WorkItem) -> str | None:
        if self._condition is None:
            return None
        verdict = self._verdict(self._condition, item)
        if verdict is None:
            return "eligibility unknown: a field it needs is missing or unreadable"
        return None if verdict else "not eligible under the policy"


    def _verdict(self, condition: Condition, item: WorkItem) -> bool | None:
        """Of items that are alike in all that the condition names, one is evaluated: most name a
        state and a stage, and a hundred thousand items have fifty of them."""
        values = [item.fields.get(name) for name in self._named]
        key = (*values, *map(type, values))
        try:
            return self._verdicts[key]
        except KeyError:
            if len(self._verdicts) >= VERDICTS:
                self._verdicts.clear()
            return self._verdicts.setdefault(key, self._evaluate(condition, item))
        except TypeError:  # a list or an object is no key
            return self._evaluate(condition, item)

    def _evaluate(self, condition: Condition, item: WorkItem) -> bool | None:
        values = dict(self._target_values)
        for name in self._named:
            value = item.fields.get(name)
            values[f"item.{name}"] = _number(value) if (
                self._kinds.get(f"item.{name}") is Kind.DOUBLE) else value
        return condition.evaluate(values)


def _queue_reason(queue: Queue, target: Site) -> str | None:
    """What keeps every item of the queue from this target."""
    if queue.outsource == "never" and not target.in_house:
        return "the queue may never be outsourced"
    if (queue.data_class is not None and queue.data_class not in (target.data_classes or ())
            and not _is_ours(target, target.data_classes)):
        return f"{target.name} may not handle the queue's data class"
    if (queue.criteria_version is not None and queue.criteria_version != target.criteria_version
            and not _is_ours(target, target.criteria_version)):
        return f"{target.name} does not work by the queue's credit criteria version"
    return None


def _is_ours(target: Site, declared: object) -> bool:
    """As in planning: of the lender's own sites only what they declare is held against them."""
    return target.in_house and declared is None


def _today(site: Site, runtime: Runtime) -> date:
    """The date where the site is: a licence ends at its midnight, not at Greenwich's."""
    try:
        zone: tzinfo = ZoneInfo(site.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = UTC
    return datetime.fromtimestamp(runtime.now() / SECOND, zone).date()


def _is_true(value: object) -> bool:
    """Dirty data: only a clear no is a no."""
    if isinstance(value, str):
        return value.strip().lower() not in {"", "0", "false", "no", "n", "none"}
    return bool(value)


def _number(value: object) -> object:
    """Systems of record write numbers as texts, too; what is no number (`NA`) is missing."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
