"""The report as one HTML file: no script, no link, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccfailover.model.plan import canonical
from ccfailover.reports import words
from ccfailover.reports.as_json import verify_commands
from ccfailover.reports.facts import Facts
from ccfailover.reports.objectives import PHASES
from ccfailover.reports.timeline import plot
from ccfailover.reports.work import RIGHT

if TYPE_CHECKING:
    from jinja2 import Environment

LISTED = 500
"""So many ids of one kind on the page; the others are in the JSON, and the page says so."""

LONGEST_JSON = 400

_BADGES = {"succeeded": "good", "succeeded_with_exceptions": "warn", "rolled_back": "warn",
           "running": "info", "planned": "info", "rolling_back": "info"}


def as_html(facts: Facts) -> str:
    """The page. Whatever people or platforms wrote is escaped, and shown without hidden signs."""
    page = _environment().get_template("report.html")
    return page.render(
        facts=facts, head=facts.header, outcome=facts.outcome, plot=plot(facts), words=words,
        phases=PHASES, terms=("present", "arrived", *RIGHT), listed=LISTED,
        badge=_BADGES.get(facts.outcome.state, "bad"), commands=verify_commands(facts),
        state=words.STATES[facts.outcome.state], mode=words.MODES[facts.header.mode])


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        # Every text on the page passes here, so that none can be forgotten in the template.
        finalize=lambda value: words.safe(value) if type(value) is str else value)
    made.filters["compact"] = _compact
    return made


def _compact(value: Any) -> str:
    """Snapshot or data of a step, as the journal has it, on one line."""
    return words.safe(canonical(value), LONGEST_JSON)
