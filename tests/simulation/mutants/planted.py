"""Bugs that a tired engineer could write into engine, store, mover or steps, by fresh eyes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ccfailover.model.items import ItemState, Lot, PutResult
from ccfailover.model.journal import Lease, Record
from ccfailover.model.plan import Json, Plan, StepSpec
from ccfailover.model.policy import Policy
from ccfailover.model.shares import Shares
from ccfailover.runbooks import engine
from ccfailover.runbooks.drive import Driver
from ccfailover.runbooks.engine import Applied, Result
from ccfailover.runbooks.moved import Moved
from ccfailover.runbooks.plan import make_plan
from ccfailover.runbooks.run import Run, StepStatus
from ccfailover.runbooks.step import Observed, Step, Truth
from ccfailover.simulation.clock_sim import Flow
from ccfailover.simulation.engine_sim import Carrier, Flows
from ccfailover.store import Store
from ccfailover.store.db import Transaction
from ccfailover.transfer.book import Book
from ccfailover.transfer.claims import Claims
from ccfailover.transfer.delivery import Delivery
from ccfailover.transfer.earlier import Earlier
from ccfailover.transfer.mover import Mover
from tests.simulation.mutants.effects import a, polls, said
from tests.simulation.mutants.parts import (
    LEVERS,
    Effects,
    Mutant,
    answered,
    changed,
    drop,
    everywhere,
    step,
)

# --- runs: what a process makes of the journal -----------------------------------------------


def forgetful(run: Run) -> Run:
    return replace(run, steps={name: replace(step, has_snapshot=False, snapshot=None)
                               if step.status in (StepStatus.STARTED, StepStatus.FAILED) else step
                               for name, step in run.steps.items()})


def hasty(run: Run) -> Run:
    return replace(run, steps={name: replace(step, status=StepStatus.FAILED)
                               if step.status is StepStatus.STARTED else step
                               for name, step in run.steps.items()})


def reversed_plan(run: Run) -> Run:
    plan = run.plan
    return replace(run, plan=replace(plan, branches=tuple(
        replace(branch, steps=branch.steps[::-1]) for branch in plan.branches)))


def orphaned(run: Run) -> Run:
    return replace(run, inherited={})


def only_done(run: Run) -> Run:
    """Undo passes over what is in doubt or failed."""
    return replace(run, steps={name: step if step.status is StepStatus.SUCCEEDED
                               else replace(step, has_snapshot=False)
                               for name, step in run.steps.items()})


def last_snapshot(run: Run) -> Run:
    """Each lever goes back to what it was before its last step, not before its first."""
    last: dict[str, Any] = {}
    for record in run.steps.values():
        if record.spec.lever and record.has_snapshot:
            last[record.spec.lever] = record.snapshot
    return replace(run, steps={name: replace(step, snapshot=last[step.spec.lever])
                               if step.spec.lever in last and step.has_snapshot else step
                               for name, step in run.steps.items()})


def begin_again(run: Run) -> Run:
    """A resume that does everything again, what was done included."""
    return replace(run, steps={name: replace(step, status=StepStatus.PENDING)
                               if step.status is StepStatus.SUCCEEDED else step
                               for name, step in run.steps.items()})


def doubt_is_done(run: Run) -> Run:
    return replace(run, steps={name: replace(step, status=StepStatus.SUCCEEDED)
                               if step.status is StepStatus.STARTED else step
                               for name, step in run.steps.items()})


def failed_is_passed(run: Run) -> Run:
    """A resume that goes on after the step that failed, as if somebody had skipped it."""
    return replace(run, steps={name: replace(step, status=StepStatus.SKIPPED)
                               if step.status is StepStatus.FAILED else step
                               for name, step in run.steps.items()})


def never_started(run: Run) -> Run:
    """A resume that does not look whether what was done still holds."""
    return replace(run, started_at=None)


def unbegun(run: Run) -> Run:
    """What was begun and stopped is as if it had never been."""
    return replace(run, steps={
        name: replace(step, status=StepStatus.PENDING)
        if step.status in (StepStatus.FAILED, StepStatus.SKIPPED) else step
        for name, step in run.steps.items()})


def first_attempt(run: Run) -> Run:
    return replace(run, steps={name: replace(step, attempts=0)
                               for name, step in run.steps.items()})


def forward(change: Callable[[Run], Run]) -> Flows:
    return Flows(lambda run: engine.forward(change(run)))


def backward(change: Callable[[Run], Run]) -> Flows:
    return Flows(backward=lambda run: engine.backward(change(run)))


# --- effects -----------------------------------------------------------------------------------


def trusting(flow: Effects) -> Effects:
    """Whoever applied without an error has succeeded: "200 OK" is believed."""
    reply: Any = None
    believed: str | None = None
    while True:
        try:
            effect = flow.send(reply)
        except StopIteration as end:
            return end.value
        if isinstance(effect, engine.Holds) and effect.step.id == believed:
            reply = Observed(Truth.YES, "200 OK")
            continue
        reply = yield effect
        if isinstance(effect, engine.Apply) and reply.error is None and not reply.more:
            believed = effect.step.id


def eager(run: Run) -> Effects:
    """Does the last branch of all, `after`, as soon as one queue is through."""
    flow = engine.forward(run)
    reply: Any = None
    while True:
        try:
            effect = flow.send(reply)
        except StopIteration as end:
            return end.value
        reply = yield effect
        if isinstance(effect, engine.Branches) and Result.DONE in reply:
            reply = [Result.DONE] * len(reply)


def _wrong_way(effect: engine.Apply) -> engine.Apply:
    return replace(effect, undo=not effect.undo)


def _success(effect: engine.Append) -> engine.Append:
    return engine.Append("step.succeeded", {"step": effect.data["step"], "detail": "well, nearly",
                                            "data": {}, "exceptions": []})


# --- drivers, processes, stores ------------------------------------------------------------------


class NoSmallPrint(Driver):
    """Calls every run plainly succeeded."""

    def _end(self, kind: str, data: Json) -> None:
        record = self._hands.store.end_run(self._lease, kind, data, actor=self._actor)
        self._watcher.event(record)


class OneForAll(Driver):
    """A step's object is kept by kind, not by step."""

    def _step(self, spec: StepSpec) -> Step:
        if spec.kind not in self._steps:
            self._steps[spec.kind] = super()._step(spec)
        return self._steps[spec.kind]


