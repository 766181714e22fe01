"""The policy around what a kind's own example shows."""

from __future__ import annotations

from typing import Final

SITES: Final = """\
sites:
  hq: {kind: in_house, hours: "24/7"}
  acme: {kind: outsourced, hours: "24/7"}
"""

_INTAKE: Final = """\
  web:                        # where the web form sends new applications
    kind: http
    url: "https://forms.example/api"
    destinations: {hq: hq, acme: acme}
    route:
      read: {path: "/intake/{ref}", shares: /shares}
      shift: {method: PUT, path: "/intake/{ref}", body: '{"shares": {{ shares | tojson }}}'}
"""

_APPLICATIONS: Final = """\
queues:
  applications:
    channel: application
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: hold
    item: {id: uli, submitted: application_date}
    intake: {provider: web}
    backlog:
"""


def of_backlogs(providers: str, backlog: str) -> str:
    """A queue of loan applications: its `providers` and, of each site, its `backlog`, as YAML
    that is indented as it will stand."""
    return f"{SITES}providers:\n{providers}{_INTAKE}{_APPLICATIONS}{backlog}"
