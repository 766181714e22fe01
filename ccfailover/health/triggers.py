"""Trigger → Decision. Pure: what holds long enough, what it asks for, what stands in the way.

A trigger is *armed* until its condition has held for `hold`; then it *fires* and stays active until
`clear` holds (without a `clear`: until `when` is false). A decision is made at every evaluation
while it is active and unanswered, so that `check` keeps saying it.
- An unknown condition is not a held one: the clock of `hold` starts anew. It never clears either.
- `cooldown` runs from the clearing. Meanwhile, and within the flap block, a condition that holds is
  told, but nothing runs by itself and the trigger does not fire.
- A decision whose `action` is not `advise` has no blockers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ccfailover.health.values import world_values
from ccfailover.model.health import Decision, State, TriggerState, World
from ccfailover.model.policy import Policy, Trigger
from ccfailover.policy.conditions import Condition, world_variables
from ccfailover.runtime import SECOND

ACTIONS = {"advise": "advise", "approve": "approve", "automatic": "execute"}
RUN = re.compile(r"r\d")
"""How a run's id begins: a trigger may also have been answered by "nothing to do"."""
GENTLE = frozenset({"overflow", "switchover", "failback"})
"""Runbooks that do not leave a failed site: one observer is enough, soft guards stop them."""


@dataclass(frozen=True)
class OpenRun:
    """A run that has not ended. `queues`: what it touches (empty: follows from `subject`)."""

    run: str
    runbook: str
    subject: str
    state: str
    queues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explained:
    """One trigger as `check --explain` shows it. `verdict`: True, False, or None for unknown.

    `values` are what its conditions name, as text, `unknown` where missing; `why` says what is
    missing; `held_s` counts since the condition first held (None: it does not).
    """

    trigger: str
    when: str
    verdict: bool | None
    why: str
    clear: str | None
    clear_verdict: bool | None
    values: Mapping[str, str]
    hold_s: float
    held_s: float | None
    active: bool
    note: str


def evaluate(
    policy: Policy, world: World, states: Mapping[str, TriggerState], now: int, *,
    automation_off_until: int | None, blocked: str | None, open_runs: Sequence[OpenRun],
) -> tuple[list[Decision], list[TriggerState]]:
    """Decisions in the policy's order, and the next state of every trigger.

    `automation_off_until` (µs; None or past: automation is on), `blocked` names the blocked window
    that it is now. Compare each state with the one given and store it by compare-and-set: of two
    checks at once, one wins. Raises ConditionError for a condition that `validate` refuses.
    """
    conditions = {name: _Compiled.of(policy, trigger)
                  for name, trigger in policy.triggers.items()}
    names = {name for one in conditions.values() for name in one.names}
    values = world_values(policy, world, names)
    around = _Around(policy, world, states, now, automation_off_until, blocked, open_runs)
    decisions: list[Decision] = []
    after: list[TriggerState] = []
    for name, trigger in policy.triggers.items():
        state = states.get(name) or TriggerState(name)
        one = conditions[name]
        held_back = list(around.held_back(trigger, state))
        state = _advance(trigger, state, one, values, now, bool(held_back))
        after.append(state)
        if state.run is not None and _active(state):
            continue  # answered: the run itself is what `check` and `status` tell of
        if (_active(state) or _held(trigger, state, now)) and not around.has_moved(trigger):
            decisions.append(around.decide(trigger, state, one.seen(values), held_back))
    return decisions, after


def explain(
    policy: Policy, world: World, now: int, states: Mapping[str, TriggerState] | None = None
) -> list[Explained]:
    """Every trigger with the values its conditions saw. Changes nothing."""
    found = []
    for name, trigger in policy.triggers.items():
        one = _Compiled.of(policy, trigger)
        values = world_values(policy, world, one.names)
        verdict, why = one.when.explain(values)
        state = (states or {}).get(name) or TriggerState(name)
        held = (now - state.since) / SECOND if state.since is not None and (
            verdict or _active(state)) else (0.0 if verdict else None)
        found.append(Explained(
            name, trigger.when, verdict, why, trigger.clear,
            one.clear.evaluate(values) if one.clear else None, one.shown(values),
            trigger.hold, held, _active(state), _note(trigger, state, verdict, held, now)))
    return found


