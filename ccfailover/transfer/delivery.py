"""Putting a batch at the target: retried, item by item, with every doubt remembered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import LedgerRow, PutResult, WorkItem
from ccfailover.providers import Backlog
from ccfailover.runtime import SECOND, Runtime
from ccfailover.transfer.rows import Move

ATTEMPTS = 4
"""Puts of one item before it is given back to its source."""

PAUSE, BREATH = 0.2, 0.02
"""Seconds before the next put, doubled with each: see `_pause`."""

REFUSED = "target refused"
LAPSED = "its claim ended before it was delivered"


class Parcel(NamedTuple):
    """An item on its way. `doubtful`: an earlier put of it may already have landed."""

    item: WorkItem
    row: LedgerRow
    doubtful: bool = False


class Outcome(NamedTuple):
    """`ok`: the target has it. Else `reason`; `permanent` says that trying again is no use,
    `lapsed` that the claim was gone, so that nothing was sent (this time), or that where the one
    record is has still to be asked."""

    parcel: Parcel
    ok: bool
    possible_duplicate: bool
    reason: str = ""
    target_ref: str | None = None
    permanent: bool = False
    lapsed: bool = False


def swallows(capabilities: Capabilities, first_put: int, now: int) -> bool:
    """Will the target swallow a repetition now of a put first made at or after `first_put` (µs)?

    A tenth of the window, at most 30 s, is kept for the time that the put itself takes and for
    clocks that differ. A clock that went back proves nothing, and so counts as too late.
    """
    if not capabilities.idempotent_put:
        return False
    window = capabilities.put_window
    if window is None:
        return True
    age = (now - first_put) / SECOND
    return 0 <= age <= window - min(30.0, window / 10)


class Delivery:
    """Puts at one target. `check_fence` is called before every attempt."""

    def __init__(self, target: Backlog, capabilities: Capabilities, *, move: Move,
                 runtime: Runtime, check_fence: Callable[[], None]) -> None:
        self._target = target
        self._capabilities = capabilities
        self._one_system = capabilities.assignee is not None
        self._move = move
        self._runtime = runtime
        self._check_fence = check_fence

    def of(self, run: str, step: str) -> Delivery:
        """The same, with the keys of another run's step."""
        return Delivery(self._target, self._capabilities, runtime=self._runtime,
                        move=replace(self._move, run=run, step=step),
                        check_fence=self._check_fence)

    def put(self, parcels: Sequence[Parcel],
            still_ours: Callable[[Sequence[Parcel]], set[str]]) -> list[Outcome]:
        """One outcome for each parcel. `still_ours` says (by item id) which claims still hold;
        it is asked before each attempt, and what is not ours any more is not sent."""
        outcomes: list[Outcome] = []
        waiting = list(parcels)
        last: Mapping[str, PutResult] = {}
        for attempt in range(ATTEMPTS):
            if not waiting:
                break
            if attempt:
                self._runtime.sleep(_pause(last.values(), attempt) * 2**attempt
                                    * (0.5 + self._runtime.random()))
            ours = still_ours(waiting)
            if len(ours) < len(waiting):
                outcomes += [Outcome(parcel, False, self._listed(parcel), LAPSED, lapsed=True)
                             for parcel in waiting if parcel.item.item_id not in ours]
                waiting = [parcel for parcel in waiting if parcel.item.item_id in ours]
            waiting = [self._flagged(parcel) if parcel.doubtful else parcel for parcel in waiting]
            self._check_fence()
            last = self._send(waiting)
            again: list[Parcel] = []
            for parcel in waiting:
                result = last[parcel.item.item_id]
                if result.ok:
                    # Once more, by the clock after the reply: a slow put may have landed too late.
                    landed = self._flagged(parcel) if parcel.doubtful else parcel
                    if result.repeated:
                        landed = landed._replace(row=replace(landed.row, resent=True))
                    outcomes.append(Outcome(landed, True, landed.row.possible_duplicate,
                                            target_ref=result.target_ref))
                elif result.permanent and not result.in_doubt:
                    outcomes.append(Outcome(parcel, False, self._listed(parcel),
                                            _because(result), permanent=True))
                else:
                    again.append(parcel._replace(doubtful=parcel.doubtful or result.in_doubt))
            waiting = again
        return outcomes + [Outcome(
            parcel, False, self._listed(parcel), _because(last[parcel.item.item_id]),
            lapsed=self._one_system and parcel.doubtful) for parcel in waiting]

    def _flagged(self, parcel: Parcel) -> Parcel:
        """Marked before it is sent again, the more if the target could then have it twice."""
        swallowed = swallows(self._capabilities, parcel.row.at, self._runtime.now())
        return parcel._replace(row=replace(parcel.row,
            resent=True, possible_duplicate=parcel.row.possible_duplicate or not swallowed))

    def _listed(self, parcel: Parcel) -> bool:
        """Not delivered for all we know, so it stays at the source: if a put of it is in doubt,
        there may now be one here and one there, whatever the target swallows. One record of one
        system is never at two places."""
        return not self._one_system and (parcel.doubtful or parcel.row.possible_duplicate)

    def _send(self, parcels: Sequence[Parcel]) -> dict[str, PutResult]:
        """A result for every parcel, also when the adapter raises or leaves some out."""
        if not parcels:
            return {}
        items = [parcel.item.travelled() for parcel in parcels]
        keys = {parcel.item.item_id: self._move.key(parcel.item) for parcel in parcels}
        try:
            results = self._target.put(items, keys=keys)
        except Unavailable as error:
            return {item.item_id: PutResult(item.item_id, False, in_doubt=error.in_doubt,
                                            detail=str(error)) for item in items}
        except Rejected as error:
            return {item.item_id: PutResult(item.item_id, False, permanent=True,
                                            detail=str(error)) for item in items}
        except ProviderError as error:
            return {item.item_id: PutResult(item.item_id, False, in_doubt=True,
                                            detail=str(error)) for item in items}
        found = {result.item_id: result for result in results}
        silent = "the platform did not say what became of it"
        return {item.item_id: found.get(item.item_id)
                or PutResult(item.item_id, False, in_doubt=True, detail=silent)
                for item in items}


def _pause(last: Collection[PutResult], attempt: int) -> float:
    """A short one where only a few are in trouble, for which the rest of the batch waits. Not where
    the target took nothing, where it wants to be left alone for a while, or where, asked a second
    time, it may still be at work on one."""
    if any(result.retry_after for result in last) or not any(result.ok for result in last):
        return PAUSE
    return PAUSE if attempt > 1 and any(result.in_doubt for result in last) else BREATH


def _because(result: PutResult) -> str:
    """Bounded: the detail comes from outside."""
    detail = " ".join(result.detail.split())[:160]
    return f"{REFUSED}: {detail}" if detail else REFUSED
