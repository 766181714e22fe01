"""`ccfailover failback SITE`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import act, acting_options, finish, incident_option, overrides
from ccfailover.commands.common import json_option, policy_option, reason_option


@click.command(epilog="Example: ccfailover failback hq --reason INC-42")
@click.argument("site")
@click.option("--queue", "queues", multiple=True, help="Only this queue; may be repeated.")
@reason_option
@incident_option
@acting_options
@policy_option
@json_option
def command(site: str, queues: tuple[str, ...], reason: str, override: tuple[str, ...],
            override_reason: str, supersede: str | None, incident: str | None, yes: bool,
            wanted: str | None, policy: str | None, as_json: bool) -> None:
    """Return a site's work to its normal shares."""
    from ccfailover.runbooks.plan import Request

    finish(act(policy, Request(
        runbook="failback", subject=site, reason=reason, queues=queues,
        overrides=overrides(override, override_reason), supersedes=supersede,
    ), yes=yes, wanted=wanted, as_json=as_json, incident=incident))
