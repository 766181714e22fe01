"""`ccfailover incident declare|determine|hand-over|add|close|list|show`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ccfailover.commands.common import (
    clock,
    desk_for,
    head,
    json_option,
    policy_option,
    print_json,
    reason_option,
    table,
)

if TYPE_CHECKING:
    from ccfailover.model.incident import Incident
    from ccfailover.operations.desk import Desk

AT = "When, if not now: 08:30 (in the policy's time zone) or an ISO date and time."


@click.group(epilog="""\b
Examples:
  ccfailover incident declare INC-42 --commander mary --reason "hq lost power"
  ccfailover incident determine INC-42 "the carrier's core router failed" --at 08:40
  ccfailover incident hand-over INC-42 --to joe --note "hq asked for 10:00"
  ccfailover incident close INC-42 --reason "all at hq again\"""")
def command() -> None:
    """What people declared: commander, times, hand-overs, and its runs.

    A run that is begun while one incident is open belongs to it. Where ID may be left out, it is
    the only open one.
    """


@command.command(epilog="Example: ccfailover incident declare INC-42 --commander mary")
@click.argument("incident", metavar="ID")
@click.option("--commander", default="", metavar="NAME", help="Who leads.")
@click.option("--at", metavar="TIME", help=AT)
@reason_option
@policy_option
@json_option
def declare(incident: str, commander: str, at: str | None, reason: str, policy: str | None,
            as_json: bool) -> None:
    """Declare an incident, from now or from --at on."""
    from ccfailover.operations import incidents

    desk = desk_for(policy)
    _say(desk, incidents.declare(desk, incident, commander=commander, reason=reason, at=at),
         as_json=as_json)


@command.command(epilog="Example: ccfailover incident determine INC-42 \"the router failed\"")
@click.argument("words", nargs=-1, required=True, metavar="[ID] CAUSE")
@click.option("--at", metavar="TIME", help=AT)
@policy_option
@json_option
def determine(words: tuple[str, ...], at: str | None, policy: str | None, as_json: bool) -> None:
    """Say what it is, and when that was known: the clocks of regulators start there."""
    from ccfailover.operations import incidents

    if len(words) > 2:
        raise click.UsageError("put the cause into quotes: [ID] CAUSE")
    desk = desk_for(policy)
    incident = words[0] if len(words) == 2 else None
    _say(desk, incidents.determine(desk, incident, words[-1], at=at), as_json=as_json)


@command.command("hand-over", epilog="Example: ccfailover incident hand-over --to joe")
@click.argument("incident", metavar="ID", required=False)
@click.option("--to", default="", metavar="NAME", help="Who leads from now on.")
@click.option("--note", default="", metavar="TEXT", help="What they must know.")
@policy_option
@json_option
def hand_over(incident: str | None, to: str, note: str, policy: str | None,
              as_json: bool) -> None:
    """Hand the command over to somebody else."""
    from ccfailover.operations import incidents

    desk = desk_for(policy)
    _say(desk, incidents.hand_over(desk, incident, to=to, note=note), as_json=as_json)


@command.command(epilog="Example: ccfailover incident add r17")
@click.argument("words", nargs=-1, required=True, metavar="[ID] RUN")
@policy_option
@json_option
def add(words: tuple[str, ...], policy: str | None, as_json: bool) -> None:
    """Say that a run belongs to it, such as one from before it was declared."""
    from ccfailover.operations import incidents

    if len(words) > 2:
        raise click.UsageError("one run at a time: [ID] RUN")
    desk = desk_for(policy)
    incident = words[0] if len(words) == 2 else None
    _say(desk, incidents.add_run(desk, incident, words[-1]), as_json=as_json)


@command.command(epilog="Example: ccfailover incident close --reason 'all at hq again'")
@click.argument("incident", metavar="ID", required=False)
@reason_option
@policy_option
@json_option
def close(incident: str | None, reason: str, policy: str | None, as_json: bool) -> None:
    """It is over; nothing more is written to it."""
    from ccfailover.operations import incidents

    desk = desk_for(policy)
    _say(desk, incidents.close(desk, incident, reason=reason), as_json=as_json)


@command.command(epilog="Example: ccfailover incident show INC-42")
@click.argument("incident", metavar="ID", required=False)
@policy_option
@json_option
def show(incident: str | None, policy: str | None, as_json: bool) -> None:
    """One incident: times, commanders, notes and runs."""
    from ccfailover.operations import incidents

    desk = desk_for(policy, validate=False)
    _say(desk, incidents.find(desk, incident), as_json=as_json)


@command.command("list", epilog="Example: ccfailover incident list")
@policy_option
@json_option
def list_(policy: str | None, as_json: bool) -> None:
    """Every incident, the newest first."""
    from ccfailover.operations import incidents

    desk = desk_for(policy, validate=False)
    found = incidents.listed(desk)[::-1]
    if as_json:
        print_json([one.to_json() for one in found])
        return
    head(desk)
    if not found:
        click.echo("no incident yet\nNEXT: ccfailover incident declare ID --commander NAME "
                   "--reason …")
        return
    table("", ("incident", "state", "commander", "declared", "determined", "runs", "reason"), [
        (one.id, "open" if one.is_open else "closed", one.commander, clock(one.declared_at),
         clock(one.determined_at), str(len(one.runs)), one.reason) for one in found])


def _say(desk: Desk, found: Incident, *, as_json: bool) -> None:
    """The incident as it is now; its head is what proves the journal up to here."""
    if as_json:
        print_json(found.to_json())
        return
    from ccfailover.reports.incident import lines

    head(desk)
    for line in lines(found):
        click.echo(line)
    click.echo(f"journal head {found.head[0]}:{found.head[1]}")
    then = f"report --incident {found.id}" if not found.is_open else "status"
    click.echo(f"NEXT: ccfailover {then}")
