"""Another journal's runs come in as they were, once, and the store's own history stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccfailover.errors import Fenced, LeaseHeld, StoreError
from ccfailover.model.journal import Lease
from ccfailover.operations.history import _ends
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, imports, local, open_store
from ccfailover.store.chain import digest, manifest_line, record_line
from ccfailover.store.mirror import Mirror
from ccfailover.store.mirrored import MirroredDatabase
from ccfailover.store.verify import verify_export

Fork = Callable[..., tuple[Store, Store]]


@pytest.fixture
def fork(tmp_path: Path, new_location: Callable[[], str], person):
    """`fork(before)`: a store of each kind in which `before` has written, and a local journal that
    was begun from a mirror of it."""
    opened: list[Store] = []
    runtime = SystemRuntime()

    def make(before: Callable[[Store], None] = lambda store: None) -> tuple[Store, Store]:
        here = open_store(new_location(), runtime)
        mirror = Mirror(str(tmp_path / "mirror.db"), runtime)
        seen = Store(MirroredDatabase(here._db, mirror))
        before(seen)
        there = local.begin(mirror, str(tmp_path / "there.db"), runtime, actor=person("mary"))
        mirror.close()
        opened.extend((here, there))
        return here, there

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def run_in(plan_for, person) -> Callable[..., tuple[str, Lease]]:
    """`run_in(store, "a")`: a run over queue a, begun; `end` names its ending."""

    def make(store: Store, queue: str, end: str | None = "run.succeeded",
             let_go: bool = False) -> tuple[str, Lease]:
        run, lease = store.create_run(plan_for(f"queue:{queue}"), actor=person("mary"), ttl=30)
        store.append(f"run:{run}", "step.started", {"step": queue}, actor="mary", lease=lease)
        if end:
            store.end_run(lease, end, {}, actor="mary")
        if let_go:
            store.lapse(lease)
        return run, lease

    return make


def bring(here: Store, there: Store) -> list[imports.Came]:
    """Import, twice: the second time there is nothing left to import."""
    source = imports.from_store(there)
    came = imports.bring_in(here, source, actor="joe")
    imports.automation(here, source, actor="joe")
    assert imports.bring_in(here, source, actor="joe") == []
    assert imports.automation(here, source, actor="joe") == 0
    assert here.verify() == []
    assert verify_export(here.export()) == []
    return came


def test_a_run_that_is_new_comes_in_verbatim(fork: Fork, run_in) -> None:
    """Under its own id, with every hash; its number is the next one here."""
    here, there = fork(lambda store: run_in(store, "a"))
    run, _ = run_in(there, "b")
    mine, _ = run_in(here, "c")
    own = here.head(f"run:{mine}")
    (came,) = bring(here, there)
    assert (came.run, came.how, came.state) == (run, "new", "succeeded")
    assert here.read(f"run:{run}") == there.read(f"run:{run}")
    assert here.run_ids()[-2:] == [mine, run]
    assert here.open_run_ids() == [] and here.head(f"run:{mine}") == own
    (imported,) = [r for r in here.read("runs") if r.kind == "run.imported"]
    assert (imported.data["number"], imported.data["from"]) == (3, there.path)
    assert run_in(here, "d")[0].startswith("r4-"), "numbers go on"
    assert here.verify() == []


def test_a_run_that_went_on_there_gets_what_is_missing(fork: Fork, run_in, person) -> None:
    """It stays the same run; its journal goes on where the store's ended; former holders are
    fenced."""
    held: list[tuple[str, Lease]] = []
    here, there = fork(lambda store: held.append(run_in(store, "a", end=None, let_go=True)))
    run, lease = held[0]
    taken, _ = there.acquire(run, actor=person("joe"), ttl=30)
    there.append(f"run:{run}", "step.succeeded", {}, actor="joe", lease=taken)
    (came,) = bring(here, there)
    assert (came.how, came.first, came.seq, came.state) == ("extended", 3, 3, None)
    assert here.read(f"run:{run}") == there.read(f"run:{run}")
    for stale in (lease, taken):
        with pytest.raises(Fenced):
            here.append(f"run:{run}", "note", {}, actor="x", lease=stale)
    again, _ = here.acquire(run, actor=person("joe"), ttl=30)
    assert again.fence > taken.fence
    here.end_run(again, "run.succeeded", {}, actor="joe")
    assert here.verify() == []


def test_the_end_of_a_run_comes_in_too(fork: Fork, run_in, person) -> None:
    """Its scope is free then, and the chain of runs tells when it really ended."""
    held: list[tuple[str, Lease]] = []
    here, there = fork(lambda store: held.append(run_in(store, "a", end=None, let_go=True)))
    run = held[0][0]
    taken, _ = there.acquire(run, actor=person("joe"), ttl=30)
    ended = there.end_run(taken, "run.rolled_back", {}, actor="joe")
    assert bring(here, there)[0].state == "rolled_back"
    assert here.open_run_ids() == []
    assert here.read("runs")[-1].data["ended_at"] == ended.at
    run_in(here, "a")


def test_a_run_that_went_on_in_both_comes_in_under_another_name(
        fork: Fork, run_in, person) -> None:
    """Ours stays as it is. The other's events can be proven to be those of its own journal."""
    held: list[tuple[str, Lease]] = []
    here, there = fork(lambda store: held.append(run_in(store, "a", end=None, let_go=True)))
    run = held[0][0]
    for store, kind in ((here, "run.succeeded"), (there, "run.aborted")):
        taken, _ = store.acquire(run, actor=person("joe"), ttl=30)
        store.append(f"run:{run}", "note", {"text": kind}, actor="joe", lease=taken)
        store.end_run(taken, kind, {}, actor="joe")
    before = here.read(f"run:{run}")
    (came,) = bring(here, there)
    assert came.how == "diverged" and came.origin == run and came.run.startswith("r2-")
    assert came.run.rpartition("-")[2] == run.rpartition("-")[2]
    assert here.read(f"run:{run}") == before
    theirs = here.read(f"run:{came.run}")
    assert [(r.kind, r.at, r.data) for r in theirs] == [
        (r.kind, r.at, r.data) for r in there.read(f"run:{run}")]
    # A forger who changes one of these events, and all hashes after it, cannot make up for it.
    records = [json.loads(line)["record"] for line in list(here.export())[1:]]
    for record in records:
        if record["stream"] == f"run:{came.run}" and record["kind"] == "note":
            record["data"] = {"text": "nothing happened"}
    problems = verify_export(_rechained(records))
    assert any("imported from" in problem for problem in problems), problems


