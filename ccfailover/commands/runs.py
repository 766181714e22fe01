"""`ccfailover runs list|show|watch`"""

from __future__ import annotations

from typing import Any

import click

from ccfailover.commands.common import (
    clock,
    desk_for,
    head,
    json_option,
    local_look_option,
    nobody_listens,
    policy_option,
    print_json,
    span,
    table,
)


@click.group(epilog="Example: ccfailover runs show r17")
def command() -> None:
    """List, show and watch runs."""


@command.command("list", epilog="Example: ccfailover runs list --json")
@local_look_option
@policy_option
@json_option
def list_(policy: str | None, as_json: bool) -> None:
    """Every run and drill, the newest first."""
    from ccfailover.operations import runs
    from ccfailover.operations.describe import run_facts

    desk = desk_for(policy, validate=False)
    facts = []
    for run_id in reversed(desk.store.run_ids()):
        run = runs.load(desk, run_id)
        facts.append(run_facts(desk, run, runs.state_of(desk, run)))
    if as_json:
        print_json(facts)
        return
    head(desk)
    if not facts:
        click.echo("no run yet\nNEXT: ccfailover drill failover SITE")
        return
    table("", ("run", "when", "what", "state", "by", "reason"), [
        (fact["run"], clock(fact["planned_at"]),
         ("DRILL " if fact["drill"] else "") + f"{fact['runbook']} {fact['subject']}",
         fact["state"].replace("_", " "), fact["by"], fact["reason"])
        for fact in facts
    ])


@command.command(epilog="Example: ccfailover runs show r17")
@click.argument("run", required=False)
@local_look_option
@policy_option
@json_option
def show(run: str | None, policy: str | None, as_json: bool) -> None:
    """One run, step by step. RUN defaults to the only open run."""
    facts = _facts(policy, run)
    if as_json:
        print_json(facts)
    else:
        _show(facts)


@command.command(epilog="Example: ccfailover runs watch r17")
@click.argument("run", required=False)
@local_look_option
@policy_option
def watch(run: str | None, policy: str | None) -> None:
    """Follow a run from another terminal until it stops."""
    from ccfailover.operations import runs
    from ccfailover.operations.describe import run_facts

    desk = desk_for(policy, validate=False)
    name = runs.load(desk, run).id
    while True:
        found = runs.load(desk, name)
        state = runs.state_of(desk, found)
        click.clear()
        _show(run_facts(desk, found, state))
        if state.value not in ("running", "rolling_back", "planned") or nobody_listens():
            return
        desk.runtime.sleep(1.0)


@command.command("import", epilog="""\b
Examples:
  ccfailover runs import                      this machine's local journal, or what the server lost
  ccfailover runs import other.local.db       another machine's local journal
  ccfailover runs import journal.jsonl        what `journal export` wrote
\b
Exit codes: 0 imported, or nothing to import · 5 one of the runs is being carried · 8 the journal
was changed, or the store cannot be written.""")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@policy_option
@json_option
def import_(file: str | None, policy: str | None, as_json: bool) -> None:
    """Bring runs of another journal into the store, as they were.

    Each run keeps its id, or gets one of its own where that is taken. What is there already is
    passed over. Verified before and after.
    """
    from ccfailover.operations.import_runs import import_all
    from ccfailover.wiring.assemble import assemble

    desk = assemble(policy, verified=False)
    found = import_all(desk, file)
    if as_json:
        print_json({"policy": desk.policy.heading, "store": desk.store.path,
                    "imported": [each.to_json() for each in found]})
        return
    head(desk)
    if not found:
        click.echo("nothing to import: the store has it all\nNEXT: ccfailover status")
        return
    for each in found:
        click.echo(f"from {each.name}:")
        for run in each.came:
            named = "" if run.run == run.origin else f", which is {run.origin} there"
            events = (f"events {run.first} to {run.seq}" if run.how == "extended"
                      else f"{run.seq} events")
            click.echo(f"  run {run.run}{named}: {events}, "
                       f"{(run.state or 'unfinished').replace('_', ' ')}"
                       + (f" ({run.note})" if run.note else ""))
        click.echo(f"  {each.automation} events of automation")
        for overlap in each.overlaps:
            click.echo(f"  OVERLAP {overlap}")
    click.echo("NEXT: ccfailover status --probe")


def _facts(policy: str | None, run: str | None) -> dict[str, Any]:
    from ccfailover.operations import runs
    from ccfailover.operations.describe import run_facts

    desk = desk_for(policy, validate=False)
    found = runs.load(desk, run)
    return run_facts(desk, found, runs.state_of(desk, found))


def _show(facts: dict[str, Any]) -> None:
    drill = "DRILL  " if facts["drill"] else ""
    click.echo(f"{drill}{facts['policy']}   run {facts['run']}: {facts['runbook']} "
               f"{facts['subject']}, {facts['state'].upper().replace('_', ' ')}, "
               f"{span(facts['seconds'])}, by {facts['by']}: {facts['reason']}")
    table("", ("step", "status", "what", "seen"), [
        (step["id"], step["status"] + (f" ×{step['attempts']}" if step["attempts"] > 1 else ""),
         step["title"], step["reason"]) for step in facts["steps"]
    ])
    for line in facts["exceptions"]:
        click.echo(f"  exception: {line}")
    click.echo(f"NEXT: {facts['next']}")
