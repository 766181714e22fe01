"""What the documents tell of the kind: an example, the least rights, and what surprises."""

from __future__ import annotations

from typing import Final

EXAMPLE: Final = """\
sites:
  hq: {kind: in_house, hours: "24/7"}
  acme: {kind: outsourced, hours: "24/7"}
providers:
  edge:
    kind: http
    url: "https://switch.example/api"
    auth: {bearer: "env:SWITCH_TOKEN"}
    destinations: {hq: trunk-1, acme: trunk-7, callback: callback-desk}
    route:
      read:  {path: "/routes/{ref}", shares: /shares, version: etag}
      shift: {method: PUT, path: "/routes/{ref}", if_match: true,
              body: '{"shares": {{ shares | tojson }}}'}
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: callback
    route: {provider: edge, ref: loans}
"""

RIGHTS: Final = """\
GET  at route.read, gate.read, backlog.measure: enough for check, drills and providers test
PUT  (or what `method` says) at route.shift, gate.set, backlog.put and the rest of backlog
Nothing else: a token of this account alone, that may neither make nor delete routes.
"""

TRAPS: Final = (
    "A rollback sends the shares that were found, as `body` writes them. What the platform keeps "
    "beside them (a version, who is named with 0 %) is not brought back.",
    "A switch that spreads by weights, not percent, needs a `body` that makes weights of "
    "`shares`.",
    "`shares` in a reply must sum to 100 over names in `destinations`; a name that is not "
    "there makes the lever's state unknown, and nothing is moved.",
    "Without `if_match` a hand on the switch at the same moment is noticed only by the "
    "read-back.",
    "`{key}` in a header gives each write its idempotency key, the same on every attempt.",
)
