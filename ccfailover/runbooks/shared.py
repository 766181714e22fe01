"""One lever for several queues: what moves one of them moves them all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ccfailover.model.plan import Finding, StepSpec
from ccfailover.model.policy import Policy, Queue
from ccfailover.planning.guards import QueuePlan

GUARD = "shared_lever"


def levers_of(queue: Queue) -> set[str]:
    """The names of the levers, as they are really there, that carry a queue's arrivals."""
    return {part.lever for lever in (queue.route, queue.intake) if lever is not None
            for part in lever.parts}


def together(policy: Policy, chosen: Sequence[Queue]) -> tuple[list[Queue], list[Finding]]:
    """The chosen queues and those that move with them, most important first; and a sentence for
    each that nobody asked for."""
    names, findings = {queue.name for queue in chosen}, []
    moved: dict[str, str] = {}
    for queue in chosen:
        for lever in levers_of(queue):
            moved.setdefault(lever, queue.name)
    grown = True
    while grown:  # one that came along may bring others by its other lever
        grown = False
        for queue in policy.by_priority():
            common = sorted(levers_of(queue) & set(moved))
            if common and queue.name not in names:
                grown = True
                names.add(queue.name)
                findings.append(Finding(
                    GUARD, "info", f"{queue.name} is on {common[0]} as {moved[common[0]]} is, and "
                    "moves with it", queue.name))
                for lever in levers_of(queue):
                    moved.setdefault(lever, queue.name)
    return [queue for queue in policy.by_priority() if queue.name in names], findings


def contradictions(plans: Sequence[QueuePlan]) -> list[Finding]:
    """Queues on one lever that are to go to different places; nothing where nothing moves."""
    found = []
    for index, one in enumerate(plans):
        for two in plans[index + 1:]:
            common = sorted(levers_of(one.queue) & levers_of(two.queue))
            moves = any(each.before != each.after for each in (one, two))
            if common and moves and one.after != two.after:
                first, second = one.queue.name, two.queue.name
                found.append(Finding(
                    GUARD, "hard", f"{first} and {second} are both on {common[0]}, and {first} "
                    f"would go to {one.after}, {second} to {two.after}: one lever cannot do both",
                    second))
    return found


def lead(led: Mapping[str, tuple[str, float]], queue: Queue,
         steps: Sequence[StepSpec]) -> dict[str, tuple[str, float]]:
    """`led` with the levers that these steps of a queue set, and the seconds that they may take."""
    found = dict(led)
    for lever in dict.fromkeys(step.lever for step in steps if step.lever and "to" in step.params):
        found.setdefault(lever, (queue.name, sum(step.deadline for step in steps)))
    return found
