"""The first policy of one's own: small, commented, valid, and to be edited."""

from __future__ import annotations

import os
import re
from string import Template

from ccfailover.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
RESERVED = frozenset({"message", "callback", "voicemail", "hold"})

_TEXT = Template("""\
# yaml-language-server: $$schema=$schema
#
# Who answers when $home fails. Check it after every change:   ccfailover validate FILE
# Rehearse it, without touching anything:
#   ccfailover drill failover $home --policy FILE
version: 1
name: $name
environment: staging            # shown beside the name in every output and every prompt
timezone: America/Chicago       # of sites that name none

# Journal, leases and ledger. Keep them out of every place that may fail: `location` lets
# `validate` tell you when you did not. Without `store` a file in your home directory is used.
# store: {path: /var/lib/ccfailover/$name.db, location: second_data_centre}

sites:
  $home:
    kind: in_house
    location: head_office
    hours: "Mo-Fr 08:00-20:00; Sa 09:00-17:00; PH off"
    holidays: US
    depends_on: [carrier]
    probes:                     # two observers, so that a failover may one day be automatic
      - {kind: http, url: "https://$home.example/health", every: 10s, fall: 3, rise: 2}
      - {kind: tcp, host: $home.example, port: 443, every: 10s, observer: branch_office}
    staff:
      $queue: {agents: 48, handle_time: 5m}
  $backup:
    kind: outsourced
    location: ${backup}_campus
    hours: "24/7"
    depends_on: [${backup}_line]
    probes:
      - {kind: http, url: "https://$backup.example/health"}
    staff:
      $queue: {agents: 60, handle_time: 6m}
    ramp:                       # heads that are there, how long after you call them in
      - {after: 0m, agents: 20}
      - {after: 10m, agents: 60}
    price: {per_minute: 0.85}

dependencies:                   # what sites stand on; sites that share a place fail together
  carrier:
    location: carrier_chicago
    probes: [{kind: tcp, host: sip.carrier.example, port: 5061}]
  ${backup}_line:
    location: carrier_dallas

providers:                      # your switch; secrets are references, never written here
  edge:
    kind: http
    url: "https://switch.example/api"
    auth: {bearer: "env:SWITCH_TOKEN"}
    destinations: {$home: "queue-$home", $backup: "queue-$backup", callback: "callback"}
    route:
      read: {path: "/routes/{ref}", shares: /shares}
      shift: {method: PUT, path: "/routes/{ref}", body: '{"shares": {{ shares | tojson }}}'}

queues:
  $queue:
    channel: voice
    home: $home
    backups: [$backup]
    outsource: allowed          # never | overflow_only | allowed
    home_down: callback         # where callers go whom nobody can take
    priority: 1
    target: {service_level: 80%, within: 20s}
    objectives: {rto: 15m, mtd: 4h}
    load: {per_hour: 480, minutes_per_contact: 5}
    route: {provider: edge}     # `ref`, the route's name at the switch, is the queue's name
    shift: {increments: [50, 100], soak: 30s}

triggers:
  ${home}_down:
    when: 'site.$home.state == "down"'
    hold: 60s                   # detection takes every × fall + hold: 10s × 3 + 60s
    run: full_failover
    mode: approve               # advise | approve | automatic

guards:                         # soft limits; a failover of a dead site is only warned by them
  daily_cost: 20000
  blocked: ["Dec 24-26"]
  flap_block: 1h
""")


def starter(name: str, *, home: str = "hq", backup: str = "acme", queue: str = "loan_calls",
            schema: str | None = None) -> str:
    """A policy to begin with, as YAML. `schema`: what the editor's modeline names, default the
    packaged one. Raises UsageError for names that a policy could not hold."""
    named = {"name": name, "home": home, "backup": backup, "queue": queue}
    for what, word in named.items():
        if not NAME.fullmatch(word) or (what != "name" and word in RESERVED):
            raise UsageError(f"{word[:63]!r} cannot be the {what}'s name"
                             if what != "name" else f"{word[:63]!r} cannot be a policy's name",
                             not_done="no policy was written",
                             hint="use lower-case letters, digits and underscores, a letter first")
    if len({home, backup, queue}) < 3:
        raise UsageError("home, backup and queue need three different names",
                         not_done="no policy was written")
    return _TEXT.substitute(named, schema=schema or packaged_schema())


def packaged_schema() -> str:
    """The path of the installed JSON Schema."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema.json")
