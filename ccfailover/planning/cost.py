"""What a share costs: price a minute × handle minutes × contacts, price an application, activation.

Money is `Decimal` in the policy's currency, rounded to the hundredth at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from ccfailover.model.policy import Policy, Queue
from ccfailover.planning.capacity import handle_seconds

HUNDREDTH = Decimal("0.01")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def local_time(at: int, timezone: str) -> datetime:
    """The instant (µs) on the clock of `timezone`."""
    from zoneinfo import ZoneInfo  # 5 ms, and most plans ask for no day

    return (_EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(timezone))


def hours_left_today(at: int, timezone: str) -> Decimal:
    """Hours from `at` to the next local midnight (a day of 23 or 25 hours included)."""
    now = local_time(at, timezone)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), now.tzinfo)
    left = midnight.astimezone(UTC) - now.astimezone(UTC)
    return Decimal(str(left.total_seconds())) / 3600


def cost_per_hour(
    policy: Policy, queue: Queue, shares: Mapping[str, int], load_per_hour: float | None
) -> tuple[Decimal, tuple[str, ...]]:
    """What an hour of these shares costs, and what had to be left out, as sentences.

    An application costs `per_application`; any other contact `per_minute` × the minutes that it
    takes at that site (or else at home).
    """
    total = Decimal(0)
    left_out: list[str] = []
    for name, percent in shares.items():
        site = policy.sites.get(name)
        if site is None or not percent:
            continue
        each = site.price.per_application
        if queue.channel != "application":
            each = site.price.per_minute
            seconds = handle_seconds(site, queue)
            if seconds is None and queue.home in policy.sites:
                seconds = handle_seconds(policy.sites[queue.home], queue)
            if each and seconds is None:
                left_out.append(f"the cost of {name} is not counted: its handle time is unknown")
                continue
            each *= Decimal(str(seconds or 0)) / 60
        if each and load_per_hour is None:
            left_out.append(f"the cost of {name} is not counted: the load is unknown")
            continue
        total += each * Decimal(str(max(0.0, load_per_hour or 0))) * percent / 100
    return total.quantize(HUNDREDTH, ROUND_HALF_UP), tuple(left_out)
