"""`ccfailover check`"""

from __future__ import annotations

import click

from ccfailover.commands.common import (
    desk_for,
    finish,
    json_option,
    policy_option,
    print_json,
    span,
    table,
)


@click.command(epilog="""\b
Examples:
  ccfailover check                      one Nagios line; 0 OK 1 WARNING 2 CRITICAL 3 UNKNOWN
  ccfailover check --explain            each trigger's condition, with the values it saw
  * * * * * ccfailover check --quiet    in cron: silent while all is well""")
@click.option("--explain", is_flag=True, help="Show each condition with the values it saw.")
@click.option("--quiet", is_flag=True, help="Print nothing when all is well.")
@policy_option
@json_option
def command(explain: bool, quiet: bool, policy: str | None, as_json: bool) -> None:
    """Observe once and decide; for cron, in the Nagios convention.

    Probes what is due, records it, and says which triggers ask for what. It moves nothing:
    `execute-due` runs what may run by itself. Safe to overlap.
    """
    from ccfailover.operations import check as checking
    from ccfailover.operations.look import remembered

    desk = desk_for(policy, validate=False, quiet=True)
    result = checking.check(desk)
    shown = dict(result.facts)
    if explain:
        explained = checking.explain(desk, remembered(desk))
        shown["triggers"] = [one.__dict__ | {"values": dict(one.values)} for one in explained]
    if as_json:
        print_json(shown)
    elif not (quiet and result.code == 0):
        click.echo(result.line)
    if explain and not as_json:
        for one in explained:
            verdict = {True: "true", False: "false", None: "UNKNOWN"}[one.verdict]
            table(f"{one.trigger}: {one.when}  →  {verdict} {one.why}", ("saw", "value"),
                  [*one.values.items(), ("held", f"{span(one.held_s) if one.held_s else '0 s'} "
                                                 f"of {span(one.hold_s)}"), ("note", one.note)])
    finish(result.code)
