"""What every backlog owes, against a real SQS server and the simulated platform."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from ccfailover.errors import ProviderError, Refused, Rejected, Unavailable
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers.wrappers import Patience, Retrying, ViewsOnly
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import (
    HASTY,
    SECRETS,
    BacklogSubject,
    application,
    by_id,
    until,
)


def claim_all(subject: BacklogSubject, count: int, lever: LeverSpec | None = None,
              claim_seconds: float = 120) -> list[WorkItem]:
    backlog = subject.backlog(lever or subject.with_params(claim_seconds=claim_seconds))
    items: list[WorkItem] = []
    until(lambda: items.extend(backlog.claim(10)) is None and len(items) >= count)
    assert len(items) == count
    return items


def keys_of(items: list[WorkItem]) -> dict[str, str]:
    return {item.item_id: f"{item.item_id}:r1:{item.hops}" for item in items}


def moved(item: WorkItem) -> WorkItem:
    return replace(item, hops=item.hops + 1)


def test_a_claim_hides_and_measure_tells(backlog_subject: BacklogSubject) -> None:
    """Claimed items are hidden from the next claim, and counted as hidden."""
    ids = backlog_subject.send_applications(4)
    backlog = backlog_subject.backlog()
    assert backlog.measure().visible == 4
    items = claim_all(backlog_subject, 4)
    assert sorted(item.item_id for item in items) == ids
    assert not backlog.claim(10)
    measured = backlog.measure()
    assert (measured.visible, measured.hidden, measured.depth) == (0, 4, 4)


def test_an_item_comes_decoded(backlog_subject: BacklogSubject) -> None:
    """Body bytes as sent, fields by the policy's names, the original time, a first receive."""
    backlog_subject.send(application("ULI7"))
    [item] = claim_all(backlog_subject, 1)
    assert item.problem is None
    assert item.body == application("ULI7")
    assert item.fields == {"id": "ULI7", "submitted": "2026-03-01T09:30:00Z", "state": "TX"}
    assert (item.submitted, item.hops, item.receives) == ("2026-03-01T09:30:00Z", 0, 1)
    assert item.handle and bool(item.message_id) == backlog_subject.message_ids
    assert "ULI7" not in item.handle and item.handle not in repr(item) and "TX" not in repr(
        replace(item, body=b""))


def test_a_claim_takes_no_more_than_asked(backlog_subject: BacklogSubject) -> None:
    """`limit` is obeyed, and one call never takes more than `batch`."""
    backlog_subject.send_applications(12)
    backlog = backlog_subject.backlog()
    assert len(backlog.claim(3)) <= 3
    assert len(backlog.claim(500)) <= backlog.batch
    assert backlog.claim(0) == []


def test_extending_by_zero_gives_back_at_once(backlog_subject: BacklogSubject) -> None:
    """A released item can be claimed again right away, and its receive count has risen."""
    backlog_subject.send_applications(1)
    [item] = claim_all(backlog_subject, 1)
    backlog = backlog_subject.backlog()
    assert backlog.extend([item.handle], 0) == {item.handle: True}
    [again] = claim_all(backlog_subject, 1)
    assert again.item_id == item.item_id
    assert again.receives == item.receives + 1


def test_a_claim_ends_by_itself_unless_extended(backlog_subject: BacklogSubject) -> None:
    """After claim_seconds an item is back; one that was extended is not."""
    if not lapse(backlog_subject):
        return
    backlog_subject.send_applications(2)
    kept, lost = claim_all(backlog_subject, 2, claim_seconds=2)
    backlog = backlog_subject.backlog()
    assert backlog.extend([kept.handle], 120) == {kept.handle: True}
    backlog_subject.pass_time(2.2)
    assert [item.item_id for item in backlog.claim(10)] == [lost.item_id]


def lapse(subject: BacklogSubject) -> bool:
    return subject.provider.capabilities(subject.provider.spec.params).claims_lapse


