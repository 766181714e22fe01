"""What the judge asks of leases: one owner, waited out, kept alive, and deaf to no stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ccfailover.errors import Fenced
from ccfailover.model.journal import Lease
from ccfailover.runbooks.drive import LEASE_SECONDS
from ccfailover.simulation.clock_sim import Process, Scheduler, Task
from ccfailover.store import Store

HEARS_WITHIN = 5.0
"""Seconds in which a stop reaches whoever is at work, between two steps."""
STOPS_WITHIN = 100.0
"""Seconds in which a long step lets go: one slice of work, and what a dead platform takes. Calls of
several branches nest here, so that one may have to wait for another's."""
WRITES = ("shift", "set_open", "claim", "put", "settle", "extend")
OVERTAKEN = 3.0
"""Seconds in which whoever lost the lease to somebody else hears of it."""
SLACK = 0.5

OPEN_TO_ALL = ("confirmation.given", "stop.requested", "approval.given", "approval.declined",
               "note")
"""Events that anybody may write into an open run's journal, without its lease."""
FENCED = ("journal", "end", "record", "renew", "check", "let", "release")
"""First words of the writes that only the holder may make."""


@dataclass
class _Before:
    """The leases just before a write, and whether the writer's own was in force."""

    leases: dict[str, Lease]
    owned: bool


class LeaseJudge:
    """`store` and `owns` are given once they exist."""

    store: Store
    owns: Callable[[Process], bool]

    def __init__(self, scheduler: Scheduler, broken: Callable[[str, str], None],
                 now: Callable[[], int]) -> None:
        self.scheduler, self.broken, self.now = scheduler, broken, now
        self.jumped_at = -1.0
        self._before: dict[Task, _Before] = {}
        self._taken_at: dict[Process, float] = {}
        self._acts_from: dict[Process, float] = {}
        self._lost_at: dict[tuple[str, int], float] = {}
        self._stops: dict[str, float] = {}
        self._ended: set[Process] = set()
        self.fenced_at: dict[Process, float] = {}

    # --- every durable write -----------------------------------------------------------------

    def writing(self, doing: str, written: bool) -> None:
        task = self.scheduler.task
        if task is None or task.process is None:
            return
        process, word = task.process, doing.split(" ", 1)[0]
        if not written:
            leases = ({lease.run: lease for lease in self.store.leases()}
                      if word in ("take", "start") else {})
            self._before[task] = _Before(leases, word not in FENCED or self.owns(process))
            return
        before = self._before.pop(task)
        if word == "take":
            self._took(process, before.leases.get(doing.split(" ")[2]), doing)
        elif word == "start":
            leases = {lease.run: lease for lease in self.store.leases()}
            ended = [before.leases[run] for run in set(before.leases) - set(leases)]
            self._started(leases, next(iter(set(leases) - set(before.leases))), ended)
            self._took(process, next(iter(ended), None), "")
        elif word == "end":
            self._ended.add(process)
        if word in FENCED:
            self.fenced_at[process] = self.scheduler.seconds
        if word in ("take", "start"):
            return
        if not before.owned and not (word == "journal" and doing.split(" ")[1] in OPEN_TO_ALL):
            self.broken("fence", f"{process}: {doing}, without the lease")

    def _started(self, leases: dict[str, Lease], new: str, ended: list[Lease]) -> None:
        """All of a run's levers are its own, its predecessor's too, and nobody else's."""
        planned = self.store.read(f"run:{new}")[0].data
        wanted = {f"lever:{step['lever']}" for part in (
            planned["plan"]["before"], *planned["plan"]["branches"], planned["plan"]["after"])
            for step in part["steps"] if step["lever"]}
        wanted |= {scope for lease in ended for scope in lease.scopes}
        missing = wanted - set(leases[new].scopes)
        if missing and planned["plan"]["mode"] == "real":
            self.broken("one owner", f"{new} acts without {', '.join(sorted(missing))}")
        for run in set(leases) - {new}:
            theirs = set(self.store.read(f"run:{run}")[0].data["scopes"])
            if theirs & set(leases[new].scopes):
                self.broken("one owner", f"{new} was given what {run} holds")

    def _took(self, process: Process, former: Lease | None, taking: str) -> None:
        """`taking` "": it superseded, which a person decides over a holder at work, too; as
        whoever steals does, with a reason."""
        self._taken_at[process] = self.scheduler.seconds
        if former is not None:
            self._lost_at[(former.run, former.fence)] = self.scheduler.seconds
        if former is None or not former.holder:
            return
        stolen = self.store.read(f"run:{former.run}")[-1].kind == "lease.stolen"
        if taking and former.expires_at > self.now() and not stolen:
            self.broken("one owner", f"{process} took {former.run} from a holder at work")
        self._acts_from[process] = self.scheduler.seconds + LEASE_SECONDS - SLACK

    # --- what processes do -------------------------------------------------------------------

    def acts(self, process: Process, what: str) -> None:
        """Before every outside move."""
        jumped = self.jumped_at >= self._taken_at.get(process, 0.0)
        if self.scheduler.seconds < self._acts_from.get(process, 0.0) and not jumped:
            self.broken("a successor waits", f"{what} by {process}, while its predecessor may "
                                             "still be at work")

    def sends(self, process: Process, operation: str, lease: Lease | None) -> None:
        """Before every attempt of a write: whoever has been overtaken hears of it within a beat,
        also between two attempts of one call. Not so fast when the clock has jumped: then nothing
        is written that would tell, until whoever took the lease has waited it out."""
        lost = self._lost_at.get((lease.run, lease.fence)) if lease is not None else None
        if (lost is not None and not process.troubled and operation in WRITES
                and self.jumped_at < lost - LEASE_SECONDS
                and self.scheduler.seconds - max(lost, process.frozen_at) > OVERTAKEN):
            self.broken("one owner", f"{process} begins a call, overtaken "
                                     f"{self.scheduler.seconds - lost:.0f} s ago")

    def puts(self, process: Process) -> None:
        """Items are sent under the fence, too: a batch may be tried again for half a minute."""
        last = self.fenced_at.get(process, -1.0)
        if (self.scheduler.seconds - last > LEASE_SECONDS + 2 and process.frozen_at < last
                and not self.owns(process)):
            self.broken("one owner", f"{process} delivers without the lease")

    def taken_at(self, process: Process) -> float:
        return self._taken_at.get(process, 0.0)

    def fell(self, process: Process, error: Exception) -> None:
        if process in self._ended and isinstance(error, Fenced):
            self.broken("an end is an end", f"{process}: {error}")
        taken = self._taken_at.get(process)
        excused = process.frozen_at >= 0 or process.troubled or taken is None
        if "its lease ran out" in str(error) and not excused and self.jumped_at < (taken or 0):
            self.broken("a lease is kept alive", f"{process}: {error}")

    def stop_asked(self, run_id: str) -> None:
        self._stops[run_id] = self.scheduler.seconds

    def goes_on(self, process: Process, run_id: str, what: str, *, within: float) -> None:
        """A process that had been at work when the stop was asked for goes on to `what`."""
        asked = self._stops.get(run_id)
        if asked is None or self._taken_at.get(process, asked) >= asked:
            return
        late = self.scheduler.seconds - asked > within
        if late and process.frozen_at < 0:
            self.broken("a stop is heard", f"{process} goes on to {what} "
                                           f"{self.scheduler.seconds - asked:.0f} s after it")
