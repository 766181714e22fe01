"""What an approval was given for, who may give it, what makes it void, and who is told.

An approval is for one plan, under one policy, for shares and receivers as the approver saw them,
and for a while. It stands until one of these is no longer so. A home that gets worse never voids
one: that is what the plan is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ccfailover.model.health import State
from ccfailover.model.journal import Record, person
from ccfailover.model.plan import Json, Plan
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.notify.outbox import Messages
from ccfailover.runtime import SECOND
from ccfailover.store import Store

GIVEN, DECLINED = "approval.given", "approval.declined"

VALID_SECONDS = 3600.0
"""How long an approval counts, where the recipe does not say."""

def receivers(plan: Plan) -> tuple[str, ...]:
    """The sites that get more of some queue than they had; all of its sites where that is not
    known. Treatments are no sites."""
    found: set[str] = set()
    for queue, after in plan.shares_after.items():
        before = plan.shares_before.get(queue) or {}
        found.update(site for site, share in after.items()
                     if share > before.get(site, 0) and site not in TREATMENTS)
    return tuple(sorted(found))


def given_for(plan: Plan, *, policy_sha256: str, role: str, states: Mapping[str, str],
              valid_until: int) -> dict[str, Json]:
    """What the event `approval.given` carries; `states` are those of the receivers."""
    return {"plan": plan.hash, "policy": policy_sha256, "role": role,
            "shares": {queue: dict(parts) for queue, parts in plan.shares_after.items()},
            "receivers": dict(states), "valid_until": valid_until}


def entitled(people: Mapping[str, Sequence[str]], role: str) -> frozenset[str] | None:
    """Who may approve for `role` ("": for any), as `person` writes them; None: everybody."""
    if not people and not role:
        return None
    rows = [people.get(role, ())] if role else list(people.values())
    return frozenset(person(login) for row in rows for login in row)


@dataclass(frozen=True)
class Standing:
    """How the consents to a run stand. `given` and `declined` are the last word of each person;
    `void` are sentences, one for each approval that no longer counts."""

    given: Mapping[str, Record]
    declined: Mapping[str, Record]
    void: tuple[str, ...]


@dataclass(frozen=True)
class Judge:
    """Weighs the approvals of one plan at `now` (µs). `policy_sha256` is of the policy in use.

    `people` are the policy's roles, `role` the one that is asked, `valid` how many seconds an
    approval counts at most.
    """

    plan: Plan
    policy_sha256: str
    people: Mapping[str, Sequence[str]]
    role: str
    valid: float
    now: int

    def standing(self, records: Sequence[Record], state: Callable[[str], str] | None, *,
                 wanted: int) -> Standing:
        """`records` are the run's. `state` tells how a site is now, and is asked only for what
        would otherwise suffice, since looking costs seconds; None: the receivers do not count."""
        requester = person(records[0].actor)
        members = entitled(self.people, self.role)
        last: dict[str, Record] = {}
        for record in records:
            name = person(record.actor)
            may = members is None or name in members
            if record.kind == GIVEN and may and name != requester:
                last[name] = record
            elif (record.kind == DECLINED and (may or name == requester)
                    and record.data.get("plan") == self.plan.hash):
                last[name] = record  # a no to another plan says nothing of this one
        declined = {name: one for name, one in last.items() if one.kind == DECLINED}
        reasons = {name: self.void(one) for name, one in last.items() if one.kind == GIVEN}
        enough = sum(reason is None for reason in reasons.values()) >= wanted
        if enough and state is not None:
            seen: dict[str, str] = {}
            for name, reason in reasons.items():
                if reason is None:
                    reasons[name] = self.worse(last[name], state, seen)
        return Standing(
            {name: last[name] for name, reason in reasons.items() if reason is None}, declined,
            tuple(f"the approval by {name} is void: {reason}"
                  for name, reason in reasons.items() if reason is not None))

    def void(self, given: Record) -> str | None:
        """Why an approval counts no more, whatever the sites are like; None: it does."""
        data = given.data
        if data.get("plan") != self.plan.hash:
            return f"it was given for plan {data.get('plan')}, this is {self.plan.hash}"
        said = str(data.get("policy"))
        for mine in (self.plan.policy_sha256, self.policy_sha256):
            if said != mine:
                return f"it was given under policy {said[:12]}, which is now {mine[:12]}"
        shares = {queue: dict(parts) for queue, parts in self.plan.shares_after.items()}
        if data.get("shares") != shares:
            return "it was given for other shares"
        until = min(int(data.get("valid_until") or 0), given.at + int(self.valid * SECOND))
        if self.now >= until:
            return f"it was given at {clock(given.at)} and expired at {clock(until)}"
        return None

    def worse(self, given: Record, state: Callable[[str], str],
              seen: dict[str, str]) -> str | None:
        """Which receiver is no longer as ready as it was; `seen` keeps what was looked at."""
        for site, was in given.data.get("receivers", {}).items():
            now = seen.setdefault(site, state(site))
            if State(now).worse_than(State(was)):
                return f"{site} was {was} when it was given, and is {now}"
        return None


def tell(store: Store, heading: str, run: str, plan: Plan, record: Record) -> None:
    """Put into the outbox what everybody is told of an approval or a decline; once a record.

    It carries the journal's head with the event in it: who changes the store afterwards changes
    what is no longer only there.
    """
    data, name = record.data, record.actor
    event = record.kind.replace(".", "_")
    details = [f"by {name}, for plan {data.get('plan')}"]
    if record.kind == DECLINED:
        details.append(f"reason: {data.get('reason', '')}")
    else:
        details += [f"{queue}: {Shares(parts)}" for queue, parts in data["shares"].items()]
        details += [f"{site} was {was}" for site, was in data["receivers"].items()]
        details.append(f"under policy {data['policy'][:12]}, until {clock(data['valid_until'])}")
    Messages(heading, store.head("runs")).run(
        event, run=run, runbook=plan.runbook, subject=plan.subject, mode=plan.mode,
        head=(record.seq, record.hash), details=details).enqueue(store)


def clock(at: int) -> str:
    """An instant in UTC, to the second."""
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%Y-%m-%d %H:%M:%SZ}"
