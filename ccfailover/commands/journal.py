"""`ccfailover journal export|log|verify`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ccfailover.commands.acting import finish
from ccfailover.commands.common import (
    desk_for,
    json_option,
    local_look_option,
    policy_option,
    print_json,
)
from ccfailover.errors import Exit, UsageError


@click.group(epilog="Example: ccfailover journal export > journal.jsonl")
def command() -> None:
    """Export the journal, and verify it, offline if need be."""


@command.command(epilog="Example: ccfailover journal export r17 > r17.jsonl")
@click.argument("run", required=False)
@local_look_option
@policy_option
def export(run: str | None, policy: str | None) -> None:
    """Write the journal as JSON lines to stdout: all of it, or one run's."""
    desk = desk_for(policy, validate=False, verified=False)
    streams = ["runs", f"run:{desk.store.find_run(run)}"] if run else None
    for line in desk.store.export(streams):
        sys.stdout.write(line.rstrip("\n") + "\n")


@command.command(epilog="Example: ccfailover journal log r17")
@click.argument("run", required=False)
@local_look_option
@policy_option
@json_option
def log(run: str | None, policy: str | None, as_json: bool) -> None:
    """Show journal events as log lines: a run's, or what automation did."""
    from ccfailover.commands.logs import lines

    desk = desk_for(policy, validate=False, verified=False)
    stream = f"run:{desk.store.find_run(run)}" if run else "automation"
    for line in lines(desk.store.read(stream), as_json=as_json, colours=sys.stdout.isatty()):
        click.echo(line)


@command.command(epilog="""\b
Examples:
  ccfailover journal verify                          the store in use
  ccfailover journal verify journal.jsonl --head H   an exported file, without a policy

What is intact by itself may still be cut short, or be written anew by somebody who knows how:
only the heads that a report or a message told, each given with --head, show that it is not.""")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option("--head", "heads", metavar="[NUMBER:]HASH", multiple=True,
              help="A head that a report or message told; may be repeated.")
@local_look_option
@policy_option
@json_option
def verify(file: str | None, heads: tuple[str, ...], policy: str | None, as_json: bool) -> None:
    """Check every hash, chain and number; exit 8 when anything was changed."""
    if file is not None:
        from ccfailover.store.verify import verify_export

        try:
            with Path(file).open("rb") as lines:
                problems = verify_export(lines, heads=heads)
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}",
                             not_done="nothing was verified",
                             hint="ccfailover journal export > FILE") from None
        subject = file
    else:
        from ccfailover.operations.local import lost

        desk = desk_for(policy, validate=False, verified=False)
        problems, subject = [*desk.store.verify(heads), *lost(desk)], desk.store.path
    if as_json:
        print_json({"subject": subject, "intact": not problems, "problems": problems,
                    "heads": list(heads)})
    else:
        from ccfailover.reports.words import count

        for problem in problems:
            click.echo(problem)
        known = f", with {count(len(heads), 'head')} known from elsewhere" if heads else ""
        click.echo(f"{subject}: " + ("CHANGED, or damaged" if problems else f"intact{known}"))
    finish(int(Exit.UNKNOWN if problems else Exit.DONE))
