"""Two people act at once: exactly one proceeds, the other is told who, since when, what to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import yaml
from crash_world import CrashWorld, Trial

from ccfailover.model.health import World
from ccfailover.operations import prepare, runs
from ccfailover.operations.desk import Desk
from ccfailover.operations.look import look
from ccfailover.runbooks.plan import Request
from ccfailover.store import Store, open_store
from ccfailover.wiring.assemble import actor
from tests.crash.people import Gate, Person, Told, end_everybody, hear

pytestmark = [pytest.mark.server("roto-server")]

TIMES = 100
RECIPE = {"full_failover": {"before": ["confirm"], "branch": ["redirect_intake", "shift_route"]}}


class HeldStore:
    """Stops its process right after the run's first `step.started` is on disk, until let go."""

    def __init__(self, inner: Store, name: str, held: int, go: int) -> None:
        self._inner, self._name, self._held, self._go = inner, name, held, go
        self._one = Lock()  # branches append side by side, and one of them is held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, stream: str, kind: str, data: Any, **more: Any) -> Any:
        record = self._inner.append(stream, kind, data, **more)
        if kind == "step.started":
            with self._one:
                held, self._held = self._held, -1
            if held >= 0:
                os.write(held, self._name.encode())
                hear(self._go, 1)
        return record


class Office:
    """One policy and one look at the world for many conflicts, each with a store of its own."""

    def __init__(self, world: CrashWorld) -> None:
        self.trial = world.trial()
        policy = yaml.safe_load(self.trial.policy.read_text())
        policy["runbooks"] = RECIPE
        policy["queues"]["loan_calls"].pop("shift")
        self.trial.policy.write_text(yaml.safe_dump(policy))
        desk = self.trial.desk()
        self.seen: World = look(desk)
        desk.store.close()
        self._desk = desk

    def desk(self, store: Path, name: str) -> Desk:
        """In a child: the desk with a connection, and an identity, of its own."""
        return replace(self._desk, store=open_store(str(store), self._desk.runtime),
                       actor=actor({"CCFAILOVER_ACTOR": name}))

    def failover(self, desk: Desk, queues: tuple[str, ...] = ()) -> int:
        request = Request(runbook="full_failover", subject="hq", reason=f"by {desk.actor.name}",
                          queues=queues)
        prepared = prepare.prepare(desk, request, world=self.seen)
        return int(runs.start(desk, prepared, confirmed="test").exit)

    def level(self) -> None:
        centre = self.trial.world.centre
        for route in ("loan_calls", "applications"):
            centre.put("switch", f"/routes/{route}", {"shares": {"hq": 100}})


@pytest.fixture(autouse=True)
def alone_again() -> Iterator[None]:
    """A test that fails leaves nobody waiting."""
    yield
    end_everybody()


@pytest.fixture(scope="module")
def office(crash_world: CrashWorld) -> Office:
    return Office(crash_world)


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """(held: read, write; go: read, write)."""
    held, go = os.pipe(), os.pipe()
    yield (*held, *go)
    for handle in (*held, *go):
        os.close(handle)


def names_the_holder(told: Told, winner: str, store: Path) -> None:
    """Exit 5, and a person knows who, as which process, since when, and what to type."""
    assert told.code == 5, told
    shown = open_store(str(store), _clock())
    run, = shown.run_ids()
    shown.close()
    assert run in told.text and winner in told.text and "since" in told.text, told.text
    assert f"--supersede {run}" in told.text and f"ccfailover resume {run}" in told.text
    assert "Not done: nothing was started or changed" in told.text


def _clock() -> Any:
    from ccfailover.runtime import SystemRuntime

    return SystemRuntime()


