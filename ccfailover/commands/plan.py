"""`ccfailover plan RUNBOOK SUBJECT`"""

from __future__ import annotations

import json
from pathlib import Path

import click

from ccfailover.commands.acting import acting_options, finish, overrides, show_plan
from ccfailover.commands.common import (
    desk_for,
    json_option,
    policy_option,
    print_json,
    reason_option,
)
from ccfailover.errors import UsageError

VERBS = {"failover": "full_failover", "switchover": "switchover", "overflow": "overflow",
         "failback": "failback"}


@click.command(epilog="""\b
Examples:
  ccfailover plan failover hq --reason INC-42 --out hq.plan
  ccfailover failover hq --reason INC-42 --yes --plan hq.plan
  ccfailover plan failover hq --runsheet > hq.txt    for when the tool itself is dead""")
@click.argument("verb", metavar="VERB")
@click.argument("subject")
@click.option("--queue", "queues", multiple=True, help="Only this queue; may be repeated.")
@click.option("--to", multiple=True, metavar="SITE", help="Only to this site; may be repeated.")
@click.option("--percent", type=click.IntRange(1, 100), help="For an overflow: this part.")
@click.option("--until", metavar="TIME", help="For an overflow: return by itself then.")
@click.option("--out", type=click.Path(dir_okay=False), help="Save the plan, with its hash.")
@click.option("--runsheet", is_flag=True, help="Print what a person would do by hand.")
@reason_option
@acting_options
@policy_option
@json_option
def command(verb: str, subject: str, queues: tuple[str, ...], to: tuple[str, ...],
            percent: int | None, until: str | None, out: str | None, runsheet: bool, reason: str,
            override: tuple[str, ...], override_reason: str, supersede: str | None, yes: bool,
            wanted: str | None, policy: str | None, as_json: bool) -> None:
    """Show what a failover would do, and keep the plan under its hash.

    VERB is failover, switchover, overflow, failback, or a runbook of the policy's own.
    """
    from ccfailover.operations import prepare
    from ccfailover.operations.describe import runsheet as sheet
    from ccfailover.runbooks.plan import Request

    if yes or wanted:
        raise UsageError("--yes and --plan belong to the verb that acts",
                         not_done="nothing was planned",
                         hint=f"ccfailover {verb} {subject} --yes --plan HASH")
    desk = desk_for(policy)
    prepared = prepare.prepare(desk, Request(
        runbook=VERBS.get(verb, verb), subject=subject, reason=reason or "planned ahead",
        queues=queues, to=to, percent=percent, until=until,
        overrides=overrides(override, override_reason), supersedes=supersede,
    ))
    prepare.save_plan(desk, prepared)
    refusal = prepared.refusal
    shown = {"policy": desk.policy.heading, "hash": prepared.plan.hash,
             "plan": prepared.plan.to_json(), "refused": refusal.to_json() if refusal else None}
    if out is not None:
        _write(Path(out), shown)
    if as_json:
        print_json(shown)
    elif runsheet:
        for line in sheet(desk, prepared.plan):
            click.echo(line)
    else:
        show_plan(desk, prepared)
        if refusal is None:
            more = [*(f"--queue {name}" for name in queues), *(f"--to {site}" for site in to),
                    *([f"--percent {percent}"] if percent else []),
                    *([f"--until {until}"] if until else []),
                    *(f"--override {name}" for name in override),
                    *(["--override-reason …"] if override else []),
                    *([f"--supersede {supersede}"] if supersede else [])]
            nothing = prepared.nothing_to_do
            click.echo("NEXT: nothing to do" if nothing else " ".join([
                f"NEXT: ccfailover {verb} {subject}", *more, "--reason …",
                f"--yes --plan {out or prepared.plan.hash}"]))
    if refusal is not None:
        if not as_json:
            for line in refusal.lines():
                click.echo(line, err=True)
        finish(int(refusal.exit_code))


def _write(path: Path, shown: object) -> None:
    try:
        path.write_text(json.dumps(shown, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}",
                         not_done="the plan was not saved there",
                         hint="a file in a folder that exists and is yours") from None
