"""`ccfailover report`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ccfailover.commands.common import (
    desk_for,
    json_option,
    local_look_option,
    policy_option,
    print_json,
)
from ccfailover.errors import UsageError

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk


@click.command(epilog="""\b
Examples:
  ccfailover report                          the newest run, as text
  ccfailover report r17 --html r17.html      one file for an examiner: opens anywhere, offline
  ccfailover report r17 --json > r17.json    every fact, for machines
  ccfailover report --incident INC-42        an incident: who led, when, which runs

The exit code says whether the report was made, not how the run ended.""")
@click.argument("run", required=False)
@click.option("--incident", metavar="ID", help="Report on an incident instead; no --html.")
@click.option("--html", "html", metavar="FILE", help="Write one self-contained HTML file.")
@click.option("--text", "as_text", is_flag=True, help="Print text, also beside --html.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@local_look_option
@policy_option
@json_option
def command(run: str | None, incident: str | None, html: str | None, as_text: bool, force: bool,
            policy: str | None, as_json: bool) -> None:
    """Evidence of a run: text, JSON or one HTML file.

    RUN defaults to the newest one, drills included. Made from journal and ledger alone; a drill
    is stamped DRILL in every form.
    """
    from ccfailover.operations.report import report, write

    if as_json and as_text:
        raise UsageError("--json or --text, not both", not_done="no report was made",
                         hint="ask twice")
    if force and not html:
        raise UsageError("--force is about the file of --html", not_done="no report was made",
                         hint="--html FILE --force")
    if incident is not None and (run is not None or html):
        raise UsageError("--incident takes neither a run nor --html", not_done="no report was made",
                         hint="ccfailover report --incident INC-42 lists its runs")
    desk = desk_for(policy, validate=False)
    if incident is not None:
        _over(desk, incident, as_json=as_json)
        return
    facts = report(desk, run)
    if html:
        from ccfailover.reports.html import as_html

        write(html, as_html(facts), force=force, token=desk.runtime.new_id())
    if as_json:
        from ccfailover.reports.as_json import as_json as in_json

        print_json(in_json(facts))
    elif as_text or not html:
        from ccfailover.reports.text import as_text as in_text

        click.echo(in_text(facts), nl=False)
    if html:
        click.echo(f"{'DRILL ' if facts.header.drill else ''}run {facts.header.run}: {html}",
                   err=True)


def _over(desk: Desk, incident: str, *, as_json: bool) -> None:
    from ccfailover.operations.report import over_incident
    from ccfailover.reports import incident as reported

    facts = over_incident(desk, incident)
    if as_json:
        print_json(reported.as_json(facts))
    else:
        click.echo(reported.as_text(facts), nl=False)
