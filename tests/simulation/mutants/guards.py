"""Every guard and every check of lease and fence, turned round or left out, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ccfailover.errors import Fenced, Refused, StoreError
from ccfailover.model.items import Lot
from ccfailover.model.journal import Actor, Lease, Record
from ccfailover.model.plan import Finding, Plan
from ccfailover.model.policy import Policy
from ccfailover.runbooks import engine
from ccfailover.runbooks.drive import LEASE_SECONDS, Driver
from ccfailover.runbooks.plan import make_plan
from ccfailover.runbooks.ramp import Feedback, Verdict
from ccfailover.runbooks.run import Run
from ccfailover.runbooks.step import Observed, Step, Truth
from ccfailover.simulation.clock_sim import Flow
from ccfailover.simulation.engine_sim import Carrier, Flows
from ccfailover.store import Store
from ccfailover.transfer.eligibility import CelEligibility, Eligibility
from tests.simulation.mutants.effects import a
from tests.simulation.mutants.parts import LEVERS, Mutant, answered, step

# --- guards of the lever steps -------------------------------------------------------------------


def unguarded(*guards: str, undo: bool) -> Callable[[type[Any]], type[Step]]:
    """Steps that go on where one of `guards` would have refused."""
    def change(found: type[Any]) -> type[Step]:
        class Unguarded(found):  # type: ignore[misc]
            def apply(self, snapshot: Any) -> bool:
                return bool(super().apply(snapshot)) if undo else self._force(
                    super().apply, snapshot, self.to)

            def undo(self, snapshot: Any) -> bool:
                from ccfailover.model.shares import Shares

                return self._force(super().undo, snapshot, Shares(snapshot["shares"])
                                   ) if undo else bool(super().undo(snapshot))

            def _force(self, sound: Callable[[Any], bool], snapshot: Any, to: Any) -> bool:
                try:
                    return sound(snapshot)
                except Refused as error:
                    if error.guard not in guards:
                        raise
                lever = self.ctx.levers.route(self.lever)
                lever.shift(to, expected=lever.read(), key=self.ctx.key)
                return True

        return Unguarded

    return change


def restless(found: type[Any]) -> type[Step]:
    class Restless(found):  # type: ignore[misc]
        """Goes on whatever becomes of those who were given more."""

        def _feedback(self, before: Any) -> Feedback:
            return Feedback(Verdict.GO_ON)

    return Restless


def greedy(found: type[Any]) -> type[Step]:
    class Greedy(found):  # type: ignore[misc]
        """Does not ask, on a resume, how those are who have the increment before."""

        def _refuse_unborne(self, current: Any) -> None:
            return

    return Greedy


def blind_verify(found: type[Any]) -> type[Step]:
    class Blind(found):  # type: ignore[misc]
        def _read(self) -> tuple[str | None, str]:
            problem, said = super()._read()
            return (None, "so what") if problem and "went down" in problem else (problem, said)

    return Blind


def to_the_dead(found: type[Any]) -> type[Step]:
    class ToTheDead(found):  # type: ignore[misc]
        def apply(self, snapshot: Any) -> bool:
            ctx = self.ctx
            self.ctx = replace(ctx, site_state=lambda name: "healthy")
            try:
                return bool(super().apply(snapshot))
            finally:
                self.ctx = ctx

    return ToTheDead


def back_to_the_dead(found: type[Any]) -> type[Step]:
    class BackToTheDead(found):  # type: ignore[misc]
        def undo(self, snapshot: Any) -> bool:
            ctx = self.ctx
            self.ctx = replace(ctx, site_state=lambda name: "healthy")
            try:
                return bool(super().undo(snapshot))
            finally:
                self.ctx = ctx

    return BackToTheDead


# --- the guards of the plan ------------------------------------------------------------------


def lenient(change: Callable[[Any], dict[str, Any]]) -> Callable[..., Plan]:
    """A planner that reads every queue of the policy as `change` has it."""
    def plan(policy: Policy, *args: Any) -> Plan:
        queues = {name: replace(queue, **change(queue)) for name, queue in policy.queues.items()}
        return make_plan(replace(policy, queues=queues), *args)

    return plan


def unasked(*guards: str) -> type[Carrier]:
    """A process whose guards before each step do not know `guards`; none named: no guard."""
    class Unasked(Carrier):
        def _guard(self, run: Any, moves: Any) -> Sequence[Finding]:
            return [finding for finding in super()._guard(run, moves)
                    if guards and finding.guard not in guards]

    return Unasked


RULES: Mapping[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "outsource: never": ("outsource_never", lambda queue: {
        "outsource": "allowed" if queue.outsource == "never" else queue.outsource}),
    "outsource: overflow_only": ("outsource_never", lambda queue: {
        "outsource": "allowed" if queue.outsource == "overflow_only" else queue.outsource}),
    "the licence": ("licence", lambda queue: {"licence_field": None}),
    "the data class": ("data_class", lambda queue: {"data_class": None}),
    "the credit criteria": ("criteria_version", lambda queue: {"criteria_version": None}),
}


def all_dead(policy: Policy, *args: Any) -> Plan:
    """Whatever a treatment should get goes to home, dead or not; and no guard minds."""
    made = make_plan(policy, *args)
    home = {name: queue.home for name, queue in policy.queues.items()}

    def to(spec: Any) -> Any:
        if "to" not in spec.params:
            return spec
        shares = dict(spec.params["to"])
        for treatment in ("message", "callback"):
            part = shares.pop(treatment, 0)
            name = home[spec.params["queue"]]
            if part:
                shares[name] = shares.get(name, 0) + part
        return replace(spec, params={**spec.params, "to": shares})

    return replace(made, branches=tuple(
        replace(branch, steps=tuple(to(spec) for spec in branch.steps))
        for branch in made.branches), findings=())


# --- who approves ------------------------------------------------------------------------------


def approving(count: Callable[[Any, Record], bool]) -> Callable[[type[Any]], type[Step]]:
    """An approval that counts the persons for whose record `count(step, record)` is true."""
    def change(found: type[Any]) -> type[Step]:
        class Approving(found):  # type: ignore[misc]
            def holds(self, snapshot: Any) -> Observed:
                given = {record.actor.partition("@")[0] for record in self.ctx.records()
                         if record.kind == "approval.given" and count(self, record)}
                if len(given) >= int(self.spec.params["people"]):
                    return Observed(Truth.YES, "approved")
                return super().holds(snapshot)

        return Approving

    return change


def _name(record: Record) -> str:
    return record.actor.partition("@")[0]


def _others(own: Any, record: Record) -> bool:
    role, people = str(own.spec.params["role"]), own.ctx.policy.people
    names = {name for key in ([role] if role else people) for name in people[key]}
    return _name(record) != "ann" and _name(record) in names


def _but(*forgotten: str) -> Callable[[Any, Record], bool]:
    """What an approval is bound to, but for what is `forgotten`."""
    def counts(own: Any, record: Record) -> bool:
        plan, data = own.ctx.plan, record.data
        wanted = {"plan": plan.hash, "policy": plan.policy_sha256,
                  "shares": {name: dict(parts) for name, parts in plan.shares_after.items()}}
        bound = all(data[name] == value for name, value in wanted.items()
                    if name not in forgotten)
        return bound and ("expired" in forgotten or data["valid_until"] > own.ctx.store.now())

    return counts


def deaf_to_no(found: type[Any]) -> type[Step]:
    class Deaf(found):  # type: ignore[misc]
        def holds(self, snapshot: Any) -> Observed:
            records = [record for record in self.ctx.records()
                       if record.kind != "approval.declined"]
            self.ctx = replace(self.ctx, records=lambda: records)
            try:
                return super().holds(snapshot)
            finally:
                self.ctx = replace(self.ctx, records=self._records)

        def __init__(self, spec: Any, ctx: Any) -> None:
            super().__init__(spec, ctx)
            self._records = ctx.records

    return Deaf


def unconfirmed(found: type[Any]) -> type[Step]:
    class Unconfirmed(found):  # type: ignore[misc]
        def holds(self, snapshot: Any) -> Observed:
            return Observed(Truth.YES, "surely")

    return Unconfirmed


# --- leases --------------------------------------------------------------------------------------


class OpenJournal(Store):
    """`append` does not ask for the fence."""

    def append(self, stream: str, kind: str, data: Mapping[str, Any], *, actor: str,
               lease: Lease | None = None) -> Record:
        return super().append(stream, kind, data, actor=actor)


class OpenLedger(Store):
    def record_items(self, rows: Sequence[Any], *, lease: Lease | None,
                     lot: Lot | None = None) -> str | None:
        return super().record_items(rows, lease=None, lot=lot)


class _Borrowed(Store):
    """Lets whoever asks have the lease that is in force, and for longer, if need be."""

    def borrowed(self, lease: Lease, *, expired_only: bool = False) -> Lease:
        rows = self._db.query("SELECT fence FROM run WHERE id = :run", {"run": lease.run})
        if expired_only and rows[0][0] != lease.fence:
            return lease
        with self._db._inner.transaction("borrow") as tx:  # type: ignore[attr-defined]
            tx.execute("UPDATE run SET expires_at = :then WHERE id = :run AND expires_at <= :now "
                       "AND ended IS NULL",
                       {"run": lease.run, "now": tx.now, "then": tx.now + 1})
        return replace(lease, fence=rows[0][0])


class AnyFence(_Borrowed):
    """`check_fence` looks at no fence."""

    def check_fence(self, lease: Lease, needs: float) -> float:
        try:
            return super().check_fence(self.borrowed(lease), needs)
        except Fenced:
            return LEASE_SECONDS


class AnyAge(_Borrowed):
    """A lease that has run out is as good as one in force, as long as nobody else took it."""

    def check_fence(self, lease: Lease, needs: float) -> float:
        return super().check_fence(self.borrowed(lease, expired_only=True), needs)

    def append(self, stream: str, kind: str, data: Mapping[str, Any], *, actor: str,
               lease: Lease | None = None) -> Record:
        lease = self.borrowed(lease, expired_only=True) if lease else None
        return super().append(stream, kind, data, actor=actor, lease=lease)


class AnyEnd(_Borrowed):
    """`end_run` ends it for whoever asks."""

    def end_run(self, lease: Lease, kind: str, data: Mapping[str, Any], *, actor: str) -> Record:
        return super().end_run(self.borrowed(lease), kind, data, actor=actor)


class AnyRenewal(_Borrowed):
    """`renew` renews for whoever asks: a former holder keeps the lease of his successor alive."""

    def renew(self, lease: Lease, ttl: float) -> Lease:
        return super().renew(self.borrowed(lease), ttl)


class AnyLapse(_Borrowed):
    """`lapse` lets a run go for whoever asks."""

    def lapse(self, lease: Lease) -> None:
        super().lapse(self.borrowed(lease))


class Robber(Store):
    """`acquire` takes a run from a holder at work."""

    def acquire(self, run: str, *, actor: Actor, ttl: float,
                steal: str = "") -> tuple[Lease, bool]:
        for lease in self.leases():
            if lease.run == run and lease.holder:
                with self._db._inner.transaction("rob") as tx:  # type: ignore[attr-defined]
                    tx.execute("UPDATE run SET expires_at = :now - 1 WHERE id = :run",
                               {"run": run, "now": tx.now})
        return super().acquire(run, actor=actor, ttl=ttl, steal=steal)


class SameFence(Store):
    """A new holder gets the fence of the former one."""

    def acquire(self, run: str, *, actor: Actor, ttl: float,
                steal: str = "") -> tuple[Lease, bool]:
        old = next((lease.fence for lease in self.leases() if lease.run == run), None)
        lease, doubtful = super().acquire(run, actor=actor, ttl=ttl, steal=steal)
        if old is None:
            return lease, doubtful
        with self._db._inner.transaction("lower") as tx:  # type: ignore[attr-defined]
            tx.execute("UPDATE run SET fence = :old WHERE id = :run", {"run": run, "old": old})
        return replace(lease, fence=old), doubtful


class Hasty(Store):
    """Nobody waits for a former holder who may be at work."""

    def acquire(self, run: str, *, actor: Actor, ttl: float,
                steal: str = "") -> tuple[Lease, bool]:
        return super().acquire(run, actor=actor, ttl=ttl, steal=steal)[0], False


class Crowded(Store):
    """Scopes that another run holds are in nobody's way: `_refuse_held` says nothing."""

    def create_run(self, plan: Plan, *, actor: Actor, ttl: float, supersedes: str | None = None,
                   **more: Any) -> tuple[str, Lease]:
        with self._db._inner.transaction("forget") as tx:  # type: ignore[attr-defined]
            for scope in plan.scopes:
                tx.execute("DELETE FROM scope WHERE name = :name", {"name": scope})
        return super().create_run(plan, actor=actor, ttl=ttl, supersedes=supersedes, **more)


