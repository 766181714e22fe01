"""The command line: parse → call an operation → print → exit code. One file a verb.

`--help` lists every verb without importing one; a verb's module is imported when it is used.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import TextIO

import click

from ccfailover.errors import CcfError, Exit, UsageError

# verb → (module, summary). A test holds the summaries equal to the verbs' own docstrings.
VERBS: dict[str, tuple[str, str]] = {
    "status": ("status", "What is where, who moved it, and what to do now."),
    "check": ("check", "Observe once and decide; for cron, in the Nagios convention."),
    "execute-due": ("execute_due", "Run what the policy lets run by itself; for cron."),
    "failover": ("failover", "The site is dead: move all its work to where it can be served."),
    "overflow": ("overflow", "Move a healthy but overloaded queue's surplus to its backups."),
    "switchover": ("switchover", "Empty a healthy site, planned and in good order."),
    "failback": ("failback", "Return a site's work to its normal shares."),
    "plan": ("plan", "Show what a failover would do, and keep the plan under its hash."),
    "resume": ("resume", "Carry an interrupted or paused run on."),
    "rollback": ("rollback", "Undo what a run did, from its first snapshots."),
    "abort": ("abort", "End a run where it stands; what is in effect stays."),
    "skip": ("skip", "Pass over the step that stopped a branch, with a reason."),
    "approve": ("approve", "Approve, or decline, a run that waits for somebody else."),
    "done": ("done", "Say that what you were asked to do by hand is done."),
    "stop": ("stop", "Ask runs to stop at their next safe point."),
    "runs": ("runs", "List, show and watch runs."),
    "incident": ("incident", "What people declared: commander, times, hand-overs, and its runs."),
    "note": ("note", "Write a remark into the journal, for a run or an incident."),
    "ack": ("ack", "Acknowledge a failover, which lifts the anti-flap block."),
    "adopt": ("adopt", "Take shares that somebody set by hand for the expected ones."),
    "reassert": ("reassert", "Set levers again to what the journal says."),
    "automation": ("automation", "Switch automatic runs off for a while, or on."),
    "drill": ("drill", "Rehearse a runbook without writing anything outside."),
    "transfer": ("transfer", "Where each application is, and proof that none is lost."),
    "report": ("report", "Evidence of a run: text, JSON or one HTML file."),
    "journal": ("journal", "Export the journal, and verify it, offline if need be."),
    "validate": ("validate", "Find everything that is wrong with a policy."),
    "init": ("init", "Write a commented starter policy."),
    "policy": ("policy", "The policy's schema, and where the policy is found."),
    "providers": ("providers", "Provider kinds, and a read-only test of the policy's own."),
    "doctor": ("doctor", "Check what this machine needs to act in a disaster."),
    "worker": ("worker", "Help runs on other machines to move applications."),
    "db": ("db", "Bring the store's tables up to this version."),
    "outbox": ("outbox", "Deliver the messages that wait to be sent."),
    "demo": ("demo", "The whole job on local processes: a site dies, its work goes on."),
}


class Verbs(click.Group):
    """Imports a verb when it is used, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"ccfailover.commands.{VERBS[cmd_name][0]}")
        found: click.Command = module.command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            raise click.UsageError(f"there is no verb {args[0]!r}"
                                   + (f"; did you mean {near[0]!r}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])


EPILOG = """\b
At 3 a.m.:
  ccfailover status                              what is where, and what now
  ccfailover failover hq --reason "INC-42 power" the site is dead
  ccfailover resume | rollback                   if something broke on the way
  ccfailover failback hq --reason INC-42         return to normal
\b
Exit codes: 0 done · 2 usage · 3 policy · 4 refused · 5 lease held · 6 paused ·
7 rolled back · 8 stuck or unknown · 9 provider · 10 drill missed · 11 with exceptions.
`check` speaks Nagios: 0 OK · 1 WARNING · 2 CRITICAL · 3 UNKNOWN.
"""


@click.group(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ccfailover")
@click.option("--policy", metavar="FILE", help="The policy; also accepted after the verb.")
def cli(policy: str | None) -> None:
    """The failover button for lenders' contact centres.

    One policy says which sites answer the calls and process the loan applications, and who may
    take over; one command moves the work, proves where every application went, and leaves the
    evidence.
    """


def main(args: list[str] | None = None) -> None:
    """Run and exit. Every error is told in its own lines, or as JSON; none as a traceback."""
    # A start allocates much and frees little: collecting as often as Python does by itself, and
    # once more at the end, costs a run a tenth of its time.
    gc.set_threshold(50_000, 20, 20)
    words = sys.argv[1:] if args is None else args
    sys.stdout = Steady(sys.stdout)
    sys.stderr = Steady(sys.stderr)
    code = run(words)
    gc.freeze()
    sys.exit(code)


class Steady:
    """A stream that outlives its reader: what `| head` or a lost terminal no longer takes is
    thrown away, so that a run is never cut short, nor its exit code lost, by its own talk.

    `gone` tells a verb that would print for ever that nobody listens.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else open(os.devnull, "w")  # noqa: SIM115
        self.gone = stream is None

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        self.gone = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def run(words: list[str]) -> int:
    nagios = next((word for word in words if word in VERBS), None) == "check"
    try:
        answer = cli.main(args=words, prog_name="ccfailover", standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _misused(error, as_json="--json" in words, nagios=nagios)
    except (click.Abort, KeyboardInterrupt):
        click.echo("UNKNOWN: stopped by the keyboard" if nagios else
                   "Stopped by the keyboard. See where it stands: ccfailover status",
                   err=not nagios)
        return 3 if nagios else int(Exit.UNKNOWN)
    except CcfError as error:
        _tell(error, as_json="--json" in words, nagios=nagios)
        return 3 if nagios else int(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort: told as a bug, kept for us
        return _bug(error, nagios=nagios)


def _misused(error: click.ClickException, *, as_json: bool, nagios: bool) -> int:
    """Words that cannot be understood: nothing was begun."""
    said = error.format_message().rstrip(".")
    if as_json:
        _tell(UsageError(said, not_done="nothing was begun", hint="ccfailover --help"),
              as_json=True, nagios=nagios)
    else:
        if nagios:
            click.echo(f"UNKNOWN: {said}")
        error.show()
    return 3 if nagios else int(Exit.USAGE)


def _tell(error: CcfError, *, as_json: bool, nagios: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(error.to_json(), ensure_ascii=False))
    elif nagios:
        click.echo(f"UNKNOWN: {error}")
    for line in error.lines():
        click.echo(line, err=True)


def _bug(error: Exception, *, nagios: bool) -> int:
    """A bug of ours: one line for the person, the traceback in a private file."""
    import tempfile
    import traceback

    if os.environ.get("CCFAILOVER_DEBUG"):
        traceback.print_exc()
    with tempfile.NamedTemporaryFile("w", prefix="ccfailover-bug-", suffix=".txt",
                                     delete=False) as file:
        traceback.print_exc(file=file)
    text = f"{type(error).__name__} (a bug in ccfailover; details in {file.name})"
    click.echo(f"UNKNOWN: {text}" if nagios else f"Error: {text}", err=not nagios)
    click.echo("Try: ccfailover status, to see where things stand", err=True)
    return 3 if nagios else int(Exit.BUG)
