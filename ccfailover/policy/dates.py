"""What was right when it was written and lapses by itself: licences, contracts, reviews.

Always looked at, also when a stamp says that the file is valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from ccfailover.errors import Problem
from ccfailover.model.policy import Policy, Site
from ccfailover.policy.places import Path
from ccfailover.policy.read import Document

SOON = 30
"""Days before the end in which a warning is due."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check(policy: Policy, document: Document, now: int) -> list[Problem]:
    """Errors for what has lapsed, warnings for what lapses within 30 days; `now` is µs UTC."""
    problems = []
    for site in policy.sites.values():
        for path, what, last in _ends(site):
            left = (last - day_at(now, site.timezone)).days
            if left < 0:
                text, severity = f"{what} of {site.name} ended on {last}", "error"
            elif left <= SOON:
                text = f"{what} of {site.name} ends on {last}, in {left} days"
                severity = "warning"
            else:
                continue
            mark = document.places.value(path)
            problems.append(Problem(document.file, *mark, text, severity=severity,
                                    hint="renew it, then put the new date here"))
    return problems


def _ends(site: Site) -> Iterator[tuple[Path, str, date]]:
    at: Path = ("sites", site.name)
    for state, until in (site.licences or {}).items():
        if until is not None:
            yield (*at, "licences", state), f"the {state} licence", until
    if site.contract_until is not None:
        yield (*at, "contract_until"), "the contract", site.contract_until
    if site.due_diligence is not None:
        yield (*at, "due_diligence"), "the due diligence", site.due_diligence


def day_at(at_us: int, timezone: str) -> date:
    """The calendar day of an instant at a place; UTC's when the zone is not known here."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # only where something can lapse

    instant = EPOCH + timedelta(microseconds=at_us)
    try:
        return instant.astimezone(ZoneInfo(timezone)).date()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return instant.date()