class UnreadIsDone(Driver):
    """What cannot be read back is taken for done."""

    def _holds(self, spec: StepSpec, snapshot: Json, undo: bool) -> Observed:
        seen = super()._holds(spec, snapshot, undo)
        return Observed(Truth.YES, seen.detail) if seen.truth is Truth.UNKNOWN else seen


class SwallowsFence(Driver):
    """Takes a lost lease for one more provider's trouble."""

    def _apply(self, spec: StepSpec, snapshot: Json, undo: bool) -> Applied:
        from ccfailover.errors import Fenced

        try:
            return super()._apply(spec, snapshot, undo)
        except Fenced as error:
            return Applied(error=str(error))


class DeafToStoreErrors(Driver):
    """Goes on when its journal could not be written."""

    def _append(self, kind: str, data: Json) -> None:
        from ccfailover.errors import Fenced, StoreError

        try:
            super()._append(kind, data)
        except Fenced:
            raise
        except StoreError:
            return


class ForwardAgain(Carrier):
    """A resume of an interrupted rollback goes forward."""

    def _drive(self, run_id: str, *, back: bool) -> Flow:
        yield from super()._drive(run_id, back=back and self.verb == "rollback")


class LooksOnce(Carrier):
    """Carries a run the way it went when it was looked at, whatever others did since."""

    def _take(self, run: Run, steal: str = "") -> Flow:
        yield from super()._take(run, steal)
        return run


class NoPermit(Driver):
    """Between two attempts of one call nobody asks whether the lease still lasts."""

    def _may_write(self, seconds: float) -> None:
        del seconds


class ShortSighted(Store):
    """Reads at most twenty events of a stream."""

    def read(self, stream: str, after: int = 0) -> list[Record]:
        return super().read(stream, after)[:20]


class ForgetsDuplicates(Store):
    def record_items(self, rows: Sequence[Any], *, lease: Lease | None,
                     lot: Lot | None = None) -> str | None:
        return super().record_items([replace(row, possible_duplicate=False) for row in rows],
                                    lease=lease, lot=lot)


