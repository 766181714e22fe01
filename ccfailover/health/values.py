"""What a condition may name, as numbers and words of today's World. Pure.

- `site.S.state`, `dependency.D.state`: missing while unknown.
- `site.S.open`: by the site's hours, at `world.at`.
- `queue.Q.depth`, `queue.Q.oldest` (seconds): what waits at the queue's home; where the home keeps
  no backlog, the sum and the oldest of all sites. `queue.Q.depth_at.S`: one site's.
- `queue.Q.share.D`: the actual percentage, once the shares are known.
- `queue.Q.arrivals_per_hour`: missing, as nothing measures it yet.
What is unknown is left out, so that a condition that needs it is unknown: not 0, not false.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ccfailover.model.health import QueueView, State, World
from ccfailover.model.policy import Policy, Queue, Site
from ccfailover.model.shares import TREATMENTS


def world_values(
    policy: Policy, world: World, names: Collection[str] | None = None
) -> dict[str, object]:
    """Every known value by its dotted name; with `names`, only those (cheaper)."""
    values: dict[str, object] = {}
    for noun, found in (("site", world.sites), ("dependency", world.dependencies)):
        for name, one in found.items():
            if one.state is not State.UNKNOWN:
                values[f"{noun}.{name}.state"] = one.state.value
    for name, site in policy.sites.items():
        opened = f"site.{name}.open"
        if names is None or opened in names:
            values[opened] = _is_open(site, world.at)
    for name, queue in policy.queues.items():
        view = world.queues.get(name)
        if view is not None:
            values.update(_queue_values(policy, queue, view))
    return {name: value for name, value in values.items()
            if value is not None and (names is None or name in names)}


def _queue_values(policy: Policy, queue: Queue, view: QueueView) -> dict[str, object]:
    head = f"queue.{queue.name}"
    values: dict[str, object] = {
        f"{head}.depth": _at_home(queue, view.depth, sum),
        f"{head}.oldest": _at_home(queue, view.oldest_s, max),
    }
    values.update({f"{head}.depth_at.{site}": depth for site, depth in view.depth.items()})
    if view.shares is not None:
        for destination in (*policy.sites, *TREATMENTS):
            values[f"{head}.share.{destination}"] = view.shares.of(destination)
    return values


def _at_home(
    queue: Queue, by_site: Mapping[str, float | None],
    together: Callable[[Iterable[float]], float],
) -> float | None:
    if queue.home in by_site or not by_site:
        return by_site.get(queue.home)
    known = [value for value in by_site.values() if value is not None]
    if len(known) < len(by_site):
        return None
    return together(known)


def _is_open(site: Site, at: int) -> bool:
    from ccfailover.policy.calendars import Hours

    return Hours(site.hours, timezone=site.timezone, holidays=site.holidays).is_open(at)