def test_a_claim_that_does_not_lapse_ends_with_its_connection(
        backlog_subject: BacklogSubject) -> None:
    """Where no clock ends a claim, it holds until its provider is closed: then all is back, and
    its handles are worth nothing."""
    if lapse(backlog_subject):
        return
    backlog_subject.send_applications(2)
    one, two = claim_all(backlog_subject, 2, claim_seconds=2)
    backlog = backlog_subject.backlog()
    handles = [one.handle, two.handle]
    assert backlog.extend(handles, 120) == dict.fromkeys(handles, True)
    assert not backlog.claim(10)
    backlog_subject.provider.close()
    assert backlog.extend(handles, 120) == dict.fromkeys(handles, False)
    assert backlog.settle(handles) == dict.fromkeys(handles, False)
    assert {item.item_id for item in claim_all(backlog_subject, 2)} == {one.item_id, two.item_id}


def test_settling_deletes(backlog_subject: BacklogSubject) -> None:
    """A settled item is gone; a handle that never was is False, beside one that is good. Of a
    record it says whether it is assigned elsewhere, and deletes nothing."""
    backlog_subject.send_applications(2)
    one, two = claim_all(backlog_subject, 2)
    backlog = backlog_subject.backlog()
    if backlog_subject.records:
        assert backlog.settle([one.handle]) == {one.handle: False}
        target = backlog_subject.backlog(backlog_subject.target)
        assert all(result.ok for result in target.put([one, two], keys=keys_of([one, two])))
        backlog_subject.send(application("stays"))
    done = backlog.settle([one.handle, "no-such-handle"])
    assert done == {one.handle: True, "no-such-handle": False}
    assert backlog_subject.count(backlog_subject.source) == 1
    assert backlog.settle([two.handle]) == {two.handle: True}
    if backlog_subject.records:
        return
    assert backlog_subject.count(backlog_subject.source) == 0
    assert backlog.settle([]) == {}


def test_settling_at_a_dead_source_is_false_not_an_exception(
        backlog_subject: BacklogSubject) -> None:
    """The source may die with its site: its items are then known as not deleted."""
    backlog_subject.send_applications(1)
    [item] = claim_all(backlog_subject, 1)
    dead = backlog_subject.backlog(port=0)
    assert dead.settle([item.handle]) == {item.handle: False}


def test_what_belongs_to_an_item_travels_with_it(backlog_subject: BacklogSubject) -> None:
    """Body, id, original time, hops and the sender's own attributes survive a move."""
    backlog_subject.send(application("ULI1"), group="branch-417")
    [item] = claim_all(backlog_subject, 1)
    target = backlog_subject.backlog(backlog_subject.target)
    [result] = target.put([moved(item)], keys={"ULI1": "ULI1:r1:1"})
    assert result.ok and result.item_id == "ULI1" and result.target_ref
    [arrived] = claim_all(backlog_subject, 1, backlog_subject.target)
    assert arrived.item_id == "ULI1"
    assert arrived.body == item.body
    assert (arrived.hops, arrived.submitted) == (1, item.submitted)
    assert arrived.attributes == item.attributes
    assert arrived.attributes["branch"] == "0417"
    assert (":group" in arrived.attributes) == backlog_subject.ordered
    assert arrived.receives == 1


def test_the_original_time_survives_two_hops(backlog_subject: BacklogSubject) -> None:
    """An item whose body has no date keeps the time of its first sending, whatever the hop."""
    backlog_subject.send(b'{"uli": "ULI1"}')
    [item] = claim_all(backlog_subject, 1)
    assert item.submitted
    backlog_subject.pass_time(1.1)
    target = backlog_subject.backlog(backlog_subject.target)
    target.put([moved(item)], keys={"ULI1": "k1"})
    [arrived] = claim_all(backlog_subject, 1, backlog_subject.target)
    assert arrived.submitted == item.submitted


def test_a_batch_of_any_size_has_a_result_for_each(backlog_subject: BacklogSubject) -> None:
    """More than ten items: one result each, in order, and every item arrives once."""
    ids = backlog_subject.send_applications(23)
    items = by_id(claim_all(backlog_subject, 23))
    ordered = [moved(items[item_id]) for item_id in reversed(ids)]
    results = backlog_subject.backlog(backlog_subject.target).put(
        ordered, keys=keys_of(ordered))
    assert [r.item_id for r in results] == list(reversed(ids))
    assert all(r.ok and not r.in_doubt for r in results)
    assert len({r.target_ref for r in results}) == 23
    bodies = backlog_subject.bodies(backlog_subject.target)
    assert sorted(bodies) == sorted(application(item_id) for item_id in ids)


