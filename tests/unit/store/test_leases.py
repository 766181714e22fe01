"""Runs, scopes and fences: one owner, and everyone else is told who."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from ccfailover.errors import Exit, Fenced, LeaseHeld, UsageError
from ccfailover.model.items import ItemState, LedgerRow
from ccfailover.store import holder, open_store, this_process


def test_a_run_is_numbered_planned_and_leased_in_one_write(store, plan_for, person, clock):
    """The chain of runs names it, its own stream begins with the plan, its scopes are taken."""
    plan = plan_for("queue:calls", "lever:edge")
    run, lease = store.create_run(plan, actor=person("mary"), ttl=30)
    (created,), (planned,) = store.read("runs"), store.read(f"run:{run}")
    assert run.startswith("r1-")
    assert created.kind == "run.created"
    assert created.data == {
        "run": run, "number": 1, "plan_hash": plan.hash, "mode": "real",
        "runbook": "full_failover", "subject": "hq", "planned": planned.hash,
    }
    assert planned.kind == "run.planned"
    assert planned.data["plan"] == plan.to_json()
    assert planned.data["actor"]["name"] == "mary"
    assert (lease.run, lease.scopes) == (run, ("queue:calls", "lever:edge"))
    assert lease.expires_at == clock.now() + 30_000_000
    (shown,) = store.leases()
    assert (shown.run, shown.fence, set(shown.scopes)) == (run, lease.fence, set(lease.scopes))
    assert shown.holder == person("mary").to_json()


def test_a_second_run_on_one_scope_is_told_who_since_when_and_what_to_do(
    store, plan_for, person
):
    """Exit code 5, the run, the holder, the instant, and commands that help."""
    run, _ = store.create_run(plan_for("queue:a", "lever:x"), actor=person("mary"), ttl=30)
    with pytest.raises(LeaseHeld) as caught:
        store.create_run(plan_for("queue:b", "lever:x"), actor=person("joe"), ttl=30)
    text = "\n".join(caught.value.lines())
    assert caught.value.exit_code is Exit.LEASE_HELD
    for needed in ("lever:x", run, "mary@elsewhere[7]", "2026-09-21 14:13:20 UTC",
                   f"resume {run}", f"rollback {run}", f"--supersede {run}"):
        assert needed in text
    assert "interrupted" not in text
    assert "queue:a" not in text
    assert store.run_ids() == [run]
    assert [record.kind for record in store.read("runs")] == ["run.created"]
    # All or none: the scope that was free is still free.
    other, _ = store.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30)
    assert other.startswith("r2-")


def test_an_interrupted_run_keeps_its_scope(store, plan_for, person, clock):
    """Its lease has run out, yet no other run starts there, and the refusal says why."""
    run, _ = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    clock.pass_time(86_400)
    with pytest.raises(LeaseHeld) as caught:
        store.create_run(plan_for("queue:a"), actor=person("joe"), ttl=30)
    text = "\n".join(caught.value.lines())
    assert f"{run} is interrupted" in text
    assert "ran out at 2026-09-21 14:13:50 UTC" in text
    assert f"ccfailover resume {run}" in text
    assert [lease.run for lease in store.leases()] == [run]


def test_every_append_renews_and_an_expired_lease_writes_nothing(
    store, plan_for, person, clock
):
    """A run that works keeps its lease; one that was silent too long is fenced."""
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    for _ in range(4):
        clock.pass_time(29)
        store.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
    assert store.leases()[0].expires_at == clock.now() + 30_000_000
    clock.pass_time(30)
    assert not store.fence_is_ours(lease)
    for write in (
        lambda: store.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease),
        lambda: store.append("automation", "note", {}, actor="mary", lease=lease),
        lambda: store.renew(lease, 30),
        lambda: store.check_fence(lease, 1),
        lambda: store.release(lease),
        lambda: store.end_run(lease, "run.succeeded", {}, actor="mary"),
        lambda: store.record_items([_row(run)], lease=lease),
    ):
        with pytest.raises(Fenced, match="ran out at 2026-09-21") as caught:
            write()
        assert caught.value.not_done
    assert store.head(f"run:{run}")[0] == 5
    assert store.head("automation")[0] == 0
    assert store.find_item("u1") == []


def test_a_stale_holder_is_fenced_after_a_takeover(store, plan_for, person, clock):
    """The fence rises with each holder, and the former one learns who took over."""
    run, old = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    clock.pass_time(31)
    new, wait = store.acquire(run, actor=person("joe", pid=8), ttl=30)
    assert (new.fence, new.scopes, wait) == (old.fence + 1, old.scopes, True)
    with pytest.raises(Fenced, match=r"joe@elsewhere\[8\] took it over"):
        store.append(f"run:{run}", "step.succeeded", {}, actor="mary", lease=old)
    record = store.append(f"run:{run}", "run.resumed", {}, actor="joe", lease=new)
    assert record.fence == new.fence
    assert record.seq == 2
    assert (store.fence_is_ours(old), store.fence_is_ours(new)) == (False, True)


def test_a_live_lease_elsewhere_cannot_be_taken(store, plan_for, person):
    """Of a process on another machine nothing is known, so its time has to run out."""
    run, _ = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    for thief in (person("joe", pid=8), person("mary", host="third"), person("mary", boot="c"),
                  person("mary", started="2")):
        with pytest.raises(LeaseHeld, match=r"mary@elsewhere\[7\] since 2026-09-21"):
            store.acquire(run, actor=thief, ttl=30)


def test_this_very_process_may_take_its_run_up_again(store, plan_for, person):
    """No wait, but a new fence all the same."""
    run, old = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    lease, wait = store.acquire(run, actor=person("joe"), ttl=30)
    assert (lease.fence, wait) == (old.fence + 1, False)
    assert lease.holder["name"] == "joe"


def test_superseding_hands_the_scopes_over_and_ends_the_former_run(store, plan_for, person):
    """The new run holds its own scopes and the former's; the former is fenced for good."""
    one, old = store.create_run(plan_for("queue:a", "lever:x"), actor=person("mary"), ttl=30)
    two, new = store.create_run(
        plan_for("queue:a", "queue:b"), actor=person("joe"), ttl=30, supersedes=(one,)
    )
    assert new.fence > old.fence
    assert new.scopes == ("queue:a", "queue:b", "lever:x")
    last = store.read(f"run:{one}")[-1]
    assert (last.kind, last.data) == ("run.superseded", {"by": two})
    kinds = [(record.kind, record.data["run"]) for record in store.read("runs")]
    assert kinds == [("run.created", one), ("run.ended", one), ("run.created", two)]
    with pytest.raises(Fenced, match=r"has ended \(superseded\)"):
        store.append(f"run:{one}", "step.started", {}, actor="mary", lease=old)
    with pytest.raises(UsageError, match="has ended"):
        store.acquire(one, actor=person("mary"), ttl=30)
    with pytest.raises(LeaseHeld, match=two):
        store.create_run(plan_for("lever:x"), actor=person("eve"), ttl=30)
    # Also after it was taken up again, what it inherited stays with it.
    again, _ = store.acquire(two, actor=person("joe"), ttl=30)
    assert set(again.scopes) == {"queue:a", "queue:b", "lever:x"}
    assert store.verify() == []