def test_an_unfinished_run_keeps_its_scope_if_it_is_free(fork: Fork, run_in, person) -> None:
    """It can be taken up again here, and nobody else gets its queue."""
    here, there = fork()
    run, _ = run_in(there, "a", end=None)
    (came,) = bring(here, there)
    assert came.state is None and "resume" in came.note
    with pytest.raises(LeaseHeld):
        run_in(here, "a")
    taken, wait = here.acquire(run, actor=person("joe"), ttl=30)
    assert not wait
    here.end_run(taken, "run.succeeded", {}, actor="joe")
    assert bring(here, there) == []


def test_an_unfinished_run_whose_scope_is_taken_is_ended(fork: Fork, run_in) -> None:
    """What it did stays on record; who has its queue is named."""
    here, there = fork()
    run, _ = run_in(there, "a", end=None)
    mine, _ = run_in(here, "a", end=None)
    (came,) = bring(here, there)
    assert came.state == "aborted" and mine in came.note
    assert here.open_run_ids() == [mine]
    assert here.read(f"run:{run}")[:2] == there.read(f"run:{run}")


def test_a_run_that_is_being_carried_gets_nothing(fork: Fork, run_in, person) -> None:
    """Its holder would not know what came in: who it is and until when is told."""
    held: list[tuple[str, Lease]] = []
    here, there = fork(lambda store: held.append(run_in(store, "a", end=None, let_go=True)))
    run = held[0][0]
    taken, _ = there.acquire(run, actor=person("joe"), ttl=30)
    there.append(f"run:{run}", "step.succeeded", {}, actor="joe", lease=taken)
    carried, _ = here.acquire(run, actor=person("ann"), ttl=30)
    with pytest.raises(LeaseHeld, match="ann@elsewhere"):
        imports.bring_in(here, imports.from_store(there), actor="joe")
    assert here.head(f"run:{run}")[0] == 2
    here.append(f"run:{run}", "note", {}, actor="ann", lease=carried)


def test_one_run_superseded_by_another_comes_in_with_it(fork: Fork, plan_for, run_in,
                                                        person) -> None:
    """First the one that was superseded, then its successor, which has the scope."""
    held: list[tuple[str, Lease]] = []
    here, there = fork(lambda store: held.append(run_in(store, "a", end=None, let_go=True)))
    run = held[0][0]
    successor, _ = there.create_run(plan_for("queue:b"), actor=person("joe"), ttl=30,
                                    supersedes=(run,))
    assert [(c.run, c.how, c.state) for c in bring(here, there)] == [
        (run, "extended", "superseded"), (successor, "new", None)]
    assert {lease.run: lease.scopes for lease in here.leases()} == {
        successor: ("queue:a", "queue:b")}


class Stops(MirroredDatabase):
    """The process dies at its second write."""

    left = 1

    def transaction(self, doing: str, on: str | None = None):  # type: ignore[no-untyped-def]
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().transaction(doing, on)


