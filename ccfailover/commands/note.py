"""`ccfailover note RUN|INCIDENT TEXT`"""

from __future__ import annotations

import click

from ccfailover.commands.common import desk_for, head, policy_option


@click.command(epilog="""\b
Examples:
  ccfailover note r17 'carrier ticket 4711'
  ccfailover note INC-42 'the regulator was called at 09:10'""")
@click.argument("subject", metavar="RUN|INCIDENT")
@click.argument("text")
@policy_option
def command(subject: str, text: str, policy: str | None) -> None:
    """Write a remark into the journal, for a run or an incident."""
    from ccfailover.operations import incidents, runs

    desk = desk_for(policy)
    if incidents.load(desk, subject) is not None:
        said = f"incident {incidents.note(desk, subject, text).id}"
    else:
        said = f"run {runs.note(desk, subject, text).id}"
    head(desk)
    click.echo(f"noted in {said}")
