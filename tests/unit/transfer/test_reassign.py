"""Moves within one system of record: a table in PostgreSQL, and a REST interface, both real.

The proof is made against the system's own rows: each application is in it once, whatever happens,
and its ledger agrees.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ccfailover.model.items import ItemState
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog
from ccfailover.providers.wrappers import Patience, Retrying
from ccfailover.runtime import SystemRuntime
from ccfailover.store import open_store
from ccfailover.transfer.mover import Mover, MoveResult
from ccfailover.transfer.reconcile import Measures, reconcile
from ccfailover.transfer.records import ASSIGNED_BACK, SECOND_RECORD
from ccfailover.transfer.stranded import clear_stranded
from tests.conformance.subjects import (
    HASTY,
    TOKEN,
    HttpRecordsSubject,
    PostgresRecordsSubject,
    application,
)
from tests.servers import start
from tests.servers.pgweather import PostgresWeather
from tests.servers.weather import Weather
from tests.unit.transfer.world import QUEUE, Fate, Killed, Mortal, MortalStore, queue, site

Subject = PostgresRecordsSubject | HttpRecordsSubject


@pytest.fixture(scope="module")
def intake_port() -> Iterator[int]:
    with start.intake(TOKEN) as port:
        yield port


class System:
    """One system of record, one ledger, and as many movers as a test wants."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.runtime = SystemRuntime()
        self.store = open_store(":memory:", self.runtime)
        self.levers = {"hq": subject.source, "acme": subject.target}

    def backlog(self, name: str, *, claim_seconds: float = 120.0, timeout: float = 10.0) -> Backlog:
        lever = self.levers[name]
        lever = LeverSpec(lever.provider, lever.ref, {**lever.params,
                                                      "claim_seconds": claim_seconds})
        provider = self.subject.make(timeout=timeout)
        return Retrying(provider, self.runtime,
                        patience=Patience(self.runtime, first=0.01)).backlog(lever)

    def move(self, fate: Fate | None = None, *, run: str = "r1", home: bool = False,
             claim_seconds: float = 120.0, timeout: float = 10.0, to: str = "acme",
             patience: float = 2.0, batch: int = 10) -> MoveResult:
        source, target = ("acme", "hq") if home else ("hq", to)
        fate = fate or Fate()
        lever = self.levers[target]
        how = {"claim_seconds": claim_seconds, "timeout": timeout}
        able = self.subject.provider.capabilities(
            self.subject.provider.spec.params, {"ref": lever.ref, **lever.params})
        mover = Mover(
            Mortal(self.backlog(source, **how), fate, "source"),
            Mortal(self.backlog(target, **how), fate, "target"),
            store=MortalStore(self.store, fate), lease=None, run=run, step="s",
            queue=queue(), source_site=source, target_site=site(target),
            eligibility=Anything(), runtime=self.runtime, target_capabilities=able,
            patience=patience, batch=batch)
        return mover.run(self.runtime.monotonic() + 60)

    def whose(self) -> Counter[str]:
        return Counter(self.subject.whose().values())

    def states(self, run: str = "r1") -> Counter[ItemState]:
        return Counter(row.state for row in self.store.items(run=run))


class Anything:
    def judge(self, item: object) -> str | None:
        return None


@pytest.fixture(params=["postgresql", "http"])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    if request.param == "http":
        port = request.getfixturevalue("intake_port")
        with Weather(port) as weather:
            yield from _opened(HttpRecordsSubject(port, weather))
        return
    server = request.getfixturevalue("postgres")
    with PostgresWeather(server.port) as sky:
        yield from _opened(PostgresRecordsSubject(server, sky))


def _opened(subject: Subject) -> Iterator[System]:
    made = System(subject)
    yield made
    made.store.close()
    subject.provider.close()


