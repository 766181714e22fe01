"""`ccfailover demo`"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import click

from ccfailover.commands.common import console, finish, json_option, print_json
from ccfailover.errors import Exit, StateUnknown, UsageError


@click.command(epilog="""\b
Examples:
  ccfailover demo                         a site dies, its work goes on, and comes back
  ccfailover demo --source-dies           the server of its queue dies too
  ccfailover demo --applications F.csv    your own, in the form of the HMDA register""")
@click.option("--applications", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.csv",
              help="Use these applications instead of generated ones.")
@click.option("--count", type=click.IntRange(20, 20_000), default=1_000, show_default=True,
              help="How many applications to generate.")
@click.option("--source-dies", is_flag=True,
              help="Kill the server of the home's queue too, in the middle of the transfer.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Keep policy, journal, logs and servers' files here (a new directory).")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where the HTML report goes; else a new temporary file.")
@json_option
def command(applications: Path | None, count: int, source_dies: bool, keep: Path | None,
            report: Path | None, as_json: bool) -> None:
    """The whole job on local processes: a site dies, its work goes on.

    Starts a switch, two sites, a callback list and a queue server on free ports of this machine,
    kills the head office, and uses ccfailover as you would. Takes under a minute, needs no
    network and leaves no process behind. Exit code 10 when anything that it promises did not hold.
    """
    from ccfailover.commands.demo_show import Show, summary
    from ccfailover.operations.demo import Options, play
    from ccfailover.operations.demo_events import Finished
    from ccfailover.runtime import SystemRuntime

    # Ended by a service manager or a closed terminal, it clears up as it does on Ctrl-C.
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    with ExitStack() as stack:
        directory = _directory(keep, stack)
        options = Options(directory, _report(report, keep), applications, count, source_dies)
        show = stack.enter_context(Show(console(err=True)))
        story = stack.enter_context(closing(play(options, SystemRuntime())))  # type: ignore[type-var]
        finished = None
        for event in story:
            show.tell(event)
            if isinstance(event, Finished):
                finished = event
    if finished is None:
        raise StateUnknown("the demo's story broke off before its end")
    if as_json:
        print_json({**finished.proof.to_json(), "seconds": round(finished.seconds, 1),
                    "directory": str(keep) if keep else None})
    else:
        summary(console(), finished, kept=keep is not None)
    finish(int(Exit.DONE if finished.proof.ok else Exit.DRILL_MISSED))


def _directory(keep: Path | None, stack: ExitStack) -> Path:
    if keep is None:
        made = Path(tempfile.mkdtemp(prefix="ccfailover-demo-"))
        stack.callback(shutil.rmtree, made, ignore_errors=True)
        return made
    try:
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        used = any(keep.iterdir())
    except OSError as error:
        raise UsageError(f"cannot be used: {error.strerror}", where=str(keep),
                         not_done="nothing was started") from None
    if used:
        raise UsageError("is not empty", where=str(keep), not_done="nothing was started",
                         hint="give it a new directory")
    return keep.resolve()


def _report(report: Path | None, keep: Path | None) -> Path:
    if report is not None:
        return report.resolve()
    if keep is not None:
        return keep.resolve() / "report.html"
    handle, name = tempfile.mkstemp(prefix="ccfailover-demo-", suffix=".html")
    os.close(handle)
    return Path(name)
