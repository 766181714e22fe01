"""The policy of the local contact centre: complete, and a readable example of one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from string import Template

LICENCES = ("AZ", "CA", "FL", "GA", "IL", "KS", "NM", "NY", "OH", "OK", "PA", "TN", "TX", "WA")
"""States that acme may work for: with the generator's weights, about two applications in three."""

PACE = 100
"""The servers run this many times as fast as the policy says, so that a demo ends: 20 contacts a
second on the wire stand for 720 an hour in the plan's arithmetic."""

HANDLE_TIME = 300
"""Seconds of a contact in the plan's arithmetic."""

ACME_HEADS = 0.95
"""Part of the home's load that acme has people for; the rest of the callers is called back."""


@dataclass(frozen=True)
class Places:
    """Where everything of one centre is. `urls` by server name, the others by site."""

    urls: Mapping[str, str]
    queue_urls: Mapping[str, str]
    queue_endpoints: Mapping[str, str]
    token_file: Path
    inbox_file: Path
    key_file: Path
    secret_file: Path
    store: Path


_POLICY = Template("""\
# A whole contact centre on this machine. Its servers run $pace times as fast as the figures here:
# 20 contacts a second on the wire stand for 720 an hour.
version: 1
name: local_centre
environment: demo
timezone: America/Chicago
store: {path: $store, location: this_machine}
probe_defaults: {every: 1s, timeout: 1s, fall: 3, rise: 2}

sites:
  hq:
    kind: in_house
    location: head_office
    depends_on: [carrier]
    probes:
      - {kind: http, url: $hq_health, observer: controller, field: {path: /ok, equals: true}}
      - {kind: http, url: $hq_health, observer: branch}
    staff:
      loan_calls: {agents: $hq_agents, handle_time: ${handle_time}s}
      applications: {per_hour: $hq_per_hour}
  acme:
    kind: outsourced
    location: acme_campus
    depends_on: [carrier]
    probes:
      - {kind: http, url: $acme_health, observer: controller, field: {path: /ok, equals: true}}
    staff:   # not quite enough for everybody's calls: the rest is called back
      loan_calls: {agents: $acme_agents, handle_time: ${handle_time}s}
      applications: {per_hour: $acme_per_hour}
    price: {per_minute: 0.85, per_application: 14.50}
    licences: [$licences]

dependencies:
  carrier:
    location: public
    probes: [{kind: http, url: $switch_health}]

providers:
  edge:        # the switch, for calls
    kind: http
    url: $switch
    auth: {bearer: $token}
    timeout: 2s
    destinations: {hq: hq, acme: acme, callback: callback}
    route:
      read: {path: "/routes/{ref}", shares: /shares, version: etag}
      shift:
        method: PUT
        path: "/routes/{ref}"
        if_match: true
        body: '{"shares": {{ shares | tojson }}}'
      measure:
        path: "/routes/{ref}/counts"
        values:
          offered: /offered
          answered.hq: /answered/hq
          answered.acme: /answered/acme
          answered.callback: /answered/callback
          lost: /lost
  edge_web:    # the same switch, for applications
    kind: http
    url: $switch
    auth: {bearer: $token}
    timeout: 2s
    destinations: {hq: hq, acme: acme}
    route:
      read: {path: "/routes/{ref}", shares: /shares, version: etag}
      shift:
        method: PUT
        path: "/routes/{ref}"
        if_match: true
        body: '{"shares": {{ shares | tojson }}}'
      measure:
        path: "/routes/{ref}/counts"
        values: {offered: /offered, waiting: /waiting}
  hq_jobs:
    kind: sqs
    region: us-east-1
    endpoint_url: $hq_endpoint
    credentials: {key_id: $key_id, secret: $secret}
    timeout: 5s
  acme_jobs:
    kind: sqs
    region: us-east-1
    endpoint_url: $acme_endpoint
    credentials: {key_id: $key_id, secret: $secret}
    timeout: 5s
  hq_desk:     # lets hq's people take applications, or not
    kind: http
    url: $hq
    timeout: 3s
    gate:
      read: {path: "/{ref}", open: /open}
      set: {method: PUT, path: "/{ref}", body: '{"open": {{ open | tojson }}}'}
  acme_desk:
    kind: http
    url: $acme
    timeout: 3s
    gate:
      read: {path: "/{ref}", open: /open}
      set: {method: PUT, path: "/{ref}", body: '{"open": {{ open | tojson }}}'}

queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 1
    home_down: callback
    normal: {hq: 100}
    target: {service_level: 0.80, within: 20s}
    objectives: {rto: 1m, mtd: 10m, minimum_service: 0.80}
    load: {per_hour: $calls_per_hour, minutes_per_contact: 5}
    route: {provider: edge, ref: loan_calls}
    probes:   # what each site itself says it has answered: `verify` believes nobody else
      - {kind: http, site: hq, url: $hq_counts, every: 10s, values: {answered: /contacts}}
      - {kind: http, site: acme, url: $acme_counts, every: 10s, values: {answered: /contacts}}
    shift: {increments: [50, 100], soak: 1s}
  applications:
    channel: application
    home: hq
    backups: [acme]
    outsource: overflow_only
    in_disaster: allow
    priority: 2
    home_down: hold
    normal: {hq: 100}
    objectives: {rto: 2m, mtd: 1h, rpo: 0}
    load: {per_hour: $applications_per_hour}
    eligible: "item.state in target.licences"
    item: {id: uli, submitted: application_date, state: state}
    max_item_bytes: 65536
    intake: {provider: edge_web, ref: applications}
    backlog:
      hq: {provider: hq_jobs, ref: $hq_queue, claim_seconds: 10s}
      acme: {provider: acme_jobs, ref: $acme_queue, claim_seconds: 10s}
    consumers:
      hq: {provider: hq_desk, ref: consumers}
      acme: {provider: acme_desk, ref: consumers}
    probes:
      - {kind: http, site: hq, url: $hq_counts, every: 10s, values: {answered: /completed}}
      - {kind: http, site: acme, url: $acme_counts, every: 10s, values: {answered: /completed}}

triggers:
  hq_down: {when: 'site.hq.state == "down"', hold: 2s, run: full_failover, mode: approve}
  overflow:
    when: 'queue.applications.depth > 5000 || queue.applications.oldest > duration("2h")'
    hold: 1m
    clear: 'queue.applications.depth < 1000'
    cooldown: 10m
    run: overflow
    mode: advise

guards: {daily_cost: 500000}
notify: [{name: on_call, url: $inbox}]
""")


