"""A contact centre made up from a seed: sites that fail, queues, applications, consumers, traffic.

Ground truth and what people are told of it are kept apart: a site's fall is known only after a
while, and a switch may lie.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ccfailover.model.health import Assessment, Outcome, QueueView, Reading, State, World
from ccfailover.model.plan import Json
from ccfailover.model.policy import (
    GuardLimits,
    LeverSpec,
    NotifySpec,
    Policy,
    ProbeSpec,
    ProviderSpec,
    Queue,
    Site,
)
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.runtime import SECOND
from ccfailover.simulation.clock_sim import START, Chance, Flow, Scheduler
from ccfailover.simulation.faults_sim import FaultyPlatform

HOME: Final = "hq"
SWITCH: Final = "switch"
ITEM: Final = {"id": "uli", "state": "state"}
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
            (("full_failover", False), 7.0), (("switchover", False), 2.0),
            (("overflow", False), 1.0), (("full_failover", True), 2.0)))
        self.calm_at = chance.between(60, 400)
        self.falls_at = chance.between(0.5, chance.choice([8.0, 20.0])) if later else -30.0
        backups = ["acme", "beta", "branch"][:1 + chance.below(3)]
        self.changes = self._fates(chance, backups)
        self.blocked = self._window(chance)
        self.source_dies = self.kind == "full_failover" and chance.often(0.3)
        self.fifo = chance.often(0.6)
        self.policy = self._policy(chance, backups)
        self.levers = {queue.name: lever for queue in self.policy.queues.values()
                       for lever in [queue.route or queue.intake] if lever}
        self.may: dict[str, frozenset[str]] = {
            queue.name: frozenset({HOME, *TREATMENTS, *(
                name for name in queue.backups
                if self.policy.sites[name].in_house or queue.outsource == "allowed"
                or queue.outsource == "overflow_only" and self.kind != "switchover")})
            for queue in self.policy.queues.values()}
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
            if chance.often(0.3):
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

    def up(self, site: str) -> bool:
        return self._at(site, self.scheduler.seconds).up

    def reachable(self, ref: str) -> bool:
        """Whether the platform behind a lever answers: home's queue may die with its site."""
        return not (self.source_dies and ref.startswith(f"jobs_{HOME}") and not self.up(HOME))

    # --- the policy --------------------------------------------------------------------------

    def _policy(self, chance: Chance, backups: list[str]) -> Policy:
        sites = {HOME: self._site(HOME, in_house=True)} | {
            name: self._site(name, in_house=name == "branch") for name in backups}
        queues = {}
        for name, channel in (("loan_calls", "voice"), ("chats", "chat"),
                              ("applications", "application")):
            if name == "chats" and chance.often(0.5):
                continue
            queues[name] = self._queue(chance, name, channel, backups)
        return Policy(
            name="simulated", environment="simulation", path="simulated.yaml", sha256="0" * 64,
            currency="USD", timezone="UTC", store=None, sites=sites, dependencies={},
            providers={SWITCH: ProviderSpec(SWITCH, "simulated", {})},
            queues=queues, triggers={}, guards=GuardLimits(),
            notify=(NotifySpec("ops", "env:OPS", ()),) if chance.often(0.3) else (),
            runbooks=self._runbooks(chance),
        )

    def _runbooks(self, chance: Chance) -> Mapping[str, Mapping[str, object]]:
        if chance.often(0.7):
            return {}
        failing = chance.choice(["undo", "abort", "continue"])
        return {"full_failover": {"before": ["confirm"], "branch": [
            "redirect_intake", {"shift_route": {"on_failure": failing}},
            "transfer", "verify"], "after": [{"notify": {"event": "finished"}}]}}

    def _site(self, name: str, *, in_house: bool) -> Site:
        return Site(name=name, in_house=in_house, timezone="UTC", hours=None, holidays=None,
                    location=None, country=None, depends_on=(), probes=(), staff={})

    def _queue(self, chance: Chance, name: str, channel: str, backups: list[str]) -> Queue:
        lever = LeverSpec(SWITCH, f"{name}_route")
        app = channel == "application"
        sites = [HOME, *backups]
        suffix = ".fifo" if self.fifo else ""
        backlogs = {site: LeverSpec(SWITCH, f"jobs_{site}" + (suffix if site != HOME else ""), {
            "item": ITEM, "max_item_bytes": 2000, "claim_seconds": 20}) for site in sites}
        counted = not app and chance.often(0.6)
        return Queue(
            name=name, channel=channel, home=HOME, backups=tuple(
                backups if chance.often(0.7) else backups[::-1]),
            outsource=chance.weighted((("allowed", 6.0), ("never", 1.0), ("overflow_only", 2.0))),
            in_disaster="allow", priority=1 + chance.below(3),
            home_down="hold" if app else chance.choice(["message", "callback"]),
            normal=Shares({HOME: 100}),
            route=None if app else lever, intake=lever if app else None,
            backlogs=backlogs if app else {},
            consumers={HOME: LeverSpec(SWITCH, "gate_hq")} if app else {},
            eligible='item.state == "TX"' if app and chance.often(0.4) else None,
            item=ITEM if app else {}, increments=chance.choice([(100,), (50, 100), (25, 50, 100)]),
            soak=chance.choice([0.0, 3.0, 6.0] if self.falls_at < 0 else [3.0, 10.0, 25.0]),
            hold=chance.choice([5.0, 40.0]),
            max_item_bytes=2000,
            probes=tuple(ProbeSpec(f"queue.{name}.{n}.http", "http", 10.0, 2.0, 3, 2, "here",
                                   {"site": site}) for n, site in enumerate(sites))
            if counted else (),
        )

    # --- the furniture -----------------------------------------------------------------------

    def _furnish(self, chance: Chance) -> None:
        platform = self.platform
        for queue in self.policy.queues.values():
            for lever in (queue.route, queue.intake):
                if lever is not None:
                    platform.add_route(lever.ref, queue.normal)
            for backlog in queue.backlogs.values():
                platform.add_queue(backlog.ref)
        platform.add_gate("gate_hq", is_open=True)
        for number in range(chance.below(14)):
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
        body = json.dumps({"uli": item, "state": state}).encode()
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
