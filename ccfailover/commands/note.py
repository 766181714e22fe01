"""`ccfailover note RUN TEXT`"""

from __future__ import annotations

import click

from ccfailover.commands.common import desk_for, head, policy_option


@click.command(epilog="Example: ccfailover note r17 'carrier ticket 4711'")
@click.argument("run")
@click.argument("text")
@policy_option
def command(run: str, text: str, policy: str | None) -> None:
    """Write a remark into a run's journal."""
    from ccfailover.operations import runs

    desk = desk_for(policy)
    found = runs.note(desk, run, text)
    head(desk)
    click.echo(f"noted in run {found.id}")
