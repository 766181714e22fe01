"""Several batches on their way at once: they overlap, they keep the source's order, and one that
fails ends them all. Real threads, real time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import StoreError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import ItemState, LedgerRow, Lot, PutResult, WorkItem
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.transfer.lanes import Lanes
from ccfailover.transfer.mover import Mover
from tests.unit.transfer.world import ByField, queue, site

BATCH, COUNT = 20, 400


class Killed(BaseException):
    """The process is gone."""


class Shelf(Backlog):
    """Items in order; claims end when the process that made them is `gone`."""

    batch = BATCH
    claim_seconds = 60.0

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self.waiting: dict[str, str] = dict.fromkeys(names, "")
        self.copies: list[str] = list(names)
        self.claims = 0

    def claim(self, limit: int) -> Sequence[WorkItem]:
        with self._lock:
            self.claims += 1
            found = [name for name, holder in self.waiting.items() if not holder][:limit]
            self.waiting |= dict.fromkeys(found, f"h{self.claims}")
            return [WorkItem(name, f"m-{name}", b"{}", {}, f"{name}/h{self.claims}")
                    for name in found]

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        with self._lock:
            if not seconds:
                self.waiting |= {h.partition("/")[0]: "" for h in handles
                                 if h.partition("/")[0] in self.waiting}
            return dict.fromkeys(handles, True)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        with self._lock:
            return {h: self.waiting.pop(h.partition("/")[0], None) is not None for h in handles}

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        with self._lock:
            self.copies += [item.item_id for item in items]
        return [PutResult(item.item_id, ok=True) for item in items]

    def measure(self) -> BacklogMeasure:
        with self._lock:
            hidden = sum(bool(holder) for holder in self.waiting.values())
            return BacklogMeasure(len(self.waiting) - hidden, hidden, None)

    def gone(self) -> None:
        self.waiting = dict.fromkeys(self.waiting, "")


def names() -> list[str]:
    return [f"a{number:04}" for number in range(COUNT)]


def mover(source: Backlog, target: Backlog, store: Any, **more: Any) -> Mover:
    return Mover(source, target, store=store, lease=None, run="r1", step="s", queue=queue(),
                 source_site="hq", target_site=site("acme"), eligibility=ByField(),
                 runtime=SystemRuntime(), target_capabilities=Capabilities(),
                 **{"worked": lambda: False, "patience": 1.0, **more})


def run(found: Mover) -> Any:
    return found.run(SystemRuntime().monotonic() + 60)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = open_store(str(tmp_path / "store.db"), SystemRuntime())
    yield opened
    opened.close()


def test_batches_arrive_in_the_order_of_their_source(store: Store) -> None:
    """Although a later batch is ready long before an earlier one has been put."""

    class Slow(Shelf):
        def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Any:
            if int(items[0].item_id[1:]) // BATCH % 3 == 0:
                time.sleep(0.02)
            return super().put(items, keys=keys)

    source, target = Shelf(names()), Slow()
    result = run(mover(source, target, store, lanes=3))
    assert (result.moved, result.complete) == (COUNT, True)
    assert target.copies == names() and not source.waiting


def test_the_next_batch_is_claimed_while_one_is_being_put(store: Store) -> None:
    """A target that waits for the source to go on would wait for ever behind one lane."""
    source = Shelf(names())

    class Patient(Shelf):
        def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Any:
            here, end = int(items[0].item_id[1:]) // BATCH, time.monotonic() + 20
            last = COUNT // BATCH - 1
            while source.claims < min(here + 2, last + 1) and time.monotonic() < end:
                time.sleep(0.001)
            assert source.claims >= min(here + 2, last + 1), "nothing else was claimed meanwhile"
            return super().put(items, keys=keys)

    assert run(mover(source, Patient(), store, lanes=3)).moved == COUNT


def test_a_lane_that_fails_ends_the_others(store: Store) -> None:
    """Its error is told, and what was claimed meanwhile is not put any more."""
    source, target = Shelf(names()), Shelf()

    class Full:
        """A store whose disk is full when the third batch has been put."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def record_items(self, rows: Sequence[LedgerRow], *, lease: Any,
                         lot: Lot | None = None) -> str | None:
            state = (lot.rows if lot else rows)[0].state
            if state is ItemState.DELIVERED and len(target.copies) >= 3 * BATCH:
                raise StoreError("the disk is full")
            return store.record_items(rows, lease=lease, lot=lot)

    with pytest.raises(StoreError, match="disk is full"):
        run(mover(source, target, Full(), lanes=3))
    # The one that failed, and at most those whose turn had come before it was known.
    assert 3 * BATCH <= len(target.copies) <= 5 * BATCH
    assert {row.state for row in store.items()} <= {
        ItemState.CLAIMED, ItemState.DELIVERED, ItemState.SETTLED}