class LetGo(Store):
    """A paused run does not keep its scope."""

    def lapse(self, lease: Lease) -> None:
        self.release(lease)


class Fearless(Driver):
    """Goes on when the lease is gone."""

    def _check_fence(self, needs: float) -> None:
        del needs


class Brief(Driver):
    """Any second of lease left is enough, however long the step may take."""

    def _check_fence(self, needs: float) -> None:
        super()._check_fence(0.0)


class DeafToLoss(Driver):
    """Does not mind that its heart has heard of the loss; asks the store, which knows anyway."""

    def _check_fence(self, needs: float) -> None:
        self._lost = None
        super()._check_fence(needs)


class NoHeart(Carrier):
    """Never renews its lease by itself."""

    def _heartbeat(self, driver: Driver, run: Run) -> Flow:
        while True:
            yield 1.0
            for record in self.office.store.read(f"run:{run.id}", run.head[0]):
                if record.kind == "stop.requested":
                    driver.stop()


class LateHeart(Carrier):
    """Renews its lease a second after it has run out."""

    def _heartbeat(self, driver: Driver, run: Run) -> Flow:
        while True:
            yield LEASE_SECONDS + 1
            try:
                self.office.store.renew(self._held(), LEASE_SECONDS)
            except Fenced as error:
                driver._lost = error
                return
            except StoreError:
                continue


