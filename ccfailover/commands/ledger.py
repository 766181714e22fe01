"""`ccfailover transfer export|prune|invoice`: the ledger as evidence, and beside a bill."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ccfailover.commands.common import (
    at_terminal,
    desk_for,
    finish,
    head,
    json_option,
    policy_option,
    print_json,
    table,
)
from ccfailover.errors import Exit, UsageError

if TYPE_CHECKING:
    from ccfailover.operations.invoicing import Invoice


@click.command(epilog="""\b
Examples:
  ccfailover transfer export --out ledger.jsonl
  ccfailover transfer export --run r17 --format csv --out r17.csv
\b
The first line names policy, store and the journal's heads; the last one has the digest (SHA-256) of
all lines before it, and so has the journal's event ledger.exported.""")
@click.option("--run", metavar="RUN", help="Only what this run did.")
@click.option("--queue", metavar="QUEUE", help="Only this queue.")
@click.option("--since", metavar="TIME", help="Only what was written then or later.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path),
              help="Where to; else stdout. A file that is there is kept.")
@click.option("--format", "shape", type=click.Choice(["jsonl", "csv"]), default="jsonl",
              show_default=True)
@policy_option
def export(run: str | None, queue: str | None, since: str | None, out: Path | None, shape: str,
           policy: str | None) -> None:
    """Every state of every item, and by whose decision: for examiners.

    Ids, states, times, reasons and decisions; never what an application says.
    """
    from ccfailover.operations import ledger_export

    desk = desk_for(policy, validate=False)
    what = ledger_export.wanted(desk, run=run, queue=queue, since=since)
    lines = ledger_export.lines(desk, what, ledger_export.SHAPES[shape]())
    if out is None:
        for line in lines:
            click.echo(line)
        return
    count = _write(out, lines)
    click.echo(f"{count} lines in {out}", err=True)


def _write(path: Path, lines: Iterable[str]) -> int:
    """Whole or not at all, and never over another file."""
    part = path.with_name(f"{path.name}.part")
    if path.exists():
        raise UsageError(f"{path} is there already", not_done="nothing was exported",
                         hint="name another file")
    count, made = 0, False
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        made = True
        with open(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}",
                         not_done="nothing was exported",
                         hint=f"remove {part} if no export is being made") from error
    finally:
        if made:
            part.unlink(missing_ok=True)
    return count


@click.command(epilog="""\b
Examples:
  ccfailover transfer prune --before 2019-01-31              what would go, and what would stay
  ccfailover transfer prune --before 2019-01-31 --delete     asks, then deletes""")
@click.option("--before", metavar="DATE", required=True,
              help="What was last touched before this day.")
@click.option("--delete", is_flag=True, help="Do it; without this it is only shown.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-export", default="", metavar="REASON",
              help="Delete what is in no complete export; why goes into the journal.")
@policy_option
@json_option
def prune(before: str, delete: bool, yes: bool, no_export: str, policy: str | None,
          as_json: bool) -> None:
    """Delete finished applications from the ledger that need not be kept any longer.

    Shows what would go, unless --delete. What is still open, of a run that has not ended, in work
    at a provider, or younger than the policy's retention stays. Journaled.
    """
    from ccfailover.operations.prune import Pruner

    desk = desk_for(policy)
    pruner = Pruner(desk, before, no_export=no_export)
    found = pruner.look()
    told: dict[str, Any] = {"policy": desk.policy.heading, "deleted": False, **found.to_json()}
    if delete and found.applications:
        if not as_json:
            _show_pruning(desk.policy.heading, told)
        pruner.may_go()
        _agreed(found.applications, before, yes=yes)
        told |= {"deleted": True, **pruner.delete().to_json()}
    if as_json:
        print_json(told)
    elif told["deleted"]:
        click.echo(f"deleted: {told['applications']} applications, {told['rows']} rows")
    else:
        _show_pruning(desk.policy.heading, told)
        click.echo("nothing was deleted" + (": --delete does it" if found.applications else ""))


def _agreed(count: int, before: str, *, yes: bool) -> None:
    from ccfailover.commands.acting import asked

    if yes:
        return
    if not at_terminal():
        raise UsageError("nobody can be asked", not_done="nothing was deleted", hint="--yes")
    asked(f"Delete {count} applications last touched before {before} from the ledger, for ever?",
          not_done="nothing was deleted")


