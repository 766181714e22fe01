"""Policy and surroundings → Desk: the objects that an operation works with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from ccfailover.errors import PolicyError, Problem, StoreError
from ccfailover.operations.desk import Desk
from ccfailover.policy import load as policy_load
from ccfailover.policy.find import find_policy
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, open_store
from ccfailover.store.holder import this_process
from ccfailover.wiring.built import BuiltKinds
from ccfailover.wiring.kinds import Schemas

if TYPE_CHECKING:
    from ccfailover.model.journal import Actor
    from ccfailover.model.policy import Policy, Site
    from ccfailover.policy.calendars import Hours
    from ccfailover.providers import OurDesk
    from ccfailover.runbooks.step import Levers
    from ccfailover.runtime import Runtime

SHARED = ("postgresql://", "postgres://")

DEFAULT_STORE = "~/.local/state/ccfailover"

_REFERENCES = ("env:", "file:", "aws-secretsmanager:")


def assemble(option: str | None, *, environ: Mapping[str, str] = os.environ,
             runtime: Runtime | None = None, validate: bool = True,
             verified: bool = True, local: str | None = None,
             store: Callable[[Store], Store] | None = None,
             levers: Callable[[Levers], Levers] | None = None) -> Desk:
    """The desk for the policy that `option`, or the environment, names.

    `validate` False is for verbs that only look: a stamp then spares names and rules, too.
    `verified` False opens a shared store although it has lost events. `local` asks for a local
    journal in its stead (`wiring.shared`). `store` and `levers` wrap what was built: tests put
    their faults there.
    """
    clock = runtime or SystemRuntime()
    policy = read_policy(option, environ=environ, now=clock.now(), validate=validate)
    resolve = resolver(environ)
    who, stand_in, base, helpers = actor(environ), None, None, None
    if local is not None:
        from ccfailover.wiring.shared import open_local

        opened, stand_in, base = open_local(policy, environ, resolve, clock, who, local)
    elif (where := store_location(policy, environ, resolve)).startswith(SHARED):
        from ccfailover.wiring.shared import fan_out, open_shared

        opened, base = open_shared(where, policy, environ, clock, verified=verified)
        helpers = fan_out(where, policy, opened, clock)
    else:
        opened = open_store(where, clock)
    used = store(opened) if store else opened
    built = BuiltKinds(policy, resolve, clock, desk=our_desk(policy, used, who, clock))
    if levers is not None:
        built.wrap(levers)
    return Desk(
        policy=policy, store=used, runtime=clock,
        actor=who, kinds=built, is_open=calendar(policy), is_blocked=windows(policy),
        resolve=resolve, environ=environ, local=stand_in, local_base=base,
        fan_out=helpers,
    )


def our_desk(policy: Policy, store: Store, who: Actor, clock: Runtime) -> Callable[[], OurDesk]:
    """What kinds get that keep their state in our own store."""
    def made() -> OurDesk:
        from ccfailover.providers import OurDesk

        def tell(lever: str) -> None:
            from ccfailover.operations.by_hand import tell_of

            tell_of(store, policy.heading, lever, clock.now())

        return OurDesk(store, str(who), tell)

    return made


def resolver(environ: Mapping[str, str]) -> Callable[[str], str]:
    """What turns a secret's reference into the secret; loaded when there is one."""
    def resolve(reference: str) -> str:
        from ccfailover.wiring.secrets import Resolver

        return Resolver(environ)(reference)

    return resolve


def read_policy(option: str | None, *, environ: Mapping[str, str], now: int,
                validate: bool = True) -> Policy:
    """Find and load. Raises UsageError when there is none, PolicyError with every problem."""
    path = find_policy(option, environ)
    if validate:
        policy = policy_load.load(path, Schemas(), now=now, environ=environ)
    else:
        policy = policy_load.load_quick(path, Schemas(), now=now, environ=environ)
    return with_item_settings(policy)


def with_item_settings(policy: Policy) -> Policy:
    """Tell each backlog lever how its queue's items read; adapters know no queues."""
    queues = {}
    for name, queue in policy.queues.items():
        levers = {
            site: replace(lever, params={**lever.params, "item": dict(queue.item),
                                         "max_item_bytes": queue.max_item_bytes})
            for site, lever in queue.backlogs.items()
        }
        queues[name] = replace(queue, backlogs=levers)
    return replace(policy, queues=queues)


def store_location(policy: Policy, environ: Mapping[str, str],
                   resolve: Callable[[str], str]) -> str:
    """`$CCFAILOVER_STORE`, the policy's `store`, or a file under the user's state folder.

    Either may be a secret's reference, as the address of a database holds a password.
    """
    chosen = environ.get("CCFAILOVER_STORE") or policy.store
    if chosen is None:
        return os.path.join(state_folder(environ), f"{policy.name}.db")
    if chosen.startswith(_REFERENCES):
        chosen = resolve(chosen)
    if chosen.startswith(SHARED):
        return chosen
    path = chosen.removeprefix("sqlite:///") if chosen.startswith("sqlite:///") else chosen
    if "://" in path:
        raise PolicyError([Problem(policy.path, 1, 1, f"store {path.partition('://')[0]}:// is "
                                   "not a kind of store that this version has")],
                          not_done="nothing was read or written")
    if path == ":memory:":
        return path
    return os.path.join(os.path.dirname(policy.path), os.path.expanduser(path))


def state_folder(environ: Mapping[str, str]) -> str:
    """Where this user's own files of ours are."""
    home = environ.get("XDG_STATE_HOME")
    return os.path.join(home, "ccfailover") if home else os.path.expanduser(DEFAULT_STORE)


def upgrade_store(option: str | None, *, environ: Mapping[str, str] = os.environ,
                  runtime: Runtime | None = None) -> tuple[Policy, Store]:
    """The policy, and its store with this version's schema, migrated if need be."""
    clock = runtime or SystemRuntime()
    policy = read_policy(option, environ=environ, now=clock.now())
    where = store_location(policy, environ, resolver(environ))
    opened = open_store(where, clock, upgrade=True)
    if where.startswith(SHARED):
        from ccfailover.wiring.workers import upgrade

        try:
            upgrade(where, clock)
        except StoreError:
            opened.close()
            raise
    return policy, opened


def actor(environ: Mapping[str, str]) -> Actor:
    """Who acts: $CCFAILOVER_ACTOR, $SUDO_USER, $USER or the uid; cron sets the first."""
    name = (environ.get("CCFAILOVER_ACTOR") or environ.get("SUDO_USER") or environ.get("USER")
            or environ.get("LOGNAME") or f"uid{os.getuid()}")
    return this_process(name)


def calendar(policy: Policy) -> Callable[[Site, int], bool]:
    @cache
    def hours(name: str) -> Hours:
        from ccfailover.policy.calendars import Hours

        site = policy.sites[name]
        return Hours(site.hours, timezone=site.timezone, holidays=site.holidays)

    def is_open(site: Site, at: int) -> bool:
        if site.hours in (None, "24/7"):  # the library costs a start 5 ms
            return True
        return hours(site.name).is_open(at)

    return is_open


def windows(policy: Policy) -> Callable[[int], str | None]:
    def is_blocked(at: int) -> str | None:
        if not policy.guards.blocked:
            return None
        from ccfailover.policy.calendars import blocked

        return blocked(policy.guards.blocked, policy.timezone, at)

    return is_blocked