class DeafHeart(Carrier):
    """Renews its lease, and never hears that it was asked to stop."""

    def _heartbeat(self, driver: Driver, run: Run) -> Flow:
        while True:
            yield LEASE_SECONDS / 3
            try:
                self.office.store.renew(self._held(), LEASE_SECONDS)
            except Fenced as error:
                driver._lost = error
                return
            except StoreError:
                continue


class Impatient(Carrier):
    """Does not wait for a predecessor who may be at work."""

    def _outwait(self) -> Flow:
        yield 0.0


class HalfPatient(Carrier):
    """Waits half a lease time for a predecessor."""

    def _outwait(self) -> Flow:
        yield LEASE_SECONDS / 2


# --- items -------------------------------------------------------------------------------------


class _Anything:
    def judge(self, item: Any) -> str | None:
        return None


class Unlocked(CelEligibility):
    """Takes what somebody has in hand."""

    def judge(self, item: Any) -> str | None:
        return super().judge(replace(item, fields={**item.fields, "locked": False}))


class Licensed(CelEligibility):
    def _licence_reason(self, item: Any) -> str | None:
        return None


class Unconditional(CelEligibility):
    def _condition_reason(self, item: Any) -> str | None:
        return None


def choosing(choice: Callable[..., Eligibility]) -> Callable[[type[Any]], type[Step]]:
    def change(found: type[Any]) -> type[Step]:
        class Choosing(found):  # type: ignore[misc]
            def _eligibility(self) -> Eligibility:
                site = self._site(str(self.spec.params["target"]))
                return choice(self._queue, site, self.ctx.runtime)

        return Choosing

    return change


