"""A contact centre made up from a seed: sites that fail, queues, applications, consumers, traffic.

Ground truth and what people are told of it are kept apart: a site's fall is known only after a
while, and a switch may lie.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ccfailover.model.books import is_canary
from ccfailover.model.health import Assessment, Outcome, QueueView, Reading, State, World
from ccfailover.model.plan import Json
from ccfailover.model.policy import Policy, ProbeSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.runtime import SECOND
from ccfailover.simulation import policy_sim
from ccfailover.simulation.clock_sim import START, Chance, Flow, Scheduler
from ccfailover.simulation.faults_sim import FaultyPlatform
from ccfailover.simulation.platform import Message
from ccfailover.simulation.policy_sim import HOME, SWITCH

__all__ = ["HOME", "SWITCH", "Change", "SimWorld", "Truth", "instant", "item_of"]
CALLS_PER_SECOND: Final = 2.0


@dataclass(frozen=True)
class Change:
    """From `at` (seconds) on a site is really `up` or not, and people are told `told`."""

    at: float
    up: bool
    told: State


@dataclass
class Truth:
    """What really is, and nobody in the simulation may look at but the judge."""

    answered: dict[tuple[str, str], float] = field(default_factory=dict)
    offered: dict[str, float] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    completed: Counter[str] = field(default_factory=Counter)
    worked_at: dict[str, set[str]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)


class SimWorld:
    """`kind` says what the people in it set out to do: failover, switchover or overflow.

    `falls_at`: when a home that fails does so, seconds. Before 0 it has; later, it has overflowed
    when it does.
    """

    def __init__(self, scheduler: Scheduler, platform: FaultyPlatform, chance: Chance) -> None:
        self.scheduler, self.platform = scheduler, platform
        self.truth = Truth()
        self._unspent = 0.0
        self.kind, later = chance.weighted((
            (("full_failover", False), 5.5), (("switchover", False), 4.0),
            (("overflow", False), 1.0), (("full_failover", True), 2.0)))
        self.calm_at = chance.between(60, 400)
        self.falls_at = chance.between(0.5, chance.choice([8.0, 20.0])) if later else -30.0
        backups = ["acme", "beta", "branch"][:1 + chance.below(3)]
        self.changes = self._fates(chance, backups)
        self.blocked = self._window(chance)
        self.source_dies = self.kind == "full_failover" and chance.often(0.3)
        self.fifo = chance.often(0.6)
        self.policy = policy_sim.make(chance, self.changes, fifo=self.fifo,
                                      slow=self.falls_at > 0)
        self.levers = {queue.name: lever for queue in self.policy.queues.values()
                       for lever in [queue.route or queue.intake] if lever}
        self._allow()
        if chance.often(0.2):
            scheduler.after(chance.between(1, self.calm_at - 20), self._tighten)
        self._furnish(chance)
        scheduler.passing = self._traffic

    # --- sites -------------------------------------------------------------------------------

    def _fates(self, chance: Chance, backups: list[str]) -> dict[str, list[Change]]:
        """Home falls first, if it does; of the others all but one may fall later. Nothing changes
        once it is calm, so that whoever acts then is not racing."""
        changes = {name: [Change(-3600, True, State.HEALTHY)] for name in (HOME, *backups)}
        if self.kind == "full_failover":
            fall = self.falls_at
            told = fall + 8 if fall > 0 else fall
            changes[HOME] += [Change(fall, False, State.HEALTHY), Change(told, False, State.DOWN)]
            if chance.often(0.4):
                back = chance.between(max(30.0, told + 5), self.calm_at - 10)
                changes[HOME] += [Change(back, True, State.DOWN),
                                  Change(back + 8, True, State.HEALTHY)]
        survivor = chance.choice(backups)
        for name in backups:
            if name == survivor or not chance.often(0.4):
                self._may_sicken(changes[name], chance)
                continue
            fall = chance.between(1, self.calm_at - 40)
            changes[name].append(Change(fall, False, State.HEALTHY))
            changes[name].append(Change(fall + 5, False, State.UNKNOWN))
            changes[name].append(Change(fall + 10, False, State.DOWN))
            if chance.often(0.5):
                back = chance.between(fall + 12, self.calm_at - 12)
                changes[name].append(Change(back, True, State.DOWN))
                changes[name].append(Change(back + 8, True, State.HEALTHY))
        return changes

    def _may_sicken(self, changes: list[Change], chance: Chance) -> None:
        """It answers, but not well, for a while: what a ramp has to hold or back off for."""
        if chance.often(0.2 if self.kind == "full_failover" else 0.7):
            ill = chance.between(0.5, chance.choice([5.0, 20.0, self.calm_at - 30]))
            well = min(ill + chance.choice([4.0, 30.0, 150.0]), self.calm_at - 12)
            changes += [Change(ill, True, State.DEGRADED), Change(well, True, State.HEALTHY)]
            if well < self.calm_at - 60 and self.kind != "full_failover":
                again = chance.between(well + 2, self.calm_at - 40)
                changes += [Change(again, True, State.DEGRADED),
                            Change(min(again + 60, self.calm_at - 12), True, State.HEALTHY)]

    def _window(self, chance: Chance) -> tuple[float, float]:
        """Seconds between which nothing planned may move: (0, 0) in most stories."""
        if not chance.often(0.25):
            return 0.0, 0.0
        begin = chance.between(0, chance.choice([5.0, 60.0]))
        return begin, min(begin + chance.between(5, 100), self.calm_at - 5)

    def clock(self, seconds: float) -> int:
        """What the clock on the wall says, µs, so many virtual seconds after the beginning."""
        return instant(seconds) + self.scheduler.skew

    def is_blocked(self, at: int) -> str | None:
        """By what the clock on the wall says, as the real calendar does."""
        begin, end = self.blocked
        return "month end" if begin <= (at - START) / SECOND < end else None

    def _at(self, site: str, seconds: float) -> Change:
        return [change for change in self.changes[site] if change.at <= seconds][-1]

    def told(self, site: str, ago: float = 0.0) -> State:
        """What people know of a site, or knew `ago` seconds ago."""
        if site not in self.changes:
            return State.UNKNOWN
        return self._at(site, self.scheduler.seconds - ago).told

    def told_during(self, site: str, since: float, until: float) -> set[State]:
        """Everything that people were told of a site in that time."""
        if site not in self.changes:
            return {State.UNKNOWN}
        return {self._at(site, since).told, *(change.told for change in self.changes[site]
                                              if since < change.at <= until)}

    def up(self, site: str, seconds: float | None = None) -> bool:
        return self._at(site, self.scheduler.seconds if seconds is None else seconds).up

    def reachable(self, ref: str) -> bool:
        """Whether the platform behind a lever answers: home's queue may die with its site."""
        return not (self.source_dies and ref.startswith(f"jobs_{HOME}") and not self.up(HOME))

    # --- the policy --------------------------------------------------------------------------

    def _tighten(self) -> None:
        """Somebody edits the policy while runs are under way: a queue may not leave any more."""
        self.policy = policy_sim.tightened(self.policy, self.scheduler.chance)
        self._allow()

    def _allow(self) -> None:
        self.may = policy_sim.may(self.policy, self.kind)
        # What an undo brings back may have been an overflow's doing, which more may take.
        self.may_undo = policy_sim.may(self.policy, "overflow")

    def item_stays(self, item: str, site: str, policy: Policy) -> str:
        """Why the lender's rules keep an item from `site`; "" when it may go. Not by our code."""
        truth, queue = self.truth, policy.queues["applications"]
        if item in truth.locked:
            return "somebody has it in hand"
        if site == HOME:
            return ""
        state, held = truth.states[item], policy.sites[site]
        if queue.eligible and state != "TX":
            return f"it is from {state}"
        valid = {name for name, ended in (held.licences or {}).items() if ended is None}
        if queue.licence_field and not held.in_house and state not in valid:
            return f"{site} has no licence for {state}"
        return ""

    # --- the furniture -----------------------------------------------------------------------

    def _furnish(self, chance: Chance) -> None:
        platform = self.platform
        for queue in self.policy.queues.values():
            for lever in (queue.route, queue.intake):
                if lever is not None:
                    platform.add_route(lever.ref, queue.normal)
            for backlog in queue.backlogs.values():
                platform.add_queue(backlog.ref)
        platform.add_gate("gate_hq", is_open=chance.often(0.8))
        for number in range(chance.choice([0, 2, 4, 6, 9, 14])):
            if chance.often(0.07):
                self.truth.locked.add(f"A{number:03}")
            self.arrive(f"A{number:03}", HOME, chance.choice(["TX", "TX", "TX", "AK"]))
        if chance.often(0.15):
            platform.send("jobs_hq", b"{not json")
        for number in range(chance.below(6)):
            state = chance.choice(["TX", "AK"])
            self.scheduler.after(chance.between(0, self.calm_at),
                                 partial(self._new, f"N{number:03}", state))
        for site in self.changes:
            if chance.often(0.5):
                self.scheduler.spawn(f"consumer {site}", self._consumer(site, chance))

    def arrive(self, item: str, site: str, state: str) -> None:
        queue = self.policy.queues["applications"]
        self.truth.items[item] = self.truth.items.get(item, 0) + 1
        body = json.dumps({"uli": item, "state": state, "locked": item in self.truth.locked}
                          ).encode()
        self.truth.states[item] = state
        ref = queue.backlogs[site].ref
        self.platform.send(ref, body)
        self.platform.queue(ref).messages[-1].item_id = item

    def _new(self, item: str, state: str) -> None:
        """By the shares of the intake; what a treatment gets is no work item."""
        shares = self.platform.shares(self.levers["applications"].ref)
        draw, site = self.scheduler.chance.below(100), HOME
        for name, percent in shares.items():
            draw -= percent
            if draw < 0:
                site = name
                break
        if site in self.changes:
            self.arrive(item, site, state)

    def _consumer(self, site: str, chance: Chance) -> Flow:
        """Takes one application at a time from its site's backlog and finishes it."""
        ref = self.policy.queues["applications"].backlogs[site].ref
        while self.scheduler.seconds < self.calm_at:
            yield chance.between(4, 40)
            if not self.up(site) or site == HOME and not self.platform.is_open("gate_hq"):
                continue
            taken = self.platform.receive(ref, 1, 15.0)
            if not taken:
                continue
            if is_canary(item_of(taken[0].body)):
                self.platform.hide(ref, taken[0].handle, 0.0)  # as providers are told to
                continue
            yield chance.between(0.5, 12)
            if self.up(site) and self.platform.delete(ref, taken[0].handle):
                item = item_of(taken[0].body)
                self.truth.completed[item] += 1
                self.truth.worked_at.setdefault(item, set()).add(site)

    def _traffic(self, seconds: float) -> None:
        """Every contact is offered where the shares say; only a living site answers."""
        self._unspent += seconds
        if self._unspent >= 0.2:
            self._spend()

    def _spend(self) -> None:
        truth, seconds = self.truth, self._unspent
        self._unspent = 0.0
        for name, lever in self.levers.items():
            offered = CALLS_PER_SECOND * seconds
            total = truth.offered[name] = truth.offered.get(name, 0.0) + offered
            for place, percent in self.platform.shares(lever.ref).items():
                part = offered * percent / 100
                if place in TREATMENTS or self.up(place):
                    here = (name, place)
                    truth.answered[here] = truth.answered.get(here, 0.0) + part
                else:
                    truth.lost[name] = truth.lost.get(name, 0.0) + part
            self.platform.count(lever.ref, {"offered": total})

    # --- what people see ---------------------------------------------------------------------

    def observe(self, spec: ProbeSpec) -> Reading:
        self._spend()
        site, queue = str(spec.params["site"]), spec.key.split(".")[1]
        now = START + self.scheduler.mono
        if not self.up(site):
            return Reading(spec.key, now, Outcome.BAD, "no answer")
        return Reading(spec.key, now, Outcome.GOOD, "ok",
                       values={"answered": self.truth.answered.get((queue, site), 0.0)})

    def picture(self, now: int) -> World:
        """What a look shows, with whatever lies the switch tells."""
        sites = {name: Assessment("site", name, self.told(name), now, "simulated")
                 for name in self.policy.sites}
        queues = {}
        for name, lever in self.levers.items():
            shares, _ = self.platform.route_state(lever.ref)
            queue = self.policy.queues[name]
            queues[name] = QueueView(
                name, shares if queue.route else None,
                dict.fromkeys(queue.backlogs), {}, now,
                shares if queue.intake else None)
        return World(now, sites, {}, queues)

    def messages(self, site: str) -> list[Message]:
        """What is at a site, in somebody's hands or not."""
        return self.platform.messages(self.policy.queues["applications"].backlogs[site].ref)

    def clock_now(self) -> int:
        return self.clock(self.scheduler.seconds)

    def copies(self) -> Counter[str]:
        """Every application's copies in every queue, those set aside included."""
        found: Counter[str] = Counter()
        for lever in self.policy.queues["applications"].backlogs.values():
            queue = self.platform.queue(lever.ref)
            found.update(item_of(message.body) for message in (*queue.messages, *queue.dead))
        return found


def item_of(body: bytes) -> str:
    try:
        document: Json = json.loads(body)
    except ValueError:
        return "?"
    return str(document.get("uli", "?"))


def instant(seconds: float) -> int:
    return START + int(seconds * SECOND)
