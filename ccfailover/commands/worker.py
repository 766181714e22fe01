"""`ccfailover worker`"""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from ccfailover.commands.common import desk_for, finish, json_option, policy_option


@click.command(epilog="""\b
Examples:
  ccfailover worker                    until SIGTERM; see docs/operations.md for systemd
  ccfailover worker --until-idle 600   for one disaster: goes ten minutes after the last work
  ccfailover worker --slots 4          where the target, and not this machine, is slow
\b
Exit codes: 0 asked to stop, idle, or the policy file is another one now (start it anew) ·
2 the store is a file, or the extra `scale` is not installed · 3 policy · 8 the store cannot be
reached, or lacks the tables for workers, which `db upgrade` makes.""")
@click.option("--slots", type=click.IntRange(1, 32), default=1, show_default=True,
              help="Parts at work at one time in this process.")
@click.option("--until-idle", type=click.FloatRange(min=1), metavar="SECONDS",
              help="Go when there was nothing to do for so long.")
@click.option("--once", is_flag=True, help="Go after one part.")
@policy_option
@json_option
def command(slots: int, until_idle: float | None, once: bool, policy: str | None,
            as_json: bool) -> None:
    """Help runs on other machines to move applications.

    A run that has a thousand or more to move offers parts of the work over the store in
    PostgreSQL; workers with the very same policy take them. A worker decides nothing: it carries
    what the policy lets go, under the run's lease, and the run itself makes sure that all has
    arrived. It may be killed at any time; on SIGTERM it finishes the batch at hand. A log line
    on stderr tells of each part.
    """
    from ccfailover.commands.logs import teller
    from ccfailover.operations.worker import Worker
    from ccfailover.wiring.workers import bench

    tell = teller(as_json=as_json, colours=sys.stderr.isatty())
    desk = desk_for(policy)
    worker = Worker(desk, bench(desk), slots=slots, until_idle=until_idle, once=once,
                    told=lambda kind, data: click.echo(tell(desk.runtime.now(), kind, data),
                                                       err=True))

    def asked(number: int, frame: FrameType | None) -> None:
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    finish(int(worker.run()))
