"""`check`: observe what is due, judge, decide, record. Runs nothing, and may overlap itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ccfailover.errors import StoreError
from ccfailover.health import assess, nagios, poller, triggers
from ccfailover.health.current import current_shares
from ccfailover.model.health import Decision, TriggerState, World
from ccfailover.operations import run_list
from ccfailover.operations.history import last_movers
from ccfailover.operations.news import tell
from ccfailover.operations.status import automation, drift

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk

BUDGET = 8.0
"""Seconds for all probes together; cron comes again."""


@dataclass(frozen=True)
class Checked:
    """`code` and `line` are Nagios's; `facts` the same as JSON."""

    code: int
    line: str
    facts: dict[str, Any]


def check(desk: Desk) -> Checked:
    """Observe, decide, record. What cannot be stored is said, and is never taken for healthy."""
    runtime, policy, store = desk.runtime, desk.policy, desk.store
    notes: list[tuple[int, str]] = []
    histories = dict(store.histories())
    jobs = poller.jobs_for(policy, now=runtime.now(), histories=histories, only_due=True)
    specs = {job.target.key: job.spec for job in jobs}
    fresh = []
    for reading in poller.poll(jobs, desk.kinds.probe, runtime, BUDGET):
        history = assess.step(histories.get(reading.key), reading, specs[reading.key])
        histories[reading.key] = history
        fresh.append(history)
    try:
        store.save_histories(fresh)
    except StoreError as error:
        notes.append((nagios.UNKNOWN, f"readings are not stored: {error}"))
    now = runtime.now()
    world = assess.assess(policy, histories, now)
    decisions = decide(desk, world, record=True)
    notes.extend(drift_notes(desk, world))
    notes.extend(_undelivered(desk))
    tell_of_interrupted(desk)
    opened = open_runs(desk)
    code, line = nagios.summary(policy, world, decisions, opened, notes=notes)
    return Checked(code, line, {
        "policy": policy.heading, "at": now, "code": code, "line": line.partition(" | ")[0],
        "probed": len(fresh),
        "sites": {name: found.state.value for name, found in world.sites.items()},
        "dependencies": {name: found.state.value for name, found in world.dependencies.items()},
        "queues": {name: {"shares": view.shares.to_json() if view.shares else None,
                          "depth": dict(view.depth), "oldest_s": dict(view.oldest_s)}
                   for name, view in world.queues.items()},
        "decisions": [decision_facts(decision) for decision in decisions],
        "runs": [{"run": run.run, "runbook": run.runbook, "subject": run.subject,
                  "state": run.state} for run in opened],
        "notes": [text for _, text in notes],
    })


def decide(desk: Desk, world: World, *, record: bool) -> list[Decision]:
    """What the triggers ask for. With `record` their memory goes on, by compare-and-set: of two
    overlapping checks one tells the journal and the people."""
    store, now = desk.store, desk.runtime.now()
    states = store.trigger_states()
    off = automation(desk)["off_until"]
    decisions, after = triggers.evaluate(
        desk.policy, world, states, now, automation_off_until=off,
        blocked=desk.is_blocked(now), open_runs=open_runs(desk))
    if not record:
        return decisions
    for state in after:
        before = states.get(state.name)
        if state == (before or TriggerState(state.name)):
            continue
        if not store.save_trigger_state(state, expected=before):
            continue
        fired = state.fired_at is not None and (before is None
                                                or before.fired_at != state.fired_at)
        if fired:
            _announce(desk, [d for d in decisions if d.trigger == state.name])
    return decisions


def _announce(desk: Desk, decisions: Sequence[Decision]) -> None:
    for decision in decisions:
        record = desk.store.append("automation", "trigger.fired", decision_facts(decision),
                                   actor=str(desk.actor))
        from ccfailover.notify.outbox import Messages  # only when there is something to tell

        Messages(desk.policy.heading).decision(
            decision, head=(record.seq, record.hash)).enqueue(desk.store)


def tell_of_interrupted(desk: Desk) -> None:
    """A run whose process died cannot say so itself."""
    for run in run_list.open_runs(desk):
        state = run_list.state_of(desk, run)
        if state.value == "interrupted":
            tell(desk, run, state)


def open_runs(desk: Desk) -> list[triggers.OpenRun]:
    return [triggers.OpenRun(run.id, run.plan.runbook, run.plan.subject,
                             run_list.state_of(desk, run).value, tuple(run.plan.shares_after))
            for run in run_list.open_runs(desk) if run.plan.mode.value == "real"]


def drift_notes(desk: Desk, world: World) -> list[tuple[int, str]]:
    """Levers that read other than the journal says: somebody moved them, or a late write landed.

    Queues that an open run is moving are left out: there the journal is not finished.
    """
    moving = {queue for run in run_list.open_runs(desk) if run.plan.mode.value == "real"
              for queue in run.plan.shares_after}
    moved = last_movers(desk)
    notes = []
    for name, queue in desk.policy.queues.items():
        if name in moving or not drift(queue, world, moved):
            continue
        expected = moved[name][2] if name in moved else queue.normal.to_json()
        wanted = " · ".join(f"{site} {share} %" for site, share in expected.items())
        notes.append((nagios.WARNING, f"{name} is at {current_shares(queue, world)}, "
                                      f"the journal says {wanted} "
                                      f"(ccfailover adopt {name}, if it is meant)"))
    return notes


def _undelivered(desk: Desk) -> list[tuple[int, str]]:
    stuck = [message for message in desk.store.pending(50) if message.attempts >= 3]
    if not stuck:
        return []
    return [(nagios.WARNING, f"{len(stuck)} messages cannot be delivered: "
                             f"{stuck[0].last_error}")]


def explain(desk: Desk, world: World) -> list[triggers.Explained]:
    return triggers.explain(desk.policy, world, desk.runtime.now(), desk.store.trigger_states())


def decision_facts(decision: Decision) -> dict[str, Any]:
    return {**decision.__dict__, "reasons": list(decision.reasons),
            "blockers": list(decision.blockers)}


def answered(desk: Desk, trigger: str, run: str) -> None:
    """Note which run came of a trigger. An overlapping check may write between our look and our
    write: then look again, or the trigger would go on asking for what was done."""
    for _ in range(20):
        before = desk.store.trigger_states().get(trigger)
        if before is None or desk.store.save_trigger_state(replace(before, run=run),
                                                           expected=before):
            return