def _note(trigger: Trigger, state: TriggerState, verdict: bool | None, held: float | None,
          now: int) -> str:
    if _active(state):
        return f"answered by {state.run}" if state.run else "fired, waits for an answer"
    if _cooling(trigger, state, now):
        return "cooling down"
    if verdict and held is not None and held < trigger.hold:
        return f"holds for {held:.0f} s of {trigger.hold:.0f} s"
    return "holds long enough" if verdict else ""


@dataclass(frozen=True)
class _Compiled:
    when: Condition
    clear: Condition | None

    @classmethod
    def of(cls, policy: Policy, trigger: Trigger) -> _Compiled:
        declared = world_variables(policy)
        return cls(Condition(trigger.when, declared),
                   Condition(trigger.clear, declared) if trigger.clear else None)

    @property
    def names(self) -> frozenset[str]:
        return self.when.names | (self.clear.names if self.clear else frozenset())

    def cleared(self, values: Mapping[str, object]) -> bool:
        if self.clear is not None:
            return self.clear.evaluate(values) is True
        return self.when.evaluate(values) is False

    def shown(self, values: Mapping[str, object]) -> dict[str, str]:
        return {name: str(values.get(name, "unknown")) for name in sorted(self.names)}

    def seen(self, values: Mapping[str, object]) -> str:
        return ", ".join(f"{name} = {values.get(name, 'unknown')}"
                         for name in sorted(self.when.names))


def _active(state: TriggerState) -> bool:
    """Fired and not cleared since."""
    return state.fired_at is not None and (
        state.cleared_at is None or state.cleared_at < state.fired_at)


def _held(trigger: Trigger, state: TriggerState, now: int) -> bool:
    return state.since is not None and now - state.since >= trigger.hold * SECOND


def _cooling(trigger: Trigger, state: TriggerState, now: int) -> bool:
    return state.cleared_at is not None and now < state.cleared_at + trigger.cooldown * SECOND


def _advance(
    trigger: Trigger, state: TriggerState, one: _Compiled, values: Mapping[str, object], now: int,
    is_held_back: bool,
) -> TriggerState:
    if _active(state):
        return replace(state, since=None, cleared_at=now) if one.cleared(values) else state
    if one.when.evaluate(values) is not True:
        return replace(state, since=None)
    # A clock that was set back must not make a condition look older than it is.
    since = now if state.since is None or state.since > now else state.since
    state = replace(state, since=since)
    if _held(trigger, state, now) and not is_held_back:
        return replace(state, fired_at=now, run=None)
    return state