def test_several_runs_are_superseded_in_one_write(store, plan_for, person):
    """All their scopes, or, with one that has ended among them, nothing at all."""
    one, first = store.create_run(plan_for("queue:a", "lever:x"), actor=person("mary"), ttl=30)
    two, _ = store.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30)
    gone, ended = store.create_run(plan_for("queue:c"), actor=person("joe"), ttl=30)
    store.end_run(ended, "run.succeeded", {}, actor="joe")
    with pytest.raises(UsageError, match="has ended"):
        store.create_run(plan_for("queue:a"), actor=person("eve"), ttl=30,
                         supersedes=(one, gone))
    assert store.fence_is_ours(first)
    three, lease = store.create_run(plan_for("queue:a", "queue:b"), actor=person("eve"), ttl=30,
                                    supersedes=(one, two))
    assert set(lease.scopes) == {"queue:a", "lever:x", "queue:b"}
    assert store.read(f"run:{three}")[0].data["supersedes"] == [one, two]
    assert store.open_run_ids() == [three]
    assert store.verify() == []


def test_a_former_holder_that_may_be_at_work_is_journaled(store, plan_for, person, clock):
    """`doubt_until` is one lease time away, so that whoever carries the run on knows how long to
    wait; it goes on to a successor, and is over once it is over."""
    def first_of(run):
        return store.read(f"run:{run}")[0].data

    one, _ = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    two, lease = store.create_run(plan_for("queue:a"), actor=person("eve", pid=8), ttl=30,
                                  supersedes=(one,))
    until = clock.now() + 30_000_000
    assert first_of(two)["doubt_until"] == until
    clock.pass_time(10)
    store.lapse(lease)
    three, lease = store.create_run(plan_for("queue:a"), actor=person("joe", pid=9), ttl=30,
                                    supersedes=(two,))
    assert first_of(three)["doubt_until"] == until, "the first holder, not the one that let go"
    store.lapse(lease)
    clock.pass_time(20)
    four, _ = store.create_run(plan_for("queue:a"), actor=person("joe", pid=9), ttl=30,
                               supersedes=(three,))
    assert "doubt_until" not in first_of(four)
    five, _ = store.create_run(plan_for("queue:a"), actor=person("joe", pid=9), ttl=30,
                               supersedes=(four,))
    assert "doubt_until" not in first_of(five), "this very process"


