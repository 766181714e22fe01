"""`check`: observe what is due, judge, decide, record. Runs nothing, and may overlap itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ccfailover.errors import StoreError
from ccfailover.health import assess, nagios, poller, triggers
from ccfailover.model.health import Decision, TriggerState, World
from ccfailover.operations import drift, run_list
from ccfailover.operations.news import remind
from ccfailover.operations.status import automation

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run, RunState

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
    fresh, began = [], runtime.monotonic()
    for reading in poller.poll(jobs, desk.kinds.probe, runtime, BUDGET):
        history = assess.step(histories.get(reading.key), reading, specs[reading.key])
        histories[reading.key] = history
        fresh.append(history)
    try:
        store.save_histories(fresh)
    except StoreError as error:
        notes.append((nagios.UNKNOWN, f"readings are not stored: {error}"))
    now, slack = runtime.now(), runtime.monotonic() - began
    world = assess.assess(policy, histories, now, slack)
    decisions = decide(desk, world, record=True)
    runs = [(run, run_list.state_of(desk, run)) for run in run_list.open_runs(desk)]
    notes.extend((nagios.WARNING, found.told()) for found in drift.look_for(desk, world, runs))
    notes.extend(_undelivered(desk))
    if desk.local_base is not None:
        from ccfailover.operations import local  # only where machines share a store

        notes.extend((nagios.WARNING, note) for note in local.notes(desk))
    remind(desk, world, runs)
    if store.fact("by_hand") is not None:
        from ccfailover.operations import by_hand  # only where a person was ever asked

        by_hand.remind(desk)
    opened = _as_opened(runs)
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

        Messages(desk.policy.heading, desk.store.head("runs")).decision(
            decision, head=(record.seq, record.hash)).enqueue(desk.store)


def open_runs(desk: Desk) -> list[triggers.OpenRun]:
    return _as_opened([(run, run_list.state_of(desk, run)) for run in run_list.open_runs(desk)])


def _as_opened(runs: Sequence[tuple[Run, RunState]]) -> list[triggers.OpenRun]:
    return [triggers.OpenRun(run.id, run.plan.runbook, run.plan.subject, state.value,
                             tuple(run.plan.shares_after))
            for run, state in runs if run.plan.mode.value == "real"]


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