@pytest.mark.parametrize("part", range(4))
def test_two_conflicting_failovers(office: Office, tmp_path: Path, part: int,
                                   pipes: tuple[int, int, int, int]) -> None:
    """A hundred times, in four parts: released together, the winner held in its first step."""
    held_read, held_write, go_read, go_write = pipes
    won = {"dana": 0, "kim": 0}
    for number in range(TIMES // 4):
        store = tmp_path / f"{part}-{number}.db"
        open_store(str(store), _clock()).close()
        office.level()
        gate = Gate()

        def job(name: str, queues: tuple[str, ...], store: Path = store, gate: Gate = gate) -> int:
            desk = office.desk(store, name)
            held = HeldStore(desk.store, name, held_write, go_read)
            gate.arrive()
            return office.failover(replace(desk, store=held), queues)  # type: ignore[arg-type]

        people = {"dana": Person("dana", lambda: job("dana", ())),
                  "kim": Person("kim", lambda: job("kim", ("loan_calls",)))}
        gate.gather(2)
        gate.release(2)
        winner = hear(held_read).decode()
        assert winner in people, "both went in"
        loser = "kim" if winner == "dana" else "dana"
        told = people[loser].tell()
        names_the_holder(told, winner, store)
        os.write(go_write, b".")
        end = people[winner].tell()
        assert end.code == 0, end.text
        gate.close()
        shut = open_store(str(store), _clock())
        assert len(shut.run_ids()) == 1 and shut.leases() == [] and shut.verify() == []
        shut.close()
        won[winner] += 1
    assert sum(won.values()) == TIMES // 4


def interrupted(trial: Trial) -> None:
    """A failover killed -9 in the middle."""
    from crash_world import Bomb

    assert trial.start("full_failover", Bomb(8, "after")) == -9, trial.errors()


def test_two_resumes_of_one_interrupted_run(crash_world: CrashWorld,
                                            pipes: tuple[int, int, int, int]) -> None:
    """Of two who resume at once one carries the run on; the other exits 5; nothing is doubled."""
    held_read, held_write, go_read, go_write = pipes
    for _ in range(5):
        trial = crash_world.trial()
        interrupted(trial)
        gate = Gate()

        def job(name: str, trial: Trial = trial, gate: Gate = gate) -> int:
            desk = trial.desk()
            desk = replace(desk, actor=actor({"CCFAILOVER_ACTOR": name}),
                           store=HeldStore(desk.store, name, held_write, go_read))  # type: ignore[arg-type]
            gate.arrive()
            return int(runs.resume(desk, None, confirmed="test").exit)

        people = {name: Person(name, lambda name=name: job(name)) for name in ("dana", "kim")}
        gate.gather(2)
        gate.release(2)
        winner = hear(held_read).decode()
        assert winner in people
        told = people["kim" if winner == "dana" else "dana"].tell()
        assert told.code == 5, told
        assert winner in told.text and "since" in told.text and "Try: " in told.text
        os.write(go_write, b".")
        end = people[winner].tell()
        assert end.code == 0, end.text
        gate.close()
        seen = trial.seen()
        assert seen.calls == {"acme": 100} and set(seen.acme) == set(Trial.ELIGIBLE)
        assert max(seen.acme.values()) == 1


def test_resume_races_a_new_failover(crash_world: CrashWorld) -> None:
    """An interrupted run keeps its scope: the new failover exits 5 whoever is faster, and names
    the run to resume; the resume goes through."""
    for _ in range(5):
        trial = crash_world.trial()
        interrupted(trial)
        run, = trial.desk().store.open_run_ids()
        gate = Gate()

        def resume(trial: Trial = trial, gate: Gate = gate) -> int:
            desk = trial.desk()
            gate.arrive()
            return int(runs.resume(desk, None, confirmed="test").exit)

        def anew(trial: Trial = trial, gate: Gate = gate) -> int:
            desk = trial.desk()
            prepared = prepare.prepare(desk, Request(
                runbook="full_failover", subject="hq", reason="me, too"))
            gate.arrive()
            return int(runs.start(desk, prepared, confirmed="test").exit)

        people = [Person("dana", resume), Person("kim", anew)]
        gate.gather(2)
        gate.release(2)
        first, second = (person.tell() for person in people)
        gate.close()
        assert first.code == 0, first.text
        assert second.code == 5 and run in second.text, second
        assert trial.desk().store.run_ids() == [run]


def test_a_living_holder_cannot_be_resumed_away(crash_world: CrashWorld,
                                                pipes: tuple[int, int, int, int]) -> None:
    """While somebody's process works, a resume exits 5 and changes nothing; after kill -9 of
    that process it goes through at once, without waiting for the lease to run out."""
    held_read, held_write, go_read, _ = pipes
    trial = crash_world.trial()

    def job() -> int:
        desk = trial.desk()
        store = HeldStore(desk.store, "dana", held_write, go_read)
        prepared = prepare.prepare(desk, Request(
            runbook="full_failover", subject="hq", reason="first"))
        return int(runs.start(replace(desk, store=store), prepared,  # type: ignore[arg-type]
                              confirmed="test").exit)

    dana = Person("dana", job)
    assert hear(held_read) == b"dana"
    told = Person("kim", lambda: int(runs.resume(trial.desk(), None).exit)).tell()
    assert told.code == 5 and "lease until" in told.text, told
    dana.signal(signal.SIGKILL)
    assert dana.tell().code == -signal.SIGKILL
    began = _clock().monotonic()
    assert trial.resume() == 0, trial.errors()
    assert _clock().monotonic() - began < 25, "it waited for a dead holder's lease"
