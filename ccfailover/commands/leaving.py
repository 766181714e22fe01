"""What the two verbs that empty a site share: `failover` a dead one, `switchover` a healthy one."""

from __future__ import annotations

import click

from ccfailover.commands.acting import act, acting_options, finish, incident_option, overrides
from ccfailover.commands.common import json_option, policy_option, reason_option


def leaving(runbook: str, summary: str, example: str) -> click.Command:
    """The verb that runs `runbook` on a SITE; `example` is a whole command line."""

    @click.command(help=summary, epilog=f"Example: {example}")
    @click.argument("site")
    @click.option("--queue", "queues", multiple=True, help="Only this queue; may be repeated.")
    @click.option("--to", multiple=True, metavar="SITE",
                  help="Only to this site; may be repeated.")
    @reason_option
    @incident_option
    @acting_options
    @policy_option
    @json_option
    def command(site: str, queues: tuple[str, ...], to: tuple[str, ...], reason: str,
                override: tuple[str, ...], override_reason: str, supersede: str | None,
                incident: str | None, yes: bool, wanted: str | None, policy: str | None,
                as_json: bool) -> None:
        from ccfailover.runbooks.plan import Request

        finish(act(policy, Request(
            runbook=runbook, subject=site, reason=reason, queues=queues, to=to,
            overrides=overrides(override, override_reason), supersedes=supersede,
        ), yes=yes, wanted=wanted, as_json=as_json, incident=incident))

    return command
