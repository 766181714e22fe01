"""Start a run and carry it on: start, resume, rollback, skip, abort, note, stop.

Every verb that acts takes the run's lease first and gives it back only when the run has ended;
whatever happens in between, the journal says where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ccfailover.errors import Exit, LeaseHeld, Refused, UsageError
from ccfailover.model.journal import Lease
from ccfailover.model.plan import Json, Mode, Plan
from ccfailover.operations.describe import in_effect
from ccfailover.operations.desk import Desk
from ccfailover.operations.look import Watch, home_evidence, read_levers
from ccfailover.operations.news import tell, tell_of_theft
from ccfailover.operations.prepare import Prepared, agreed, prepare
from ccfailover.operations.run_list import alive as alive
from ccfailover.operations.run_list import load as load
from ccfailover.operations.run_list import open_runs as open_runs
from ccfailover.operations.run_list import state_of as state_of
from ccfailover.operations.step_guards import StepGuards
from ccfailover.planning.guards import SOFT
from ccfailover.runbooks.drive import Driver, Hands, Watcher
from ccfailover.runbooks.run import Run, RunState, StepStatus
from ccfailover.runbooks.takeover import doubt_left, outwaited, resting, same_way, stopped

EXITS = {
    RunState.SUCCEEDED: Exit.DONE,
    RunState.SUCCEEDED_WITH_EXCEPTIONS: Exit.EXCEPTIONS,
    RunState.PAUSED: Exit.PAUSED,
    RunState.ROLLED_BACK: Exit.ROLLED_BACK,
    RunState.STUCK: Exit.UNKNOWN,
    RunState.ABORTED: Exit.REFUSED,
    RunState.SUPERSEDED: Exit.LEASE_HELD,
    RunState.INTERRUPTED: Exit.UNKNOWN,
    RunState.RUNNING: Exit.UNKNOWN,
    RunState.ROLLING_BACK: Exit.UNKNOWN,
    RunState.PLANNED: Exit.PAUSED,
}

TELL_SECONDS = 2.0
"""How long the message that a run has stopped may wait for what its levers read."""

OnDriver = Callable[[Driver], None]
"""Called with the driver before it goes, so that a signal handler can stop it."""


@dataclass(frozen=True)
class RunOutcome:
    run: Run
    state: RunState
    exit: Exit


def start(desk: Desk, prepared: Prepared, *, confirmed: str | None, incident: str | None = None,
          watcher: Watcher | None = None, on_driver: OnDriver | None = None) -> RunOutcome:
    """Create the run, all leases or none, and carry it out.

    `confirmed` says how the requester confirmed (None: the run waits for that). `incident` is the
    one that it belongs to; that is no part of what the plan does, nor of its hash. Overflows that
    the plan pre-empts are stopped first, and what was confirmed must still fit then. Raises what
    stands against the plan, LeaseHeld, and Fenced or StoreError when we must stop in the middle.
    """
    _may_move(prepared)
    if prepared.plan.pre_empts:
        prepared = _pre_empt(desk, prepared, watcher)
    plan = prepared.plan
    run_id, lease = desk.store.create_run(plan, actor=desk.actor, ttl=desk.policy.lease,
                                          supersedes=plan.supersedes)
    for run in plan.pre_empts:
        tell(desk, load(desk, run), RunState.SUPERSEDED)
    homes = sorted({desk.policy.queues[name].home for name in plan.shares_after})
    context: dict[str, Json] = {
        "detected": home_evidence(prepared.world, homes), "host": desk.actor.host,
        "automatic": prepared.request.automatic}
    if incident is not None:
        context |= _join(desk, incident, run_id)
    if confirmed is not None:
        desk.store.append(f"run:{run_id}", "confirmation.given",
                          {"plan": plan.hash, "how": confirmed}, actor=str(desk.actor))
    lease = _outwait(desk, lease, _doubt_left(desk, run_id))
    return _drive(desk, run_id, lease, back=False, context=context, watcher=watcher,
                  on_driver=on_driver, watch=Watch(desk, prepared.world))


def _pre_empt(desk: Desk, prepared: Prepared, watcher: Watcher | None) -> Prepared:
    """Stop the overflows in the way; the plan as it is once they stand still.

    Raises Refused when something else than what they moved is no longer as it was agreed.
    """
    resting(stopped(prepared.plan, desk.store, desk.runtime, actor=str(desk.actor),
                    within=desk.policy.guards.preempt_within,
                    told=watcher.event if watcher else lambda record: None), desk.runtime)
    fresh = prepare(desk, prepared.request)
    try:
        if not prepared.request.automatic:
            agreed(desk, fresh, prepared.plan)
        _may_move(fresh)
    except Refused as error:
        stood = ", ".join(prepared.plan.pre_empts)
        raise Refused(error.what, guard=error.guard, where=error.where, hint=error.hint,
                      not_done=f"no run was created; {stood} was asked to stop") from error
    return fresh


def _may_move(prepared: Prepared) -> None:
    may_start(prepared)
    if prepared.nothing_to_do:
        raise Refused("there is nothing to do: every affected queue is where it would go",
                      guard="nothing_to_do", not_done="no run was created",
                      hint="ccfailover status")


def _join(desk: Desk, incident: str, run_id: str) -> dict[str, Json]:
    """What the run's first event says of its incident. One that was closed just now is no reason
    to hold up customers."""
    from ccfailover.operations.incidents import add_run

    try:
        add_run(desk, incident, run_id)
    except (Refused, UsageError) as error:
        return {"incident": None, "incident_refused": str(error)}
    return {"incident": incident}


def may_start(prepared: Prepared) -> None:
    """Raises Refused: what stands against the plan, or that it would move nothing though work is
    where it cannot be served."""
    if prepared.refusal is not None:
        raise prepared.refusal
    if prepared.idle and not prepared.nothing_to_do:
        why = "; ".join(f.sentence for f in prepared.plan.findings if f.level != "info")
        raise Refused("nothing can be moved" + (f": {why}" if why else ""),
                      guard="nothing_can_move", not_done="no run was created",
                      hint="ccfailover plan … shows why; change the policy, or the request")


def resume(desk: Desk, prefix: str | None, *, confirmed: str | None = None, reason: str = "",
           steal: str = "", overrides: Mapping[str, str] | None = None,
           watcher: Watcher | None = None, on_driver: OnDriver | None = None) -> RunOutcome:
    """Carry an unfinished run on, in the direction it was going.

    `steal` is the reason for taking it from a holder whose lease is still in force. `overrides`
    (guard → reason) beat soft guards from here on. Raises Refused for a hard one.
    """
    run = load(desk, prefix)
    _must_be_open(run)
    for guard in overrides or {}:
        if guard not in SOFT:
            raise Refused(f"{guard} is no guard that can be overridden", guard="override",
                          not_done="nothing was done", hint=f"these can: {', '.join(SOFT)}")
    lease, taken = _take(desk, run, steal)
    try:
        same_way(run, taken)
    except Refused:
        _give_back(desk, run, lease)
        raise
    for guard, why in (overrides or {}).items():
        desk.store.append(f"run:{run.id}", "override.given", {"guard": guard, "reason": why},
                          actor=str(desk.actor), lease=lease)
    if confirmed is not None:
        desk.store.append(f"run:{run.id}", "confirmation.given",
                          {"plan": run.plan.hash, "how": confirmed}, actor=str(desk.actor))
    context = {"policy_changed": run.plan.policy_sha256 != desk.policy.sha256, "reason": reason}
    return _drive(desk, run.id, lease, back=taken.rolling_back, context=context, watcher=watcher,
                  on_driver=on_driver)


def rollback(desk: Desk, prefix: str | None, *, reason: str, steal: str = "",
             watcher: Watcher | None = None, on_driver: OnDriver | None = None) -> RunOutcome:
    """Undo what the run did, in reverse, from its first snapshots; `steal` as in `resume`."""
    run = load(desk, prefix)
    _must_be_open(run)
    lease, _ = _take(desk, run, steal)
    return _drive(desk, run.id, lease, back=True, context={"reason": reason}, watcher=watcher,
                  on_driver=on_driver)


def abort(desk: Desk, prefix: str | None, *, reason: str, steal: str = "") -> RunOutcome:
    """End a run where it stands: what is in effect stays so, and its scope is free again.

    A live run is asked to stop at its next safe point first (then abort again), unless there is
    a reason to `steal` it.
    """
    run = load(desk, prefix)
    _must_be_open(run)
    try:
        lease, run = _take(desk, run, steal)
    except LeaseHeld:
        request_stop(desk, run.id, reason)
        raise LeaseHeld(f"run {run.id} is at work and was asked to stop at its next safe point",
                        not_done="it is not aborted yet",
                        hint=f"ccfailover runs show {run.id}, then abort again") from None
    in_effect = [step.spec.title for step in run.steps.values()
                 if step.status in (StepStatus.SUCCEEDED, StepStatus.STARTED)]
    desk.store.end_run(lease, "run.aborted", {"reason": reason, "in_effect": in_effect},
                       actor=str(desk.actor))
    return outcome(desk, run.id)


def skip(desk: Desk, prefix: str | None, *, step: str | None, reason: str) -> Run:
    """Pass over a step that failed or is in doubt; the run goes on with `resume`.

    Raises UsageError when the step is not one that stopped its branch, Refused for an approval:
    whoever could skip it would approve their own request.
    """
    run = load(desk, prefix)
    _must_be_open(run)
    if not reason.strip():
        raise UsageError("a skip needs a reason", not_done="nothing was skipped",
                         hint='--reason "done by hand"')
    chosen = _stopped_at(run, step)
    lease, taken = _take(desk, run)
    try:
        _stopped_at(taken, chosen)
        desk.store.append(f"run:{run.id}", "step.skipped", {"step": chosen, "reason": reason},
                          actor=str(desk.actor), lease=lease)
    finally:
        _give_back(desk, run, lease)
    return load(desk, run.id)


def _stopped_at(run: Run, step: str | None) -> str:
    """The step that is meant: it must be one that stopped its branch, and no approval."""
    candidates = [found.spec.id for found in run.problems()]
    chosen = step or (candidates[0] if len(candidates) == 1 else None)
    if chosen is None or chosen not in candidates:
        what = f"step {step!r} did not stop run {run.id}" if step else "which step?"
        raise UsageError(what, not_done="nothing was skipped",
                         hint=f"one of: {', '.join(candidates) or 'none'}")
    if chosen in run.steps and run.steps[chosen].spec.kind == "approve":
        raise Refused(f"{chosen} waits for other people's approval: that cannot be skipped",
                      guard="approval", not_done="nothing was skipped",
                      hint=f"somebody else: ccfailover approve {run.id}; or abort it")
    return chosen


def note(desk: Desk, prefix: str | None, text: str) -> Run:
    """Write a person's remark into the run's journal."""
    run_id = desk.store.find_run(prefix)
    if not text.strip():
        raise UsageError("a note needs words", not_done="nothing was noted",
                         hint=f"ccfailover note {run_id} 'carrier ticket 4711'")
    desk.store.append(f"run:{run_id}", "note", {"text": text[:2000]}, actor=str(desk.actor))
    return load(desk, run_id)


def request_stop(desk: Desk, run_id: str, reason: str) -> None:
    desk.store.append(f"run:{run_id}", "stop.requested", {"reason": reason},
                      actor=str(desk.actor))


def stop(desk: Desk, prefix: str | None, reason: str) -> list[tuple[Run, bool]]:
    """Ask a run, or with None every open one, to stop at its next safe point. Each with whether
    it was asked: one that stands still already is not."""
    chosen = open_runs(desk) if prefix is None else [load(desk, prefix)]
    done = []
    for run in chosen:
        _must_be_open(run)
        moving = run.phase not in (RunState.PAUSED, RunState.STUCK)
        if moving:
            request_stop(desk, run.id, reason)
        done.append((run, moving))
    return done


def cut_off(desk: Desk, run_id: str) -> RunOutcome:
    """A person stopped this process at once. Its lease is not given back: a call of ours may
    still land, so that whoever takes over waits for it, or sees that we are gone."""
    run = load(desk, run_id)
    if not run.phase.is_open:
        return outcome(desk, run_id)  # it had come to its end meanwhile
    request_stop(desk, run_id, "stopped at once by the keyboard")
    run = load(desk, run_id)
    state = run.state(False)
    return RunOutcome(run, state, EXITS[state])


def outcome(desk: Desk, run_id: str) -> RunOutcome:
    run = load(desk, run_id)
    state = state_of(desk, run) if run.phase.is_open else run.phase
    return RunOutcome(run, state, EXITS[state])


def _must_be_open(run: Run) -> None:
    if not run.phase.is_open:
        raise UsageError(f"run {run.id} has ended: {run.phase.value}",
                         not_done="nothing was done", hint=f"ccfailover report {run.id}")


def _take(desk: Desk, run: Run, steal: str = "") -> tuple[Lease, Run]:
    """The run's lease, waiting one lease time where its former holder may still be at work, or
    the one before whom another took it over; and the run as it is now that nobody else can
    carry it on."""
    lease, maybe_alive = desk.store.acquire(run.id, actor=desk.actor, ttl=desk.policy.lease,
                                            steal=steal)
    if steal:
        tell_of_theft(desk, run)
    doubt = desk.policy.lease if maybe_alive else _doubt_left(desk, run.id)
    if not doubt:
        return lease, load(desk, run.id)
    lease = _outwait(desk, lease, doubt)
    if any(record.kind == "stop.requested" and record.seq > run.head[0]
           for record in desk.store.read(f"run:{run.id}")):
        _give_back(desk, run, lease)
        raise Refused(f"run {run.id} was asked to stop while its last holder was waited out",
                      guard="stop", not_done="nothing was done",
                      hint=f"ccfailover runs show {run.id}, then resume {run.id} if you mean it")
    return lease, load(desk, run.id)


def _doubt_left(desk: Desk, run_id: str) -> float:
    return doubt_left(desk.store.read(f"run:{run_id}"), desk.store.now(), desk.policy.lease)


def _outwait(desk: Desk, lease: Lease, seconds: float) -> Lease:
    return resting(outwaited(desk.store, desk.runtime, lease, desk.policy.lease, seconds),
                   desk.runtime)


def _give_back(desk: Desk, run: Run, lease: Lease) -> None:
    """The scope stays the run's; only the holder lets go, so that anyone may resume it."""
    desk.store.lapse(lease)


