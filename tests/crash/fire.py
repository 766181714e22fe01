"""A move under fire: its process killed over and over, its target failing, its servers restarted;
and what the servers themselves have at the end, against what the ledger says.

The child is one process of the mover, as a run's step would make it; the parent sets the scene,
strikes, and counts. `python -m tests.crash.fire CONFIG` is the child.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccfailover.errors import CcfError
from ccfailover.model.items import ItemState
from ccfailover.model.journal import Actor
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.simulation.applications import generate
from ccfailover.store import Store, open_store, this_process
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.mover import Mover
from ccfailover.transfer.rows import application
from ccfailover.wiring.kinds import provider_class
from tests import loans

SECRETS = {"env:A": "AKIAFIRE", "env:B": "secret-of-the-fire"}
"""What the references of a scene stand for; a child is given them in its environment."""
TTL = 30.0
STEP = "applications/1-transfer-hq-acme"
TOO_OFTEN = 1000
"""Children that one move may need: more would be a move that never ends."""


def bodies(count: int, seed: int) -> Iterator[bytes]:
    """Applications of the regulator's form, every id once, of about 480 bytes."""
    for row in generate(count, seed):
        yield loans.filled({**row, "state": "TX"}).encode()


# --- the child -----------------------------------------------------------------------------------


class Elsewhere(SystemRuntime):
    """A machine whose clock is `off` seconds ahead of ours."""

    def __init__(self, off: float) -> None:
        self._off = int(off * SECOND)

    def now(self) -> int:
        return super().now() + self._off


def child(config: dict[str, Any]) -> int:
    """Takes the run up and moves until nothing is left. 0: the source is proven empty."""
    runtime = Elsewhere(config.get("clock", 0))
    store = open_store(config["store"], runtime)
    try:
        lease, _ = store.acquire(config["run"], actor=this_process("fire"), ttl=TTL)
        levers = []
        for end in ("source", "target"):
            spec = ProviderSpec(end, config[end]["kind"], config[end]["params"])
            provider = provider_class(spec.kind)(
                spec, resolve=lambda ref: os.environ[ref], runtime=runtime)
            lever = LeverSpec(end, config[end]["ref"], {
                **config[end]["lever"], "item": loans.ITEM, "max_item_bytes": loans.MAX_BYTES})
            levers.append((provider, lever))
        (source, from_), (target, to) = levers
        mover = Mover(
            source.backlog(from_), target.backlog(to), store=store, lease=lease,
            run=config["run"], step=STEP, queue=loans.queue(), source_site="hq",
            target_site=loans.site("acme"),
            eligibility=CelEligibility(loans.queue(), loans.site("acme"), runtime),
            runtime=runtime,
            target_capabilities=target.capabilities(target.spec.params, to.params),
            check_fence=lambda: void(store.check_fence(lease, 10.0)))
        result = mover.run(runtime.monotonic() + 3600)
        print(json.dumps({"detail": result.detail, "moved": result.moved}), flush=True)
        return 0 if result.complete and not result.remaining_claimed else 3
    except CcfError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 4
    finally:
        store.close()


def void(_: object) -> None:
    """Nothing."""


# --- the scene -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """One end of the move: how the child reaches it."""

    kind: str
    params: dict[str, Any]
    ref: str
    lever: dict[str, Any]


@dataclass
class Count:
    """What the servers have, application by application, and what came to the target's door."""

    source: Counter[str]
    target: Counter[str]
    door: Counter[str]


class Scene(ABC):
    """`window`: how many items a process can have on their way when it is killed."""

    source: End
    target: End
    window: int
    swallows: bool

    @abstractmethod
    def fill(self, items: Sequence[bytes]) -> None: ...

    def filled(self) -> bool:
        """Whether all of it has come to the source."""
        return True

    @abstractmethod
    def arrived(self) -> int:
        """How many puts have come to the target's door."""

    @abstractmethod
    def count(self) -> Count:
        """At the end, with nobody else at work."""

    @abstractmethod
    def restart(self) -> None:
        """A server goes down in mid-move and comes back with what it had on disk."""


@dataclass
class Burnt:
    """`wanted`: what was sent. `states`: of the ledger's rows; `reasons`: of those not settled;
    `listed`: applications it calls possible duplicates."""

    wanted: set[str]
    kills: int
    count: Count
    states: Counter[ItemState]
    reasons: Counter[str]
    listed: set[str]
    known: set[str]
    seconds: float
    children: int
    said: list[str] = field(default_factory=list)

    @property
    def doubles(self) -> Counter[str]:
        return Counter({each: n - 1 for each, n in self.count.target.items() if n > 1})

    @property
    def raw(self) -> Counter[str]:
        """Puts beyond the first of each, before the target's own de-duplication."""
        return Counter({each: n - 1 for each, n in self.count.door.items() if n > 1})

    def line(self) -> str:
        return (f"{len(self.wanted):,} items, {self.kills} kills, {self.children} processes, "
                f"{self.seconds:.0f} s; at the target {sum(self.count.target.values()):,}, left at "
                f"the source {sum(self.count.source.values()):,}; raw duplicates "
                f"{sum(self.raw.values())}, effective {sum(self.doubles.values())}, "
                f"listed {len(self.listed)}")

    def broken(self, scene: Scene) -> list[str]:
        """Promises that were not kept; empty when all were."""
        found, wanted = [], self.wanted
        target = set(self.count.target)
        lost = wanted - target - set(self.count.source)
        if lost:
            found.append(f"{len(lost)} lost, such as {sorted(lost)[:3]}")
        if self.count.source:
            found.append(f"{sum(self.count.source.values())} left at the source")
        if target - wanted:
            found.append(f"{len(target - wanted)} at the target that nobody sent")
        if self.known != wanted:
            found.append(f"the ledger knows {len(self.known)} of {len(wanted)}")
        doubt = sum(n for state, n in self.states.items() if state is not ItemState.SETTLED)
        if doubt:
            found.append(f"{doubt} not settled: {dict(self.states)}, {dict(self.reasons)}; "
                         f"the last ones said {self.said[-3:]}")
        if unlisted := set(self.raw) - self.listed:
            found.append(f"{len(unlisted)} came twice and are not listed, such as "
                         f"{sorted(unlisted)[:3]}")
        if unlisted := set(self.doubles) - self.listed:
            found.append(f"{len(unlisted)} are twice at the target and not listed, such as "
                         f"{sorted(unlisted)[:3]}")
        if more := {each for each, n in self.count.target.items() if n > self.count.door[each]}:
            found.append(f"{len(more)} are at the target more often than they came to its door")
        if scene.swallows and self.doubles:
            found.append(f"{len(self.doubles)} are twice at a target that swallows repetitions")
        most = (self.kills + 2) * scene.window
        if sum(self.raw.values()) > most:
            found.append(f"{sum(self.raw.values())} raw duplicates, more than {most}")
        return found


