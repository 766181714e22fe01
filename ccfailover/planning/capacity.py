"""How much one site can serve of one queue: the plain formula.

    capacity [contacts/h] = heads × 3600 [s/h] / handle time [s]

An upper bound: it lets every head talk all the time and knows no waiting caller. Waiting times
(Erlang C and A) need another module beside this one, not a change of this one.
"""

from __future__ import annotations

import math

from ccfailover.model.policy import Queue, Site

DEFERRED = frozenset({"application", "email", "fax", "callback"})
"""Channels whose work can wait in a backlog; nobody is on the line."""

SECONDS_AN_HOUR = 3600.0


def ramp_heads(site: Site, minutes_since_activation: float | None) -> int | None:
    """Heads that the site's ramp allows by now; None when it has no ramp.

    `minutes_since_activation` None: not active yet, which is minute 0. Before the first entry of
    the ramp there is nobody.
    """
    if not site.ramp:
        return None
    seconds = max(0.0, minutes_since_activation or 0.0) * 60
    reached = [(after, heads) for after, heads in site.ramp if after <= seconds]
    return max(0, max(reached)[1]) if reached else 0


def handle_seconds(site: Site, queue: Queue) -> float | None:
    """Seconds that one contact takes there: the site's own figure, else the queue's; else None."""
    staff = site.staff.get(queue.name)
    if staff is not None and staff.handle_time is not None:
        return _positive(staff.handle_time)
    if queue.minutes_per_contact is not None:
        return _positive(queue.minutes_per_contact * 60)
    return None


def capacity_per_hour(
    site: Site,
    queue: Queue,
    *,
    minutes_since_activation: float | None,
    heads_taken: float = 0.0,
) -> float | None:
    """Contacts an hour that `site` can serve of `queue`; None when that cannot be known.

    Deferred work takes the site's plain `per_hour` rate when it has one, live work
    heads × 3600 / handle time; each falls back on the other's figure. A ramp caps the heads (see
    `ramp_heads`), lowers a plain rate in proportion when the heads behind it are known, and makes
    it 0 while there is nobody; `heads_taken` of the ramp already serve other queues. A rate or a
    number of heads below 0 counts as 0; a handle time of 0 or less is no handle time.
    """
    staff = site.staff.get(queue.name)
    heads = _heads(site, queue, minutes_since_activation, heads_taken)
    rate = None
    if staff is not None and staff.per_hour is not None and math.isfinite(staff.per_hour):
        rate = max(0.0, staff.per_hour)
        if heads is not None and staff.agents is not None and staff.agents > 0:
            rate *= heads / staff.agents
        elif heads == 0:
            rate = 0.0
    by_heads = None
    if heads is not None:
        seconds = handle_seconds(site, queue)
        if heads == 0:
            by_heads = 0.0
        elif seconds is not None:
            by_heads = heads * SECONDS_AN_HOUR / seconds
    first, second = (rate, by_heads) if queue.channel in DEFERRED else (by_heads, rate)
    return first if first is not None else second


def _heads(
    site: Site, queue: Queue, minutes_since_activation: float | None, heads_taken: float
) -> float | None:
    staff = site.staff.get(queue.name)
    signed_in = None if staff is None or staff.agents is None else max(0, staff.agents)
    ramped = ramp_heads(site, minutes_since_activation)
    if ramped is None:
        return signed_in
    free = max(0.0, ramped - max(0.0, heads_taken))
    return free if signed_in is None else min(signed_in, free)


def _positive(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None