def test_whoever_comes_second_to_supersede_is_told_of_the_first(store, plan_for, person):
    """The run that both wanted is gone: in the way is the one that was quicker."""
    one, _ = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    two, _ = store.create_run(plan_for("queue:a"), actor=person("eve"), ttl=30,
                              supersedes=(one,))
    with pytest.raises(LeaseHeld, match=two):
        store.create_run(plan_for("queue:a"), actor=person("joe"), ttl=30, supersedes=(one,))


def test_a_live_lease_is_stolen_with_a_reason(store, plan_for, person, clock):
    """Journaled in the run and in `automation`; the former holder is told by whom and why, also
    once the run has ended; what nobody holds is not stolen but taken."""
    run, old = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    clock.pass_time(5)
    with pytest.raises(LeaseHeld) as caught:
        store.acquire(run, actor=person("joe", pid=8), ttl=30)
    assert "--steal --reason" in str(caught.value.hint)
    new, wait = store.acquire(run, actor=person("joe", pid=8), ttl=30, steal="it hangs")
    assert (new.fence, wait) == (old.fence + 1, True)
    stolen = store.read(f"run:{run}")[-1]
    assert (stolen.kind, stolen.fence, stolen.data) == ("lease.stolen", new.fence, {
        "run": run, "from": "mary@elsewhere[7]", "reason": "it hangs",
        "doubt_until": clock.now() + 30_000_000})
    assert [r.data for r in store.read("automation")] == [stolen.data]
    told = r"joe@elsewhere\[8\] stole it: it hangs"
    with pytest.raises(Fenced, match=told):
        store.append(f"run:{run}", "step.started", {}, actor="mary", lease=old)
    store.lapse(new)
    last, wait = store.acquire(run, actor=person("eve", pid=9), ttl=30, steal="in a hurry")
    assert wait is False
    assert len([r for r in store.read(f"run:{run}") if r.kind == "lease.stolen"]) == 1
    store.end_run(last, "run.aborted", {}, actor="eve")
    with pytest.raises(Fenced, match=rf"has ended \(aborted\); {told}"):
        store.renew(old, 30)
    with pytest.raises(Fenced) as caught:
        store.renew(new, 30)
    assert "stole" not in str(caught.value)
    assert store.verify() == []


