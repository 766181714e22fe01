"""`ccfailover resume [RUN]`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import (
    asked,
    conclude,
    finish,
    override_options,
    overrides,
    stoppable,
    ticking,
)
from ccfailover.commands.common import at_terminal, desk_for, json_option, policy_option
from ccfailover.errors import UsageError


@click.command(epilog="Example: ccfailover resume r17")
@click.argument("run", required=False)
@override_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@policy_option
@json_option
def command(run: str | None, override: tuple[str, ...], override_reason: str, yes: bool,
            policy: str | None, as_json: bool) -> None:
    """Carry an interrupted or paused run on.

    The step that was in doubt is looked at before it is done again. A soft guard that stopped the
    run may be overridden. RUN defaults to the only open run.
    """
    from ccfailover.operations import runs

    beaten = overrides(override, override_reason)
    desk = desk_for(policy)
    found = runs.load(desk, run)
    how = ask(f"{desk.policy.heading}: resume {found.id} ({found.plan.runbook} "
              f"{found.plan.subject})?", yes=yes)
    with ticking(as_json) as watcher, stoppable() as on_driver:
        outcome = runs.resume(desk, found.id, confirmed=how, overrides=beaten,
                              watcher=watcher, on_driver=on_driver)
    finish(conclude(desk, outcome, as_json=as_json))


def ask(question: str, *, yes: bool) -> str:
    """How the person confirmed. Raises UsageError without a terminal and without --yes."""
    if yes:
        return "--yes"
    if not at_terminal():
        raise UsageError("there is no terminal to ask at", not_done="nothing was done",
                         hint="--yes, if you mean it")
    return asked(question, not_done="nothing was done")
