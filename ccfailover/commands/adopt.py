"""`ccfailover adopt QUEUE`"""

from __future__ import annotations

import click

from ccfailover.commands.common import (
    desk_for,
    head,
    json_option,
    policy_option,
    print_json,
    reason_option,
    shares_text,
)


@click.command(epilog="Example: ccfailover adopt loan_calls --reason 'carrier moved it at 2:10'")
@click.argument("queue")
@reason_option
@policy_option
@json_option
def command(queue: str, reason: str, policy: str | None, as_json: bool) -> None:
    """Take shares that somebody set by hand for the expected ones."""
    from ccfailover.operations.upkeep import adopt

    desk = desk_for(policy)
    shares = adopt(desk, queue, reason)
    if as_json:
        print_json({"queue": queue, "expected": shares})
    else:
        head(desk)
        click.echo(f"{queue} is expected at {shares_text(shares)} from now on")
