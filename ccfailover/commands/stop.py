"""`ccfailover stop`"""

from __future__ import annotations

import click

from ccfailover.commands.common import (
    desk_for,
    head,
    json_option,
    policy_option,
    print_json,
    reason_option,
)
from ccfailover.errors import UsageError


@click.command(epilog="Example: ccfailover stop --all --reason 'wrong site'")
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Every open run.")
@reason_option
@policy_option
@json_option
def command(run: str | None, everything: bool, reason: str, policy: str | None,
            as_json: bool) -> None:
    """Ask runs to stop at their next safe point.

    They pause there, keep their scope, and can be resumed or rolled back.
    """
    from ccfailover.operations import runs

    if not everything and run is None:
        raise UsageError("which run?", not_done="nothing was stopped", hint="RUN, or --all")
    desk = desk_for(policy)
    if everything:
        asked = runs.stop_all(desk, reason)
    else:
        found = runs.load(desk, run)
        runs.request_stop(desk, found.id, reason)
        asked = [found.id]
    if as_json:
        print_json({"asked": asked})
    else:
        head(desk)
        click.echo(f"asked to stop: {', '.join(asked) or 'no run is open'}")
