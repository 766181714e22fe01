"""People with a policy in mind and a telephone: they start, look, resume, roll back, supersede.

While things go wrong they act at random moments; once it is calm they act with purpose, and what
they need to bring every queue to somebody who serves it is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ccfailover.errors import StoreError, UsageError
from ccfailover.model.health import State
from ccfailover.model.plan import Mode, Plan
from ccfailover.runbooks import consent, recipe
from ccfailover.runbooks.plan import Circumstances, Request
from ccfailover.runbooks.run import Run, StepStatus
from ccfailover.runbooks.step import Step
from ccfailover.runbooks.takeover import pre_empting
from ccfailover.runtime import SECOND
from ccfailover.simulation.clock_sim import Chance, Flow
from ccfailover.simulation.engine_sim import Office, StepKinds
from ccfailover.simulation.faults_sim import FaultPlan, Strike
from ccfailover.simulation.world_sim import HOME

MOST_ACTIONS = 14
"""Once it is calm: whoever needs more has a tool that does not get there."""


@cache
def _builtin(name: str) -> recipe.Recipe:
    return recipe.load(name, {})


class _Kinds:
    def __init__(self, step: StepKinds) -> None:
        self._step = step

    def step(self, kind: str) -> type[Step]:
        return self._step(kind)


class Operator:
    """`gave_up` is set when the calm actions did not suffice."""

    def __init__(self, office: Office, faults: FaultPlan, chance: Chance) -> None:
        self.office, self.faults, self.chance = office, faults, chance
        self.actions = self.calm_actions = 0
        self.gave_up = ""
        self.finished = False
        self.satisfied: Callable[[], str] = lambda: ""
        office.confirms = lambda: faults.calm or faults.faultless or chance.often(0.9)
        self._tries: dict[str, int] = {}

    def life(self) -> Flow:
        """One thing after the other, until nothing is open and everybody is served."""
        self._launch_start(None)
        while True:
            yield self._rest()
            leases = self.office.store.leases()
            alive = {lease.run for lease in leases if lease.holder
                     and lease.expires_at > self.office.runtime.now()}
            if self.faults.calm and alive:
                continue
            runs = self.office.open_runs()
            busy = [run for run in runs if run.id in alive]
            if self.faults.calm:
                if not runs and not self.satisfied():
                    self.finished = True
                    return
                if self.calm_actions >= MOST_ACTIONS:
                    left = self.satisfied() or f"{runs[0].id} is {runs[0].phase.value}"
                    self.finished = True
                    self.gave_up = f"{self.calm_actions} actions were not enough: {left}"
                    return
                self.calm_actions += 1
                self._with_purpose(runs)
            elif runs and not self._pre_empts(runs):
                self._at_random(self.chance.choice(runs), busy)
            elif runs or self.chance.often(0.5):
                self._launch_start(None)

    def _rest(self) -> float:
        """Somebody whose home has just failed does not wait for long."""
        if self.faults.calm:
            return 5.0
        hurried = 0 < self.office.scheduler.seconds < self.office.world.falls_at + 40
        return self.chance.between(2, 10 if hurried else 60)

    def _pre_empts(self, runs: list[Run]) -> bool:
        """Whether somebody starts a run although some are open: another overflow before home
        falls, the failover after."""
        world = self.office.world
        if world.falls_at < 0 or any(run.plan.runbook != "overflow" for run in runs):
            return False
        fallen = world.told(HOME) is State.DOWN
        return self.chance.often(0.7 if fallen else 0.3 if len(runs) < 2 else 0.0)

    def approvers(self) -> Flow:
        """Other people at other terminals. Once it is calm whoever is asked says yes; before that
        they may be slow, may not be entitled, or may say no; and `ann` tries it herself."""
        while not self.finished:
            yield self.chance.between(1, 15)
            for run in self.office.open_runs():
                asked = [step for step in run.steps.values() if step.spec.kind == "approve"
                         and step.status is StepStatus.STARTED]
                if not asked:
                    continue
                if self.faults.calm:
                    self._approve(run, "bea")
                    self._approve(run, "cleo")
                    continue
                self._perhaps(run)

    def _perhaps(self, run: Run) -> None:
        name = self.chance.choice(["bea", "cleo"])
        match self.chance.weighted((("yes", 8.0), ("ann", 3.0), ("dan", 2.0), ("no", 0.6),
                                    ("plan", 1.5), ("policy", 1.5), ("shares", 1.5),
                                    ("expired", 1.5))):
            case "yes":
                self._approve(run, name)
            case "no":
                self._say(run, name, consent.DECLINED, {"plan": run.plan.hash})
            case "plan":
                self._approve(run, name, plan="another plan's")
            case "policy":
                self._approve(run, name, policy="another policy's")
            case "shares":
                self._approve(run, name, shares={"loan_calls": {"nowhere": 100}})
            case "expired":
                self._approve(run, name, valid_until=self.office.store.now() - 120 * SECOND)
            case stranger:
                self._approve(run, stranger)

    def _approve(self, run: Run, name: str, **other: object) -> None:
        """As `operations.approvals` does, or with something `other` than it would write."""
        world, now = self.office.world, self.office.store.now()
        data = consent.given_for(
            run.plan, policy_sha256=world.policy.sha256, role="",
            states={site: world.told(site).value for site in consent.receivers(run.plan)},
            valid_until=now + int(consent.VALID_SECONDS * SECOND))
        self._say(run, name, consent.GIVEN, {**data, **other})

    def _say(self, run: Run, name: str, kind: str, data: dict[str, object]) -> None:
        self.office.note(f"{name}: {kind} for {run.id}")
        try:
            record = self.office.store.append(f"run:{run.id}", kind, data,
                                              actor=f"{name}@elsewhere[1]")
            if self.faults.frozen:
                self.office.unheard.setdefault(record.stream, []).append(record.seq)
        except (StoreError, UsageError) as error:
            self.office.note(f"{name} is told: {error}")

    def _at_random(self, run: Run, busy: list[Run]) -> None:
        if run in busy:
            verb = self.chance.weighted((("look", 12.0), ("resume", 2.0), ("stop", 2.0),
                                         ("supersede", 2.0), ("another", 0.7),
                                         # One that hangs is not looked at for long.
                                         ("steal", 9.0 if self.faults.frozen else 1.5)))
        else:
            verb = self.chance.weighted((("look", 2.0), ("resume", 6.0),
                                         ("rollback", 8.0 if run.plan.supersedes
                                          or self.faults.frozen else 2.0),
                                         ("supersede", 2.5), ("skip", 1.0), ("abort", 0.5),
                                         ("another", 0.7)))
        self._act(verb, run)

    def _with_purpose(self, runs: list[Run]) -> None:
        """Resume twice; then plan anew from what is so now; what still resists is aborted."""
        if not runs:
            self._launch_start(None)
            return
        run = runs[0]
        tried = self._tries.get(run.id, 0)
        self._tries[run.id] = tried + 1
        if tried < 2:
            self._act("resume", run)
        elif tried < 4:
            self._act("supersede", run)
        else:
            self._act("abort", run)

    def _act(self, verb: str, run: Run) -> None:
        if verb == "look":
            return
        if verb == "another":
            self._launch_start(None)
            return
        if verb == "supersede":
            self._launch_start(run.id)
            return
        if verb == "stop":
            self.faults.tell(Strike.STOP, "run")
        self.actions += 1
        carrier = self.office.carrier(verb)
        self.office.note(f"OPERATOR {verb} {run.id} ({run.phase.value}) → {carrier}")
        carrier.launch(getattr(carrier, verb)(run))

    def _launch_start(self, supersedes: str | None) -> None:
        plan = self.plan(supersedes)
        if plan is None or any(found.level in ("hard", "soft") for found in plan.findings):
            return
        self.actions += 1
        carrier = self.office.carrier(plan.runbook)
        self.office.note(f"OPERATOR starts {plan.runbook} {plan.hash} → {carrier}"
                         + (f" superseding {supersedes}" if supersedes else ""))
        carrier.launch(carrier.start(plan, lambda: self.plan(supersedes)))

    def plan(self, supersedes: str | None) -> Plan | None:
        """From a look at the world now; None when nothing is to be done."""
        world = self.office.world
        runbook, subject = world.kind, HOME
        if self.office.scheduler.seconds < world.falls_at:
            runbook = "overflow"
        if world.told(HOME) is not world.told("nobody") and world.told(HOME).value == "healthy" \
                and runbook == "full_failover":
            runbook = "failback"
        fallen = self.satisfied()
        if fallen and self.faults.calm:
            runbook, subject = "full_failover", fallen.partition(" is at ")[2].split(",")[0]
        percent = None
        if runbook == "overflow":
            percent, subject = 40, self._crowded()
        request = Request(runbook, subject, "simulated", Mode.REAL, percent=percent,
                          supersedes=supersedes)
        found = (recipe.load(runbook, world.policy.runbooks)
                 if runbook in world.policy.runbooks else _builtin(runbook))
        try:
            plan = self.office.flows.planner(world.policy, request, found,
                             _Kinds(self.office.kinds), Circumstances(
                                 world=world.picture(self.office.runtime.now()),
                                 capabilities=self.office.levers.capabilities,
                                 is_open=lambda site, at: True, is_blocked=world.is_blocked))
            plan = pre_empting(plan, self.office.store, self.office.load)
        except (UsageError, StoreError):
            return None
        acts = plan.shares_before != plan.shares_after and plan.branches
        return plan if acts or supersedes else None

    def _crowded(self) -> str:
        """Whose work overflows: the calls', or before home falls that of a queue that still has
        all of it there."""
        world = self.office.world
        if world.falls_at < 0:
            return "loan_calls"
        whole = [name for name, lever in sorted(world.levers.items())
                 if world.platform.shares(lever.ref).of(HOME) == 100]
        return self.chance.choice(whole or sorted(world.levers))

