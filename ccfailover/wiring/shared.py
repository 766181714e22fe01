"""A store that machines share: its mirror here, and the local journal that stands in for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ccfailover.errors import CcfError, Refused, StoreError, UsageError
from ccfailover.operations.desk import LocalJournal
from ccfailover.store import Store, open_store
from ccfailover.store.db import Unwritten
from ccfailover.wiring.assemble import SHARED, state_folder, store_location

if TYPE_CHECKING:
    from ccfailover.model.journal import Actor
    from ccfailover.model.policy import Policy
    from ccfailover.runtime import Runtime
    from ccfailover.transfer.fanout import FanOut

LOOK, ACT, ANYWAY = "look", "act", "anyway"
"""What a local journal is wanted for: to be read only, to act because the shared store is gone, to
act although it may answer."""


def mirror_path(policy: Policy, environ: Mapping[str, str]) -> str | None:
    """`$CCFAILOVER_MIRROR`, the policy's `store: {mirror: …}`, or a file under the user's state
    folder; None when it is `off`."""
    chosen = environ.get("CCFAILOVER_MIRROR") or policy.mirror
    if chosen == "off":
        return None
    if chosen is None:
        return os.path.join(state_folder(environ), f"{policy.name}.mirror.db")
    return os.path.join(os.path.dirname(policy.path), os.path.expanduser(chosen))


def local_base(policy: Policy, environ: Mapping[str, str]) -> str:
    """What the local journals of this machine are called, but for their number and `.db`."""
    mirror = mirror_path(policy, environ)
    folder = os.path.dirname(mirror) if mirror is not None else state_folder(environ)
    return os.path.join(folder, f"{policy.name}.local")


def open_shared(where: str, policy: Policy, environ: Mapping[str, str], clock: Runtime, *,
                verified: bool) -> tuple[Store, str]:
    """The shared store with its mirror, and what local journals are called."""
    store = open_store(where, clock, mirror=mirror_path(policy, environ), verified=verified)
    return store, local_base(policy, environ)


def fan_out(where: str, policy: Policy, store: Store, clock: Runtime) -> FanOut:
    """How runs over this store are helped by workers."""
    from ccfailover.wiring.workers import SharedFanOut

    return SharedFanOut(where, policy.sha256, store, clock)


def open_local(policy: Policy, environ: Mapping[str, str], resolve: Callable[[str], str],
               clock: Runtime, who: Actor, wanted: str) -> tuple[Store, LocalJournal, str]:
    """This machine's local journal, begun from its mirror if there is none.

    Raises UsageError where the store is a file, Refused while the shared store answers, StoreError
    when the mirror is of no use.
    """
    from ccfailover.store import local

    path = mirror_path(policy, environ)
    base = local_base(policy, environ)
    reason = "" if wanted == LOOK else _why_gone(policy, environ, resolve, clock, wanted)
    if path is None:
        raise StoreError("this machine keeps no mirror of the shared store (it is off)",
                         not_done="no local journal was begun",
                         hint="another machine; or begin with an empty journal: "
                         "CCFAILOVER_STORE=/path/to/new.db ccfailover …")
    from ccfailover.store.mirror import Mirror

    mirror = Mirror(path, clock, create=False)
    try:
        found = local.current(base)
        if found is None:
            found = ":memory:" if wanted == LOOK else local.vacant(base)
        store = local.begin(mirror, found, clock, actor=who)
        return store, LocalJournal(reason, mirror.source or "the shared store", mirror.at), base
    finally:
        mirror.close()


def _why_gone(policy: Policy, environ: Mapping[str, str], resolve: Callable[[str], str],
              clock: Runtime, wanted: str) -> str:
    """Why the shared store cannot be used. Raises Refused when it can, unless that was said."""
    try:
        where = store_location(policy, environ, resolve)
    except CcfError as error:
        return f"its address cannot be found out ({error.what})"
    if not where.startswith(SHARED):
        raise UsageError("the store of this policy is a file of this machine's own",
                         where=where, not_done="nothing was done",
                         hint="leave --local-journal out")
    answers = "the shared store answers"
    try:
        open_store(where, clock, create=False).close()
    except Unwritten as error:
        return error.what
    except StoreError as error:
        answers = f"the shared store answers ({error.what})"
    if wanted == ANYWAY:
        return f"{answers}, and was left aside on purpose"
    raise Refused(f"{answers}: with a local journal, others would not know what "
                  "this machine does", guard="local_journal", not_done="nothing was done",
                  hint="leave --local-journal out; if you must, and hold the baton: "
                  "--local-journal-anyway")
