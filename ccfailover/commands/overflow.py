"""`ccfailover overflow QUEUE`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import act, acting_options, finish, incident_option, overrides
from ccfailover.commands.common import json_option, policy_option, reason_option


@click.command(
    epilog="Example: ccfailover overflow applications --to acme --until 18:00 --reason peak")
@click.argument("queue")
@click.option("--to", multiple=True, metavar="SITE", help="Only to this site; may be repeated.")
@click.option("--percent", type=click.IntRange(1, 100),
              help="This part of the queue; else what home cannot serve within target.")
@click.option("--until", metavar="TIME", help="Return by itself then: 18:00 (in the policy's "
              "time zone) or an ISO date and time; `execute-due` brings it back.")
@reason_option
@incident_option
@acting_options
@policy_option
@json_option
def command(queue: str, to: tuple[str, ...], percent: int | None, until: str | None, reason: str,
            override: tuple[str, ...], override_reason: str, supersede: str | None,
            incident: str | None, yes: bool, wanted: str | None, policy: str | None,
            as_json: bool) -> None:
    """Move a healthy but overloaded queue's surplus to its backups."""
    from ccfailover.runbooks.plan import Request

    finish(act(policy, Request(
        runbook="overflow", subject=queue, reason=reason, to=to, percent=percent,
        until=until,
        overrides=overrides(override, override_reason), supersedes=supersede,
    ), yes=yes, wanted=wanted, as_json=as_json, incident=incident))
