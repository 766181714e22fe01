"""`ccfailover skip [RUN]`"""

from __future__ import annotations

import click

from ccfailover.commands.common import (
    desk_for,
    head,
    json_option,
    local_option,
    policy_option,
    print_json,
    reason_option,
)


@click.command(epilog="Example: ccfailover skip r17 --reason 'moved by the carrier, by phone'")
@click.argument("run", required=False)
@click.option("--step", help="Which step, if several stopped their branches.")
@reason_option
@local_option
@policy_option
@json_option
def command(run: str | None, step: str | None, reason: str, policy: str | None,
            as_json: bool) -> None:
    """Pass over the step that stopped a branch, with a reason.

    Every report shows it, and the run is never plainly "succeeded". RUN defaults to the only
    open run.
    """
    from ccfailover.operations import runs
    from ccfailover.operations.describe import run_facts

    desk = desk_for(policy)
    found = runs.skip(desk, run, step=step, reason=reason)
    if as_json:
        print_json(run_facts(desk, found, runs.state_of(desk, found)))
    else:
        head(desk)
        click.echo(f"run {found.id}: skipped\nNEXT: ccfailover resume {found.id}")
