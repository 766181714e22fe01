"""One seed → one story: a centre, its failures, a run through all of it, and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from ccfailover.providers.patience import Permit
from ccfailover.simulation.clock_sim import Chance, Livelock, Scheduler, VirtualRuntime
from ccfailover.simulation.disturb_sim import Disturbances
from ccfailover.simulation.engine_sim import Flows, Office, StepKinds
from ccfailover.simulation.faults_sim import FaultPlan, FaultyPlatform, faulty_store
from ccfailover.simulation.judge_sim import Judge
from ccfailover.simulation.operator_sim import Operator
from ccfailover.simulation.reach_sim import SimLevers
from ccfailover.simulation.world_sim import SimWorld

HORIZON = 5_000.0
"""Virtual seconds after which a story must have ended."""


@dataclass
class Story:
    """`violations` are broken promises, empty when all held. `faults` counts (fault, effect),
    `effects` how often each could have been struck, `limits` what is known to be beyond the tool.
    """

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    endings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    actions: int = 0
    trace: list[str] = field(default_factory=list)


def simulate(seed: int, kinds: StepKinds, *, flows: Flows | None = None, trace: bool = False,
             faultless: bool = False,
             alarmed: Callable[[Office], Set[str]] | None = None) -> Story:
    """Plays one seed to its end. The same seed gives the same story, always.

    `alarmed` says which queues' levers `check` would report to read other than the journal says.
    """
    story = Story(seed)
    chance = Chance(seed)
    scheduler = Scheduler(Chance(chance.bits()))
    runtime = VirtualRuntime(scheduler)
    judge = Judge(scheduler)

    def note(text: str) -> None:
        if trace:
            story.trace.append(f"{scheduler.seconds:10.3f}  {text}")

    faults = FaultPlan(scheduler, Chance(chance.bits()), 0.0, seed)
    platform = FaultyPlatform(runtime, scheduler, faults, judge, cas=chance.often(0.5))
    world = SimWorld(scheduler, platform, Chance(chance.bits()))
    platform.reachable = world.reachable
    faults.calm_at, faults.note = world.calm_at, note
    if faultless:
        faults.none()
    flows = flows or Flows()
    store = faulty_store(runtime, faults, flows.store)
    office = Office(scheduler, runtime, store, world, SimLevers(world, runtime, Permit()), kinds,
                    flows, judge, note)
    judge.sees(world, office)
    faults.watch = judge.leases.writing
    operator = Operator(office, faults, Chance(chance.bits()))
    if not faultless:
        Disturbances(office, faults, judge, Chance(chance.bits())).schedule()
    operator.satisfied = judge.unserved
    scheduler.spawn("operator", operator.life())
    scheduler.spawn("approvers", operator.approvers())
    try:
        if not scheduler.run(HORIZON):
            judge.broken("liveness", f"not ended after {HORIZON:g} s")
    except Livelock as error:
        judge.broken("liveness", str(error))
    if operator.gave_up:
        judge.broken("liveness", operator.gave_up)
    judge.verdict()
    if alarmed is not None:
        judge.levers.noticed(alarmed(office))
    for task, bug in scheduler.crashes:
        judge.broken("no bug", f"{task.name}: {type(bug).__name__}: {bug}")
    story.violations = judge.violations
    story.limits = judge.limits
    story.faults, story.effects = faults.struck, faults.met
    story.endings = [office.load(run).phase.value for run in store.run_ids()]
    story.seconds, story.actions = scheduler.seconds, operator.actions
    store.close()
    return story
