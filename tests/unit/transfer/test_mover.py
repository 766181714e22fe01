"""One process, no deaths: what goes, what stays, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from ccfailover.errors import Fenced, Refused, Rejected
from ccfailover.model.items import ItemState
from tests.unit.transfer.world import QUEUE, Fate, Memory, World, queue

Make = Callable[..., World]


def test_everything_goes_once_and_the_ledger_says_so(make_world: Make) -> None:
    """Each eligible item ends at the target once, and nothing is left at the source."""
    world = make_world()
    for number in range(10):
        world.hq.add(f"a{number}", submitted=f"2026-01-{number + 1:02}")
    result = world.move()
    assert world.acme.ids() == [f"a{number}" for number in range(10)]
    assert world.hq.ids() == []
    assert set(world.states().values()) == {ItemState.SETTLED}
    assert (result.moved, result.left, result.complete, result.finished) == (10, {}, True, True)
    assert result.unreachable == 0 and result.possible_duplicates == 0


def test_write_ahead_order(make_world: Make) -> None:
    """Claim, write, put, write, settle, write: in that order."""
    world = make_world()
    world.hq.add("a1")
    fate = Fate()
    world.move(fate)
    assert [call for call in fate.calls if call not in ("source.claim", "source.extend")] == [
        "record claimed", "target.put", "record delivered", "source.settle", "record settled"]
    assert fate.calls[0] == "source.claim"


def test_what_travels(make_world: Make) -> None:
    """Body, id and original submission time travel; the hop count rises; the key names the hop."""
    world = make_world()
    world.hq.add("a1", b"body", submitted="2026-01-01", hops=2)
    world.move()
    item = world.acme.travelled[0]
    assert (item.item_id, item.body, item.submitted, item.hops) == ("a1", b"body", "2026-01-01", 3)
    assert list(world.acme.keys) == ["a1:r1:3"]
    row = world.row("a1")
    assert (row.hop, row.target_ref, row.queue) == (3, "acme/a1:r1:3", QUEUE)


def test_nearest_deadline_first(make_world: Make) -> None:
    """Within what the platform shows, the oldest application goes first; those that do not say
    when they were submitted may be older still: they go before it, and are told apart."""
    world = make_world(batch=10)
    for name, day in (("c", None), ("b", "20260201"), ("a", "2026-03-01"), ("d", "2026-01-01"),
                      ("e", "NA")):
        world.hq.add(name, submitted=day)
    asks = queue(item={"id": "uli", "submitted": "application_date"})
    for _ in range(2):
        result = world.mover(queue=asks).run(1000)
        assert world.acme.puts == ["c", "e", "d", "a", "b"]
        assert (result.moved, result.undated) == (5, 2)
        assert "2 of them say no date of submission" in result.detail
    assert world.move(run="r3").undated == 0


def test_what_stays_stays_with_a_reason_and_one_more_receive(make_world: Make) -> None:
    """Ineligible, malformed and oversized items stay at the source, each claimed at most once,
    although the move takes much longer than a claim lasts; at the end they show again."""
    world = make_world()
    world.hq.add("no1", fields={"stay": "no licence"})
    world.hq.add("no2", fields={"stay": "no licence"})
    world.hq.add("", b"garbage", problem="the body is not JSON")
    world.hq.add("big", b"x" * 1001)
    world.hq.add("huge", b"x" * 2001)
    for number in range(40):
        world.hq.add(f"a{number:02}")
    result = world.mover(rate_per_second=0.2, queue=queue(max_item_bytes=1500)).run(10_000)
    assert world.runtime.seconds > 150
    assert result.left == {"no licence": 2}
    assert (result.moved, result.quarantined, result.complete) == (41, 2, True)
    assert world.hq.ids() == ["", "huge", "no1", "no2"]
    assert {message.receives for message in world.hq.messages.values()} == {1}
    assert world.hq.measure().hidden == 0
    reasons = {row.item_id: row.reason for row in world.store.items()
               if row.state is ItemState.QUARANTINED}
    assert reasons["huge"] == "oversized: more than the 1500 bytes the queue allows"
    assert "malformed: the body is not JSON" in reasons.values()


def test_what_the_target_cannot_take_is_quarantined(make_world: Make) -> None:
    """An item within the queue's limit and beyond the target's is quarantined, and says whose."""
    world = make_world()
    world.hq.add("huge", b"x" * 2001)
    world.move(queue=queue(max_item_bytes=5000))
    assert world.row("huge").reason == "oversized: more than the 2000 bytes acme can take"


def test_identical_copies_are_delivered_once(make_world: Make) -> None:
    """Of identical copies one is delivered, the others are deleted as collapsed: in one batch,
    or batches apart."""
    world = make_world()
    world.hq.add("a1", b"same")
    world.hq.add("a1", b"same")
    for number in range(2, 9):
        world.hq.add(f"a{number}")
    world.hq.add("a1", b"same")
    result = world.move()
    assert world.acme.puts.count("a1") == 1
    assert world.hq.ids() == []
    assert (result.moved, result.duplicates_collapsed, result.possible_duplicates) == (8, 2, 0)


def test_same_id_other_body_is_quarantined(make_world: Make) -> None:
    """A second item with the same id and another body is kept for a person, never dropped."""
    world = make_world()
    world.hq.add("a1", b"one")
    world.hq.add("a1", b"two")
    result = world.move()
    assert (result.moved, result.quarantined, result.duplicates_collapsed) == (1, 1, 0)
    assert [m.item.body for m in world.hq.messages.values()] == [b"two"]


def test_a_malformed_message_does_not_block_the_good_one(make_world: Make) -> None:
    """A broken copy is quarantined; the readable item with that id goes."""
    world = make_world()
    world.hq.add("a1", b"bro", problem="cut short")
    world.hq.add("a1", b"good")
    result = world.move()
    assert (result.moved, result.quarantined) == (1, 1)
    assert [item.body for item in world.acme.travelled] == [b"good"]


def test_the_ledger_holds_no_body(make_world: Make) -> None:
    """Neither body nor fields are written; the digest differs from run to run."""
    world = make_world()
    world.hq.add("a1", b"SECRET", fields={"ssn": "SECRET"})
    world.move()
    first = world.row("a1")
    world.move(run="r2", home=True)
    assert "SECRET" not in repr([first, *world.store.items()])
    assert first.digest != world.row("a1", "r2").digest


@pytest.mark.parametrize(("fates", "moved", "duplicates", "ledger"), [
    (["transient", "transient"], 1, 0, ItemState.SETTLED),
    (["permanent"], 0, 0, ItemState.LEFT),
    (["transient"] * 11, 1, 0, ItemState.SETTLED),
    (["transient"] * 12, 0, 0, ItemState.LEFT),
    (["lost"], 1, 1, ItemState.SETTLED),
    (["doubt"], 1, 1, ItemState.SETTLED),
    (["lost", "permanent"], 0, 1, ItemState.LEFT),
    (["lost"] * 11, 1, 1, ItemState.SETTLED),
    (["lost"] * 12, 0, 1, ItemState.LEFT),
    (["transient"] * 5 + ["permanent"], 0, 0, ItemState.LEFT),
])
def test_partial_failures_item_by_item(make_world: Make, fates: list[str], moved: int,
                                       duplicates: int, ledger: ItemState) -> None:
    """One item's failure is its own: retried if that helps, else given back with the reason, and
    listed when a copy may be at the target all the same. Its neighbours go."""
    world = make_world()
    world.hq.add("bad")
    world.hq.add("good1")
    world.hq.add("good2")
    world.acme.refuse["bad"] = list(fates)
    result = world.move()
    assert result.moved == 2 + moved
    assert world.row("bad").state is ledger
    assert result.possible_duplicates == duplicates
    assert world.acme.ids().count("bad") == (2 if fates == ["doubt"] else moved)
    if ledger is ItemState.LEFT:
        assert next(iter(result.left)).startswith("target refused")
        assert world.hq.ids() == ["bad"] and world.hq.measure().visible == 1


def test_what_stays_is_not_shown_again_with_what_was_not_taken(make_world: Make) -> None:
    """Four puts fail, and the target is back when nothing else is there: the item goes in the same
    run. One that may not go is looked at once."""
    world = make_world()
    world.hq.add("late")
    world.hq.add("stays", fields={"stay": "no licence"})
    world.hq.add("good")
    world.acme.refuse["late"] = ["transient"] * 4
    result = world.move()
    assert result.moved == 2 and result.refused == 0 and result.complete
    assert sorted(world.acme.ids()) == ["good", "late"]
    (kept,) = world.hq.messages.values()
    assert (kept.item.item_id, kept.receives) == ("stays", 1)
    assert sum(claim.count("late") for claim in world.hq.claims) == 2


def test_a_claim_that_ended_with_its_connection_makes_no_copy(make_world: Make) -> None:
    """The source lost its connections and shows again, under other handles, messages that have no
    ids: each is the one that was in hand, and no further copy of it."""
    world = make_world(window=None)
    for name in ("a1", "a2", "a3"):
        message = world.hq.messages[world.hq.add(name)]
        message.item = replace(message.item, message_id="")
    world.acme.refuse = {"a2": ["doubt", *["lost"] * 3]}

    cuts = iter(range(3))

    def cut(done: int, total: int | None, note: str) -> None:
        if next(cuts, None) is not None:
            for message in world.hq.messages.values():
                message.visible_at, message.handle = 0.0, "of a connection that is gone"

    result = world.move(progress=cut)
    assert result.moved == 3 and result.refused == 0
    rows = list(world.store.items())
    assert sorted(row.item_id for row in rows) == ["a1", "a2", "a3"], rows
    assert {row.state for row in rows} == {ItemState.SETTLED}
    assert not world.hq.messages and world.acme.ids().count("a2") == 1


def test_a_source_that_extends_nothing_makes_no_message_of_two(make_world: Make) -> None:
    """Two messages without ids, alike to the letter, at a source that refuses to extend a claim:
    what it says nothing of is still in hand, so that they are two, of which one is delivered."""
    world = make_world(batch=1)
    for _ in range(2):
        message = world.hq.messages[world.hq.add("a1")]
        message.item = replace(message.item, message_id="")
    world.acme.refuse = {"a1": ["transient"] * 4}

    class Refuses(Memory):
        def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
            if seconds:
                raise Rejected("claims are not extended here")
            return super().extend(handles, seconds)

    world.hq.__class__ = Refuses
    result = world.move()
    assert (result.moved, result.duplicates_collapsed) == (1, 1), result
    assert world.acme.ids() == ["a1"] and not world.hq.messages


def test_an_idempotent_target_swallows_a_retry(make_world: Make) -> None:
    """Where the put is idempotent, a repetition inside its window is no duplicate."""
    world = make_world(window=300.0)
    world.hq.add("a1")
    world.acme.refuse["a1"] = ["doubt", "lost"]
    result = world.move()
    assert (result.moved, result.possible_duplicates, world.acme.ids()) == (1, 0, ["a1"])


def test_a_target_that_takes_nothing_ends_the_move_early(make_world: Make) -> None:
    """After two whole batches the move stops claiming: no item is looked at in vain."""
    world = make_world()
    for number in range(50):
        world.hq.add(f"a{number:02}")
        world.acme.refuse[f"a{number:02}"] = ["transient"] * 9
    result = world.move()
    assert (result.moved, result.finished, result.complete) == (0, True, False)
    assert "acme takes no work" in result.detail
    assert sum(message.receives > 0 for message in world.hq.messages.values()) == 6
    assert sum(result.left.values()) == 6 and result.unreachable == 44


def test_pace(make_world: Make) -> None:
    """The target gets no more than its rate."""
    world = make_world()
    for number in range(20):
        world.hq.add(f"a{number}")
    world.move(rate_per_second=2.0)
    assert world.runtime.seconds >= 19 / 2 - 1.5


def test_a_slow_pace_is_not_taken_for_an_empty_source(make_world: Make) -> None:
    """One item a minute goes on for as long as it takes."""
    world = make_world()
    for number in range(5):
        world.hq.add(f"a{number}")
    assert world.move(rate_per_second=1 / 60).moved == 5


def test_in_somebodys_hands(make_world: Make) -> None:
    """What a consumer holds is neither moved nor taken for gone: the source is not proven empty."""
    world = make_world()
    world.hq.add("busy")
    held = world.hq.claim(1)[0].handle
    world.hq.extend([held], 10_000)
    world.hq.add("a1")
    result = world.move()
    assert (result.moved, result.complete, result.unreachable) == (1, False, 1)
    assert "counts items that it does not show" in result.detail


def test_waits_for_claims_that_end(make_world: Make) -> None:
    """What a dead consumer held comes back when its claim ends, and goes."""
    world = make_world()
    world.hq.add("held")
    world.hq.claim(1)
    world.hq.add("a1")
    result = world.move()
    assert (result.moved, result.complete) == (2, True)


def test_limit(make_world: Make) -> None:
    """No more than `limit` items go."""
    world = make_world()
    for number in range(10):
        world.hq.add(f"a{number}")
    result = world.move(limit=4)
    assert (result.moved, len(world.hq.ids()), result.complete) == (4, 6, True)


def test_slices_keep_what_stays_hidden(make_world: Make) -> None:
    """Called again and again with short deadlines, the move still looks at each item once."""
    world = make_world()
    for number in range(30):
        world.hq.add(f"a{number:02}", fields={"stay": "no"} if number % 3 == 0 else {})
    mover = world.mover(rate_per_second=0.5)
    calls = 0
    while True:
        result = mover.run(world.runtime.monotonic() + 5)
        calls += 1
        if result.finished:
            break
    assert calls > 5 and result.moved == 20 and result.left == {"no": 10}
    assert {message.receives for message in world.hq.messages.values()} == {1}


def test_stop_is_heard_between_batches(make_world: Make) -> None:
    """A stop ends the move after the batch in hand, and shows again what was kept."""
    world = make_world()
    world.hq.add("no", fields={"stay": "no"})
    for number in range(9):
        world.hq.add(f"a{number}")
    result = world.mover(stop=lambda: len(world.acme.puts) >= 2).run(3600)
    assert result.moved == 2 and not result.finished and "stopped" in result.detail
    assert world.hq.measure().hidden == 0
    assert world.move().moved == 9


def test_a_dead_source_does_not_hold_the_move_up(make_world: Make) -> None:
    """The source dies between put and delete: the target owns what it got, which is stranded;
    the rest is counted as unreachable, within the bound."""
    world = make_world()
    for number in range(8):
        world.hq.add(f"a{number}")
    world.hq.dead_settle = True
    result = world.move()
    assert world.runtime.seconds < 20
    assert (result.moved, result.stranded, result.unreachable) == (3, 3, 5)
    assert result.source_dead and "hq is out of reach" in result.detail
    assert sorted(world.states().values()) == [ItemState.STRANDED] * 3


def test_a_source_dead_from_the_start_is_unknown_not_empty(make_world: Make) -> None:
    """Nobody can say how many wait at a site that never answered: unknown, not 0."""
    world = make_world()
    world.hq.add("a1")
    world.hq.dead = True
    result = world.move()
    assert (result.moved, result.unreachable, result.complete) == (0, None, False)
    assert "cannot be told" in result.detail


def test_a_source_that_comes_back_is_cleared_on_resume(make_world: Make) -> None:
    """The same run, run again when the source lives: stranded copies go, no second put."""
    world = make_world()
    for number in range(5):
        world.hq.add(f"a{number}")
    world.hq.dead_settle = True
    world.move()
    world.hq.dead = world.hq.dead_settle = False
    world.runtime.sleep(300)
    result = world.move()
    assert (result.moved, result.stranded, world.hq.ids()) == (5, 0, [])
    assert sorted(world.acme.puts) == [f"a{number}" for number in range(5)]


def test_a_stranded_copy_that_is_gone_leaves_no_stale_reason(make_world: Make) -> None:
    """Found without its copy on the second try, an item is settled because none came back, and
    not "because" its copy could not be deleted."""
    world = make_world()
    world.hq.add("a1")
    world.hq.dead_settle = True
    world.move()
    assert world.row("a1").reason == "its copy could not be deleted at hq"
    world.hq.dead = world.hq.dead_settle = False
    world.hq.messages.clear()  # our delete had worked, unheard
    world.runtime.sleep(300)
    world.move(worked=lambda: False)
    row = world.row("a1")
    assert (row.state, row.reason) == (ItemState.SETTLED, "no copy came back at hq")


def test_near_the_last_claim(make_world: Make) -> None:
    """An item whose claims are used up stays, with the reason; one look a claim is refused."""
    world = make_world()
    world.hq.most = 5
    message = world.hq.add("worn")
    world.hq.messages[message].receives = 4
    world.hq.add("a1")
    result = world.move()
    assert result.moved == 1
    assert result.left == {"claimed 5 times of 5: the platform puts it aside next": 1}
    world.hq.most = 1
    world.hq.add("a2")
    with pytest.raises(Refused, match="survive 1 claim"):
        world.move(run="r2")
    assert "a2" in world.hq.ids()


def test_a_source_that_cannot_hide_stops_the_move_before_items_wear_out(make_world: Make) -> None:
    """Where claims cannot be kept, the same item comes again and again: the move ends first."""
    world = make_world()
    world.hq.most, world.hq.deaf = 4, True
    world.hq.add("no", fields={"stay": "no"})
    world.hq.add("busy")
    world.hq.messages["hq-m1"].visible_at = 1e9
    result = world.move(patience=1000.0)
    assert "hardly a claim left" in result.detail
    assert world.hq.messages["hq-m0"].receives == 3


def test_the_fence_stops_everything(make_world: Make) -> None:
    """Once the lease is gone, nothing more is claimed, put or deleted."""
    world = make_world()
    for number in range(9):
        world.hq.add(f"a{number}")
    beats = iter(range(100))

    def check() -> None:
        if next(beats) >= 3:
            raise Fenced("the lease is gone")

    with pytest.raises(Fenced):
        world.mover(check_fence=check).run(3600)
    before = (len(world.hq.messages), len(world.acme.messages))
    assert before == (6, 3)


def test_a_claim_that_ended_is_not_delivered(make_world: Make) -> None:
    """An item whose claim ended while the target was slow may be in other hands: it is not sent
    then; when it shows again, it is."""
    world = make_world()
    world.hq.add("a1")
    world.acme.refuse["a1"] = ["transient"]
    world.acme.delays = [31.0]
    result = world.move()
    assert (result.moved, world.acme.ids(), world.hq.ids()) == (1, ["a1"], [])
    told = [row.reason for row in world.store.item_history("a1")]
    assert "its claim ended before it was delivered" in told
    assert world.hq.claims == [["a1"], ["a1"]]


def test_a_yes_after_the_claim_has_ended_is_not_believed(make_world: Make) -> None:
    """A platform may say yes to a stale handle and delete nothing: only a copy that does not come
    back is gone."""
    world = make_world()
    world.hq.lying = True
    world.hq.add("a1")
    world.acme.delays = [31.0]
    result = world.mover(stop=lambda: bool(world.acme.puts)).run(3600)
    assert not result.finished and world.hq.ids() == ["a1"]
    assert world.row("a1").state is ItemState.DELIVERED
    world.move()
    assert world.row("a1").state is ItemState.SETTLED
    assert (world.hq.ids(), world.acme.puts) == ([], ["a1"])


def test_a_put_whose_reply_came_late_is_still_in_doubt(make_world: Make) -> None:
    """The claim ended while the reply was lost: seen again inside the target's window, the item
    is put again and swallowed; it never was a possible duplicate."""
    world = make_world(window=300.0)
    world.hq.add("a1")
    world.acme.refuse["a1"] = ["doubt"]
    world.acme.delays = [31.0]
    result = world.move()
    assert (result.moved, result.possible_duplicates, world.acme.ids()) == (1, 0, ["a1"])


def test_one_empty_claim_proves_nothing(make_world: Make) -> None:
    """Short polls miss items and counts lag: the move does not end at the first nothing."""
    world = make_world()
    world.hq.add("a1")
    world.hq.blind = 2
    assert world.move().moved == 1


def test_return_home(make_world: Make) -> None:
    """What nobody has begun goes back by the same protocol: hop count up, original time kept,
    the first run's rows become returned; what the provider has begun stays there."""
    world = make_world()
    for number in range(6):
        world.hq.add(f"a{number}", submitted="2026-01-01")
    world.move()
    begun = world.acme.claim(2)
    world.acme.settle([item.handle for item in begun])
    result = world.move(run="r2", home=True)
    assert (result.moved, len(world.hq.ids())) == (4, 4)
    states = list(world.states().values())
    assert states.count(ItemState.RETURNED) == 4 and states.count(ItemState.SETTLED) == 2
    back = next(iter(world.hq.messages.values())).item
    assert (back.hops, back.submitted) == (2, "2026-01-01")


