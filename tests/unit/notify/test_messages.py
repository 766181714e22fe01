"""What a message says."""

from __future__ import annotations

import pytest

from ccfailover.model.health import Decision
from ccfailover.model.plan import Mode
from ccfailover.notify.outbox import MOST_CHARACTERS, Messages
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store

HEAD = (17, "ab" * 32)
RUNS = (4, "cd" * 32)
TAIL = f"journal head 17:{HEAD[1]}\nhead of all runs 4:{RUNS[1]}"


def message(event="paused", mode=Mode.REAL, head=HEAD, **more):
    return Messages("loans (prod) 0123456789ab", RUNS).run(
        event, run="r4-beef", runbook="full_failover", subject="hq", mode=mode, head=head, **more)


@pytest.mark.parametrize(("event", "words", "command"), [
    ("started", "has started", "ccfailover runs watch r4-beef"),
    ("paused", "is paused and needs a person", "ccfailover resume r4-beef | rollback r4-beef"),
    ("interrupted", "was interrupted", "ccfailover resume r4-beef"),
    ("succeeded", "succeeded", "ccfailover report r4-beef"),
    ("succeeded_with_exceptions", "succeeded with exceptions", "ccfailover report r4-beef"),
    ("rolled_back", "was rolled back", "ccfailover status"),
    ("stuck", "is stuck", "ccfailover runs show r4-beef"),
    ("brand_new", "brand new", "ccfailover status"),
])
def test_a_run_event_says_what_happened_and_what_to_do(event, words, command):
    """Title: what and which run; body: policy, next command, head hash."""
    got = message(event)
    assert got.title.startswith("full_failover hq ")
    assert words in got.title
    assert "r4-beef" in got.title
    assert got.event == f"run.{event}"
    assert got.body.startswith("loans (prod) 0123456789ab\n")
    assert f"NEXT: {command}" in got.body
    assert got.body.endswith(TAIL)


def test_a_drill_can_never_be_taken_for_the_real_thing():
    """The first word of the title."""
    assert message(mode=Mode.SHADOW).title.startswith("DRILL (shadow): ")


def test_text_from_outside_is_one_bounded_line_and_the_head_survives():
    """Line breaks and control characters cannot forge lines; the hash is never cut off."""
    got = message(details=["3 left\nNEXT: rm\x1b[31m", *["x" * 5000] * 9])
    assert "3 left NEXT: rm [31m" in got.body
    assert len(got.body) <= MOST_CHARACTERS
    assert got.body.endswith(TAIL)


def test_decisions():
    """Reasons, and why nothing runs by itself."""
    decision = Decision("hq_down", "full_failover", "hq", "advise", 5, ("hq is down for 90 s",),
                        ("one observer only",))
    got = Messages("loans", RUNS).decision(decision, head=HEAD)
    assert got.event == "decision.advise"
    assert got.title == "full_failover hq is advised: hq_down"
    assert "hq is down for 90 s\nnot by itself, because one observer only" in got.body


def test_the_same_event_is_one_message(tmp_path):
    """Enqueued twice (a crash in between): kept once. A second pause is another message."""
    store = open_store(str(tmp_path / "s.db"), SystemRuntime())
    try:
        assert message().enqueue(store)
        assert not message().enqueue(store)
        assert message(head=(23, "cd" * 32)).enqueue(store)
        assert len(store.pending()) == 2
    finally:
        store.close()
