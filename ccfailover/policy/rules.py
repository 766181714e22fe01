"""What a schema cannot say: a policy of the right shape that would fail when it is needed.

Errors are what would do harm or be refused later; warnings say, with the figures, what the
policy will not achieve.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from ccfailover.errors import Problem
from ccfailover.model.policy import Period, Policy, Queue, Site
from ccfailover.policy import figures
from ccfailover.policy.kinds import KindSchemas
from ccfailover.policy.lever_rules import LeverRules
from ccfailover.policy.places import Path
from ccfailover.policy.read import Document
from ccfailover.policy.units import duration
from ccfailover.policy.values import shown

PUBLIC = frozenset({"public", "internet"})
"""Locations that are nobody's: what is there does not fail with a site."""

SHORTEST_LEASE, LONGEST_LEASE = 5.0, 300.0
"""Seconds. Below, any hiccup of the store interrupts a run; above, nobody wants to wait it out."""


def check(policy: Policy, document: Document, kinds: KindSchemas) -> list[Problem]:
    """Every finding on a policy that `shape`, `references` and `expressions` found sound."""
    rules = _Rules(policy, document, kinds)
    for queue in policy.queues.values():
        rules.outsourcing(queue)
        rules.receivers(queue)
        rules.places(queue)
        rules.levers(queue)
        rules.spoken(queue)
        rules.backlogs(queue)
        rules.takes_back(queue)
        rules.one_mode(queue)
        rules.times(queue)
    rules.shared()
    rules.procedures()
    rules.triggers()
    rules.store()
    rules.lease()
    rules.retention()
    rules.unused()
    return rules.problems


