"""The one line of `check`: Nagios status, sentences, performance data. Pure.

CRITICAL beats WARNING beats UNKNOWN beats OK, as in the plugin conventions, and everything found
is told, the worst first. Nagios cuts a plugin's output at 8 KiB; so do we, between two items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from ccfailover.health.perfdata import write_perfdata
from ccfailover.health.triggers import GENTLE, OpenRun
from ccfailover.model.health import Assessment, Decision, QueueView, State, World
from ccfailover.model.policy import Policy
from ccfailover.runtime import SECOND

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
NAMES = {OK: "OK", WARNING: "WARNING", CRITICAL: "CRITICAL", UNKNOWN: "UNKNOWN"}
WORST_FIRST = (CRITICAL, WARNING, UNKNOWN, OK)
LEVELS = {State.HEALTHY: OK, State.DEGRADED: WARNING, State.DOWN: CRITICAL,
          State.UNKNOWN: UNKNOWN}
NEEDS_A_PERSON = frozenset({"interrupted", "paused", "stuck"})
TEXT_LIMIT = 2000
LINE_LIMIT = 8000
"""Bytes; Nagios Core keeps 8192."""

Note = tuple[int, str]
"""A level (0 to 3) and a sentence."""


def summary(
    policy: Policy, world: World, decisions: Sequence[Decision], open_runs: Sequence[OpenRun], *,
    notes: Sequence[Note] = (), name: str = "CCFAILOVER",
) -> tuple[int, str]:
    """Exit code and line. `notes` are what else the caller found (shares that differ from the
    journal's, a reading that could not be stored …)."""
    found = [*_of_places(world), *_of_queues(policy, world), *_of_decisions(decisions),
             *_of_runs(open_runs), *notes]
    present = {level for level, _ in found}
    code = next((level for level in WORST_FIRST if level in present), OK)
    told = [said for wanted in WORST_FIRST for level, said in found if level == wanted]
    text = "; ".join(dict.fromkeys(told)) or f"{_count(world)} healthy"
    return code, _line(f"{name} {NAMES[code]} - {text}", _perfdata(world, open_runs))


def refusal(reason: str, name: str = "CCFAILOVER") -> tuple[int, str]:
    """When no verdict could be reached: bad policy, no store, wrong usage."""
    return UNKNOWN, _line(f"{name} UNKNOWN - {reason}", iter(()))


def _of_places(world: World) -> Iterator[Note]:
    for noun in (world.sites, world.dependencies):
        for place in noun.values():
            if place.state is not State.HEALTHY:
                yield LEVELS[place.state], _place(place)


def _place(place: Assessment) -> str:
    since = ""
    if place.state in (State.DOWN, State.DEGRADED) and place.since is not None:
        since = f" since {_clock(place.since)}"
    what = "" if place.noun == "site" else f"{place.noun} "
    return f"{what}{place.name} {place.state.value}{since} ({place.reason})"


def _of_queues(policy: Policy, world: World) -> Iterator[Note]:
    for queue in world.queues.values():
        asked = policy.queues.get(queue.name)
        if asked is not None and asked.route is not None and queue.shares is None:
            yield UNKNOWN, f"shares of {queue.name} unknown"
        blind = sorted(site for site, depth in queue.depth.items() if depth is None)
        if blind:
            yield UNKNOWN, f"backlog of {queue.name} at {', '.join(blind)} unknown"
    for name, lost in world.treat_only.items():
        yield CRITICAL, f"{name} can only be treated: {', '.join(lost)} down everywhere"


def _of_decisions(decisions: Sequence[Decision]) -> Iterator[Note]:
    for one in decisions:
        level = WARNING if one.runbook in GENTLE else CRITICAL
        asks = {"advise": "advised", "approve": "awaits approval", "execute": "due"}[one.action]
        held = f", held back: {'; '.join(one.blockers)}" if one.blockers else ""
        yield level, f"{one.runbook} {one.subject} {asks} by {one.trigger}{held}"


def _of_runs(open_runs: Sequence[OpenRun]) -> Iterator[Note]:
    for run in open_runs:
        level = CRITICAL if run.state in NEEDS_A_PERSON else OK
        yield level, f"run {run.run} ({run.runbook} {run.subject}) {run.state}"


def _perfdata(world: World, open_runs: Sequence[OpenRun]) -> Iterator[str]:
    places = [*world.sites.values(), *world.dependencies.values()]
    for state in (State.DOWN, State.DEGRADED, State.UNKNOWN):
        count = sum(1 for place in places if place.state is state)
        yield write_perfdata(state.value, count, least="0", most=str(len(places)))
    yield write_perfdata("open_runs", len(open_runs), least="0")
    for queue in world.queues.values():
        yield from _of_queue(queue)


def _of_queue(queue: QueueView) -> Iterator[str]:
    for site, depth in queue.depth.items():
        yield write_perfdata(f"{queue.name} depth {site}", depth, least="0")
    for site, oldest in queue.oldest_s.items():
        if oldest is not None:
            yield write_perfdata(f"{queue.name} oldest {site}", oldest, "s", least="0")
    for destination, share in (queue.shares or {}).items():
        yield write_perfdata(f"{queue.name} share {destination}", share, "%", least="0",
                             most="100")


def _count(world: World) -> str:
    return f"{len(world.sites)} site{'s' if len(world.sites) != 1 else ''}"


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _line(text: str, items: Iterator[str]) -> str:
    """The `|` parts text from data, so the text may hold none; nor a line break."""
    clean = " ".join(text.replace("|", "/").split())
    if len(clean) > TEXT_LIMIT:
        clean = clean[: TEXT_LIMIT - 1] + "…"
    line, mark = clean, " | "
    for item in items:
        if len((line + mark + item).encode()) > LINE_LIMIT:
            break
        line, mark = line + mark + item, " "
    return line
