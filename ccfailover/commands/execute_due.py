"""`ccfailover execute-due`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import conclude, finish, stoppable
from ccfailover.commands.common import desk_for, head, json_option, policy_option, print_json


@click.command(epilog="Example: * * * * * ccfailover check --quiet; ccfailover execute-due")
@policy_option
@json_option
def command(policy: str | None, as_json: bool) -> None:
    """Run what the policy lets run by itself; for cron.

    A trigger with `mode: automatic` whose condition held long enough is run here, not in
    `check`. What it rests on is looked at again first. Also delivers waiting messages.
    """
    from ccfailover.operations import runs
    from ccfailover.operations.execute_due import execute_due, reassert_due, return_due
    from ccfailover.operations.look import remembered
    from ccfailover.operations.news import remind
    from ccfailover.operations.outbox import deliver_waiting

    desk = desk_for(policy)
    with stoppable() as stopping:
        try:
            done = [*reassert_due(desk, stopping), *return_due(desk, stopping),
                    *execute_due(desk, stopping)]
        except KeyboardInterrupt:
            if stopping.run is None:
                raise
            finish(conclude(desk, runs.cut_off(desk, stopping.run), as_json=as_json,
                            stopped=True))
            return
    opened = [(run, runs.state_of(desk, run)) for run in runs.open_runs(desk)]
    remind(desk, remembered(desk), opened)
    sent = deliver_waiting(desk)
    facts = [{
        "trigger": one.decision.trigger, "runbook": one.decision.runbook,
        "subject": one.decision.subject,
        "run": one.outcome.run.id if one.outcome else None,
        "state": one.outcome.state.value if one.outcome else None,
        "why_not": str(one.why_not) if one.why_not else None,
    } for one in done]
    if as_json:
        print_json({"executed": facts, "messages": sent})
    if facts and not as_json:
        head(desk)
    for fact in [] if as_json else facts:
        ended = fact["state"] or f"not run: {fact['why_not']}"
        click.echo(f"{fact['trigger']}: {fact['runbook']} {fact['subject']}: "
                   f"{fact['run'] or '–'} {ended}")
    worst = [int(one.outcome.exit) for one in done if one.outcome]
    worst += [int(one.why_not.exit_code) for one in done if one.why_not]
    finish(max(worst, default=0))