def test_whoever_dies_with_three_batches_in_hand_loses_none(tmp_path: Path) -> None:
    """Killed before or after any call to the target or the ledger, and taken up again."""
    for at in range(1, 60, 5):
        for after in (False, True):
            store = open_store(str(tmp_path / f"{at}-{after}.db"), SystemRuntime())
            source, target, fate = Shelf(names()), Shelf(), Fate(at, after)
            with pytest.raises(Killed):
                run(mover(source, Mortal(target, fate), Dying(store, fate), lanes=3))
            source.gone()
            result = run(mover(source, target, store, lanes=3))
            assert (result.complete, result.remaining_claimed) == (True, 0), (at, after)
            copies = Counter(target.copies)
            assert set(copies) == set(names()) and not source.waiting, (at, after)
            listed = {row.item_id for row in store.items() if row.possible_duplicate}
            assert {name for name, count in copies.items() if count > 1} <= listed, (at, after)
            assert len(target.copies) <= COUNT + 3 * BATCH
            store.close()


def test_a_turn_is_given_on_when_a_lane_has_nothing_to_put() -> None:
    """Tickets are served one after the other, whoever holds them and however they end."""
    lanes, served = Lanes(2, SystemRuntime()), list[int]()
    first, second = lanes.ticket(), lanes.ticket()

    def late() -> None:
        with lanes.turn(second) as ours:
            served.append(second if ours else -1)

    thread = threading.Thread(target=late)
    thread.start()
    with pytest.raises(ValueError, match="x"), lanes.turn(first):
        served.append(first)
        raise ValueError("x")
    thread.join(10)
    assert served == [first, second]


class Fate:
    """Strikes at the n-th call of all threads together; after that nothing works."""

    def __init__(self, at: int, after: bool) -> None:
        self._at, self._after, self._count = at, after, 0
        self._lock = threading.Lock()

    def strike(self, call: Callable[[], Any]) -> Any:
        with self._lock:
            self._count += 1
            if self._count > self._at or (self._count == self._at and not self._after):
                raise Killed
            done = call()
            if self._count == self._at:
                raise Killed
            return done


class Mortal(Backlog):
    batch, claim_seconds = BATCH, 60.0

    def __init__(self, inner: Shelf, fate: Fate) -> None:
        self._inner, self._fate = inner, fate
        self.claim, self.extend = inner.claim, inner.extend  # type: ignore[method-assign]
        self.settle, self.measure = inner.settle, inner.measure  # type: ignore[method-assign]

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Any:
        return self._fate.strike(lambda: self._inner.put(items, keys=keys))

    def claim(self, limit: int) -> Sequence[WorkItem]: ...
    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]: ...
    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]: ...
    def measure(self) -> BacklogMeasure: ...


class Dying:
    def __init__(self, inner: Store, fate: Fate) -> None:
        self._inner, self._fate = inner, fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def record_items(self, rows: Sequence[LedgerRow], *, lease: Any,
                     lot: Lot | None = None) -> Any:
        return self._fate.strike(lambda: self._inner.record_items(rows, lease=lease, lot=lot))