def unfenced_move(found: type[Any]) -> type[Step]:
    class UnfencedMove(found):  # type: ignore[misc]
        def _make(self, *args: Any, **more: Any) -> Any:
            mover = super()._make(*args, **more)
            mover._check_fence = lambda: None
            mover._delivery._check_fence = lambda: None
            return mover

    return UnfencedMove


def unstoppable_move(found: type[Any]) -> type[Step]:
    class UnstoppableMove(found):  # type: ignore[misc]
        def _make(self, *args: Any, **more: Any) -> Any:
            mover = super()._make(*args, **more)
            mover._stop = lambda: False
            return mover

    return UnstoppableMove


def mutants() -> Iterator[Mutant]:
    for guard in ("dead_site", "concurrent_change"):
        yield Mutant(f"an apply goes on in spite of {guard}",
                     kinds=step(LEVERS, unguarded(guard, undo=False)))
        yield Mutant(f"an undo goes on in spite of {guard}",
                     kinds=step(LEVERS, unguarded(guard, undo=True)))
    yield Mutant("a receiver that goes down while shares soak is not seen",
                 kinds=step(LEVERS, restless))
    yield Mutant("a receiver that goes down is served all the same",
                 kinds=step("verify", blind_verify))
    yield Mutant("applications are sent to a dead site", kinds=step("transfer", to_the_dead))
    yield Mutant("applications are brought back to a dead site",
                 kinds=step("transfer", back_to_the_dead))
    yield Mutant("on a resume nobody asks how the last increment was borne",
                 kinds=step(LEVERS, greedy))
    for rule, (guard, change) in RULES.items():
        yield Mutant(f"neither planner nor guards know {rule}",
                     Flows(planner=lenient(change), carrier=unasked(guard)))
        if rule != "outsource: overflow_only":
            yield Mutant(f"the guards before a step do not know {rule}",
                         Flows(carrier=unasked(guard)))
    yield Mutant("what nobody can take goes to a dead home",
                 Flows(planner=all_dead, carrier=unasked("all_off")))
    yield Mutant("the guards before a step do not know blocked windows",
                 Flows(carrier=unasked("blocked")))
    yield Mutant("no guard is asked before a step", Flows(carrier=unasked()))
    yield Mutant("a guard that refuses is not heeded", answered(
        a(engine.Guard), lambda effect, reply: replace(reply, stop=None)))
    yield from _approvals()
    yield from _leases()
    for name, choice in (("eligibility is not asked", lambda *_: _Anything()),
                         ("what somebody has in hand is taken", Unlocked),
                         ("the licence of an item is not asked", Licensed),
                         ("the condition of eligibility is not asked", Unconditional)):
        yield Mutant(name, kinds=step("transfer", choosing(choice)))
    yield Mutant("a move does not check the fence between batches",
                 kinds=step("transfer", unfenced_move))
    yield Mutant("a move does not hear a stop", kinds=step("transfer", unstoppable_move))


