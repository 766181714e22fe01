"""`ccfailover status`"""

from __future__ import annotations

from typing import Any

import click

from ccfailover.commands.common import (
    ago,
    desk_for,
    json_option,
    local_look_option,
    nobody_listens,
    policy_option,
    print_json,
    shares_text,
    span,
    table,
)

_STATES = {"healthy": "✓ healthy", "degraded": "! degraded", "down": "✗ DOWN",
           "unknown": "? unknown"}


@click.command(epilog="Example: ccfailover status --probe")
@click.option("--probe", is_flag=True, help="Look now, at most 5 s; do not rely on the last check.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds until ^C.")
@local_look_option
@policy_option
@json_option
def command(probe: bool, watch: bool, policy: str | None, as_json: bool) -> None:
    """What is where, who moved it, and what to do now."""
    from ccfailover.operations.status import status

    desk = desk_for(policy, validate=False)
    while True:
        facts = status(desk, probe=probe).facts
        if as_json:
            print_json(facts)
        else:
            if watch:
                click.clear()
            show(facts)
        if not watch or nobody_listens():
            return
        desk.runtime.sleep(2.0)


def show(facts: dict[str, Any]) -> None:
    """The table that a tired person can read: marks and words, colour never the only signal."""
    click.echo(f"{facts['policy']}   observed {ago(facts['observed_at'], facts['at'])}")
    table("", ("site", "state", "since", "why"), [
        (row["site"] + ("" if row["in_house"] else " (outsourced)"),
         _STATES[row["state"]] + ("" if row["open"] else ", closed"),
         ago(row["since"], facts["at"]) if row["since"] else "–", row["reason"])
        for row in facts["sites"]
    ])
    table("", ("queue", "normal", "expected", "actual", "waiting", "oldest", "moved by"), [
        (row["queue"], shares_text(row["normal"]), shares_text(row["expected"]),
         shares_text(row["actual"]) + ("  ≠ DRIFT" if row["drift"] else ""),
         _by_site(row["depth"]), _ages(row["oldest_s"]), row["moved_by"] or "–")
        for row in facts["queues"]
    ])
    for row in facts["dependencies"]:
        if row["state"] != "healthy":
            click.echo(f"  dependency {row['dependency']} {_STATES[row['state']]}: {row['reason']}")
    for one in facts["incidents"]:
        _incident(one, facts["at"])
    for run in facts["runs"]:
        drill = "DRILL " if run["drill"] else ""
        click.echo(f"  {drill}run {run['run']} {run['runbook']} {run['subject']}: "
                   f"{run['state'].upper()}, by {run['by']}, {run['reason']}"
                   + (f"; took over from {', '.join(run['supersedes'])}"
                      if run["supersedes"] else ""))
    for each in facts["in_work"]:
        if each["items"] is None:
            click.echo(f"  {each['queue']} at {each['site']}: too many in the ledger to count at a "
                       "glance: ccfailover transfer status")
            continue
        click.echo(f"  {each['items']} {each['queue']} are at {each['site']}"
                   + ("" if each["told"] else ", or done there: it does not say"))
    for task in facts["by_hand"]:
        _task(task, facts["at"])
    off = facts["automation"]
    if off["off_until"]:
        click.echo(f"  automation is OFF, by {off['by']}: {off['reason']}")
    if (workers := facts.get("workers")) and (workers["alive"] or workers["other_policy"]):
        click.echo(f"  {len(workers['alive'])} workers alive"
                   + (f", {len(workers['other_policy'])} more with another policy"
                      if workers["other_policy"] else ""))
    click.echo(f"NEXT: {facts['next']}")


def _incident(one: dict[str, Any], now: int) -> None:
    from ccfailover.reports.words import safe

    determined = (f"determined {ago(one['determined_at'], now)}: {safe(one['cause'])}"
                  if one["determined_at"] else "not determined yet")
    click.echo(f"  INCIDENT {one['incident']}, commander {safe(one['commander'])}, declared "
               f"{ago(one['declared_at'], now)}: {safe(one['reason'])}; {determined}; "
               f"runs: {', '.join(one['runs']) or 'none'}")


def _task(task: dict[str, Any], now: int) -> None:
    from ccfailover.model.shares import Shares
    from ccfailover.reports.words import clock, safe

    until = f"expires at {clock(task['expires_at'])}"
    click.echo(f"  BY HAND {task['lever']} (task {task['task']}): to be set to "
               f"{Shares(task['to'])}, asked {ago(task['asked_at'], now)} by {task['asked_by']}; "
               f"{'EXPIRED' if task['expired'] else until}"
               + (f"; who may answer: {task['role']}" if task["role"] else ""))
    for line in str(task["instruction"]).splitlines():
        click.echo(f"    {safe(line)}")


def _by_site(depth: dict[str, int | None]) -> str:
    if not depth:
        return "–"
    return " · ".join(f"{site} {'unknown' if n is None else n}" for site, n in depth.items())


def _ages(ages: dict[str, float | None]) -> str:
    known = [age for age in ages.values() if age is not None]
    if not ages:
        return "–"
    return span(max(known)) if known else "not told"
