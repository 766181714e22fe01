"""`ccfailover transfer status|find|reconcile`; the rest of the group is in `ledger`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ccfailover.commands.common import (
    clock,
    desk_for,
    finish,
    json_option,
    policy_option,
    print_json,
    span,
    table,
)
from ccfailover.errors import Exit

LISTED = 50
"""So many of one kind are printed; `--json` has them all."""


@click.group(epilog="Example: ccfailover transfer find 5493001KJTIIGC8Y1R1200000000000042")
def command() -> None:
    """Where each application is, and proof that none is lost."""


@command.command(epilog="Example: ccfailover transfer status")
@policy_option
@json_option
def status(policy: str | None, as_json: bool) -> None:
    """What waits at each site now, and where the ledger last saw the rest.

    A site that does not answer is shown as such, never as 0.
    """
    from ccfailover.operations.transfers import status as look

    desk = desk_for(policy, validate=False)
    rows = look(desk)
    if as_json:
        print_json({"policy": desk.policy.heading, "queues": rows})
        return
    click.echo(desk.policy.heading)
    if not rows:
        click.echo("no queue of the policy has a backlog")
    for row in rows:
        table(row["queue"], ("site", "waiting", "hidden", "oldest", "last seen by the ledger"),
              [_site(site, row) for site in row["sites"]])
        click.echo("  " + " · ".join(
            f"{name.replace('_', ' ')} {row[name]}" for name in
            ("known", "in_doubt", "not_deleted", "stranded", "quarantined",
             "possible_duplicates")))
        for site in row["sites"]:
            if site["error"]:
                click.echo(f"  ✗ {site['site']} does not answer: {site['error']}")
        for each in row["providers"]:
            click.echo(f"  {'!' if each['late'] else '·'} {each['says']}"
                       + _queued(each["waiting"], each["in_work"]))


def _queued(waiting: int | None, in_work: int) -> str:
    """How much of what is still there has not been begun, as far as its queue tells."""
    if waiting is None or not in_work:
        return ""
    begun = max(0, in_work - waiting)
    return f"; its queue counts {waiting}, so that {begun} at least are begun or done"


def _site(site: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    if site["error"]:
        depth = ("unknown", "unknown", "unknown")
    else:
        oldest = "not told" if site["oldest_s"] is None else span(site["oldest_s"])
        depth = (str(site["waiting"]), str(site["hidden"]), oldest)
    return (site["site"], *depth, str(row["last_seen_at"].get(site["site"], 0)))


@command.command(epilog="Example: ccfailover transfer find 5493001KJTIIGC8Y1R1200000000000042")
@click.argument("item", metavar="ID")
@policy_option
@json_option
def find(item: str, policy: str | None, as_json: bool) -> None:
    """Where is this application, since when, by whose decision; every hop it took.

    ID is the lender's own. Exit 8 when the ledger never saw it.
    """
    from ccfailover.operations.find_item import find as look
    from ccfailover.reports.words import safe

    desk = desk_for(policy, validate=False)
    found = look(desk, item)
    if as_json:
        print_json(found)
        return
    click.echo(f"{safe(item)} ({found['queue'] or 'no queue'}): {safe(found['says'])}")
    if found["run"]:
        approved = ", ".join(found["approved_by"])
        click.echo(f"  since {clock(found['since'])}, by run {found['run']} ({found['runbook']}), "
                   f"decided by {safe(found['decided_by'] or 'unknown')}: {safe(found['reason'])}")
        for name, said in (("approved by", approved), ("incident", found["incident"]),
                           ("by itself, as the policy lets it", found["automatic"]),
                           ("overridden", ", ".join(found["overrides"])),
                           ("proved by journal head", found["head"])):
            if said:
                click.echo(f"  {name}" + ("" if said is True else f" {safe(said)}"))
    if found["submitted"]:
        click.echo(f"  submitted {safe(found['submitted'])}, hop {found['hops']}")
    if found["possible_duplicate"]:
        click.echo("  ! a possible duplicate: it may have been delivered more than once")
    if found["copies"]:
        click.echo(f"  ! {found['copies']} further copies of it were met in the queue")
    table("", ("when", "from → to", "state", "run", "what happened"), [
        (clock(hop["at"]), f"{hop['from']} → {hop['to']}",
         hop["state"] + (" (copy)" if hop["copy"] else ""), hop["run"] or "–", safe(hop["says"]))
        for hop in found["history"]])


@command.command(epilog="""\b
Examples:
  ccfailover transfer reconcile                      each queue's newest move
  ccfailover transfer reconcile r17 --queue applications --json
  ccfailover transfer reconcile --completions acme-october.csv --site acme
