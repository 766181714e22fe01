"""`ccfailover reassert [QUEUE]`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import act_on, acting_options, finish, incident_option, overrides
from ccfailover.commands.common import json_option, policy_option, reason_option


@click.command(epilog="Example: ccfailover reassert loan_calls --reason 'the switch restarted'")
@click.argument("queue", required=False)
@reason_option
@incident_option
@acting_options
@policy_option
@json_option
def command(queue: str | None, reason: str, override: tuple[str, ...], override_reason: str,
            supersede: str | None, incident: str | None, yes: bool, wanted: str | None,
            policy: str | None, as_json: bool) -> None:
    """Set levers again to what the journal says.

    Of QUEUE, or of every queue that reads other than the journal says: after a switch lost its
    shares in a restart, or somebody moved it by hand and should not have.
    """
    from dataclasses import replace

    from ccfailover.operations.reassert import request

    finish(act_on(policy, lambda desk: replace(
        request(desk, queue, reason), overrides=overrides(override, override_reason),
        supersedes=supersede,
    ), yes=yes, wanted=wanted, as_json=as_json, incident=incident))
