"""`ccfailover doctor`"""

from __future__ import annotations

import click

from ccfailover.commands.common import desk_for, finish, json_option, policy_option, print_json

_MARKS = {"ok": "✓", "advice": "!", "bad": "✗"}


@click.command(epilog="""\b
Example: ccfailover doctor
\b
Exit codes: 0 one could act now (! is advice) · 3 the policy or a secret is missing or wrong ·
8 the store, the clock or the regular check is not in order · 9 a lever cannot be read ·
6 an open run needs a person first · 4 a failover would be refused. With several ✗, the first of
these.""")
@policy_option
@json_option
def command(policy: str | None, as_json: bool) -> None:
    """Check what this machine needs to act in a disaster.

    Reads every lever, resolves every secret (and prints none), plans each failover without doing
    it, and writes one event into the journal to see that it can.
    """
    from ccfailover.errors import CcfError
    from ccfailover.operations.doctor import BAD, Finding, examine, exit_of, unusable
    from ccfailover.reports.words import safe

    heading = None
    try:
        desk = desk_for(policy)
        heading = desk.policy.heading
        found: list[Finding] = examine(desk)
    except CcfError as error:
        found = unusable(error)
    code = exit_of(found)
    bad = sum(each.level == BAD for each in found)
    verdict = "one could act now" if not bad else f"{bad} to put right before one could rely on it"
    if as_json:
        print_json({"policy": heading, "exit_code": int(code), "verdict": verdict,
                    "findings": [each.to_json() for each in found]})
    else:
        click.echo(heading or "no usable policy or store")
        for each in found:
            click.echo(f"{_MARKS[each.level]} {each.name:<10} {safe(each.said)}")
            if each.todo:
                click.echo(f"  {'':<10} → {safe(each.todo)}")
        click.echo(f"{'✗' if bad else '✓'} {verdict}")
    finish(int(code))
