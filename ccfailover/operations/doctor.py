"""What this machine needs to act in a disaster, one finding each; reads, and writes one event."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ccfailover.errors import CcfError, Exit, PolicyError, StoreError
from ccfailover.model.health import State, World
from ccfailover.model.plan import Mode
from ccfailover.model.policy import Policy, ProbeSpec
from ccfailover.operations import runs
from ccfailover.operations.desk import Desk
from ccfailover.operations.look import look
from ccfailover.operations.prepare import prepare
from ccfailover.operations.providers_test import test_levers
from ccfailover.operations.status import automation
from ccfailover.policy.values import REFERENCE
from ccfailover.runbooks.plan import Request
from ccfailover.runbooks.run import RunState
from ccfailover.runtime import SECOND

OK, ADVICE, BAD = "ok", "advice", "bad"

LEAST_FREE, ENOUGH_FREE = 100 * 1024**2, 1024**3
"""Bytes on the store's disk: below the first a run may be unable to write its journal."""

EARLIEST = 1_735_689_600 * SECOND
"""2025-01-01: a clock before it was never set."""

AHEAD = 5.0
"""Seconds that something written may lie in the future before the clock is doubted."""


@dataclass(frozen=True)
class Finding:
    """`level` ok | advice | bad. `code` is the exit code that a bad one asks for."""

    name: str
    level: str
    said: str
    todo: str = ""
    code: Exit = Exit.UNKNOWN

    def to_json(self) -> dict[str, str | int]:
        return {"check": self.name, "level": self.level, "said": self.said, "todo": self.todo}


_ORDER = (Exit.POLICY, Exit.UNKNOWN, Exit.PROVIDER, Exit.PAUSED, Exit.REFUSED)


def exit_of(findings: list[Finding]) -> Exit:
    """DONE when nothing is bad; else the code of what must be put right first."""
    codes = {found.code for found in findings if found.level == BAD}
    return next((code for code in _ORDER if code in codes), Exit.DONE)


def examine(desk: Desk) -> list[Finding]:
    """Everything at once. What cannot be found out is bad, never left out."""
    found = [Finding("policy", OK, f"{desk.policy.path}: {desk.policy.heading}, valid")]
    found += [*_policy_file(desk), *_libraries(desk), *_store(desk), *_mirror(desk)]
    found += [*workers(desk), *_place(desk), *_clock(desk)]
    world = look(desk)
    found += [*_secrets(desk), *_checks(desk), *_levers(desk, world), *_notify(desk)]
    found += [*_automation(desk), *_open_runs(desk), *_could_act(desk, world)]
    return found


def unusable(error: CcfError) -> list[Finding]:
    """When there is not even a desk: no policy, a bad one (every problem), or no store."""
    if isinstance(error, PolicyError):
        return [Finding("policy", BAD, str(problem), "ccfailover validate", Exit.POLICY)
                for problem in error.problems if problem.is_error]
    said = f"{error} ({error.not_done})" if error.not_done else str(error)
    store = isinstance(error, StoreError)
    return [Finding("store" if store else "policy", BAD, said,
                    error.hint or "ccfailover validate",
                    Exit.UNKNOWN if store else Exit.POLICY)]


def _policy_file(desk: Desk) -> Iterator[Finding]:
    try:
        mode = os.stat(desk.policy.path).st_mode
    except OSError as error:
        yield Finding("policy", BAD, f"{desk.policy.path}: {error.strerror}", "put it back",
                      Exit.POLICY)
        return
    if mode & 0o022:
        yield Finding("policy", ADVICE, "others may write to the policy file",
                      f"chmod go-w {desk.policy.path}")


def _libraries(desk: Desk) -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    import pycurl

    told = [f"libcurl {pycurl.version_info()[1]}",
            "python " + ".".join(map(str, sys.version_info[:3]))]
    try:
        told += [f"{name} {version(name)}" for name in ("ccfailover", "boto3", "apprise")]
    except PackageNotFoundError as error:
        yield Finding("libraries", BAD, f"{error.name} is not installed", "pip install ccfailover")
        return
    yield Finding("libraries", OK, ", ".join(told))


def _store(desk: Desk) -> Iterator[Finding]:
    path = desk.store.path
    try:
        desk.store.append("automation", "doctor.examined", {"host": desk.actor.host},
                          actor=str(desk.actor))
    except StoreError as error:
        yield Finding("store", BAD, f"{path} cannot be written: {error}",
                      error.hint or "free the disk, or give the file to this user")
        return
    yield Finding("store", OK, f"{path} takes writes, {len(desk.store.run_ids())} runs")
    if "://" in path:
        return  # the disk is the database server's
    free = shutil.disk_usage(os.path.dirname(path) or "/").free if path != ":memory:" else None
    if free is None:
        yield Finding("disk", BAD, "the store is in memory: it is lost with this process",
                      "give the policy a `store` on disk")
        return
    said = f"{free / 1024**3:.1f} GiB free where the store is"
    level = BAD if free < LEAST_FREE else ADVICE if free < ENOUGH_FREE else OK
    yield Finding("disk", level, said, "free some: a full disk stops every run" if level != OK
                  else "")


