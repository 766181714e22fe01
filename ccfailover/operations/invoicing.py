"""What a provider may bill for a period, and how that fits to what it does bill."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ccfailover.errors import UsageError
from ccfailover.operations.books import provider_of
from ccfailover.operations.history import ended
from ccfailover.transfer import listing
from ccfailover.transfer.invoice import Bill, Compared, Figures, Period, compare, figures

if TYPE_CHECKING:
    from ccfailover.model.plan import Json
    from ccfailover.model.policy import Site
    from ccfailover.operations.desk import Desk

INVOICED = "invoice.compared"
_KEPT = 1000


@dataclass(frozen=True)
class Invoice:
    """`compared` None: no invoice of the provider's own was given."""

    site: str
    currency: str
    first: date
    last: date
    figures: Figures
    bill: Bill
    compared: Compared | None

    def to_json(self) -> dict[str, Json]:
        return {
            "provider": self.site, "currency": self.currency, "from": self.first.isoformat(),
            "to": self.last.isoformat(), "tells_completions": self.figures.tells,
            "days": [{"queue": queue, "day": day.isoformat(), **counts.__dict__}
                     for (queue, day), counts in sorted(self.figures.days.items())],
            "bill": self.bill.to_json(),
            "invoice": self.compared.to_json() if self.compared else None,
        }


def make(desk: Desk, *, site: str | None, first: str, last: str,
         theirs: Path | None) -> Invoice:
    """Both days belong to the period (site's time zone). With the provider's own invoice, what
    was found goes into the journal. Raises UsageError."""
    of = provider_of(desk.policy, site)
    begin, end = _day(first), _day(last)
    if end < begin:
        raise UsageError(f"{last} lies before {first}", not_done="nothing was counted")
    zone = listing.zone_of(of.timezone)
    period = Period(
        listing.instant(begin.isoformat(), zone, end_of_day=False) or 0,
        listing.instant((end + timedelta(days=1)).isoformat(), zone, end_of_day=False) or 0,
        of.timezone)
    store = desk.store
    queues = [queue.name for queue in desk.policy.by_priority() if of.name in queue.backlogs
              and queue.home != of.name]
    found = figures(chain.from_iterable(store.sent(queue, of.name) for queue in queues),
                    store.never_sent(of.name), period, tells=store.tells(of.name))
    bill = Bill(found.due, _activations(desk, of, period), of.price, _not_priced(of))
    compared = None
    if theirs is not None:
        lines = listing.invoice(theirs)
        compared = compare(lines, found, of.price, problems=lines.problems)
    made = Invoice(of.name, desk.policy.currency, begin, end, found, bill, compared)
    if compared is not None:
        store.append("automation", INVOICED, _record(made, lines.sha256), actor=str(desk.actor))
    return made


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text[:40]!r} is no day", not_done="nothing was counted",
                         hint="--from 2026-10-01 --to 2026-10-31") from None


def _activations(desk: Desk, site: Site, period: Period) -> int:
    """Runs that gave work to a site which had none before, in the period."""
    if not site.price.per_activation:
        return 0
    count = 0
    for run in ended(desk, period.begin):
        at = run.started_at or run.planned_at
        before = any((parts or {}).get(site.name) for parts in run.plan.shares_before.values())
        after = any(parts.get(site.name) for parts in run.plan.shares_after.values())
        count += at in period and after and not before
    return count


def _not_priced(site: Site) -> tuple[str, ...]:
    if not site.price.per_minute:
        return ()
    return (f"minutes at {site.price.per_minute} each: the ledger knows of applications only",)


def _record(made: Invoice, sha256: str) -> dict[str, Json]:
    told = made.to_json()
    for name in ("findings", "problems"):
        told["invoice"][f"{name}_in_all"] = len(told["invoice"][name])
        told["invoice"][name] = told["invoice"][name][:_KEPT]
    told["days"] = told["days"][:_KEPT]
    return {**told, "sha256": sha256}
