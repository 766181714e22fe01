"""`ccfailover rollback [RUN]`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import baton, carry, finish
from ccfailover.commands.common import (
    desk_for,
    json_option,
    local_option,
    policy_option,
    reason_option,
    steal_option,
)
from ccfailover.commands.resume import ask, why_steal


@click.command(epilog="Example: ccfailover rollback r17 --reason 'wrong site'")
@click.argument("run", required=False)
@reason_option
@steal_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@local_option
@policy_option
@json_option
def command(run: str | None, reason: str, steal: bool, yes: bool, policy: str | None,
            as_json: bool) -> None:
    """Undo what a run did, from its first snapshots.

    Only what was done is undone, in reverse; work goes back to no site that is down or unknown.
    RUN defaults to the only open run.
    """
    from ccfailover.operations import runs

    desk = desk_for(policy)
    stealing = why_steal(steal, reason)
    found = runs.load(desk, run)
    ask(f"{desk.policy.heading}: roll {found.id} back?", yes=yes)
    baton(desk, yes=yes, as_json=as_json)
    finish(carry(desk, lambda watcher, on_driver: runs.rollback(
        desk, found.id, reason=reason or "not given", steal=stealing, watcher=watcher,
        on_driver=on_driver), as_json=as_json))
