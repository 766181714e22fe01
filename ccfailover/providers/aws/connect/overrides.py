"""Hours of operation, overridden: a gate for every queue and flow that goes by these hours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from ccfailover.errors import Rejected
from ccfailover.providers import Gate
from ccfailover.providers.aws.connect.instance import Instance
from ccfailover.providers.documents import quoted
from ccfailover.providers.params import mapping, text
from ccfailover.runtime import SECOND

NAME: Final = "ccfailover: closed"
DAYS: Final = 30
_MOST: Final = 100
"""Overrides a page; the service lets hours have 50."""


@dataclass(frozen=True)
class _Override:
    id: str
    begins: str
    ends: str

    def holds(self, day: date) -> bool:
        """ISO dates compare as text."""
        return self.begins <= day.isoformat() <= self.ends


class OverrideGate(Gate):
    """Closed by an override of our own name, without any hour in it, from today for `days` days in
    the hours' own time zone; opened by removing it. What others overrode is left alone.

    Whether it closes is read from the effective hours, not believed: an override that leaves the
    day open is an error, not a closed gate.
    """

    def __init__(self, instance: Instance, hours: str, name: str, days: int,
                 now: Callable[[], int]) -> None:
        self._instance, self._hours, self._name = instance, hours, name
        self._days, self._now = days, now

    def is_open(self) -> bool:
        ours = self._ours()
        if ours is None:
            return True
        today, hours = self._today()
        if not ours.holds(today):
            return True
        if hours:
            raise self._instance.nonsense(
                f"the override {quoted(self._name)} is there, and yet {today} has open hours",
                self._hours)
        return False

    def set_open(self, is_open: bool, *, key: str) -> None:
        ours = self._ours()
        if is_open:
            if ours is not None:
                self._remove(ours)
            return
        today = self._today()[0]
        wanted = {"EffectiveFrom": today.isoformat(),
                  "EffectiveTill": (today + timedelta(days=self._days)).isoformat()}
        if ours is None:
            self._create(wanted)
        elif not ours.holds(today) or ours.ends < wanted["EffectiveTill"]:
            self._call("update_hours_of_operation_override",
                       {"HoursOfOperationOverrideId": ours.id, "Config": [], **wanted})

    def _create(self, wanted: Mapping[str, str]) -> None:
        try:
            self._call("create_hours_of_operation_override",
                       {"Name": self._name, "Config": [], "OverrideType": "STANDARD", **wanted})
        except Rejected as error:
            if self._ours() is None:  # else: someone, or a call of ours in doubt, was quicker
                raise self._instance.refused(
                    error.what, self._hours,
                    error.hint or "no two overrides may have a day in common, and 50 are the "
                                  f"most: make room for {self._name!r}") from error

    def _remove(self, ours: _Override) -> None:
        try:
            self._call("delete_hours_of_operation_override",
                       {"HoursOfOperationOverrideId": ours.id})
        except Rejected:
            if self._ours() is not None:
                raise

    def _ours(self) -> _Override | None:
        for row in self._instance.listed(
                "list_hours_of_operation_overrides", "HoursOfOperationOverrideList",
                {"HoursOfOperationId": self._hours, "MaxResults": _MOST}, where=self._hours,
                what="overrides"):
            if row.get("Name") == self._name:
                return _Override(text(row.get("HoursOfOperationOverrideId")),
                                 text(row.get("EffectiveFrom")), text(row.get("EffectiveTill")))
        return None

    def _today(self) -> tuple[date, list[object]]:
        """The day it is where the hours are, and its open hours."""
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # 5 ms, for this lever only

        now = datetime.fromtimestamp(self._now() / SECOND, UTC)
        day = timedelta(days=1)  # no place is further than a day from UTC's date
        reply = self._call("get_effective_hours_of_operations",
                           {"FromDate": (now - day).date().isoformat(),
                            "ToDate": (now + day).date().isoformat()}, writes=False)
        zone = text(reply.get("TimeZone"))
        try:
            today = now.astimezone(ZoneInfo(zone)).date()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise self._instance.nonsense(f"no time zone {quoted(zone)}", self._hours) from None
        days = reply.get("EffectiveHoursOfOperationList")
        for row in map(mapping, days if isinstance(days, list) else []):
            if row.get("Date") == today.isoformat():
                hours = row.get("OperationalHours")
                return today, hours if isinstance(hours, list) else []
        return today, []

    def _call(self, operation: str, params: Mapping[str, object], *,
              writes: bool = True) -> Mapping[str, object]:
        return self._instance.call(operation, {"HoursOfOperationId": self._hours, **params},
                                   where=self._hours, writes=writes)
