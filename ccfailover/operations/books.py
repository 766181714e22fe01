"""The other side's word: what a site says became of the work it was given, kept and set beside
the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ccfailover.errors import UsageError
from ccfailover.transfer.account import Account, account
from ccfailover.transfer.listing import BadLine, completions, zone_of

if TYPE_CHECKING:
    from ccfailover.model.books import Completion
    from ccfailover.model.plan import Json
    from ccfailover.model.policy import Policy, Queue, Site
    from ccfailover.operations.desk import Desk

RECORDED = "completions.recorded"
"""The kind of the journal event, in the stream `automation`."""

_BATCH = 1000
_KEPT = 1000


@dataclass(frozen=True)
class Recorded:
    """What a file brought. `lines` without its first one; of these `new` were not known."""

    site: str
    path: str
    sha256: str
    lines: int
    new: int
    known: int
    problems: tuple[BadLine, ...]

    def to_json(self) -> dict[str, Json]:
        return {**self.__dict__, "problems": [each.to_json() for each in self.problems]}


def provider_of(policy: Policy, named: str | None) -> Site:
    """The site that is named, or else the only outsourced one that has a backlog."""
    if named is not None:
        if named not in policy.sites:
            raise UsageError(f"there is no site {named!r} in the policy",
                             not_done="nothing was done", hint=f"one of: {', '.join(policy.sites)}")
        return policy.sites[named]
    found = list(dict.fromkeys(
        site for queue in policy.queues.values() for site in queue.backlogs
        if not policy.sites[site].in_house))
    if len(found) != 1:
        raise UsageError("which site is meant?", not_done="nothing was done",
                         hint=f"name one: {', '.join(found or policy.sites)}")
    return policy.sites[found[0]]


def record(desk: Desk, path: Path, *, site: str | None) -> Recorded:
    """Keep a site's word on its work; what is known already is not kept twice, so that the same
    file, or a longer one of the same month, may come again. Lines that make no sense are told and
    stop nothing. Raises UsageError for a file that is no such list."""
    of = provider_of(desk.policy, site)
    listing = completions(path, site=of.name, zone=zone_of(of.timezone), now=desk.runtime.now())
    batch: list[Completion] = []
    new = good = 0
    for word in listing:
        batch.append(word)
        good += 1
        if len(batch) >= _BATCH:
            new += desk.store.record_completions(batch)
            batch = []
    if batch:
        new += desk.store.record_completions(batch)
    done = Recorded(of.name, str(path), listing.sha256, listing.lines, new, good - new,
                    tuple(listing.problems))
    told = done.to_json()
    desk.store.append("automation", RECORDED, {
        **told, "problems": told["problems"][:_KEPT], "problems_in_all": len(done.problems)},
        actor=str(desk.actor))
    return done


def accounts(desk: Desk, queue: Queue) -> list[Account]:
    """One for each site beside home that was ever sent something of the queue."""
    found = [account(desk.store, queue, desk.policy.sites[site], now=desk.runtime.now())
             for site in queue.backlogs if site != queue.home]
    return [each for each in found if each.sent or each.differences]
