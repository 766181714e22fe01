"""What a worker does with a token: carry a part of a run's move, and nothing more than that.

The token says under which run's lease. The lease is only borrowed: the ledger refuses every write
once it is another's or has run out, and it runs out with the run's own process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock, Semaphore
from typing import TYPE_CHECKING, Protocol

from ccfailover.errors import CcfError, Fenced, UsageError
from ccfailover.model.journal import Lease
from ccfailover.model.plan import Mode
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.fanout import Token
from ccfailover.transfer.helper import Helper
from ccfailover.transfer.pace import Turn

if TYPE_CHECKING:
    from ccfailover.model.capabilities import Capabilities
    from ccfailover.model.policy import LeverSpec, Policy, Queue, Site
    from ccfailover.providers.patience import Permit
    from ccfailover.runbooks.step import Levers
    from ccfailover.runtime import Runtime
    from ccfailover.store import Store

LONGEST_CALL = 1 / 2
"""Part of the lease that must be left when a call begins; less where it says that it takes less."""

UNSEEN = 4.0
"""Seconds without word from the server that we are still there, after which we are not."""

Told = Callable[[str, Mapping[str, str | int]], None]


class Tools(Protocol):
    """Levers of one hand's own: its calls wait for no other's, and ask for leave by themselves."""

    @property
    def permit(self) -> Permit: ...

    def levers(self, mode: Mode) -> Levers: ...
    def capabilities(self, lever: LeverSpec) -> Capabilities: ...
    def close(self) -> None: ...


class Leave:
    """May the next call be made? By the store's word, or what it last promised."""

    def __init__(self, store: Store, lease: Lease, runtime: Runtime, ttl: float,
                 present: Callable[[], bool]) -> None:
        self._store, self._lease, self._runtime, self._ttl = store, lease, runtime, ttl
        self._present = present
        self._until = -math.inf

    def ask(self) -> None:
        """Raises Fenced, StoreError."""
        self._ask(self._ttl * LONGEST_CALL)

    def may(self, seconds: float) -> None:
        """Before a call that may take so long. Raises Fenced, StoreError."""
        needs = min(seconds, self._ttl * LONGEST_CALL)
        if self._until - self._runtime.monotonic() < needs:
            self._ask(needs)

    def _ask(self, needs: float) -> None:
        if not self._present():
            raise Fenced("this worker's presence is not confirmed any more", where=self._lease.run,
                         not_done="nothing more was begun")
        before = self._runtime.monotonic()
        self._until = before + self._store.check_fence(self._lease, needs)


@dataclass
class _Hand:
    """One mover of a step, idle or busy. `prefix`: of the tokens that it serves."""

    prefix: str
    helper: Helper
    tools: Tools
    busy: bool = True


