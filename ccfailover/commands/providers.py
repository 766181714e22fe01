"""`ccfailover providers list|test`"""

from __future__ import annotations

import click

from ccfailover.commands.acting import finish
from ccfailover.commands.common import desk_for, head, json_option, policy_option, print_json, table
from ccfailover.errors import Exit


@click.group(epilog="Example: ccfailover providers test")
def command() -> None:
    """Provider kinds, and a read-only test of the policy's own."""


@command.command("list", epilog="Example: ccfailover providers list")
@json_option
def list_(as_json: bool) -> None:
    """The kinds this installation has."""
    from ccfailover.wiring.kinds import Schemas, provider_class

    rows = [(kind, provider_class(kind).summary) for kind in Schemas().provider_kinds()]
    if as_json:
        print_json([{"kind": kind, "summary": summary} for kind, summary in rows])
    else:
        table("", ("kind", "what it drives"), rows)


@command.command(epilog="Example: ccfailover providers test")
@policy_option
@json_option
def test(policy: str | None, as_json: bool) -> None:
    """Read every lever, gate and backlog of the policy; write nothing."""
    from ccfailover.operations.providers_test import test_levers

    desk = desk_for(policy)
    rows = test_levers(desk)
    if as_json:
        print_json(rows)
    else:
        head(desk)
        table("", ("lever", "role", "", "reads"), [
            (row["lever"], row["role"], "✓" if row["ok"] else "✗ FAILED", row["detail"])
            for row in rows])
    finish(int(Exit.DONE if all(row["ok"] for row in rows) else Exit.PROVIDER))