def policy_text(places: Places, *, contacts_per_second: float, applications_per_second: float,
                rates: Mapping[str, float], licences: Sequence[str] = LICENCES) -> str:
    """The policy as YAML. `rates`: applications that a site completes in a second."""
    calls_per_hour = contacts_per_second * 3600 / PACE
    heads = calls_per_hour * HANDLE_TIME / 3600
    urls = places.urls
    return _POLICY.substitute(
        {name: json.dumps(urls[name]) for name in ("switch", "hq", "acme")},
        **{f"{name}_health": json.dumps(urls[name] + "/health")
           for name in ("switch", "hq", "acme")},
        **{f"{name}_counts": json.dumps(urls[name] + "/counts") for name in ("hq", "acme")},
        **{f"{site}_endpoint": json.dumps(url) for site, url in places.queue_endpoints.items()},
        **{f"{site}_queue": json.dumps(url) for site, url in places.queue_urls.items()},
        **{f"{site}_per_hour": f"{rate * 3600 / PACE:g}" for site, rate in rates.items()},
        pace=PACE,
        store=json.dumps(str(places.store)),
        token=json.dumps(f"file:{places.token_file}"),
        inbox=json.dumps(f"file:{places.inbox_file}"),
        key_id=json.dumps(f"file:{places.key_file}"),
        secret=json.dumps(f"file:{places.secret_file}"),
        hq_agents=floor(heads * 1.25),
        acme_agents=floor(heads * ACME_HEADS + 1e-9),
        handle_time=HANDLE_TIME,
        calls_per_hour=f"{calls_per_hour:g}",
        applications_per_hour=f"{applications_per_second * 3600 / PACE:g}",
        licences=", ".join(json.dumps(state) for state in licences),
    )
