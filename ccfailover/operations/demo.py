"""`demo`: the whole job on local processes, told as events; the tool is used by its command line.

A site is killed, `check` sees it, `failover` moves calls and applications, the site comes back,
`failback` returns them; at the end the servers' own counts must agree that nothing was lost.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ccfailover.errors import StateUnknown, Unavailable
from ccfailover.operations import demo_proof as proof
from ccfailover.operations.demo_crew import Crew, Said, nothing
from ccfailover.operations.demo_events import Act, Event, Finished, Line, Scene
from ccfailover.operations.demo_verdict import Seen, verdict
from ccfailover.runtime import Runtime
from ccfailover.simulation.applications import generate, read_csv
from ccfailover.simulation.local import SITES, CentreSettings, LocalCentre

COUNT = 1_000
SEED = 20_261_101
RATE = 1.0
"""Applications that come in a second while the story runs."""

REASON = "INC-42 power failure"
PATIENCE = 60.0
"""Seconds for a check to see what the story has just done to the world."""


@dataclass(frozen=True)
class Options:
    """`directory` is new or empty; `report` is where the HTML report goes. `applications`: a CSV
    file instead of `count` generated ones. `source_dies`: the server of the home's queue is
    killed too, while its applications are being moved."""

    directory: Path
    report: Path
    applications: Path | None = None
    count: int = COUNT
    source_dies: bool = False


@dataclass
class _Facts:
    """What the story notes down on its way."""

    seeded: list[str] = field(default_factory=list)
    fault: int = 0
    detected: int = 0
    present: int = 0
    forwarded: int = 0
    in_hand: tuple[str, ...] = ()
    runs: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    reconciled: list[Mapping[str, Any]] = field(default_factory=list)
    equation: proof.Equation | None = None
    source_killed: bool = False
    found_again: int | None = None


def play(options: Options, runtime: Runtime) -> Iterator[Event]:
    """The demo, event by event; the last one is Finished. Close the iterator to end it early:
    whatever it started ends with it.

    Raises UsageError for a file that is not of the form, StateUnknown when the world or the tool
    does not do its part in time.
    """
    rows = read_csv(options.applications) if options.applications else generate(
        options.count, SEED)
    applications = list(rows)
    centre = LocalCentre(options.directory / "centre",
                         _settings(len(applications), options.source_dies), runtime=runtime)
    with centre:
        yield from _Story(options, runtime, centre, applications).tell()


def _settings(count: int, source_dies: bool) -> CentreSettings:
    """A longer queue gets a faster outsourcer, so that a demo of any size ends."""
    return CentreSettings(hq_rate=4.0, acme_rate=min(80.0, max(20.0, count / 50)),
                          applications_per_second=RATE, separate_queues=source_dies)


class _Story:
    def __init__(self, options: Options, runtime: Runtime, centre: LocalCentre,
                 applications: list[dict[str, str]]) -> None:
        self._options, self._runtime, self._centre = options, runtime, centre
        self._applications = applications
        self._facts = _Facts()
        policy = options.directory / "policy.yaml"
        policy.write_text(centre.policy_text(store=options.directory / "ccfailover.db"),
                          encoding="utf-8")
        self._policy = policy
        logs = options.directory / "commands"
        logs.mkdir(exist_ok=True)
        environment = {**centre.environment(), "CCFAILOVER_POLICY": str(policy)}
        self._crew = Crew(centre, runtime, environment, logs,
                          _later(len(applications)), RATE)
        self._scenes = 0

    def tell(self) -> Iterator[Event]:
        yield from self._normal()
        yield from self._fault()
        yield from self._failover()
        yield from self._away()
        yield from self._return()
        yield from self._failback()
        yield from self._prove()

    # --- the scenes

    def _normal(self) -> Iterator[Event]:
        count = len(self._applications)
        yield self._scene("A normal day", f"hq answers every call; {count:,} applications wait "
                          "in its queue, and one more comes in every second")
        self._facts.seeded = [row["uli"] for row in self._applications]
        self._centre.seed(self._applications)
        self._crew.open_doors()
        yield from self._crew.run("validate", str(self._policy))
        yield from self._check_until("hq is healthy", lambda seen: seen["sites"]["hq"] == "healthy")
        yield from self._crew.wait(1.0)

    def _fault(self) -> Iterator[Event]:
        facts = self._facts
        yield self._scene("The head office dies", "cron runs `ccfailover check` every second: it "
                          "must notice, and ask for a decision")
        pid = self._centre.pid("hq")
        facts.forwarded = self._crew.forwarded()
        facts.fault = self._runtime.now()  # before the kill: it returns when hq is dead and gone
        self._centre.kill("hq")
        yield Act(f"kill -9 {pid}   (hq's server: no calls answered, no applications processed)")
        facts.in_hand = tuple(self._centre.completed("hq")[-1:])
        facts.present = sum(self._centre.depth("hq"))
        yield from self._check_until("a failover is asked for", lambda seen: any(
            decision["action"] == "approve" for decision in seen["decisions"]))

    def _failover(self) -> Iterator[Event]:
        yield self._scene("A person decides: failover", "the plan is made and shown, and run "
                          "under its hash: nothing else can happen than what was shown")
        yield from self._act("failover", (0, 11) if self._options.source_dies else (0,),
                             meanwhile=self._kill_source if self._options.source_dies else None)

    def _away(self) -> Iterator[Event]:
        facts = self._facts
        yield self._scene("Away from home", "acme and the callback list carry the load; the "
                          "counts of the servers must add up")
        if facts.source_killed:
            yield Act("the server of hq's queue was killed with -9 in the middle of the transfer")
        yield from self._crew.run("outbox")
        yield from self._crew.wait(2.0)
        yield from self._reconcile()
        yield from self._conserve()

    def _return(self) -> Iterator[Event]:
        yield self._scene("The head office is back", "its people are held until no copy is left "
                          "there that acme already owns")
        if not self._centre.alive(self._centre.queue_server("hq")):
            self._centre.restart(self._centre.queue_server("hq"))
            yield Act("the server of hq's queue runs again, with what it had on disk")
            self._facts.found_again = self._crew.depth("hq")
        self._centre.restart("hq")
        yield Act(f"hq's server runs again (pid {self._centre.pid('hq')})")
        yield from self._check_until("hq is healthy again",
                                     lambda seen: seen["sites"]["hq"] == "healthy")

    def _failback(self) -> Iterator[Event]:
        yield self._scene("Failback", "calls return in steps, and every application that nobody "
                          "at acme has begun")
        yield from self._act("failback", (0,))
        yield from self._crew.wait(2.0)

    def _prove(self) -> Iterator[Event]:
        facts, crew, report = self._facts, self._crew, self._options.report
        yield self._scene("The proof", "everything stops, and every application is looked for by "
                          "its id")
        end = self._runtime.now()
        crew.close_doors()
        yield from self._settle()
        shown: dict[str, dict[str, Any]] = {}
        for verb, run in facts.runs.items():
            said = yield from crew.run("runs", "show", run, "--json", out=nothing)
            shown[verb] = _json(said, f"runs show {run}")
        yield from crew.run("outbox", out=nothing)
        journal = yield from crew.run("journal", "verify")
        written = yield from crew.run("report", facts.runs["failover"], "--html", str(report),
                                      "--force", out=nothing, err=nothing)
        facts.codes |= {"journal": journal.code, "report": written.code}
        found = self._proof(shown, end)
        yield Finished(found, crew.seconds, {
            "report": str(report), "directory": str(self._options.directory)})

    # --- what the scenes are made of

    def _scene(self, title: str, text: str) -> Scene:
        self._scenes += 1
        return Scene(self._scenes, title, text)

    def _check_until(self, what: str, met: Any) -> Iterator[Event]:
        """`check` every second, as cron would."""
        end = self._runtime.monotonic() + PATIENCE
        while self._runtime.monotonic() < end:
            began = self._runtime.monotonic()
            said = yield from self._crew.run("check", "--json", out=nothing)
            seen = _json(said, "check")
            yield Line(seen["line"], problem=seen["code"] != 0)
            if seen["code"] == 2 and not self._facts.detected:
                self._facts.detected = self._runtime.now()
            if met(seen):
                return
            yield from self._crew.wait(max(0.0, 1.0 - (self._runtime.monotonic() - began)))
        raise StateUnknown(f"after {PATIENCE:g} s of checks it was not so that {what}",
                           where=str(self._options.directory))

    def _act(self, verb: str, expected: tuple[int, ...], *, meanwhile: Any = None,
             ) -> Iterator[Event]:
        """Plan, then run under the plan's hash. Raises StateUnknown on any other exit code."""
        crew = self._crew
        planned = yield from crew.run("plan", verb, "hq", "--reason", REASON)
        wanted = planned.out.rsplit("--plan", 1)[-1].strip()
        done = yield from crew.run(
            verb, "hq", "--reason", REASON, "--yes", "--plan", wanted, out=_result_only,
            meanwhile=meanwhile)
        self._facts.codes[verb] = done.code
        said = [line for line in done.out.splitlines() if line.startswith("run ")]
        if done.code not in expected or not said:
            raise StateUnknown(f"{verb} ended with exit code {done.code}",
                               where=str(self._options.directory),
                               hint="; ".join(done.err.splitlines()[-3:]) or None)
        self._facts.runs[verb] = said[-1].split()[1].rstrip(":")

    def _kill_source(self) -> None:
        """Kills the home queue's server as soon as some applications have arrived at acme."""
        facts, centre = self._facts, self._centre
        if facts.source_killed:
            return
        try:
            moved = sum(centre.depth("acme")) + len(centre.completed("acme"))
        except Unavailable:
            return
        if moved >= max(5, facts.present // 20):
            centre.kill(centre.queue_server("hq"))
            facts.source_killed = True

    def _reconcile(self) -> Generator[Event, None, None]:
        said = yield from self._crew.run("transfer", "reconcile", self._facts.runs["failover"],
                                         "--json", out=nothing)
        self._facts.codes["reconcile"] = said.code
        found = json.loads(said.out) if said.out.strip().startswith(("{", "[")) else {}
        rows = found.get("queues", [found]) if isinstance(found, dict) else found
        self._facts.reconciled = [row for row in rows if "terms" in row]
        for row in self._facts.reconciled:
            yield Line(f"{row['queue']}: {row['equation']}", problem=row["balanced"] is False)

    def _conserve(self) -> Iterator[Event]:
        """The servers' own counts, read until two readings in a row agree on the sum."""
        end = self._runtime.monotonic() + 10.0
        while True:
            found = self._count()
            self._facts.equation = found
            if found.balanced or self._runtime.monotonic() > end:
                break
            yield from self._crew.wait(0.3)
        yield Line(f"the servers count: {found.text}", problem=not found.balanced)

    def _count(self) -> proof.Equation:
        facts, crew = self._facts, self._crew
        ledger = {term["name"].replace("_", " "): int(term["value"] or 0)
                  for row in facts.reconciled for term in row["terms"]}
        arrived = crew.forwarded() - facts.forwarded
        done, waiting = len(self._centre.completed("acme")), crew.depth("acme")
        return proof.equation(
            present=facts.present, arrived=arrived, left=crew.depth("hq"),
            at_target=waiting or 0, completed=done,
            **{name: ledger.get(name, 0)
               for name in ("claimed", "stranded", "returned", "quarantined")})

    def _settle(self) -> Iterator[Event]:
        """Both sites stop working; nothing is in anybody's hands, and nothing at the switch."""
        for site in SITES:
            self._centre.put(site, "/consumers", {"open": False})
        end = self._runtime.monotonic() + PATIENCE
        while self._runtime.monotonic() < end:
            hidden = sum(self._centre.depth(site)[1] for site in SITES)
            if not hidden and not self._crew.held():
                return
            yield from self._crew.wait(0.3)
        raise StateUnknown("applications are still in somebody's hands", where="the demo's sites")

    def _proof(self, shown: Mapping[str, Mapping[str, Any]], end: int) -> proof.Proof:
        centre, crew, facts = self._centre, self._crew, self._facts
        ids = proof.account(
            facts.seeded, crew.submitted, {site: centre.completed(site) for site in SITES},
            {site: [json.loads(body)["uli"] for body in centre.waiting(site)] for site in SITES},
            crew.held(), facts.in_hand)
        return verdict(Seen(
            source_dies=self._options.source_dies, calls=crew.calls(), fault=facts.fault,
            detected=facts.detected, end=end, failover=shown["failover"],
            failback=shown["failback"], codes=facts.codes, equation=facts.equation,
            reconciled=tuple(facts.reconciled), ids=ids, report=self._options.report,
            answered={name: int(centre.get(name, "/counts")["contacts"])
                      for name in ("acme", "callback")},
            found_again=facts.found_again,
            messages=int(centre.get("inbox", "/messages")["count"])))


def _later(count: int) -> Iterator[dict[str, str]]:
    """The applications that come in during the story: others than those that wait already."""
    return islice(generate(10_000, SEED + 1 + count), 10_000)


def _result_only(line: str) -> bool:
    """The plan was shown a moment ago; of the run's own output only how it ended."""
    return line.startswith(("run ", "  exception"))


def _json(said: Said, what: str) -> dict[str, Any]:
    try:
        found = json.loads(said.out)
    except ValueError:
        raise StateUnknown(f"{what} did not answer with JSON (exit code {said.code})",
                           hint="; ".join(said.err.splitlines()[-3:]) or None) from None
    if not isinstance(found, dict):
        raise StateUnknown(f"{what} did not answer with an object")
    return found