def burn(scene: Scene, place: Path, *, items: int, kills: int, seed: int, restart: bool = True,
         clocks: Sequence[float] = (0,), patience: float = 1200.0) -> Burnt:
    """Fill, kill `kills` times, let it end, count. `clocks`: by how much the clocks are off of
    those that take the move up, one after the other, seconds."""
    chance = random.Random(seed)
    made = list(bodies(items, seed))
    scene.fill(made)
    store, config = ready(place, scene.source, scene.target)
    began, struck, children, said = time.monotonic(), 0, 0, list[str]()
    # Spread over the whole move, by what has arrived: not by the clock of a busy machine.
    marks = sorted(chance.randrange(items) for _ in range(kills))
    again = items // 2 if restart else None
    while True:
        children += 1
        if children > TOO_OFTEN or time.monotonic() - began > patience:
            raise AssertionError(f"the move does not end: {said[-3:]}")
        whole = scene.filled()
        process = mover({**config, "clock": clocks[children % len(clocks)]})
        try:
            while process.poll() is None and marks:
                arrived = scene.arrived()
                if again is not None and arrived >= again:
                    again = None
                    scene.restart()
                if arrived >= marks[0]:
                    time.sleep(chance.random() * 0.05)
                    process.kill()
                    struck += process.wait() == -signal.SIGKILL
                    # A mark that was passed while nobody was alive strikes the next child.
                    marks.pop(0)
                    break
                time.sleep(0.01)
            out, _ = process.communicate(timeout=max(1.0, patience - (time.monotonic() - began)))
        finally:
            process.kill()
            process.wait()
        said.append(out.strip()[-300:])
        # One that found the source empty for a moment has a successor.
        if process.returncode == 0 and whole:
            break
    return told(scene, store, made, struck, children, said, time.monotonic() - began)


def told(scene: Scene, store: Store, sent: Sequence[bytes], struck: int, children: int,
         said: list[str], took: float) -> Burnt:
    states: Counter[ItemState] = Counter()
    reasons: Counter[str] = Counter()
    listed, known = set[str](), set[str]()
    for row in store.items(queue="applications"):
        states[row.state] += 1
        reasons[row.reason] += row.state is not ItemState.SETTLED
        known.add(application(row))
        if row.possible_duplicate or row.resent:
            listed.add(application(row))
    store.close()
    return Burnt({id_of(each) for each in sent}, struck, scene.count(), states, +reasons, listed,
                 known, took, children, said)


def side_by_side(scene: Scene, place: Path, *, items: int, seed: int) -> Burnt:
    """Two runs by mistake, each with a mover of its own, on the same queues at once."""
    made = list(bodies(items, seed))
    scene.fill(made)
    store, config = ready(place, scene.source, scene.target)
    began, said = time.monotonic(), list[str]()
    both = [mover(config), mover({**config, "run": begin(store, "by-mistake")})]
    try:
        said = [process.communicate(timeout=600)[0].strip()[-300:] for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    # Whoever ended while the other one still had items in hand looks once more.
    last = mover(config)
    said.append(last.communicate(timeout=600)[0].strip()[-300:])
    return told(scene, store, made, 0, 3, said, time.monotonic() - began)


def ready(place: Path, source: End, target: End) -> tuple[Store, dict[str, Any]]:
    """A store with a run in it, and what a child has to know."""
    path = str(place / "fire.db")
    store = open_store(path, SystemRuntime())
    return store, {"store": path, "run": begin(store), "source": source.__dict__,
                   "target": target.__dict__}


def mover(config: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tests.crash.fire", json.dumps(config)],
                            stdout=subprocess.PIPE, cwd=ROOT, text=True,
                            env={**os.environ, **SECRETS})


def begin(store: Store, scope: str = "applications") -> str:
    run, lease = loans.begin(store, Actor("fire", "here", os.getpid()), TTL, scope)
    store.release(lease)
    return run


def id_of(body: bytes | str) -> str:
    return str(json.loads(body)["uli"])


ROOT = Path(__file__).resolve().parent.parent.parent

if __name__ == "__main__":
    sys.exit(child(json.loads(sys.argv[1])))