def _drive(desk: Desk, run_id: str, lease: Lease, *, back: bool, context: Json,
           watcher: Watcher | None, on_driver: OnDriver | None,
           watch: Watch | None = None) -> RunOutcome:
    if desk.local is not None:
        from ccfailover.operations.local import leave_out

        leave_out(desk, load(desk, run_id), lease, back=back)
    run = load(desk, run_id)
    driver = Driver(run, lease, _hands(desk, run.plan, watch or Watch(desk)),
                    actor=desk.actor, watcher=watcher)
    if on_driver is not None:
        on_driver(driver)
    driver.go(back=back, context=context)
    after = load(desk, run_id)
    if after.phase in (RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_EXCEPTIONS):
        _answer_triggers(desk, after)
    if after.phase.is_open:
        _give_back(desk, after, lease)
        unsure = any(where.shares is None for where in in_effect(after).values())
        tell(desk, after, after.phase,
             seen=read_levers(desk, after, TELL_SECONDS) if unsure else None)
    return outcome(desk, run_id)


def _answer_triggers(desk: Desk, run: Run) -> None:
    """What a person did by hand answers a trigger that asked for the very same."""
    if run.plan.mode is not Mode.REAL:
        return
    for name, state in desk.store.trigger_states().items():
        trigger = desk.policy.triggers.get(name)
        asked = trigger is not None and state.fired_at is not None and state.run is None
        if trigger and asked and (trigger.runbook, trigger.subject) == (
                run.plan.runbook, run.plan.subject):
            desk.store.save_trigger_state(replace(state, run=run.id), expected=state)


def _hands(desk: Desk, plan: Plan, watch: Watch) -> Hands:
    kinds = desk.kinds
    return Hands(
        policy=desk.policy, store=desk.store, runtime=desk.runtime,
        levers=kinds.levers(plan.mode), permit=kinds.permit, site_state=watch.state,
        observe=watch.observe,
        guard=StepGuards(desk, watch),
        make_step=lambda spec, context: kinds.step(spec.kind)(spec, context),
        fan_out=desk.fan_out,
    )
