"""A timed overflow: when it ends, and which ones are over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ccfailover.errors import UsageError
from ccfailover.model.health import Decision
from ccfailover.operations.desk import Desk
from ccfailover.operations.history import last_runs
from ccfailover.runbooks.run import Run
from ccfailover.runtime import SECOND


def instant(text: str, timezone: str, now: int) -> str:
    """`18:00` (the next one, in the policy's time zone) or an ISO date and time → ISO in UTC.

    Raises UsageError for anything else, and for a time that is over.
    """
    from zoneinfo import ZoneInfo  # 5 ms, and few runs are timed

    zone = ZoneInfo(timezone)
    here = datetime.fromtimestamp(now / SECOND, zone)
    try:
        if len(text) <= 5:
            hour, _, minute = text.partition(":")
            at = here.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
            if at <= here:
                at += timedelta(days=1)
        else:
            at = datetime.fromisoformat(text)
            at = at if at.tzinfo else at.replace(tzinfo=zone)
    except ValueError:
        raise UsageError(f"--until {text}: not a time", not_done="nothing was planned",
                         hint="--until 18:00, or --until 2026-12-24T18:00") from None
    if at <= here:
        raise UsageError(f"--until {text} is over", not_done="nothing was planned",
                         hint="a time that is still to come")
    return at.astimezone(UTC).isoformat()


def ends_at(run: Run) -> int | None:
    """When a timed overflow is to return by itself (µs); None: never."""
    text = (run.plan.basis.get("request") or {}).get("until")
    return int(datetime.fromisoformat(text).timestamp() * SECOND) if text else None


def over(desk: Desk) -> Iterator[tuple[Decision, str]]:
    """A failback for each timed overflow that is over and still in effect, and its queue.

    One whose queue somebody has moved since is left alone: the later move counts.
    """
    adopted = desk.store.fact("adopted") or {}
    for name, run in last_runs(desk).items():
        queue, at = desk.policy.queues.get(name), ends_at(run)
        later = adopted.get(name, {}).get("at", 0) > (run.ended_at or 0)
        if queue is None or at is None or later or at > desk.runtime.now():
            continue
        yield Decision(
            trigger=f"until {run.id}", runbook="failback", subject=queue.home, action="execute",
            since=at, reasons=(f"the overflow of {name} by {run.requester} is over",)), name