def test_superseding_one_run_does_not_push_a_third_aside(store, plan_for, person):
    """Only the named run gives way; then nothing is changed at all."""
    one, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    two, _ = store.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30)
    with pytest.raises(LeaseHeld, match=two):
        store.create_run(plan_for("queue:a", "queue:b"), actor=person("eve"), ttl=30,
                         supersedes=(one,))
    assert store.fence_is_ours(lease)
    assert store.open_run_ids() == [one, two]
    for wrong in ("r9-none", ""):
        with pytest.raises(UsageError, match="no run"):
            store.create_run(plan_for("queue:c"), actor=person("eve"), ttl=30, supersedes=(wrong,))


def test_every_run_in_the_way_is_named(store, plan_for, person):
    """Two runs hold one scope each: the refusal says so at once."""
    one, _ = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    two, _ = store.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30)
    with pytest.raises(LeaseHeld) as caught:
        store.create_run(plan_for("queue:a", "queue:b"), actor=person("eve"), ttl=30)
    assert one in str(caught.value)
    assert f"also in the way: {two}" in str(caught.value)


def test_ending_a_run_seals_it_and_frees_its_scopes(store, plan_for, person):
    """Its last hash stands in the chain of runs, and the next run can start there."""
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    record = store.end_run(lease, "run.rolled_back", {"why": "x"}, actor="mary")
    ended = store.read("runs")[-1]
    assert (ended.kind, ended.data) == ("run.ended", {
        "run": run, "number": 1, "state": "rolled_back", "head": record.hash, "seq": 2})
    assert store.head(f"run:{run}") == (2, record.hash)
    assert store.leases() == []
    with pytest.raises(Fenced, match=r"has ended \(rolled_back\)"):
        store.end_run(lease, "run.succeeded", {}, actor="mary")
    second, next_lease = store.create_run(plan_for("queue:a"), actor=person("joe"), ttl=30)
    assert second.startswith("r2-")
    assert next_lease.fence > lease.fence
    assert store.verify() == []


def test_a_released_run_can_be_taken_up_if_its_scopes_are_still_free(store, plan_for, person):
    """Release frees the scopes, not the run; whoever took them meanwhile is in the way."""
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    store.release(lease)
    assert [(left.run, left.scopes, left.holder) for left in store.leases()] == [(run, (), {})]
    with pytest.raises(Fenced, match="given back"):
        store.append(f"run:{run}", "step.started", {}, actor="mary", lease=lease)
    again, wait = store.acquire(run, actor=person("joe"), ttl=30)
    assert (again.scopes, wait) == (("queue:a",), False)
    store.release(again)
    other, _ = store.create_run(plan_for("queue:a"), actor=person("eve"), ttl=30)
    with pytest.raises(LeaseHeld, match=other):
        store.acquire(run, actor=person("joe"), ttl=30)


def test_a_run_that_was_let_go_keeps_its_scopes_and_waits_for_anyone(
    store, plan_for, person, clock
):
    """Paused: nobody else starts there, and whoever resumes it need not wait."""
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    clock.pass_time(5)
    store.lapse(lease)
    assert [(left.scopes, left.holder) for left in store.leases()] == [(("queue:a",), {})]
    for act in (lambda: store.append(f"run:{run}", "x", {}, actor="mary", lease=lease),
                lambda: store.lapse(lease)):
        with pytest.raises(Fenced, match="given back"):
            act()
    with pytest.raises(LeaseHeld) as caught:
        store.create_run(plan_for("queue:a"), actor=person("eve"), ttl=30)
    text = "\n".join(caught.value.lines())
    assert f"run {run} was let go at 2026-09-21 14:13:25 UTC" in text
    assert f"ccfailover resume {run}" in text
    assert "None" not in text
    taken, wait = store.acquire(run, actor=person("joe", pid=8), ttl=30)
    assert (taken.scopes, wait) == (("queue:a",), False)
    assert store.verify() == []


def test_a_run_without_scopes_still_has_one_owner(store, plan_for, person, clock):
    """A shadow drill takes no lever, but two processes must not drive it."""
    run, lease = store.create_run(plan_for(), actor=person("mary"), ttl=30)
    with pytest.raises(LeaseHeld):
        store.acquire(run, actor=person("joe", pid=8), ttl=30)
    clock.pass_time(31)
    store.acquire(run, actor=person("joe", pid=8), ttl=30)
    with pytest.raises(Fenced):
        store.append(f"run:{run}", "x", {}, actor="mary", lease=lease)
    assert [(found.run, found.scopes) for found in store.leases()] == [(run, ())]


