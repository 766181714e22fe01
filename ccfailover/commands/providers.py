"""`ccfailover providers list|test`"""

from __future__ import annotations

from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from ccfailover.commands.acting import finish
from ccfailover.commands.common import desk_for, head, json_option, policy_option, print_json, table
from ccfailover.errors import Exit

if TYPE_CHECKING:
    from ccfailover.wiring.kind_facts import Key, KindFacts


@click.group(epilog="Example: ccfailover providers test")
def command() -> None:
    """Provider kinds, and a read-only test of the policy's own."""


@command.command("list", epilog="Example: ccfailover providers list sqs")
@click.argument("kind", required=False)
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """The kinds this installation has: what each can do, what it needs, the rights it asks for.

    With KIND all of it: its keys, an example, the least rights, and its traps.
    """
    from ccfailover.wiring.kind_facts import facts
    from ccfailover.wiring.kinds import Schemas

    if kind is not None:
        found = facts(kind)
        print_json(found.to_json()) if as_json else _show(found)
        return
    rows = [facts(each) for each in Schemas().provider_kinds()]
    if as_json:
        print_json([row.to_json() for row in rows])
        return
    for row in rows:
        _block(row)
    click.echo("NEXT: ccfailover providers list KIND   for its keys, an example and its traps")


def _block(row: KindFacts) -> None:
    """A kind in a few lines: a table of such sentences has columns that nobody can read."""
    click.echo(f"{click.style(row.kind, bold=True)}  {row.summary}")
    told = (("can", "; ".join(f"{what}: {how}" for what, how in row.can)),
            ("needs", "; ".join(row.needs)), ("rights", "; ".join(row.rights)))
    for name, text in told:
        if text:
            click.echo(click.wrap_text(text, width=min(get_terminal_size((100, 24)).columns, 120),
                                       initial_indent=f"    {name:<8}",
                                       subsequent_indent=" " * 12))
    click.echo()


def _show(found: KindFacts) -> None:
    click.echo(f"{found.kind}: {found.summary}")
    if found.drives:
        click.echo(f"levers: {', '.join(found.drives)}")
    if found.can:
        table("", ("capability", ""), found.can)
    for title, keys in (("of the provider", found.provider), ("of a lever", found.lever)):
        if keys:
            table(f"keys {title}", ("key", "value", "meaning"), [_key(key) for key in keys])
    for title, lines in (("Needs", found.needs), ("Least rights", found.rights),
                         ("Traps", found.traps)):
        if lines:
            click.echo(f"{title}:")
            for line in lines:
                click.echo(f"  - {line}")
    for title, text in (("Least rights, in its own language", found.rights_text),
                        ("Example", found.example)):
        if text:
            click.echo(f"{title}:\n")
            click.echo("\n".join(f"    {line}".rstrip() for line in text.splitlines()) + "\n")


def _key(key: Key) -> tuple[str, str, str]:
    return key.path + (" *" if key.required else ""), key.value, key.meaning


@command.command(epilog="Example: ccfailover providers test")
@policy_option
@json_option
def test(policy: str | None, as_json: bool) -> None:
    """Read every lever of the policy, announcements and procedures, too; write nothing."""
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
