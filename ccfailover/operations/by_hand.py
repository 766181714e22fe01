"""What people are asked to do by hand: telling them, reminding them, and taking their answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ccfailover.errors import Refused, UsageError
from ccfailover.model.journal import person
from ccfailover.model.shares import Shares
from ccfailover.runtime import SECOND
from ccfailover.store import by_hand
from ccfailover.store.by_hand import DONE, REFUSED, Change, Standing, Task

if TYPE_CHECKING:
    from ccfailover.model.policy import LeverSpec, Queue
    from ccfailover.operations.desk import Desk
    from ccfailover.store import Store

_MOST = 2000
"""Characters of an evidence, a reason or a name that are kept."""


@dataclass(frozen=True)
class Answer:
    """What was journaled of a person's word about `lever`, and how it stands since."""

    lever: str
    kind: str
    said: Mapping[str, Any]
    shares: Shares | None


def open_tasks(desk: Desk) -> list[dict[str, Any]]:
    """The tasks that wait for a person, the oldest first."""
    if desk.store.fact(by_hand.FACT) is None:
        return []
    now = desk.store.now()
    return [{"lever": task.lever, "task": task.number, "to": dict(task.to), "before": task.before,
             "instruction": task.instruction, "role": task.role, "asked_by": task.asked_by,
             "step": task.key, "asked_at": task.asked_at, "expires_at": task.expires_at,
             "expired": now >= task.expires_at} for task in by_hand.tasks(desk.store)]


def next_for(tasks: list[dict[str, Any]]) -> str:
    """The command that answers the oldest task."""
    return f'ccfailover done {tasks[0]["lever"]} --task {tasks[0]["task"]} --evidence "…"'


def remind(desk: Desk) -> int:
    """Tell, or remind, of every open task; how many messages that made."""
    if desk.store.fact(by_hand.FACT) is None:
        return 0
    return sum(_tell(desk.store, desk.policy.heading, task, desk.store.now())
               for task in by_hand.tasks(desk.store))


def tell_of(store: Store, heading: str, lever: str, now: int) -> None:
    """Tell of a lever's open task, if it has one."""
    task = by_hand.read(store, lever).task
    if task is not None:
        _tell(store, heading, task, now)


def _tell(store: Store, heading: str, task: Task, now: int) -> bool:
    """The message, or the reminder, that is due; after a gap it is the latest one alone. None
    after the task has expired: then its run stands still, and reminds by itself."""
    number = int((min(now, task.expires_at) - task.asked_at) / (task.remind * SECOND))
    key = f"by_hand/{task.lever}/{task.number}" + (f"/{number}" if number else "")
    if store.outbox_has(key) or (number and now >= task.expires_at):
        return False
    from ccfailover.notify.outbox import Messages  # only when there is something to tell
    from ccfailover.reports.words import clock, span

    waited = f", for {span((now - task.asked_at) / SECOND)}: reminder {number}" if number else ""
    return Messages(heading, store.head("runs")).by_hand(
        task.lever, key=key, head=store.head("automation"), reminder=number > 0,
        task=task.number, details=[
            *task.instruction.splitlines(),
            f"to be set: {Shares(task.to)}"
            + (f"; it was {Shares(task.before)}" if task.before else ""),
            f"who may say that it is done: {f'role {task.role}' if task.role else 'anybody'}",
            f"asked by {task.asked_by} for {task.key}, since {clock(task.asked_at)}{waited}; "
            f"expires at {clock(task.expires_at)}"]).enqueue(store)


def done(desk: Desk, name: str | None, *, evidence: str, by: str = "",
         shares: Mapping[str, int] | None = None, number: int | None = None) -> Answer:
    """Take a person's word that a lever stands as it was asked, or at `shares`.

    `evidence`: how they know (a ticket, a test call); `by`: who did it, if not who says so;
    `number`: of the task that is meant. Raises UsageError when nothing was asked and no shares
    are given, or without evidence; Refused for somebody without the task's role, and when
    another task than the one meant is open by now.
    """
    if not evidence.strip():
        raise UsageError("nothing counts as done without evidence", not_done="nothing was recorded",
                         hint='--evidence "ticket 4711, test call at 14:05"')
    lever, store = _lever(desk, name), desk.store
    known = _destinations(desk, lever)
    unknown = sorted(set(shares or ()) - known) if known is not None else []
    if unknown:
        raise UsageError(f"{lever} has no destination {unknown[0]}",
                         not_done="nothing was recorded",
                         hint=f"one of: {', '.join(sorted(known or ()))}")
    try:
        said = None if shares is None else Shares(shares)
    except ValueError as error:
        raise UsageError(str(error), not_done="nothing was recorded",
                         hint="--shares hq=60,acme=40") from None
    who = by.strip()[:_MOST] or desk.actor.name
    at = store.now()

    def confirm(now: Standing) -> Change | None:
        task = _asked(desk, lever, now, needed=said is None, number=number)
        to = said or Shares(task.to if task else {})
        return (Standing(shares=to.to_json(), at=at, by=who, evidence=evidence.strip()[:_MOST]),
                DONE, {"shares": to.to_json(), "asked": dict(task.to) if task else None, "by": who,
                       "evidence": evidence.strip()[:_MOST],
                       "late": bool(task and at >= task.expires_at)})

    return _answer(desk, lever, DONE, by_hand.change(store, lever, confirm, actor=str(desk.actor)))