class MovesWholeLots(Store):
    """Whoever is in a lot goes on with it, also what nobody knows to have arrived."""

    def _go_on(self, tx: Transaction, lot: Lot, name: str) -> str | None:
        tx.execute("UPDATE lot SET state = :state, at = :at WHERE id = :lot",
                   {"state": lot.rows[0].state.value, "at": lot.rows[0].at,
                    "lot": int(name.split()[0])})
        return name


class EndsWithoutScopes(Store):
    """A run that ended keeps its scopes for ever."""

    def end_run(self, lease: Lease, kind: str, data: Mapping[str, Any], *, actor: str) -> Record:
        record = super().end_run(lease, kind, data, actor=actor)
        with self._db._inner.transaction("keep") as tx:  # type: ignore[attr-defined]
            for scope in lease.scopes:
                tx.execute("INSERT INTO scope (name, run) VALUES (:name, :run)",
                           {"name": scope, "run": lease.run})
        return record


class HandsOnNothing(Store):
    """A successor does not get the scopes of the run that it supersedes beside its own."""

    def create_run(self, plan: Plan, **more: Any) -> tuple[str, Lease]:
        run, lease = super().create_run(plan, **more)
        with self._db._inner.transaction("lose") as tx:  # type: ignore[attr-defined]
            for scope in lease.scopes:
                if scope not in plan.scopes:
                    tx.execute("DELETE FROM scope WHERE name = :name", {"name": scope})
        return run, replace(lease, scopes=plan.scopes)


# --- lever steps ---------------------------------------------------------------------------------


def careless(found: type[Any]) -> type[Step]:
    class Careless(found):  # type: ignore[misc]
        def _raised(self, now: Any, to: Any) -> list[str]:
            return []

    return Careless


def believes_itself(found: type[Any]) -> type[Step]:
    class BelievesItself(found):  # type: ignore[misc]
        def undo_holds(self, snapshot: Any) -> Observed:
            return Observed(Truth.YES, "surely")

    return BelievesItself


def remembers(found: type[Any]) -> type[Step]:
    class Remembers(found):  # type: ignore[misc]
        """Reads the lever once, and believes that for good."""

        def holds(self, snapshot: Any) -> Observed:
            self._seen: Observed
            if not hasattr(self, "_seen") or self._seen.truth is not Truth.YES:
                self._seen = super().holds(snapshot)
            return self._seen

        def still(self, snapshot: Any) -> Observed:
            return Observed(Truth.YES, "it did")

    return Remembers