def test_one_bad_item_spoils_nothing_for_the_others(backlog_subject: BacklogSubject) -> None:
    """An item that cannot be put fails permanently by itself; its neighbours arrive."""
    ids = backlog_subject.send_applications(3)
    items = by_id(claim_all(backlog_subject, 3))
    bad = replace(items[ids[1]], item_id="")
    batch = [items[ids[0]], bad, items[ids[2]]]
    results = backlog_subject.backlog(backlog_subject.target).put(batch, keys=keys_of(batch))
    assert [r.ok for r in results] == [True, False, True]
    assert results[1].permanent and not results[1].in_doubt and results[1].detail
    assert backlog_subject.count(backlog_subject.target) == 2


def test_a_batch_whose_reply_is_lost_is_in_doubt_item_by_item(
        backlog_subject: BacklogSubject) -> None:
    """Time-out after success: no exception, every item in doubt (unless it was looked after), and
    all of them are there."""
    backlog_subject.send_applications(3)
    items = claim_all(backlog_subject, 3)
    hasty = backlog_subject.backlog(backlog_subject.target, timeout=HASTY * 2)
    hasty.put([], keys={})
    warm_up(backlog_subject, hasty)
    backlog_subject.meet(*["after"] * backlog_subject.requests(3))
    results = hasty.put(items, keys=keys_of(items))
    assert [r.item_id for r in results] == [item.item_id for item in items]
    doubt = not backlog_subject.reads_back
    assert all(r.ok != doubt and r.in_doubt == doubt and not r.permanent for r in results)
    until(lambda: backlog_subject.count(backlog_subject.target) == 4)


def warm_up(subject: BacklogSubject, backlog: object) -> None:
    """One item through, so that connecting and the queue's limits are behind us."""
    [result] = backlog.put(  # type: ignore[attr-defined]
        [subject.puttable("warm")], keys={"warm": "warm:r0:0"})
    assert result.ok


def test_patience_repeats_a_put_only_where_that_is_harmless(
        backlog_subject: BacklogSubject) -> None:
    """A lost reply: an idempotent target gets the batch again and has every item once; another
    one is left in doubt, and has every item once as well."""
    backlog_subject.send_applications(2)
    items = claim_all(backlog_subject, 2)
    target = Retrying(
        backlog_subject.make(timeout=HASTY * 2), SystemRuntime(),
        patience=Patience(SystemRuntime(), first=0.01)).backlog(backlog_subject.target)
    warm_up(backlog_subject, target)
    backlog_subject.meet(*["after"] * backlog_subject.requests(2))
    results = target.put(items, keys=keys_of(items))
    until(lambda: backlog_subject.count(backlog_subject.target) >= 3)
    assert all(r.ok == backlog_subject.fifo for r in results)
    assert all(r.in_doubt != backlog_subject.fifo for r in results)
    assert backlog_subject.count(backlog_subject.target) == 3


def test_capabilities_claim_idempotence_only_where_it_is_real(
        backlog_subject: BacklogSubject) -> None:
    """The same key twice: one message exactly where `idempotent_put` says so."""
    item = backlog_subject.puttable("U1")
    target = backlog_subject.backlog(backlog_subject.target)
    for _ in range(2):
        [result] = target.put([item], keys={"U1": "U1:r1:1"})
        assert result.ok
    able = backlog_subject.provider.capabilities(
        backlog_subject.provider.spec.params,
        {"ref": backlog_subject.target.ref, **backlog_subject.target.params})
    assert able.backlogs and able.idempotent_put == backlog_subject.fifo
    assert backlog_subject.count(backlog_subject.target) == (1 if able.idempotent_put else 2)
    [result] = target.put([item], keys={"U1": "U1:r2:2"})
    if backlog_subject.records:
        assert (result.ok, result.in_doubt, result.permanent) == (False, False, True)
        assert backlog_subject.count(backlog_subject.target) == 1
        return
    assert result.ok
    assert backlog_subject.count(backlog_subject.target) == (2 if able.idempotent_put else 3)


