"""The little languages inside a policy: conditions (CEL) and opening hours.

Works on plain data of any shape, as `references` does. Places are exact: the line and column of
the character, inside the YAML, that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ccfailover.errors import Problem
from ccfailover.policy.build import fields_of
from ccfailover.policy.calendars import Hours, HoursError, knows_country, names_holidays
from ccfailover.policy.conditions import (
    Condition,
    ConditionError,
    Kind,
    item_variables_of,
    variables_of,
)
from ccfailover.policy.places import Path
from ccfailover.policy.read import Document
from ccfailover.policy.references import mapping, texts

UNMEASURED = (".arrivals_per_hour",)
"""Variables that have a name and, so far, no value."""


def check(document: Document) -> list[Problem]:
    """Conditions that do not compile, hours that cannot be read."""
    found = _Expressions(document)
    found.conditions()
    found.hours()
    return found.problems


class _Expressions:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._data = document.data
        self.problems: list[Problem] = []

    def _say(self, path: Path, text: str, offset: int, message: str,
             severity: str = "error") -> None:
        mark = self._document.places.inside(path, text, offset)
        self.problems.append(Problem(self._document.file, *mark, message, severity=severity))

    def conditions(self) -> None:
        data = self._data
        world = variables_of(mapping(data.get("sites")), mapping(data.get("dependencies")),
                             mapping(data.get("queues")))
        for name, block in mapping(data.get("triggers")).items():
            for key in ("when", "clear"):
                self._condition(mapping(block).get(key), world, ("triggers", name, key))
        for name, block in mapping(data.get("queues")).items():
            queue = mapping(block)
            fields = {key: kind for key, kind in fields_of(queue.get("fields")).items()
                      if isinstance(kind, str)}
            self._condition(queue.get("eligible"),
                            item_variables_of(mapping(queue.get("item")), fields),
                            ("queues", name, "eligible"))

    def _condition(self, text: object, declared: Mapping[str, Kind], path: Path) -> None:
        if not isinstance(text, str) or not text:
            return
        try:
            for name in sorted(Condition(text, declared).names):
                if name.endswith(UNMEASURED):
                    self._say(path, text, text.find(name), f"nothing measures {name} yet: where "
                              "it decides, this condition is unknown and asks for nothing",
                              "warning")
        except ConditionError as error:
            lines = text.split("\n")
            offset = sum(len(line) + 1 for line in lines[: error.line - 1]) + error.column - 1
            self._say(path, text, offset, f"{path[0]}.{path[1]}.{path[2]}: {error.message}")

    def hours(self) -> None:
        zone = self._data.get("timezone", "UTC")
        for name, block in mapping(self._data.get("sites")).items():
            site = mapping(block)
            self._hours(site.get("hours"), site.get("timezone", zone),
                        site.get("holidays", site.get("country")), ("sites", name, "hours"))
        for index, window in texts(mapping(self._data.get("guards")).get("blocked")):
            self._hours(window, zone, None, ("guards", "blocked", index))

    def _hours(self, text: object, zone: object, holidays: object, path: Path) -> None:
        if not isinstance(text, str) or not text:
            return
        if isinstance(holidays, list):
            holidays = ",".join(day for day in holidays if isinstance(day, str))
        if isinstance(holidays, str) and len(holidays) == 2 and not knows_country(holidays):
            holidays = None  # reported where it stands
        try:
            Hours(text, timezone=_zone(zone), holidays=str(holidays) if holidays else None)
        except HoursError as error:
            self._say(path, text, error.offset, error.message)
        except ValueError:
            return  # a holiday that is no date: reported where it stands
        if names_holidays(text) and not holidays:
            self._say(path, text, text.find("PH"), "PH means nothing here: say which holidays, "
                      "by `holidays: US` or a list of dates", "warning")


def _zone(name: object) -> str:
    try:
        return ZoneInfo(str(name)).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"
