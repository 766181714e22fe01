"""Real ccfailover processes, struck at random: kill -9, and stopped for longer than their lease.

A seed gives the plan of a story: which run, what waits, who is struck when, who takes over. The
machine decides where exactly a blow lands, so that a seed repeats the plan and not every step.
What became of it is asked of the servers themselves, and compared with what the journal says.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import yaml

from ccfailover.errors import CcfError
from ccfailover.operations.desk import Desk
from ccfailover.operations.run_list import load, open_runs, state_of
from ccfailover.runbooks.run import RunState
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.local import INTAKE, VOICE, CentreSettings, LocalCentre
from ccfailover.simulation.processes.sqs import Sqs
from ccfailover.store import open_store
from ccfailover.wiring.assemble import assemble
from tests.servers.postgres import Postgres

LEASE = 5.0
PATIENCE = 90.0
"""Seconds after which a story that has not ended is a violation itself."""

PROGRAM = [sys.executable, "-m", "ccfailover"]

RUNBOOKS = {
    "full_failover": {"before": ["confirm"], "branch": [
        "redirect_intake", "shift_route", "transfer", {"verify": {"interval": 0.1}}]},
    "failback": {"before": ["confirm"], "branch": [
        {"hold_consumers": {"open": False}}, {"transfer": {"clear": True}},
        "redirect_intake", "shift_route", "transfer",
        {"hold_consumers": {"open": True}}, {"verify": {"interval": 0.1}}]},
}

KILLED = -int(signal.SIGKILL)
OVERTAKEN = (5, 8)
"""Fenced; or the store was locked by somebody who was stopped in the middle of a write."""


class Blow(str, Enum):
    """`nap`: stopped, and going on before anybody noticed. `coma`: stopped for longer than the
    lease; somebody takes over, then the sleeper wakes up."""

    KILL = "kill"
    NAP = "nap"
    COMA = "coma"


@dataclass(frozen=True)
class Strike:
    """`events`: how many its process has written into the journal before; 0: none is waited for.
    `after`: seconds from then on. `lasts`: seconds that a stop lasts. `then`: what the next
    person types, `resume` or `rollback`."""

    blow: Blow
    events: int
    after: float
    lasts: float
    then: str


@dataclass(frozen=True)
class Story:
    seed: int
    verb: str
    eligible: int
    ineligible: int
    strikes: tuple[Strike, ...]


def story(seed: int) -> Story:
    """The same for a seed, for ever."""
    draw = random.Random(seed)
    blows = draw.choices((Blow.KILL, Blow.COMA, Blow.NAP), (5, 4, 2), k=draw.choice((1, 1, 2, 3)))
    strikes = tuple(
        Strike(blow, events=(events := draw.choice((0, *range(1, 22)))),
               after=round(draw.uniform(0.0, 0.08 if events else 1.5), 3),
               lasts=round(draw.uniform(0.2, 3.0) if blow is Blow.NAP
                           else LEASE * draw.uniform(1.1, 2.6), 3),
               then=draw.choice(("resume", "resume", "resume", "rollback")))
        for blow in blows)
    return Story(seed, draw.choice(("failover", "failover", "failback")),
                 draw.randint(5, 40), draw.randint(0, 4), strikes)


@dataclass
class Verdict:
    """What a story showed. No violations: every promise held."""

    seed: int
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Person:
    """One process of the program, as somebody at a terminal started it."""

    def __init__(self, words: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.words, self.log = words, log
        # A terminal, so that `--yes` needs no plan that was seen before.
        self._terminal, inside = os.openpty()
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*PROGRAM, *words], env=dict(environment), stdin=inside, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True)
        os.close(inside)
        self.pid = self._process.pid

    def ended_within(self, seconds: float) -> int | None:
        """Its exit code; None while it is still there."""
        try:
            return self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return None

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """At the end of a story nobody is left."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._terminal)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Place:
    """One contact centre on real servers, for one story after the other.

    Nobody works at acme: this queue server forgets a FIFO id with the deletion of its message
    (Amazon's remembers it for five minutes), so that a repeated put would not be swallowed.
    """

    def __init__(self, folder: Path, postgres: Postgres | None) -> None:
        self.folder, self.postgres = folder, postgres
        self.centre = LocalCentre(folder / "centre", CentreSettings(
            contacts_per_second=8.0, applications_per_second=4.0, hq_rate=30.0, acme_rate=30.0,
            visibility=4))

    def __enter__(self) -> Place:
        self.centre.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.centre.stop()

    def gate(self, site: str, *, is_open: bool) -> None:
        self.centre.put(site, "/consumers", {"open": is_open})

    def shares(self, route: str) -> dict[str, int]:
        found = self.centre.get("switch", f"/routes/{route}")["shares"]
        return {name: share for name, share in found.items() if share}

    def lost_calls(self) -> int:
        return int(self.centre.get("switch", f"/routes/{VOICE}/counts")["lost"])

    def level(self) -> None:
        """Everything at home, both queues empty, nobody at work."""
        for site in ("hq", "acme"):
            self.gate(site, is_open=False)
        for route in (VOICE, INTAKE):
            self.centre.put("switch", f"/routes/{route}", {"shares": {"hq": 100}})
        for site in ("hq", "acme"):
            self.drained(site)

    def drained(self, site: str) -> Counter[str]:
        """Every id in a site's queue, counted; waits for hidden ones. Deletes what it reads."""
        sqs, url = Sqs(self.centre.url(self.centre.queue_server(site))), self.centre.queue_url(site)
        ids: Counter[str] = Counter()
        end = time.monotonic() + 40
        while any(sqs.depth(url)):
            for message in sqs.receive(url, 10, wait=0):
                ids[json.loads(message["Body"])["uli"]] += 1
                sqs.delete(url, message["ReceiptHandle"])
            assert time.monotonic() < end, f"the queue of {site} does not empty"
        return ids


