"""Workers over a shared store: what a run is helped by, and what a worker is made of.

Nothing here imports DBOS until a worker is alive or is to be one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ccfailover.errors import Unavailable, UsageError
from ccfailover.transfer.fanout import Open, Token, who

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk
    from ccfailover.operations.worker import Bench, Serving
    from ccfailover.runtime import Runtime
    from ccfailover.store import Store
    from ccfailover.transfer.dispatch import Tokens

EXTRA = "pip install 'ccfailover[scale]'"


class SharedFanOut:
    """A `FanOut` that costs one query as long as there are no workers."""

    def __init__(self, location: str, policy: str, store: Store, runtime: Runtime) -> None:
        self._location, self._policy = location, policy
        self._store, self._runtime = store, runtime

    def workers(self) -> int:
        return len(who(self._store.at_work(), self._policy)[0])

    def offer(self, prefix: str, tokens: Sequence[Token], first: int) -> None:
        self._tokens.offer(prefix, tokens, first)

    def open(self, prefix: str) -> Open:
        return self._tokens.open(prefix)

    def sweep(self, prefix: str) -> int:
        return self._tokens.sweep(prefix)

    def cancel(self, prefix: str) -> int:
        return self._tokens.cancel(prefix)

    def forget(self, prefix: str) -> None:
        self._tokens.forget(prefix)

    @cached_property
    def _tokens(self) -> Tokens:
        try:
            from ccfailover.transfer.dispatch import Tokens
        except ImportError as error:
            raise Unavailable(f"workers are alive, and this machine lacks what dispatches to them "
                              f"({error.name})", in_doubt=False, provider="workers",
                              hint=EXTRA) from error

        return Tokens(self._location, self._runtime, self._store.at_work)


def bench(desk: Desk) -> Bench:
    """Raises UsageError where there can be no worker."""
    from ccfailover.operations.worker import Bench, is_open
    from ccfailover.store.presence import Presence
    from ccfailover.wiring.assemble import SHARED, store_location
    from ccfailover.wiring.built import BuiltKinds

    where = store_location(desk.policy, desk.environ, desk.resolve)
    if not where.startswith(SHARED) or desk.fan_out is None:
        raise UsageError("workers need a store that machines share, and this one is a file",
                         where=desk.store.path, not_done="no work was taken",
                         hint='store: "env:NAME" with postgresql://user:password@host/database')
    try:
        from ccfailover.transfer import dispatch
    except ImportError as error:
        raise UsageError(f"a worker needs {error.name}, which is not installed",
                         not_done="no work was taken", hint=EXTRA) from error

    def serving(name: str, slots: int, handle: Callable[[object], str]) -> Serving:
        return dispatch.Serving(where, desk.runtime, policy=desk.policy.sha256, name=name,
                                slots=slots, handle=handle)

    return Bench(
        presence=Presence(where, desk.runtime), serving=serving,
        tools=lambda: BuiltKinds(desk.policy, desk.resolve, desk.runtime),
        is_open=is_open(desk.fan_out.open))


def upgrade(location: str, runtime: Runtime) -> bool:
    """Make or update the tables that workers need, where the extra is installed; whether it is."""
    try:
        from ccfailover.transfer import dispatch
    except ImportError:
        return False
    dispatch.migrate(location, runtime)
    return True