@dataclass(frozen=True)
class _Around:
    """Everything but the conditions that a decision depends on."""

    policy: Policy
    world: World
    states: Mapping[str, TriggerState]
    now: int
    automation_off_until: int | None
    blocked: str | None
    open_runs: Sequence[OpenRun]

    def decide(self, trigger: Trigger, state: TriggerState, seen: str,
               held_back: Sequence[str]) -> Decision:
        since = state.since if state.since is not None else self.now
        reasons = [f"{trigger.when} for {(self.now - since) // SECOND} s ({seen})"]
        site = self.world.sites.get(trigger.subject)
        if site is not None and site.reason:
            reasons.append(f"{site.name} is {site.state.value}: {site.reason}")
        for queue in self.touched(trigger.subject):
            if queue in self.world.treat_only:
                down = ", ".join(self.world.treat_only[queue])
                reasons.append(f"{queue}: {down} is down under home and every backup: "
                               "treat the work, shifting it would not help")
        soft = list(self._soft(trigger))
        blockers = [*held_back, *self._hard(trigger)] if trigger.mode != "advise" else []
        if self.is_emergency(trigger):
            reasons.extend(f"warning: {said}; not in the way, as {trigger.subject} is down"
                           for said in soft)
        elif trigger.mode != "advise":
            blockers.extend(soft)
        action = "advise" if blockers else ACTIONS[trigger.mode]
        return Decision(trigger.name, trigger.runbook, trigger.subject, action, since,
                        tuple(reasons), tuple(dict.fromkeys(blockers)))

    def held_back(self, trigger: Trigger, state: TriggerState) -> Iterator[str]:
        """Why the trigger may not fire anew so soon after it last did."""
        if _cooling(trigger, state, self.now) and state.cleared_at is not None:
            left = (state.cleared_at + int(trigger.cooldown * SECOND) - self.now) / SECOND
            yield f"cooling down for {left:.0f} s more"
        if not _active(state) and self._flapped(state) and not self.is_emergency(trigger):
            yield self._flap(state)

    def is_emergency(self, trigger: Trigger) -> bool:
        return trigger.runbook not in GENTLE and \
            self.world.site_state(trigger.subject) is State.DOWN

    def touched(self, subject: str) -> list[str]:
        """The queues that a run on `subject` (a queue, or a site) would move."""
        if subject in self.policy.queues:
            return [subject]
        return [name for name, queue in self.policy.queues.items()
                if queue.home == subject or self._share(name, subject) not in (None, 0)]

    def _share(self, queue: str, site: str) -> int | None:
        view = self.world.queues.get(queue)
        return view.shares.of(site) if view is not None and view.shares is not None else None

    def has_moved(self, trigger: Trigger) -> bool:
        """Known for sure that nothing arrives any more at the site that is to be left."""
        if trigger.runbook in GENTLE or trigger.subject not in self.policy.sites:
            return False
        routed = [name for name in self.touched(trigger.subject)
                  if self.policy.queues[name].route is not None]
        return bool(routed) and all(self._share(name, trigger.subject) == 0 for name in routed)

    def _hard(self, trigger: Trigger) -> Iterator[str]:
        until = self.automation_off_until
        if until is not None and self.now < until:
            yield f"automation is off for {(until - self.now) / SECOND:.0f} s more"
        mine = set(self.touched(trigger.subject))
        for run in self.open_runs:
            theirs = set(run.queues or self.touched(run.subject))
            pre_empted = run.runbook == "overflow" and trigger.runbook not in GENTLE
            if (mine & theirs or run.subject == trigger.subject) and not pre_empted:
                yield f"{run.run} ({run.runbook} {run.subject}) is {run.state} there"
        if trigger.mode == "automatic" and trigger.runbook not in GENTLE:
            site = self.world.sites.get(trigger.subject)
            down = site.observers_down if site else ()
            if len(down) < 2:
                who = f"only {down[0]} says" if down else "none says"
                yield ("automatic full failover needs two independent observers that say down; "
                       f"{who} so of {trigger.subject}")

    def _soft(self, trigger: Trigger) -> Iterator[str]:
        if self.blocked:
            yield f"blocked window: {self.blocked}"
        mine = set(self.touched(trigger.subject))
        for name, state in self.states.items():
            other = self.policy.triggers.get(name)
            if other is not None and name != trigger.name and self._flapped(state) \
                    and mine & set(self.touched(other.subject)):
                yield self._flap(state)

    def _flapped(self, state: TriggerState) -> bool:
        """A run came of that trigger so recently that the next one would be flapping."""
        moved = state.run is not None and RUN.match(state.run) is not None
        return moved and state.fired_at is not None and \
            self.now - state.fired_at < self.policy.guards.flap_block * SECOND

    def _flap(self, state: TriggerState) -> str:
        ago = (self.now - (state.fired_at or self.now)) / SECOND
        return f"flap block: {state.run} was started {ago:.0f} s ago by trigger {state.name}"
