"""`ccfailover approve [RUN]`"""

from __future__ import annotations

import click

from ccfailover.commands.common import desk_for, head, json_option, policy_option, print_json


@click.command(epilog="Example: ccfailover approve r17")
@click.argument("run", required=False)
@click.option("--decline", metavar="REASON", help="Say no instead, and why.")
@policy_option
@json_option
def command(run: str | None, decline: str | None, policy: str | None, as_json: bool) -> None:
    """Approve, or decline, a run that waits for somebody else.

    RUN defaults to the only open run. Nobody approves their own request.
    """
    from ccfailover.operations import runs
    from ccfailover.operations.describe import run_facts

    desk = desk_for(policy)
    found = runs.approve(desk, run, decline=decline)
    if as_json:
        print_json(run_facts(desk, found, runs.state_of(desk, found)))
    else:
        head(desk)
        click.echo(f"run {found.id}: {'declined' if decline is not None else 'approved'} "
                   f"by {desk.actor.name}, for plan {found.plan.hash}")
