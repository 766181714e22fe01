"""How long a batch waits between two puts of what the target did not take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import ItemState, PutResult, WorkItem
from ccfailover.providers import Backlog
from ccfailover.transfer.delivery import BREATH, PAUSE, Delivery, Parcel
from ccfailover.transfer.rows import Move
from tests.unit.transfer.world import VirtualRuntime

MOVE = Move("r1", "s", "applications", "hq", "acme")


class Picky(Backlog):
    """Takes all but the last `left[0]` of the first put, all but `left[1]` of the next, and answers
    for the others as it is told."""

    def __init__(self, left: Sequence[int], answer: PutResult) -> None:
        self.left, self.answer = [*left], answer
        self.puts: list[int] = []

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        self.puts.append(len(items))
        good = len(items) - (self.left.pop(0) if self.left else 0)
        return [PutResult(item.item_id, True) if number < good
                else self.answer._replace(item_id=item.item_id)
                for number, item in enumerate(items)]

    def claim(self, limit: int) -> Sequence[WorkItem]:
        raise NotImplementedError

    settle = extend = measure = claim  # type: ignore[assignment]


def waited(target: Picky) -> float:
    runtime = VirtualRuntime()
    items = [WorkItem(f"a{number}", f"m{number}", b"{}", {}, "h") for number in range(4)]
    outcomes = Delivery(target, Capabilities(), move=MOVE, runtime=runtime,
                        check_fence=lambda: None).put(
        [Parcel(item, MOVE.row(item, ItemState.CLAIMED, 0)) for item in items],
        lambda parcels: {parcel.item.item_id for parcel in parcels})
    assert all(outcome.ok for outcome in outcomes) and len(outcomes) == 4
    return runtime.seconds


@pytest.mark.parametrize(("left", "answer", "seconds"), [
    ([1], PutResult("", False), 2 * BREATH),
    ([4], PutResult("", False), 2 * PAUSE),
    ([1], PutResult("", False, retry_after=1.0), 2 * PAUSE),
    ([2], PutResult("", False, in_doubt=True), 2 * BREATH),
    ([2, 1], PutResult("", False, in_doubt=True), 2 * BREATH + 4 * PAUSE),
    ([2, 1], PutResult("", False), 2 * BREATH + 4 * BREATH),
], ids=["a few", "none taken", "asked to wait", "in doubt", "in doubt again", "a few again"])
def test_the_others_wait_long_only_for_a_target_in_trouble(
        left: Sequence[int], answer: PutResult, seconds: float) -> None:
    target = Picky(left, answer)
    assert waited(target) == pytest.approx(seconds)
    assert target.puts == [4, *left]
