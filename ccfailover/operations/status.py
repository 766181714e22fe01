"""What is where, who moved it, what now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ccfailover.health.current import current_shares
from ccfailover.model.health import State, World
from ccfailover.operations import run_list
from ccfailover.operations.drift import Expected, drifted, expectations
from ccfailover.operations.history import last_moves
from ccfailover.operations.look import look, remembered
from ccfailover.runtime import SECOND

if TYPE_CHECKING:
    from ccfailover.model.policy import Queue
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.run import Run, RunState


GLANCE = 0.2
"""Seconds for counting what is away: a status that makes wait is not asked for at 3 a.m."""


@dataclass(frozen=True)
class Status:
    """`facts` is the whole status as JSON; `next` its last line."""

    facts: dict[str, Any]
    world: World

    @property
    def next(self) -> str:
        return str(self.facts["next"])


def status(desk: Desk, *, probe: bool) -> Status:
    """From what the last checks recorded, or with `probe` from a fresh look (at most 4 s)."""
    world = look(desk) if probe else remembered(desk)
    opened = [(run, run_list.state_of(desk, run)) for run in run_list.open_runs(desk)]
    expected = expectations(desk, opened)
    queues = [_queue(queue, world, expected[queue.name]) for queue in desk.policy.by_priority()]
    incidents = open_incidents(desk)
    away, tasks = in_work(desk), by_hand(desk)
    facts = {
        "policy": desk.policy.heading,
        "at": world.at,
        "observed_at": max((q["shares_at"] for q in queues if q["shares_at"]), default=None),
        "sites": [
            {"site": name, "in_house": site.in_house,
             "state": world.site_state(name).value,
             "since": world.sites[name].since if name in world.sites else None,
             "open": desk.is_open(site, world.at),
             "reason": world.sites[name].reason if name in world.sites else "never observed"}
            for name, site in desk.policy.sites.items()
        ],
        "dependencies": [
            {"dependency": name, "state": found.state.value, "reason": found.reason}
            for name, found in world.dependencies.items()
        ],
        "queues": queues,
        "in_work": away,
        "by_hand": tasks,
        "runs": [{"run": run.id, "runbook": run.plan.runbook, "subject": run.plan.subject,
                  "state": state.value, "by": run.requester, "reason": run.plan.reason,
                  "supersedes": list(run.plan.supersedes),
                  "drill": run.plan.mode.value != "real"} for run, state in opened],
        "incidents": incidents,
        "automation": automation(desk),
        "next": _next(desk, world, opened, queues, incidents, away, tasks),
    }
    if desk.fan_out is not None:
        from ccfailover.transfer.fanout import who

        ours, others = who(desk.store.at_work(), desk.policy.sha256)
        facts["workers"] = {"alive": ours, "other_policy": others}
    if desk.local_base is not None:
        from ccfailover.operations.local import notes, with_option

        facts["notes"] = notes(desk)
        facts["local_journal"] = desk.store.path if desk.local is not None else None
        facts["next"] = with_option(desk, str(facts["next"]))
    return Status(facts, world)


def open_incidents(desk: Desk) -> list[dict[str, Any]]:
    """Those that are open, as declared. The index tells whether there are any: the stream that
    they are in may be long."""
    if not (desk.store.fact("incidents") or {}).get("open"):
        return []
    from ccfailover.operations.incidents import listed

    return [found.to_json() for found in listed(desk, only_open=True)]


def in_work(desk: Desk) -> list[dict[str, Any]]:
    """What providers were given and have not said to be done, given back, or had taken from them.
    `items` None: too many for a glance. `told`: whether the site ever says what becomes of its
    work."""
    found = []
    late = desk.runtime.monotonic() + GLANCE
    for queue in desk.policy.by_priority():
        for site in queue.backlogs:
            if site == queue.home:
                continue
            items = desk.store.in_work(queue.name, site,
                                       max(0.01, late - desk.runtime.monotonic()))
            if items != 0:
                found.append({"queue": queue.name, "site": site, "items": items,
                              "told": desk.store.tells(site)})
    return found


def by_hand(desk: Desk) -> list[dict[str, Any]]:
    """What people were asked to do and have not answered."""
    if desk.store.fact("by_hand") is None:
        return []
    from ccfailover.operations.by_hand import open_tasks

    return open_tasks(desk)


def automation(desk: Desk) -> dict[str, Any]:
    off = desk.store.fact("automation_off") or {}
    until = off.get("until")
    is_off = until is not None and until > desk.runtime.now()
    return {"off_until": until if is_off else None, "by": off.get("by") if is_off else None,
            "reason": off.get("reason") if is_off else None}


def _queue(queue: Queue, world: World, expected: Expected) -> dict[str, Any]:
    view = world.queues.get(queue.name)
    actual = current_shares(queue, world)
    return {
        "queue": queue.name, "channel": queue.channel, "home": queue.home,
        "home_state": world.site_state(queue.home).value,
        "normal": queue.normal.to_json(), "expected": dict(expected.shares),
        "actual": actual.to_json() if actual else None,
        "drift": drifted(queue, world, expected),
        "moved_by": expected.by or None,
        "depth": dict(view.depth) if view else {},
        "oldest_s": dict(view.oldest_s) if view else {},
        "shares_at": view.shares_at if view else None,
    }


def _flap_blocked(desk: Desk, queues: list[dict[str, Any]]) -> bool:
    """Whether the block against flapping would stop a move of these queues now."""
    window = desk.policy.guards.flap_block
    if not window:
        return False
    moves, now = last_moves(desk), desk.runtime.now()
    levers = {lever.lever for found in queues
              for queue in (desk.policy.queues[found["queue"]],)
              for lever in (queue.route, queue.intake) if lever is not None}
    return any(now - moves[lever] < window * SECOND for lever in levers & set(moves))


def _next(desk: Desk, world: World, opened: list[tuple[Run, RunState]],
          queues: list[dict[str, Any]], incidents: list[dict[str, Any]],
          away: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> str:
    if tasks:
        from ccfailover.operations.by_hand import next_for as answer

        waiting = [(run, state) for run, state in opened if state.value != "running"]
        if not waiting:
            return answer(tasks)
        from ccfailover.operations.describe import next_for

        return f"{answer(tasks)}   once it is done, then: {next_for(*waiting[0])}"
    if opened:
        from ccfailover.operations.describe import next_for

        waiting = [(run, state) for run, state in opened if state.value != "running"]
        return next_for(*(waiting or opened)[0])
    astray = [q["queue"] for q in queues if q["drift"]]
    homes = {queue.home for queue in desk.policy.queues.values()}
    for home in sorted(homes):
        mine = [q for q in queues if q["home"] == home]
        away = [q for q in mine if q["expected"] != q["normal"]]
        state = world.site_state(home)
        if state is State.DOWN and len(away) < len(mine):
            return f'ccfailover failover {home} --reason "…"'
        if away and state is State.HEALTHY and not astray:
            back = f'ccfailover failback {home} --reason "…"'
            if _flap_blocked(desk, away):
                return f'ccfailover ack --reason "…"   once you have looked, then: {back}'
            return back
    if astray:
        return (f"ccfailover reassert {astray[0]} --reason …   or, if these shares are meant: "
                f"adopt {astray[0]}")
    if any(world.site_state(home) is State.UNKNOWN for home in homes):
        return "ccfailover check   (or: status --probe)"
    for each in away:
        # A provider that never tells what it has done would be asked about for ever.
        view = world.queues.get(each["queue"])
        if each["told"] or view is not None and view.depth.get(each["site"]):
            return (f"ccfailover transfer status   ({each['items']} {each['queue']} are still in "
                    f"work at {each['site']})")
    for one in incidents:
        return f'ccfailover incident close {one["incident"]} --reason "…"   when it is over'
    return "nothing to do"