class Crew:
    """At most `slots` hands at work. `told` takes what happens, in words and counts; `is_open`
    says whether tokens of a prefix have still to be done; `present` whether the server knows that
    this worker is there."""

    def __init__(self, policy: Policy, store: Store, runtime: Runtime, *, slots: int,
                 tools: Callable[[], Tools], is_open: Callable[[str], bool],
                 present: Callable[[], bool], told: Told) -> None:
        self._policy, self._store, self._runtime = policy, store, runtime
        self._tools, self._is_open, self._present = tools, is_open, present
        self._told = told
        self._hands: list[_Hand] = []
        self._room = Semaphore(slots)
        self._lock = Lock()
        self._stopping = False
        self._at_work = 0
        self.done = 0
        self.last = runtime.monotonic()

    @property
    def idle(self) -> bool:
        return self._at_work == 0

    def stop(self) -> None:
        """Finish the batches at hand, and begin none. Safe to call from a signal handler."""
        self._stopping = True

    def handle(self, value: object) -> str:
        """Do what a token asks; how it ended, in a word. Raises nothing that can be told."""
        while not self._room.acquire(timeout=0.5):
            if self._stopping:
                break
        else:
            with self._lock:
                self._at_work += 1
            try:
                return self._handle(value)
            finally:
                with self._lock:
                    self._at_work -= 1
                    self.done += 1
                    self.last = self._runtime.monotonic()
                self._room.release()
        return "left"

    def _handle(self, value: object) -> str:
        if self._stopping:
            return "left"
        try:
            token = Token.from_json(value)
        except ValueError as error:
            self._told("token.refused", {"why": str(error)})
            return "refused"
        about: dict[str, str | int] = {"run": token.under, "step": token.step,
                                       "fence": token.fence}
        if token.policy != self._policy.sha256:
            self._told("token.refused", {**about, "why": "it is of another policy",
                                         "policy": token.policy[:12]})
            return "refused"
        began = self._runtime.monotonic()
        try:
            hand = self._hand(token)
            try:
                part = hand.helper.part(token.items, began + token.seconds)
            except BaseException:
                self._drop(hand)
                raise
            hand.busy = False
        except Fenced as error:
            self._told("token.void", {**about, "why": error.what})
            return "void"
        except CcfError as error:
            self._told("token.failed", {**about, "why": str(error)})
            return "failed"
        self._told("token.done", {
            **about, "queue": token.queue, "taken": part.taken, "why": part.why,
            "ms": int((self._runtime.monotonic() - began) * 1000)})
        return "done"

    # --- hands -------------------------------------------------------------------------------

    def tend(self) -> None:
        """From time to time: idle hands keep hidden what they hold, or are done."""
        with self._lock:
            idle = [hand for hand in self._hands if not hand.busy]
            for hand in idle:
                hand.busy = True
        for hand in idle:
            try:
                if self._is_open(hand.prefix):
                    hand.helper.keep()
                    hand.busy = False
                    continue
            except CcfError as error:
                self._told("hand.dropped", {"why": str(error)})
            self._drop(hand)

    def close(self) -> None:
        for hand in list(self._hands):
            self._drop(hand)

    def _drop(self, hand: _Hand) -> None:
        with self._lock:
            if hand in self._hands:
                self._hands.remove(hand)
        hand.tools.close()

    def _hand(self, token: Token) -> _Hand:
        with self._lock:
            for hand in self._hands:
                if hand.prefix == token.prefix and not hand.busy:
                    hand.busy = True
                    return hand
        queue, target = self._policy.queues.get(token.queue), self._policy.sites.get(token.target)
        if queue is None or target is None:
            raise UsageError(f"the policy has no {token.queue} or no {token.target}")
        tools = self._tools()
        try:
            hand = _Hand(token.prefix, self._helper(token, tools, queue, target), tools)
        except BaseException:
            tools.close()
            raise
        with self._lock:
            self._hands.append(hand)
        return hand

    def _helper(self, token: Token, tools: Tools, queue: Queue, target: Site) -> Helper:
        source_lever, target_lever = queue.backlog(token.source), queue.backlog(token.target)
        if source_lever is None or target_lever is None:
            raise UsageError(f"{queue.name} has no backlog at {token.source} or {token.target}")
        lease = Lease(token.under, token.fence, (), {}, 0, 0, borrowed=True)
        leave = Leave(self._store, lease, self._runtime, self._policy.lease, self._present)
        leave.ask()
        tools.permit.given_by(leave.may)
        levers = tools.levers(Mode.REAL)
        return Helper(
            levers.backlog(source_lever), levers.backlog(target_lever), store=self._store,
            lease=lease, run=token.run, step=token.step, queue=queue, source_site=token.source,
            target_site=target, eligibility=CelEligibility(queue, target, self._runtime),
            runtime=self._runtime, target_capabilities=tools.capabilities(target_lever),
            rate_per_second=token.rate, turn=Turn(self._store, target_lever.provider),
            stop=lambda: self._stopping, check_fence=leave.ask)
