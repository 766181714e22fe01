"""What the verbs share: options, the desk, tables, JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from ccfailover.model.shares import Shares
    from ccfailover.operations.desk import Desk

F = TypeVar("F", bound=Callable[..., Any])


def policy_option(fn: F) -> F:
    """`--policy`, after the verb or before it; the one that is nearer to the verb counts."""
    def named(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        return value if value is not None else ctx.find_root().params.get("policy")

    return click.option("--policy", metavar="FILE", callback=named,
                        help="The policy; else $CCFAILOVER_POLICY, "
                        "else /etc/ccfailover/policy.yaml.")(fn)


def json_option(fn: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")(fn)


LOCAL = "ccfailover.local_journal"


def local_option(fn: F) -> F:
    """`--local-journal` for a verb that acts; `desk_for` finds what was said."""
    def anyway(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[LOCAL] = "anyway"

    fn = click.option("--local-journal-anyway", is_flag=True, expose_value=False, callback=anyway,
                      hidden=True)(fn)
    return _local(fn, "act", "The shared store is gone: go on with this machine's own journal.")


def local_look_option(fn: F) -> F:
    """`--local-journal` for a verb that only reads."""
    return _local(fn, "look", "Read this machine's own journal, not the shared store.")


def _local(fn: F, wanted: str, help_: str) -> F:
    def said(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta.setdefault(LOCAL, wanted)

    return click.option("--local-journal", is_flag=True, expose_value=False, callback=said,
                        help=help_)(fn)


def reason_option(fn: F) -> F:
    return click.option("--reason", default="", metavar="TEXT",
                        help="Why; goes into the journal and every report.")(fn)


def steal_option(fn: F) -> F:
    return click.option("--steal", is_flag=True, help="Take the run from a process whose lease is "
                        "still in force; needs --reason.")(fn)


def desk_for(policy: str | None, *, validate: bool = True, quiet: bool = False,
             verified: bool = True) -> Desk:
    """The desk; `verified` False lets one look at a shared store that has lost events.

    What is amiss with its copies here is told on stderr, unless `quiet` (the verb tells it in a
    form of its own).
    """
    from ccfailover.wiring.assemble import assemble

    context = click.get_current_context(silent=True)
    local = context.meta.get(LOCAL) if context is not None else None
    desk = assemble(policy, validate=validate, verified=verified, local=local)
    if desk.local_base is not None and not quiet:
        from ccfailover.operations.local import notes

        if desk.local is not None:
            click.echo(f"LOCAL JOURNAL {desk.store.path}, instead of {desk.local.shared} as it was "
                       f"here at {clock(desk.local.seen_at)}", err=True)
        for note in notes(desk):
            click.echo(f"Warning: {note}", err=True)
    return desk


def head(desk: Desk) -> None:
    """Which policy this is about: the first line of everything that people read."""
    click.echo(desk.policy.heading)


def at_terminal() -> bool:
    """Whether somebody can be asked. Under cron there may be no stdin at all."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def nobody_listens() -> bool:
    """Whether the reader of stdout has gone, so that a verb that repeats itself may end."""
    return bool(getattr(sys.stdout, "gone", False))


def print_json(value: object) -> None:
    import json

    click.echo(json.dumps(value, ensure_ascii=False, sort_keys=False))


def console(*, err: bool = False) -> Console:
    """A rich console; without a terminal it is 100 columns wide and has no colour."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(stderr=err, highlight=False, width=None if stream.isatty() else 100)


def shares_text(parts: Mapping[str, int] | Shares | None) -> str:
    if parts is None:
        return "unknown"
    from ccfailover.model.shares import Shares

    return str(parts if isinstance(parts, Shares) else Shares(parts))


def clock(at: int | None) -> str:
    """An instant for people: UTC, to the second."""
    if at is None:
        return "–"
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(at: int | None, now: int) -> str:
    """`12 s ago`, `5 min ago`, `3 h ago`, `never`."""
    if at is None:
        return "never"
    return f"{span((now - at) / 1_000_000)} ago"


def span(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}".replace(".0 ", " ")
    return f"{seconds:.0f} s"


def finish(code: int) -> None:
    """Leave with an exit code of ours; 0 is returned, so that click goes on as usual."""
    if code:
        raise click.exceptions.Exit(code)


_STYLES = {"✗": "bold red", "!": "yellow", "?": "yellow", "✓": "green"}
"""By the mark that a cell begins with; the mark and its word say the same without colour."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; text in it is never taken for markup.

    At a terminal rich draws it, folded to the width and with colour. What a file, a pipe or cron
    gets has every row on one line, and is not worth the start of rich.
    """
    if not sys.stdout.isatty():
        click.echo("\n".join(plain_table(title, columns, rows)))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell, style=_STYLES.get(cell[:1], "")) for cell in row))
    console().print(shown)


def plain_table(title: str, columns: Sequence[str],
                rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of the same table without colour, each row on one line however long it gets."""
    told = [[" ".join(cell.splitlines()) for cell in row] for row in (columns, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*told, strict=True)]
    lines = [" " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
             for row in told]
    rule = " " + "─" * (sum(widths) + 3 * (len(widths) - 1))
    return [title, lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:]), ""]