def _approvals() -> Iterator[Mutant]:
    whole = _but()
    yield Mutant("whoever asked may approve", kinds=step("approve", approving(
        lambda own, record: whole(own, record) and (
            _others(own, record) or _name(record) == "ann"))))
    yield Mutant("an approval by somebody without the role counts", kinds=step(
        "approve", approving(lambda own, record: whole(own, record)
                             and _name(record) != "ann")))
    for what, name in (("plan", "an approval of another plan counts"),
                       ("policy", "an approval under another policy counts"),
                       ("shares", "an approval of other shares counts"),
                       ("expired", "an approval that has run out counts")):
        bound = _but(what)
        yield Mutant(name, kinds=step("approve", approving(
            lambda own, record, bound=bound: bound(own, record) and _others(own, record))))
    yield Mutant("a no is no obstacle", kinds=step("approve", deaf_to_no))
    yield Mutant("a plan is carried out unconfirmed", kinds=step("confirm", unconfirmed))


def _leases() -> Iterator[Mutant]:
    for name, store in (
        ("the journal is open to everybody", OpenJournal),
        ("the ledger is open to everybody", OpenLedger),
        ("the fence is checked with any fence", AnyFence),
        ("a lease that has run out is as good as new", AnyAge),
        ("anybody may end a run", AnyEnd),
        ("anybody may renew a lease", AnyRenewal),
        ("anybody may let a run go", AnyLapse),
        ("a run is taken from a holder at work", Robber),
        ("a new holder gets the old fence", SameFence),
        ("the store does not say that a former holder may be at work", Hasty),
        ("a run takes what another run holds", Crowded),
        ("a paused run does not keep its scope", LetGo),
    ):
        yield Mutant(name, Flows(store=store))
    yield Mutant("a lost lease is no obstacle", Flows(driver=Fearless))
    yield Mutant("a moment of lease is enough", Flows(driver=Brief),
                 equivalent="the check renews the lease first, and no step may take as long")
    yield Mutant("the heart's word of a lost lease is not heard", Flows(driver=DeafToLoss))
    for name, carrier in (("the heart never renews", NoHeart), ("the heart renews late", LateHeart),
                          ("the heart never hears a stop", DeafHeart),
                          ("a successor does not wait", Impatient),
                          ("a successor waits half as long", HalfPatient)):
        yield Mutant(name, Flows(carrier=carrier))