def test_there_and_back_and_there_again(make_world: Make) -> None:
    """A second failover moves a returned item anew: it is no leftover of the first."""
    world = make_world(window=300.0)
    world.hq.add("a1")
    world.move()
    world.move(run="r2", home=True)
    world.move(run="r3")
    assert (world.hq.ids(), world.acme.ids()) == ([], ["a1"])
    assert world.states("r2") == {"a1": ItemState.RETURNED}
    assert world.states("r3") == {"a1": ItemState.SETTLED}


def test_a_stranded_item_is_not_returned_beside_its_own_copy(make_world: Make) -> None:
    """While home still holds the stranded copy, the return would make two: it waits."""
    world = make_world()
    world.hq.add("a1")
    world.hq.dead_settle = True
    world.move()
    world.hq.dead = world.hq.dead_settle = False
    result = world.move(run="r2", home=True)
    assert result.moved == 0 and "still waits at hq" in next(iter(result.left))
    assert (world.hq.ids(), world.acme.ids()) == (["a1"], ["a1"])


def test_a_later_run_deletes_what_an_earlier_one_delivered(make_world: Make) -> None:
    """A new failover finds a stranded copy at home: it is deleted there, not delivered twice."""
    world = make_world()
    world.hq.add("a1")
    world.hq.dead_settle = True
    world.move()
    world.hq.dead = world.hq.dead_settle = False
    world.runtime.sleep(60)
    world.hq.add("a2")
    result = world.move(run="r2")
    assert sorted(world.acme.puts) == ["a1", "a2"] and world.hq.ids() == []
    assert (result.moved, result.duplicates_collapsed) == (1, 1)
    assert world.states() == {"a1": ItemState.SETTLED}


def test_new_work_on_a_known_application_is_work(make_world: Make) -> None:
    """Another message about an application that once went to the target is moved, not deleted."""
    world = make_world()
    world.hq.add("a1", b"first")
    world.move()
    world.hq.add("a1", b"first")
    result = world.move(run="r2")
    assert (result.moved, world.acme.ids()) == (1, ["a1", "a1"])


def test_two_steps_of_one_run(make_world: Make) -> None:
    """A stranded copy is a leftover for another step of the same run, too."""
    world = make_world()
    world.hq.add("a1")
    world.hq.dead_settle = True
    world.move()
    world.hq.dead = world.hq.dead_settle = False
    world.runtime.sleep(60)
    world.move(step="3-transfer")
    assert world.acme.puts == ["a1"] and world.hq.ids() == []


def test_items_of_another_queue_are_not_ours(make_world: Make) -> None:
    """The ledger rows of another queue with the same ids have no say."""
    world = make_world()
    world.hq.add("a1")
    world.move()
    other = [replace(row, queue="loans", run="r0") for row in world.store.items()]
    world.store.record_items(other, lease=None)
    world.move(run="r2", home=True)
    assert {row.state for row in world.store.items(queue="loans")} == {ItemState.SETTLED}
