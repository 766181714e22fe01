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
    from ccfailover.operations.status import automation

    if not everything and run is None:
        raise UsageError("which run?", not_done="nothing was stopped", hint="RUN, or --all")
    desk = desk_for(policy)
    stopped = runs.stop(desk, None if everything else run, reason)
    asked = [found.id for found, moving in stopped if moving]
    still = {found.id: found.phase.value for found, moving in stopped if not moving}
    by_itself = (everything and automation(desk)["off_until"] is None
                 and any(one.mode == "automatic" for one in desk.policy.triggers.values()))
    if as_json:
        print_json({"asked": asked, "still": still, "automation": by_itself})
        return
    head(desk)
    click.echo(f"asked to stop: {', '.join(asked) or 'no run is under way'}")
    for name, state in still.items():
        click.echo(f"  {name} stands still already: {state}")
    if by_itself:
        click.echo("  automation is on and may start others: ccfailover automation off --for 2h")
    click.echo(f"NEXT: ccfailover {f'runs watch {asked[0]}' if asked else 'status'}")
