"""`ccfailover automation off|on`"""

from __future__ import annotations

import click

from ccfailover.commands.common import clock, desk_for, head, policy_option, reason_option
from ccfailover.errors import UsageError


@click.group(epilog="Example: ccfailover automation off --for 2h --reason maintenance")
def command() -> None:
    """Switch automatic runs off for a while, or on."""


@command.command(epilog="Example: ccfailover automation off --for 2h --reason maintenance")
@click.option("--for", "how_long", default="2h", show_default=True, metavar="DURATION")
@reason_option
@policy_option
def off(how_long: str, reason: str, policy: str | None) -> None:
    """Nothing runs by itself until the time is over; people still can."""
    from ccfailover.operations.upkeep import automation_off
    from ccfailover.policy.units import duration

    try:
        seconds = duration(how_long)
    except ValueError as error:
        raise UsageError(f"--for {how_long}: {error}", not_done="automation is as it was",
                         hint="--for 2h, --for 90m") from None
    desk = desk_for(policy)
    until = automation_off(desk, seconds, reason)
    head(desk)
    click.echo(f"automation is off until {clock(until)}")


@command.command(epilog="Example: ccfailover automation on")
@policy_option
def on(policy: str | None) -> None:
    """Let triggers with `mode: automatic` run by themselves again."""
    from ccfailover.operations.upkeep import automation_on

    desk = desk_for(policy)
    automation_on(desk)
    head(desk)
    click.echo("automation is on")