def test_out_and_home_again(system: System) -> None:
    """Begun ones stay where they are, both ways; ledger and table agree, and it balances."""
    subject = system.subject
    ids = subject.send_applications(25)
    subject.change(ids[3], begun=True)
    present = system.backlog("hq").measure().depth
    result = system.move()
    assert (result.moved, result.complete, result.possible_duplicates) == (24, True, 0)
    assert system.whose() == {"acme": 24, "hq": 1}
    assert subject.whose()[ids[3]] == "hq"
    assert system.states() == {ItemState.SETTLED: 24}
    proof = reconcile(system.store, ("r1",), QUEUE, source="hq", target="acme", measures=Measures(
        present=present, source_now=system.backlog("hq").measure(), arrived=0, target_before=0,
        target_now=system.backlog("acme").measure(), arrived_at_target=0, completed=0,
        worked_at_source=0))
    assert proof.balanced is True, (proof.detail, proof.equation)
    subject.change(ids[5], begun=True)
    back = system.move(run="r2", home=True)
    assert (back.moved, back.complete) == (23, True)
    assert system.whose() == {"acme": 1, "hq": 24}
    assert subject.whose()[ids[5]] == "acme"
    assert system.states() == {ItemState.RETURNED: 23, ItemState.SETTLED: 1}
    again = system.move(run="r3")
    assert (again.moved, again.possible_duplicates) == (23, 0)
    assert system.whose() == {"acme": 24, "hq": 1}


def test_a_lost_reply_is_resolved_without_doubling(system: System) -> None:
    """The assignment is carried out and its reply swallowed: the same key is asked again, and
    what is there is there once, with nobody in doubt."""
    subject = system.subject
    subject.send_applications(4)
    target = system.backlog("acme", timeout=HASTY * 3)
    items = list(system.backlog("hq").claim(10))
    target.measure()
    subject.meet(*["after"] * subject.requests(4))
    results = target.put(items, keys={item.item_id: f"{item.item_id}:r1:1" for item in items})
    assert [(result.ok, result.in_doubt) for result in results] == [(True, False)] * 4
    assert system.whose() == {"acme": 4}


class AfterPut(Fate):
    """Dies when a put has taken effect, before anybody hears of it."""

    def strike(self, name: str, effect: Callable[[], object]) -> object:
        result = super().strike(name, effect)
        if name == "target.put":
            raise Killed(name)
        return result


def test_who_dies_between_assignment_and_ledger_leaves_nothing_in_doubt(system: System) -> None:
    """The next process does not wait for records that never come back: it asks for them."""
    system.subject.send_applications(15)
    for _ in range(2):
        with pytest.raises(Killed):
            system.move(AfterPut())
    assert system.states()[ItemState.CLAIMED]
    result = system.move()
    assert (result.moved, result.remaining_claimed, result.possible_duplicates) == (15, 0, 0)
    assert system.whose() == {"acme": 15}
    assert system.states() == {ItemState.SETTLED: 15}


def test_who_dies_before_the_assignment_has_moved_nothing(system: System) -> None:
    """What was claimed and not assigned is assigned by the next process, once."""
    system.subject.send_applications(12)
    fate = Fate(at=2)
    with pytest.raises(Killed):
        system.move(fate)
    assert fate.calls[2] == "target.put"
    assert system.whose() == {"hq": 12}
    result = system.move()
    assert (result.moved, result.remaining_claimed) == (12, 0)
    assert system.whose() == {"acme": 12}


def test_whoever_dies_anywhere_each_record_moves_once(system: System) -> None:
    """Before and after every effect and every write of a move; claims are short, so that what a
    dead process has hidden shows again."""
    deaths = [(at, after) for at in range(6) for after in (False, True)]
    for at, after in deaths:
        names = [f"{at}-{after}-{number}" for number in range(3)]
        for name in names:
            system.subject.send(application(name))
        run = f"run-{at}-{after}"
        with pytest.raises(Killed):
            system.move(Fate(at, after=after), run=run, claim_seconds=0.5)
        result = system.move(run=run, claim_seconds=0.5)
        assert (result.moved, result.remaining_claimed, result.possible_duplicates) == (3, 0, 0)
        assert system.states(run) == {ItemState.SETTLED: 3}
    assert system.whose() == {"acme": 3 * len(deaths)}


def test_what_was_delivered_and_not_settled_is_closed_by_asking(system: System) -> None:
    """Nothing of a record is left behind: its row is closed without a look at home's own items."""
    system.subject.send_applications(3)
    with pytest.raises(Killed):
        system.move(Fate(at=5))
    assert system.states() == {ItemState.DELIVERED: 3}
    system.subject.send(application("new"))
    cleared = clear_stranded(
        system.store, system.backlog("hq"), queue(), site="hq", run="r2", lease=None,
        runtime=system.runtime, deadline=system.runtime.monotonic() + 30, one_system=True)
    assert (cleared.complete, len(cleared.gone), cleared.given_back) == (True, 3, 0)
    assert system.states() == {ItemState.SETTLED: 3}
    assert system.whose() == {"acme": 3, "hq": 1}