def relative(found: type[Any]) -> type[Step]:
    class Relative(found):  # type: ignore[misc]
        """Moves half of what is left instead of setting the shares."""

        def apply(self, snapshot: Any) -> bool:
            lever = self.ctx.levers.route(self.lever)
            now = lever.read()
            names = sorted(set(now.shares) | set(self.to))
            parts = {name: (now.shares.of(name) + self.to.of(name)) // 2 for name in names}
            parts[names[0]] += 100 - sum(parts.values())
            lever.shift(Shares(parts), expected=now, key=self.ctx.key)
            return True

    return Relative


def half_right(found: type[Any]) -> type[Step]:
    class HalfRight(found):  # type: ignore[misc]
        """Shares are taken for right when the largest of them is."""

        def holds(self, snapshot: Any) -> Observed:
            state = self.ctx.levers.route_view(self.lever).read()
            top = max(self.to, key=self.to.of)
            same = state.shares.of(top) >= self.to.of(top) // 2
            return Observed(Truth.YES if same else Truth.NO, f"reads {state.shares}")

    return HalfRight


def first_try_only(found: type[Any]) -> type[Step]:
    class FirstTryOnly(found):  # type: ignore[misc]
        """What failed once is applied no more."""

        def apply(self, snapshot: Any) -> bool:
            return bool(super().apply(snapshot)) if self._attempt() < 2 else True

    return FirstTryOnly


def wrong_gate(found: type[Any]) -> type[Step]:
    class WrongGate(found):  # type: ignore[misc]
        """An undo opens the gate, whatever it was before."""

        def undo_holds(self, snapshot: Any) -> Observed:
            return super().undo_holds({"open": True})

        def undo(self, snapshot: Any) -> bool:
            return bool(super().undo({"open": True}))

    return WrongGate


def idle(found: type[Any]) -> type[Step]:
    class Idle(found):  # type: ignore[misc]
        def holds(self, snapshot: Any) -> Observed:
            return Observed(Truth.YES, "surely")

    return Idle


# --- transfers -----------------------------------------------------------------------------------


def moving(kind: type[Mover] = Mover, *, book: type[Book] | None = None,
           claims: type[Claims] | None = None, delivery: type[Delivery] | None = None,
           earlier: type[Earlier] | None = None) -> Callable[[type[Any]], type[Step]]:
    """Transfers whose movers are of another class, or have parts of another."""
    def change(found: type[Any]) -> type[Step]:
        class Begins(kind):
            def _begin(self) -> None:
                super()._begin()
                if claims:
                    self._claims.__class__ = claims
                if book:
                    self._book.__class__ = book
                if earlier:
                    self._book.earlier.__class__ = earlier

        class Moving(found):  # type: ignore[misc]
            def _make(self, *args: Any, **more: Any) -> Any:
                mover = super()._make(*args, **more)
                mover.__class__ = Begins
                if delivery:
                    mover._delivery.__class__ = delivery
                return mover

        return Moving

    return change


class SettlesFirst(Mover):
    """Deletes at the source before the target has the item."""

    def _carry(self, batch: Any, ticket: int, deadline: float) -> None:
        self._claims.settle([item.handle for item in batch])
        super()._carry(batch, ticket, deadline)


class SettlesRefused(Mover):
    """Deletes what was put, taken or not."""

    def _delivered(self, outcomes: Any) -> Any:
        rows, done = super()._delivered(outcomes)
        return rows, [*done, *((each.parcel.item, each.parcel.row)
                               for each in outcomes if not each.ok)]


class NeverSettles(Mover):
    def _settle(self, pairs: Any) -> None:
        return


class ForgetsDoubt(Book):
    """Takes up a move again as if nothing were in doubt: it is sent anew, and not listed."""

    def _fetch(self, ids: Any) -> None:
        super()._fetch(ids)
        for name in ids:
            if name not in self._at_hand and name in self._rows and (
                    self._rows[name].state is ItemState.CLAIMED):
                del self._rows[name]


class OneBatch(Mover):
    """Is content with the first batch."""

    def _end(self) -> str:
        return super()._end() or ("one batch is enough" if self._book.moved else "")


class StrandsNothing(Mover):
    """Takes every delivery for settled at the end, deleted or not."""

    def _finish(self, why: str) -> Any:
        self._unproven = dict.fromkeys(self._unproven, True)
        return super()._finish(why)


class KnowsNoReturn(Earlier):
    """What came back is taken for what was left behind, and deleted."""

    def came_back(self, row: Any) -> bool:
        return False


class KnowsNoTaking(Earlier):
    """Believes a target that swallows a put, though a later move took the item away."""

    def taken_on(self, row: Any) -> bool:
        return False


class WritesLate(Book):
    """The claim is written once the item has been put."""

    def write(self, rows: Any) -> None:
        if not any(row.state is ItemState.CLAIMED for row in rows):
            super().write(rows)


class NoBook(Book):
    """What was delivered is kept in mind, and written when it is settled."""

    def write(self, rows: Any) -> None:
        if not rows or not all(row.state is ItemState.DELIVERED for row in rows):
            super().write(rows)


class EasilyEmpty(Claims):
    """One claim that comes back empty proves that nothing is left."""

    def proven_empty(self) -> bool:
        return self._empties > 0


class NeverGivesUp(Claims):
    """An item whose claim has ended is taken for still ours."""

    def secure(self, messages: Sequence[str]) -> set[str]:
        return set(messages)


class KeepsAll(Claims):
    def give_back(self) -> None:
        self._held.clear()


class OptimistDelivery(Delivery):
    """A put that was not heard of again has surely landed."""

    def _send(self, parcels: Any) -> dict[str, PutResult]:
        return {name: result._replace(ok=True, in_doubt=False) if result.in_doubt else result
                for name, result in super()._send(parcels).items()}


class PessimistDelivery(Delivery):
    """A put that was not heard of again has surely not landed."""

    def _send(self, parcels: Any) -> dict[str, PutResult]:
        return {name: result._replace(in_doubt=False)
                for name, result in super()._send(parcels).items()}


class AllOrNothing(Delivery):
    """One item of a batch is taken, so all are."""

    def _send(self, parcels: Any) -> dict[str, PutResult]:
        results = super()._send(parcels)
        if any(result.ok for result in results.values()):
            return {name: result._replace(ok=True) for name, result in results.items()}
        return results


def keeps_items(found: type[Any]) -> type[Step]:
    class KeepsItems(found):  # type: ignore[misc]
        """Its undo brings nothing back."""

        def undo_holds(self, snapshot: Any) -> Observed:
            return Observed(Truth.YES, "nothing to undo")

    return KeepsItems


def takes_all_back(found: type[Any]) -> type[Step]:
    class TakesAllBack(found):  # type: ignore[misc]
        """Its undo brings back whatever waits at the target, moved by this run or not."""

        @property
        def _by_ledger(self) -> Any:
            class Whatever(set[str]):
                def __contains__(self, item: object) -> bool:
                    return True

            class All(Moved):
                def away(self) -> set[str]:
                    return Whatever(super().away())

            found = super()._by_ledger
            found.__class__ = All
            return found

    return TakesAllBack


def clears_nothing(found: type[Any]) -> type[Step]:
    class ClearsNothing(found):  # type: ignore[misc]
        def _clear_holds(self) -> Observed:
            return Observed(Truth.YES, "surely")

    return ClearsNothing


def one_reading(found: type[Any]) -> type[Step]:
    class OneReading(found):  # type: ignore[misc]
        """A receiver that serves nobody passes."""

        def _read(self) -> tuple[str | None, str]:
            return None, "surely"

    return OneReading


# --- plans -----------------------------------------------------------------------------------


def intake_last(policy: Policy, *args: Any) -> Plan:
    """Applications are moved before the intake is redirected."""
    made = make_plan(policy, *args)

    def late(branch: Any) -> Any:
        order = sorted(branch.steps, key=lambda spec: spec.kind == "redirect_intake")
        return replace(branch, steps=tuple(order))

    return replace(made, branches=tuple(late(branch) for branch in made.branches))


def unleased(policy: Policy, *args: Any) -> Plan:
    return replace(make_plan(policy, *args), scopes=())


def mutants() -> Iterator[Mutant]:
    for name, flows in (
        ("a resume takes a new snapshot", forward(forgetful)),
        ("a resume repeats without a look", forward(hasty)),
        ("a resume does everything again", forward(begin_again)),
        ("a resume takes what is in doubt for done", forward(doubt_is_done)),
        ("a resume passes over what failed", forward(failed_is_passed)),
        ("a resume does not look at what was done", forward(never_started)),
        ("a resume counts its attempts anew", forward(first_attempt)),
        ("undo goes forwards", backward(reversed_plan)),
        ("undo forgets what it superseded", backward(orphaned)),
        ("undo passes over what is in doubt", backward(only_done)),
        ("undo goes back to the last snapshot", backward(last_snapshot)),
        ("200 OK is believed", everywhere(trusting)),
        ("one queue that is through is as good as all", Flows(eager)),
        ("apply and undo are mixed up", changed(a(engine.Apply), _wrong_way)),
        ("a failure is written as success", changed(said("step.failed"), _success)),
        ("what must be repeated is taken for done", answered(
            a(engine.Apply), lambda effect, reply: replace(reply, more=False))),
        ("no error is ever permanent", answered(
            a(engine.Apply), lambda effect, reply: replace(reply, permanent=False))),
        ("unknown is taken for held", answered(
            a(engine.Holds), lambda effect, reply: replace(reply, truth=Truth.YES)
            if reply.truth is Truth.UNKNOWN else reply)),
        ("exceptions are forgotten", answered(
            a(engine.Holds), lambda effect, reply: replace(reply, exceptions=()))),
        ("no snapshot ever fails", answered(
            a(engine.Snapshot), lambda effect, reply: replace(reply, error=None))),
        ("the clock stands still", drop(a(engine.Clock), lambda effect: 1.0)),
        ("polling never waits", drop(polls, lambda effect: False)),
        ("a stop is heard at once, and always", answered(
            a(engine.Wait), lambda effect, reply: True)),
        ("every run is plainly succeeded", Flows(driver=NoSmallPrint)),
        ("all steps of a kind share one object", Flows(driver=OneForAll)),
        ("what cannot be read back is taken for done", Flows(driver=UnreadIsDone)),
        ("a journal that cannot be written is no obstacle", Flows(driver=DeafToStoreErrors)),
        ("a resumed rollback goes forward", Flows(carrier=ForwardAgain)),
        ("a run is carried as it was when it was looked at", Flows(carrier=LooksOnce)),
        ("nobody asks before an attempt is repeated", Flows(driver=NoPermit)),
        ("a resume goes back behind a begun increment", forward(unbegun)),
        ("only the first twenty events are read", Flows(store=ShortSighted)),
        ("possible duplicates are forgotten", Flows(store=ForgetsDuplicates)),
        ("a lot goes on as a whole", Flows(store=MovesWholeLots)),
        ("a run that ended keeps its scopes", Flows(store=EndsWithoutScopes)),
        ("a successor does not get its predecessor's scopes", Flows(store=HandsOnNothing)),
        ("applications are moved before the intake is", Flows(planner=intake_last)),
        ("a plan leases nothing", Flows(planner=unleased)),
    ):
        yield Mutant(name, flows)
    yield Mutant("a lost lease is one more provider's trouble", Flows(driver=SwallowsFence),
                 equivalent="the next wait or write says so again, before anything else is done")
    yield Mutant("a refusal is never final", answered(
        a(engine.Holds), lambda effect, reply: replace(reply, final=False)))
    yield Mutant("claims are not given back", kinds=step("transfer", moving(claims=KeepsAll)),
                 equivalent="items show again when their claims end: it only takes longer")
    for name, kinds, change in (
        ("work is sent wherever the plan says", LEVERS, careless),
        ("an undo of shares believes itself", LEVERS, believes_itself),
        ("a lever is read once and for all", LEVERS, remembers),
        ("shares are moved by halves", LEVERS, relative),
        ("shares that are nearly right are right", LEVERS, half_right),
        ("a step is applied at its first attempt only", LEVERS, first_try_only),
        ("an undo opens every gate", "hold_consumers", wrong_gate),
        ("a gate is taken for closed", "hold_consumers", idle),
        ("a message is taken for sent", "notify", idle),
        ("an undo leaves the applications away", "transfer", keeps_items),
        ("an undo takes back what others brought", "transfer", takes_all_back),
        ("stranded copies are taken for deleted", "transfer", clears_nothing),
        ("nobody asks the receivers", "verify", one_reading),
        ("a move deletes before it delivers", "transfer", moving(SettlesFirst)),
        ("a move deletes what was refused", "transfer", moving(SettlesRefused)),
        ("a move never deletes", "transfer", moving(NeverSettles)),
        ("a move forgets what is in doubt", "transfer", moving(book=ForgetsDoubt)),
        ("a move is content with one batch", "transfer", moving(OneBatch)),
        ("a move strands nothing", "transfer", moving(StrandsNothing)),
        ("a claim is written after the put", "transfer", moving(book=WritesLate)),
        ("a delivery is written when it is settled", "transfer", moving(book=NoBook)),
        ("one empty claim proves an empty source", "transfer", moving(claims=EasilyEmpty)),
        ("a claim lasts for ever", "transfer", moving(claims=NeverGivesUp)),
        ("a put that was not heard of has landed", "transfer", moving(delivery=OptimistDelivery)),
        ("a put that was not heard of has not landed", "transfer",
         moving(delivery=PessimistDelivery)),
        ("one taken item of a batch is all of it", "transfer", moving(delivery=AllOrNothing)),
        ("what came back is a leftover", "transfer", moving(earlier=KnowsNoReturn)),
        ("a swallowed put is believed", "transfer", moving(earlier=KnowsNoTaking)),
    ):
        yield Mutant(name, kinds=step(kinds, change))