def refuse(desk: Desk, name: str | None, reason: str, *, number: int | None = None) -> Answer:
    """Take a person's word that what was asked is not and will not be done. Raises as `done`."""
    if not reason.strip():
        raise UsageError("a no needs a reason", not_done="nothing was recorded",
                         hint='--no "the RespOrg has no record of this number"')
    lever, store, why = _lever(desk, name), desk.store, reason.strip()[:_MOST]

    def turn_down(now: Standing) -> Change | None:
        task = _asked(desk, lever, now, needed=True, number=number)
        told = f"turned down by {desk.actor.name}: {why}"
        return (replace(now, task=None, refused=told), REFUSED,
                {"asked": dict(task.to) if task else None, "reason": why})

    return _answer(desk, lever, REFUSED,
                   by_hand.change(store, lever, turn_down, actor=str(desk.actor)))


def _asked(desk: Desk, lever: str, now: Standing, *, needed: bool,
           number: int | None) -> Task | None:
    """The open task, which this person may answer. Without one, too, only the role's may speak."""
    task = now.task
    if number is not None and (task is None or task.number != number):
        # Somebody answers what they read an hour ago, and a rollback has asked for the opposite.
        raise Refused(
            f"task {number} of {lever} waits no longer; "
            + (f"now task {task.number} asks for {Shares(task.to)}" if task else "none does"),
            guard="by_hand", not_done="nothing was recorded", hint="ccfailover status")
    if task is None and needed:
        raise UsageError(f"nothing was asked for {lever}", not_done="nothing was recorded",
                         hint="to say how it stands all the same: --shares hq=100")
    from ccfailover.runbooks.consent import entitled

    role = task.role if task is not None else _role(desk, lever)
    members = entitled(desk.policy.people, role) if role else None
    if members is not None and person(str(desk.actor)) not in members:
        raise Refused(f"{person(str(desk.actor))} has not the role {role}, which saying that "
                      f"{lever} is done needs", guard="by_hand", not_done="nothing was recorded",
                      hint=f"who may: {', '.join(sorted(members)) or 'nobody; see `people`'}")
    return task


def _lever(desk: Desk, name: str | None) -> str:
    """A lever as `status` names it, or the queue that it carries; by itself the only one asked
    for. Raises UsageError, with those that there are."""
    tasks = [task.lever for task in by_hand.tasks(desk.store)]
    if name is None:
        if len(tasks) == 1:
            return tasks[0]
        raise UsageError("which lever? " + ("nothing was asked of anybody" if not tasks else
                                            f"these wait: {', '.join(tasks)}"),
                         not_done="nothing was recorded", hint="ccfailover status")
    known = by_hand_levers(desk)
    found = known.get(name, [name] if name in tasks else [])
    if len(found) != 1:
        raise UsageError(f"{name!r} is no lever that a person moves",
                         not_done="nothing was recorded",
                         hint=f"one of: {', '.join(sorted(known)) or 'none in this policy'}")
    return found[0]


def _destinations(desk: Desk, lever: str) -> frozenset[str] | None:
    spec = _spec(desk, lever)
    return desk.kinds.capabilities(spec).destinations if spec is not None else None


def _role(desk: Desk, lever: str) -> str:
    """Who may speak of it by the policy; "" is anybody."""
    spec = _spec(desk, lever)
    if spec is None:
        return ""
    return str({**desk.policy.providers[spec.provider].params, **spec.params}.get("role", ""))


def _spec(desk: Desk, lever: str) -> LeverSpec | None:
    for queue in desk.policy.queues.values():
        for spec in _parts(queue):
            if spec.lever == lever:
                return spec
    return None


def _parts(queue: Queue) -> list[LeverSpec]:
    return [part for lever in (queue.route, queue.intake) if lever is not None
            for part in lever.parts]


def by_hand_levers(desk: Desk) -> dict[str, list[str]]:
    """Lever, and queue → the levers that a person moves."""
    found: dict[str, list[str]] = {}
    for queue in desk.policy.queues.values():
        for lever in _parts(queue):
            if desk.kinds.capabilities(lever).by_hand is not None:
                found[lever.lever] = [lever.lever]
                mine = found.setdefault(queue.name, [])
                if lever.lever not in mine:
                    mine.append(lever.lever)
    return found


def _answer(desk: Desk, lever: str, kind: str, changed: by_hand.Changed) -> Answer:
    from ccfailover.notify.outbox import Messages

    said, standing = changed.event or {}, changed.standing
    head = desk.store.head("automation")
    what = "is done" if kind == DONE else "was turned down"
    shares = Shares(standing.shares) if standing.shares is not None else None
    Messages(desk.policy.heading, desk.store.head("runs")).by_hand(
        lever, key=f"by_hand/{lever}/{standing.number}", head=head, what=what, details=[
            f"by {said.get('by') or desk.actor.name}, as {desk.actor} says",
            f"evidence: {said['evidence']}" if "evidence" in said else f"reason: {said['reason']}",
            f"it stands at {shares or 'what it began with'}"]).enqueue(desk.store)
    return Answer(lever, kind, said, shares)
