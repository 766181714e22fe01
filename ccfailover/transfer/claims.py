"""Claims at one source: taken, kept hidden, given back; and the proof that nothing is left.

The source may die in the middle of a move. Every call here is tried for a bounded time; after
that the source is `dead` for this move, and each further call answers None at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import TypeVar

from ccfailover.errors import ProviderError, Refused, Rejected, Unavailable
from ccfailover.model.items import WorkItem
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.runtime import Runtime
from ccfailover.transfer.rows import message_key

T = TypeVar("T")

EMPTY_CLAIMS = 3
"""Claims in a row that must come back empty: a short poll of a small queue may miss what is there
[AWS SQS developer guide, short polling]."""


@dataclass(slots=True)
class _Hold:
    handle: str
    until: float


class Claims:
    """Threads may share it. `give_up_after`: how long a source that does not answer is tried,
    seconds.

    `patience`: how long to wait for items that the source counts and does not show (in other
    hands, or claims of a process that was killed), seconds since the first empty claim.
    """

    def __init__(self, source: Backlog, *, runtime: Runtime, give_up_after: float,
                 patience: float) -> None:
        self._source = source
        self._runtime = runtime
        self._give_up_after = give_up_after
        self._patience = patience
        self._held: dict[str, _Hold] = {}
        self._due = 0.0
        self._lock = RLock()
        self._empties = 0
        self._empty_since: float | None = None
        self.dead = False
        self.error = ""
        self.last_measure: BacklogMeasure | None = None

    @property
    def seconds(self) -> float:
        return self._source.claim_seconds

    @property
    def held(self) -> int:
        return len(self._held)

    def _ask(self, call: Callable[[], T], *, refusal_ends: bool = True) -> T | None:
        """`call`'s answer; None when the source is dead. Safe to repeat: a claim whose reply
        was lost comes back by itself, everything else here lands in the same place twice."""
        if self.dead:
            return None
        began, pause = self._runtime.monotonic(), 0.1
        while True:
            try:
                return call()
            except Unavailable as error:
                spent = self._runtime.monotonic() - began
                if spent + pause > self._give_up_after:
                    self._die(error)
                    return None
                self._runtime.sleep(min(error.retry_after or pause, self._give_up_after - spent))
                pause = min(2.0, pause * 2) * (0.75 + self._runtime.random() / 2)
            except Rejected as error:
                if not refusal_ends:
                    raise
                self._die(error)
                return None

    def _die(self, error: ProviderError) -> None:
        self.dead = True
        self.error = str(error)[:300]

    # --- taking ------------------------------------------------------------------------------

    def take(self, limit: int) -> Sequence[WorkItem] | None:
        """A claimed batch, one entry a message (the newest handle wins); None: dead."""
        batch = self._ask(lambda: self._source.claim(limit))
        if batch is None:
            return None
        if batch:
            self._empties, self._empty_since = 0, None
        else:
            self._empties += 1
            if self._empty_since is None:
                self._empty_since = self._runtime.monotonic()
        return list({message_key(item): item for item in batch}.values())

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool] | None:
        """Delete; False: not deleted. None: dead, nothing is known."""
        if not handles:
            return {}
        return self._ask(lambda: self._source.settle(handles))

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        """True: hidden for `seconds` from now. A source that does not answer extends nothing;
        nor does one that refuses, and that alone is no reason to end the move."""
        if not handles:
            return {}
        try:
            return self._ask(lambda: self._source.extend(handles, seconds), refusal_ends=False
                             ) or {}
        except Rejected as error:
            self.error = str(error)[:300]
            return {}

    def measure(self) -> BacklogMeasure | None:
        """The platform's own count now; None when it cannot be had (the source may yet live)."""
        if self.dead:
            return None
        try:
            self.last_measure = self._source.measure()
        except ProviderError as error:
            self.error = str(error)[:300]
            return None
        return self.last_measure

    # --- keeping hidden ----------------------------------------------------------------------

    def hold(self, handles: Mapping[str, str], *, since: float) -> None:
        """Keep these claims (handles by message) alive until `give_back`, so that nobody has to
        look at them twice."""
        until = since + self.seconds
        with self._lock:
            self._due = min(self._due, until) if self._held else until
            for message, handle in handles.items():
                self._held[message] = _Hold(handle, until)

    def drop(self, *messages: str) -> None:
        with self._lock:
            for message in messages:
                self._held.pop(message, None)

    def holds(self, message: str) -> bool:
        return message in self._held

    def surely_holds(self, message: str) -> bool:
        """As `holds`, and the source says so too: a claim can have ended before its time, with
        the connection that it was made by. Where the source says nothing of it, it is held."""
        with self._lock:
            hold = self._held.get(message)
            if hold is None:
                return False
            now = self._runtime.monotonic()
            said = self.extend([hold.handle], self.seconds).get(hold.handle)
            if said:
                hold.until = now + self.seconds
            elif said is not None:
                del self._held[message]
            return said is not False

    def release(self, messages: Collection[str]) -> None:
        """Show these again at once; the others stay hidden."""
        with self._lock:
            found = [self._held.pop(each) for each in messages if each in self._held]
        self.extend([hold.handle for hold in found], 0)

    def keep_alive(self) -> None:
        """Extend the claims that have lived half their time; those that are gone are dropped."""
        with self._lock:
            now, half = self._runtime.monotonic(), self.seconds / 2
            if not self._held or self._due - now >= half:
                return  # none is due: items that stay can be many, and this is asked often
            due = {message: hold for message, hold in self._held.items()
                   if hold.until - now < half}
            kept = self.extend([hold.handle for hold in due.values()], self.seconds)
            for message, hold in due.items():
                if kept.get(hold.handle):
                    hold.until = now + self.seconds
                elif not self.dead:
                    del self._held[message]
            self._due = min((hold.until for hold in self._held.values()), default=0.0)

    def secure(self, messages: Sequence[str]) -> set[str]:
        """Those whose claim still holds, each with at least half its time left where the source
        answers. What is not in the set may be in other hands by now."""
        self.keep_alive()
        now, held = self._runtime.monotonic(), self._held
        with self._lock:
            return {message for message in messages
                    if (hold := held.get(message)) is not None and hold.until > now}

    def give_back(self) -> None:
        """Show every held item again at once. Failing that, its claim ends by itself."""
        with self._lock:
            handles = [hold.handle for hold in self._held.values()]
            self._held.clear()
        self.extend(handles, 0)

    # --- is it empty? ------------------------------------------------------------------------

    def proven_empty(self) -> bool:
        """Several empty claims, and the platform counts nothing that is not in our hands."""
        if not self.seems_empty:
            return False
        count = self.measure()
        return count is not None and count.visible == 0 and count.hidden <= self.held

    def unseen(self) -> int | None:
        """What the source counts beyond what we hold; None when it does not answer."""
        count = self.measure()
        return None if count is None else max(0, count.depth - self.held)

    def out_of_patience(self) -> bool:
        return (self._empty_since is not None
                and self._runtime.monotonic() - self._empty_since > self._patience)

    @property
    def seems_empty(self) -> bool:
        """Nothing came, several times in a row; no proof that nothing is there."""
        return self._empties >= EMPTY_CLAIMS

    def look_again(self) -> None:
        """Forget that nothing came."""
        self._empties, self._empty_since = 0, None

    def pause(self) -> None:
        """Between two empty claims; a little longer each time."""
        self._runtime.sleep(min(1.0, 0.02 * 2 ** min(self._empties, 6)))


def claims_of_one_item(source: Backlog, site: str, queue: str) -> int | None:
    """How many claims an item survives there; None: any number, or the platform does not say.

    Raises Refused when one look would use them up: items that stay would be put aside.
    """
    try:
        most = source.max_receives()
    except ProviderError:
        return None
    if most is not None and most < 2:
        raise Refused(
            f"items at {site} survive {most} claim, so that one look at an item that stays "
            "would put it aside", guard="max_receives", where=queue,
            not_done="no item was claimed",
            hint="raise the queue's maximum of receives to 3 or more")
    return most