def test_check_fence_renews_and_refuses_a_step_longer_than_the_lease(
    store, plan_for, person, clock
):
    """A step starts only with more lease left than it may take."""
    _, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    clock.pass_time(25)
    store.check_fence(lease, 30)
    assert store.leases()[0].expires_at == clock.now() + 30_000_000
    with pytest.raises(Fenced, match="lasts 30 s, the step may take 31 s"):
        store.check_fence(lease, 31)
    longer = store.renew(lease, 60)
    assert longer.expires_at == clock.now() + 60_000_000
    store.check_fence(longer, 31)


def test_a_borrowed_lease_is_good_for_writing_and_never_prolonged(
    store, plan_for, person, clock
):
    """A helper's writes do not keep a run alive whose own process is dead; nor do its questions."""
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    borrowed = replace(lease, borrowed=True)
    row = LedgerRow(run, "2-transfer", "a1", "applications", "hq", "acme", ItemState.CLAIMED, 1)
    clock.pass_time(20)
    store.record_items([row], lease=borrowed)
    assert store.check_fence(borrowed, 10.0) == 10.0
    assert store.leases()[0].expires_at == lease.expires_at
    with pytest.raises(Fenced):
        store.check_fence(borrowed, 10.1)
    clock.pass_time(10)
    with pytest.raises(Fenced):
        store.record_items([replace(row, state=ItemState.DELIVERED)], lease=borrowed)
    store.acquire(run, actor=person("joe"), ttl=30)
    with pytest.raises(Fenced):
        store.record_items([replace(row, state=ItemState.DELIVERED)], lease=borrowed)
    assert [each.state for each in store.items(run=run)] == [ItemState.CLAIMED]


def test_a_lease_that_was_renewed_a_moment_ago_is_only_looked_at(store, plan_for, person, clock):
    """A step that has just been begun costs no third durable write; its fence is looked at all
    the same, and a lease that has lost a third of its time is renewed."""
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    ends = lease.expires_at
    clock.pass_time(9)
    store.check_fence(lease, 20)
    assert store.leases()[0].expires_at == ends
    store.check_fence(lease, 25)  # more than is left: it has to be renewed
    assert store.leases()[0].expires_at == clock.now() + 30_000_000
    clock.pass_time(11)
    store.check_fence(lease, 1)
    assert store.leases()[0].expires_at == clock.now() + 30_000_000
    store.create_run(plan_for("queue:a"), actor=person("joe", pid=8), ttl=30, supersedes=(run,))
    with pytest.raises(Fenced):
        store.check_fence(lease, 1)


def test_a_run_is_found_by_number_beginning_or_as_the_only_open_one(
    store, plan_for, person
):
    """`17`, `r17`, a unique beginning, or nothing at all when one run is open."""
    with pytest.raises(UsageError, match="no run is open"):
        store.find_run(None)
    made = [store.create_run(plan_for(f"queue:{n}"), actor=person("mary"), ttl=30)
            for n in range(11)]
    ids = [run for run, _ in made]
    assert store.run_ids() == ids
    assert store.find_run("1") == store.find_run("r1") == ids[0]
    assert store.find_run("11") == store.find_run(ids[10]) == store.find_run(ids[10][:6]) == ids[10]
    with pytest.raises(UsageError, match="11 runs are open") as caught:
        store.find_run(None)
    assert ids[0] in str(caught.value.hint)
    with pytest.raises(UsageError, match="means 11 runs"):
        store.find_run("r")
    for missing in ("12", "r1-ffff", "", "x" * 10_000, "%"):
        with pytest.raises(UsageError, match="there is no run") as caught:
            store.find_run(missing)
        assert len(str(caught.value)) < 300
    for _, lease in made[1:]:
        store.end_run(lease, "run.succeeded", {}, actor="mary")
    assert store.find_run(None) == ids[0]


SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


