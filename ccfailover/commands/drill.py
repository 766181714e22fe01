"""`ccfailover drill VERB SUBJECT`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import act, finish
from ccfailover.commands.common import json_option, policy_option, reason_option
from ccfailover.commands.plan import VERBS


@click.command(epilog="Example: ccfailover drill failover hq --reason 'Q3 rehearsal'")
@click.argument("verb", metavar="VERB")
@click.argument("subject")
@click.option("--queue", "queues", multiple=True, help="Only this queue; may be repeated.")
@click.option("--to", multiple=True, metavar="SITE", help="Only to this site; may be repeated.")
@reason_option
@policy_option
@json_option
def command(verb: str, subject: str, queues: tuple[str, ...], to: tuple[str, ...], reason: str,
            policy: str | None, as_json: bool) -> None:
    """Rehearse a runbook without writing anything outside.

    Shadow mode: the same recipe reads the real sites, every adapter refuses to write, and a
    journal and report stamped DRILL are left.
    """
    from ccfailover.model.plan import Mode
    from ccfailover.runbooks.plan import Request

    finish(act(policy, Request(
        runbook=VERBS.get(verb, verb), subject=subject, reason=reason or "drill",
        mode=Mode.SHADOW, queues=queues, to=to,
    ), yes=True, wanted=None, as_json=as_json))