class Trial:
    """One story, played at a place."""

    lease = LEASE

    def __init__(self, place: Place, told: Story) -> None:
        self.place, self.story = place, told
        self.folder = place.folder / f"seed{told.seed}"
        self.folder.mkdir()
        self.verdict = Verdict(told.seed)
        self.people: list[Person] = []
        self.sleepers: list[tuple[Person, threading.Timer]] = []
        self.submitted: list[str] = []
        where = self._database()
        self.store = open_store(where, SystemRuntime())
        self.environment = {**place.centre.environment(), "CCFAILOVER_ACTOR": "dana",
                            "PYTHONFAULTHANDLER": "1",
                            "XDG_STATE_HOME": str(self.folder / "state"),
                            "CCFAILOVER_POLICY": str(self._policy()),
                            "HAVOC_STORE": where}

    # --- what there is

    def _database(self) -> str:
        server = self.place.postgres
        return server.new_database() if server else str(self.folder / "store.db")

    def _policy(self) -> Path:
        policy = yaml.safe_load(self.place.centre.policy_text(store=self.folder / "store.db"))
        policy["store"] = {"path": "env:HAVOC_STORE", "location": "this_machine",
                           "lease": f"{self.lease:g}s"}
        policy["probe_defaults"] |= {"fall": 1, "rise": 1, "timeout": "5s"}
        for provider in policy["providers"].values():
            provider["timeout"] = "2s"
        backlogs = policy["queues"]["applications"]["backlog"].values()
        for backlog in backlogs:
            backlog |= {"claim_seconds": 4, "poll_seconds": 0}
        # What a site has taken, not what its people have done: see `Place`.
        for probe in policy["queues"]["applications"]["probes"]:
            probe["values"] = {"answered": "/accepted"}
        policy["queues"]["loan_calls"]["shift"] = {"increments": [50, 100], "soak": "200ms"}
        policy["runbooks"] = RUNBOOKS
        path = self.folder / "policy.yaml"
        path.write_text(yaml.safe_dump(policy))
        return path

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        made = assemble(str(self.folder / "policy.yaml"), environ=self.environment)
        try:
            yield made
        finally:
            made.store.close()

    def ids(self, kind: str, count: int) -> list[str]:
        return [f"S{self.story.seed}{kind}{number:03}" for number in range(count)]

    def fill(self, site: str, kind: str, count: int, state: str) -> None:
        rows = [{"uli": uli, "application_date": "20180601", "state": state}
                for uli in self.ids(kind, count)]
        self.place.centre.seed(rows, site)
        self.submitted += [row["uli"] for row in rows]

    # --- what happens

    def play(self) -> Verdict:
        began = time.monotonic()
        self.place.level()
        lost = self.place.lost_calls()
        self.fill("hq", "E", self.story.eligible, "TX")
        self.fill("hq", "N", self.story.ineligible, "AK")
        over = threading.Event()
        intake = threading.Thread(target=self._applicants, args=(over,), daemon=True)
        try:
            if self.story.verb == "failback":
                self._prelude()
            intake.start()
            self._blows()
            self._bring_to_an_end(began + PATIENCE)
            over.set()
            intake.join(10)
            self._judge(lost)
        except (AssertionError, CcfError, OSError) as error:
            self.verdict.violations.append(f"{type(error).__name__}: {error}")
        finally:
            over.set()
            for _, timer in self.sleepers:
                timer.cancel()
            for person in self.people:
                person.end()
            self.store.close()
        self.verdict.seconds = time.monotonic() - began
        return self.verdict

    def _prelude(self) -> None:
        """The failover that the failback returns from; nobody strikes it."""
        first = self._begin("failover")
        code = first.ended_within(60)
        assert code in (0, 11), f"the failover before the failback: {code}\n{first.said()}"
        self.fill("acme", "B", self.story.eligible, "TX")

    def _applicants(self, over: threading.Event) -> None:
        number = 0
        while not over.wait(0.25):
            uli = f"S{self.story.seed}A{number:03}"
            self.place.centre.submit({"uli": uli, "application_date": "20180601", "state": "TX"})
            self.submitted.append(uli)
            number += 1

    def _say(self, *words: str) -> Person:
        person = Person(list(words), self.environment,
                        self.folder / f"{len(self.people):02}-{words[0]}.log")
        self.people.append(person)
        return person

    def _begin(self, verb: str) -> Person:
        return self._say(verb, "hq", "--reason", "havoc", "--yes")

    def _then(self, verb: str) -> Person:
        return self._say(*([verb, "--yes"] if verb == "resume"
                           else [verb, "--yes", "--reason", "havoc"]))

    def _blows(self) -> None:
        person = self._begin(self.story.verb)
        for strike in self.story.strikes:
            reached = self._reach(person, strike)
            if reached is None:
                return
            person = reached
            self.verdict.counts[strike.blow.value] += 1
            if strike.blow is Blow.KILL:
                person.signal(signal.SIGKILL)
                person.ended_within(10)
                self._interrupted(person)
            else:
                person.signal(signal.SIGSTOP)
                if strike.blow is Blow.NAP:
                    time.sleep(strike.lasts)
                    person.signal(signal.SIGCONT)
                    continue
                timer = threading.Timer(strike.lasts, person.signal, (signal.SIGCONT,))
                timer.start()
                self.sleepers.append((person, timer))
            if not self._open():
                return
            person = self._then(strike.then)

    def _reach(self, person: Person, strike: Strike) -> Person | None:
        """Whoever is at work where the strike is to land; None when the work was done before.

        Who is told that somebody else still holds the lease says the same again.
        """
        while strike.events and self._written(person) < strike.events:
            code = person.ended_within(0.01)
            if code is None:
                continue
            if code not in (5, 8) or person.words[0] not in ("resume", "rollback"):
                return None
            time.sleep(0.3)
            person = self._then(person.words[0])
            assert len(self.people) < 200, "nobody can take the run up"
        return person if person.ended_within(strike.after) is None else None

    def _written(self, person: Person) -> int:
        """Events of runs that a process has written under a lease."""
        return sum(1 for run in self.store.run_ids() for record in self.store.read(f"run:{run}")
                   if record.fence and f"[{person.pid}]" in record.actor)

    def _open(self) -> bool:
        return bool(self.store.open_run_ids())

    def _interrupted(self, dead: Person) -> None:
        """A run whose holder was killed is never said to be at work, or done."""
        with self.desk() as desk:
            held = {lease.run: lease for lease in desk.store.leases()
                    if lease.holder.get("pid") == dead.pid}
            for run in open_runs(desk):
                state = state_of(desk, run)
                honest = state not in (RunState.RUNNING, RunState.ROLLING_BACK)
                assert run.id not in held or honest, f"{run.id} is said to be {state.value}"

    def _bring_to_an_end(self, deadline: float) -> None:
        """As a person would: wait, look, resume; and let every sleeper wake up and end."""
        def late() -> str:
            return f"no end after {PATIENCE:g} s: {self._where_they_are()}"

        while True:
            for person in list(self.people):
                while person.ended_within(0.5) is None:
                    assert time.monotonic() < deadline, late()
                    if person in [sleeper for sleeper, _ in self.sleepers]:
                        break
            if self._open():
                person = self._then("resume")
                while person.ended_within(1.0) is None:
                    assert time.monotonic() < deadline, late()
                if person.code not in (0, 7, 11):
                    time.sleep(0.5)
            elif any(person.code is None for person in self.people):
                time.sleep(0.2)
            elif not self._runs():
                self._begin(self.story.verb)
                self.verdict.counts["struck before its run began"] += 1
            else:
                return
            assert time.monotonic() < deadline, late()

    def _where_they_are(self) -> str:
        """What everybody still there is doing, thread by thread: Python tells it as it dies."""
        told = []
        for person in self.people:
            if person.code is None:
                person.signal(signal.SIGCONT)
                person.signal(signal.SIGABRT)
                person.ended_within(5)
                told.append(f"{person.words[0]}: {person.said()[-3000:]}")
        return "\n".join(told) or self.people[-1].said()[-400:]

    def _runs(self) -> list[str]:
        runs = self.store.run_ids()
        return runs[1:] if self.story.verb == "failback" else runs

    # --- what became of it

    def _judge(self, lost_before: int) -> None:
        say, count = self.verdict.violations.append, self.verdict.counts
        for person in self.people:
            if person.code not in (KILLED, 0, 4, 5, 6, 7, 8, 11) or "Traceback" in person.said():
                if person.code == 2 and any(words in person.said() for words in
                                            ("no run is open", "has ended: ", "it has ended (")):
                    continue  # the sleeper had woken up and brought it to its end
                say(f"{person.words[0]} ended with {person.code}: {person.said()[-600:]}")
        with self.desk() as desk:
            for problem in desk.store.verify():
                say(f"the journal: {problem}")
            runs = [load(desk, run) for run in desk.store.run_ids()]
            for run in runs:
                count[run.phase.value] += 1
                self._check_fences(desk, run.id)
            listed = {row.item_id.partition("#")[0] for row in desk.store.items(queue=INTAKE)
                      if row.possible_duplicate}
        last = runs[-1]
        if last.phase in (RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_EXCEPTIONS):
            expected = last.plan.shares_after
        elif last.phase is RunState.ROLLED_BACK:
            expected = last.plan.shares_before
        else:
            say(f"{last.id} ended as {last.phase.value}")
            expected = {}
        for queue, shares in expected.items():
            actual = self.place.shares(queue)
            if actual != {name: share for name, share in shares.items() if share}:
                say(f"{last.id} is {last.phase.value}; {queue} reads {actual}, not {shares}")
        if (lost := self.place.lost_calls() - lost_before):
            say(f"{lost} calls were lost")
        self._check_items(listed, plainly=last.phase is RunState.SUCCEEDED
                          and last.plan.runbook == "full_failover")

    def _check_fences(self, desk: Desk, run: str) -> None:
        """The fence never falls; who was overtaken wrote nothing more and was told so."""
        highest, overtaken = 0, set()
        for record in desk.store.read(f"run:{run}"):
            fence = record.fence or highest
            if fence < highest:
                self.verdict.violations.append(f"{run} {record.seq}: fence {fence} after {highest}")
            if fence > highest:
                overtaken = {sleeper.pid for sleeper, _ in self.sleepers
                             if f"[{sleeper.pid}]" not in record.actor}
            highest = fence
        for sleeper, _ in self.sleepers:
            mine = any(f"[{sleeper.pid}]" in record.actor and record.fence
                       for record in desk.store.read(f"run:{run}"))
            if mine and sleeper.pid in overtaken:
                self.verdict.counts["overtaken"] += 1
                if sleeper.code not in OVERTAKEN:
                    self.verdict.violations.append(
                        f"overtaken, and ended with {sleeper.code}: {sleeper.said()[-400:]}")

    def _check_items(self, listed: set[str], *, plainly: bool) -> None:
        """Every application is somewhere; what is there twice is listed."""
        for site in ("hq", "acme"):
            self.place.gate(site, is_open=False)
        say = self.verdict.violations.append
        queues = {site: self.place.drained(site) for site in ("hq", "acme")}
        done = {site: Counter(uli for uli in self.place.centre.completed(site)
                              if uli.startswith(f"S{self.story.seed}"))
                for site in ("hq", "acme")}
        total: Counter[str] = sum((*queues.values(), *done.values()), Counter())
        lost = [uli for uli in self.submitted if not total[uli]]
        twice = [uli for uli, times in total.items() if times > 1]
        self.verdict.counts.update(applications=len(self.submitted), twice=len(twice),
                                   listed=len(listed))
        if lost:
            say(f"lost: {lost[:5]} of {len(self.submitted)}")
        if set(twice) - listed:
            say(f"twice and not listed: {sorted(set(twice) - listed)[:5]}")
        left = [uli for uli in self.ids("E", self.story.eligible) if queues["hq"][uli]]
        if plainly and left:
            say(f"succeeded, and left at home: {left[:5]}")
        gone = [uli for uli in self.ids("N", self.story.ineligible)
                if queues["acme"][uli] + done["acme"][uli]]
        if gone:
            say(f"not licensed there, and sent all the same: {gone[:5]}")


def play(place: Place, seed: int) -> Verdict:
    return Trial(place, story(seed)).play()


def environment_is_clean() -> None:
    """A developer's own policy and cloud account are not for this."""
    for name in list(os.environ):
        if name.startswith(("CCFAILOVER_", "AWS_")):
            del os.environ[name]