def test_a_dead_process_of_this_host_frees_its_run_at_once(store, plan_for, python):
    """kill -9, not even reaped: the successor neither waits for the lease nor after it."""
    child = subprocess.Popen([*python, "-c", SLEEPER], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        theirs = _actor_of(child.pid)
        run, lease = store.create_run(plan_for("queue:a"), actor=theirs, ttl=3600)
        assert store.holder_alive(lease) is True
        with pytest.raises(LeaseHeld):
            store.acquire(run, actor=this_process("joe"), ttl=30)
        child.send_signal(signal.SIGKILL)
        _wait_until(lambda: holder._started(child.pid)[1] == "Z")
        assert store.holder_alive(lease) is False
        taken, wait = store.acquire(run, actor=this_process("joe"), ttl=30)
        assert (taken.fence, wait) == (lease.fence + 1, False)
        assert store.holder_alive(taken) is True
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert holder.alive(theirs.to_json()) is False


def test_a_pid_that_was_given_again_is_not_the_holder(store, plan_for, person):
    """Same host, boot and pid, but another start time: the holder is gone."""
    me = this_process("me")
    assert holder.alive(me.to_json()) is True
    assert holder.alive({**me.to_json(), "started": "1"}) is False
    assert holder.alive({**me.to_json(), "pid": 2**22 + 12345}) is False
    assert holder.alive({**me.to_json(), "pid": 1, "started": holder._started(1)[0]}) is True
    for unknown in ({"host": "elsewhere"}, {"boot": "another"}, {"boot": ""}, {"started": ""},
                    {"pid": 0}, {"pid": -1}, {"pid": "x"}):
        assert holder.alive({**me.to_json(), **unknown}) is None
    assert holder.alive({}) is None


def test_a_stopped_holder_that_wakes_up_late_writes_nothing(new_location, plan_for, python):
    """SIGSTOP beyond the lease, takeover, SIGCONT: the former holder is fenced."""
    from ccfailover.runtime import SystemRuntime

    path = new_location()
    store = open_store(path, SystemRuntime())
    program = f"""
from ccfailover.store import open_store, this_process
from ccfailover.runtime import SystemRuntime
from ccfailover.errors import Fenced
import sys
store = open_store({path!r}, SystemRuntime())
lease, _ = store.acquire(sys.stdin.readline().strip(), actor=this_process("late"), ttl=0.3)
print("mine", flush=True)
sys.stdin.readline()
try:
    store.append("run:" + lease.run, "step.succeeded", {{}}, actor="late", lease=lease)
    print("written", flush=True)
except Fenced:
    print("fenced", flush=True)
"""
    run, lease = store.create_run(plan_for("queue:a"), actor=this_process("me"), ttl=30)
    store.release(lease)
    child = subprocess.Popen([*python, "-c", program], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        print(run, file=child.stdin)
        assert child.stdout.readline() == "mine\n"
        child.send_signal(signal.SIGSTOP)
        _wait_until(lambda: store.leases()[0].expires_at < time.time_ns() // 1000)
        new, wait = store.acquire(run, actor=this_process("me"), ttl=30)
        assert wait is True, "the former holder is stopped, not gone"
        before = store.head(f"run:{run}")
        child.send_signal(signal.SIGCONT)
        print("go", file=child.stdin)
        assert child.stdout.readline() == "fenced\n"
        assert store.head(f"run:{run}") == before
        store.append(f"run:{run}", "run.resumed", {}, actor="me", lease=new)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
        store.close()


def _actor_of(pid: int):
    from dataclasses import replace

    return replace(this_process("child"), pid=pid, started=holder._started(pid)[0])


def _wait_until(true) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def _row(run: str) -> LedgerRow:
    return LedgerRow(run, "s", "u1", "apps", "hq", "acme", ItemState.CLAIMED, 1)


def test_this_process_is_known_by_more_than_its_pid():
    """Host, boot and start time are filled in where the system says them."""
    me = this_process("cron")
    assert (me.name, me.pid, me.host) == ("cron", os.getpid(), os.uname().nodename)
    assert me.boot
    assert me.started.isdigit()
