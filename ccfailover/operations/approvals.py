"""`approve`: give, or decline, the approval that a run waits for."""

from __future__ import annotations

from dataclasses import dataclass

from ccfailover.errors import Refused, UsageError
from ccfailover.model.journal import Record, person
from ccfailover.model.plan import StepSpec
from ccfailover.operations.desk import Desk
from ccfailover.operations.look import look
from ccfailover.operations.run_list import load
from ccfailover.runbooks import consent
from ccfailover.runbooks.run import Run, StepStatus
from ccfailover.runtime import SECOND

LOOK_SECONDS = 3.0
"""How long the receivers are looked at, at most; the run looks at them in the same way."""


@dataclass(frozen=True)
class Answer:
    """The run, and what was journaled of this person's word."""

    run: Run
    record: Record


def approve(desk: Desk, prefix: str | None) -> Answer:
    """Approve the run, for its plan, this policy, and the receivers as they are now.

    Raises Refused for the requester (under whatever spelling), for somebody whom the policy does
    not name for it, and when the policy has changed since the plan; UsageError when the run
    waits for no approval.
    """
    run, steps = _asked(desk, prefix)
    who = person(str(desk.actor))
    if who == person(run.requester):
        raise Refused(f"{who} asked for run {run.id} and cannot approve it", guard="approval",
                      not_done="no approval was recorded",
                      hint=f"somebody else: ccfailover approve {run.id}")
    mine = _for(desk, run, steps, who)
    if desk.policy.sha256 != run.plan.policy_sha256:
        raise Refused(
            f"the policy has changed since run {run.id} was planned: it was "
            f"{run.plan.policy_sha256[:12]}, is {desk.policy.sha256[:12]}", guard="approval",
            not_done="no approval was recorded",
            hint=f"abort {run.id} and plan anew, or use the policy that it was planned with")
    world = look(desk, sites_only=True, budget=LOOK_SECONDS)
    valid = max(float(spec.params.get("valid", consent.VALID_SECONDS)) for spec in mine)
    data = consent.given_for(
        run.plan, policy_sha256=desk.policy.sha256,
        role=", ".join(sorted({str(spec.params["role"]) for spec in mine} - {""})),
        states={site: world.site_state(site).value for site in consent.receivers(run.plan)},
        valid_until=desk.store.now() + int(valid * SECOND))
    return _record(desk, run, consent.GIVEN, data)


def decline(desk: Desk, prefix: str | None, reason: str) -> Answer:
    """Say no, and why; the requester may, too. Raises UsageError, or Refused as `approve` does."""
    run, steps = _asked(desk, prefix)
    if not reason.strip():
        raise UsageError("a no needs a reason", not_done="nothing was recorded",
                         hint=f'ccfailover approve {run.id} --decline "the carrier works on it"')
    who = person(str(desk.actor))
    if who != person(run.requester):
        _for(desk, run, steps, who)
    return _record(desk, run, consent.DECLINED,
                   {"plan": run.plan.hash, "reason": reason.strip()[:2000]})


def _asked(desk: Desk, prefix: str | None) -> tuple[Run, list[StepSpec]]:
    """The run, and those of its approvals that are still to be had."""
    run = load(desk, prefix)
    if not run.phase.is_open:
        raise UsageError(f"run {run.id} has ended: {run.phase.value}",
                         not_done="nothing was recorded", hint=f"ccfailover report {run.id}")
    steps = [step for step in run.steps.values() if step.spec.kind == "approve"]
    # A run that stands still may need an approval anew when it is taken up again.
    waiting = [step.spec for step in steps if not run.rolling_back
               and (step.status is not StepStatus.SUCCEEDED or run.phase.value != "running")]
    if not waiting:
        what = ("is being rolled back" if run.rolling_back
                else "has its approval" if steps else "waits for no approval")
        raise UsageError(f"run {run.id} {what}", not_done="nothing was recorded",
                         hint=f"ccfailover runs show {run.id}")
    return run, waiting


def _for(desk: Desk, run: Run, steps: list[StepSpec], who: str) -> list[StepSpec]:
    """The approvals for which this person counts. Raises Refused, with the names of who does."""
    people = desk.policy.people
    may = {spec.id: consent.entitled(people, str(spec.params["role"])) for spec in steps}
    mine = [spec for spec in steps if (names := may[spec.id]) is None or who in names]
    if mine:
        return mine
    roles = sorted({str(spec.params["role"]) for spec in steps} - {""})
    of = f"has not the role {' or '.join(roles)}" if roles else "has no role in the policy"
    others = sorted({name for names in may.values() for name in names or ()}
                    - {person(run.requester)})
    raise Refused(
        f"{who} {of}, which approving run {run.id} needs", guard="approval",
        not_done="nothing was recorded",
        hint=f"who may: {', '.join(others) or 'nobody but the requester; abort the run'}")


def _record(desk: Desk, run: Run, kind: str, data: dict[str, object]) -> Answer:
    record = desk.store.append(f"run:{run.id}", kind, data, actor=str(desk.actor))
    consent.tell(desk.store, desk.policy.heading, run.id, run.plan, record)
    return Answer(load(desk, run.id), record)
