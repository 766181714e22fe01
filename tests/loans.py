"""Loan applications, and a queue of them that may go from hq to acme, for what moves many."""

from __future__ import annotations

import json

from ccfailover.model.journal import Actor, Lease
from ccfailover.model.plan import Branch, Mode, Plan
from ccfailover.model.policy import Queue, Site
from ccfailover.model.shares import Shares
from ccfailover.store import Store

ITEM = {"id": "uli", "submitted": "application_date", "state": "state"}
STATES = ("TX", "CA", "FL", "NY", "OH")
BYTES = 480
MAX_BYTES = 65_536


def queue() -> Queue:
    return Queue(
        name="applications", channel="application", home="hq", backups=("acme",),
        outsource="allowed", in_disaster="allow", priority=1, home_down="hold",
        normal=Shares({"hq": 100}), eligible="item.state in target.licences", item=ITEM,
        licence_field="state", max_item_bytes=MAX_BYTES)


def site(name: str) -> Site:
    return Site(name=name, in_house=False, timezone="America/Chicago", hours=None, holidays=None,
                location=None, country="US", depends_on=(), probes=(), staff={},
                licences=dict.fromkeys(STATES))


def begin(store: Store, actor: Actor, ttl: float, scope: str = "applications"
          ) -> tuple[str, Lease]:
    """A run that has nothing but its lease."""
    empty = Branch("before", ())
    return store.create_run(Plan(
        runbook="full_failover", subject="hq", mode=Mode.REAL, policy_name="loans",
        policy_sha256="0" * 64, reason="many applications", before=empty, branches=(),
        after=empty, scopes=(f"queue:{scope}",), shares_before={}, shares_after={}, findings=(),
        basis={}), actor=actor, ttl=ttl)


def numbered(number: int, state: str | None = None) -> str:
    """The body of one of a million, `BYTES` long; ids in no order."""
    fields = {"uli": f"ULI{number * 7919 % 1_000_003:012d}", "application_date": "20260102",
              "state": state or STATES[number % len(STATES)], "note": ""}
    return filled(fields)


def filled(fields: dict[str, str]) -> str:
    """As JSON, with a note that makes it `BYTES` long."""
    text = json.dumps({**fields, "note": ""})
    return text[:-2] + "x" * max(0, BYTES - len(text)) + text[-2:]
