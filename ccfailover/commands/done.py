"""`ccfailover done [LEVER]`"""

from __future__ import annotations

import click

from ccfailover.commands.common import desk_for, head, json_option, policy_option, print_json


def _shares(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, int] | None:
    if value is None:
        return None
    found: dict[str, int] = {}
    for part in value.split(","):
        name, equals, percent = part.strip().partition("=")
        if not equals or not name or not percent.isascii() or not percent.isdigit() \
                or len(percent) > 3 or name in found:
            raise click.BadParameter("as in hq=60,acme=40", ctx, param)
        found[name] = int(percent)
    return found


@click.command(epilog="""\b
Examples:
  ccfailover done resporg:800-555-0199 --task 3 --evidence "ticket 4711, test call at 14:05"
  ccfailover done loan_calls --by "Ann of the RespOrg" --evidence "ticket 4711"
  ccfailover done --no "the RespOrg does not answer\"""")
@click.argument("lever", required=False)
@click.option("--evidence", default="", metavar="TEXT",
              help="How you know: a ticket, a test call. Goes into the journal.")
@click.option("--task", type=click.IntRange(min=1), metavar="N",
              help="Answer this task alone, as `status` numbers it; refused if another is open.")
@click.option("--by", default="", metavar="NAME", help="Who did it, if it was not you.")
@click.option("--shares", callback=_shares, metavar="SITE=PERCENT,…",
              help="How it stands now, if other than asked.")
@click.option("--no", "refused", metavar="REASON", help="It is not done and will not be, and why.")
@policy_option
@json_option
def command(lever: str | None, evidence: str, task: int | None, by: str,
            shares: dict[str, int] | None, refused: str | None, policy: str | None,
            as_json: bool) -> None:
    """Say that what you were asked to do by hand is done.

    LEVER is a lever or its queue; it defaults to the only one that waits. The run that asked goes
    on by itself while its process lives; else resume it.
    """
    from ccfailover.operations import by_hand
    from ccfailover.operations.status import status

    if refused is not None and (evidence or by or shares):
        raise click.UsageError("--no goes with no other answer")
    desk = desk_for(policy)
    answer = (by_hand.done(desk, lever, evidence=evidence, by=by, shares=shares, number=task)
              if refused is None else by_hand.refuse(desk, lever, refused, number=task))
    facts = {"policy": desk.policy.heading, "lever": answer.lever,
             "answer": answer.kind.partition(".")[2],
             "shares": answer.shares.to_json() if answer.shares else None,
             "said": dict(answer.said), "next": status(desk, probe=False).next}
    if as_json:
        print_json(facts)
        return
    head(desk)
    if refused is not None:
        click.echo(f"{answer.lever}: turned down by {desk.actor.name}")
    else:
        click.echo(f"{answer.lever} stands at {answer.shares}, done by {answer.said['by']}")
        if answer.said["asked"] not in (None, answer.said["shares"]):
            click.echo("  that is not what was asked: the run that asked goes on waiting")
    seq, hash_ = desk.store.head("automation")
    click.echo(f"journal head {seq}:{hash_}")
    click.echo(f"NEXT: {facts['next']}")