def test_an_unreachable_target_leaves_no_doubt(backlog_subject: BacklogSubject) -> None:
    """Nobody could connect: every item failed, none may have landed, none is to blame."""
    items = [backlog_subject.puttable(f"U{n}") for n in range(2)]
    results = backlog_subject.backlog(backlog_subject.target, port=0).put(
        items, keys=keys_of(items))
    assert [(r.ok, r.in_doubt, r.permanent) for r in results] == [(False, False, False)] * 2


def test_throttling_is_no_doubt_and_no_blame(backlog_subject: BacklogSubject) -> None:
    """A throttled batch may be sent again as it is; a throttled read says when."""
    items = [backlog_subject.puttable(f"U{n}") for n in range(2)]
    target = backlog_subject.backlog(backlog_subject.target)
    warm_up(backlog_subject, target)
    backlog_subject.meet(*["throttled"] * backlog_subject.requests(2))
    results = target.put(items, keys=keys_of(items))
    assert [(r.ok, r.in_doubt, r.permanent) for r in results] == [(False, False, False)] * 2
    backlog_subject.meet("throttled")
    with pytest.raises(Unavailable) as caught:
        target.measure()
    assert caught.value.retry_after is not None and caught.value.retry_after > 0


def test_a_lost_claim_is_not_repeated(backlog_subject: BacklogSubject) -> None:
    """A claim whose reply was lost may have taken items: it is in doubt, and Retrying leaves it
    at one call, because another would raise receive counts again."""
    backlog_subject.send_applications(1)
    source = Retrying(
        backlog_subject.make(timeout=HASTY * 3), SystemRuntime(),
        patience=Patience(SystemRuntime(), first=0.01)).backlog(backlog_subject.source)
    source.measure()
    before = backlog_subject.calls()
    backlog_subject.meet("after")
    with pytest.raises(Unavailable) as caught:
        source.claim(10)
    assert caught.value.in_doubt
    assert backlog_subject.calls() == before + 1


NONSENSE = [
    (b"not json", "cannot be read"),
    (b'["a list"]', "no object"),
    (b'{"property": {"state": "TX"}}', "lacks the item's id"),
    (b'{"uli": null}', "lacks the item's id"),
    (b'{"uli": "  "}', "lacks the item's id"),
    (b'{"uli": true}', "lacks the item's id"),
    (b'{"uli": "U1\\nforged log line"}', "control characters"),
    (b'{"uli": "' + b"U" * 201 + b'"}', "too long"),
    (b'{"uli": "U1", "uli": "U2"}', "one key twice"),
    (b'{"uli": "U1", "amount": NaN}', "NaN"),
    (b"[" * 5000, "cannot be read"),
    (b'{"uli": "U1", "note": "' + b"x" * 20_001 + b'"}', "more than 20000"),
]


def test_a_body_that_makes_no_sense_is_a_problem(backlog_subject: BacklogSubject) -> None:
    """Such an item has a problem and no id; its message id tells which it is."""
    for number, (body, _) in enumerate(NONSENSE):
        backlog_subject.send(body, group=f"g{number}")
    reasons = dict(NONSENSE)
    items = claim_all(backlog_subject, len(NONSENSE))
    assert {item.body for item in items} == set(reasons)
    assert len({item.message_id or item.handle for item in items}) == len(items)
    for item in items:
        assert item.problem is not None and reasons[item.body] in item.problem
        assert item.item_id == ""
        assert "forged" not in item.problem


def test_a_number_as_id_is_its_text(backlog_subject: BacklogSubject) -> None:
    """Ids given as JSON numbers are usable."""
    backlog_subject.send(b'{"uli": 4711}')
    [item] = claim_all(backlog_subject, 1)
    assert (item.item_id, item.problem) == ("4711", None)


