"""The policy of a simulated story: its sites, queues, recipes, people, and what is forbidden.

`may` is written from the policy's meaning and not with the planner's rules, so that a mistake
there is none here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from typing import Final

from ccfailover.model.policy import (
    GuardLimits,
    LeverSpec,
    NotifySpec,
    Policy,
    ProbeSpec,
    ProviderSpec,
    Queue,
    Site,
)
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.simulation.clock_sim import Chance

HOME: Final = "hq"
SWITCH: Final = "switch"
ITEM: Final = {"id": "uli", "state": "state", "locked": "locked"}
DATA: Final = "nonpublic"
CRITERIA: Final = "2026-10"
ENDED: Final = date(2026, 1, 31)
"""A day long before any story begins."""
PEOPLE: Final = {"duty": ("bea", "cleo")}
"""Who may approve for a role; `ann` asks for every run, and `dan` has no role."""


def make(chance: Chance, names: Iterable[str], *, fifo: bool, slow: bool) -> Policy:
    """`slow`: increments soak for long, so that something may happen meanwhile."""
    backups = [name for name in names if name != HOME]
    sites = {HOME: _site(HOME, chance)} | {name: _site(name, chance) for name in backups}
    queues = {}
    for name, channel in (("loan_calls", "voice"), ("chats", "chat"),
                          ("applications", "application")):
        if name == "chats" and chance.often(0.5):
            continue
        queues[name] = _queue(chance, name, channel, backups, fifo=fifo, slow=slow)
    return Policy(
        name="simulated", environment="simulation", path="simulated.yaml", sha256="0" * 64,
        currency="USD", timezone="UTC", store=None, sites=sites, dependencies={},
        providers={SWITCH: ProviderSpec(SWITCH, "simulated", {})},
        queues=queues, triggers={}, guards=GuardLimits(),
        notify=(NotifySpec("ops", "env:OPS", ()),) if chance.often(0.6) else (),
        runbooks=_runbooks(chance), people=PEOPLE,
    )


def _runbooks(chance: Chance) -> Mapping[str, Mapping[str, object]]:
    if chance.often(0.55):
        return {}
    failing = chance.choice(["undo", "abort", "abort", "continue", "pause"])
    before: list[object] = ["confirm"]
    if chance.often(0.5):
        before.append({"approve": {
            "role": chance.choice(["", "duty"]), "people": 1 + chance.below(2),
            "within": chance.choice([20.0, 60.0]),
            "on_timeout": chance.weighted((("refuse", 1.0), ("escalate", 2.0),
                                           ("proceed", 1.0)))}})
    return {"full_failover": {"before": before, "branch": [
        "redirect_intake", {"shift_route": {"on_failure": failing}},
        "transfer", "verify"], "after": [{"notify": {"event": "finished"}}]}}


def _site(name: str, chance: Chance) -> Site:
    in_house = name in (HOME, "branch")
    licences = chance.weighted(((("TX", "AK"), 5.0), (("TX",), 4.0), ((), 1.0)))
    held: dict[str, date | None] = dict.fromkeys(licences) or {"TX": ENDED}
    return Site(name=name, in_house=in_house, timezone="UTC", hours=None, holidays=None,
                location=None, country=None, depends_on=(), probes=(), staff={},
                licences=None if in_house else held,
                data_classes=None if in_house else frozenset(
                    {DATA} if chance.often(0.85) else {"public"}),
                criteria_version=None if in_house or chance.often(0.1) else CRITERIA)


def _queue(chance: Chance, name: str, channel: str, backups: list[str], *, fifo: bool,
           slow: bool) -> Queue:
    lever = LeverSpec(SWITCH, f"{name}_route")
    app = channel == "application"
    sites = [HOME, *backups]
    suffix = ".fifo" if fifo else ""
    backlogs = {site: LeverSpec(SWITCH, f"jobs_{site}" + (suffix if site != HOME else ""), {
        "item": ITEM, "max_item_bytes": 2000, "claim_seconds": 20}, canary=chance.often(0.4))
        for site in sites} if app else {}
    counted = not app and chance.often(0.6)
    return Queue(
        name=name, channel=channel, home=HOME, backups=tuple(
            backups if chance.often(0.7) else backups[::-1]),
        outsource=chance.weighted((("allowed", 6.0), ("never", 1.0), ("overflow_only", 2.0))),
        in_disaster="refuse" if chance.often(0.15) else "allow", priority=1 + chance.below(3),
        home_down="hold" if app else chance.choice(["message", "callback"]),
        normal=Shares({HOME: 100}),
        route=None if app else lever, intake=lever if app else None,
        backlogs=backlogs,
        consumers={HOME: LeverSpec(SWITCH, "gate_hq")} if app else {},
        eligible='item.state == "TX"' if app and chance.often(0.5) else None,
        item=ITEM if app else {}, increments=chance.choice([(100,), (50, 100), (25, 50, 100)]),
        soak=chance.choice([3.0, 10.0, 25.0] if slow else [0.0, 3.0, 6.0]),
        hold=chance.choice([5.0, 40.0]), max_item_bytes=2000,
        data_class=DATA if chance.often(0.3) else None,
        criteria_version=CRITERIA if chance.often(0.3) else None,
        licence_field="state" if app and chance.often(0.4) else None,
        probes=tuple(ProbeSpec(f"queue.{name}.{n}.http", "http", 10.0, 2.0, 3, 2, "here",
                               {"site": site}) for n, site in enumerate(sites))
        if counted else (),
    )


def tightened(policy: Policy, chance: Chance) -> Policy:
    """One rule more than before, for one queue."""
    queue = policy.queues[chance.choice(sorted(policy.queues))]
    match chance.below(4):
        case 0:
            changed = replace(queue, outsource="never")
        case 1:
            changed = replace(queue, data_class="secret")
        case 2:
            changed = replace(queue, criteria_version="2027-01")
        case _:
            changed = replace(queue, licence_field="state")
    sites = policy.sites if changed.licence_field == queue.licence_field else {
        name: site if site.in_house else replace(site, licences={"TX": ENDED})
        for name, site in policy.sites.items()}
    return replace(policy, queues={**policy.queues, queue.name: changed}, sites=sites,
                   sha256="1" * 64)


def may(policy: Policy, kind: str) -> dict[str, frozenset[str]]:
    """Queue → the places where its work may be, whoever moves it there, in a story of `kind`."""
    return {queue.name: frozenset({HOME, *TREATMENTS, *(
        name for name in queue.backups if _lets(queue, policy.sites[name], kind))})
        for queue in policy.queues.values()}


def _lets(queue: Queue, site: Site, kind: str) -> bool:
    if site.in_house:
        return True
    refused = kind == "switchover" or kind == "full_failover" and queue.in_disaster == "refuse"
    if queue.outsource == "never" or queue.outsource == "overflow_only" and refused:
        return False
    licensed = queue.licence_field is None or any(
        until is None for until in (site.licences or {}).values())
    return (licensed and queue.data_class in (None, *(site.data_classes or ()))
            and queue.criteria_version in (None, site.criteria_version))