def test_who_dies_on_the_way_home_still_marks_what_came_home(system: System) -> None:
    """The first move's rows are returned, also when the second was closed by asking."""
    system.subject.send_applications(3)
    assert system.move().moved == 3
    with pytest.raises(Killed):
        system.move(Fate(at=5), run="r2", home=True)
    assert system.states("r2") == {ItemState.DELIVERED: 3}
    assert system.move(run="r2", home=True).moved == 3
    assert (system.states("r1"), system.states("r2")) == (
        {ItemState.RETURNED: 3}, {ItemState.SETTLED: 3})


def test_what_a_superseded_run_left_in_doubt_is_found_out_by_the_next(system: System) -> None:
    """Assigned by a run that died before it knew, and that nobody resumes: the next run between
    the same sites asks with that run's key, and doubles nothing."""
    system.subject.send_applications(3)
    with pytest.raises(Killed):
        system.move(AfterPut())
    assert system.states("r1") == {ItemState.CLAIMED: 3}
    system.subject.send(application("new"))
    result = system.move(run="r2")
    assert (result.moved, result.possible_duplicates) == (1, 0)
    assert system.states("r1") == {ItemState.SETTLED: 3}
    assert system.whose() == {"acme": 4}


def test_a_record_that_somebody_assigned_back_is_moved_by_the_next_run(system: System) -> None:
    """It is no leftover of the first move. In the same move it is left alone: it was meant."""
    [name] = system.subject.send_applications(1)
    assert system.move().moved == 1
    system.subject.change(name, assignee="hq")
    same = system.move()
    assert same.left == {ASSIGNED_BACK: 1}
    assert system.whose() == {"hq": 1}
    assert system.move(run="r2").moved == 1
    assert system.whose() == {"acme": 1}


def test_two_records_of_one_application_are_a_persons_business(system: System) -> None:
    """One of them goes; the other is put aside with a reason, and not taken for a copy."""
    for _ in range(2):
        system.subject.send(application("twice"))
    result = system.move()
    assert (result.moved, result.quarantined, result.duplicates_collapsed) == (1, 1, 0)
    assert any(SECOND_RECORD in row.reason for row in system.store.items(run="r1"))


def test_two_movers_race_and_each_record_moves_once(system: System) -> None:
    """Two runs by mistake, each over connections of its own and to another site."""
    system.subject.send_applications(60)
    system.levers["beta"] = LeverSpec(system.levers["acme"].provider, system.levers["acme"].ref,
                                      {**system.levers["acme"].params, "assignee": "beta"})
    rivals = System(system.subject)
    rivals.levers = system.levers
    results: dict[str, MoveResult] = {}

    def work(mine: System, to: str) -> None:
        results[to] = mine.move(run=to, to=to, batch=3, patience=1.0)

    threads = [threading.Thread(target=work, args=each)
               for each in ((system, "acme"), (rivals, "beta"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    whose = system.whose()
    assert whose == {to: result.moved for to, result in results.items() if result.moved}
    assert sum(whose.values()) == 60
    assert sum(result.remaining_claimed + result.possible_duplicates
               for result in results.values()) == 0
    for mine, to in ((system, "acme"), (rivals, "beta")):
        settled = {row.item_id for row in mine.store.items(run=to)
                   if row.state is ItemState.SETTLED}
        assert settled == {name for name, who in system.subject.whose().items() if who == to}
    rivals.store.close()


@pytest.mark.parametrize("change", [{"begun": True}, {"assignee": "beta"}])
def test_whoever_is_quicker_keeps_it(system: System, change: dict[str, object]) -> None:
    """Begun, or assigned elsewhere, between claim and put: it stays there, and that is no doubt."""
    [name] = system.subject.send_applications(1)
    [item] = system.backlog("hq").claim(1)
    system.subject.change(name, **change)
    before = system.subject.whose()
    [result] = system.backlog("acme").put([item], keys={name: f"{name}:r1:1"})
    assert (result.ok, result.permanent, result.in_doubt) == (False, True, False)
    assert "meanwhile" in result.detail or "since it was claimed" in result.detail
    assert system.subject.whose() == before
