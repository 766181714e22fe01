"""Thinning the ledger out: what is older than it has to be kept, is finished, and was exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from ccfailover.errors import Refused, UsageError
from ccfailover.model.items import ItemState
from ccfailover.operations.ledger_export import EXPORTED
from ccfailover.planning.cost import local_time
from ccfailover.store import archive
from ccfailover.transfer.listing import instant, zone_of
from ccfailover.transfer.rows import AT_TARGET, is_copy

if TYPE_CHECKING:
    from ccfailover.model.plan import Json
    from ccfailover.operations.desk import Desk
    from ccfailover.store.archive import Holding

PRUNED = "ledger.pruned"
"""The kind of the journal event, and the name of the fact that keeps what was ever pruned."""

STARTED = "ledger.prune_started"

_OPEN = {
    ItemState.CLAIMED: "in doubt", ItemState.DELIVERED: "not deleted at its source",
    ItemState.STRANDED: "stranded", ItemState.QUARANTINED: "quarantined",
}
_YOUNG = "touched on or after that day"
_RUN_OPEN = "a run that has not ended has it"
_BATCH = 200


@dataclass
class Pruning:
    """What goes (`applications`, once done also their `rows`), and how many stay, by reason."""

    before: date
    exported: Mapping[str, Json] | None
    applications: int = 0
    rows: int = 0
    kept: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Json]:
        return {"before": self.before.isoformat(), "applications": self.applications,
                "rows": self.rows, "kept": dict(self.kept.most_common()),
                "exported": dict(self.exported) if self.exported else None}


class Pruner:
    """One pruning of everything that was last touched before a day (policy's time zone).

    Raises UsageError for a day that is none; Refused (guard `retention`) where the policy does
    not say how long the ledger is kept, or longer than to that day; Refused (`export`) where
    `no_export`, a reason, is not given and there is no complete export that holds all of it.
    """

    def __init__(self, desk: Desk, before: str, *, no_export: str = "") -> None:
        self._desk, self._no_export = desk, no_export.strip()
        try:
            self.before = date.fromisoformat(before)
        except ValueError:
            raise UsageError(f"{before[:40]!r} is no day", not_done="nothing was deleted",
                             hint="--before 2019-01-31") from None
        self._may_be_so_young()
        zone = zone_of(desk.policy.timezone)
        self._limit = instant(self.before.isoformat(), zone, end_of_day=False) or 0
        self.exported: Mapping[str, Json] | None = desk.store.fact(EXPORTED)
        self._tells = {name: desk.store.tells(name) for name in desk.policy.sites}

    def _may_be_so_young(self) -> None:
        kept = self._desk.policy.retention
        if kept is None:
            raise Refused("the policy does not say how long the ledger has to be kept",
                          guard="retention", not_done="nothing was deleted",
                          hint="retention: {ledger: 7y}   (25 months at least for consumer "
                          "credit: 12 CFR 1002.12)")
        today = local_time(self._desk.runtime.now(), self._desk.policy.timezone).date()
        last = kept.before(today)
        if self.before > last:
            raise Refused(f"the ledger is kept for {kept}: what was touched on {last} or later "
                          "stays", guard="retention", not_done="nothing was deleted",
                          hint=f"--before {last}, or earlier")

    def look(self) -> Pruning:
        """What would go. Changes nothing."""
        found = Pruning(self.before, self.exported)
        for names in self._pages():
            for holding in archive.look(self._desk.store, names):
                why = self.judge(holding)
                if why is None:
                    found.applications += 1
                    found.rows += len(holding.rows)
                else:
                    found.kept[why] += 1
        return found

    def delete(self) -> Pruning:
        """Do it; journaled before and after. A crash in between leaves whole applications."""
        self.may_go()
        desk, done = self._desk, Pruning(self.before, self.exported)
        desk.store.append("automation", STARTED, {
            "before": self.before.isoformat(), "retention": str(desk.policy.retention),
            "no_export": self._no_export,
            "export": self.exported.get("sha256") if self.exported else None,
        }, actor=str(desk.actor))
        runs: set[str] = set()
        for names in self._pages():
            removed = archive.remove(desk.store, names, self.judge)
            done.applications += removed.applications
            done.rows += removed.rows
            done.kept.update(removed.kept.values())
            runs |= removed.runs
        told = {**done.to_json(), "no_export": self._no_export, "runs": sorted(runs)}
        earlier = desk.store.fact(PRUNED) or []
        archive.journaled(desk.store, PRUNED, told, actor=str(desk.actor), fact=PRUNED, value=[
            *earlier, {"before": self._limit, "at": desk.runtime.now(), "by": str(desk.actor),
                       "applications": done.applications, "runs": sorted(runs)}])
        return done

    def may_go(self) -> None:
        """Raises Refused (guard `export`)."""
        if self._no_export:
            return
        if self.exported is None or int(self.exported.get("at", 0)) < self._limit:
            raise Refused("what would be deleted is in no complete export", guard="export",
                          not_done="nothing was deleted",
                          hint="ccfailover transfer export --out ledger.jsonl; or --no-export "
                          "\"why none is needed\"")

    def _pages(self) -> Iterator[list[str]]:
        for page in archive.applications(self._desk.store):
            for start in range(0, len(page), _BATCH):
                yield page[start:start + _BATCH]

    def judge(self, holding: Holding) -> str | None:
        """None: it is old, finished, and of no open run. Else why it stays."""
        if any(row.run in holding.open_runs for row in holding.rows):
            return _RUN_OPEN
        for row in holding.rows:
            if row.state in _OPEN:
                return _OPEN[row.state]
        newest = max([*(row.at for row in holding.rows), *(word.at for word in holding.told)])
        if newest >= self._limit:
            return _YOUNG
        if self.exported is not None and not self._no_export and newest > int(
                self.exported.get("at", 0)):
            return "not in the last complete export"
        return self._unfinished(holding)

    def _unfinished(self, holding: Holding) -> str | None:
        """At a site that tells what it has done, and has not told of this one."""
        last = max((row for row in holding.rows if not is_copy(row)),
                   key=lambda row: (row.hop, row.at), default=None)
        if last is None or last.state not in AT_TARGET or not self._tells.get(last.target):
            return None
        site = self._desk.policy.sites.get(last.target)
        if site is None or site.in_house or any(word.site == last.target
                                                for word in holding.told):
            return None
        return f"still in work at {last.target}"
