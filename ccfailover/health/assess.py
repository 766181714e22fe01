"""Readings → verdicts. Pure: no clock, no input or output.

Hysteresis (`step`), for one probe:
- DOWN costs `fall` BAD readings in a row, always. Until then the probe stays what it was, and one
  that has no history stays UNKNOWN.
- The very first reading settles at once when it is GOOD or WARN; a fresh installation would
  otherwise know nothing for minutes. A first BAD does not settle.
- GOOD becomes WARN after `fall` readings in a row of which none is GOOD.
- Leaving BAD, WARN or a lapse into UNKNOWN costs `rise` readings in a row that are better; one of
  them WARN makes it WARN. From UNKNOWN, `max(fall, rise)` readings that contradict each other
  make WARN.
- UNKNOWN readings neither raise nor lower: they leave every count as it is. `max(2, fall)` of them
  in a row make UNKNOWN, and from there everything has to be earned again.

Quorum (`assess`): the probes of one observer look at several sides of a thing, so all of them must
be good; observers are witnesses, so one that knows is enough.
- Observer: BAD when what it knows is BAD throughout; WARN when it knows any fault; GOOD when every
  probe is GOOD; else UNKNOWN.
- Site or dependency: down when at least one observer says BAD and none GOOD or WARN; degraded on
  any other fault, or when healthy but standing on a dependency that is down; healthy when an
  observer says GOOD and none knows a fault; else unknown. A stale probe is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ccfailover.health.jobs import (
    backlog_key,
    intake_key,
    is_stale,
    lever_jobs,
    route_key,
)
from ccfailover.model.health import (
    Assessment,
    Outcome,
    ProbeHistory,
    QueueView,
    Reading,
    State,
    World,
)
from ccfailover.model.policy import Policy, ProbeSpec, Queue
from ccfailover.model.shares import Shares


def step(history: ProbeHistory | None, reading: Reading, spec: ProbeSpec) -> ProbeHistory:
    """The history after one more reading. One that is not newer than the last changes nothing
    (two overlapping polls)."""
    if history is None:
        return _first(reading, spec)
    if reading.at <= history.last.at:
        return history
    if reading.outcome is Outcome.UNKNOWN:
        return _unknown(history, reading, spec)
    bads = history.bads + 1 if reading.outcome is Outcome.BAD else 0
    streak, leaning = _streak(history, reading.outcome)
    last_good, first_bad = _bounds(history, reading)
    now = replace(history, last=reading, bads=bads, unknowns=0, streak=streak,
                  streak_outcome=leaning, last_good=last_good, first_bad=first_bad)
    settled = _settles(now, spec)
    if settled is None:
        return now
    now = replace(now, settled=settled, since=reading.at, streak=0, streak_outcome=settled)
    if reading.outcome is Outcome.BAD:
        return now
    return replace(now, last_good=reading.at, first_bad=None)  # the fault, if any, is over


def _first(reading: Reading, spec: ProbeSpec) -> ProbeHistory:
    bad, good = reading.outcome is Outcome.BAD, reading.outcome in (Outcome.GOOD, Outcome.WARN)
    settles = good or (bad and spec.fall <= 1)
    return ProbeHistory(
        key=reading.key,
        settled=reading.outcome if settles else Outcome.UNKNOWN,
        streak=0 if settles or not bad else 1,
        streak_outcome=reading.outcome,
        since=reading.at,
        last=reading,
        last_good=reading.at if good else None,
        first_bad=reading.at if bad else None,
        bads=1 if bad else 0,
        unknowns=1 if reading.outcome is Outcome.UNKNOWN else 0,
    )


def _unknown(history: ProbeHistory, reading: Reading, spec: ProbeSpec) -> ProbeHistory:
    unknowns = history.unknowns + 1
    now = replace(history, last=reading, unknowns=unknowns)
    if unknowns < max(2, spec.fall) or history.settled is Outcome.UNKNOWN:
        # Once UNKNOWN, a long enough silence also voids what had been counted towards a verdict.
        lapsed = unknowns >= max(2, spec.fall)
        return replace(now, bads=0, streak=0) if lapsed else now
    return replace(now, settled=Outcome.UNKNOWN, since=reading.at, streak=0, bads=0,
                   streak_outcome=Outcome.UNKNOWN)


_RANK = {Outcome.GOOD: 0, Outcome.WARN: 1, Outcome.BAD: 2}


def _streak(history: ProbeHistory, seen: Outcome) -> tuple[int, Outcome]:
    """How many readings in a row disagree with what is settled, and what they amount to.

    Those worse than settled lean to the mildest of them, those better to the worst of them: a
    verdict moves no further than every reading in the streak bears out.
    """
    settled, count, leaning = history.settled, history.streak, history.streak_outcome
    if settled is Outcome.UNKNOWN:
        if count == 0:
            return 1, seen
        return count + 1, seen if seen is leaning else Outcome.WARN
    if seen is settled:
        return 0, settled
    worse = _RANK[seen] > _RANK[settled]
    if count == 0 or (_RANK[leaning] > _RANK[settled]) != worse:
        return 1, seen
    pick = min if worse else max
    return count + 1, pick((leaning, seen), key=_RANK.__getitem__)


def _settles(now: ProbeHistory, spec: ProbeSpec) -> Outcome | None:
    """What becomes settled with this reading, if anything new does."""
    if now.bads >= spec.fall:
        return None if now.settled is Outcome.BAD else Outcome.BAD
    if now.streak == 0 or now.streak_outcome is Outcome.BAD:
        return None
    if now.settled is Outcome.UNKNOWN:
        all_good = now.streak_outcome is Outcome.GOOD
        need = spec.rise if all_good else max(spec.fall, spec.rise)
    elif now.settled is Outcome.GOOD:
        need = spec.fall
    else:
        need = spec.rise
    return now.streak_outcome if now.streak >= need else None


def _bounds(history: ProbeHistory, reading: Reading) -> tuple[int | None, int | None]:
    """The last good reading before the present fault, and its first bad one.

    While BAD is settled both stand still: a single good reading in a fault is no recovery.
    """
    last_good, first_bad = history.last_good, history.first_bad
    if reading.outcome is Outcome.BAD:
        first_bad = reading.at if first_bad is None else first_bad
    elif history.settled is not Outcome.BAD:
        last_good, first_bad = reading.at, None
    return last_good, first_bad


def assess(policy: Policy, histories: Mapping[str, ProbeHistory], now: int,
           slack: float = 0.0) -> World:
    """One picture of everything, from what the probes remember. `now` in µs; `slack` as in
    `is_stale`."""
    dependencies = {
        name: _verdict("dependency", name, one.probes, policy, histories, now, slack)
        for name, one in policy.dependencies.items()
    }
    sites = {}
    for name, site in policy.sites.items():
        own = _verdict("site", name, site.probes, policy, histories, now, slack)
        sites[name] = _standing_on(own, [dependencies[one] for one in site.depends_on
                                         if one in dependencies])
    queues = {name: _queue_view(policy, queue, histories, now, slack)
              for name, queue in policy.queues.items()}
    treat_only = {}
    for name, queue in policy.queues.items():
        lost = _common_outage(policy, queue, dependencies)
        if lost:
            treat_only[name] = lost
    return World(now, sites, dependencies, queues, treat_only)


def _common_outage(
    policy: Policy, queue: Queue, dependencies: Mapping[str, Assessment]
) -> tuple[str, ...]:
    """Dependencies that are down under the home and every backup: moving would not help."""
    places = [policy.sites[name] for name in (queue.home, *queue.backups) if name in policy.sites]
    if not places:
        return ()
    shared = set(places[0].depends_on).intersection(*(place.depends_on for place in places[1:]))
    return tuple(sorted(name for name in shared if name in dependencies
                        and dependencies[name].state is State.DOWN))


def _standing_on(own: Assessment, under: Sequence[Assessment]) -> Assessment:
    down = [one for one in under if one.state is State.DOWN]
    if not down:
        return own
    names = ", ".join(one.name for one in down)
    if own.state is not State.HEALTHY:
        return replace(own, reason=f"{own.reason}; {names} is down, which it stands on")
    started = [one.since for one in down if one.since is not None]
    return replace(own, state=State.DEGRADED, reason=f"{names} is down, which it stands on",
                   since=min(started) if started else own.since)


def _verdict(
    noun: str, name: str, specs: Sequence[ProbeSpec], policy: Policy,
    histories: Mapping[str, ProbeHistory], now: int, slack: float,
) -> Assessment:
    if not specs:
        return Assessment(noun, name, State.UNKNOWN, None, "nothing watches it: it has no probes")
    fresh: dict[str, ProbeHistory] = {}
    missing: list[str] = []
    observers: dict[str, list[Outcome]] = {}
    for spec in specs:
        history = histories.get(spec.key)
        outcome = Outcome.UNKNOWN
        if history is None:
            missing.append(f"{spec.key} was never read")
        elif is_stale(policy, spec, history.last.at, now, slack):
            missing.append(f"{spec.key} was last read {abs(now - history.last.at) // 1_000_000} s "
                           + ("ago" if history.last.at <= now else "in the future"))
        else:
            outcome = history.settled
            fresh[spec.key] = history
        observers.setdefault(spec.observer, []).append(outcome)
    said = {observer: _observer(seen) for observer, seen in observers.items()}
    state = _quorum(list(said.values()))
    down = tuple(sorted(one for one, outcome in said.items() if outcome is Outcome.BAD))
    reason = _reason(state, fresh, missing)
    known = [one for one in fresh.values() if one.settled is not Outcome.UNKNOWN]
    last_good, first_bad = _fault_bounds(state, fresh)
    return Assessment(noun, name, state, max((one.since for one in known), default=None), reason,
                      down, last_good, first_bad)


def _observer(seen: Sequence[Outcome]) -> Outcome:
    known = [one for one in seen if one is not Outcome.UNKNOWN]
    if known and all(one is Outcome.BAD for one in known):
        return Outcome.BAD
    if any(one in (Outcome.BAD, Outcome.WARN) for one in known):
        return Outcome.WARN
    return Outcome.GOOD if known and len(known) == len(seen) else Outcome.UNKNOWN


def _quorum(said: Sequence[Outcome]) -> State:
    if Outcome.BAD in said and Outcome.GOOD not in said and Outcome.WARN not in said:
        return State.DOWN
    if Outcome.BAD in said or Outcome.WARN in said:
        return State.DEGRADED
    return State.HEALTHY if Outcome.GOOD in said else State.UNKNOWN


def _reason(
    state: State, fresh: Mapping[str, ProbeHistory], missing: Sequence[str]
) -> str:
    """The readings that made the verdict; for an unsettled probe also what it saw last."""
    told = []
    for history in fresh.values():
        if history.settled is Outcome.UNKNOWN and history.last.outcome is not Outcome.UNKNOWN:
            told.append(f"{history.last.detail} (not yet often enough to tell)")
        elif history.settled is not Outcome.GOOD:
            told.append(history.last.detail)
    if state is State.HEALTHY and not told:
        told = [history.last.detail for history in fresh.values()][:1]
    return "; ".join(dict.fromkeys([*told, *missing])) or "no reading"


def _fault_bounds(
    state: State, fresh: Mapping[str, ProbeHistory]
) -> tuple[int | None, int | None]:
    """The fault began after the first and by the second (µs).

    With several probes that are BAD: by the earliest bad reading, after the latest good one that
    precedes it.
    """
    bad = [one for one in fresh.values() if one.settled is Outcome.BAD]
    if state not in (State.DOWN, State.DEGRADED) or not bad:
        return max((one.last_good for one in fresh.values() if one.last_good is not None),
                   default=None), None
    first_bad = min((one.first_bad for one in bad if one.first_bad is not None), default=None)
    last_good = max((one.last_good for one in bad if one.last_good is not None
                     and (first_bad is None or one.last_good <= first_bad)), default=None)
    return last_good, first_bad


def _queue_view(
    policy: Policy, queue: Queue, histories: Mapping[str, ProbeHistory], now: int, slack: float,
) -> QueueView:
    """The last reading of each lever, if it is good and fresh. No hysteresis: these are facts."""
    seen: dict[str, Reading] = {}
    for job in lever_jobs(policy, queue):
        history = histories.get(job.spec.key)
        if history is not None and history.last.outcome is Outcome.GOOD \
                and not is_stale(policy, job.spec, history.last.at, now, slack):
            seen[job.spec.key] = history.last
    route, intake = seen.get(route_key(queue.name)), seen.get(intake_key(queue.name))
    depth: dict[str, int | None] = {}
    oldest: dict[str, float | None] = {}
    for site in queue.backlogs:
        found = seen.get(backlog_key(queue.name, site))
        count = found.values.get("depth") if found else None
        depth[site] = int(count) if count is not None else None
        oldest[site] = found.values.get("oldest_s") if found else None
    return QueueView(queue.name, _shares(route), depth, oldest,
                     lever.at if (lever := route or intake) else None, _shares(intake))


def _shares(found: Reading | None) -> Shares | None:
    return found.shares if found is not None else None