def _mirror(desk: Desk) -> Iterator[Finding]:
    """Whether this machine could go on without a store that it shares with others."""
    if desk.local_base is None:
        return
    mirror = desk.store.mirror
    if mirror is None:
        yield Finding("mirror", ADVICE, "this machine keeps no mirror of the shared store: without "
                      "the server it cannot act", "take CCFAILOVER_MIRROR, or the policy's "
                      "`mirror`, from `off`")
    elif mirror.trouble is not None:
        yield Finding("mirror", BAD, f"{mirror.path} cannot be kept: {mirror.trouble}",
                      "give this user a folder on a local disk (CCFAILOVER_MIRROR)")
    elif missing := mirror.missing():
        yield Finding("mirror", ADVICE, f"{mirror.path} does not hold {missing[0]} whole yet",
                      "ccfailover status")
    else:
        yield Finding("mirror", OK, f"{mirror.path} holds all {len(mirror.heads())} streams, "
                      "to this moment")


def workers(desk: Desk) -> Iterator[Finding]:
    """Who would help a run that has much to move."""
    if desk.fan_out is None:
        return
    from ccfailover.transfer.fanout import who

    ours, others = who(desk.store.at_work(), desk.policy.sha256)
    alive = f"{len(ours)} alive ({', '.join(ours)})" if ours else \
        "none alive: runs move applications by themselves"
    if others:
        yield Finding("workers", ADVICE, f"{alive}; {len(others)} with another policy get no work "
                      f"from this one's runs ({', '.join(others)})",
                      "give all machines the same policy file, and start these anew")
    else:
        yield Finding("workers", OK, alive)


def _place(desk: Desk) -> Iterator[Finding]:
    policy, place = desk.policy, desk.policy.store_location
    inside = sorted(name for name, site in policy.sites.items()
                    if place is not None and place in (site.location, name))
    if inside:
        yield Finding("place", BAD, f"the store stands at {place}, and so does {inside[0]}: it "
                      "would be lost with that site", "move this machine and its store elsewhere")
    elif place is None:
        yield Finding("place", ADVICE, "the policy does not say where the store stands, so nobody "
                      "can tell whether it dies with a site", "store: {path: …, location: …}")
    else:
        yield Finding("place", OK, f"the store stands at {place}, at no site of the policy")


def _clock(desk: Desk) -> Iterator[Finding]:
    now = desk.runtime.now()
    last = [record.at for record in desk.store.read("runs")[-1:]]
    last += [history.last.at for history in desk.store.histories().values()]
    ahead = (max(last, default=now) - now) / SECOND
    apart = (desk.store.now() - now) / SECOND
    if now < EARLIEST:
        yield Finding("clock", BAD, "this machine's clock was never set", "start NTP")
    elif ahead > AHEAD:
        yield Finding("clock", BAD, f"the store holds something from {ahead:.0f} s in the future: "
                      "this clock went back, or another one is ahead", "start NTP everywhere")
    elif abs(apart) > AHEAD:
        yield Finding("clock", BAD, f"the database's clock is {abs(apart):.0f} s "
                      f"{'ahead of' if apart > 0 else 'behind'} this machine's",
                      "start NTP everywhere")
    else:
        yield Finding("clock", OK, "nothing recorded lies in the future")


def _watching(policy: Policy) -> list[ProbeSpec]:
    return [*(probe for site in policy.sites.values() for probe in site.probes),
            *(probe for one in policy.dependencies.values() for probe in one.probes)]


def references(desk: Desk) -> list[str]:
    """Every reference to a secret that the policy makes; never a value."""
    policy, found = desk.policy, set[str]()

    def walk(value: object) -> None:
        if isinstance(value, str):
            if REFERENCE.fullmatch(value):
                found.add(value)
        elif isinstance(value, Mapping):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                walk(inner)

    for provider in policy.providers.values():
        walk(provider.params)
    for probe in (*_watching(policy), *(probe for queue in policy.queues.values()
                                        for probe in queue.probes)):
        walk(probe.params)
    for receiver in policy.notify:
        walk(receiver.url)
    return sorted(found)


def _secrets(desk: Desk) -> Iterator[Finding]:
    wanted = references(desk)
    good = 0
    for reference in wanted:
        try:
            desk.resolve(reference)
            good += 1
        except CcfError as error:
            problems = getattr(error, "problems", None)
            said = problems[0].message if problems else str(error)
            yield Finding("secrets", BAD, said, "set it for the user that cron and you act as",
                          Exit.POLICY)
    if good or not wanted:
        yield Finding("secrets", OK, f"{good} of {len(wanted)} references lead to a secret")


