"""What goes wrong by itself: people at the switch, a switch that lies, clocks, a lost lease."""

from __future__ import annotations

from ccfailover.model.shares import Shares
from ccfailover.runbooks.drive import LEASE_SECONDS
from ccfailover.runtime import SECOND
from ccfailover.simulation.clock_sim import Chance
from ccfailover.simulation.engine_sim import Office
from ccfailover.simulation.faults_sim import FaultPlan, Strike
from ccfailover.simulation.judge_sim import Judge
from ccfailover.simulation.world_sim import HOME

KINDS = (Strike.FOREIGN, Strike.LIE, Strike.CLOCK_FORWARD, Strike.CLOCK_BACK, Strike.LEASE_LOSS)


class Disturbances:
    """A few of them in every second story, most in its first minute, when a run is at work."""

    def __init__(self, office: Office, faults: FaultPlan, judge: Judge, chance: Chance) -> None:
        self.office, self.faults, self.judge, self.chance = office, faults, judge, chance

    def schedule(self) -> None:
        for _ in range(self.chance.choice([0, 0, 0, 1, 1, 2, 3])):
            latest = min(self.chance.choice([3.0, 60.0, 400.0]), self.faults.calm_at - 20)
            at = self.chance.between(0.1, latest)
            strike = self.chance.choice(KINDS)
            self.office.scheduler.after(at, getattr(self, f"_{strike.value}"))

    def _route(self) -> tuple[str, str]:
        name = self.chance.choice(sorted(self.office.world.levers))
        return name, self.office.world.levers[name].ref

    def _foreign_move(self) -> None:
        """Somebody sets a lever by hand, to where its queue may be."""
        name, ref = self._route()
        world = self.office.world
        places = sorted(world.may[name] & {HOME, *world.changes, "message"})
        first, second = self.chance.choice(places), self.chance.choice(places)
        percent = self.chance.choice([0, 30, 50, 100])
        shares = Shares({first: 100} if first == second else {
            first: 100 - percent, second: percent})
        self.faults.tell(Strike.FOREIGN, "shift")
        self.office.note(f"somebody sets {ref} to {shares}")
        world.platform.add_route(ref, shares)
        self.judge.disturbed[ref] = self.office.scheduler.seconds

    def _lie(self) -> None:
        """A read-back that is wrong for a while: what it was, or anything else."""
        _, ref = self._route()
        platform = self.office.world.platform
        told = self.chance.choice([platform.shares(ref), Shares({HOME: 100}),
                                   Shares({"acme": 100}), Shares({"acme": 60, HOME: 40})])
        self.faults.tell(Strike.LIE, "read")
        self.office.note(f"{ref} will be said to be {told}")
        platform.lie(ref, told)
        left = self.faults.calm_at - 10 - self.office.scheduler.seconds
        self.office.scheduler.after(min(self.chance.between(1, 90), max(0.0, left)),
                                    lambda: platform.lie(ref, None))

    def _clock(self, strike: Strike, seconds: float) -> None:
        scheduler = self.office.scheduler
        self.faults.tell(strike, "store")
        scheduler.skew += int(seconds * SECOND)
        self.judge.leases.jumped_at = scheduler.seconds

    def _clock_forward(self) -> None:
        self._clock(Strike.CLOCK_FORWARD, self.chance.choice([5.0, 20.0, 40.0, 3600.0]))

    def _clock_back(self) -> None:
        self._clock(Strike.CLOCK_BACK, -self.chance.choice([5.0, 20.0, 40.0]))

    def _lease_loss(self) -> None:
        """The lease of whoever is at work runs out under his hands."""
        if any(lease.holder for lease in self.office.store.leases()):
            self._clock(Strike.LEASE_LOSS, LEASE_SECONDS + 0.001)
