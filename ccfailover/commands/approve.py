"""`ccfailover approve [RUN]`"""

from __future__ import annotations

import click

from ccfailover.commands.common import (
    clock,
    desk_for,
    head,
    json_option,
    policy_option,
    print_json,
    shares_text,
)


@click.command(epilog="""\b
Examples:
  ccfailover approve r17
  ccfailover approve r17 --decline "the carrier works on it\"""")
@click.argument("run", required=False)
@click.option("--decline", metavar="REASON", help="Say no instead, and why.")
@policy_option
@json_option
def command(run: str | None, decline: str | None, policy: str | None, as_json: bool) -> None:
    """Approve, or decline, a run that waits for somebody else.

    RUN defaults to the only open run. Nobody approves their own request. An approval is for the
    plan, the policy and the receivers as they are now, and expires.
    """
    from ccfailover.operations import approvals, runs
    from ccfailover.operations.describe import run_facts

    desk = desk_for(policy)
    answer = (approvals.approve(desk, run) if decline is None
              else approvals.decline(desk, run, decline))
    facts = run_facts(desk, answer.run, runs.state_of(desk, answer.run))
    said = answer.record.data
    if as_json:
        print_json(facts | {"answer": answer.record.kind.partition(".")[2], "said": dict(said)})
        return
    head(desk)
    plan = answer.run.plan
    click.echo(f"run {answer.run.id} {plan.runbook} {plan.subject}: "
               f"{'declined' if decline is not None else 'approved'} by {desk.actor.name}, "
               f"for plan {plan.hash}")
    if decline is None:
        for queue, parts in said["shares"].items():
            click.echo(f"  {queue}: {shares_text(plan.shares_before.get(queue))} → "
                       f"{shares_text(parts)}")
        for site, state in said["receivers"].items():
            click.echo(f"  {site} is {state}; if it gets worse, the approval is void")
        click.echo(f"  counts until {clock(said['valid_until'])}")
    click.echo(f"journal head {answer.record.seq}:{answer.record.hash}")
    click.echo(f"NEXT: {facts['next']}")
