"""`ccfailover abort [RUN]`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import baton, conclude
from ccfailover.commands.common import (
    desk_for,
    json_option,
    local_option,
    policy_option,
    reason_option,
    steal_option,
)
from ccfailover.commands.resume import ask, why_steal


@click.command(epilog="Example: ccfailover abort r17 --reason 'handled by hand'")
@click.argument("run", required=False)
@reason_option
@steal_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@local_option
@policy_option
@json_option
def command(run: str | None, reason: str, steal: bool, yes: bool, policy: str | None,
            as_json: bool) -> None:
    """End a run where it stands; what is in effect stays.

    RUN defaults to the only open run. A run at work is asked to stop at its next safe point.
    """
    from ccfailover.operations import runs

    desk = desk_for(policy)
    stealing = why_steal(steal, reason)
    found = runs.load(desk, run)
    ask(f"{desk.policy.heading}: abort {found.id} where it stands?", yes=yes)
    baton(desk, yes=yes, as_json=as_json)
    outcome = runs.abort(desk, found.id, reason=reason or "not given", steal=stealing)
    conclude(desk, outcome, as_json=as_json)  # the run's state is no failure of this verb