class _Rules(LeverRules):
    def _written(self, queue: Queue) -> Mapping[str, Any]:
        block: Mapping[str, Any] = self._document.data["queues"][queue.name]
        return block

    def _sites(self, queue: Queue) -> list[tuple[int, Site]]:
        return [(index, self._policy.sites[name]) for index, name in enumerate(queue.backups)]

    def _may_go(self, queue: Queue, site: Site) -> bool:
        return site.in_house or queue.outsource != "never"

    def outsourcing(self, queue: Queue) -> None:
        """A queue that may not leave must say where its callers go instead."""
        at: Path = ("queues", queue.name)
        said = "home_down" in self._written(queue)
        if queue.outsource == "never":
            if not self._policy.sites[queue.home].in_house:
                self._say((*at, "home"), f"{queue.name} says outsource: never, and its home "
                          f"{queue.home} is outsourced")
            for index, site in self._sites(queue):
                if not site.in_house:
                    self._say((*at, "backups", index), f"{queue.name} says outsource: never, and "
                              f"its backup {site.name} is outsourced")
            if not said:
                self._say(at, f"{queue.name} may not leave the house (outsource: never), so it "
                          "must say `home_down`: message, callback, voicemail or hold", key=True)
            return
        stays = queue.outsource == "overflow_only" and queue.in_disaster == "refuse"
        takers = [site for _, site in self._sites(queue) if site.in_house or not stays]
        if not takers and not said:
            why = "it may leave for an overflow only, and in_disaster does not allow more" \
                if queue.backups else "it has no backups"
            self._say(at, f"nobody takes {queue.name} when {queue.home} fails ({why}): say "
                      "`home_down`: message, callback, voicemail or hold", key=True)

    def receivers(self, queue: Queue) -> None:
        """A backup that the hard guards would refuse is no backup."""
        home = self._policy.sites[queue.home]
        asked = queue.criteria_version or home.criteria_version
        for index, site in self._sites(queue):
            at: Path = ("queues", queue.name, "backups", index)
            if not self._may_go(queue, site):
                continue
            undeclared = site.in_house and site.criteria_version is None
            if asked is not None and site.criteria_version != asked and not undeclared:
                self._say(at, f"{queue.name} is decided by credit criteria {asked}, and "
                          f"{site.name} works by {site.criteria_version or 'none that it names'}")
            allowed = site.data_classes
            if queue.data_class is not None and not (site.in_house and allowed is None) \
                    and queue.data_class not in (allowed or ()):
                self._say(at, f"{queue.name} holds {queue.data_class} data, which {site.name} may "
                          f"not see (data_classes: {', '.join(sorted(allowed or ())) or 'none'})")
            if queue.licence_field is not None and not site.in_house and not site.licences:
                self._say(at, f"{queue.name} asks for a licence, and {site.name} holds none")

    def places(self, queue: Queue) -> None:
        """A backup must not fall with the site that it replaces."""
        home = self._policy.sites[queue.home]
        own = {home.name, home.location} - {None} - PUBLIC
        theirs = self._locations(home)
        for index, site in self._sites(queue):
            at: Path = ("queues", queue.name, "backups", index)
            for name in site.depends_on:
                location = self._policy.dependencies[name].location
                if location in own:
                    self._say(at, f"{site.name} needs {name}, which stands in {location}: when "
                              f"{home.name} fails, its backup fails with it")
            if site.location is not None and site.location in own:
                self._warn(at, f"{site.name} and {home.name} stand in the same place, "
                           f"{site.location}")
            shared = self._locations(site)
            if shared and shared <= theirs:
                self._warn(at, f"everything that {site.name} depends on stands where "
                           f"{home.name}'s does ({', '.join(sorted(shared))}): a failure there "
                           "takes both, and moving the work will not help")

    def _locations(self, site: Site) -> set[str]:
        found = {self._policy.dependencies[name].location for name in site.depends_on}
        return {location for location in found if location is not None and location not in PUBLIC}

    def backlogs(self, queue: Queue) -> None:
        """First stop the inflow, then move what waits."""
        at: Path = ("queues", queue.name)
        if len(queue.backlogs) > 1 and queue.intake is None:
            self._say((*at, "backlog"), f"{queue.name} has backlogs to move and no `intake`: new "
                      "items would go on arriving at the site that failed", key=True)
        if queue.home in queue.backlogs:
            for index, site in self._sites(queue):
                if site.name not in queue.backlogs and self._may_go(queue, site):
                    self._warn((*at, "backups", index), f"{site.name} has no backlog of "
                               f"{queue.name}: what waits at {queue.home} cannot be moved there")
        elif queue.backlogs:
            self._warn((*at, "backlog"), f"the backlog of its home {queue.home} is missing: its "
                       "depth will be unknown", key=True)

    def takes_back(self, queue: Queue) -> None:
        """What can only be put in somewhere does not come out of there again."""
        for site, lever in queue.backlogs.items():
            can = self._capabilities(lever)
            if not can.backlogs or can.claims:
                continue
            at: Path = ("queues", queue.name, "backlog", site)
            if site == queue.home:
                self._say(at, f"{lever.provider} takes work in and gives none back (it has no "
                          f"`claim`): what waits at {site}, the home of {queue.name}, could never "
                          "be moved", key=True)
            else:
                self._warn(at, f"{lever.provider} takes work in and gives none back (it has no "
                           f"`claim`): what {site} was given of {queue.name} stays there to its "
                           "end, and no failback or rollback brings it home", key=True)

    def one_mode(self, queue: Queue) -> None:
        """Either records are assigned anew in one system, or items leave one for another: a record
        that was exported would stay assigned where it was, and be worked twice."""
        able = {site: self._capabilities(lever) for site, lever in queue.backlogs.items()}
        named = {site: can.assignee for site, can in able.items() if can.assignee is not None}
        at: Path = ("queues", queue.name, "backlog")
        if not named:
            return
        first = next(iter(named))
        here = queue.backlogs[first]
        seen: dict[str, str] = {}
        for site, lever in queue.backlogs.items():
            if site not in named:
                self._say((*at, site), f"{queue.name} assigns records at {first} (`assignee`) and "
                          f"delivers items at {site}: a record delivered to {site} would stay "
                          f"assigned to {named[first]} and be worked at both. Give every site of "
                          "the queue an `assignee`, or none", key=True)
                continue
            if (lever.provider, lever.ref) != (here.provider, here.ref):
                self._say((*at, site), f"{queue.name} assigns records in {here.lever} at {first} "
                          f"and in {lever.lever} at {site}: a record is assigned anew only where "
                          "it is, so that both must name one provider and one ref", key=True)
            if named[site] in seen:
                self._say((*at, site), f"{site} and {seen[named[site]]} have one assignee, "
                          f"{shown(named[site])}: nothing could be moved between them", key=True)
            seen.setdefault(named[site], site)

    def times(self, queue: Queue) -> None:
        """Objectives against what probes, triggers and ramps really give."""
        at: Path = ("queues", queue.name)
        if queue.rto is not None and queue.mtd is not None and queue.rto > queue.mtd:
            self._say((*at, "objectives", "rto"), figures.rto_over_mtd(queue))
        if queue.rto is not None:
            lever = queue.route or queue.intake
            said = figures.detection(self._policy, queue, self._capabilities(
                lever).propagation if lever is not None else 0.0)
            if said:
                self._warn((*at, "objectives", "rto"), said)
        said = figures.capacity(self._policy, queue)
        if said:
            self._warn((*at, "load", "per_hour"), said)

    def triggers(self) -> None:
        for trigger in self._policy.triggers.values():
            site = self._policy.sites.get(trigger.subject)
            if trigger.mode != "automatic" or trigger.runbook == "overflow" or site is None:
                continue
            observers = {probe.observer for probe in site.probes}
            if len(observers) < 2:
                seen = ", ".join(sorted(observers)) or "nobody"
                self._warn(("triggers", trigger.name, "mode"),
                           f"an automatic {trigger.runbook} needs two independent observers of "
                           f"{site.name}, and it is watched by {seen}: it will only advise")

    def store(self) -> None:
        """The journal must survive the site that it tells about."""
        homes = {queue.home for queue in self._policy.queues.values()}
        path: Path = ("store", "location") if self._policy.store_location else ("store",)
        for name in sorted(homes):
            site = self._policy.sites[name]
            place = self._policy.store_location
            if place is not None and place in {name, site.location}:
                self._say(path, f"the store stands in {place}, where {name} does: it would be "
                          "gone when it is needed")
            for host in figures.store_hosts(self._policy.store):
                if host in figures.hosts(site):
                    self._say(path, f"the store is on {shown(host)}, a host that is probed as "
                              f"part of {name}: it would be gone when it is needed")

    def lease(self) -> None:
        """Long enough to outlive a stutter of the store; short enough to be waited out."""
        lease = self._policy.lease
        if not SHORTEST_LEASE <= lease <= LONGEST_LEASE:
            self._say(("store", "lease"), f"a lease of {lease:g} s: it must last from "
                      f"{SHORTEST_LEASE:g} s to {LONGEST_LEASE:g} s")
            return
        for name, provider in self._policy.providers.items():
            given = provider.params.get("timeout")
            longest = duration(given) if isinstance(given, str) else given
            if isinstance(longest, int | float) and longest > lease / 2:
                self._warn(("providers", name, "timeout"),
                           f"a call to {name} may take {longest:g} s, more than half a lease "
                           f"({lease:g} s): one may still land after another process took over")

    def retention(self) -> None:
        """Less than Regulation B asks for of consumer credit may be right for business credit."""
        kept = self._policy.retention
        someday = date(2030, 1, 31)
        if kept is not None and kept.before(someday) > Period(25, "mo").before(someday):
            self._warn(("retention", "ledger"), f"the ledger is kept for {kept}: Regulation B (12 "
                       "CFR 1002.12) asks for 25 months after the notice of action taken, 12 for "
                       "business credit")

    def unused(self) -> None:
        """What nothing refers to is either left over or forgotten."""
        policy = self._policy
        queues = policy.queues.values()
        levers = [lever for queue in queues for lever in
                  (queue.route, queue.intake, queue.announcement, *queue.backlogs.values(),
                   *queue.consumers.values()) if lever is not None]
        levers += policy.procedures.values()
        used = {
            "sites": {name for queue in queues
                      for name in (queue.home, *queue.backups, *queue.normal)},
            "dependencies": {name for site in policy.sites.values() for name in site.depends_on},
            "providers": {part.provider for lever in levers for part in lever.parts},
        }
        declared: Mapping[str, Mapping[str, object]] = {
            "sites": policy.sites, "dependencies": policy.dependencies,
            "providers": policy.providers}
        nouns = {"sites": "site", "dependencies": "dependency", "providers": "provider"}
        for group, names in declared.items():
            for name in names:
                if name not in used[group]:
                    self._warn((group, name), f"{nouns[group]} {name} is used by nothing",
                               key=True)
        for site in policy.sites.values():
            if not site.probes and any(queue.home == site.name for queue in queues):
                self._warn(("sites", site.name), f"{site.name} has no probes: its state will "
                           "always be unknown", key=True)
