"""`ccfailover automation off|on`"""

from __future__ import annotations

import click

from ccfailover.commands.common import clock, desk_for, policy_option, reason_option
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
        raise UsageError(f"--for {how_long}: {error}", hint="--for 2h, --for 90m") from None
    until = automation_off(desk_for(policy), seconds, reason)
    click.echo(f"automation is off until {clock(until)}")


@command.command(epilog="Example: ccfailover automation on")
@policy_option
def on(policy: str | None) -> None:
    """Let triggers with `mode: automatic` run by themselves again."""
    from ccfailover.operations.upkeep import automation_on

    automation_on(desk_for(policy))
    click.echo("automation is on")
