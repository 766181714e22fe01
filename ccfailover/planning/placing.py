"""Laying a queue's 100 % out: receivers up to their capacity, the remainder to a treatment.

Everything here is whole percent of the queue's whole load, in multiples of the lever's step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.plan import Finding
from ccfailover.model.policy import Queue, Site
from ccfailover.model.shares import TREATMENTS
from ccfailover.planning.capacity import DEFERRED

NOUNS = {"voice": "calls", "chat": "chats", "email": "emails", "fax": "faxes",
         "callback": "callbacks", "application": "applications"}

_TREATMENT_ORDER = ("callback", "message", "voicemail")
_ROUNDING = 1e-9


def usable_step(capabilities: Capabilities) -> int:
    """The lever's step; one that does not divide 100 leaves only all or nothing."""
    step = max(1, capabilities.share_step)
    return step if 100 % step == 0 else 100


def percent_of(part: float, whole: float) -> float:
    """At most 10,000: of a whole that is all but nothing, a part may be beyond all numbers."""
    return min(part * 100 / whole, 10_000.0)


def floor_to(percent: float, step: int) -> int:
    return step * math.floor(percent / step + _ROUNDING)


def ceil_to(percent: float, step: int) -> int:
    return step * math.ceil(percent / step - _ROUNDING)


def number(value: float) -> str:
    """432, 9.3: as many digits as a person wants to read."""
    return f"{value:,.1f}".removesuffix(".0")


def treatments(queue: Queue, capabilities: Capabilities) -> list[str]:
    """Treatments that the lever can express for this queue, the policy's own first.

    None for deferred work that is to be held: it waits in a backlog, and turning it away would
    be worse.
    """
    if not capabilities.treatments or (queue.home_down == "hold" and queue.channel in DEFERRED):
        return []
    first = [queue.home_down] if queue.home_down in TREATMENTS else []
    others = [name for name in _TREATMENT_ORDER if name not in first]
    if queue.channel not in ("voice", "callback"):
        others = [name for name in others if name != "voicemail"]
    reachable = capabilities.destinations
    return [name for name in (*first, *others) if reachable is None or name in reachable]


class Placement:
    """Shares in the making. `rest` is what nobody has been given yet."""

    def __init__(
        self,
        queue: Queue,
        step: int,
        load: float | None,
        capacity: Callable[[Site], float | None],
    ) -> None:
        self.queue = queue
        self.step = step
        self.load = load
        self.capacity = capacity
        self.parts: dict[str, int] = {}
        self.rest = 100
        self.limited: list[tuple[str, str]] = []
        self.not_checked: list[str] = []

    @property
    def noun(self) -> str:
        return NOUNS.get(self.queue.channel, "contacts")

    def give(self, site: Site, want: int, *, beyond: bool = False) -> int:
        """Give `site` as much of `want` as it can serve (all of it with `beyond`)."""
        have = self.parts.get(site.name, 0)
        want = floor_to(min(want, self.rest), self.step)
        if want <= 0:
            return 0
        got = want if beyond else min(want, self._room(site, have, want))
        if got:
            self.parts[site.name] = have + got
            self.rest -= got
        return got

    def treat(self, treatment: str) -> None:
        self.parts[treatment] = self.parts.get(treatment, 0) + self.rest
        self.rest = 0

    def _room(self, site: Site, have: int, want: int) -> int:
        able = self.capacity(site)
        if able is None or self.load is None:
            what = f"the capacity of {site.name}" if able is None else "the load"
            self.not_checked.append(
                f"{what} is unknown: {site.name} is taken to serve all that it is given"
            )
            return want
        if self.load <= 0:
            return want
        percent = percent_of(able, self.load)
        room = max(0, floor_to(percent, self.step) - have)
        if room < want:
            rounded = have + room
            self.limited.append((site.name, (
                f"{site.name} can take {number(able)} of {number(self.load)} {self.noun} an hour: "
                f"{number(percent)} % → {rounded} %"
            )))
        return room

    def findings(self, *, keeps: str | None) -> list[Finding]:
        """A sentence for each capacity that bound; the last says where the remainder went."""
        out: list[Finding] = []
        order = list(self.parts)
        for index, (name, sentence) in enumerate(self.limited):
            tail = ""
            if index == len(self.limited) - 1:
                after = order[order.index(name) + 1:] if name in order else order
                went = [f"{self.parts[part]} % to {part}" for part in after if part != keeps]
                if keeps is not None:
                    went.append(f"{keeps} keeps {self.parts.get(keeps, 0)} %")
                tail = f"; {', '.join(went)}" if went else ""
            out.append(Finding("capacity", "warning", sentence + tail, self.queue.name))
        out.extend(
            Finding("capacity", "warning", sentence, self.queue.name)
            for sentence in dict.fromkeys(self.not_checked)
        )
        return out


def heads_of(parts: Mapping[str, int], site: Site, load: float | None,
             seconds: float | None) -> float | None:
    """Heads that a share keeps busy: load × share × handle time / 3600; None when unknown."""
    if load is None or seconds is None:
        return None
    return load * parts.get(site.name, 0) / 100 * seconds / 3600
