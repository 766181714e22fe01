"""What the judge asks of work items: none lost, no duplicate unlisted, none where it may not go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ccfailover.model.books import is_canary
from ccfailover.model.health import State
from ccfailover.model.items import ItemState, LedgerRow, WorkItem
from ccfailover.model.plan import StepSpec
from ccfailover.model.policy import Policy
from ccfailover.runbooks.run import Run
from ccfailover.runtime import SECOND
from ccfailover.simulation.faults_sim import Sender
from ccfailover.simulation.world_sim import HOME, SimWorld, item_of
from ccfailover.store import Store
from ccfailover.transfer.rows import AT_TARGET, application

SLACK = 31.0
"""Seconds for which a batch may be tried again without asking anew who is down."""
PATIENCE = 60 * SECOND
"""Longer than a claim lasts and a move waits for what it is not shown, µs."""
DELIVERED = frozenset({*AT_TARGET, ItemState.RETURNED})
_DOUBTFUL = (ItemState.CLAIMED, ItemState.DELIVERED, ItemState.STRANDED)


class ItemJudge:
    """`store` is given once it exists."""

    store: Store

    def __init__(self, world: SimWorld, broken: Callable[[str, str], None]) -> None:
        self.world, self.broken = world, broken
        self.limits: Counter[str] = Counter()
        self._canaries: set[str] = set()

    def put(self, sender: Sender, items: Sequence[WorkItem], policy: Policy) -> None:
        """Work goes out only where the lender's rules, by the policy that the sender was started
        with, let each single item go, and to no site that is known to be dead."""
        site, world = sender.ref.removeprefix("jobs_").removesuffix(".fifo"), self.world
        bad = (State.DOWN, State.UNKNOWN) if sender.undo else (State.DOWN,)
        # What is in doubt is first carried to its end, wherever that is, and then brought back.
        doubtful = sender.undo and site != HOME
        told = world.told_during(site, sender.at - SLACK, sender.at)
        if told <= set(bad) and not doubtful:
            self.broken("never a dead site", f"{len(items)} items put at {site}")
        for item in items:
            name = item_of(item.body)
            if is_canary(name):
                continue
            why = world.item_stays(name, site, policy) if not sender.undo and site != HOME else ""
            if why or name in world.truth.locked:
                self.broken("only what may go goes", f"{item.item_id} sent to {site}: {why}")
            step = sender.step.rpartition(":")[2]
            if sender.undo and not any(row.step == step for row in self.store.find_item(name)):
                self.broken("undo only what was done", f"{name} sent to {site}")

    def deleting(self, ref: str, handle: str) -> None:
        """A copy is deleted only once the ledger says that somebody else has the item."""
        message = handle.partition("#")[0]
        self._canaries |= {each.message_id for each in self.world.platform.messages(ref)
                           if is_canary(item_of(each.body))}
        if message in self._canaries:
            return
        if not any(row.message_id == message and row.state in DELIVERED
                   for row in self.store.items()):
            self.broken("delivered before it is deleted", f"{message} of {ref}")

    def transferred(self, run: str, spec: StepSpec, said: Any, began: int) -> None:
        """A transfer that succeeded without exceptions has looked at everything that was there;
        with some, at everything that nobody else had in hand."""
        params, data = spec.params, said.get("data", {})
        undecided = self.store.item_counts(run=run, step=spec.id, states=(ItemState.DELIVERED,))
        if undecided[ItemState.DELIVERED]:
            self.broken("what is delivered is deleted", f"{spec.id} leaves it open")
        if params.get("percent") is not None:
            return
        source = str(params["source"])
        asked = self.world.platform.faults.met["settle"]
        if data.get("stranded") and not asked and not data.get("source_dead"):
            self.broken("what is delivered is deleted", f"{spec.id} never tried")
        if said.get("exceptions"):
            if data.get("source_dead"):
                return
            began -= PATIENCE
        handled = {row.message_id for row in self.store.items()}
        for message in self.world.messages(source):
            shown = not said.get("exceptions") or (
                message.visible_at < self.world.clock_now() - PATIENCE)
            if message.sent_at < began and message.message_id not in handled and shown:
                self.broken("what may go has gone", f"{item_of(message.body)} waits at {source}, "
                                                    f"and {spec.id} never saw it")

    def cleared(self, spec: StepSpec) -> None:
        site = str(spec.params["source"])
        left = {message.message_id for message in self.world.messages(site)}
        for row in self.store.items():
            if row.source == site and row.message_id in left and row.state in (
                    ItemState.STRANDED, ItemState.DELIVERED):
                self.broken("stranded copies are deleted", f"{application(row)} waits at {site}")

    def rolled_back(self, run: Run, said: str) -> None:
        """Items that nobody had begun are back, or the journal names them."""
        for row in self._away(run):
            ref = self.world.policy.queues[row.queue].backlogs[row.target].ref
            waiting = {item_of(message.body): message
                       for message in self.world.platform.messages(ref)}
            message = waiting.get(application(row))
            if message is None or message.receives or application(row) in said:
                continue
            self.broken("undo brings items back", f"{application(row)} still waits at {row.target}")

    def _away(self, run: Run) -> list[LedgerRow]:
        rows = [row for row in self.store.items(run=run.id) if row.state in AT_TARGET]
        back = {application(row) for row in rows if row.step.endswith("~undo")}
        return [row for row in rows if not row.step.endswith("~undo")
                and application(row) not in back and row.step in run.steps]

    def verdict(self) -> None:
        world, store = self.world, self.store
        here, done = world.copies(), world.truth.completed
        rows = list(store.items())
        listed = {application(row) for row in rows
                  if row.possible_duplicate or row.state in _DOUBTFUL}
        doubles = [item for item, sent in world.truth.items.items()
                   if here[item] + done[item] > sent and item not in listed]
        kept = world.platform.kept_although
        undeleted = {row.item_id for row in rows if row.message_id in kept}
        for row in rows:
            if is_canary(application(row)) and row.state is not ItemState.QUARANTINED:
                self.broken("a canary is no application", f"{row.item_id} is {row.state.value}")
            if row.state is ItemState.SETTLED and row.message_id not in kept and any(
                    message.message_id == row.message_id
                    for message in world.messages(row.source)):
                self.broken("settled is deleted", f"{row.item_id} at {row.source}")
        for item in world.truth.items:
            if not here[item] + done[item]:
                self.broken("no item is lost", item)
            elif item in undeleted and item in doubles:
                self.limits["the source said that it had deleted a copy, and had not"] += 1
            elif item in doubles:
                self.broken("every duplicate is listed", f"{item}: {here[item]} waiting, "
                                                         f"{done[item]} done")
