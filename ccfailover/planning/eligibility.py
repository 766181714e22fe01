"""Who may take a queue's work (rules of the policy), and who is able to (state of the world)."""

from __future__ import annotations

from collections.abc import Callable

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.health import State, World
from ccfailover.model.plan import Finding
from ccfailover.model.policy import Policy, Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.planning.cost import local_time

KIND_OF = {
    "full_failover": "failover",
    "failover": "failover",
    "overflow": "overflow",
    "switchover": "switchover",
    "failback": "failback",
    "reassert": "reassert",
}
"""Built-in runbooks by what they do; a runbook of another name is judged as a failover."""


def forbidden(policy: Policy, queue: Queue, site: Site, *, kind: str, at: int) -> Finding | None:
    """The hard guard that keeps `queue` from `site`, whoever asks; None when there is none.

    What an outsourced site does not declare (data classes, licences, criteria version) it does
    not have; of the lender's own sites only what they declare is held against them.
    """
    for guard, why in (
        ("outsource_never", _outsourcing(queue, site, kind)),
        ("data_class", _data_class(queue, site)),
        ("licence", _licence(queue, site, policy.timezone, at)),
        ("criteria_version", _criteria(policy, queue, site)),
    ):
        if why:
            return Finding(guard, "hard", f"{site.name} may not take {queue.name}: {why}",
                           queue.name)
    return None


def _outsourcing(queue: Queue, site: Site, kind: str) -> str:
    if site.in_house:
        return ""
    if queue.outsource == "never":
        return "the queue says outsource: never; name an in-house backup"
    if queue.outsource == "overflow_only":
        if kind == "switchover":
            return "the queue says outsource: overflow_only, and this is no overflow"
        if kind == "failover" and queue.in_disaster == "refuse":
            return ("the queue says outsource: overflow_only and in_disaster: refuse; "
                    "set in_disaster: allow if it may leave when home is down")
    return ""


def _data_class(queue: Queue, site: Site) -> str:
    if queue.data_class is None or (site.in_house and site.data_classes is None):
        return ""
    held = site.data_classes or frozenset()
    if queue.data_class in held:
        return ""
    return (f"its data is {queue.data_class}, and the site may handle "
            f"{', '.join(sorted(held)) or 'no declared class'}")


def _licence(queue: Queue, site: Site, timezone: str, at: int) -> str:
    if queue.licence_field is None or (site.in_house and site.licences is None):
        return ""
    held = (site.licences or {}).values()
    if not held:
        return "it holds no licence"
    if None in held:
        return ""
    last = max(until for until in held if until is not None)
    # Only asked where something can lapse: reading the zones costs a start 5 ms.
    if last >= local_time(at, timezone).date():
        return ""
    return f"its last licence ended on {last}; renew it"


def _criteria(policy: Policy, queue: Queue, site: Site) -> str:
    home = policy.sites.get(queue.home)
    asked = queue.criteria_version or (home.criteria_version if home else None)
    if asked is None or site.criteria_version == asked:
        return ""
    if site.in_house and site.criteria_version is None:
        return ""
    return (f"credit criteria {asked} are asked for, the site works by "
            f"{site.criteria_version or 'none declared'}; bring it to {asked} first")


def unavailable(
    policy: Policy,
    queue: Queue,
    site: Site,
    world: World,
    *,
    at: int,
    is_open: Callable[[Site, int], bool],
    capabilities: Capabilities,
) -> Finding | None:
    """Why `site` is not able to take work now; None when it is (or when nobody knows)."""

    def because(guard: str, why: str) -> Finding:
        return Finding(guard, "warning", f"{site.name} cannot take {queue.name}: {why}", queue.name)

    if capabilities.destinations is not None and site.name not in capabilities.destinations:
        return because("destination", "the lever has no way there; add it to its destinations")
    if world.site_state(site.name) is State.DOWN:
        return because("receiver_down", f"it is down ({reason_of(world, site.name)})")
    fallen = down_dependencies(site, world)
    if fallen:
        return because("dependency", f"it stands on {', '.join(fallen)}, which is down")
    if site.contract_until and site.contract_until < local_time(at, policy.timezone).date():
        return because("contract", f"its contract ended on {site.contract_until}; renew it")
    if not is_open(site, at):
        hours = f" (hours: {site.hours})" if site.hours else ""
        return because("hours", f"it is closed now{hours}")
    return None


def down_dependencies(site: Site, world: World) -> list[str]:
    """What the site stands on and is known to be down."""
    return [
        name for name in site.depends_on
        if name in world.dependencies and world.dependencies[name].state is State.DOWN
    ]


def reason_of(world: World, site: str) -> str:
    found = world.sites.get(site)
    return found.reason if found and found.reason else "never observed"


def shares_now(queue: Queue, world: World) -> Shares | None:
    """The shares of the lever that carries the queue's arrivals: its route, else its intake."""
    view = world.queues.get(queue.name)
    if view is None:
        return None
    return view.intake if queue.route is None and queue.intake is not None else view.shares