\b
COMPLETIONS are CSV with the columns id, outcome (completed, declined, withdrawn, returned), time
(ISO 8601) and, if there is one, reference; or one JSON object of these a line. They are kept, so
that find, status and invoice know of them; the same line again is nothing new.
\b
Exit codes: 0 balanced · 11 balanced, with exceptions listed (possible duplicates, quarantined,
stranded, in doubt) · 8 it cannot be told (a site does not answer, nobody counted) ·
6 does NOT balance: a person must look.""")
@click.argument("run", required=False)
@click.option("--run", "run_option", metavar="RUN", help="The same as RUN.")
@click.option("--queue", metavar="QUEUE", help="Only this queue.")
@click.option("--completions", metavar="FILE", type=click.Path(path_type=Path),
              help="First keep what a site says became of its work.")
@click.option("--site", metavar="SITE", help="Whose completions; else the only provider's.")
@policy_option
@json_option
def reconcile(run: str | None, run_option: str | None, queue: str | None,
              completions: Path | None, site: str | None, policy: str | None,
              as_json: bool) -> None:
    """Prove where every application of a move went, from the ledger and the platforms' counts.

    Asks source and target for their counts and changes nothing there. What it finds goes into
    the journal, so that the run's report shows it. What was not measured is said to be unknown,
    and never taken for 0.
    """
    from ccfailover.operations.transfers import exit_of, prove

    desk = desk_for(policy, validate=False)
    recorded = None
    if completions is not None:
        from ccfailover.operations.books import record

        recorded = record(desk, completions, site=site)
        if not as_json:
            _show_recorded(recorded.to_json())
    proofs = prove(desk, queue=queue, run=run or run_option)
    if as_json:
        told: list[Any] = [proof.to_json() for proof in proofs]
        print_json(told if recorded is None else {"completions": recorded.to_json(),
                                                  "proofs": told})
    else:
        click.echo(desk.policy.heading)
        for proof in proofs:
            _show(proof.to_json())
    code = exit_of(proofs)
    if code is Exit.DONE and recorded is not None and recorded.problems:
        code = Exit.EXCEPTIONS
    finish(int(code))


def _show_recorded(told: dict[str, Any]) -> None:
    from ccfailover.reports.words import safe

    click.echo(f"{told['site']}: {told['lines']} lines in {safe(told['path'])}: {told['new']} new, "
               f"{told['known']} known, {len(told['problems'])} that make no sense")
    bounded([f"line {each['line']}: {safe(each['why'])}" for each in told["problems"]])


def _show(told: dict[str, Any]) -> None:
    from ccfailover.reports.words import safe

    click.echo(f"\n{told['queue']}: {told['source']} → {told['target']}, "
               f"run {', '.join(told['runs'])}: {told['verdict']}")
    click.echo(f"  {told['equation']}")
    click.echo(f"  {safe(told['detail'])}")
    table("", ("number", "", "from", "note"), [
        (term["name"].replace("_", " "), "unknown" if term["value"] is None else
         str(term["value"]), term["origin"], term["note"])
        for term in told["terms"] if term["value"] != 0 or term["note"]])
    for reason, number in told["left_by_reason"].items():
        click.echo(f"  left at {told['source']}: {number}: {safe(reason)}")
    for check in told["checks"]:
        mark = {True: "✓", False: "✗", None: "?"}[check["holds"]]
        click.echo(f"  {mark} {safe(check['sentence'])}")
    for said in told["assumptions"]:
        if said not in {check["sentence"] for check in told["checks"]}:
            click.echo(f"  ? taken for granted: {safe(said)}")
    bounded([f"{safe(name)}: possible duplicate at {told['target']}; have it close all but one"
             for name in told["possible_duplicates"]])
    if again := told["sent_again"]:
        click.echo(f"  ✓ {len(again)} sent again, since nobody knew how the first time ended; "
                   f"{told['target']} takes a key once (--json names them): "
                   f"{', '.join(safe(name) for name in again[:3])}"
                   f"{' …' if len(again) > 3 else ''}")
    bounded([_difference(each) for each in told["differences"]])
    for of in told["accounts"]:
        click.echo(f"  {of['site']}, over all runs: sent {of['sent']} = completed "
                   f"{of['completed']} + brought back {of['brought_back']} + returned by its word "
                   f"{of['returned']} + still there {of['in_work']}")
        if not of["tells"]:
            click.echo(f"  ? {of['site']} has never said what became of its work: --completions")
        bounded([_difference(each) for each in of["differences"]])


def _difference(each: dict[str, Any]) -> str:
    from ccfailover.reports.words import safe

    return (f"{safe(each['item_id'] or '(count only)')}: {safe(each['what'])}; "
            f"{safe(each['action'])}")


def bounded(lines: list[str]) -> None:
    """As many as a person reads; how many more there are is never left out."""
    for line in lines[:LISTED]:
        click.echo(f"  ! {line}")
    if len(lines) > LISTED:
        click.echo(f"  ! … and {len(lines) - LISTED} more: --json has them all")


def _others() -> None:
    from ccfailover.commands import ledger

    for other in (ledger.export, ledger.prune, ledger.invoice):
        command.add_command(other)


_others()