def _checks(desk: Desk) -> Iterator[Finding]:
    policy, now = desk.policy, desk.runtime.now()
    every = [probe.every for probe in _watching(policy)]
    newest = max((history.last.at for history in desk.store.histories().values()), default=None)
    todo = "* * * * * ccfailover check   (cron), or a systemd timer"
    if newest is None:
        yield Finding("check", BAD, "check has never run: nothing is watched", todo)
        return
    age = (now - newest) / SECOND
    late = max(120.0, policy.stale_after * max(every, default=60.0))
    level = BAD if age > late else OK
    yield Finding("check", level, f"the newest reading is {age:.0f} s old", todo if level == BAD
                  else "")


def _levers(desk: Desk, world: World) -> Iterator[Finding]:
    rows = test_levers(desk)
    down = [name for name in desk.policy.sites if world.site_state(name) is State.DOWN]
    for row in rows:
        if not row["ok"]:
            # What stands in a dead site is what a failover does without.
            dead = any(str(row["role"]).endswith(f" at {name}") for name in down)
            said = f"{row['role']} ({row['lever']}) cannot be read: {row['detail']}"
            yield Finding("levers", ADVICE if dead else BAD, said, "ccfailover providers test",
                          Exit.PROVIDER)
    good = sum(bool(row["ok"]) for row in rows)
    if good or not rows:
        yield Finding("levers", OK if rows else BAD, f"{good} of {len(rows)} levers, backlogs and "
                      "gates can be read", "" if rows else "give the queues a route or an intake")


def _notify(desk: Desk) -> Iterator[Finding]:
    if not desk.policy.notify:
        yield Finding("notify", ADVICE, "nobody is told of anything: the policy has no `notify`",
                      'notify: [{url: "env:OPS_NOTIFY_URL"}]')
        return
    stuck = [message for message in desk.store.pending(50) if message.attempts >= 3]
    if stuck:
        yield Finding("notify", BAD, f"{len(stuck)} messages cannot be delivered: "
                      f"{stuck[0].last_error}", "ccfailover outbox --list")
    else:
        yield Finding("notify", OK, f"{len(desk.policy.notify)} receivers, nothing stuck")


def _automation(desk: Desk) -> Iterator[Finding]:
    off: dict[str, Any] = automation(desk)
    automatic = [name for name, trigger in desk.policy.triggers.items()
                 if trigger.mode == "automatic"]
    if off["off_until"]:
        yield Finding("automation", ADVICE, f"is off, by {off['by']}: {off['reason']}",
                      "ccfailover automation on")
    else:
        told = f"on; runs by itself: {', '.join(sorted(automatic)) or 'nothing, people decide'}"
        yield Finding("automation", OK, told)


def _open_runs(desk: Desk) -> Iterator[Finding]:
    opened = [(run, runs.state_of(desk, run)) for run in runs.open_runs(desk)]
    for run, state in opened:
        busy = state in (RunState.RUNNING, RunState.ROLLING_BACK)
        yield Finding(
            "runs", ADVICE if busy else BAD, f"{run.id} {run.plan.runbook} {run.plan.subject} is "
            f"{state.value.replace('_', ' ')} and holds its queues",
            f"ccfailover runs {'watch' if busy else 'show'} {run.id}", Exit.PAUSED)
    if not opened:
        yield Finding("runs", OK, "no run is open: every queue is free to be moved")


def _could_act(desk: Desk, world: World) -> Iterator[Finding]:
    """Plan, without doing anything, what each home's failover would be right now."""
    for home in sorted({queue.home for queue in desk.policy.queues.values()}):
        try:
            prepared = prepare(desk, Request("full_failover", home, "doctor", mode=Mode.SHADOW),
                               world=world)
        except CcfError as error:
            yield Finding("failover", BAD, f"failover {home} cannot be planned: {error}",
                          error.hint or "", Exit.REFUSED)
            continue
        names = [branch.name for branch in prepared.plan.branches]
        stays = sorted(set(prepared.plan.shares_after) - set(names))
        what = f"failover {home} would move {', '.join(names) or 'nothing'}"
        if stays:
            what += f"; {', '.join(stays)} would stay"
        if prepared.refusal is not None:
            yield Finding("failover", BAD, f"{what}, but is refused: {prepared.refusal}",
                          prepared.refusal.hint or "", Exit.REFUSED)
        else:
            away = all(home not in (parts or {}) for parts in prepared.plan.shares_before.values())
            level = OK if names or away else ADVICE
            yield Finding("failover", level, what, "" if level == OK else
                          f"ccfailover plan failover {home}")
