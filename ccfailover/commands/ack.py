"""`ccfailover ack`"""

from __future__ import annotations

import click

from ccfailover.commands.common import desk_for, head, policy_option, reason_option


@click.command(epilog="Example: ccfailover ack --reason 'power is back for good'")
@reason_option
@policy_option
def command(reason: str, policy: str | None) -> None:
    """Acknowledge a failover, which lifts the anti-flap block."""
    from ccfailover.operations.upkeep import acknowledge

    desk = desk_for(policy)
    acknowledge(desk, reason)
    head(desk)
    click.echo(f"acknowledged by {desk.actor.name}: earlier moves block nothing any more")
