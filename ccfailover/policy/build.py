"""Plain data of the right shape → `Policy`. Knows defaults and units, decides nothing.

Raises KeyError, TypeError or ValueError for data that `shape` and `references` would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ccfailover.model.journal import LEASE_SECONDS
from ccfailover.model.policy import (
    DECIDE_WITHIN,
    Dependency,
    GuardLimits,
    LeverSpec,
    NotifySpec,
    Policy,
    Price,
    ProbeSpec,
    ProviderSpec,
    Queue,
    Reminders,
    Several,
    Site,
    Sla,
    Staff,
    Trigger,
)
from ccfailover.model.shares import Shares
from ccfailover.policy.read import Document
from ccfailover.policy.units import day, duration, fraction, money, period, share

Data = Mapping[str, Any]

PROBE = {"every": "10s", "timeout": "5s", "fall": 3, "rise": 2, "observer": "controller"}
PROBE_KEYS = {"kind", *PROBE}
NAMED = re.compile(r"\b(site|queue)\s*\.\s*([a-z][a-z0-9_]*)\s*\.")
QUEUE_RUNBOOKS = {"overflow"}
"""Built-in runbooks that act on a queue; the others act on a site."""


def build(document: Document) -> Policy:
    data = document.data
    sites = {name: _site(name, block, data, document.places.key(("sites", name)).line)
             for name, block in data["sites"].items()}
    queues = {name: _queue(name, block, data) for name, block in data["queues"].items()}
    store = data.get("store")
    of_store = store if isinstance(store, dict) else {}
    return Policy(
        name=data["name"],
        environment=data.get("environment", "production"),
        path=document.file,
        sha256=document.sha256,
        currency=data.get("currency", "USD"),
        timezone=data.get("timezone", "UTC"),
        store=store.get("path") if isinstance(store, dict) else store,
        store_location=of_store.get("location"),
        lease=duration(of_store["lease"]) if "lease" in of_store else LEASE_SECONDS,
        mirror=of_store.get("mirror"),
        sites=sites,
        dependencies={
            name: Dependency(name, block.get("location"),
                             _probes(f"dependency.{name}", block, data))
            for name, block in data.get("dependencies", {}).items()},
        providers={
            name: ProviderSpec(name, block["kind"], _without(block, "kind"))
            for name, block in data.get("providers", {}).items()},
        queues=queues,
        triggers={
            name: _trigger(name, block, data)
            for name, block in data.get("triggers", {}).items()},
        guards=_guards(data.get("guards", {})),
        notify=tuple(
            NotifySpec(block.get("name", f"notify_{index + 1}"), block["url"],
                       tuple(block.get("events", ())))
            for index, block in enumerate(data.get("notify", ()))),
        runbooks=dict(data.get("runbooks", {})),
        people={role: tuple(logins)
                                 for role, logins in data.get("people", {}).items()},
        stale_after=float(data.get("stale_after", 3.0)),
        remind=_reminders(data.get("remind", {})),
        procedures={name: LeverSpec(block["provider"], block.get("ref", name),
                                    _without(block, "provider", "ref"))
                    for name, block in data.get("procedures", {}).items()},
        retention=period(data["retention"]["ledger"]) if "ledger" in data.get(
            "retention", {}) else None,
    )


def _without(block: Data, *keys: str) -> Data:
    return {key: value for key, value in block.items() if key not in keys}


def _seconds(block: Data, key: str) -> float | None:
    return duration(block[key]) if key in block else None


def _part(block: Data, key: str) -> float | None:
    return fraction(block[key]) if key in block else None


def _probes(prefix: str, block: Data, data: Data) -> tuple[ProbeSpec, ...]:
    standard = {**PROBE, **data.get("probe_defaults", {})}
    out = []
    for index, probe in enumerate(block.get("probes", ())):
        said = {**standard, **probe}
        site = f".{probe['site']}" if prefix.startswith("queue.") else ""
        out.append(ProbeSpec(
            key=f"{prefix}{site}.{index}.{probe['kind']}",
            kind=probe["kind"],
            every=duration(said["every"]),
            timeout=duration(said["timeout"]),
            fall=said["fall"],
            rise=said["rise"],
            observer=said["observer"],
            params=_without(probe, *PROBE_KEYS),
        ))
    return tuple(out)


def _site(name: str, block: Data, data: Data, line: int) -> Site:
    holidays = block.get("holidays", block.get("country"))
    price = block.get("price", {})
    sla = block.get("sla")
    licences = block.get("licences")
    if isinstance(licences, list):
        licences = dict.fromkeys(licences)
    classes = block.get("data_classes")
    version = block.get("criteria_version")
    return Site(
        name=name,
        in_house=block["kind"] == "in_house",
        timezone=block.get("timezone", data.get("timezone", "UTC")),
        hours=block.get("hours"),
        holidays=",".join(holidays) if isinstance(holidays, list) else holidays,
        location=block.get("location"),
        country=block.get("country"),
        depends_on=tuple(block.get("depends_on", ())),
        probes=_probes(f"site.{name}", block, data),
        staff={
            queue: Staff(said.get("agents"), _seconds(said, "handle_time"),
                         _seconds(said, "patience"), said.get("per_hour"))
            for queue, said in block.get("staff", {}).items()},
        ramp=tuple((duration(step["after"]), step["agents"]) for step in block.get("ramp", ())),
        price=Price(**{key: money(value) for key, value in price.items()}),
        sla=None if sla is None else Sla(
            _part(sla, "service_level"), _seconds(sla, "within"),
            _part(sla, "abandonment"), _seconds(sla, "decision_time")),
        licences=None if licences is None else {
            state: day(until) if until is not None else None
            for state, until in licences.items()},
        criteria_version=None if version is None else str(version),
        data_classes=None if classes is None else frozenset(classes),
        contract_until=day(block["contract_until"]) if "contract_until" in block else None,
        due_diligence=day(block["due_diligence"]) if "due_diligence" in block else None,
        line=line,
    )


def _lever(queue: str, block: Data | None) -> LeverSpec | None:
    if block is None:
        return None
    return LeverSpec(block["provider"], block.get("ref", queue),
                     _without(block, "provider", "ref", "canary", "reassert", "emergency"),
                     canary=bool(block.get("canary", False)),
                     reassert=bool(block.get("reassert", False)))


def _route(queue: str, block: Data | None, home: str, normal: Shares) -> LeverSpec | None:
    """One lever, or several that act as one."""
    if block is None or "levers" not in block:
        return _lever(queue, block)
    parts = tuple(LeverSpec(one["provider"], one.get("ref", queue),
                            _without(one, "provider", "ref")) for one in block["levers"])
    split = block.get("split", parts[-1].provider)
    rest = block.get("rest")
    several = Several(
        combine=block["combine"], parts=parts, through=block.get("through", home),
        split=next(part.lever for part in parts if part.provider == split),
        rest=normal if rest is None else Shares({to: share(part) for to, part in rest.items()}))
    first = parts[0]
    return LeverSpec(first.provider, first.ref, several=several,
                     reassert=bool(block.get("reassert", False)))


def _levers(queue: str, blocks: Data) -> Mapping[str, LeverSpec]:
    found = {site: _lever(queue, block) for site, block in blocks.items()}
    return {site: lever for site, lever in found.items() if lever}


def fields_of(said: object) -> dict[str, str]:
    """`fields:` as a mapping, whichever way it was written; {} for what is neither."""
    if isinstance(said, list):
        return dict.fromkeys((name for name in said if isinstance(name, str)), "text")
    return dict(said) if isinstance(said, dict) else {}


def _queue(name: str, block: Data, data: Data) -> Queue:
    target, aims = block.get("target", {}), block.get("objectives", {})
    load, shift = block.get("load", {}), block.get("shift", {})
    version = block.get("criteria_version")
    fields = fields_of(block.get("fields"))
    normal = Shares({to: share(part) for to, part in
                     block.get("normal", {block["home"]: 100}).items()})
    return Queue(
        name=name,
        channel=block["channel"],
        home=block["home"],
        backups=tuple(block.get("backups", ())),
        outsource=block.get("outsource", "never"),
        in_disaster=block.get("in_disaster", "refuse"),
        priority=block.get("priority", 5),
        home_down=block.get("home_down", "hold"),
        normal=normal,
        service_level=_part(target, "service_level"),
        within=_seconds(target, "within"),
        rto=_seconds(aims, "rto"),
        rpo=_seconds(aims, "rpo"),
        mtd=_seconds(aims, "mtd"),
        load_per_hour=load.get("per_hour"),
        minutes_per_contact=load.get("minutes_per_contact"),
        minimum_service=_part(aims, "minimum_service"),
        route=_route(name, block.get("route"), block["home"], normal),
        intake=_route(name, block.get("intake"), block["home"], normal),
        announcement=_lever(name, block.get("announcement")),
        emergency=block.get("announcement", {}).get("emergency"),
        backlogs=_levers(name, block.get("backlog", {})),
        consumers=_levers(name, block.get("consumers", {})),
        eligible=block.get("eligible"),
        # Adapters decode what `item` names: a declared field is one that keeps its own name.
        item={**{field: field for field in fields}, **block.get("item", {})},
        fields=fields,
        data_class=block.get("data_class"),
        criteria_version=None if version is None else str(version),
        licence_field=block.get("licence_field"),
        increments=tuple(shift.get("increments", (100,))),
        soak=_seconds(shift, "soak") or 0.0,
        hold=60.0 if "hold" not in shift else _seconds(shift, "hold") or 0.0,
        probes=_probes(f"queue.{name}", block, data),
        max_item_bytes=block.get("max_item_bytes", 262_144),
        decide_within=DECIDE_WITHIN if "decide_within" not in aims else
        duration(aims["decide_within"]) or None,
    )


def subject_of(block: Data, data: Data) -> str | None:
    """The site or queue that a trigger acts on: said, or else the first named in `when`.

    A condition on a queue whose runbook acts on a site means that queue's home.
    """
    said: object = block.get("site") or block.get("queue")
    if isinstance(said, str):
        return said
    named = NAMED.findall(str(block.get("when", "")))
    sites: list[str] = [name for noun, name in named if noun == "site"]
    queues: list[str] = [name for noun, name in named if noun == "queue"]
    if block.get("run") in QUEUE_RUNBOOKS:
        return queues[0] if queues else None
    if sites:
        return sites[0]
    home = data["queues"].get(queues[0], {}).get("home") if queues else None
    return str(home) if home else None


def _trigger(name: str, block: Data, data: Data) -> Trigger:
    subject = subject_of(block, data)
    if subject is None:
        raise ValueError(f"trigger {name} has no subject")
    return Trigger(name, block["when"], _seconds(block, "hold") or 0.0, block.get("clear"),
                   _seconds(block, "cooldown") or 0.0, block["run"],
                   block.get("mode", "advise"), subject)


def _reminders(block: Data) -> Reminders:
    plain = Reminders()
    return Reminders(
        tuple(duration(each) for each in block["after"]) if "after" in block else plain.after,
        duration(block["every"]) if "every" in block else plain.every)


def _guards(block: Data) -> GuardLimits:
    return GuardLimits(
        max_step=block.get("max_step"),
        daily_cost=money(block["daily_cost"]) if "daily_cost" in block else None,
        blocked=tuple(block.get("blocked", ())),
        flap_block=_seconds(block, "flap_block") or 0.0,
        preempt_within=duration(block.get("preempt_within", "10s")),
    )
