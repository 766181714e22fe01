"""The arithmetic behind warnings, in sentences that show it."""

from __future__ import annotations

from urllib.parse import urlsplit

from ccfailover.model.policy import Policy, Queue, Site
from ccfailover.policy.units import spoken


def rto_over_mtd(queue: Queue) -> str:
    return (f"{queue.name} is to be back within {spoken(queue.rto or 0)} (rto), and yet may be "
            f"down for {spoken(queue.mtd or 0)} at most (mtd)")


def detection(policy: Policy, queue: Queue, propagation: float = 0.0) -> str | None:
    """What part of the objective goes by before anybody knows; None when it is under half.

    Detection takes `every × fall` of the quickest probe, then the `hold` of the quickest trigger
    on the home site. Time-outs come on top when a site hangs instead of refusing, and the
    `propagation` seconds for which callers go by what the lever said before.
    """
    home = policy.sites[queue.home]
    triggers = [one for one in policy.triggers.values()
                if one.subject == home.name and one.runbook != "overflow"]
    if queue.rto is None or not home.probes:
        return None
    if not triggers:
        return (f"no trigger acts on {home.name}: nothing will call for a failover of "
                f"{queue.name} within its rto of {spoken(queue.rto)}")
    probe = min(home.probes, key=lambda one: one.every * one.fall)
    trigger = min(triggers, key=lambda one: one.hold)
    took = probe.every * probe.fall + trigger.hold + propagation
    if took <= queue.rto / 2:
        return None
    last, why = "", ""
    if propagation:
        last = f" + {spoken(propagation)}"
        why = " + the time in which callers go by the lever's old word"
    sums = (f"{spoken(probe.every)} × {probe.fall} + {spoken(trigger.hold)}{last} = "
            f"{spoken(took)} (every × fall of the quickest probe + hold of {trigger.name}{why})")
    verdict = "more than" if took > queue.rto else "over half of"
    what = "and moving its callers takes" if propagation else "takes"
    return (f"detecting that {home.name} is down {what} {sums}, {verdict} the rto of "
            f"{spoken(queue.rto)}")


def capacity(policy: Policy, queue: Queue) -> str | None:
    """Whether the backups carry the load once the rto has gone by; None when they do, or when
    too little is known of any of them.

    heads × 3600 / handle time, or the plain rate; heads as the ramp has them at the rto.
    """
    if queue.load_per_hour is None or not queue.backups:
        return None
    total, parts = 0.0, []
    for name in queue.backups:
        site = policy.sites[name]
        if not site.in_house and not _leaves(queue):
            continue  # it takes a peak at most, never all of it
        rate, how = _rate(policy, queue, site)
        if rate is None:
            return None
        total += rate
        parts.append(f"{name} {rate:g} ({how})")
    if not parts or total >= queue.load_per_hour:
        return None
    when = f"after {spoken(queue.rto)} (rto)" if queue.rto is not None else "at once"
    rest = queue.load_per_hour - total
    return (f"the load is {queue.load_per_hour:g} an hour, and {when} the backups carry "
            f"{total:g}: {', '.join(parts)}; {rest:g} an hour are left for {queue.home_down}")


def _leaves(queue: Queue) -> bool:
    """Whether a failover may take the work out of the house."""
    return queue.outsource == "allowed" or (
        queue.outsource == "overflow_only" and queue.in_disaster == "allow")


def _rate(policy: Policy, queue: Queue, site: Site) -> tuple[float | None, str]:
    staff = site.staff.get(queue.name)
    ramped = [heads for after, heads in site.ramp if after <= (queue.rto or 0.0)]
    if site.ramp and not ramped:
        return 0.0, "nobody yet by its ramp"
    if staff is not None and staff.per_hour is not None:
        return staff.per_hour, "its rate"
    heads = staff.agents if staff is not None else None
    if ramped:
        heads = ramped[-1] if heads is None else min(heads, ramped[-1])
    seconds = _handle_time(policy, queue, site)
    if heads is None or not seconds:
        return None, ""
    return round(heads * 3600 / seconds, 1), f"{heads} heads × 3600 / {spoken(seconds)}"


def _handle_time(policy: Policy, queue: Queue, site: Site) -> float | None:
    """The site's own, else the queue's, else what home needs."""
    for place in (site, policy.sites[queue.home]):
        staff = place.staff.get(queue.name)
        if staff is not None and staff.handle_time:
            return staff.handle_time
        if queue.minutes_per_contact:
            return queue.minutes_per_contact * 60
    return None


def host_of(url: str | None) -> str | None:
    """The host of a URL, None for a path and for what cannot be read as a URL."""
    if url is None or "://" not in url:
        return None
    try:
        return urlsplit(url).hostname or None
    except ValueError:
        return None


def store_hosts(store: str | None) -> list[str]:
    """The hosts of a database's address, which may name several; [] for a path."""
    if store is None or "://" not in store:
        return []
    places = store.partition("://")[2].partition("/")[0].rpartition("@")[2].split(",")
    return [host for place in places if (host := host_of(f"x://{place}")) is not None]


def hosts(site: Site) -> set[str]:
    """Hosts that the site's own probes look at."""
    found: set[str] = set()
    for probe in site.probes:
        host = probe.params.get("host")
        named = host_of(str(probe.params.get("url", "")))
        found.update(one for one in (host, named) if isinstance(one, str))
    return found
