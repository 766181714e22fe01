"""Bring what was done without the shared store, or what the server has lost, back into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ccfailover.errors import StoreError, UsageError
from ccfailover.operations.desk import Desk
from ccfailover.operations.run_list import folded
from ccfailover.runbooks.run import Run
from ccfailover.store import imports, local, open_store
from ccfailover.store.imports import Came, Source
from ccfailover.store.mirrored import MirroredDatabase, diverged

_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Imported:
    """What came of one journal. `overlaps` are sentences: who else moved the same meanwhile."""

    name: str
    came: tuple[Came, ...]
    automation: int
    overlaps: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"from": self.name, "runs": [dict(each.__dict__) for each in self.came],
                "automation_events": self.automation, "overlaps": list(self.overlaps)}


def import_all(desk: Desk, file: str | None) -> list[Imported]:
    """`file`, or else what this machine's mirror has and the server lost, and its local journal.

    The desk's store must have been opened unverified. Everything is verified before it comes in;
    twice imports nothing. Raises StoreError for a journal that was changed, LeaseHeld when a run
    that would get events is being carried.
    """
    if file is not None:
        found = [_from(desk, _opened(desk, file))]
    else:
        found = [*_lost(desk), *_local(desk)]
    database = desk.store._db
    if isinstance(database, MirroredDatabase):
        mirror = database.mirror
        lost = diverged(database.query, mirror) if mirror is not None and mirror.usable else []
        if mirror is not None and all(_is_back(desk, each.lost) for each in lost):
            mirror.set_aside({each.stream: each.common for each in lost})
            database.catch_up()
    return [each for each in found if each.came or each.automation]


def _is_back(desk: Desk, events: Sequence[tuple[str, int, str, str]]) -> bool:
    """Whether what the server lacked of a stream has come in, under whichever name."""
    if not events or not events[0][0].startswith("run:"):
        return True  # the chain of runs and automation come in as events of their own
    run, head = events[0][0].removeprefix("run:"), events[-1][3]
    return any(record.kind == "run.imported" and record.data["origin"]["run"] == run
               and record.data["origin"]["head"] == head for record in desk.store.read("runs"))


def _lost(desk: Desk) -> list[Imported]:
    mirror = desk.store.mirror
    if mirror is None or not mirror.usable or not diverged(desk.store._db.query, mirror):
        return []
    return [_from(desk, imports.from_mirror(mirror))]


def _local(desk: Desk) -> list[Imported]:
    path = local.current(desk.local_base) if desk.local_base is not None else None
    if path is None:
        return []
    store = open_store(path, desk.runtime, create=False)
    try:
        imported = _from(desk, imports.from_store(store))
        store.append("automation", local.IMPORTED, {
            "into": desk.store.path, "runs": [each.run for each in imported.came],
        }, actor=str(desk.actor))
        return [imported]
    finally:
        store.close()


def _opened(desk: Desk, file: str) -> Source:
    try:
        with open(file, "rb") as opened:
            begins = opened.read(len(_SQLITE))
            if begins != _SQLITE:
                opened.seek(0)
                return imports.from_lines(file, opened.readlines())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}",
                         not_done="nothing was imported",
                         hint="a local journal, or what `ccfailover journal export` wrote"
                         ) from None
    if _same(file, desk.store.path):
        raise UsageError("a store cannot be imported into itself", where=file,
                         not_done="nothing was imported", hint="name another journal")
    store = open_store(file, desk.runtime, create=False)
    source = imports.from_store(store)
    return source


def _same(one: str, other: str) -> bool:
    import os

    return os.path.exists(other) and os.path.samefile(one, other)


def _from(desk: Desk, source: Source) -> Imported:
    actor = str(desk.actor)
    before = set(desk.store.run_ids())
    came = imports.bring_in(desk.store, source, actor=actor)
    brought = imports.automation(desk.store, source, actor=actor)
    known = {stream.removeprefix("run:") for stream in source.heads}
    others = [folded(desk, run) for run in sorted(before) if run not in known or any(
        each.origin == run and each.how == "diverged" for each in came)]
    mine = [folded(desk, each.run) for each in came]
    overlaps = tuple(said for run in mine for other in others
                     if (said := _overlap(desk, run, other)) is not None)
    if came or brought:
        desk.store.append("automation", local.IMPORTED, {
            "from": source.name, "seal": source.seal,
            "runs": [dict(each.__dict__) for each in came], "automation_events": brought,
            "overlaps": list(overlaps),
        }, actor=actor)
    problems = desk.store.verify()
    if problems:
        raise StoreError(f"after the import the journal does not verify: {problems[0]}",
                         where=desk.store.path, not_done="the local journal is kept as it is",
                         hint="ccfailover journal verify")
    return Imported(source.name, tuple(came), brought, overlaps)


def _overlap(desk: Desk, one: Run, other: Run) -> str | None:
    """What both moved, neither knowing of the other."""
    from ccfailover.store.lease_words import clock

    both = sorted(_moved(one) & _moved(other))
    if not both:
        return None
    spans = []
    for run in (one, other):
        begun, ended = run.started_at or run.planned_at, run.ended_at
        spans.append((begun, ended or desk.runtime.now(),
                      f"{run.id} from {clock(begun)} to {clock(ended) if ended else 'now'}"))
    together = max(spans[0][0], spans[1][0]) <= min(spans[0][1], spans[1][1])
    return (f"{', '.join(both)} moved by {spans[0][2]} and by {spans[1][2]}, "
            f"{'at the same time' if together else 'one after the other'}, neither knowing of "
            "the other")


def _moved(run: Run) -> set[str]:
    """Levers and queues that a run has touched."""
    begun = [step.spec for step in run.steps.values() if step.attempts]
    return {spec.lever for spec in begun if spec.lever} | {
        f"queue {spec.params['queue']}" for spec in begun if spec.lever and "queue" in spec.params}