def test_an_import_that_is_stopped_goes_on(fork: Fork, run_in, tmp_path) -> None:
    """One transaction a run: each is there whole or not at all, and the rest comes next time."""
    here, there = fork()
    runs = [run_in(there, queue)[0] for queue in "abc"]
    mirror = Mirror(str(tmp_path / "m2.db"), SystemRuntime())
    with pytest.raises(KeyboardInterrupt):
        imports.bring_in(Store(Stops(here._db, mirror, verified=False)),
                         imports.from_store(there), actor="joe")
    assert here.run_ids() == runs[:1] and here.verify() == []
    assert [came.run for came in bring(here, there)] == runs[1:]


def test_what_automation_did_comes_in_as_evidence(fork: Fork) -> None:
    """Whole, with its hash there; of a fact that was set in both the later one counts, of an
    adopted queue the later entry."""
    here, there = fork(lambda store: store.set_fact("acked_at", 1, actor="a"))
    here.set_fact("adopted", {"calls": {"at": 5}, "mail": {"at": 1}}, actor="a")
    there.set_fact("adopted", {"calls": {"at": 3}, "mail": {"at": 2}}, actor="b")
    there.set_fact("acked_at", 2, actor="b")
    there.set_fact("automation_off", {"until": 7}, actor="b")
    here.set_fact("automation_off", None, actor="a")
    there.set_fact("plan:abc", {"big": True}, actor="b")
    there.append("automation", "trigger.fired", {"trigger": "hq_down"}, actor="cron")
    bring(here, there)
    assert here.fact("adopted") == {"calls": {"at": 5}, "mail": {"at": 2}}
    assert here.fact("automation_off") is None, "ours is the later one"
    assert here.fact("acked_at") == 2 and here.fact("plan:abc") is None
    came = [r.data for r in here.read("automation") if r.kind == imports.EVENT]
    theirs = [r for r in there.read("automation") if r.hash == came[-1]["hash"]]
    assert theirs[0].kind == came[-1]["record"]["kind"] == "trigger.fired"


def test_a_run_that_ended_before_ours_is_no_newer_for_being_imported(fork: Fork, run_in) -> None:
    """Where a queue is follows from the run that ended last, not from the one that came last."""
    here, there = fork()
    first, _ = run_in(there, "a")
    second, _ = run_in(here, "a")
    third, _ = run_in(there, "b")
    bring(here, there)
    desk = SimpleNamespace(store=here)
    assert [end.data["run"] for _, end in _ends(desk)] == [first, second, third]


def test_an_export_comes_in_like_the_journal_itself(fork: Fork, run_in) -> None:
    """A file that was sent by mail; of one run alone, too."""
    here, there = fork(lambda store: run_in(store, "a"))
    first, _ = run_in(there, "b")
    second, _ = run_in(there, "c")
    alone = [line.encode() + b"\n" for line in there.export([f"run:{second}"])]
    (came,) = imports.bring_in(here, imports.from_lines("mail", alone), actor="joe")
    assert (came.run, came.state) == (second, "succeeded")
    whole = [line.encode() + b"\n" for line in there.export()]
    (came,) = imports.bring_in(here, imports.from_lines("mail", whole), actor="joe")
    assert came.run == first
    assert here.verify() == []


def test_a_journal_that_was_changed_does_not_come_in(fork: Fork, run_in, tmp_path) -> None:
    """Any line of an export, any row of a file."""
    here, there = fork()
    run_in(there, "b")
    lines = [line.encode() for line in there.export()]
    for index in range(len(lines)):
        changed = [*lines[:index], lines[index].replace(b'"r', b'"s', 1), *lines[index + 1:]]
        if changed == lines:
            continue
        with pytest.raises(StoreError, match="changed"):
            imports.from_lines("mail", changed)
        with pytest.raises(StoreError):
            imports.from_lines("mail", lines[:index])
    assert here.run_ids() == []


def test_a_journal_with_no_common_past_comes_in(fork: Fork, run_in, tmp_path) -> None:
    """One that was begun empty because there was no mirror: its r1 and ours do not collide."""
    here, _ = fork(lambda store: run_in(store, "a"))
    other = open_store(str(tmp_path / "other.db"), SystemRuntime())
    run, _ = run_in(other, "a")
    (came,) = bring(here, other)
    assert came.run == run and len(here.run_ids()) == 2
    other.close()


def _rechained(records: list[dict]) -> list[str]:  # type: ignore[type-arg]
    heads: dict[str, tuple[int, str]] = {}
    lines = []
    by_head: dict[str, str] = {}
    for given in sorted(records, key=lambda r: r["stream"] == "runs"):
        record = {**given, "prev": heads.get(given["stream"], (0, "0" * 64))[1]}
        data = dict(record["data"])
        if record["kind"] == "run.ended":
            data["head"] = by_head.get(f"run:{data['run']}", data["head"])
        record["data"] = data
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        heads[record["stream"]] = (record["seq"], digest(text))
        by_head[record["stream"]] = digest(text)
        lines.append((record["stream"] != "runs", record_line(text, digest(text))))
    return [manifest_line(heads), *(line for _, line in sorted(lines, key=lambda x: x[0]))]


