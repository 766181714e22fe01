"""What an earlier move says of a copy that is found now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import ItemState, WorkItem
from ccfailover.runtime import SECOND
from ccfailover.transfer.delivery import swallows
from ccfailover.transfer.earlier import Earlier
from ccfailover.transfer.rows import Move

OUT = Move("r1", "s", "applications", "hq", "acme")
BACK = Move("r2", "s", "applications", "acme", "hq")
ITEM = WorkItem("a1", "m1", b"body", {}, "h1")


@pytest.mark.parametrize(("item", "found"), [
    (ITEM, True),
    (replace(ITEM, message_id="m2"), False),
    (replace(ITEM, message_id=""), True),
    (replace(ITEM, message_id="", body=b"other"), False),
    (replace(ITEM, item_id="a2"), False),
])
def test_a_leftover_is_that_very_message(item: WorkItem, found: bool) -> None:
    """The message decides; where the platform gives no ids, the body."""
    earlier = Earlier([OUT.row(ITEM, ItemState.STRANDED, 5)], run="r9", step="s")
    assert (earlier.leftover(item, "hq") is not None) is found
    assert earlier.leftover(item, "acme") is None


@pytest.mark.parametrize(("at", "found"), [(4, True), (6, False)])
def test_what_came_back_is_no_leftover(at: int, found: bool) -> None:
    """On a platform that reassigns, the message keeps its id: a return since then makes it work."""
    rows = [OUT.row(ITEM, ItemState.STRANDED, 5), BACK.row(ITEM, ItemState.SETTLED, at)]
    assert (Earlier(rows, run="r9", step="s").leftover(ITEM, "hq") is not None) is found


ON = Move("r2", "s", "applications", "acme", "beta")


@pytest.mark.parametrize("state", [ItemState.STRANDED, ItemState.DELIVERED])
def test_what_moves_on_leaves_its_copy_on_the_books(state: ItemState) -> None:
    """hq died with the copy of what acme was given, and acme hands it on to beta: that copy must
    still be found and deleted when hq is back, and only then is the first move at its end."""
    stranded = OUT.row(ITEM, state, 5)
    assert Earlier([stranded], run="r2", step="s").returned("a1", ON, 6) == []
    later = Earlier([stranded, ON.row(replace(ITEM, message_id="m2"), ItemState.SETTLED, 6)],
                    run="r3", step="s")
    assert later.leftover(ITEM, "hq") == stranded
    assert [row.state for row in later.cleared(ITEM, "hq", "r3", 7)] == [ItemState.RETURNED]


def test_what_is_settled_and_moves_on_is_returned() -> None:
    """No copy is left anywhere else: the earlier move's row has nothing more to tell."""
    settled = OUT.row(ITEM, ItemState.SETTLED, 5)
    moved = Earlier([settled], run="r2", step="s").returned("a1", ON, 6)
    assert [row.state for row in moved] == [ItemState.RETURNED]


@pytest.mark.parametrize(("idempotent", "window", "age", "swallowed"), [
    (False, None, 0, False), (True, None, 10**6, True), (True, 300.0, 0, True),
    (True, 300.0, 270, True), (True, 300.0, 271, False), (True, 40.0, 36, True),
    (True, 40.0, 37, False), (True, 300.0, -1, False),
])
def test_the_window_has_a_margin(idempotent: bool, window: float | None, age: int,
                                 swallowed: bool) -> None:
    """The window is used up to a margin; a clock that went back proves nothing."""
    able = Capabilities(idempotent_put=idempotent, put_window=window)
    assert swallows(able, 1000 * SECOND, (1000 + age) * SECOND) is swallowed