def test_the_receive_limit_is_known(backlog_subject: BacklogSubject) -> None:
    """`max_receives` is None without a limit, and the platform's own where there is one."""
    backlog = backlog_subject.backlog()
    assert backlog.max_receives() is None
    backlog_subject.limit_receives(3)
    assert backlog_subject.backlog().max_receives() == 3


def test_receives_are_counted_up_to_the_limit(backlog_subject: BacklogSubject) -> None:
    """Each claim raises the count by one; beyond the limit the item is put aside."""
    backlog_subject.limit_receives(2)
    backlog_subject.send_applications(1)
    backlog = backlog_subject.backlog()
    for turn in (1, 2):
        [item] = claim_all(backlog_subject, 1)
        assert item.receives == turn
        backlog.extend([item.handle], 0)
    assert bool(backlog.claim(10)) != backlog_subject.puts_aside


def test_an_unknown_queue_is_rejected(backlog_subject: BacklogSubject) -> None:
    """A ref that the platform does not have is a permanent error, on reads and claims."""
    nowhere = backlog_subject.backlog(replace(backlog_subject.source, ref="nonesuch"))
    for call in (nowhere.measure, lambda: nowhere.claim(1)):
        with pytest.raises(Rejected):
            call()


def test_writability_is_proved_without_writing(backlog_subject: BacklogSubject) -> None:
    """check_writable gives a sentence and leaves no message behind."""
    assert backlog_subject.backlog(backlog_subject.target).check_writable()
    assert backlog_subject.count(backlog_subject.target) == 0
    with pytest.raises(Unavailable):
        backlog_subject.backlog(backlog_subject.target, port=0).check_writable()


def test_hostile_replies_are_bounded_errors(backlog_subject: BacklogSubject) -> None:
    """Garbage, floods, silence and endless replies: reads raise a ProviderError, a claim gives
    nothing or raises, a put never raises and never says ok; no credential is ever shown."""
    if not backlog_subject.hostile:
        return
    item = backlog_subject.puttable("U1")
    backlog = backlog_subject.backlog(backlog_subject.target, timeout=HASTY * 2)
    warm_up(backlog_subject, backlog)
    for mode in backlog_subject.hostile:
        backlog_subject.meet(mode)
        with pytest.raises(ProviderError) as caught:
            backlog.measure()
        backlog_subject.meet(mode)
        [result] = backlog.put([item], keys={"U1": f"U1:{mode}"})
        assert not result.ok and result.in_doubt and not result.permanent, mode
        shown = [str(caught.value), json.dumps(caught.value.to_json()), repr(result)]
        assert not [s for s in SECRETS.values() if s in "\n".join(shown)], mode


def test_nothing_shows_a_credential(backlog_subject: BacklogSubject) -> None:
    """Neither provider nor backlog shows a secret in its repr or its attributes."""
    backlog = backlog_subject.backlog()
    backlog.measure()
    shown = f"{backlog_subject.provider!r} {backlog!r} {vars(backlog)!r}"
    assert not [s for s in SECRETS.values() if s in shown]


def test_a_drill_cannot_write(backlog_subject: BacklogSubject) -> None:
    """ViewsOnly measures; it gives no claim, no put, no settle, and refuses the lever."""
    backlog_subject.send_applications(1)
    views = ViewsOnly(backlog_subject.make())
    view = views.backlog_view(backlog_subject.source)
    assert view.measure().depth == 1
    assert not [name for name in ("claim", "put", "settle", "extend") if hasattr(view, name)]
    with pytest.raises(Refused) as caught:
        views.backlog(backlog_subject.source)
    assert caught.value.guard == "drill"


def test_the_policy_blocks_fit_the_schemas(backlog_subject: BacklogSubject) -> None:
    """PARAMS and LEVER are sound JSON Schemas, accept what is used here, and refuse typos."""
    kind = type(backlog_subject.provider)
    for schema in (kind.PARAMS, kind.LEVER):
        jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(dict(backlog_subject.provider.spec.params), kind.PARAMS)
    jsonschema.validate({"ref": backlog_subject.source.ref}, kind.LEVER)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"ref": "x", "typo": 1}, kind.LEVER)
