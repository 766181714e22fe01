"""`ccfailover resume [RUN]`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import asked, baton, carry, finish, override_options, overrides
from ccfailover.commands.common import (
    at_terminal,
    desk_for,
    json_option,
    local_option,
    policy_option,
    reason_option,
    steal_option,
)
from ccfailover.errors import UsageError


@click.command(epilog="Example: ccfailover resume r17")
@click.argument("run", required=False)
@reason_option
@steal_option
@override_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@local_option
@policy_option
@json_option
def command(run: str | None, reason: str, steal: bool, override: tuple[str, ...],
            override_reason: str, yes: bool, policy: str | None, as_json: bool) -> None:
    """Carry an interrupted or paused run on.

    The step that was in doubt is looked at before it is done again. A soft guard that stopped the
    run may be overridden. RUN defaults to the only open run. --steal needs a --reason: it takes
    the run from a process whose lease is still in force, and waits until nothing of that process
    can be under way any more.
    """
    from ccfailover.operations import runs

    beaten = overrides(override, override_reason)
    desk = desk_for(policy)
    stealing = why_steal(steal, reason)
    found = runs.load(desk, run)
    how = ask(f"{desk.policy.heading}: resume {found.id} ({found.plan.runbook} "
              f"{found.plan.subject})?", yes=yes)
    baton(desk, yes=yes, as_json=as_json)
    finish(carry(desk, lambda watcher, on_driver: runs.resume(
        desk, found.id, confirmed=how, reason=reason, steal=stealing, overrides=beaten,
        watcher=watcher, on_driver=on_driver), as_json=as_json))


def why_steal(steal: bool, reason: str) -> str:
    """The reason for a theft, "" for none. Raises UsageError for a theft without one."""
    if steal and not reason.strip():
        raise UsageError("a steal needs a reason", not_done="nothing was taken over",
                         hint='--steal --reason "its machine hangs"')
    return reason if steal else ""


def ask(question: str, *, yes: bool) -> str:
    """How the person confirmed. Raises UsageError without a terminal and without --yes."""
    if yes:
        return "--yes"
    if not at_terminal():
        raise UsageError("there is no terminal to ask at", not_done="nothing was done",
                         hint="--yes, if you mean it")
    return asked(question, not_done="nothing was done")