def _show_pruning(heading: str, told: dict[str, Any]) -> None:
    click.echo(heading)
    click.echo(f"last touched before {told['before']}, finished, and to go: "
               f"{told['applications']} applications, {told['rows']} rows")
    for why, count in told["kept"].items():
        click.echo(f"  stays: {count}: {why}")
    made = told["exported"]
    click.echo(f"  last complete export: sha256 {made['sha256']}" if made else
               "  there is no complete export yet")


@click.command(epilog="""\b
Examples:
  ccfailover transfer invoice --provider acme --from 2026-10-01 --to 2026-10-31
  ccfailover transfer invoice --from 2026-10-01 --to 2026-10-31 --invoice acme-0117.csv
\b
The provider's invoice is CSV with the column id and, where it has them, amount and reference; or
one JSON object of these a line.
Exit codes: 0 nothing to object to · 11 differences.""")
@click.option("--provider", metavar="SITE", help="Whose; else the only provider's.")
@click.option("--from", "first", metavar="DATE", required=True, help="The first day.")
@click.option("--to", "last", metavar="DATE", required=True, help="The last day.")
@click.option("--invoice", "theirs", metavar="FILE", type=click.Path(path_type=Path),
              help="The provider's own invoice, to be compared item by item.")
@click.option("--csv", "out", metavar="FILE", type=click.Path(path_type=Path),
              help="Write the differences (or, without --invoice, the days) as CSV.")
@policy_option
@json_option
def invoice(provider: str | None, first: str, last: str, theirs: Path | None, out: Path | None,
            policy: str | None, as_json: bool) -> None:
    """What a provider may bill, by the ledger and the policy's price; and what it did bill.

    Counts what was sent, completed and returned by queue and day. Changes nothing; a comparison
    with an invoice goes into the journal.
    """
    from ccfailover.operations.invoicing import make

    desk = desk_for(policy, validate=False)
    made = make(desk, site=provider, first=first, last=last, theirs=theirs)
    if out is not None:
        _write(out, _as_csv(made))
    if as_json:
        print_json({"policy": desk.policy.heading, **made.to_json()})
    else:
        head(desk)
        _show_invoice(made)
    compared = made.compared
    finish(int(Exit.EXCEPTIONS if compared and (compared.findings or compared.problems)
               else Exit.DONE))


def _show_invoice(made: Invoice) -> None:
    from ccfailover.commands.transfer import bounded
    from ccfailover.reports.words import safe

    days = sorted(made.figures.days.items())
    table(f"{made.site}, {made.first} to {made.last}",
          ("queue", "day", "sent", "completed", "returned", "possible duplicates"),
          [(queue, str(day), *map(str, counts.__dict__.values())) for (queue, day), counts in days])
    bill = made.bill
    what = "completed" if made.figures.tells else "sent and not returned"
    click.echo(f"  {bill.applications} {what} × {bill.price.per_application} + "
               f"{bill.activations} activations × {bill.price.per_activation} = "
               f"{bill.total} {made.currency}")
    if not made.figures.tells:
        click.echo(f"  ? {made.site} has never said what it completed: "
                   "transfer reconcile --completions FILE")
    for said in bill.not_priced:
        click.echo(f"  ? not priced: {said}")
    if made.compared is None:
        return
    compared = made.compared
    click.echo(f"  invoice: {compared.lines} lines, {compared.billed} {made.currency}; credit to "
               f"claim {compared.credit} {made.currency}")
    bounded([f"{safe(each.item_id)}: {each.what}: {safe(each.detail)}"
             + (f" (line {each.line})" if each.line else "")
             + (f"; credit {each.credit}" if each.credit else "") for each in compared.findings])
    bounded([f"line {each.line}: {each.why}" for each in compared.problems])


def _as_csv(made: Invoice) -> Iterable[str]:
    from ccfailover.operations.ledger_export import csv_line

    if made.compared is None:
        yield "queue,day,sent,completed,returned,possible_duplicates"
        for (queue, day), counts in sorted(made.figures.days.items()):
            yield csv_line((queue, day.isoformat(), *counts.__dict__.values()))
        return
    yield "what,item,line,credit,detail"
    for each in made.compared.findings:
        yield csv_line((each.what, each.item_id, each.line, each.credit, each.detail))
    for bad in made.compared.problems:
        yield csv_line(("line makes no sense", None, bad.line, None, bad.why))
